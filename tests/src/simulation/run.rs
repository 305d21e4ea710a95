//! One run: a plan and a seed.

use super::draw::Random;
use super::flow::Flow;
use super::plan::{Keys, Plan, What, Which};
use super::watch::{Narrow, Watched};
use bulkhead::artifact::Artifact;
use bulkhead::device::Device;
use bulkhead::device::link::{Direction, Impairments, Link, LinkConfig, LinkEnd};
use bulkhead::device::pcap::{PcapWriter, Tap};
use bulkhead::placement::Instance;
use bulkhead::placement::native::Native;
use bulkhead::{ConnectOptions, ListenOptions, ListenerId, Options, Sizes, Stack, StreamError};
use bulkhead_wit::limits::SECOND;
use bulkhead_wit::{Address, Endpoint, NEVER, Prefix, Setting, Time};
use std::fmt;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::OnceLock;

/// Where the module runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// Natively.
    Native,
    /// In the sandbox.
    Wasm,
}

/// What a run was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// Virtual time that passed.
    pub time: Time,
    /// Connections that were meant to be.
    pub flows: u64,
    /// Those of them that ended with an error, which their plan gives them reason to.
    pub failed: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Segments that left or came in.
    pub segments: u64,
    /// Steps of both modules.
    pub steps: u64,
    /// The most memory that streams of one host held.
    pub memory: usize,
}

impl Outcome {
    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            time: self.time + other.time,
            flows: self.flows + other.flows,
            failed: self.failed + other.failed,
            bytes: self.bytes + other.bytes,
            segments: self.segments + other.segments,
            steps: self.steps + other.steps,
            memory: self.memory.max(other.memory),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.time as f64 / (3600.0 * SECOND as f64);
        write!(
            f,
            "{hours:.2} virtual hours, {} connections ({} failed as they may), {:.1} MB read, {} segments, {} steps",
            self.flows,
            self.failed,
            self.bytes as f64 / 1e6,
            self.segments,
            self.steps
        )
    }
}

/// Why a run failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The plan.
    pub plan: String,
    /// The seed.
    pub seed: u64,
    /// When, in virtual time.
    pub at: Time,
    /// What was wrong.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plan, seed, at, what } = self;
        let (seconds, micros) = (at / SECOND, at % SECOND / 1000);
        writeln!(f, "plan {plan}, seed {seed}, at {seconds}.{micros:06} s: {what}")?;
        write!(f, "again: cargo run -p bulkhead-tests --bin simulate -- {plan} --seed {seed} --pcap .")
    }
}

impl std::error::Error for Failure {}

/// Turns at one time after which a stack is taken for spinning.
const TURNS_AT_ONCE: u32 = 100_000;
/// How long connections that applications are done with may take to go away.
const QUIET: Time = 3600 * SECOND;
/// How soon a connection is tried again that was refused for want of memory.
const RETRY: Time = SECOND / 10;
/// Where servers listen.
const PORT: u16 = 80;

struct Host {
    stack: Stack,
    device: Watched,
    listener: ListenerId,
    address: IpAddr,
    settings: Vec<Setting>,
    memory: usize,
}

struct Run {
    link: Link,
    hosts: [Host; 2],
    flows: Vec<Flow>,
    events: Vec<(Time, What)>,
    random: Random,
    impairments: [Impairments; 2],
    /// When a stall ends, and what follows it.
    stalls: [Option<(Time, Impairments)>; 2],
    now: Time,
    outcome: Outcome,
    may_fail: bool,
}

/// Runs a plan with a seed; `captures` is a folder for what both ends saw.
///
/// # Errors
/// The first rule that was broken.
pub fn simulate(
    plan: &Plan,
    seed: u64,
    placement: Placement,
    captures: Option<PathBuf>,
) -> Result<Outcome, Failure> {
    let mut run = Run::new(plan, seed, placement, captures);
    let result = run.go(plan.limit);
    result.map_err(|what| Failure { plan: plan.name.clone(), seed, at: run.now, what })?;
    Ok(run.outcome)
}

fn instance(placement: Placement) -> Box<dyn Instance> {
    static BUNDLED: OnceLock<Artifact> = OnceLock::new();
    match placement {
        Placement::Native => Box::new(Native::new(Box::new(bulkhead_tcp::Tcp::new()))),
        Placement::Wasm => {
            let artifact = BUNDLED.get_or_init(|| Artifact::bundled().expect("a component that loads"));
            Box::new(artifact.instance().expect("an instance"))
        }
    }
}

/// The address that a host has, the `turn`th one.
fn address(family: u64, host: usize, turn: u8) -> IpAddr {
    let last = 1 + host as u8 + 2 * turn;
    if family == 6 {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)).into()
    } else {
        Ipv4Addr::new(10, 0, 0, last).into()
    }
}

