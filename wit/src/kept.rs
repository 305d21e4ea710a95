//! A module's state as bytes, for `save` and `load`: numbers of 64 bits, little endian. A record's list of fields, which
//! [`kept!`](crate::kept!) is given, is both how it is written and how it is read: so the two cannot differ, and equal states
//! give equal bytes.
//!
//! For a module whose state is small: every number takes eight bytes, whatever its width.

use crate::limits::CONNECTIONS;
use crate::types::{Address, Endpoint, Handle, Listen, Listening};
use alloc::vec::Vec;

/// Goes through a state: writes it, or reads what is left of one, which is `None` once something was wrong with it.
#[derive(Debug)]
pub enum Walk<'a> {
    /// What has been written.
    Write(Vec<u8>),
    /// What is still to be read.
    Read(Option<&'a [u8]>),
}

impl Walk<'_> {
    /// A number, which is at most `most`: the one that is written, or the one that was read.
    pub fn number(&mut self, value: u64, most: u64) -> u64 {
        match self {
            Self::Write(to) => {
                to.extend_from_slice(&value.to_le_bytes());
                value
            }
            Self::Read(rest) => {
                let cut = rest.and_then(<[u8]>::split_first_chunk);
                let cut = cut.map(|(first, rest)| (u64::from_le_bytes(*first), rest));
                let cut = cut.filter(|(number, _)| *number <= most);
                *rest = cut.map(|(_, rest)| rest);
                cut.map_or(0, |(number, _)| number)
            }
        }
    }
}

/// What is part of a saved state.
pub trait Kept {
    /// Writes this value, or becomes the one that is read.
    fn walk(&mut self, to: &mut Walk<'_>);
}

/// The state of a module behind the number of its format.
#[must_use]
pub fn save(format: u64, state: &mut impl Kept) -> Vec<u8> {
    let mut to = Walk::Write(format.to_le_bytes().into());
    state.walk(&mut to);
    if let Walk::Write(bytes) = to { bytes } else { Vec::new() }
}

/// Reads a state into `state`: all of the bytes, in this format. Says whether that is what they are.
#[must_use]
pub fn load(format: u64, bytes: &[u8], state: &mut impl Kept) -> bool {
    let mut from = Walk::Read(bytes.strip_prefix(&format.to_le_bytes()));
    state.walk(&mut from);
    matches!(from, Walk::Read(Some([])))
}

macro_rules! numbers {
    ($($kind:ty)*) => {$(
        impl Kept for $kind {
            fn walk(&mut self, to: &mut Walk<'_>) {
                *self = to.number(u64::from(*self), u64::from(Self::MAX)) as Self;
            }
        }
    )*};
}

numbers! { u8 u16 u32 u64 }

/// Makes records [`Kept`], each with its fields in the order in which they are written, and enums without fields, each with its
/// cases in the order in which they are numbered.
///
/// ```
/// #[derive(Clone, Copy)]
/// enum Light { Red, Green }
/// struct Crossing { light: Light, waiting: u32 }
/// bulkhead_wit::kept! {
///     enum Light { Red Green }
///     struct Crossing { light waiting }
/// }
/// ```
#[macro_export]
macro_rules! kept {
    (@one struct $kind:ty { $($field:tt)* }) => {
        impl $crate::kept::Kept for $kind {
            fn walk(&mut self, to: &mut $crate::kept::Walk<'_>) {
                $($crate::kept::Kept::walk(&mut self.$field, to);)*
            }
        }
    };
    (@one enum $kind:ty { $($case:ident)* }) => {
        impl $crate::kept::Kept for $kind {
            fn walk(&mut self, to: &mut $crate::kept::Walk<'_>) {
                let cases = [$(Self::$case),*];
                *self = cases[to.number(*self as u64, cases.len() as u64 - 1) as usize];
            }
        }
    };
    ($($what:ident $kind:ty { $($field:tt)* })*) => {
        $($crate::kept!(@one $what $kind { $($field)* });)*
    };
}

kept! {
    struct Handle { 0 }
    struct Address { high low }
    struct Endpoint { address port }
    struct Listening { 0 }
    struct Listen { listener local how allow receive_first receive_max }
}

impl Kept for bool {
    fn walk(&mut self, to: &mut Walk<'_>) {
        *self = to.number(u64::from(*self), 1) == 1;
    }
}

impl<A: Kept, B: Kept> Kept for (A, B) {
    fn walk(&mut self, to: &mut Walk<'_>) {
        self.0.walk(to);
        self.1.walk(to);
    }
}

impl<T: Kept + Default> Kept for Vec<T> {
    fn walk(&mut self, to: &mut Walk<'_>) {
        for at in 0..to.number(self.len() as u64, u64::from(CONNECTIONS)) as usize {
            // A count that was made up ends with the bytes.
            if matches!(to, Walk::Read(None)) {
                return;
            }
            if at == self.len() {
                self.push(T::default());
            }
            self[at].walk(to);
        }
    }
}
