//! An instance that fails when a test wants it to.

use bulkhead::fault::Fault;
use bulkhead::payload::Desk;
use bulkhead::placement::{Instance, StepCost};
use bulkhead_wit::{Config, Description, Inputs, Outputs, Summary, Time};

/// An instance that fails once, in the step with this number.
pub struct Fails(pub Box<dyn Instance>, pub Option<u64>);

impl Instance for Fails {
    fn description(&self) -> &Description {
        self.0.description()
    }

    fn start(&mut self, config: &Config) -> Result<(), Fault> {
        self.0.start(config)
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) -> Result<(), Fault> {
        self.0.step(inputs, outputs)
    }

    fn has_payload(&self) -> bool {
        self.0.has_payload()
    }

    fn step_with(
        &mut self,
        inputs: &Inputs<'_>,
        outputs: &mut Outputs,
        desk: &mut Desk,
    ) -> Result<(), Fault> {
        self.0.step_with(inputs, outputs, desk)?;
        if self.1.is_some_and(|at| self.0.cost().steps == at) { Err(Fault::Ended) } else { Ok(()) }
    }

    fn save(&mut self) -> Result<Vec<u8>, Fault> {
        self.0.save()
    }

    fn load(&mut self, config: &Config, now: Time, state: &[u8]) -> Result<Vec<Summary>, Fault> {
        self.0.load(config, now, state)
    }

    fn cost(&self) -> StepCost {
        self.0.cost()
    }
}
