//! The TCP core with one of eleven classic bugs in front of it.
//!
//! Each is modelled on a class of those that were found in embedded stacks (AMNESIA:33, Ripple20, NUMBER:JACK): code that
//! reads a header once more than the core does, as firmware does it, and trusts what it reads. A setting chooses the bug;
//! without it the module is honest. What a fuzzer has to get right to reach each stands beside it.
#![no_std]

extern crate alloc;

mod bugs;
mod view;

use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_wit::{Config, Description, Event, Inputs, Module, NEVER, Outputs, Segment, Summary, Time};

pub use bugs::Bug;
use bugs::Careless;
use view::View;

/// The setting that chooses the bug, by its number from 1 on.
pub const SETTING: u16 = 0xf002;

/// The core behind careless code. It bears the honest core's name: see the component's `Cargo.toml`.
#[derive(Debug, Default)]
pub struct Tcp {
    core: bulkhead_tcp::Tcp,
    careless: Option<Careless>,
    headers: Vec<u8>,
    segments: Vec<Segment>,
}

impl Tcp {
    /// A module that has not been started.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The bug that the instance was started with.
    fn bug(config: &Config) -> Option<Bug> {
        let setting = config.settings.iter().find(|setting| setting.key == SETTING)?;
        let number = usize::try_from(setting.value).ok()?.checked_sub(1)?;
        Bug::ALL.get(number).copied()
    }
}

impl Module for Tcp {
    fn describe(&self) -> Description {
        Description { name: String::from("planted"), ..self.core.describe() }
    }

    fn start(&mut self, config: &Config) -> Result<(), String> {
        let bug = Self::bug(config);
        self.careless = bug.map(Careless::new);
        let mut config = config.clone();
        if bug == Some(Bug::PredictableIsn) {
            // The entropy that the host gives is thrown away.
            config.seed = (1, 2, 3, 4);
        }
        self.core.start(&config)
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) {
        let Some(careless) = &mut self.careless else { return self.core.step(inputs, outputs) };
        self.headers.clear();
        self.headers.extend_from_slice(inputs.headers);
        self.segments.clear();
        self.segments.extend_from_slice(inputs.segments);
        for segment in &mut self.segments {
            let from = segment.header as usize;
            let header = self.headers.get_mut(from..from + usize::from(segment.header_length));
            if let Some(mut view) = header.and_then(|header| View::new(header, segment)) {
                careless.arrives(&mut view);
            }
        }
        let inputs = Inputs { headers: &self.headers, segments: &self.segments, ..*inputs };
        self.core.step(&inputs, outputs);
        careless.hears(outputs);
        for event in &outputs.events {
            match event {
                Event::Accepted(opening) | Event::Opened(opening) => careless.opens(opening),
                Event::Closed(reason) => careless.closes(reason.connection),
                _ => {}
            }
        }
        if careless.forgets_the_timer() {
            outputs.deadline = NEVER;
        }
    }

    fn save(&self) -> Vec<u8> {
        self.core.save()
    }

    fn load(&mut self, config: &Config, now: Time, state: &[u8]) -> Result<Vec<Summary>, String> {
        self.core.load(config, now, state)
    }
}
