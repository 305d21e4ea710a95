//! The module as a server process of its own: the microkernel's arrangement. A call away by shared memory and two
//! wake-ups, behind the wall that the processor's memory protection is.
//!
//! - `launch`: which program is the server, and how it is started;
//! - `child`: the server as the host sees it: started, watched, ended;
//! - `region`: the memory that both map;
//! - `channel`, `spin`: requests and answers in it, and how one side waits for the other;
//! - `server`: the server's side, which a program calls from its `main`;
//! - `privileges`: what the server gives up before it looks at the first request.
//!
//! The server is as little trusted as a module in the sandbox. What it says is copied out of the shared memory once,
//! decoded with every bound checked, and then inspected like the outputs of any placement; nothing is read twice. The
//! memory cannot shrink under the host's hands, since its size is sealed.
//!
//! Steps are not pipelined. The next batch says how far streams have been placed, consumed and acknowledged, which
//! the outputs of this one change; and the outputs of a step are inspected against ledgers that the step before has
//! changed. What could overlap is the carrying out of one step with the module's work on the next, at the price of
//! positions that are a step old and of a second set of everything that a step holds; on the round trip, where a
//! process placement loses most, it would win nothing.

mod channel;
mod child;
mod launch;
mod privileges;
mod region;
mod server;
mod spin;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use bulkhead_wit::encoding::{
    DecodeError, decode_description, decode_outputs, decode_summaries, encode_config, encode_inputs,
};
use bulkhead_wit::{Config, Description, Inputs, Outputs, Summary, Time, limits};

use super::{Identity, Instance, StepCost, capacity};
use crate::fault::{Broken, Budget, Fault, Frame, Lost, Refused, Rule, Trap};
use channel::{Answer, Channel, Host, Request};
use child::Child;
use region::{FROM_SERVER, Region, TO_SERVER};

pub use launch::Launch;
pub use server::serve;

/// How often a server that takes its time is looked at: whether it lives, and what CPU time it has used.
const TICK: Duration = Duration::from_millis(2);
/// How long a server may say nothing without using the CPU: it was stopped, or waits for what never comes.
const SILENCE: Duration = Duration::from_secs(2);
/// The same, while it starts: the system has to load a program.
const SILENCE_AT_START: Duration = Duration::from_secs(20);

/// A module that runs in a process of its own.
#[derive(Debug)]
pub struct Process {
    description: Description,
    /// `None` once it has failed: the process is gone then.
    live: Option<Live>,
    cost: StepCost,
}

#[derive(Debug)]
struct Live {
    child: Child,
    channel: Channel<Host>,
    /// A request before it is copied in, an answer after it was copied out.
    bytes: Vec<u8>,
}

impl Process {
    /// Starts a server, and asks it what it is. The module is not started yet.
    ///
    /// # Errors
    /// [`Fault::Lost`] where there is no such program or it is no server; how the module failed.
    pub fn new(launch: &Launch) -> Result<Self, Fault> {
        let not_started = |error: std::io::Error| Fault::Lost(Lost::not_started(error.to_string()));
        let (region, file) = Region::create().map_err(not_started)?;
        let channel = Channel::of_host(region, launch.spin);
        let child = Child::start(launch, file).map_err(not_started)?;
        let live = Live { child, channel, bytes: Vec::new() };
        let mut process =
            Self { description: Description::default(), live: Some(live), cost: StepCost::default() };
        let answer = process.ask(Request::Describe, limits::LIFE_CPU, SILENCE_AT_START)?;
        process.description = process.decoded(answer, decode_description)?;
        Ok(process)
    }

    /// The server's process id, while it lives.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.live.as_ref().map(|live| live.child.id())
    }

    /// One request, whose bytes are in `bytes`, and its answer's length, whose bytes are there then. After an error
    /// that is not a refusal the server is gone.
    fn ask(&mut self, request: Request, cpu: Time, silence: Duration) -> Result<usize, Fault> {
        let live = self.live.as_mut().ok_or(Fault::Ended)?;
        let result = live.ask(request, Duration::from_nanos(cpu), silence);
        match result {
            Ok(length) => Ok(length),
            Err(refused @ Fault::Refused(_)) => Err(refused),
            Err(fault) => {
                self.live = None;
                Err(fault)
            }
        }
    }

    /// Reads an answer of this length.
    fn decoded<T>(
        &mut self,
        length: usize,
        decode: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<T, Fault> {
        let live = self.live.as_mut().ok_or(Fault::Ended)?;
        let result = decode(live.bytes.get(..length).unwrap_or_default());
        result.map_err(|error| {
            self.live = None;
            garbled(error)
        })
    }

    /// Encodes a request. Nothing is left of what was in the buffer.
    fn request(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        if let Some(live) = &mut self.live {
            live.bytes.clear();
            encode(&mut live.bytes);
        }
    }
}

