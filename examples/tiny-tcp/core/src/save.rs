//! The whole state as numbers of 64 bits, little endian. A record's list of fields is both how it is written and how it is read.

use crate::Tcp;
use crate::connection::{Connection, State};
use alloc::vec::Vec;
use bulkhead_wit::limits::CONNECTIONS;
use bulkhead_wit::{Config, Endpoint, Handle, Listen};

/// The number of this format.
pub(crate) const FORMAT: u32 = 1;
const MAGIC: u64 = u64::from_le_bytes(*b"tinytcp\x02");

const STATES: [State; 10] = [
    State::SynSent,
    State::SynReceived,
    State::Established,
    State::FinWait1,
    State::FinWait2,
    State::CloseWait,
    State::Closing,
    State::LastAck,
    State::TimeWait,
    State::Closed,
];

/// Goes through a state: writes it, or reads what is left of one, which is `None` once something was wrong with it.
pub(crate) enum Walk<'a> {
    Write(Vec<u8>),
    Read(Option<&'a [u8]>),
}

impl Walk<'_> {
    /// A number, which is at most `most`: the one that is written, or the one that was read.
    pub(crate) fn number(&mut self, value: u64, most: u64) -> u64 {
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
pub(crate) trait Kept {
    fn walk(&mut self, to: &mut Walk<'_>);
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

macro_rules! records {
    ($($kind:ty { $($field:tt)* })*) => {$(
        impl Kept for $kind {
            fn walk(&mut self, to: &mut Walk<'_>) {
                $(self.$field.walk(to);)*
            }
        }
    )*};
}

records! {
    Handle { 0 }
    Endpoint { address port }
    bulkhead_wit::Address { high low }
    bulkhead_wit::Listening { 0 }
    Listen { listener local how allow receive_first receive_max }
    (Listen, u64) { 0 1 }
    (u64, u64) { 0 1 }
    Connection {
        handle is_known listener local remote state why
        iss acknowledged next highest written is_finished window_end mss own_mss acknowledged_by
        congestion_window threshold duplicates rto round_trip variation timed timed_at tries timer
        irs expected limit consumed announced is_ended owes_acknowledgement linger told
    }
    Tcp { secret numbered listeners connections }
}

impl Kept for bool {
    fn walk(&mut self, to: &mut Walk<'_>) {
        *self = to.number(u64::from(*self), 1) == 1;
    }
}

impl Kept for State {
    fn walk(&mut self, to: &mut Walk<'_>) {
        let number = to.number(*self as u64, STATES.len() as u64 - 1);
        *self = STATES[number as usize];
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

pub(crate) fn save(tcp: &Tcp) -> Vec<u8> {
    let mut to = Walk::Write(MAGIC.to_le_bytes().into());
    tcp.clone().walk(&mut to);
    if let Walk::Write(state) = to { state } else { Vec::new() }
}

/// `None` if it is none of ours.
pub(crate) fn load(config: &Config, state: &[u8]) -> Option<Tcp> {
    let mut tcp = Tcp { config: config.clone(), ..Tcp::default() };
    let mut from = Walk::Read(state.strip_prefix(&MAGIC.to_le_bytes()));
    tcp.walk(&mut from);
    matches!(from, Walk::Read(Some([]))).then_some(tcp)
}
