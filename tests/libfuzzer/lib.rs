//! What the fuzz targets share: cases as text, and changes of them.

use bulkhead::fuzz::{Case, Mutator};

/// Reads a case; what is none is no input.
#[must_use]
pub fn case(bytes: &[u8]) -> Option<Case> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// A change of a case in place, as libFuzzer asks for it: `text` has `size` bytes of a case and room for more. Gives the new
/// size.
pub fn change(text: &mut [u8], size: usize, seed: u32) -> usize {
    let mut mutator = Mutator::seeded(seed.into());
    let before = text.get(..size).and_then(case);
    let changed = match before {
        Some(case) if !case.events.is_empty() => mutator.mutate(&case, &case),
        _ => mutator.fresh(),
    };
    put(text, size, &changed)
}

/// A part of one case and a part of another.
pub fn cross(one: &[u8], other: &[u8], into: &mut [u8], seed: u32) -> usize {
    let (Some(one), Some(other)) = (case(one), case(other)) else { return 0 };
    let crossed = Mutator::seeded(seed.into()).mutate(&one, &other);
    put(into, 0, &crossed)
}

fn put(into: &mut [u8], otherwise: usize, case: &Case) -> usize {
    let text = case.to_string();
    let Some(room) = into.get_mut(..text.len()) else { return otherwise };
    room.copy_from_slice(text.as_bytes());
    text.len()
}
