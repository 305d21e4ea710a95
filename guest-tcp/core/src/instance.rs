//! What belongs to the instance and to no connection: configuration, keys, counters, rate limits.

use crate::hash::{Key, tuple_words};
use crate::limits;
use crate::seq::Seq;
use crate::settings::Settings;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bulkhead_wit::limits::SECOND;
use bulkhead_wit::{Address, Config, Endpoint, NEVER, Prefix, Time};

/// At most so many per second, over the whole instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rate {
    pub second: u64,
    pub used: u32,
}

impl Rate {
    pub(crate) const fn new() -> Self {
        Self { second: u64::MAX, used: 0 }
    }

    /// Whether one more may go now; counts it.
    pub(crate) fn take(&mut self, now: Time, per_second: u32) -> bool {
        let second = now / SECOND;
        if second != self.second {
            *self = Self { second, used: 0 };
        }
        let free = self.used < per_second;
        self.used += u32::from(free);
        free
    }
}

/// What the census tells, as counts since the beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counters {
    pub segs_in: u64,
    pub segs_out: u64,
    pub retrans: u64,
    pub dropped: u64,
    pub resets_out: u64,
    pub resets_in: u64,
    pub challenges: u64,
    pub cookies_sent: u64,
    pub cookies_received: u64,
    pub backlog_drops: u64,
    pub echoes: u64,
}

/// Keys, one for each purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Keys {
    pub table: Key,
    pub isn: Key,
    pub timestamps: Key,
    pub ports: Key,
    pub cookies: Key,
}

impl Keys {
    /// All keys from a seed.
    pub(crate) fn from_seed(seed: (u64, u64, u64, u64)) -> Self {
        let low = Key(seed.0, seed.1);
        let root = Key(low.secret(&[seed.2, seed.3]) ^ seed.0, low.secret(&[seed.3, seed.2]) ^ seed.1);
        Self {
            table: root.derive(1),
            isn: root.derive(2),
            timestamps: root.derive(3),
            ports: root.derive(4),
            cookies: root.derive(5),
        }
    }
}

/// The configuration as far as it is looked at again, and what is counted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Instance {
    pub addresses: Vec<Prefix>,
    pub any_address: bool,
    pub mtu: u32,
    pub shard: u16,
    pub shards: u16,
    pub ports: (u16, u16),
    pub connections: u32,
    pub embryos: u32,
    pub offers: u32,
    pub islands: u16,
    pub holds: u16,
    pub settings: Arc<Settings>,
    pub keys: Keys,
    pub counters: Counters,
    pub challenges: Rate,
    pub echo_rate: Rate,
    pub error_rate: Rate,
    /// How many opens have chosen a port (RFC 6056 3.3.3).
    pub port_counter: u32,
    /// When a cookie was sent last.
    pub cookies_at: Option<Time>,
}

impl Default for Instance {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            any_address: false,
            mtu: 1500,
            shard: 0,
            shards: 1,
            ports: (32_768, 60_999),
            connections: 0,
            embryos: bulkhead_wit::limits::EMBRYOS,
            offers: bulkhead_wit::limits::OFFERS,
            islands: bulkhead_wit::limits::ISLANDS as u16,
            holds: 0,
            settings: Arc::default(),
            keys: Keys::default(),
            counters: Counters::default(),
            challenges: Rate::new(),
            echo_rate: Rate::new(),
            error_rate: Rate::new(),
            port_counter: 0,
            cookies_at: None,
        }
    }
}

impl Instance {
    /// Takes over addresses, MTU, bounds and settings; keys stay.
    pub(crate) fn configure(&mut self, config: &Config) {
        use bulkhead_wit::limits as bounds;
        self.addresses.clone_from(&config.addresses);
        self.any_address = config.any_address;
        self.mtu = config.mtu.clamp(limits::PATH_MTU_MIN_V4, bounds::DATAGRAM as u32);
        self.shards = config.shards.max(1);
        self.shard = config.shard % self.shards;
        self.ports = (config.ports_first.max(1), config.ports_last.max(config.ports_first.max(1)));
        self.connections = config.connections.min(bounds::CONNECTIONS);
        self.embryos = config.embryos.min(bounds::CONNECTIONS);
        self.offers = config.offers.min(bounds::OFFERS_MAX);
        self.islands = config.islands.min(bounds::ISLANDS as u16);
        self.holds = config.holds.min(bounds::HOLDS as u16);
        self.settings = Arc::new(Settings::default().with(&config.settings));
    }

    /// Whether an address is ours.
    pub(crate) fn is_ours(&self, address: Address) -> bool {
        self.any_address || self.addresses.iter().any(|prefix| prefix.address == address)
    }

    /// Our address to reach `remote` from: one in the same network, else the first of the same family.
    pub(crate) fn source_for(&self, remote: Address) -> Option<Address> {
        let family = || self.addresses.iter().filter(|prefix| prefix.address.is_v4() == remote.is_v4());
        family()
            .find(|prefix| prefix.contains(remote))
            .or_else(|| family().find(|prefix| is_link_local(prefix.address) == is_link_local(remote)))
            .or_else(|| family().next())
            .map(|prefix| prefix.address)
    }

    /// The link's MTU towards an address: the largest segment's payload, headers without options.
    pub(crate) fn mss_for(&self, remote: Address) -> u16 {
        mss_of(self.mtu, remote)
    }

    /// RFC 6528 3: a clock of 64 ns (as Linux has) plus a keyed hash of both ends.
    pub(crate) fn initial_sequence(&self, now: Time, local: Endpoint, remote: Endpoint) -> Seq {
        let hash = self.keys.isn.secret(&tuple_words(local, remote));
        Seq((now >> 6) as u32).plus(hash as u32)
    }

    /// RFC 7323 5.4: where a connection's timestamp clock starts, unlike any other's.
    pub(crate) fn timestamp_offset(&self, local: Endpoint, remote: Endpoint) -> u32 {
        self.keys.timestamps.secret(&tuple_words(local, remote)) as u32
    }

    /// Whether a cookie that was sent may still come back: otherwise none is looked for.
    pub(crate) fn expects_cookies(&self, now: Time) -> bool {
        self.cookies_at.is_some_and(|at| now.saturating_sub(at) < limits::COOKIE_LIFE)
    }

    /// RFC 5961 7: whether one more challenge acknowledgement may be sent.
    pub(crate) fn may_challenge(&mut self, now: Time) -> bool {
        let may = self.challenges.take(now, limits::CHALLENGES_PER_SECOND);
        self.counters.challenges += u64::from(may);
        may
    }
}

const fn is_link_local(address: Address) -> bool {
    address.high >> 54 == 0x3fa
}

/// The payload of a full segment on a path of this MTU, options not counted (RFC 9293 3.7.1).
pub(crate) fn mss_of(mtu: u32, remote: Address) -> u16 {
    let headers = if remote.is_v4() { 40 } else { 60 };
    u16::try_from(mtu.saturating_sub(headers)).unwrap_or(u16::MAX).max(limits::MSS_MIN)
}

/// The timestamp clock's value at `now`, before the connection's offset.
pub(crate) fn ticks(now: Time) -> u32 {
    (now / limits::TIMESTAMP_TICK) as u32
}

/// The earlier of two deadlines.
pub(crate) fn earlier(first: Time, second: Option<Time>) -> Time {
    first.min(second.unwrap_or(NEVER))
}
