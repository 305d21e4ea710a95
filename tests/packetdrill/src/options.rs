//! Socket options: the system's numbers, as settings of the module or as choices that the socket itself keeps.

use crate::errno::{Errno, Outcome};
use crate::socket::Kind;
use crate::world::World;
use bulkhead_wit::Setting;
use bulkhead_wit::limits::{MILLISECOND, SECOND};
use bulkhead_wit::registry::{info, setting};
use libc::c_int;
use std::collections::HashMap;

/// What an application has chosen for a socket.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    /// For the module.
    pub(crate) settings: Vec<Setting>,
    /// What was set, as it is read back, by level and option.
    values: HashMap<(c_int, c_int), c_int>,
    /// Bytes of the send buffer, the system's bookkeeping included, if that was set.
    pub(crate) send_size: Option<u32>,
    /// Bytes of payload in the receive buffer, if that was set.
    pub(crate) receive_size: Option<u32>,
    pub(crate) receive_lowat: u32,
    /// Unsent bytes below which there is space; 0 is the namespace's.
    pub(crate) notsent_lowat: u32,
    /// Seconds of `SO_LINGER`.
    pub(crate) linger_s: Option<u32>,
    pub(crate) is_freebind: bool,
    pub(crate) is_inq: bool,
}

impl Default for Chosen {
    fn default() -> Self {
        Self {
            settings: Vec::new(),
            values: HashMap::new(),
            send_size: None,
            receive_size: None,
            receive_lowat: 1,
            notsent_lowat: 0,
            linger_s: None,
            is_freebind: false,
            is_inq: false,
        }
    }
}

/// Not in the C library's bindings everywhere.
pub(crate) const TCP_INQ: c_int = 36;
const TCP_CC_INFO: c_int = 26;
const SO_MEMINFO: c_int = 55;
/// What Linux gives a socket that never asked, in bytes; sizes below are raised to it.
const SEND_MIN: u32 = 4608;
const RECEIVE_MIN: u32 = 2304;

/// What setting an option means.
enum Meaning {
    /// A setting of the module's.
    Module(u16, u64),
    /// The socket keeps it, or it makes no difference here.
    Kept,
}

impl World {
    /// Sets an option from its bytes.
    pub(crate) fn set_option(&mut self, fd: c_int, level: c_int, option: c_int, value: &[u8]) -> Outcome<()> {
        if (level, option) == (libc::IPPROTO_TCP, libc::TCP_CONGESTION) {
            let name = std::str::from_utf8(value).map_err(|_| Errno::INVALID)?;
            let name = name.trim_end_matches('\0');
            if name != "reno" && name != "cubic" {
                return Err(Errno(libc::ENOENT));
            }
            let number = crate::setup::text_as_number(name).map_err(|_| Errno(libc::ENOENT))?;
            return self.tell_module(fd, setting::CONGESTION, number);
        }
        if (level, option) == (libc::SOL_SOCKET, libc::SO_LINGER) {
            let (on, seconds) = (number(value)?, number(value.get(4..).unwrap_or_default())?);
            let seconds = u32::try_from(seconds).map_err(|_| Errno::INVALID)?;
            self.socket_mut(fd)?.chosen.linger_s = (on != 0).then_some(seconds);
            return Ok(());
        }
        let value = if value.len() == 1 { c_int::from(value[0]) } else { number(value)? };
        let mut kept = value;
        let meaning = match level {
            libc::SOL_SOCKET => self.set_of_socket(fd, option, &mut kept)?,
            libc::IPPROTO_TCP => self.set_of_tcp(fd, option, value)?,
            libc::IPPROTO_IP | libc::IPPROTO_IPV6 => self.set_of_ip(fd, level, option, value)?,
            _ => return Err(Errno::NO_OPTION),
        };
        self.socket_mut(fd)?.chosen.values.insert((level, option), kept);
        match meaning {
            Meaning::Module(key, value) => self.tell_module(fd, key, value),
            Meaning::Kept => Ok(()),
        }
    }

