//! What is measured, and how often.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;

use bulkhead::compare::{
    Figure, Kernel, Results, bulk_in, bulk_out, connections, idle, pin, ping_pong, requests, run, share,
};

use crate::subject::{Kind, STACK4, STACK6, Subject};

/// A measurement.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Workload {
    /// Bulk into the stack: one and eight flows, IPv4 and IPv6
    In,
    /// Bulk out of the stack
    Out,
    /// Round trips of one byte
    Ping,
    /// Requests a second over 1, 100 and 1,000 connections, with short and long answers
    Requests,
    /// Connect, request, close
    Connections,
    /// Memory of an idle connection
    Memory,
    /// CPU time of a request where 10 are active of 10 or of 100,000 connections, or all are
    Many,
    /// What a step costs in the sandbox and natively
    Step,
    /// What a segment costs the module, by the number of connections
    Segment,
}

impl Workload {
    // Memory first, and what needs the most of it last: what a process has used once stays with it.
    pub(crate) const ALL: [Self; 9] = [
        Self::Step,
        Self::Segment,
        Self::Memory,
        Self::In,
        Self::Out,
        Self::Ping,
        Self::Requests,
        Self::Connections,
        Self::Many,
    ];

    /// How often it is measured where others are once: bulk takes a fraction of a second, and is what another machine on the same
    /// processor disturbs most.
    fn times(self) -> usize {
        if matches!(self, Self::In | Self::Out) { 3 } else { 1 }
    }

    /// Whether it is measured with this stack at all.
    fn is_of(self, kind: Kind) -> bool {
        kind != Kind::Polling || matches!(self, Self::Ping | Self::Requests)
    }

    /// Whether it is measured in this process, without a network.
    pub(crate) fn is_alone(self) -> bool {
        matches!(self, Self::Step | Self::Segment)
    }
}

/// What to run.
pub(crate) struct Plan {
    pub(crate) kinds: Vec<Kind>,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) repetitions: usize,
    pub(crate) is_quick: bool,
    /// The server over lwIP.
    pub(crate) lwip: Option<PathBuf>,
}

/// What a measurement needs to know of the stack.
struct Target<'a> {
    subject: &'a Subject,
    column: usize,
    v4: Kernel,
    v6: Kernel,
    is_quick: bool,
}

impl Plan {
    /// Starts all subjects and measures them in turns.
    pub(crate) fn run(&self) -> anyhow::Result<Results> {
        let mut subjects = Vec::new();
        for kind in &self.kinds {
            subjects.push(Subject::start(*kind, self.lwip.as_deref()).with_context(|| kind.name())?);
        }
        let names = self.kinds.iter().map(|kind| kind.name().to_owned()).collect();
        let mut results = Results::new(names, self.repetitions);
        for workload in self.workloads.iter().filter(|workload| !workload.is_alone()) {
            let repetitions = self.repetitions * workload.times();
            for repetition in 0..repetitions {
                let measured = subjects.iter().enumerate().filter(|(_, one)| workload.is_of(one.kind));
                for (column, subject) in measured {
                    eprint!("\r\x1b[K{workload:?} {}/{repetitions}: {}", repetition + 1, subject.kind.name());
                    let target = Target {
                        subject,
                        column,
                        v4: Kernel(STACK4.parse()?),
                        v6: Kernel(STACK6.parse()?),
                        is_quick: self.is_quick,
                    };
                    target.measure(*workload, (repetition, repetitions), &mut results);
                }
            }
        }
        eprint!("\r\x1b[K");
        Ok(results)
    }
}