fn impaired(random: &mut Random, keys: &Keys, before: Impairments) -> Impairments {
    let share = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    Impairments {
        loss: share(random.key(keys, "loss", u64::from(before.loss))),
        duplicate: share(random.key(keys, "duplicate", u64::from(before.duplicate))),
        corrupt: share(random.key(keys, "corrupt", u64::from(before.corrupt))),
        reorder: share(random.key(keys, "reorder", u64::from(before.reorder))),
        reorder_delay: random.key(keys, "reorder_delay", before.reorder_delay),
        delay: random.key(keys, "delay", before.delay),
        jitter: random.key(keys, "jitter", before.jitter),
        rate: random.key(keys, "rate", before.rate),
        queue: random.key(keys, "queue", before.queue),
    }
}

impl Run {
    fn new(plan: &Plan, seed: u64, placement: Placement, captures: Option<PathBuf>) -> Self {
        let mut random = Random::new(seed);
        let mut impairments = [Impairments::default(); 2];
        for (way, keys) in &plan.links {
            for (_, one) in impairments.iter_mut().enumerate().filter(|(number, _)| way.is(*number)) {
                *one = impaired(&mut random, keys, *one);
            }
        }
        let config = LinkConfig {
            mtu: random.draw(&plan.mtu) as u32,
            offload: random.draw(&plan.offload) == 1,
            there: impairments[0],
            back: impairments[1],
        };
        let family = random.draw(&plan.family);
        let (link, first, second) = Link::new(config, random.bits());
        let mut host = |number, end| {
            Host::new((plan, number, family), end, config.mtu, placement, captures.as_ref(), &mut random)
        };
        let hosts = [host(0, first), host(1, second)];
        let mut flows = Vec::new();
        for (count, keys) in &plan.flows {
            for _ in 0..random.draw(count) {
                flows.push(Flow::new(flows.len(), keys, &mut random));
            }
        }
        let mut events: Vec<(Time, What)> =
            plan.events.iter().map(|(time, what)| (random.draw(time), what.clone())).collect();
        events.sort_by_key(|(time, _)| *time);
        let outcome = Outcome { flows: flows.len() as u64, ..Outcome::default() };
        Self {
            link,
            hosts,
            flows,
            events,
            random,
            impairments,
            stalls: [None; 2],
            now: 0,
            outcome,
            may_fail: plan.may_fail,
        }
    }

    fn go(&mut self, limit: Time) -> Result<(), String> {
        let mut at_once = 0;
        while !self.flows.iter().all(Flow::is_over) {
            self.happen();
            self.act()?;
            let before = self.now;
            if self.flows.iter().all(Flow::is_over) {
                break;
            }
            let next = self.next_event();
            if next == NEVER || next > limit {
                return Err(format!("no end in sight:\n{}", self.describe()));
            }
            self.now = self.now.max(next);
            at_once = if self.now > before { 0 } else { at_once + 1 };
            if at_once > TURNS_AT_ONCE {
                return Err(format!("time stands still:\n{}", self.describe()));
            }
        }
        self.outcome.time = self.now;
        self.quieten()?;
        self.account()
    }

    /// What the plan has for this time.
    fn happen(&mut self) {
        for number in 0..2 {
            if let Some((until, after)) = self.stalls[number]
                && until <= self.now
            {
                self.stalls[number] = None;
                self.link.set_impairments(way(number), after);
            }
        }
        while self.events.first().is_some_and(|(at, _)| *at <= self.now) {
            let (_, what) = self.events.remove(0);
            self.one(&what);
        }
    }

    fn one(&mut self, what: &What) {
        match what {
            What::Mtu { bytes, told: true } => self.link.set_mtu(self.random.draw(bytes) as u32),
            What::Mtu { bytes, told: false } => {
                let mtu = self.random.draw(bytes) as u32;
                let reports = self.random.between(0, 1) == 1;
                for host in &mut self.hosts {
                    host.device.narrow = Some(Narrow { mtu, reports });
                }
            }
            What::Link(which, keys) => self.each_way(*which, |run, number| {
                let changed = impaired(&mut run.random, keys, run.impairments[number]);
                run.impairments[number] = changed;
                match &mut run.stalls[number] {
                    Some((_, after)) => *after = changed,
                    None => run.link.set_impairments(way(number), changed),
                }
            }),
            What::Stall(which, time) => {
                let until = self.now + self.random.draw(time);
                self.each_way(*which, |run, number| {
                    let after = run.impairments[number];
                    run.stalls[number] = Some((until, after));
                    let nothing = Impairments { loss: 1_000_000, ..after };
                    run.link.set_impairments(way(number), nothing);
                });
            }
            What::Address(host) => {
                let host = &mut self.hosts[*host];
                host.address = next_address(host.address);
                host.stack.set_addresses(vec![whole(host.address)]);
            }
        }
    }

