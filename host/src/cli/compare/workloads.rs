//! What is done to a stack, and what is measured then.

use std::time::Duration;

use bulkhead::compare::{
    Figure, Peer, Results, Usage, bulk_in, bulk_out, connections, idle, ping_pong, requests, share,
};

use super::progress;
use super::subject::{Place, Subject, Work};

/// Connections that ask at the same time.
const ASKING: usize = 16;

pub(super) const PING: &str = "1-byte round trip, p50";
pub(super) const BULK_IN: &str = "bulk into the stack";
pub(super) const BULK_OUT: &str = "bulk out of the stack";
pub(super) const REQUESTS: &str = "requests, 64 bytes back, 16 connections";
pub(super) const REQUEST_CPU: &str = "CPU a request";
pub(super) const CONNECTIONS: &str = "connect, request, close, 16 at a time";

/// How much is done.
#[derive(Clone, Copy)]
struct Size {
    rounds: usize,
    bytes: u64,
    time: Duration,
    idle: usize,
}

/// What is done.
#[derive(Clone, Copy)]
enum Task {
    Ping,
    In,
    Out,
    Requests,
    Connections,
    Memory,
}

impl Task {
    // Memory first: what a process has used once stays with it.
    const ALL: [Self; 6] = [Self::Memory, Self::Ping, Self::In, Self::Out, Self::Requests, Self::Connections];
}

struct Ping(usize);
struct Bulk {
    is_in: bool,
    bytes: u64,
}
struct Requests(Duration);
struct Connections(Duration);
struct Idle<'a>(usize, &'a [Usage]);

impl Work<Vec<f64>> for Ping {
    async fn with<P: Peer>(self, peer: &P) -> std::io::Result<Vec<f64>> {
        ping_pong(peer, self.0).await
    }
}

impl Work<f64> for Bulk {
    async fn with<P: Peer>(self, peer: &P) -> std::io::Result<f64> {
        if self.is_in { bulk_in(peer, 1, self.bytes).await } else { bulk_out(peer, 1, self.bytes).await }
    }
}

impl Work<f64> for Requests {
    async fn with<P: Peer>(self, peer: &P) -> std::io::Result<f64> {
        requests(peer, false, ASKING, self.0).await
    }
}

impl Work<f64> for Connections {
    async fn with<P: Peer>(self, peer: &P) -> std::io::Result<f64> {
        connections(peer, ASKING, self.0).await
    }
}

impl Work<f64> for Idle<'_> {
    async fn with<P: Peer>(self, peer: &P) -> std::io::Result<f64> {
        let memory = || self.1.iter().map(|process| process.memory(false)).sum::<f64>();
        // What grows with the first connections alone is not theirs.
        idle(peer, self.0 / 10, || ()).await?;
        let before = memory();
        Ok((idle(peer, self.0, memory).await? - before) / self.0 as f64)
    }
}

/// Measures all subjects in turns, workload by workload.
pub(super) fn all<P: Place>(
    subjects: &[Subject<P>],
    is_quick: bool,
    repetitions: usize,
    results: &mut Results,
) -> anyhow::Result<()> {
    let size = if is_quick {
        Size { rounds: 1_500, bytes: 128 << 20, time: Duration::from_millis(150), idle: 300 }
    } else {
        Size { rounds: 10_000, bytes: 1 << 30, time: Duration::from_millis(800), idle: 2_000 }
    };
    for task in Task::ALL {
        for repetition in 0..repetitions {
            for (column, subject) in subjects.iter().enumerate() {
                let name = subject.variant.name();
                progress(&format!("{} {}/{repetitions}: {name}", P::NAME, repetition + 1));
                if let Err(error) = subject.measure(task, size, &mut Column { results, column }) {
                    // What fails is told, and leaves a gap in the table.
                    eprintln!("\r\x1b[K{name}, {}: {error}", P::NAME);
                }
            }
        }
    }
    Ok(())
}

/// Where values go.
struct Column<'a> {
    results: &'a mut Results,
    column: usize,
}

impl Column<'_> {
    fn more(&mut self, name: &str, unit: &'static str, value: f64) {
        self.results.add(&Figure::new(name, unit), self.column, Some(value));
    }

    fn less(&mut self, name: &str, unit: &'static str, value: Option<f64>) {
        self.results.add(&Figure::less(name, unit), self.column, value);
    }
}

impl<P: Place> Subject<P> {
    fn cpu(&self) -> f64 {
        self.place.processes().into_iter().map(Usage::cpu).sum()
    }

    fn switches(&self) -> f64 {
        self.place.processes().into_iter().map(Usage::switches).sum()
    }

    fn measure(&self, task: Task, size: Size, to: &mut Column<'_>) -> std::io::Result<()> {
        let (cpu, switches) = (self.cpu(), self.switches());
        match task {
            Task::Memory => {
                let processes = self.place.processes();
                let bytes = self.place.against(Idle(size.idle, &processes))?;
                to.less("memory a connection", "bytes", Some(bytes));
            }
            Task::Ping => {
                self.place.together(self.variant, true);
                let result = self.place.against(Ping(size.rounds));
                let switches = (self.switches() - switches) / (size.rounds as f64 * 1.1);
                self.place.together(self.variant, false);
                let times = result?;
                for (part, name) in
                    [(0.5, PING), (0.99, "1-byte round trip, p99"), (0.999, "1-byte round trip, p99.9")]
                {
                    to.less(name, "us", share(&times, part).map(|time| time / 1e3));
                }
                to.less("context switches a round trip", "", Some(switches));
            }
            Task::In | Task::Out => {
                let is_in = matches!(task, Task::In);
                let (name, per) = if is_in {
                    (BULK_IN, "CPU a GiB into the stack")
                } else {
                    (BULK_OUT, "CPU a GiB out of the stack")
                };
                let rate = self.place.against(Bulk { is_in, bytes: size.bytes })?;
                to.more(name, "Gbit/s", rate * 8e-9);
                let gibibytes = size.bytes as f64 / f64::from(1 << 30);
                to.less(per, "s", Some((self.cpu() - cpu) / gibibytes));
            }
            Task::Requests => {
                let rate = self.place.against(Requests(size.time))?;
                let count = rate * size.time.as_secs_f64();
                to.more(REQUESTS, "1/s", rate);
                to.less(REQUEST_CPU, "us", Some((self.cpu() - cpu) * 1e6 / count));
                to.less("context switches a request", "", Some((self.switches() - switches) / count));
            }
            Task::Connections => {
                let rate = self.place.against(Connections(size.time))?;
                to.more(CONNECTIONS, "1/s", rate);
            }
        }
        Ok(())
    }
}
