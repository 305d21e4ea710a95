//! A model, no measurement: where each placement would end on machines with more processors.
//!
//! A small simulation in virtual time. Every processor has an application that handles requests one after the other
//! and up to [`UNDER_WAY`] of them at a time: it works on a request, hands it to the protocol code, and goes on when the
//! answer is there. What differs is where protocol code runs:
//!
//! - beside the application, on its processor (`native` and `wasm`, a shard each);
//! - in one server for all, as in the microkernel of the letter: requests wait there in one line;
//! - in a server for each pair of processors, one of which it has to itself.
//!
//! Costs are those that this run measured: of the application and the host for a request, of a step, of crossing into
//! a placement and back. What the model leaves out favours nobody in particular: memory bandwidth, caches that are
//! shared, strays between shards, and the device.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write as _;

use bulkhead::compare::{Results, short};
use serde_json::{Value, json};

use super::hops::{EMPTY, ONE};
use super::workloads::REQUEST_CPU;

/// How it is called, wherever it is shown.
pub(super) const TITLE: &str = "A model, not a measurement: requests a second on more processors";
/// Its assumptions, in a sentence or two.
pub(super) const ASSUMPTIONS: &str = "Simulated with the costs that this run measured for a request in the application \
    and host, for a step, and for crossing into a placement and back. Every processor brings its own requests; a server \
    handles one step at a time. Left out: memory bandwidth, shared caches, strays between shards, the device.";

/// Processors.
pub(super) const WAYS: [usize; 5] = [1, 2, 16, 64, 256];
/// Requests that an application has under way.
const UNDER_WAY: u32 = 4;
/// Steps of a request: it comes and its answer leaves.
const STEPS: f64 = 2.0;
/// Requests of a simulation, for each processor.
const REQUESTS: u64 = 400;

/// Where a placement ends.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) name: String,
    /// Requests a second, for each number of processors.
    pub(super) rates: Vec<f64>,
}

/// What a request costs, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Costs {
    /// In the application and host, its side of the crossing included.
    own: f64,
    /// In the protocol code, and where that is elsewhere in its side of the crossing.
    protocol: f64,
}

/// Who runs protocol code.
#[derive(Clone, Copy, Debug)]
enum Servers {
    Beside,
    One,
    EachPair,
}

/// Every placement that was measured, at every number of processors.
pub(super) fn model(calls: &Results, inside: &Results) -> Vec<Line> {
    let step = |name: &str| calls.median(ONE, name);
    let crossing = |name: &str| Some((calls.median(EMPTY, name)? - calls.median(EMPTY, "native")?).max(0.0));
    // Both stacks, both applications and the host are in what a request costs natively; one side of it is half.
    let request = inside.median(REQUEST_CPU, "native").map(|us| us * 1e3 / 2.0);
    let (Some(request), Some(native)) = (request, step("native")) else { return Vec::new() };
    let own = (request - STEPS * native).max(0.0);
    let mut lines = Vec::new();
    let mut add = |name: &str, costs: Costs, servers: Servers| {
        let rates = WAYS.iter().map(|ways| simulate(costs, servers, *ways)).collect();
        lines.push(Line { name: name.to_owned(), rates });
    };
    for name in ["native", "wasm", "process, same CPU"] {
        if let Some(crossing) = crossing(name) {
            let costs = Costs { own: own + STEPS * crossing, protocol: STEPS * native };
            add(&format!("{name}: a shard on each processor"), costs, Servers::Beside);
        }
    }
    // Half of a crossing is the server's: it wakes, decodes and answers.
    let name = "process, spinning";
    if let Some(crossing) = crossing(name) {
        let half = STEPS * crossing / 2.0;
        let costs = Costs { own: own + half, protocol: STEPS * native + half };
        add(&format!("{name}: one server for all"), costs, Servers::One);
        add(&format!("{name}: a server for each pair"), costs, Servers::EachPair);
    }
    lines
}

/// Requests a second, by simulation: a closed system, the earliest event first.
fn simulate(costs: Costs, servers: Servers, ways: usize) -> f64 {
    let (applications, lines) = match servers {
        Servers::Beside => return ways as f64 * 1e9 / (costs.own + costs.protocol),
        // The server has a processor, as long as there is more than one.
        Servers::One => (ways.saturating_sub(1).max(1), 1),
        Servers::EachPair => (ways.div_ceil(2), ways.div_ceil(2)),
    };
    if ways == 1 {
        return 1e9 / (costs.own + costs.protocol);
    }
    let (own, protocol) = (costs.own.max(1.0) as u64, costs.protocol.max(1.0) as u64);
    let mut free_at = vec![0u64; applications];
    let mut server_free_at = vec![0u64; lines];
    // When a request is ready for its application.
    let mut ready: BinaryHeap<Reverse<(u64, usize)>> =
        (0..UNDER_WAY).flat_map(|_| (0..applications).map(|number| Reverse((0, number)))).collect();
    let (total, mut done, mut now) = (REQUESTS * applications as u64, 0, 0);
    while done < total
        && let Some(Reverse((at, number))) = ready.pop()
    {
        let (Some(free), Some(server)) = (free_at.get_mut(number), server_free_at.get_mut(number % lines))
        else {
            break;
        };
        *free = at.max(*free) + own;
        *server = (*free).max(*server) + protocol;
        ready.push(Reverse((*server, number)));
        now = now.max(*server);
        done += 1;
    }
    done as f64 * 1e9 / now.max(1) as f64
}

/// For people.
pub(super) fn text(lines: &[Line]) -> String {
    let mut out = format!("{ASSUMPTIONS}\n\n{:48}", "");
    for ways in WAYS {
        let _ = write!(out, "{:>14}", format!("{ways} CPUs"));
    }
    out.push('\n');
    for line in lines {
        let _ = write!(out, "{:48}", line.name);
        for rate in &line.rates {
            let _ = write!(out, "{:>14}", short(*rate));
        }
        out.push('\n');
    }
    out
}

/// For programs.
pub(super) fn json(lines: &[Line]) -> Value {
    let lines: Vec<Value> =
        lines.iter().map(|line| json!({ "name": line.name, "requests_a_second": line.rates })).collect();
    json!({ "title": TITLE, "assumptions": ASSUMPTIONS, "processors": WAYS, "lines": lines })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_is_the_bound_and_pairs_grow() {
        let costs = Costs { own: 1000.0, protocol: 1000.0 };
        let one: Vec<f64> = WAYS.iter().map(|ways| simulate(costs, Servers::One, *ways)).collect();
        // A step takes a microsecond, so one server does a million a second and no more.
        assert!(one[4] <= 1.001e6 && one[4] > 0.95e6, "{one:?}");
        let pairs = simulate(costs, Servers::EachPair, 256);
        assert!((pairs / one[4] - 128.0).abs() < 8.0, "{pairs} {one:?}");
        assert_eq!(simulate(costs, Servers::Beside, 16), 8e6);
    }
}
