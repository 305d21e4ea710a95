//! A module that is always given some settings more than its configuration has.

use bulkhead::Fault;
use bulkhead::payload::Desk;
use bulkhead::placement::{Identity, Instance, StepCost};
use bulkhead_wit::{Config, Description, Inputs, Outputs, Setting, Summary, Time};

/// An instance whose configurations all have these settings.
pub(super) struct Configured {
    instance: Box<dyn Instance>,
    settings: Vec<Setting>,
}

impl Configured {
    pub(super) fn new(instance: Box<dyn Instance>, settings: &[Setting]) -> Self {
        Self { instance, settings: settings.to_vec() }
    }

    /// What is in the configuration goes before: a script that sets something means it.
    fn with_settings(&self, config: &Config) -> Config {
        let settings = [self.settings.as_slice(), &config.settings].concat();
        Config { settings, ..config.clone() }
    }
}

impl Instance for Configured {
    fn description(&self) -> &Description {
        self.instance.description()
    }

    fn start(&mut self, config: &Config) -> Result<(), Fault> {
        let config = self.with_settings(config);
        self.instance.start(&config)
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) -> Result<(), Fault> {
        self.instance.step(inputs, outputs)
    }

    fn has_payload(&self) -> bool {
        self.instance.has_payload()
    }

    fn step_with(
        &mut self,
        inputs: &Inputs<'_>,
        outputs: &mut Outputs,
        desk: &mut Desk,
    ) -> Result<(), Fault> {
        self.instance.step_with(inputs, outputs, desk)
    }

    fn limit_steps(&mut self, cpu: Time) {
        self.instance.limit_steps(cpu);
    }

    fn save(&mut self) -> Result<Vec<u8>, Fault> {
        self.instance.save()
    }

    fn load(&mut self, config: &Config, now: Time, state: &[u8]) -> Result<Vec<Summary>, Fault> {
        let config = self.with_settings(config);
        self.instance.load(&config, now, state)
    }

    fn capacity(&self) -> u32 {
        self.instance.capacity()
    }

    fn cost(&self) -> StepCost {
        self.instance.cost()
    }

    fn is_behind_a_wall(&self) -> bool {
        self.instance.is_behind_a_wall()
    }

    fn identity(&self) -> Identity {
        self.instance.identity()
    }
}
