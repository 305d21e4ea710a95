//! What applications are told when something cannot be done, and who is to blame.

use crate::fault::Fault;
use bulkhead_wit::registry::reason;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Why a call on a stream, listener or stack failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StreamError {
    /// Not now: wait until the stack says that the stream is ready.
    WouldBlock,
    /// The connection ended: by the peer, by a timeout, by the network; the number is from
    /// [`reason`].
    Ended(u16),
    /// The protocol module failed, and this connection with it.
    Fault(Arc<Fault>),
    /// The application has shut its side already.
    Shut,
    /// There is no such stream or listener, or not any more.
    Unknown,
    /// All connections, listeners or addresses are taken.
    Exhausted,
    /// The datagram is longer than one can be.
    TooLong,
}

impl StreamError {
    /// The kind that an [`io::Error`] of it has.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::WouldBlock => io::ErrorKind::WouldBlock,
            Self::Ended(number) => kind_of(*number),
            Self::Fault(_) => io::ErrorKind::ConnectionAborted,
            Self::Shut => io::ErrorKind::BrokenPipe,
            Self::Unknown => io::ErrorKind::NotConnected,
            Self::Exhausted => io::ErrorKind::OutOfMemory,
            Self::TooLong => io::ErrorKind::InvalidInput,
        }
    }
}

fn kind_of(number: u16) -> io::ErrorKind {
    match number {
        reason::RESET | reason::DATA_AFTER_CLOSE => io::ErrorKind::ConnectionReset,
        reason::REFUSED => io::ErrorKind::ConnectionRefused,
        reason::TIMED_OUT | reason::KEEPALIVE | reason::LINGER => io::ErrorKind::TimedOut,
        reason::ABORTED => io::ErrorKind::ConnectionAborted,
        reason::HOST_UNREACHABLE | reason::PROHIBITED => io::ErrorKind::HostUnreachable,
        reason::NETWORK_UNREACHABLE => io::ErrorKind::NetworkUnreachable,
        reason::PORT_UNREACHABLE => io::ErrorKind::ConnectionRefused,
        reason::IN_USE => io::ErrorKind::AddrInUse,
        reason::NOT_AVAILABLE => io::ErrorKind::AddrNotAvailable,
        reason::EXHAUSTED => io::ErrorKind::OutOfMemory,
        reason::UNSUPPORTED => io::ErrorKind::Unsupported,
        reason::INVALID => io::ErrorKind::InvalidInput,
        _ => io::ErrorKind::NotConnected,
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WouldBlock => f.write_str("not ready"),
            Self::Ended(number) => f.write_str(reason::name(*number).unwrap_or("ended")),
            Self::Fault(fault) => write!(f, "the protocol module failed: {fault}"),
            Self::Shut => f.write_str("shut down for writing"),
            Self::Unknown => f.write_str("no such stream"),
            Self::Exhausted => f.write_str("all connections are taken"),
            Self::TooLong => f.write_str("longer than a datagram can be"),
        }
    }
}

impl std::error::Error for StreamError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Fault(fault) => Some(&**fault),
            _ => None,
        }
    }
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        Self::new(error.kind(), error)
    }
}
