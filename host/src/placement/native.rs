//! The module as part of this program: no wall. A panic is caught, a hang or a wild write is not.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use bulkhead_wit::{Config, Description, Inputs, Module, Outputs, Summary, Time, limits};

use super::{Identity, Instance, StepCost};
use crate::fault::{Budget, Fault, Refused, Trap};
use crate::payload::Desk;

/// A module that runs natively.
pub struct Native {
    description: Description,
    /// `None` once it has panicked: its state can be anything then.
    module: Option<Box<dyn Module + Send>>,
    cost: StepCost,
}

impl Native {
    /// Wraps a module.
    #[must_use]
    pub fn new(module: Box<dyn Module + Send>) -> Self {
        Self { description: module.describe(), module: Some(module), cost: StepCost::default() }
    }

    /// Calls the module and turns a panic into a fault, after which it is not entered again.
    fn enter<T>(&mut self, call: impl FnOnce(&mut dyn Module) -> T) -> Result<T, Fault> {
        let module = self.module.as_mut().ok_or(Fault::Ended)?;
        // Unwind safety: what the panic left behind is dropped unseen.
        catch_unwind(AssertUnwindSafe(|| call(module.as_mut()))).map_err(|panic| {
            let broken = self.module.take();
            // A destructor may panic over the same broken state.
            drop(catch_unwind(AssertUnwindSafe(|| drop(broken))));
            panicked(panic.as_ref())
        })
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Fault {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    Fault::Trap(Box::new(Trap { code: "panic".into(), panic: text, frames: Vec::new() }))
}

impl Instance for Native {
    fn description(&self) -> &Description {
        &self.description
    }

    fn start(&mut self, config: &Config) -> Result<(), Fault> {
        self.enter(|module| module.start(config))?
            .map_err(|text| Fault::Refused(Refused { call: "start", text }))
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) -> Result<(), Fault> {
        outputs.clear();
        let from = Instant::now();
        let result = self.enter(|module| module.step(inputs, outputs));
        self.cost.add(from);
        result
    }

    fn has_payload(&self) -> bool {
        self.module.as_ref().is_some_and(|module| module.has_payload())
    }

    fn step_with(
        &mut self,
        inputs: &Inputs<'_>,
        outputs: &mut Outputs,
        desk: &mut Desk,
    ) -> Result<(), Fault> {
        outputs.clear();
        let from = Instant::now();
        let result = self.enter(|module| module.step_with(inputs, outputs, desk));
        self.cost.add(from);
        let broken = desk.take_fault();
        if broken.is_some() {
            self.module = None;
        }
        broken.map_or(result, Err)
    }

    fn save(&mut self) -> Result<Vec<u8>, Fault> {
        let state = self.enter(|module| module.save())?;
        if state.len() > limits::SAVE {
            self.module = None;
            return Err(Fault::over(Budget::Outputs { limit: limits::SAVE as u64 }));
        }
        Ok(state)
    }

    fn load(&mut self, config: &Config, now: Time, state: &[u8]) -> Result<Vec<Summary>, Fault> {
        self.enter(|module| module.load(config, now, state))?
            .map_err(|text| Fault::Refused(Refused { call: "load", text }))
    }

    fn cost(&self) -> StepCost {
        self.cost
    }

    fn is_behind_a_wall(&self) -> bool {
        false
    }

    fn identity(&self) -> Identity {
        Identity { hash: None, placement: "native".into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_wit::{Note, Segment};

    /// Says how many segments it saw; panics at the third step.
    #[derive(Default)]
    struct Counting {
        steps: u32,
    }

    impl Module for Counting {
        fn describe(&self) -> Description {
            Description { name: "counting".into(), ..Description::default() }
        }

        fn start(&mut self, config: &Config) -> Result<(), String> {
            if config.mtu == 0 { Err("mtu is 0".into()) } else { Ok(()) }
        }

        fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) {
            self.steps += 1;
            assert!(self.steps < 3, "third step");
            let text = inputs.segments.len().to_string();
            outputs.notes.push(Note { text, ..Note::default() });
        }

        fn save(&self) -> Vec<u8> {
            vec![0; if self.steps == 2 { limits::SAVE + 1 } else { 4 }]
        }

        fn load(&mut self, _: &Config, _: Time, _: &[u8]) -> Result<Vec<Summary>, String> {
            Err("format 0".into())
        }
    }

    #[test]
    fn steps_clear_outputs_and_a_panic_ends_the_instance() {
        let mut instance = Native::new(Box::<Counting>::default());
        assert_eq!(instance.description().name, "counting");
        let refused = instance.start(&Config::default()).unwrap_err();
        assert_eq!(refused.to_string(), "the module refused to start: mtu is 0");
        assert!(instance.start(&Config { mtu: 1500, ..Config::default() }).is_ok());

        let segments = [Segment::default(); 2];
        let inputs = Inputs { segments: &segments, ..Inputs::default() };
        let mut outputs = Outputs::default();
        for _ in 0..2 {
            assert!(instance.step(&inputs, &mut outputs).is_ok());
            assert_eq!(outputs.notes.len(), 1);
            assert_eq!(outputs.notes[0].text, "2");
        }
        let fault = instance.step(&inputs, &mut outputs).unwrap_err();
        assert_eq!(fault.to_string(), "the module panicked: third step");
        assert_eq!(instance.step(&inputs, &mut outputs), Err(Fault::Ended));
        assert_eq!(instance.cost().steps, 4);
    }

    #[test]
    fn a_state_beyond_the_limit_is_a_fault() {
        let mut instance = Native::new(Box::<Counting>::default());
        assert_eq!(instance.save().map(|state| state.len()), Ok(4));
        let mut outputs = Outputs::default();
        assert!(instance.step(&Inputs::default(), &mut outputs).is_ok());
        assert!(instance.step(&Inputs::default(), &mut outputs).is_ok());
        assert_eq!(instance.save(), Err(Fault::over(Budget::Outputs { limit: limits::SAVE as u64 })));
        assert_eq!(instance.save(), Err(Fault::Ended));
    }
}
