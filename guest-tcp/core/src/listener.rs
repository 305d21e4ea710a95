//! Passive opens: who listens where, and with how much credit.

use crate::demux::Table;
use crate::hash::Key;
use crate::settings::Settings;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bulkhead_wit::limits::LISTENERS;
use bulkhead_wit::{Address, Endpoint, Listen, Listening};
use core::cmp::Reverse;

/// One listener (LISTEN state).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Listener {
    pub number: u32,
    pub local: Endpoint,
    pub how: Listening,
    /// Connections that may be accepted in all.
    pub allow: u64,
    /// Connections accepted so far.
    pub accepted: u64,
    pub receive_first: u32,
    pub receive_max: u32,
    pub settings: Arc<Settings>,
}

/// `0.0.0.0` in its IPv6 form.
const ANY_V4: Address = Address::from_v4([0; 4]);

impl Listener {
    pub(crate) fn new(listen: &Listen, defaults: &Settings) -> Self {
        Self {
            number: listen.listener,
            local: listen.local,
            how: listen.how,
            allow: listen.allow,
            accepted: 0,
            receive_first: listen.receive_first,
            receive_max: listen.receive_max,
            settings: Arc::new(defaults.with(&listen.settings)),
        }
    }

    /// Whether it may accept one more.
    pub(crate) fn has_credit(&self) -> bool {
        self.accepted < self.allow
    }

    /// How well it fits a local end: the larger the better, `None` not at all. An exact address beats any address,
    /// an exact port beats any port.
    fn fit(&self, local: Endpoint, ours: bool) -> Option<u8> {
        let any_address = self.how.contains(Listening::ANY_ADDRESS);
        let port = if self.local.port == local.port {
            1
        } else if self.local.port == 0 && any_address {
            0
        } else {
            return None;
        };
        let dual = self.how.contains(Listening::DUAL_STACK);
        let address = if self.local.address == local.address {
            2
        } else if (self.local.address == ANY_V4 && local.address.is_v4())
            || (self.local.address == Address::UNSPECIFIED && (dual || !local.address.is_v4()))
        {
            0
        } else {
            return None;
        };
        (ours || any_address).then_some(address + port)
    }
}

/// All listeners, sorted by number, and found by what they listen at: a few hashes, however many there are.
#[derive(Default)]
pub(crate) struct Listeners {
    list: Vec<Listener>,
    /// Places in the list by local end.
    by_local: Table,
}

/// Why a listener cannot begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    InUse,
    Full,
}

impl Listeners {
    fn place(&self, number: u32) -> Result<usize, usize> {
        self.list.binary_search_by_key(&number, |listener| listener.number)
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Listener> {
        self.place(number).ok().and_then(|at| self.list.get(at))
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut Listener> {
        self.place(number).ok().and_then(|at| self.list.get_mut(at))
    }

    pub(crate) fn all(&self) -> &Vec<Listener> {
        &self.list
    }

    /// From a saved list.
    pub(crate) fn restored(key: Key, list: Vec<Listener>) -> Self {
        let mut listeners = Self { list, by_local: Table::default() };
        listeners.index(key);
        listeners
    }

    /// Listeners come and go seldom: the index is made anew.
    fn index(&mut self, key: Key) {
        self.by_local = Table::default();
        for (place, listener) in (0_u32..).zip(&self.list) {
            self.by_local.insert(local_hash(key, listener.local), place);
        }
    }

    pub(crate) fn insert(&mut self, key: Key, listener: Listener) -> Result<(), Refused> {
        if self.list.len() >= LISTENERS {
            return Err(Refused::Full);
        }
        let taken = self.list.iter().any(|other| other.local == listener.local && other.how == listener.how);
        match self.place(listener.number) {
            Err(at) if !taken => {
                self.list.insert(at, listener);
                self.index(key);
                Ok(())
            }
            _ => Err(Refused::InUse),
        }
    }

    pub(crate) fn remove(&mut self, key: Key, number: u32) -> Option<Listener> {
        let removed = self.place(number).ok().map(|at| self.list.remove(at));
        self.index(key);
        removed
    }

    /// The listener for a segment to `local`, which is one of our addresses or (`ours` false) is not.
    pub(crate) fn find(&self, key: Key, local: Endpoint, ours: bool) -> Option<&Listener> {
        // Of equally good ones the first in order of number.
        let mut best: Option<(u8, Reverse<u32>)> = None;
        for address in [local.address, ANY_V4, Address::UNSPECIFIED] {
            for port in [local.port, 0] {
                let hash = local_hash(key, Endpoint::new(address, port));
                let _ = self.by_local.find(hash, |place| {
                    let fit = self.list.get(place as usize).and_then(|listener| listener.fit(local, ours));
                    best = best.max(fit.map(|fit| (fit, Reverse(place))));
                    false // there may be another one
                });
            }
            if address == local.address && best.is_some() {
                break; // an exact address beats any address
            }
        }
        best.and_then(|(_, Reverse(place))| self.list.get(place as usize))
    }
}

fn local_hash(key: Key, local: Endpoint) -> u64 {
    key.secret(&[local.address.high, local.address.low, u64::from(local.port)])
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key(1, 2);

    fn listener(number: u32, address: Address, port: u16, how: Listening) -> Listener {
        let listen =
            Listen { listener: number, local: Endpoint::new(address, port), how, ..Listen::default() };
        Listener::new(&listen, &Settings::default())
    }

    #[test]
    fn the_closest_one_takes_it() {
        let v4 = Address::from_v4([10, 0, 0, 1]);
        let v6 = Address::from_v6([0x20; 16]);
        let mut all = Listeners::default();
        all.insert(KEY, listener(1, Address::UNSPECIFIED, 80, Listening::DUAL_STACK)).expect("free");
        all.insert(KEY, listener(2, v4, 80, Listening::default())).expect("free");
        all.insert(
            KEY,
            listener(3, Address::UNSPECIFIED, 0, Listening::ANY_ADDRESS.with(Listening::DUAL_STACK)),
        )
        .expect("free");
        all.insert(KEY, listener(4, Address::UNSPECIFIED, 81, Listening::default())).expect("free");
        let found = |address, port, ours| all.find(KEY, Endpoint::new(address, port), ours).map(|l| l.number);
        assert_eq!(found(v4, 80, true), Some(2));
        assert_eq!(found(v6, 80, true), Some(1));
        assert_eq!(found(v6, 81, true), Some(4));
        assert_eq!(found(v4, 81, true), Some(3), "an IPv6 listener without dual stack takes no IPv4");
        assert_eq!(found(v4, 80, false), Some(3));
        assert!(all.insert(KEY, listener(9, v4, 80, Listening::default())).is_err());
    }

    #[test]
    fn many_are_told_apart_and_go_one_by_one() {
        let mut all = Listeners::default();
        let end = |port: u32| Endpoint::new(Address::from_v4([10, 0, 0, 1]), port as u16);
        for number in 1..=1000 {
            let local = end(number);
            all.insert(KEY, listener(number, local.address, local.port, Listening::default())).expect("free");
        }
        for number in (1..=1000).step_by(3) {
            assert!(all.remove(KEY, number).is_some());
        }
        for number in 1..=1000 {
            let found = all.find(KEY, end(number), true).map(|listener| listener.number);
            assert_eq!(found, Some(number).filter(|number| number % 3 != 1));
        }
    }
}
