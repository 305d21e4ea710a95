//! Changes of cases for LibAFL: our own, which know the protocol, and its havoc where a case has bytes.

use std::borrow::Cow;

use libafl::corpus::{Corpus, CorpusId};
use libafl::mutators::havoc_mutations::HavocMutationsNoCrossoverType;
use libafl::mutators::{HavocScheduledMutator, MutationResult, Mutator, havoc_mutations_no_crossover};
use libafl::state::HasCorpus;
use libafl_bolts::{Error, Named};

use super::input::Scenario;
use super::worker::State;
use crate::fuzz::case::{Case, Event, TcpOption};
use crate::fuzz::{limits, mutate};

/// One case in so many is made of nothing.
const FRESH: u64 = 64;
/// One case with bytes in so many gets havoc on them.
const HAVOC: u64 = 4;
/// Changes of bytes in a row: two to this power at most.
const STACK: usize = 3;

/// Makes a case of a case.
pub(super) struct Structured {
    name: Cow<'static, str>,
    mutator: mutate::Mutator,
    havoc: HavocScheduledMutator<HavocMutationsNoCrossoverType>,
}

impl Structured {
    pub(super) fn new(mutator: mutate::Mutator) -> Self {
        let havoc = HavocScheduledMutator::with_max_stack_pow(havoc_mutations_no_crossover(), STACK);
        Self { name: Cow::Borrowed("structured"), mutator, havoc }
    }

    /// A case that may lend a part of itself.
    fn other(&mut self, state: &State) -> Option<Scenario> {
        let at = self.mutator.generator.below(state.corpus().count());
        let entry = state.corpus().get(state.corpus().nth(at)).ok()?.borrow();
        entry.input().clone()
    }

    /// Havoc on the bytes of one event.
    fn bytes(&mut self, state: &mut State, case: &mut Case) -> Result<(), Error> {
        let with_bytes: Vec<(&mut Vec<u8>, usize)> = case.events.iter_mut().filter_map(bytes_of).collect();
        let at = self.mutator.generator.below(with_bytes.len());
        if let Some((bytes, most)) = with_bytes.into_iter().nth(at) {
            self.havoc.mutate(state, bytes)?;
            bytes.truncate(most);
        }
        Ok(())
    }
}

/// The bytes of an event, if it has any, and how many there may be.
fn bytes_of(event: &mut Event) -> Option<(&mut Vec<u8>, usize)> {
    match event {
        Event::Raw(bytes) => Some((bytes, limits::RAW)),
        Event::Segment(segment) => segment.options.iter_mut().find_map(|option| match option {
            TcpOption::Raw(bytes) => Some((bytes, limits::OPTION_BYTES)),
            _ => None,
        }),
        _ => None,
    }
}

impl Named for Structured {
    fn name(&self) -> &Cow<'static, str> {
        &self.name
    }
}

impl Mutator<Scenario, State> for Structured {
    fn mutate(&mut self, state: &mut State, input: &mut Scenario) -> Result<MutationResult, Error> {
        if self.mutator.generator.one_in(FRESH) {
            *input = self.mutator.fresh().into();
            return Ok(MutationResult::Mutated);
        }
        let other = self.other(state);
        let mut case = self.mutator.mutate(&input.0, other.as_ref().map_or(&input.0, |other| &other.0));
        if self.mutator.generator.one_in(HAVOC) {
            self.bytes(state, &mut case)?;
        }
        *input = case.into();
        Ok(MutationResult::Mutated)
    }

    fn post_exec(&mut self, _state: &mut State, _new: Option<CorpusId>) -> Result<(), Error> {
        Ok(())
    }
}
