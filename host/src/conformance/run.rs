//! One script against one instance, in virtual time.

use super::calls::{LOCAL_PORT, REMOTE_PORT, Refusal, Sockets};
use super::compare::{self, How};
use super::flow::{End, Flow};
use super::report::{Failure, Trace};
use super::script::{
    ANYTIME, Assertion, Body, Call, Condition, Event, Moment, Number, Outcome, Packet, Script, Subject, What,
    When,
};
use super::wire::{self, Addresses, Seen};
use crate::device::Capabilities;
use crate::device::queue::QueueDevice;
use crate::placement::Instance;
use crate::stack::{Options, Stack};
use bulkhead_wit::limits::{MILLISECOND, SECOND};
use bulkhead_wit::registry::setting;
use bulkhead_wit::{NEVER, Setting, Time};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// The stack's time when the script's begins.
const ORIGIN: Time = 100 * SECOND;
/// Turns without the time moving on, before that counts as a livelock.
const TURNS: u32 = 10_000;
/// The seed of all runs.
const SEED: [u64; 4] = [0x6275_6c6b, 0x6865_6164, 0x636f_6e66, 0x6f72_6d21];

/// Runs a script against a fresh instance.
///
/// # Errors
/// The first line that does not hold, with everything there is to find out why.
pub fn run(script: &Script, instance: Box<dyn Instance>) -> Result<(), Box<Failure>> {
    let mut run = match Run::new(script, instance) {
        Ok(run) => run,
        Err(what) => return Err(Box::new(Failure::new(script, None, what))),
    };
    let mut current = None;
    let mut result = Ok(());
    for event in &script.events {
        current = Some(event);
        result = run.event(event);
        if result.is_err() {
            break;
        }
    }
    let result = result.and_then(|()| run.end());
    result.map_err(|what| {
        let mut failure = Failure::new(script, current, what);
        failure.trace = run.trace;
        Box::new(failure)
    })
}

/// Why a line does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Problem {
    pub expected: String,
    pub got: String,
    pub why: String,
}

impl Problem {
    fn new(why: &str) -> Self {
        Self { expected: String::new(), got: String::new(), why: why.to_owned() }
    }
}

/// A call that waits.
struct Waiting {
    call: Call,
    until: Time,
    /// Bytes that a blocking write has got rid of.
    written: i64,
    /// When it came back and with what.
    done: Option<(Time, Outcome)>,
}

struct Run {
    stack: Stack,
    device: QueueDevice,
    addresses: Addresses,
    sockets: Sockets,
    flows: BTreeMap<u16, Flow>,
    now: Time,
    /// The time of the last event.
    base: Time,
    emitted: VecDeque<(Time, Seen)>,
    waiting: Option<Waiting>,
    trace: Trace,
    tolerance: Time,
    how: How,
    is_merged: bool,
    remote_base: u32,
}

impl Run {
    fn new(script: &Script, instance: Box<dyn Instance>) -> Result<Self, Problem> {
        let setup = &script.setup;
        let addresses = Addresses::new(setup.is_v6);
        let prefix = if setup.is_v6 { 64 } else { 24 };
        let mut options = Options::new(IpAddr::from(addresses.local), prefix, setup.mtu, SEED);
        options.sizes = setup.sizes;
        // The scripts are written after Linux; one may ask for another profile.
        options.config.settings.push(Setting { key: setting::PROFILE, value: 1 });
        options.config.settings.extend(setup.settings.iter().copied());
        options.config.embryos = setup.embryos.unwrap_or(options.config.embryos);
        options.config.connections = setup.connections.unwrap_or(4096);
        let stack = Stack::new(instance, options).map_err(|fault| Problem::new(&fault.to_string()))?;
        let mut run = Self {
            stack,
            device: QueueDevice::new(Capabilities::plain(setup.mtu)),
            addresses,
            sockets: Sockets::new(addresses, setup.sizes),
            flows: BTreeMap::new(),
            now: ORIGIN,
            base: ORIGIN,
            emitted: VecDeque::new(),
            waiting: None,
            trace: Trace::new(ORIGIN),
            tolerance: setup.tolerance,
            how: How {
                is_push_free: setup.is_push_free,
                clock_slack: u32::try_from(setup.tolerance.div_ceil(MILLISECOND)).unwrap_or(1),
            },
            is_merged: setup.is_merged,
            remote_base: setup.remote_base,
        };
        run.settle()?;
        Ok(run)
    }

