//! One connection: a socket of smoltcp's, and how far the host was told of it.

use alloc::collections::VecDeque;
use alloc::vec;
use bulkhead_wit::registry::setting;
use bulkhead_wit::{Endpoint, Handle, Setting, Time};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::time::Duration;

use crate::limits;

/// How far a connection's life has come, as the host was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// A stranger asks; the host knows nothing of it.
    Embryo,
    /// An open that was not answered yet.
    Opening,
    /// Bytes may flow.
    Open,
    /// The host was told that it is gone; smoltcp has something left to say, or waits for the last segments to die.
    Gone,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) handle: Handle,
    pub(crate) socket: SocketHandle,
    pub(crate) stage: Stage,
    pub(crate) local: Endpoint,
    pub(crate) remote: Endpoint,
    /// 0 for an open.
    pub(crate) listener: u32,
    pub(crate) receive_base: u32,
    pub(crate) send_base: u32,
    /// The MSS that the peer has told, in bytes.
    pub(crate) mss: u16,
    /// Up to here bytes may be placed.
    pub(crate) limit: u64,
    /// Bytes placed, all of them in order.
    pub(crate) exposed: u64,
    /// What smoltcp had received when it was done, and the host has not granted a place for: smoltcp forgets it with TIME-WAIT.
    pub(crate) rest: VecDeque<u8>,
    /// Bytes that the application has written.
    pub(crate) written: u64,
    /// Bytes that smoltcp was given of them.
    pub(crate) fed: u64,
    /// Bytes that the peer has acknowledged.
    pub(crate) acknowledged: u64,
    /// The segment of this step that has.
    pub(crate) by: u32,
    /// Both numbers as the host was told them last.
    pub(crate) told: (u64, u64),
    /// Where the peer's stream ends, once its FIN was seen.
    pub(crate) finished: Option<u64>,
    /// The peer's SYN was taken.
    pub(crate) is_synchronized: bool,
    /// Nothing more will be written.
    pub(crate) is_shut: bool,
    /// Nobody reads any more.
    pub(crate) is_detached: bool,
    /// smoltcp's own state when it was looked at last.
    pub(crate) state: State,
    /// When it is given up, whatever smoltcp thinks of it.
    pub(crate) until: Time,
}

impl Connection {
    pub(crate) fn new(socket: SocketHandle, stage: Stage, (local, remote): (Endpoint, Endpoint)) -> Self {
        Self {
            handle: Handle::INSTANCE,
            socket,
            stage,
            local,
            remote,
            listener: 0,
            receive_base: 0,
            send_base: 0,
            mss: 536,
            limit: 0,
            exposed: 0,
            rest: VecDeque::new(),
            written: 0,
            fed: 0,
            acknowledged: 0,
            by: 0,
            told: (0, 0),
            finished: None,
            is_synchronized: false,
            is_shut: false,
            is_detached: false,
            state: State::Closed,
            until: Time::MAX,
        }
    }
}

/// A socket with buffers for a window of so many bytes at most.
pub(crate) fn socket(receive_max: u32, settings: &[&[Setting]]) -> Socket<'static> {
    let (least, most) = limits::RECEIVE;
    let receive = receive_max.clamp(least, most) as usize;
    let mut socket =
        Socket::new(SocketBuffer::new(vec![0; receive]), SocketBuffer::new(vec![0; limits::SEND]));
    socket.set_congestion_control(CongestionControl::Reno);
    socket.set_timeout(Some(duration(limits::TIMEOUT)));
    for setting in settings.iter().copied().flatten() {
        // What smoltcp has nothing for is passed over.
        let _ = set(&mut socket, *setting);
    }
    socket
}

pub(crate) fn duration(time: Time) -> Duration {
    Duration::from_micros(time / 1000)
}

/// A setting that smoltcp has something for. Says whether it has.
pub(crate) fn set(socket: &mut Socket<'_>, Setting { key, value }: Setting) -> bool {
    match key {
        setting::NODELAY => socket.set_nagle_enabled(value == 0),
        setting::QUICKACK => socket.set_ack_delay((value == 0).then(|| Duration::from_millis(10))),
        // Less than smoltcp's clock can tell would be without end.
        setting::KEEPALIVE_IDLE => {
            socket.set_keep_alive((value > 0).then(|| duration(value.max(limits::KEEPALIVE))));
        }
        setting::USER_TIMEOUT => {
            socket.set_timeout(Some(duration(if value == 0 { limits::TIMEOUT } else { value })));
        }
        setting::TTL => socket.set_hop_limit(u8::try_from(value).ok().filter(|ttl| *ttl > 0)),
        _ => return false,
    }
    true
}

/// As the registry numbers states.
pub(crate) fn number(state: State) -> u64 {
    match state {
        State::Closed => 0,
        State::Listen => 1,
        State::SynSent => 2,
        State::SynReceived => 3,
        State::Established => 4,
        State::FinWait1 => 5,
        State::FinWait2 => 6,
        State::CloseWait => 7,
        State::Closing => 8,
        State::LastAck => 9,
        State::TimeWait => 10,
    }
}