    fn each_way(&mut self, which: Which, mut each: impl FnMut(&mut Self, usize)) {
        (0..2).filter(|number| which.is(*number)).for_each(|number| each(self, number));
    }

    /// Applications and stacks, until neither has more to do at this time.
    fn act(&mut self) -> Result<(), String> {
        for _ in 0..TURNS_AT_ONCE {
            self.applications()?;
            if !self.settle()? {
                return Ok(());
            }
        }
        Err("applications and stacks spin".into())
    }

    /// Connections are opened and accepted, and everybody reads and writes.
    fn applications(&mut self) -> Result<(), String> {
        let now = self.now;
        let addresses = [self.hosts[0].address, self.hosts[1].address];
        for number in 0..self.flows.len() {
            let flow = &mut self.flows[number];
            if !flow.began && flow.start <= now {
                let host = &mut self.hosts[flow.from];
                let to = Endpoint::new(addresses[1 - flow.from].into(), PORT);
                let settings = if flow.settings { host.settings.clone() } else { Vec::new() };
                let options = ConnectOptions { settings, ..ConnectOptions::default() };
                match host.stack.connect(to, options) {
                    Ok(stream) => (flow.began, flow.ends[0].stream) = (true, Some(stream)),
                    // Memory is short: later, perhaps.
                    Err(StreamError::Exhausted) => flow.start = now + RETRY,
                    Err(error) => return Err(format!("connect: {error}")),
                }
            }
        }
        self.accept()?;
        for number in 0..self.flows.len() {
            for end in 0..2 {
                let flow = &mut self.flows[number];
                let host = &mut self.hosts[flow.from ^ end];
                flow.ends[end]
                    .pump(now, &mut host.stack, &host.device)
                    .map_err(|what| format!("{what}\n{}", flow.describe()))?;
            }
            self.learn(number);
            self.no_error(number)?;
        }
        for host in &mut self.hosts {
            while host.stack.next_ready().is_some() {}
            while host.stack.next_ready_listener().is_some() {}
        }
        Ok(())
    }

    /// A client's end becomes known once its SYN was sent.
    fn learn(&mut self, number: usize) {
        let flow = &mut self.flows[number];
        if let (None, Some(stream)) = (flow.client, flow.ends[0].stream)
            && let Some((local, _)) = self.hosts[flow.from].stack.ends(stream)
            && local.port != 0
        {
            flow.client = Some(local);
        }
    }

    fn no_error(&self, number: usize) -> Result<(), String> {
        let flow = &self.flows[number];
        let error = flow.ends.iter().find_map(|end| end.error.as_ref());
        match error {
            Some(error) if !self.may_fail && !flow.is_rough() => {
                Err(format!("a connection failed: {error}\n{}", flow.describe()))
            }
            _ => Ok(()),
        }
    }

    fn accept(&mut self) -> Result<(), String> {
        for number in 0..self.flows.len() {
            self.learn(number);
        }
        for number in 0..2 {
            let host = &mut self.hosts[number];
            while let Ok(accepted) = host.stack.accept(host.listener) {
                let flow = self.flows.iter_mut().find(|flow| {
                    flow.from != number
                        && flow.client == Some(accepted.remote)
                        && flow.ends[1].stream.is_none()
                });
                match flow {
                    Some(flow) => flow.ends[1].stream = Some(accepted.stream),
                    None => return Err(format!("nobody opened the connection from {}", accepted.remote)),
                }
            }
        }
        Ok(())
    }

    /// Both stacks, until neither has more to do at this time. Whether there was anything.
    fn settle(&mut self) -> Result<bool, String> {
        for turns in 0..TURNS_AT_ONCE {
            self.link.advance(self.now);
            let mut again = false;
            for host in &mut self.hosts {
                let turn = host.stack.turn(self.now, &mut host.device).map_err(|fault| fault.report())?;
                again |= turn.steps > 0;
                host.check()?;
                self.outcome.memory = self.outcome.memory.max(host.stack.stream_memory());
            }
            if !again {
                return Ok(turns > 0);
            }
        }
        Err("a stack spins".into())
    }

    fn next_event(&self) -> Time {
        let mut next = self.link.next_event();
        for host in &self.hosts {
            next = next.min(host.stack.next_deadline());
            if host.device.has_reports() {
                next = self.now;
            }
        }
        for flow in &self.flows {
            if !flow.began {
                next = next.min(flow.start);
            }
            next = flow.ends.iter().map(|end| end.next_event(self.now)).fold(next, Time::min);
        }
        let event = self.events.first().map_or(NEVER, |(at, _)| *at);
        let stall = self.stalls.iter().flatten().map(|(until, _)| *until).min().unwrap_or(NEVER);
        next.min(event).min(stall)
    }

