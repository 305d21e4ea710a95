//! The module's information on a connection, laid out as Linux's `struct tcp_info`.

use crate::errno::{Errno, Outcome};
use crate::socket::Kind;
use crate::world::World;
use bulkhead_wit::limits::{MICROSECOND, MILLISECOND};
use bulkhead_wit::registry::info;
use libc::c_int;

/// Bytes of the structure, up to `tcpi_total_rto_time`.
const LENGTH: usize = 248;
/// Linux's number for a socket that has no connection.
const CLOSED: u8 = 7;
const LISTENING: u8 = 10;

/// Linux's numbers of the states, by RFC 9293's order in the registry.
const STATES: [u8; 11] = [CLOSED, LISTENING, 2, 3, 1, 4, 5, 8, 11, 9, 6];

impl World {
    /// The module's answer about a connection; empty if it has none any more.
    pub(crate) fn info(&mut self, fd: c_int) -> Outcome<Vec<u64>> {
        let stream = match self.socket_mut(fd)?.kind {
            Kind::Stream(stream) => stream,
            Kind::New | Kind::Listener(_) => return Ok(Vec::new()),
        };
        if self.stack()?.ask_info(Some(stream)).is_err() {
            return Ok(Vec::new());
        }
        self.settle();
        Ok(self.stack()?.take_info(Some(stream)).unwrap_or_default())
    }

    /// `SO_MEMINFO`: nine numbers, of which receive buffer, send buffer and bytes queued mean something here.
    pub(crate) fn memory_info(&mut self, fd: c_int) -> Outcome<Vec<u8>> {
        let size = |bytes: Vec<u8>| bytes.try_into().map(u32::from_ne_bytes).unwrap_or_default();
        let receive = size(self.option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, 4)?);
        let send = size(self.option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, 4)?);
        let (readable, unacknowledged, _) = self.queued(fd).unwrap_or_default();
        let queued = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        let numbers = [queued(readable), receive, 0, send, 0, queued(unacknowledged), 0, 0, 0];
        Ok(numbers.iter().flat_map(|number| number.to_ne_bytes()).collect())
    }

    pub(crate) fn tcp_info(&mut self, fd: c_int) -> Outcome<Vec<u8>> {
        let fields = self.info(fd)?;
        let mut bytes = vec![0; LENGTH];
        if fields.is_empty() {
            let is_listening = matches!(self.socket_mut(fd)?.kind, Kind::Listener(_));
            bytes[0] = if is_listening { LISTENING } else { CLOSED };
            return Ok(bytes);
        }
        let socket = self.sockets.get(&fd).ok_or(Errno::BADF)?;
        let unsent = socket.unsent(&self.watch);
        lay_out(&mut bytes, &fields, unsent);
        Ok(bytes)
    }
}

fn lay_out(bytes: &mut [u8], fields: &[u64], unsent: u64) {
    let field = |key: u16| fields.get(usize::from(key)).copied().unwrap_or_default();
    let small = |key: u16| field(key).min(255) as u8;
    let state = STATES.get(field(info::STATE) as usize).copied().unwrap_or(CLOSED);
    let scales = small(info::WSCALES);
    let first = [
        state,
        small(info::CA_STATE),
        small(info::BACKOFF),
        small(info::PROBES),
        small(info::BACKOFF),
        small(info::OPTIONS),
        // The peer's scale comes first.
        scales.rotate_left(4),
        0,
    ];
    bytes[..first.len()].copy_from_slice(&first);
    // Where in the structure, which field, and our units in one of theirs.
    let words: &[(usize, u16, u64)] = &[
        (8, info::RTO, MICROSECOND),
        (16, info::SND_MSS, 1),
        (20, info::RCV_MSS, 1),
        (24, info::UNACKED, 1),
        (28, info::SACKED, 1),
        (36, info::RETRANS, 1),
        (44, info::LAST_DATA_SENT, MILLISECOND),
        (52, info::LAST_DATA_RECV, MILLISECOND),
        (56, info::LAST_ACK_RECV, MILLISECOND),
        (60, info::PMTU, 1),
        (68, info::RTT, MICROSECOND),
        (72, info::RTTVAR, MICROSECOND),
        (80, info::CWND, 1),
        (84, info::ADVMSS, 1),
        (88, info::REORDERING, 1),
        (92, info::RCV_RTT, MICROSECOND),
        (96, info::RCV_SPACE, 1),
        (100, info::TOTAL_RETRANS, 1),
        (136, info::SEGS_OUT, 1),
        (140, info::SEGS_IN, 1),
        (148, info::MIN_RTT, MICROSECOND),
        (192, info::DELIVERED, 1),
        (196, info::DELIVERED_CE, 1),
        (216, info::DSACK_DUPS, 1),
        (220, info::REORD_SEEN, 1),
        (224, info::OOO_PACKETS, 1),
        (228, info::SND_WND, 1),
        (232, info::RCV_WND, 1),
    ];
    let mut word = |at: usize, value: u64| {
        let value = u32::try_from(value).unwrap_or(u32::MAX);
        bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    };
    for (at, key, unit) in words {
        word(*at, field(*key) / unit);
    }
    // Linux counts what was sent again as lost until it has arrived.
    word(32, field(info::LOST).saturating_add(field(info::RETRANS)));
    // Linux shows "none yet" as the largest signed number.
    word(76, field(info::SSTHRESH).min(0x7fff_ffff));
    word(144, unsent);
    let longs: &[(usize, u16, u64)] = &[
        (104, info::PACING_RATE, 1),
        (120, info::BYTES_ACKED, 1),
        (128, info::BYTES_RECEIVED, 1),
        (160, info::DELIVERY_RATE, 1),
        (176, info::RWND_LIMITED, MICROSECOND),
        (184, info::SNDBUF_LIMITED, MICROSECOND),
        (200, info::BYTES_SENT, 1),
    ];
    // Linux counts time held back by the peer's window as busy, too.
    let busy = field(info::BUSY_TIME).saturating_add(field(info::RWND_LIMITED)) / MICROSECOND;
    bytes[168..176].copy_from_slice(&busy.to_ne_bytes());
    for (at, key, unit) in longs {
        bytes[*at..*at + 8].copy_from_slice(&(field(*key) / unit).to_ne_bytes());
    }
}
