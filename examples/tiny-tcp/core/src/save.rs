//! The whole state as numbers of 64 bits, little endian. One list of fields is both how they are written and how they are read.

use crate::Tcp;
use crate::connection::{Connection, State};
use alloc::vec::Vec;
use bulkhead_wit::limits::{CONNECTIONS, LISTENERS};
use bulkhead_wit::{Config, Endpoint, Listen, Listening};

/// The number of this format.
pub(crate) const FORMAT: u32 = 1;
const MAGIC: u64 = u64::from_le_bytes(*b"tinytcp\x01");
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

/// Goes through a state: writes it, or reads it where there are bytes to read.
struct Walk<'a> {
    written: Vec<u8>,
    /// What is to be read; `Some(None)` once something was wrong with it.
    read: Option<Option<&'a [u8]>>,
}

impl Walk<'_> {
    /// A number, in place; it is at most `most`.
    fn number<T: Copy + TryInto<u64> + TryFrom<u64>>(&mut self, value: &mut T, most: u64) {
        let Some(rest) = &mut self.read else {
            let number = (*value).try_into().unwrap_or(u64::MAX);
            return self.written.extend_from_slice(&number.to_le_bytes());
        };
        let cut = rest.and_then(<[u8]>::split_first_chunk);
        let number = cut.map(|(first, _)| u64::from_le_bytes(*first)).filter(|number| *number <= most);
        let read = number.and_then(|number| T::try_from(number).ok());
        *rest = cut.map(|(_, rest)| rest).filter(|_| read.is_some());
        *value = read.unwrap_or(*value);
    }

    fn word<T: Copy + TryInto<u64> + TryFrom<u64>>(&mut self, value: &mut T) {
        self.number(value, u64::MAX);
    }

    fn flag(&mut self, flag: &mut bool) {
        let mut number = u8::from(*flag);
        self.number(&mut number, 1);
        *flag = number == 1;
    }

    fn end(&mut self, end: &mut Endpoint) {
        self.word(&mut end.address.high);
        self.word(&mut end.address.low);
        self.word(&mut end.port);
    }

    fn list<T: Default>(&mut self, all: &mut Vec<T>, most: u64, each: impl Fn(&mut T, &mut Self)) {
        let mut count = all.len() as u64;
        self.number(&mut count, most);
        for at in 0..count as usize {
            // A count that was made up ends with the bytes.
            if self.read == Some(None) {
                return;
            }
            if at == all.len() {
                all.push(T::default());
            }
            all.iter_mut().skip(at).take(1).for_each(|one| each(one, self));
        }
    }
}

fn connection(one: &mut Connection, to: &mut Walk<'_>) {
    to.word(&mut one.handle.0);
    for flag in [
        &mut one.is_known,
        &mut one.is_chosen,
        &mut one.is_finished,
        &mut one.is_ended,
        &mut one.owes_acknowledgement,
        &mut one.is_closed,
        &mut one.owes_reset,
        &mut one.waits_for_room,
    ] {
        to.flag(flag);
    }
    to.end(&mut one.local);
    to.end(&mut one.remote);
    let mut state = one.state as u64;
    to.number(&mut state, STATES.len() as u64 - 1);
    one.state = STATES.get(state as usize).copied().unwrap_or_default();
    to.word(&mut one.why);
    for half in [&mut one.listener, &mut one.iss, &mut one.irs, &mut one.acknowledged_by] {
        to.word(half);
    }
    for word in [
        &mut one.acknowledged,
        &mut one.next,
        &mut one.highest,
        &mut one.written,
        &mut one.window_end,
        &mut one.mss,
        &mut one.own_mss,
        &mut one.congestion_window,
        &mut one.threshold,
        &mut one.duplicates,
        &mut one.rto,
        &mut one.round_trip,
        &mut one.variation,
        &mut one.timed,
        &mut one.timed_at,
        &mut one.tries,
        &mut one.timer,
        &mut one.expected,
        &mut one.limit,
        &mut one.consumed,
        &mut one.announced,
        &mut one.linger,
        &mut one.told.0,
        &mut one.told.1,
    ] {
        to.word(word);
    }
}

fn listener((listen, accepted): &mut (Listen, u64), to: &mut Walk<'_>) {
    to.word(&mut listen.listener);
    to.end(&mut listen.local);
    let Listening(how) = &mut listen.how;
    to.word(how);
    to.word(&mut listen.allow);
    to.word(&mut listen.receive_first);
    to.word(&mut listen.receive_max);
    to.word(accepted);
}

/// Everything. Says whether it begins as a state of ours does.
fn walk(tcp: &mut Tcp, to: &mut Walk<'_>) -> bool {
    let mut magic = MAGIC;
    to.word(&mut magic);
    to.word(&mut tcp.secret);
    to.word(&mut tcp.numbered);
    to.list(&mut tcp.listeners, LISTENERS as u64, listener);
    to.list(&mut tcp.connections, u64::from(CONNECTIONS), connection);
    magic == MAGIC
}

pub(crate) fn save(tcp: &Tcp) -> Vec<u8> {
    let mut to = Walk { written: Vec::new(), read: None };
    walk(&mut tcp.clone(), &mut to);
    to.written
}

/// `None` if it is none of ours.
pub(crate) fn load(config: &Config, state: &[u8]) -> Option<Tcp> {
    let mut tcp = Tcp { config: config.clone(), ..Tcp::default() };
    let mut to = Walk { written: Vec::new(), read: Some(Some(state)) };
    let is_ours = walk(&mut tcp, &mut to);
    (is_ours && to.read == Some(Some(&[]))).then_some(tcp)
}
