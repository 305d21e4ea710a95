//! What can be chosen for a cell.

use std::fmt;
use std::time::Duration;

/// How many factors a cell has.
pub(crate) const COUNT: usize = 11;
/// The factors of a cell, and how many choices each has.
pub(crate) const FACTORS: [usize; COUNT] = [
    Peer::ALL.len(),
    Load::ALL.len(),
    Fault::ALL.len(),
    MTUS.len(),
    RTTS.len(),
    Direction::ALL.len(),
    Ip::ALL.len(),
    2,
    2,
    2,
    2,
];

/// The link's MTUs, in bytes.
const MTUS: [u32; 4] = [1500, 576, 1280, 9000];
/// The smallest MTU of a link that carries IPv6 (RFC 8200 5).
const IPV6_MTU: u32 = 1280;
/// Round trips that the link adds.
const RTTS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(10), Duration::from_millis(100)];

macro_rules! choices {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $choice:ident = $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub(crate) enum $name { $($(#[$doc])* $choice,)* }

        impl $name {
            pub(crate) const ALL: &[Self] = &[$(Self::$choice,)*];

            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$choice => $text,)* }
            }
        }
    };
}

choices! {
    /// Who is at the other end.
    Peer {
        /// Linux with Reno.
        Reno = "linux-reno",
        /// Linux with CUBIC.
        Cubic = "linux-cubic",
        /// Linux with BBR.
        Bbr = "linux-bbr",
        /// Another instance of this stack.
        Itself = "itself",
        /// smoltcp, as people embed it.
        Smoltcp = "smoltcp",
        /// lwIP, as Debian builds it.
        Lwip = "lwip",
    }
}

choices! {
    /// What goes over it.
    Load {
        /// curl downloads from nginx; checksums are compared.
        Download = "curl-nginx",
        /// iperf3, the server sends.
        Reverse = "iperf3-reverse",
        /// iperf3, eight flows.
        Flows = "iperf3-8-flows",
        /// iperf3, both ways at once.
        Both = "iperf3-bidir",
        /// redis-benchmark with pipelining, and a value that has to come back as it was.
        Redis = "redis-pipelined",
        /// ssh with input, and scp; checksums are compared.
        Ssh = "ssh-scp",
        /// wrk over connections that stay.
        KeepAlive = "wrk-keep-alive",
        /// wrk with a connection for each request.
        Close = "wrk-close",
        /// Connect, ask, read to the end, again and again.
        Connects = "connects",
    }
}

choices! {
    /// What goes wrong on the way.
    Fault {
        Nothing = "no-fault",
        Loss = "loss",
        Reorder = "reorder",
        Duplicate = "duplicate",
        Corrupt = "corrupt",
    }
}

choices! {
    /// The version of IP between the stack and its peer.
    Ip {
        V4 = "ipv4",
        V6 = "ipv6",
    }
}

choices! {
    /// Who opens the connections.
    Direction {
        /// The peer, to the stack.
        In = "in",
        /// The stack, to the peer.
        Out = "out",
    }
}

impl Peer {
    /// The congestion control of a kernel, and nothing for others.
    pub(crate) const fn congestion(self) -> Option<&'static str> {
        match self {
            Self::Reno => Some("reno"),
            Self::Cubic => Some("cubic"),
            Self::Bbr => Some("bbr"),
            Self::Itself | Self::Smoltcp | Self::Lwip => None,
        }
    }

    /// Whether its options can be chosen: those of smoltcp and lwIP are as they were built.
    pub(crate) const fn has_options(self) -> bool {
        !matches!(self, Self::Smoltcp | Self::Lwip)
    }
}

impl Load {
    /// Whether its programs check neither what arrives nor for how long nothing does, so that a witness has to.
    pub(crate) const fn is_witnessed(self) -> bool {
        matches!(self, Self::Reverse | Self::Flows | Self::Both | Self::Redis | Self::Ssh)
    }
}

