//! A thread of the distributed mode: LibAFL's fuzzer, made of its parts and ours.

use std::net::{Ipv4Addr, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use libafl::corpus::{Corpus as _, HasCurrentCorpusId as _, InMemoryCorpus};
use libafl::events::{EventConfig, LlmpEventManager, LlmpEventManagerBuilder, SendExiting as _};
use libafl::feedback_or;
use libafl::feedbacks::{ConstFeedback, CrashFeedback, MaxMapFeedback};
use libafl::fuzzer::{Evaluator as _, EventProcessor as _, Fuzzer as _, StdFuzzer};
use libafl::schedulers::powersched::PowerSchedule;
use libafl::schedulers::{IndexesLenTimeMinimizerScheduler, StdWeightedScheduler};
use libafl::stages::{CalibrationStage, StdPowerMutationalStage};
use libafl::state::{HasCorpus as _, HasCurrentStageId as _, StdState};
use libafl_bolts::Error;
use libafl_bolts::llmp::LlmpClient;
use libafl_bolts::rands::StdRand;
use libafl_bolts::tuples::tuple_list;

use super::hub::Hub;
use super::input::Scenario;
use super::mutator::Structured;
use super::pages::{Page, Pages};
use super::runner::{Asks, Keeps, Runner, counters};
use crate::fuzz::bench::Bench;

/// What LibAFL knows of a worker's campaign.
pub(super) type State = StdState<InMemoryCorpus<Scenario>, Scenario, StdRand, InMemoryCorpus<Scenario>>;
/// A worker's way to the others.
pub(super) type Manager = LlmpEventManager<(), Scenario, State, Page, Pages>;

/// LibAFL numbers the stages of a process without a lock: one worker is made at a time.
static MAKING: Mutex<()> = Mutex::new(());
/// How long the broker may take to see the last messages of one who leaves, and how often that is looked at.
const FAREWELL: Duration = Duration::from_secs(2);
const LOOKED: Duration = Duration::from_millis(1);
/// Rounds that may fail one after the other, as when a case that was kept does something else now.
const FAILURES: u32 = 100;

/// Connects to the broker behind this port. Cases of others are run here, and never believed: no two workers are alike.
pub(super) fn connect(port: u16) -> Result<Manager, Error> {
    // Where nobody listens any more LLMP would wait for ever.
    drop(TcpStream::connect((Ipv4Addr::LOCALHOST, port))?);
    let client = LlmpClient::create_attach_to_tcp(Pages, port)?;
    LlmpEventManagerBuilder::new().build_from_client(client, EventConfig::AlwaysUnique)
}

/// Leaves the broker: once it has seen where the last messages are, unless it is gone.
pub(super) fn leave(mut manager: Manager) {
    let left = Instant::now();
    if manager.send_exiting().is_ok() {
        while !manager.llmp.sender().safe_to_unmap() && left.elapsed() < FAREWELL {
            std::thread::sleep(LOOKED);
        }
    }
}

/// A state for those who only send and receive.
pub(super) fn no_state() -> Result<State, Error> {
    let (mut feedback, mut objective) = (ConstFeedback::new(false), ConstFeedback::new(false));
    StdState::new(StdRand::new(), InMemoryCorpus::new(), InMemoryCorpus::new(), &mut feedback, &mut objective)
}

/// The thread with this number, for so many runs at most.
pub(super) fn work(hub: &Hub<'_>, port: u16, number: u64, most: Option<u64>) -> Result<(), Error> {
    let mut manager = connect(port)?;
    let result = fuzz(hub, &mut manager, number, most);
    leave(manager);
    match result {
        Err(Error::ShuttingDown) => Ok(()),
        other => other,
    }
}

fn fuzz(hub: &Hub<'_>, manager: &mut Manager, number: u64, most: Option<u64>) -> Result<(), Error> {
    let common = hub.common;
    let making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let mutator = Structured::new(common.mutator(number));
    let counters = counters(common.probes());
    let edges = MaxMapFeedback::new(&counters);
    let calibration = CalibrationStage::new(&edges);
    let mut feedback = feedback_or!(edges, Keeps::new(hub));
    let mut objective = CrashFeedback::new();
    let random = StdRand::with_seed(common.options.seed.wrapping_add(number));
    let mut state =
        StdState::new(random, InMemoryCorpus::new(), InMemoryCorpus::new(), &mut feedback, &mut objective)?;
    let weighted = StdWeightedScheduler::with_schedule(&mut state, &counters, Some(PowerSchedule::fast()));
    let scheduler = IndexesLenTimeMinimizerScheduler::new(&counters, weighted);
    let mut fuzzer = StdFuzzer::new(scheduler, feedback, objective);
    let mut runner = Runner::new(Bench::new(common, most), counters, common.mutator(!number));
    let mut stages = tuple_list!(calibration, Asks, StdPowerMutationalStage::new(mutator));
    drop(making);

    // What others have is taken over first.
    fuzzer.process_events(&mut state, &mut runner, manager)?;
    let seeds = if number == 0 { common.options.seeds.as_slice() } else { &[] };
    for seed in seeds {
        fuzzer.evaluate_input(&mut state, &mut runner, manager, &Scenario::from(seed.clone()))?;
    }
    while state.corpus().count() == 0 {
        let fresh = runner.fresh();
        fuzzer.evaluate_input(&mut state, &mut runner, manager, &fresh)?;
        fuzzer.process_events(&mut state, &mut runner, manager)?;
    }

    let mut failures = 0;
    while runner.goes_on() {
        match fuzzer.fuzz_one(&mut stages, &mut runner, &mut state, manager) {
            Ok(_) => failures = 0,
            Err(Error::ShuttingDown) => break,
            Err(error) if failures >= FAILURES => return Err(error),
            Err(_) => {
                failures += 1;
                state.clear_stage_id()?;
                state.clear_corpus_id()?;
            }
        }
    }
    Ok(())
}