/// An answer that is none.
fn garbled(error: DecodeError) -> Fault {
    let rule = if matches!(error, DecodeError::Count { .. }) { Rule::Counts } else { Rule::Encoding };
    Fault::Broken(Broken { rule, detail: error.to_string() })
}

impl Live {
    fn ask(&mut self, request: Request, cpu: Duration, silence: Duration) -> Result<usize, Fault> {
        if !self.channel.region().write(TO_SERVER, &self.bytes) {
            return Err(Fault::Lost(Lost::not_started(format!(
                "a request of {} bytes is too long",
                self.bytes.len()
            ))));
        }
        self.channel.post(request as u32, self.bytes.len());
        let (answer, length) = self.answer(cpu, silence)?;
        let most = match request {
            Request::Step => bulkhead_wit::encoding::OUTPUTS_MAX,
            Request::Save => limits::SAVE,
            Request::Describe | Request::Start | Request::Load => FROM_SERVER.len(),
        };
        if length > most || !self.channel.region().read(FROM_SERVER, length, &mut self.bytes) {
            return Err(Fault::over(Budget::Outputs { limit: most as u64 }));
        }
        let said = || server::Said::read(self.bytes.get(..length).unwrap_or_default());
        match Answer::of(answer) {
            Some(Answer::Done) => Ok(length),
            Some(Answer::Refused) => Err(Fault::Refused(Refused { call: request.name(), text: said().text })),
            Some(Answer::Panicked) => {
                let said = said();
                let function = request.name().to_owned();
                let frames = vec![Frame { function, file: Some(said.file), line: said.line }];
                Err(Fault::Trap(Box::new(Trap { code: "panic".into(), panic: Some(said.text), frames })))
            }
            Some(Answer::TooLong) => Err(Fault::over(Budget::Outputs { limit: most as u64 })),
            None => Err(Fault::broken(Rule::Encoding, format!("answer {answer} of the server is none"))),
        }
    }

    /// Waits for the answer, and looks after the server meanwhile. It is killed when it has used up its time.
    fn answer(&mut self, cpu: Duration, silence: Duration) -> Result<(u32, usize), Fault> {
        let begun = Instant::now();
        let mut before = None;
        loop {
            if let Some(answer) = self.channel.wait(Some(TICK)) {
                return Ok(answer);
            }
            if let Some(lost) = self.child.fate() {
                return Err(Fault::Lost(lost));
            }
            // What it used before the first look goes unseen, in the module's favour, as in the sandbox.
            let now = self.child.cpu_used();
            let used = now.saturating_sub(*before.get_or_insert(now));
            if used >= cpu {
                self.child.kill();
                return Err(Fault::over(Budget::Cpu { used, limit: cpu }));
            }
            if begun.elapsed() >= silence + cpu {
                self.child.kill();
                return Err(Fault::Lost(Lost::silent(begun.elapsed())));
            }
        }
    }
}

impl Instance for Process {
    fn description(&self) -> &Description {
        &self.description
    }

    fn start(&mut self, config: &Config) -> Result<(), Fault> {
        self.request(|bytes| encode_config(config, bytes));
        self.ask(Request::Start, limits::LIFE_CPU, SILENCE).map(drop)
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) -> Result<(), Fault> {
        outputs.clear();
        let from = Instant::now();
        self.request(|bytes| encode_inputs(inputs, bytes));
        let answer = self.ask(Request::Step, limits::STEP_CPU, SILENCE);
        let result = answer.and_then(|length| self.decoded(length, |bytes| decode_outputs(bytes, outputs)));
        self.cost.add(from);
        result
    }

    fn save(&mut self) -> Result<Vec<u8>, Fault> {
        self.request(|_| ());
        let length = self.ask(Request::Save, limits::LIFE_CPU, SILENCE)?;
        self.decoded(length, |bytes| Ok(bytes.to_vec()))
    }

    fn load(&mut self, config: &Config, now: Time, state: &[u8]) -> Result<Vec<Summary>, Fault> {
        self.request(|bytes| server::put_load(config, now, state, bytes));
        let length = self.ask(Request::Load, limits::LIFE_CPU, SILENCE)?;
        self.decoded(length, decode_summaries)
    }

    fn capacity(&self) -> u32 {
        capacity(limits::MEMORY as u64, self.description.bytes_per_connection)
    }

    fn cost(&self) -> StepCost {
        self.cost
    }

    fn identity(&self) -> Identity {
        Identity { hash: None, placement: "process".into() }
    }
}
