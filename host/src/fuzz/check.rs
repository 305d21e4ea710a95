//! What is looked at again in instances of their own: whether a finding comes again in the module as it was built, whether
//! sequence numbers can be foreseen, whether a saved state is worth anything, and whether another module agrees.

use std::sync::{Arc, Mutex, PoisonError};

use bulkhead_wit::{Config, Description, Inputs, Outputs, Setting, Summary, Time};

use super::case::{Case, Event};
use super::execute::{Executor, Outcome, Watcher, World, not_made};
use super::finding::{Finding, Kind};
use super::target::{Counted, Target};
use crate::fault::Fault;
use crate::payload::Desk;
use crate::placement::{Instance, StepCost};

/// Makes instances of the module that a target is compared with.
pub type Other = Arc<dyn Fn() -> Result<Box<dyn Instance>, Fault> + Send + Sync>;

/// An instance that a host uses while somebody else keeps it.
pub(super) struct Shared<I> {
    description: Arc<Description>,
    has_payload: bool,
    instance: Arc<Mutex<I>>,
}

impl<I: Instance> Shared<I> {
    pub(super) fn new(instance: I) -> Self {
        let description = Arc::new(instance.description().clone());
        let has_payload = instance.has_payload();
        Self { description, has_payload, instance: Arc::new(Mutex::new(instance)) }
    }

    /// Another hand on the same instance.
    pub(super) fn again(&self) -> Self {
        let Self { description, has_payload, instance } = self;
        Self {
            description: Arc::clone(description),
            has_payload: *has_payload,
            instance: Arc::clone(instance),
        }
    }