    fn set_of_socket(&mut self, fd: c_int, option: c_int, value: &mut c_int) -> Outcome<Meaning> {
        let idle = self.value(fd, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE).unwrap_or(7200);
        let chosen = &mut self.socket_mut(fd)?.chosen;
        match option {
            libc::SO_SNDBUF | libc::SO_SNDBUFFORCE => {
                // The system doubles it, for the bookkeeping that it counts in.
                let doubled = u32::try_from(*value).unwrap_or(0).saturating_mul(2).max(SEND_MIN);
                chosen.send_size = Some(doubled);
                *value = c_int::try_from(doubled).unwrap_or(c_int::MAX);
            }
            libc::SO_RCVBUF | libc::SO_RCVBUFFORCE => {
                let doubled = u32::try_from(*value).unwrap_or(0).saturating_mul(2).max(RECEIVE_MIN);
                chosen.receive_size = Some(doubled / 2);
                *value = c_int::try_from(doubled).unwrap_or(c_int::MAX);
            }
            libc::SO_RCVLOWAT => chosen.receive_lowat = u32::try_from(*value).unwrap_or(0).max(1),
            libc::SO_KEEPALIVE => {
                let idle = if *value == 0 { 0 } else { seconds(idle)? };
                return Ok(Meaning::Module(setting::KEEPALIVE_IDLE, idle));
            }
            libc::SO_REUSEADDR
            | libc::SO_REUSEPORT
            | libc::SO_PRIORITY
            | libc::SO_MARK
            | libc::SO_ZEROCOPY
            | libc::SO_OOBINLINE => {}
            libc::SO_MAX_PACING_RATE => {
                let rate = if *value < 0 { 0 } else { *value as u64 };
                return Ok(Meaning::Module(setting::MAX_PACING_RATE, rate));
            }
            _ => return Err(Errno::NO_OPTION),
        }
        Ok(Meaning::Kept)
    }

    fn set_of_tcp(&mut self, fd: c_int, option: c_int, value: c_int) -> Outcome<Meaning> {
        let is_alive = self.value(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE).is_some_and(|value| value != 0);
        let chosen = &mut self.socket_mut(fd)?.chosen;
        let positive = |value: c_int| u64::try_from(value).map_err(|_| Errno::INVALID);
        let (key, value) = match option {
            libc::TCP_NODELAY => (setting::NODELAY, u64::from(value != 0)),
            libc::TCP_CORK => (setting::CORK, u64::from(value != 0)),
            libc::TCP_QUICKACK => (setting::QUICKACK, u64::from(value != 0)),
            libc::TCP_MAXSEG => (setting::MAXSEG, positive(value)?),
            libc::TCP_KEEPIDLE if is_alive => (setting::KEEPALIVE_IDLE, seconds(value)?),
            libc::TCP_KEEPIDLE => return seconds(value).map(|_| Meaning::Kept),
            libc::TCP_KEEPINTVL => (setting::KEEPALIVE_INTERVAL, seconds(value)?),
            libc::TCP_KEEPCNT => (setting::KEEPALIVE_COUNT, positive(value)?),
            libc::TCP_SYNCNT => (setting::SYN_RETRIES, positive(value)?),
            libc::TCP_LINGER2 => (setting::LINGER2, seconds(value)?),
            libc::TCP_DEFER_ACCEPT => (setting::DEFER_ACCEPT, seconds(value)?),
            libc::TCP_WINDOW_CLAMP => (setting::WINDOW_CLAMP, positive(value)?),
            libc::TCP_USER_TIMEOUT => (setting::USER_TIMEOUT, positive(value)? * MILLISECOND),
            libc::TCP_NOTSENT_LOWAT => {
                chosen.notsent_lowat = value as u32;
                return Ok(Meaning::Kept);
            }
            TCP_INQ => {
                if !(0..=1).contains(&value) {
                    return Err(Errno::INVALID);
                }
                chosen.is_inq = value == 1;
                return Ok(Meaning::Kept);
            }
            _ => return Err(Errno::NO_OPTION),
        };
        Ok(Meaning::Module(key, value))
    }

