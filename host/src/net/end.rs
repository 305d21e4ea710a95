//! Why a stack is not driven any more, as its sockets are told.

use crate::error::StreamError;
use crate::fault::Fault;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Why sockets of a stack have ended all together.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum NetError {
    /// The stack was shut down.
    Shutdown,
    /// The driver was dropped, or it panicked.
    DriverGone,
    /// A successor has taken over.
    HandedOver,
    /// The protocol module failed.
    Fault(Arc<Fault>),
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shutdown => f.write_str("the stack was shut down"),
            Self::HandedOver => f.write_str("another process has taken over"),
            Self::DriverGone => f.write_str("the stack's driver is gone"),
            Self::Fault(fault) => write!(f, "the protocol module failed: {fault}"),
        }
    }
}

impl std::error::Error for NetError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Fault(fault) => Some(&**fault),
            _ => None,
        }
    }
}

impl From<NetError> for io::Error {
    fn from(error: NetError) -> Self {
        match error {
            // The same error whether the stack or the driver told it.
            NetError::Fault(fault) => StreamError::Fault(fault).into(),
            other => Self::new(io::ErrorKind::ConnectionAborted, other),
        }
    }
}