    fn event(&mut self, event: &Event) -> Result<(), Problem> {
        let (from, to) = self.times(event.when);
        if let What::Expect(packet) = &event.what {
            let at = self.expect(packet, from, to)?;
            // What is exact in the script stays exact for what follows.
            self.base = if matches!(event.when, When::At(_)) { from } else { at };
            return Ok(());
        }
        if from + self.tolerance < self.now {
            return Err(Problem::new("this line's time is in the past"));
        }
        self.advance(from)?;
        self.base = from;
        if let Some((time, seen)) = self.emitted.front()
            && time + self.tolerance < from
        {
            let mut problem = Problem::new("a packet that no line expects");
            problem.got = self.describe(*time, &seen.packet);
            return Err(problem);
        }
        match &event.what {
            What::Inject(packet) => self.inject(packet)?,
            What::Call(call) => self.call(call, matches!(event.when, When::During(..)).then_some(to))?,
            What::Assert(assertion) => self.assert(assertion)?,
            What::Expect(_) => {}
        }
        self.settle()
    }

    fn times(&self, when: When) -> (Time, Time) {
        let time = |moment: Moment| moment.time + if moment.is_relative { self.base } else { ORIGIN };
        match when {
            When::At(at) => (time(at), time(at)),
            When::Between(from, to) | When::During(from, to) => (time(from), time(to)),
            When::Anytime => (self.base, self.base + ANYTIME),
        }
    }

    /// The last blocking call must have ended, and nothing may be left over.
    fn end(&mut self) -> Result<(), Problem> {
        if let Some(waiting) = &self.waiting {
            let until = waiting.until + self.tolerance;
            self.advance(until)?;
        }
        self.finish_waiting()?;
        if let Some((time, seen)) = self.emitted.front() {
            let mut problem = Problem::new("a packet that no line expects, after the last line");
            problem.got = self.describe(*time, &seen.packet);
            return Err(problem);
        }
        Ok(())
    }

    // ---- time

    /// Turns until there is nothing more to do at this time.
    fn settle(&mut self) -> Result<(), Problem> {
        for _ in 0..TURNS {
            let turn = self.stack.turn(self.now, &mut self.device).map_err(|fault| {
                let mut problem = Problem::new("the module failed");
                problem.got = fault.report().to_string();
                problem
            })?;
            self.collect()?;
            self.try_waiting()?;
            if !turn.again && self.device.arriving() == 0 && self.stack.next_deadline() > self.now {
                return Ok(());
            }
        }
        Err(Problem::new("the module never comes to rest"))
    }

    fn collect(&mut self) -> Result<(), Problem> {
        while let Some((frame, _)) = self.device.take() {
            let seen = wire::decode(&frame, self.addresses);
            self.trace.frame(self.now, &frame);
            let Some(seen) = seen else {
                return Err(Problem::new("the module sent a frame that cannot be read"));
            };
            if let Some(wrong) = &seen.wrong {
                return Err(Problem::new(wrong));
            }
            let text = format!("> {}", self.in_script(&seen.packet));
            self.trace.line(self.now, &text);
            self.emitted.push_back((self.now, seen));
        }
        Ok(())
    }

    fn advance(&mut self, to: Time) -> Result<(), Problem> {
        while self.stack.next_deadline() <= to {
            self.now = self.stack.next_deadline().max(self.now);
            self.settle()?;
        }
        self.now = self.now.max(to);
        Ok(())
    }

    /// Moves on until something was sent, at most to `to`.
    fn advance_until_sent(&mut self, to: Time) -> Result<(), Problem> {
        while self.emitted.is_empty() && self.stack.next_deadline() <= to {
            self.now = self.stack.next_deadline().max(self.now);
            self.settle()?;
        }
        Ok(())
    }

    // ---- packets

    fn flow(&mut self, port: u16) -> &mut Flow {
        let base = self.remote_base;
        self.flows.entry(port).or_insert_with(|| Flow::new(base))
    }

    fn in_script(&self, packet: &Packet) -> Packet {
        let port = packet.network.port.unwrap_or(REMOTE_PORT);
        let flow = self.flows.get(&port).copied().unwrap_or(Flow::new(self.remote_base));
        let body = match &packet.body {
            Body::Tcp(tcp) => Body::Tcp(flow.to_script(tcp, End::Local)),
            Body::Icmp(super::script::Icmp::Error { kind, mtu, quoted }) => {
                let quoted = quoted.as_ref().map(|quoted| flow.to_script(quoted, End::Remote));
                Body::Icmp(super::script::Icmp::Error { kind: *kind, mtu: *mtu, quoted })
            }
            other => other.clone(),
        };
        Packet { network: packet.network, body }
    }

    fn describe(&self, time: Time, packet: &Packet) -> String {
        format!("{} > {}", super::report::seconds(time.saturating_sub(ORIGIN)), self.in_script(packet))
    }

