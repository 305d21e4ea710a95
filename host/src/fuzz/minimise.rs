//! Makes a case small while it still shows what it shows: events go, then what is particular about the others.

use super::case::{Call, Case, Event, Segment};

/// Makes `case` smaller as long as `holds` says yes, with at most `budget` questions.
pub fn minimise(case: &Case, budget: usize, mut holds: impl FnMut(&Case) -> bool) -> Case {
    let mut best = case.clone();
    let mut left = budget;
    let mut ask = |best: &mut Case, candidate: Case| {
        let better = left > 0 && candidate != *best && {
            left -= 1;
            holds(&candidate)
        };
        if better {
            *best = candidate;
        }
        better
    };
    loop {
        let before = best.clone();
        events(&mut best, &mut ask);
        fields(&mut best, &mut ask);
        if best == before {
            return best;
        }
    }
}

type Ask<'a> = dyn FnMut(&mut Case, Case) -> bool + 'a;

/// Leaves out runs of events, from half of them down to single ones.
fn events(best: &mut Case, ask: &mut Ask<'_>) {
    let mut run = best.events.len().div_ceil(2);
    while run > 0 {
        let mut at = 0;
        while at < best.events.len() {
            let mut candidate = best.clone();
            let end = (at + run).min(candidate.events.len());
            drop(candidate.events.drain(at..end));
            if !ask(best, candidate) {
                at += run;
            }
        }
        run /= 2;
    }
}

/// Sets what is particular about each event to what is usual, one thing after the other.
fn fields(best: &mut Case, ask: &mut Ask<'_>) {
    for at in 0..best.events.len() {
        let mut way = 0;
        // What was gained is where the next attempt begins: each way is taken as long as it leads on.
        while let Some(simple) = best.events.get(at).and_then(|event| simpler(event).into_iter().nth(way)) {
            let mut candidate = best.clone();
            if let Some(event) = candidate.events.get_mut(at) {
                *event = simple;
            }
            way += usize::from(!ask(best, candidate));
        }
    }
}

/// The same event with one thing less about it, each in its own way.
fn simpler(event: &Event) -> Vec<Event> {
    match event {
        Event::Segment(segment) => segments(segment),
        Event::Raw(bytes) => {
            let (mut half, mut less) = (bytes.clone(), bytes.clone());
            half.truncate(bytes.len() / 2);
            less.pop();
            [half, less].into_iter().filter(|bytes| !bytes.is_empty()).map(Event::Raw).collect()
        }
        Event::Wait { us } | Event::Stall { us } => {
            vec![Event::Wait { us: 1 << us.checked_ilog2().unwrap_or(0) }, Event::Wait { us: us / 2 }]
        }
        Event::Call(Call::Write(flow, count)) => {
            vec![Call::Write(*flow, 1).into(), Call::Write(*flow, count / 2).into()]
        }
        Event::Fair { rounds } => vec![Event::Fair { rounds: rounds / 2 }],
        _ => Vec::new(),
    }
}

fn segments(segment: &Segment) -> Vec<Event> {
    let mut simple = Vec::new();
    let mut with = |change: &dyn Fn(&mut Segment)| {
        let mut copy = segment.clone();
        change(&mut copy);
        simple.push(Event::from(copy));
    };
    with(&|s| s.seq = 0);
    with(&|s| s.ack = 0);
    with(&|s| s.window = 65_535);
    with(&|s| s.urgent = 0);
    with(&|s| s.length = 0);
    with(&|s| s.length /= 2);
    with(&|s| s.gso = 0);
    with(&|s| s.cut = 0);
    with(&|s| s.ecn = 0);
    with(&|s| s.port = 0);
    with(&|s| (s.repeat, s.stride) = (0, 0));
    with(&|s| s.repeat /= 2);
    with(&|s| s.options.clear());
    for at in 0..segment.options.len() {
        with(&|s| drop(s.options.remove(at)));
    }
    simple
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::case::{ACK, TcpOption};

    #[test]
    fn what_does_not_matter_goes() {
        let mut guilty = Segment::new(1, ACK);
        (guilty.seq, guilty.window, guilty.length, guilty.urgent) = (7, 5, 100, 9);
        guilty.options = vec![TcpOption::Nop, TcpOption::Mss(0), TcpOption::SackPermitted];
        let mut events = vec![Event::Wait { us: 5 }; 20];
        events.insert(13, guilty.into());
        let holds = |case: &Case| {
            case.events.iter().any(|event| {
                matches!(event, Event::Segment(s) if s.window == 5 && s.options.contains(&TcpOption::Mss(0)))
            })
        };
        let small = minimise(&Case { events }, 1000, holds);
        assert_eq!(small.to_string(), "seg 1 A win=5 opts=mss:0\n");
    }

    #[test]
    fn the_budget_is_kept() {
        let mut asked = 0;
        let case = Case { events: vec![Event::Wait { us: 1 << 40 }; 50] };
        minimise(&case, 17, |_| {
            asked += 1;
            true
        });
        assert!(asked <= 17);
    }
}