    pub(super) fn with<T>(&self, call: impl FnOnce(&mut I) -> T) -> T {
        call(&mut self.instance.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An instance that is started anew for each run, and whose counters are read in between.
pub struct Kept(Shared<Counted>);

impl Kept {
    /// The instance, for a run.
    #[must_use]
    pub fn again(&self) -> Box<dyn Instance> {
        Box::new(self.0.again())
    }

    /// As [`Counted::counters`].
    ///
    /// # Errors
    /// As [`Counted::counters`].
    pub fn counters<T>(&self, see: impl FnOnce(&[u8]) -> T) -> Result<T, Fault> {
        self.0.with(|counted| counted.counters(see))
    }
}

impl Target {
    /// An instance with counters, to be kept for many runs.
    ///
    /// # Errors
    /// How the module failed.
    pub fn kept(&self) -> Result<Kept, Fault> {
        self.counted().map(|counted| Kept(Shared::new(counted)))
    }
}

impl<I: Instance> Instance for Shared<I> {
    fn description(&self) -> &Description {
        &self.description
    }

    fn start(&mut self, config: &Config) -> Result<(), Fault> {
        self.with(|instance| instance.start(config))
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) -> Result<(), Fault> {
        self.with(|instance| instance.step(inputs, outputs))
    }

    fn has_payload(&self) -> bool {
        self.has_payload
    }

    fn step_with(
        &mut self,
        inputs: &Inputs<'_>,
        outputs: &mut Outputs,
        desk: &mut Desk,
    ) -> Result<(), Fault> {
        self.with(|instance| instance.step_with(inputs, outputs, desk))
    }

    fn save(&mut self) -> Result<Vec<u8>, Fault> {
        self.with(Instance::save)
    }

    fn load(&mut self, config: &Config, now: Time, state: &[u8]) -> Result<Vec<Summary>, Fault> {
        self.with(|instance| instance.load(config, now, state))
    }

    fn capacity(&self) -> u32 {
        self.with(|instance| instance.capacity())
    }

    fn cost(&self) -> StepCost {
        self.with(|instance| instance.cost())
    }
}

/// Seeds of the instances whose sequence numbers are compared.
const SEEDS: [u64; 3] = [11, 12, 13];
/// Differences between sequence numbers of one instance below which one follows from the other.
const NEAR: u32 = 4096;

/// Looks at cases in fresh instances.
#[derive(Clone)]
pub struct Checker {
    target: Target,
    world: World,
    settings: Vec<Setting>,
    other: Option<Other>,
    /// Used again from case to case.
    executors: Arc<Mutex<Vec<Executor>>>,
}

impl Checker {
    /// For a module in a world with this seed and these settings.
    #[must_use]
    pub fn new(target: Target, seed: u64, settings: Vec<Setting>, other: Option<Other>) -> Self {
        let world = World::new(seed, &settings);
        Self { target, world, settings, other, executors: Arc::default() }
    }

    /// The world that cases are run in.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The module.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Runs a case in a fresh instance of the module as it was built.
    pub fn plain(&self, case: &Case, watcher: Option<&mut dyn Watcher>) -> Outcome {
        match self.target.plain() {
            Ok(instance) => self.run(Box::new(instance), &self.world, case, watcher),
            Err(fault) => not_made(fault),
        }
    }

    fn run(
        &self,
        instance: Box<dyn Instance>,
        world: &World,
        case: &Case,
        watcher: Option<&mut dyn Watcher>,
    ) -> Outcome {
        let executors = || self.executors.lock().unwrap_or_else(PoisonError::into_inner);
        let free = executors().pop();
        let mut executor = free.unwrap_or_default();
        let outcome = executor.run(instance, world, case, watcher);
        executors().push(executor);
        outcome
    }

    /// Everything that is wrong with a case: what the run itself shows, and then what comparisons show.
    pub fn whole(&self, case: &Case) -> Option<Finding> {
        let outcome = self.plain(case, None);
        if outcome.finding.is_some() {
            return outcome.finding;
        }
        let event = case.events.len().saturating_sub(1);
        let kind = self.foreseen(case).or_else(|| self.state(case)).or_else(|| self.differs(case));
        kind.map(|kind| Finding { kind, event })
    }

    /// Whether the finding with this name comes again in a fresh instance; with the module's own source lines then.
    pub fn again(&self, case: &Case, kind: &Kind) -> Option<Finding> {
        let event = case.events.len().saturating_sub(1);
        let kind = match kind {
            Kind::Predictable { .. } => self.foreseen(case),
            Kind::State { .. } => self.state(case),
            Kind::Differs { .. } => self.differs(case),
            _ => return self.plain(case, None).finding,
        };
        kind.map(|kind| Finding { kind, event })
    }

    /// RFC 6528: the same connection gets other sequence numbers from other secrets, and numbers of different connections do
    /// not follow from each other. The seed is all the randomness that an instance has, so it must make a difference.
    pub fn foreseen(&self, case: &Case) -> Option<Kind> {
        let mut before: Vec<Vec<(u8, u32)>> = Vec::new();
        for seed in SEEDS {
            let world = World::new(seed, &self.settings);
            let instance = self.target.plain().ok()?;
            let firsts = self.run(Box::new(instance), &world, case, None).firsts;
            if firsts.is_empty() {
                return None;
            }
            before.push(firsts);
        }
        let (one, rest) = before.split_first()?;
        for (flow, first) in one {
            if rest.iter().all(|other| other.contains(&(*flow, *first))) {
                return Some(Kind::Predictable {
                    detail: format!("{first} for flow {flow}, whatever the seed"),
                });
            }
        }
        let near = |firsts: &Vec<(u8, u32)>| {
            firsts.len() > 1
                && firsts.windows(2).all(|pair| match pair {
                    [(_, a), (_, b)] => a.wrapping_sub(*b) < NEAR || b.wrapping_sub(*a) < NEAR,
                    _ => false,
                })
        };
        before.iter().all(near).then(|| Kind::Predictable {
            detail: format!("those of different connections lie within {NEAR} of each other"),
        })
    }

    /// What was saved is loaded by a fresh instance, which saves the same.
    pub fn state(&self, case: &Case) -> Option<Kind> {
        let instance = Shared::new(self.target.plain().ok()?);
        let outcome = self.run(Box::new(instance.again()), &self.world, case, None);
        if outcome.finding.is_some() {
            return None;
        }
        let failed = |what: &str, fault: &Fault| Kind::State { detail: format!("{what}: {fault}") };
        let saved = match instance.with(Instance::save) {
            // A module that saves nothing does not say that it could.
            Ok(saved) if saved.is_empty() => return None,
            Ok(saved) => saved,
            Err(fault) => return Some(failed("cannot be saved", &fault)),
        };
        let mut fresh = self.target.plain().ok()?;
        // Settings of a configuration would take the place of those that were saved.
        let connections = self.world.config.connections.min(fresh.capacity());
        let config = Config { settings: Vec::new(), connections, ..self.world.config.clone() };
        if let Err(fault) = fresh.load(&config, outcome.now, &saved) {
            return Some(failed("is not loaded again", &fault));
        }
        match fresh.save() {
            Err(fault) => Some(failed("cannot be saved once it was loaded", &fault)),
            Ok(again) if again != saved => {
                let at = again
                    .iter()
                    .zip(&saved)
                    .position(|(a, b)| a != b)
                    .unwrap_or(again.len().min(saved.len()));
                Some(Kind::State { detail: format!("is another one once it was loaded, from byte {at} on") })
            }
            Ok(_) => None,
        }
    }

    /// Whether the module that this one is compared with shows applications something else.
    pub fn differs(&self, case: &Case) -> Option<Kind> {
        let other = self.other.as_ref()?().ok()?;
        let is_same = other.description() == self.target.description();
        let theirs = self.run(other, &self.world, case, None);
        let ours = self.plain(case, None);
        if ours.finding.is_some() {
            return None;
        }
        let lines = |outcome: &Outcome| outcome.seen.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (here, there) = (lines(&ours), lines(&theirs));
        let detail = match theirs.finding {
            Some(finding) => format!("it fails: {finding}"),
            None if here != there => format!("{here:?} here, {there:?} there"),
            None if is_same && ours.digest != theirs.digest => {
                format!("{} frames here, {} there, and not the same", ours.frames, theirs.frames)
            }
            None => return None,
        };
        Some(Kind::Differs { detail })
    }

    /// Whether there is another module to compare with.
    pub(super) fn compares(&self) -> bool {
        self.other.is_some()
    }

    /// The same case, and fair peers after it.
    pub(super) fn with_fair_end(case: &Case) -> Case {
        let mut longer = case.clone();
        longer.events.push(Event::Fair { rounds: super::limits::FAIR_ROUNDS });
        longer
    }
}