    fn set_of_ip(&mut self, fd: c_int, level: c_int, option: c_int, value: c_int) -> Outcome<Meaning> {
        let byte = |value: c_int| u8::try_from(value).map(u64::from).map_err(|_| Errno::INVALID);
        let (key, value) = match (level, option) {
            (libc::IPPROTO_IP, libc::IP_TOS) | (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                (setting::TRAFFIC_CLASS, byte(value)?)
            }
            (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS) => {
                (setting::TTL, byte(value)?)
            }
            (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER) | (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER) => {
                (setting::PMTU_DISCOVER, u64::from(value != libc::IP_PMTUDISC_DONT))
            }
            (libc::IPPROTO_IP, libc::IP_FREEBIND) => {
                self.socket_mut(fd)?.chosen.is_freebind = value != 0;
                return Ok(Meaning::Kept);
            }
            (libc::IPPROTO_IP, libc::IP_RECVERR)
            | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR | libc::IPV6_V6ONLY) => {
                return Ok(Meaning::Kept);
            }
            _ => return Err(Errno::NO_OPTION),
        };
        Ok(Meaning::Module(key, value))
    }

    /// Now, for a connection; with the next `listen` or `connect` otherwise.
    fn tell_module(&mut self, fd: c_int, key: u16, value: u64) -> Outcome<()> {
        let setting = Setting { key, value };
        let socket = self.socket_mut(fd)?;
        socket.chosen.settings.retain(|other| other.key != key);
        socket.chosen.settings.push(setting);
        match socket.kind {
            Kind::New => {}
            Kind::Listener(listener) => {
                // Settings go with the listening: it begins anew. Nobody can be in between, in a script.
                self.stack()?.unlisten(listener);
                let backlog = self.socket_mut(fd)?.backlog;
                self.socket_mut(fd)?.kind = Kind::New;
                self.listen(fd, backlog)?;
            }
            Kind::Stream(stream) => {
                // A connection that has ended takes no settings, and that is no error.
                let _ = self.stack()?.set(stream, setting);
            }
        }
        Ok(())
    }

    fn value(&self, fd: c_int, level: c_int, option: c_int) -> Option<c_int> {
        self.sockets.get(&fd)?.chosen.values.get(&(level, option)).copied()
    }

    /// An option's bytes, at most `length` of them.
    pub(crate) fn option(
        &mut self,
        fd: c_int,
        level: c_int,
        option: c_int,
        length: usize,
    ) -> Outcome<Vec<u8>> {
        self.socket_mut(fd)?;
        if (level, option) == (libc::IPPROTO_TCP, libc::TCP_INFO) {
            let mut bytes = self.tcp_info(fd)?;
            // What a newer system would add is zero.
            bytes.resize(length, 0);
            return Ok(bytes);
        }
        if (level, option) == (libc::IPPROTO_TCP, TCP_CC_INFO) {
            // Which is nothing, as for every congestion control of Linux's that keeps its numbers to itself.
            return Ok(Vec::new());
        }
        if (level, option) == (libc::SOL_SOCKET, SO_MEMINFO) {
            return self.memory_info(fd);
        }
        let value = match (level, option) {
            (libc::SOL_SOCKET, libc::SO_ERROR) => self.take_error(fd)?.map_or(0, |error| error.0),
            (libc::SOL_SOCKET, libc::SO_TYPE) => libc::SOCK_STREAM,
            (libc::SOL_SOCKET, libc::SO_ACCEPTCONN) => {
                c_int::from(matches!(self.socket_mut(fd)?.kind, Kind::Listener(_)))
            }
            (libc::IPPROTO_TCP, libc::TCP_MAXSEG) if matches!(self.socket_mut(fd)?.kind, Kind::Stream(_)) => {
                let mss = self.info(fd)?.get(usize::from(info::SND_MSS)).copied().unwrap_or_default();
                c_int::try_from(mss).unwrap_or(c_int::MAX)
            }
            _ => match self.value(fd, level, option) {
                Some(value) => value,
                None => self.default_value(level, option)?,
            },
        };
        let mut bytes = value.to_ne_bytes().to_vec();
        bytes.truncate(length);
        Ok(bytes)
    }

    fn default_value(&self, level: c_int, option: c_int) -> Outcome<c_int> {
        let sizes = self.sizes().unwrap_or_default();
        let size = |bytes: u32| c_int::try_from(bytes).unwrap_or(c_int::MAX);
        Ok(match (level, option) {
            (libc::SOL_SOCKET, libc::SO_SNDBUF) => size(sizes.send_first),
            (libc::SOL_SOCKET, libc::SO_RCVBUF) => size(sizes.receive_first.saturating_mul(2)),
            (libc::SOL_SOCKET, libc::SO_RCVLOWAT) => 1,
            (
                libc::SOL_SOCKET,
                libc::SO_REUSEADDR | libc::SO_REUSEPORT | libc::SO_KEEPALIVE | libc::SO_MARK,
            )
            | (
                libc::IPPROTO_TCP,
                libc::TCP_NODELAY
                | libc::TCP_CORK
                | libc::TCP_NOTSENT_LOWAT
                | libc::TCP_USER_TIMEOUT
                | libc::TCP_DEFER_ACCEPT
                | libc::TCP_WINDOW_CLAMP
                | TCP_INQ,
            )
            | (libc::IPPROTO_IP, libc::IP_TOS | libc::IP_FREEBIND) => 0,
            (libc::IPPROTO_TCP, libc::TCP_MAXSEG) => 536,
            (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE) => 7200,
            (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL) => 75,
            (libc::IPPROTO_TCP, libc::TCP_KEEPCNT) => 9,
            (libc::IPPROTO_TCP, libc::TCP_SYNCNT) => 6,
            (libc::IPPROTO_TCP, libc::TCP_QUICKACK) => 1,
            (libc::IPPROTO_IP, libc::IP_TTL) => 64,
            _ => return Err(Errno::NO_OPTION),
        })
    }
}

fn number(value: &[u8]) -> Outcome<c_int> {
    let bytes = value.get(..4).and_then(|bytes| bytes.try_into().ok());
    bytes.map(c_int::from_ne_bytes).ok_or(Errno::INVALID)
}

fn seconds(value: c_int) -> Outcome<u64> {
    u64::try_from(value).map(|seconds| seconds * SECOND).map_err(|_| Errno::INVALID)
}
