//! An instance whose steps end as a test wants them to.

use bulkhead::fault::Fault;
use bulkhead::payload::Desk;
use bulkhead::placement::{Instance, StepCost};
use bulkhead_wit::{Config, Description, Inputs, Outputs, Summary, Time};

/// What becomes of a step that was taken.
pub type Meddle = fn(&mut Outputs) -> Result<(), Fault>;

/// An instance with whose step of this number somebody meddles.
pub struct Meddled {
    inner: Box<dyn Instance>,
    step: u64,
    meddle: Meddle,
}

impl Meddled {
    /// Meddles with that step's outputs.
    #[must_use]
    pub fn boxed(inner: Box<dyn Instance>, step: u64, meddle: Meddle) -> Box<dyn Instance> {
        Box::new(Self { inner, step, meddle })
    }

    /// Fails in that step.
    #[must_use]
    pub fn failing(inner: Box<dyn Instance>, step: u64) -> Box<dyn Instance> {
        Self::boxed(inner, step, |_| Err(Fault::Ended))
    }

    fn after(&mut self, outputs: &mut Outputs) -> Result<(), Fault> {
        if self.inner.cost().steps == self.step { (self.meddle)(outputs) } else { Ok(()) }
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
        self.after(outputs)
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
        self.after(outputs)
    }

    fn save(&mut self) -> Result<Vec<u8>, Fault> {
        self.inner.save()
    }

    fn load(&mut self, config: &Config, now: Time, state: &[u8]) -> Result<Vec<Summary>, Fault> {
        self.inner.load(config, now, state)
    }

    fn cost(&self) -> StepCost {
        self.inner.cost()
    }
}