    fn inject(&mut self, packet: &Packet) -> Result<(), Problem> {
        let port = packet.network.port.unwrap_or(REMOTE_PORT);
        let is_new = packet.network.is_new;
        let flow = self.flow(port);
        if is_new {
            flow.local_base = None;
            flow.clock_base = None;
        }
        let local = packet.network.local.or(flow.local_port).unwrap_or(LOCAL_PORT);
        let flow = *flow;
        self.trace.line(self.now, &format!("< {packet}"));
        let offload = wire::offload(packet, self.addresses);
        for frame in wire::encode(packet, &flow, self.addresses, port, local) {
            self.trace.frame(self.now, &frame);
            if !self.device.inject(&frame, offload) {
                return Err(Problem::new("too many packets at once"));
            }
        }
        Ok(())
    }

    /// Waits for the next packet and compares it; gives its time.
    fn expect(&mut self, expected: &Packet, from: Time, to: Time) -> Result<Time, Problem> {
        self.advance_until_sent(to + self.tolerance)?;
        let Some((at, seen)) = self.emitted.pop_front() else {
            self.now = self.now.max(to);
            let mut problem = Problem::new("nothing was sent in time");
            problem.expected = expected.to_string();
            problem.got = "nothing".to_owned();
            return Err(problem);
        };
        let mut got = self.learn(expected, &seen);
        if self.is_merged {
            self.merge(expected, &mut got, at);
        }
        let mut differ = compare::differences(expected, &got, self.how);
        if let Body::Tcp(tcp) = &got.body
            && !compare::is_payload_right(tcp, &seen.payload)
        {
            differ.push("payload: not what was written there");
        }
        let is_early = at + self.tolerance < from;
        if is_early || at > to + self.tolerance {
            differ.push(if is_early { "time: too early" } else { "time: too late" });
        }
        if differ.is_empty() {
            return Ok(at);
        }
        let time = |time: Time| super::report::seconds(time.saturating_sub(ORIGIN));
        let due = if from == to { time(from) } else { format!("{}~{}", time(from), time(to)) };
        Err(Problem {
            expected: format!("{due} > {expected}"),
            got: format!("{} > {}", time(at), shown(&got, expected)),
            why: format!("they differ: {}", differ.join(", ")),
        })
    }

    /// What was sent, in the script's numbers, once these are learned from it.
    fn learn(&mut self, expected: &Packet, seen: &Seen) -> Packet {
        let port = seen.packet.network.port.unwrap_or(REMOTE_PORT);
        let is_new = expected.network.is_new;
        let flow = self.flow(port);
        if is_new {
            flow.local_base = None;
            flow.clock_base = None;
        }
        if let Body::Tcp(tcp) = &seen.packet.body {
            if flow.local_port.is_none() {
                flow.local_port = seen.packet.network.local;
            }
            let wanted = if let Body::Tcp(wanted) = &expected.body { Some(wanted) } else { None };
            flow.learn(tcp, wanted);
        }
        let mut got = self.in_script(&seen.packet);
        // Expected of the usual flow where the script names none.
        if expected.network.port.is_none() && port != REMOTE_PORT && matches!(got.body, Body::Tcp(_)) {
            got.network.port = Some(port);
        } else if expected.network.port.is_none() {
            got.network.port = None;
        }
        got
    }

    /// Puts what goes on contiguously at the same time to what was got, as far as the script expects.
    fn merge(&mut self, expected: &Packet, got: &mut Packet, at: Time) {
        let (Body::Tcp(expected), Body::Tcp(got)) = (&expected.body, &mut got.body) else { return };
        while got.length < expected.length {
            let Some((time, next)) = self.emitted.front() else { return };
            let next = self.in_script(&next.packet);
            match &next.body {
                Body::Tcp(next) if *time == at && compare::merge(got, next) => drop(self.emitted.pop_front()),
                _ => return,
            }
        }
    }

    // ---- calls

    fn call(&mut self, call: &Call, until: Option<Time>) -> Result<(), Problem> {
        self.finish_waiting()?;
        if let Some(until) = until {
            self.waiting = Some(Waiting { call: call.clone(), until, written: 0, done: None });
            return self.try_waiting();
        }
        let got = match self.sockets.make(call, &mut self.stack) {
            Ok(got) => got,
            Err(Refusal::Waits) if call.name == "connect" => Outcome::Error("EINPROGRESS".to_owned()),
            Err(Refusal::Waits) => Outcome::Error("EAGAIN".to_owned()),
            Err(Refusal::Script(what)) => return Err(Problem::new(&what)),
        };
        outcome(call, &got)
    }

