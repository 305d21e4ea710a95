//! Cells such that every two choices that go together meet in one of them. All combinations would be twenty thousand;
//! what goes wrong between two stacks rarely needs three circumstances at once.

use std::collections::BTreeSet;

use crate::factor::{COUNT, Cell, Direction, FACTORS, Ip, Load};

/// Cells that are drawn for each one that is taken.
const DRAWN: usize = 400;

/// Two choices: factor and number, twice.
type Pair = (usize, usize, usize, usize);

fn pairs_of(choices: [usize; COUNT]) -> impl Iterator<Item = Pair> {
    let both = move |(at, one): (usize, usize)| {
        (at + 1..choices.len()).map(move |other| (at, one, other, choices[other]))
    };
    choices.into_iter().enumerate().flat_map(both)
}

/// Every cell's choices that go together, by counting.
fn draw(random: &mut u64) -> [usize; COUNT] {
    FACTORS.map(|count| {
        // xorshift64: the same cells in every run.
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        (*random >> 33) as usize % count
    })
}

/// The reduced matrix; those that cover most come first.
pub(crate) fn cells() -> Vec<Cell> {
    let mut random = 0x696e_7465_726f_7000;
    let mut open = BTreeSet::new();
    // A pair goes together if some cell has it; with this many draws every one that does is found.
    for _ in 0..200_000 {
        let choices = draw(&mut random);
        if Cell::of(choices).is_some() {
            open.extend(pairs_of(choices));
        }
    }
    let mut cells = Vec::new();
    while !open.is_empty() {
        let mut best: Option<(usize, Cell, [usize; COUNT])> = None;
        for _ in 0..DRAWN {
            let choices = draw(&mut random);
            let Some(cell) = Cell::of(choices) else { continue };
            let gain = pairs_of(choices).filter(|pair| open.contains(pair)).count();
            if best.is_none_or(|(most, ..)| gain > most) {
                best = Some((gain, cell, choices));
            }
        }
        let Some((1.., cell, choices)) = best else { continue };
        open = open.difference(&pairs_of(choices).collect()).copied().collect();
        cells.push(cell);
    }
    cells
}

/// What is to be seen whole, whatever the draw: a gigabyte, and ten thousand connections, in both directions, and each over
/// one version of IP.
pub(crate) fn fixed() -> Vec<Cell> {
    let base = Cell::of([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let of = |(load, direction, ip)| base.map(|cell| Cell { load, direction, ip, is_large: true, ..cell });
    let all = [
        (Load::Download, Direction::In, Ip::V4),
        (Load::Download, Direction::Out, Ip::V6),
        (Load::Connects, Direction::In, Ip::V6),
        (Load::Connects, Direction::Out, Ip::V4),
    ];
    all.into_iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::factor::{Fault, Peer};

    #[test]
    fn every_two_choices_meet_in_a_small_matrix() {
        let cells = cells();
        assert!((54..=130).contains(&cells.len()), "{} cells", cells.len());
        let has = |is: &dyn Fn(&Cell) -> bool| cells.iter().any(is);
        for peer in Peer::ALL {
            for load in Load::ALL {
                assert!(has(&|cell| cell.peer == *peer && cell.load == *load), "{peer:?} {load:?}");
            }
            for fault in Fault::ALL {
                assert!(has(&|cell| cell.peer == *peer && cell.fault == *fault), "{peer:?} {fault:?}");
            }
            for ip in Ip::ALL {
                assert!(has(&|cell| cell.peer == *peer && cell.ip == *ip), "{peer:?} {ip:?}");
            }
            for mtu in [576, 1280, 1500, 9000] {
                assert!(has(&|cell| cell.peer == *peer && cell.mtu == mtu), "{peer:?} {mtu}");
            }
        }
        for load in Load::ALL {
            for ip in Ip::ALL {
                assert!(has(&|cell| cell.load == *load && cell.ip == *ip), "{load:?} {ip:?}");
            }
            for rtt in [0, 10, 100] {
                assert!(has(&|cell| cell.load == *load && cell.rtt.as_millis() == rtt), "{load:?} {rtt}");
            }
        }
        assert!(!has(&|cell| cell.ip == Ip::V6 && cell.mtu == 576), "IPv6 needs 1280");
        assert_eq!(fixed().len(), 4);
    }
}
