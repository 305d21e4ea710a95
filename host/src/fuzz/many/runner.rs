//! A run as LibAFL sees it: its executor and its observer around ours, what it keeps, and what it asks of what it keeps.

use std::borrow::Cow;
use std::sync::PoisonError;

use libafl::corpus::{HasCurrentCorpusId as _, Testcase};
use libafl::executors::{Executor, ExitKind, HasObservers};
use libafl::feedbacks::{Feedback, StateInitializer};
use libafl::observers::{
    CanTrack as _, ExplicitTracking, HitcountsMapObserver, MapObserver as _, OwnedMapObserver,
};
use libafl::stages::{Restartable, Stage};
use libafl::state::{HasCurrentTestcase as _, HasExecutions as _};
use libafl_bolts::tuples::RefIndexable;
use libafl_bolts::{Error, Named};

use super::hub::Hub;
use super::input::Scenario;
use super::worker::{Manager, State};
use crate::fuzz::bench::Bench;
use crate::fuzz::mutate::Mutator;

/// The counters of a run, in LibAFL's orders of magnitude, which are ours. Copied out of the instance after each run: three
/// thousand bytes, and no pointer that anybody has to believe in.
pub(super) type Counters = ExplicitTracking<HitcountsMapObserver<OwnedMapObserver<u8>>, true, false>;
/// All observers.
pub(super) type Eyes = (Counters, ());

/// Runs cases for LibAFL. What a run breaks is looked into at once, as in the small loop.
pub(super) struct Runner<'c> {
    bench: Bench<'c>,
    eyes: Eyes,
    /// Of its own, so that what is asked does not change what is tried.
    mutator: Mutator,
    has_firsts: bool,
}

/// Counters of a module with so many edges, before any run.
pub(super) fn counters(probes: usize) -> Counters {
    HitcountsMapObserver::new(OwnedMapObserver::new("edges", vec![0; probes])).track_indices()
}

impl<'c> Runner<'c> {
    pub(super) fn new(bench: Bench<'c>, counters: Counters, mutator: Mutator) -> Self {
        Self { bench, eyes: (counters, ()), mutator, has_firsts: false }
    }

    /// A case of nothing, while there is none to be changed.
    pub(super) fn fresh(&mut self) -> Scenario {
        self.mutator.fresh().into()
    }

    /// Whether there is anything left to do.
    pub(super) fn goes_on(&self) -> bool {
        self.bench.goes_on()
    }
}

impl HasObservers for Runner<'_> {
    type Observers = Eyes;

    fn observers(&self) -> RefIndexable<&Eyes, Eyes> {
        RefIndexable::from(&self.eyes)
    }

    fn observers_mut(&mut self) -> RefIndexable<&mut Eyes, Eyes> {
        RefIndexable::from(&mut self.eyes)
    }
}

impl<Z> Executor<Manager, Scenario, State, Z> for Runner<'_> {
    fn run_target(
        &mut self,
        _fuzzer: &mut Z,
        state: &mut State,
        _manager: &mut Manager,
        input: &Scenario,
    ) -> Result<ExitKind, Error> {
        if !self.bench.goes_on() {
            return Err(Error::shutting_down());
        }
        *state.executions_mut() += 1;
        let map: &mut OwnedMapObserver<u8> = self.eyes.0.as_mut();
        let (outcome, _) =
            self.bench.run(&input.0, |now| map.iter_mut().zip(now).for_each(|(to, from)| *to = *from));
        if let Some(finding) = outcome.finding {
            map.reset_map()?;
            // Only what is new is a crash for LibAFL: it would keep each of the others too.
            let is_first = self.bench.common.found(input.0.as_ref().clone(), finding);
            return Ok(if is_first { ExitKind::Crash } else { ExitKind::Ok });
        }
        self.has_firsts = !outcome.firsts.is_empty();
        self.bench.ask(&mut self.mutator.generator, &input.0, (self.has_firsts, false), |_| ());
        Ok(ExitKind::Ok)
    }
}

/// Puts what LibAFL keeps into the campaign's own corpus and directory, if it is new to this machine and comes again in a
/// fresh instance. By itself it finds nothing interesting.
pub(super) struct Keeps<'c> {
    hub: &'c Hub<'c>,
    bench: Bench<'c>,
}

impl<'c> Keeps<'c> {
    pub(super) fn new(hub: &'c Hub<'c>) -> Self {
        Self { hub, bench: Bench::new(hub.common, None) }
    }
}

impl Named for Keeps<'_> {
    fn name(&self) -> &Cow<'static, str> {
        static NAME: Cow<'static, str> = Cow::Borrowed("keeps");
        &NAME
    }
}

impl<S> StateInitializer<S> for Keeps<'_> {}

impl<EM, S> Feedback<EM, Scenario, Eyes, S> for Keeps<'_> {
    fn append_metadata(
        &mut self,
        _state: &mut S,
        _manager: &mut EM,
        eyes: &Eyes,
        testcase: &mut Testcase<Scenario>,
    ) -> Result<(), Error> {
        let map: &OwnedMapObserver<u8> = eyes.0.as_ref();
        // One worker at a time, and each case once: all get those of other machines at the same moment.
        let mut keeping = self.hub.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let news = keeping.add_magnitudes(map);
        if news.is_any()
            && let Some(input) = testcase.input()
        {
            self.bench.keep(&input.0, &news);
        }
        Ok(())
    }
}

/// The stage that asks of each case that was kept what its run does not show: once, when it is tried first.
pub(super) struct Asks;

impl<Z> Stage<Runner<'_>, Manager, State, Z> for Asks {
    fn perform(
        &mut self,
        _fuzzer: &mut Z,
        runner: &mut Runner<'_>,
        state: &mut State,
        _manager: &mut Manager,
    ) -> Result<(), Error> {
        if state.current_corpus_id()?.is_none() || state.current_testcase()?.scheduled_count() > 0 {
            return Ok(());
        }
        let input = state.current_input_cloned()?;
        // It was calibrated before, so this is what its run has shown.
        runner.bench.ask(&mut runner.mutator.generator, &input.0, (runner.has_firsts, true), |_| ());
        Ok(())
    }
}

impl Restartable<State> for Asks {
    fn should_restart(&mut self, _state: &mut State) -> Result<bool, Error> {
        Ok(true)
    }

    fn clear_progress(&mut self, _state: &mut State) -> Result<(), Error> {
        Ok(())
    }
}