impl Target<'_> {
    fn measure(&self, workload: Workload, (repetition, repetitions): (usize, usize), results: &mut Results) {
        match workload {
            Workload::In | Workload::Out => self.bulk(workload == Workload::In, results),
            Workload::Ping => self.ping(results),
            Workload::Requests => self.requests(results),
            Workload::Connections => self.connections(results),
            Workload::Memory if repetition == 0 => self.memory(results),
            Workload::Many if repetition == 0 => self.many(repetitions, results),
            Workload::Memory | Workload::Many | Workload::Step | Workload::Segment => {}
        }
    }

    /// Runs it in the peer's namespace; what fails is told, and leaves a gap in the table.
    fn inside<T: Send>(
        &self,
        figure: &str,
        work: impl AsyncFnOnce() -> std::io::Result<T> + Send,
    ) -> Option<T> {
        let result = self.subject.peer.inside(|| run(work())).and_then(|result| result);
        result.inspect_err(|error| eprintln!("\r\x1b[K{}: {figure}: {error}", self.subject.kind.name())).ok()
    }

    fn add(&self, results: &mut Results, figure: &Figure, value: Option<f64>) {
        results.add(figure, self.column, value);
    }

    fn is_fast(&self) -> bool {
        !matches!(self.subject.kind, Kind::WasmPlain | Kind::NativePlain | Kind::Smoltcp | Kind::Lwip)
    }

    fn bulk(&self, is_in: bool, results: &mut Results) {
        let way = if is_in { "into the stack" } else { "out of the stack" };
        let bytes: u64 = if self.is_quick { 64 << 20 } else { 192 << 20 };
        let bytes = if self.is_fast() { bytes * 12 } else { bytes };
        for (address, flows, what) in
            [(self.v4, 1, "1 flow"), (self.v4, 8, "8 flows"), (self.v6, 1, "1 flow, IPv6")]
        {
            if address.0 != self.v4.0 && self.subject.kind == Kind::Smoltcp {
                continue;
            }
            let name = format!("bulk {way}, {what}");
            let cpu = self.subject.cpu();
            let rate = self.inside(&name, async || {
                if is_in {
                    bulk_in(&address, flows, bytes).await
                } else {
                    bulk_out(&address, flows, bytes).await
                }
            });
            let cpu = self.subject.cpu() - cpu;
            self.add(results, &Figure::new(&name, "Gbit/s"), rate.map(|rate| rate * 8.0 / 1e9));
            if flows == 1 && address.0 == self.v4.0 {
                let per = cpu / (bytes as f64 / f64::from(1 << 30));
                let figure = Figure::less(&format!("CPU of the server a GiB {way}"), "s");
                self.add(results, &figure, rate.map(|_| per));
            }
        }
    }

    fn ping(&self, results: &mut Results) {
        // Where a wake-up goes to another processor, it is most of the time; the scheduler sends the kernel's own to
        // the same one and those of a TUN device elsewhere. So both are measured: together on one, and as it comes.
        for (processor, place) in [(Some(0), ", one CPU"), (None, "")] {
            if processor.is_some() && self.subject.kind == Kind::Polling {
                // Who polls needs a processor of its own.
                continue;
            }
            self.subject.pin(processor);
            self.ping_there(processor, place, results);
        }
    }

    fn ping_there(&self, processor: Option<usize>, place: &str, results: &mut Results) {
        let count = if self.is_quick { 2_000 } else { 10_000 };
        let switches = self.subject.switches();
        let times = self.inside("ping-pong", async || {
            pin(None, processor);
            ping_pong(&self.v4, count).await
        });
        let Some(times) = times else { return };
        let switches = (self.subject.switches() - switches) / (count as f64 * 1.1);
        for (part, name) in [(0.5, "p50"), (0.99, "p99"), (0.999, "p99.9")] {
            let value = share(&times, part).map(|time| time / 1e3);
            self.add(results, &Figure::less(&format!("1-byte round trip{place}, {name}"), "us"), value);
        }
        let figure = Figure::less(&format!("context switches of the server a round trip{place}"), "");
        self.add(results, &figure, Some(switches));
    }

    fn requests(&self, results: &mut Results) {
        let time = Duration::from_millis(if self.is_quick { 300 } else { 1_000 });
        for (is_long, answer) in [(false, "64 B"), (true, "16 KiB")] {
            for connections in [1, 100, 1_000] {
                if self.subject.kind == Kind::Smoltcp && connections > 100 {
                    continue;
                }
                let name = format!("requests, {answer} back, {connections} connections");
                let cpu = self.subject.cpu();
                let rate = self.inside(&name, async || requests(&self.v4, is_long, connections, time).await);
                let cpu = (self.subject.cpu() - cpu) * 1e6;
                self.add(results, &Figure::new(&name, "1/s"), rate);
                if connections == 100 {
                    let figure = Figure::less(&format!("CPU of the server a request, {answer} back"), "us");
                    let per = rate.map(|rate| cpu / (rate * time.as_secs_f64()));
                    self.add(results, &figure, per);
                }
            }
        }
    }

    fn connections(&self, results: &mut Results) {
        let time = Duration::from_millis(if self.is_quick { 300 } else { 1_000 });
        let name = "connect, request, close, 16 at a time";
        let rate = self.inside(name, async || connections(&self.v4, 16, time).await);
        self.add(results, &Figure::new(name, "1/s"), rate);
    }

    fn memory(&self, results: &mut Results) {
        if self.subject.kind == Kind::Smoltcp {
            return;
        }
        let count = if self.is_quick { 1_000 } else { 5_000 };
        let before = self.subject.memory();
        let name = "memory of the server's process an idle connection";
        let after = self.inside(name, async || idle(&self.v4, count, || self.subject.memory()).await);
        let value = after.map(|after| (after - before) / count as f64);
        self.add(results, &Figure::less(name, "bytes"), value);
    }

    fn many(&self, repetitions: usize, results: &mut Results) {
        if !matches!(self.subject.kind, Kind::Kernel | Kind::Wasm | Kind::Native) {
            return;
        }
        let most = if self.is_quick { 10_000 } else { 100_000 };
        let measured = crate::crowd::measure(self.subject, most, repetitions);
        let told = measured.inspect_err(|error| eprintln!("\r\x1b[K{}: {error:#}", self.subject.kind.name()));
        let Ok(values) = told else { return };
        let names =
            ["10 active of 10".to_owned(), format!("10 active of {most}"), format!("all active of {most}")];
        for (name, values) in names.iter().zip(&values) {
            let figure = Figure::less(&format!("CPU of both ends a request, {name}"), "us");
            values.iter().for_each(|value| self.add(results, &figure, Some(value / 1e3)));
        }
        let [alone, rest @ ..] = values;
        let mut sorted = alone;
        sorted.sort_by(f64::total_cmp);
        let alone = share(&sorted, 0.5).unwrap_or(f64::NAN);
        for (name, values) in names.iter().skip(1).zip(rest) {
            let figure = Figure::less(&format!("the same, {name}, by that of 10 of 10"), "");
            values.iter().for_each(|value| self.add(results, &figure, Some(value / alone)));
        }
    }
}
