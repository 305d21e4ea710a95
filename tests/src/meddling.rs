//! An instance whose steps end as a test wants them to.

use bulkhead::fault::Fault;
use bulkhead::payload::Desk;
use bulkhead::placement::{Instance, StepCost};
use bulkhead_wit::{Config, Description, Inputs, Outputs, Summary, Time};

/// A step that was taken.
pub struct Taken<'s> {
    /// Its number, from 1, over the life of this instance.
    pub number: u64,
    /// How often the instance has loaded a state.
    pub loads: u32,
    /// What it was given.
    pub inputs: &'s Inputs<'s>,
}

/// What becomes of steps that were taken.
pub type Meddle = Box<dyn FnMut(&Taken<'_>, &mut Outputs) -> Result<(), Fault> + Send>;

/// An instance with whose steps somebody meddles.
pub struct Meddled {
    inner: Box<dyn Instance>,
    loads: u32,
    meddle: Meddle,
}

impl Meddled {
    /// Meddles with each step.
    #[must_use]
    pub fn always(inner: Box<dyn Instance>, meddle: Meddle) -> Box<dyn Instance> {
        Box::new(Self { inner, loads: 0, meddle })
    }

    /// Meddles with the outputs of the step of this number.
    #[must_use]
    pub fn boxed(
        inner: Box<dyn Instance>,
        step: u64,
        meddle: fn(&mut Outputs) -> Result<(), Fault>,
    ) -> Box<dyn Instance> {
        Self::always(
            inner,
            Box::new(move |taken, outputs| if taken.number == step { meddle(outputs) } else { Ok(()) }),
        )
    }

    /// Fails in that step.
    #[must_use]
    pub fn failing(inner: Box<dyn Instance>, step: u64) -> Box<dyn Instance> {
        Self::boxed(inner, step, |_| Err(Fault::Ended))
    }

    fn after(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) -> Result<(), Fault> {
        let number = self.inner.cost().steps;
        (self.meddle)(&Taken { number, loads: self.loads, inputs }, outputs)
    }
}

impl Instance for Meddled {
    fn description(&self) -> &Description {
        self.inner.description()
    }

    fn start(&mut self, config: &Config) -> Result<(), Fault> {
        self.inner.start(config)
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) -> Result<(), Fault> {
        self.inner.step(inputs, outputs)?;
        self.after(inputs, outputs)
    }

    fn has_payload(&self) -> bool {
        self.inner.has_payload()
    }

    fn step_with(
        &mut self,
        inputs: &Inputs<'_>,
        outputs: &mut Outputs,
        desk: &mut Desk,
    ) -> Result<(), Fault> {
        self.inner.step_with(inputs, outputs, desk)?;
        self.after(inputs, outputs)
    }

    fn save(&mut self) -> Result<Vec<u8>, Fault> {
        self.inner.save()
    }

    fn load(&mut self, config: &Config, now: Time, state: &[u8]) -> Result<Vec<Summary>, Fault> {
        self.loads += 1;
        self.inner.load(config, now, state)
    }

    fn cost(&self) -> StepCost {
        self.inner.cost()
    }
}
