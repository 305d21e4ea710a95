//! Cells such that every two choices that go together meet in one of them. All combinations would be twenty thousand;
//! what goes wrong between two stacks rarely needs three circumstances at once.

use std::collections::BTreeSet;

use crate::factor::{Cell, Direction, FACTORS, Load};

/// Cells that are drawn for each one that is taken.
const DRAWN: usize = 400;

/// Two choices: factor and number, twice.
type Pair = (usize, usize, usize, usize);

fn pairs_of(choices: [usize; 10]) -> impl Iterator<Item = Pair> {
    let both = move |(at, one): (usize, usize)| {
        (at + 1..choices.len()).map(move |other| (at, one, other, choices[other]))
    };
    choices.into_iter().enumerate().flat_map(both)
}

/// Every cell's choices that go together, by counting.
fn draw(random: &mut u64) -> [usize; 10] {
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
        let mut best: Option<(usize, Cell, [usize; 10])> = None;
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

/// What is to be seen whole, whatever the draw: a gigabyte, and ten thousand connections, in both directions.
pub(crate) fn fixed() -> Vec<Cell> {
    let base = Cell::of([1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let of = |load, direction| base.map(|cell| Cell { load, direction, is_large: true, ..cell });
    let loads = [Load::Download, Load::Connects];
    let all = loads.into_iter().flat_map(|load| Direction::ALL.iter().map(move |way| of(load, *way)));
    all.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::factor::{Fault, Peer};

    #[test]
    fn every_two_choices_meet_in_a_small_matrix() {
        let cells = cells();
        assert!((45..=110).contains(&cells.len()), "{} cells", cells.len());
        for fault in Fault::ALL {
            for load in Load::ALL {
                assert!(
                    cells.iter().any(|cell| cell.fault == *fault && cell.load == *load),
                    "{fault:?} {load:?}"
                );
            }
            for peer in Peer::ALL {
                assert!(
                    cells.iter().any(|cell| cell.fault == *fault && cell.peer == *peer),
                    "{fault:?} {peer:?}"
                );
            }
        }
        assert!(cells.iter().all(|cell| (cell.peer == Peer::Smoltcp) == (cell.load == Load::Echo)));
        assert_eq!(fixed().len(), 4);
    }
}