    /// Makes the waiting call again.
    fn try_waiting(&mut self) -> Result<(), Problem> {
        let Some(waiting) = self.waiting.as_mut().filter(|waiting| waiting.done.is_none()) else {
            return Ok(());
        };
        let got = match self.sockets.make(&waiting.call, &mut self.stack) {
            Err(Refusal::Waits) => return Ok(()),
            Err(Refusal::Script(what)) => return Err(Problem::new(&what)),
            Ok(got) => got,
        };
        // A blocking write goes on until all is written.
        let size = waiting.call.arguments.iter().skip(1).find_map(|argument| match argument {
            super::script::Argument::Number(size) => Some(*size),
            _ => None,
        });
        let is_write = matches!(waiting.call.name.as_str(), "write" | "send");
        if let (true, Outcome::Value(count), Some(size)) = (is_write, &got, size) {
            waiting.written += count;
            if *count < size {
                for argument in waiting.call.arguments.iter_mut().skip(1) {
                    if let super::script::Argument::Number(rest) = argument {
                        *rest -= count;
                    }
                }
                return Ok(());
            }
            waiting.done = Some((self.now, Outcome::Value(waiting.written)));
        } else {
            waiting.done = Some((self.now, got));
        }
        Ok(())
    }

    /// Before the next call, the one that waits must have come back.
    fn finish_waiting(&mut self) -> Result<(), Problem> {
        let Some(waiting) = self.waiting.take() else { return Ok(()) };
        let name = &waiting.call.name;
        let Some((at, got)) = waiting.done else {
            return Err(Problem::new(&format!("`{name}` is still waiting")));
        };
        if at.abs_diff(waiting.until) > self.tolerance {
            let time = |time: Time| super::report::seconds(time.saturating_sub(ORIGIN));
            return Err(Problem {
                expected: format!("`{name}` to come back at {}", time(waiting.until)),
                got: time(at),
                why: "the times differ".to_owned(),
            });
        }
        outcome(&waiting.call, &got)
    }

    fn assert(&mut self, assertion: &Assertion) -> Result<(), Problem> {
        let number = match assertion.of {
            Subject::Latest => self.sockets.latest,
            Subject::Socket(number) => Some(number),
            Subject::Census => None,
        };
        let stream = number.and_then(|number| self.sockets.stream(number));
        if stream.is_none() && assertion.of != Subject::Census {
            return Err(Problem::new("no such connection"));
        }
        self.stack.ask_info(stream).map_err(|error| Problem::new(&error.to_string()))?;
        self.settle()?;
        let Some(fields) = self.stack.take_info(stream) else {
            return Err(Problem::new("the module has no information for it"));
        };
        let wrong = |condition: &&Condition| {
            let got = fields.get(condition.index).copied().unwrap_or(NEVER);
            !condition.how.holds(got, condition.value)
        };
        let Some(condition) = assertion.conditions.iter().find(wrong) else { return Ok(()) };
        let got = fields.get(condition.index).map_or("no such field".to_owned(), ToString::to_string);
        Err(Problem {
            expected: format!("{} {} {}", condition.field, condition.how.sign(), condition.value),
            got: format!("{} = {got}", condition.field),
            why: "the assertion does not hold".to_owned(),
        })
    }
}

fn outcome(call: &Call, got: &Outcome) -> Result<(), Problem> {
    let is_same = match (&call.result, got) {
        (Outcome::Flags(expected), Outcome::Flags(got)) => {
            let sorted = |names: &str| {
                let mut names: Vec<String> = names.split('|').map(str::to_owned).collect();
                names.sort();
                names
            };
            sorted(expected) == sorted(got)
        }
        (expected, got) => expected == got,
    };
    if is_same {
        return Ok(());
    }
    Err(Problem {
        expected: format!("{} = {}", call.name, call.result),
        got: format!("{} = {got}", call.name),
        why: "the results differ".to_owned(),
    })
}

/// What was got, with only those network fields that the script names.
fn shown(got: &Packet, expected: &Packet) -> Packet {
    let mut shown = got.clone();
    let named = &expected.network;
    let network = &mut shown.network;
    network.ecn = network.ecn.filter(|_| named.ecn.is_some());
    network.ttl = network.ttl.filter(|_| named.ttl.is_some());
    network.tos = network.tos.filter(|_| named.tos.is_some());
    network.df = network.df.filter(|_| named.df.is_some());
    network.local = network.local.filter(|_| named.local.is_some());
    if let (Body::Tcp(got), Body::Tcp(expected)) = (&mut shown.body, &expected.body)
        && expected.window.is_none_or(|window| window == Number::Any)
    {
        got.window = None;
    }
    shown
}