    /// Applications are done: nothing may be left behind in the end.
    fn quieten(&mut self) -> Result<(), String> {
        let until = self.now + QUIET;
        loop {
            self.happen();
            self.act()?;
            let next = self.next_event();
            if next == NEVER || next > until {
                break;
            }
            self.now = self.now.max(next);
        }
        for (number, host) in self.hosts.iter().enumerate() {
            if let Some((_, local, remote)) = host.stack.connections().next() {
                return Err(format!("host {number} still has {local} to {remote}:\n{}", self.describe()));
            }
            if host.stack.stream_memory() > 0 {
                return Err(format!("host {number} holds {} bytes for nobody", host.stack.stream_memory()));
            }
        }
        Ok(())
    }

    fn account(&mut self) -> Result<(), String> {
        for flow in &self.flows {
            let [client, server] = &flow.ends;
            client
                .check(server)
                .and_then(|()| server.check(client))
                .map_err(|what| format!("{what}\n{}", flow.describe()))?;
            self.outcome.failed += u64::from(flow.ends.iter().any(|end| end.error.is_some()));
        }
        for host in &self.hosts {
            self.outcome.bytes += host.stack.totals().bytes_in;
            self.outcome.segments += host.device.segments;
            self.outcome.steps += host.stack.cost().steps;
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let open = self.flows.iter().filter(|flow| !flow.is_over());
        open.map(Flow::describe).collect::<Vec<_>>().join("\n")
    }
}

impl Host {
    fn new(
        (plan, number, family): (&Plan, usize, u64),
        end: LinkEnd,
        mtu: u32,
        placement: Placement,
        captures: Option<&PathBuf>,
        random: &mut Random,
    ) -> Self {
        let address = address(family, number, 0);
        let seed = [random.bits(), random.bits(), random.bits(), random.bits()];
        let mut options = Options::new(address, 64, mtu, seed);
        let Sizes { receive_first, receive_max, send_first, send_max, unsent_max } = options.sizes;
        for (_, keys) in plan.hosts.iter().filter(|(which, _)| which.is(number)) {
            let mut size = |name, before: u32| random.key(keys, name, u64::from(before)) as u32;
            options.sizes = Sizes {
                receive_first: size("receive_first", receive_first),
                receive_max: size("receive_max", receive_max),
                send_first: size("send_first", send_first),
                send_max: size("send_max", send_max),
                unsent_max: size("unsent_max", unsent_max),
            };
            options.config.connections = size("connections", options.config.connections);
            options.config.embryos = size("embryos", options.config.embryos);
            options.memory = random.key(keys, "memory", options.memory as u64) as usize;
        }
        let mut settings = Vec::new();
        for (_, key, choice) in plan.settings.iter().filter(|(which, ..)| which.is(number)) {
            settings.push(Setting { key: *key, value: random.draw(choice) });
        }
        options.config.settings.clone_from(&settings);
        let memory = options.memory;
        let mut stack = Stack::new(instance(placement), options).expect("the module starts");
        // Everywhere: the address may change.
        let any =
            Endpoint::new(if family == 6 { Address::UNSPECIFIED } else { Address::from_v4([0; 4]) }, PORT);
        let listen = ListenOptions { backlog: 1024, ..ListenOptions::default() };
        let listener = stack.listen(any, listen).expect("a fresh stack listens");
        let device: Box<dyn Device> = match captures {
            None => Box::new(end),
            Some(folder) => {
                let path = folder.join(format!("{}-{}.pcap", plan.name, ["a", "b"][number]));
                let file = File::create(&path).expect("a file for the capture");
                Box::new(Tap::new(end, PcapWriter::new(file, 0).expect("a capture")))
            }
        };
        Self { stack, device: Watched::new(device), listener, address, settings, memory }
    }

    /// What must hold after every turn.
    fn check(&mut self) -> Result<(), String> {
        if let Some(violation) = self.device.take_violation() {
            return Err(violation);
        }
        let held = self.stack.stream_memory();
        let most = self.stack.memory_bound();
        if held > most {
            return Err(format!("streams hold {held} bytes; {} are budgeted, {most} the bound", self.memory));
        }
        Ok(())
    }
}

const fn way(number: usize) -> Direction {
    if number == 0 { Direction::There } else { Direction::Back }
}

fn next_address(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() + 2).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() + 2).into(),
    }
}

fn whole(address: IpAddr) -> Prefix {
    let length = if address.is_ipv4() { 96 + 24 } else { 64 };
    Prefix { address: address.into(), length }
}