impl Fault {
    /// How `bulkhead link` is asked for it, both ways.
    pub(crate) const fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Nothing => &[],
            Self::Loss => &["--loss", "1%"],
            Self::Reorder => &["--reorder", "3%", "--reorder-delay", "4ms"],
            Self::Duplicate => &["--duplicate", "2%"],
            Self::Corrupt => &["--corrupt", "0.5%"],
        }
    }
}

/// One way to run it all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cell {
    pub(crate) peer: Peer,
    pub(crate) load: Load,
    pub(crate) fault: Fault,
    pub(crate) mtu: u32,
    pub(crate) rtt: Duration,
    pub(crate) direction: Direction,
    pub(crate) ip: Ip,
    /// The peer's options, of those that have any.
    pub(crate) sack: bool,
    pub(crate) timestamps: bool,
    pub(crate) scaling: bool,
    pub(crate) ecn: bool,
    /// As much data as is asked for: a gigabyte, ten thousand connections.
    pub(crate) is_large: bool,
}

impl Cell {
    /// The cell with these choices, a number for each of [`FACTORS`]; nothing where they do not go together.
    pub(crate) fn of(choices: [usize; COUNT]) -> Option<Self> {
        let cell = Self {
            peer: *Peer::ALL.get(choices[0])?,
            load: *Load::ALL.get(choices[1])?,
            fault: *Fault::ALL.get(choices[2])?,
            mtu: *MTUS.get(choices[3])?,
            rtt: *RTTS.get(choices[4])?,
            direction: *Direction::ALL.get(choices[5])?,
            ip: *Ip::ALL.get(choices[6])?,
            sack: choices[7] == 0,
            timestamps: choices[8] == 0,
            scaling: choices[9] == 0,
            ecn: choices[10] == 1,
            is_large: false,
        };
        let is_carried = cell.ip == Ip::V4 || cell.mtu >= IPV6_MTU;
        let are_options = cell.peer.has_options() || choices[7..10] == [0, 0, 0];
        (is_carried && are_options).then_some(cell)
    }

    /// How long bytes may be under way and make no progress: three timeouts in a row, each twice as long as the one before,
    /// and a second for the path. The first is RFC 6298's of one second, and lwIP's of three.
    pub(crate) const fn stall(&self) -> Duration {
        let first = if matches!(self.peer, Peer::Lwip) { 3 } else { 1 };
        Duration::from_secs(first + 2 * first + 4 * first + 1)
    }

    /// Bytes of a transfer that takes some seconds.
    pub(crate) fn bytes(&self) -> usize {
        let unhindered: usize = match (self.is_large, self.rtt.as_millis()) {
            (true, _) => 1 << 30,
            (_, 0) => 32 << 20,
            (_, 10) => 16 << 20,
            _ => 4 << 20,
        };
        let hindered = if self.fault == Fault::Nothing { unhindered } else { unhindered / 8 };
        if self.mtu < 1500 { hindered / 2 } else { hindered }
    }

    /// How many small things are done one after the other, and side by side.
    pub(crate) fn count(&self) -> usize {
        match (self.is_large, self.rtt.as_millis()) {
            (true, _) => 10_000,
            (_, 0) => 2000,
            (_, 10) => 1000,
            _ => 300,
        }
    }

    /// The options of the peer that can be set, by name.
    pub(crate) fn options(&self) -> [(&'static str, bool); 4] {
        [
            ("sack", self.sack),
            ("timestamps", self.timestamps),
            ("window-scale", self.scaling),
            ("ecn", self.ecn),
        ]
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (peer, load, fault) = (self.peer.name(), self.load.name(), self.fault.name());
        let (direction, rtt) = (self.direction.name(), self.rtt.as_millis());
        write!(f, "{peer} {direction} {} {load} {fault} mtu={} rtt={rtt}ms", self.ip.name(), self.mtu)?;
        for (name, is_on) in
            self.options().into_iter().filter(|(name, _)| self.peer.has_options() || *name == "ecn")
        {
            write!(f, " {}{name}", if is_on { "" } else { "no-" })?;
        }
        if self.is_large { f.write_str(" large") } else { Ok(()) }
    }
}
