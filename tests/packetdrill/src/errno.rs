//! Error numbers as the system calls give them.

use bulkhead::StreamError;
use bulkhead_wit::registry::reason;
use libc::c_int;

/// The number of an error, as in `errno`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Errno(pub(crate) c_int);

/// What a call gives.
pub(crate) type Outcome<T> = Result<T, Errno>;

impl Errno {
    pub(crate) const AGAIN: Self = Self(libc::EAGAIN);
    pub(crate) const BADF: Self = Self(libc::EBADF);
    pub(crate) const FAULT: Self = Self(libc::EFAULT);
    pub(crate) const INVALID: Self = Self(libc::EINVAL);
    pub(crate) const NO_OPTION: Self = Self(libc::ENOPROTOOPT);
    pub(crate) const NOT_CONNECTED: Self = Self(libc::ENOTCONN);
    pub(crate) const PIPE: Self = Self(libc::EPIPE);
}

impl From<&StreamError> for Errno {
    fn from(error: &StreamError) -> Self {
        Self(match error {
            StreamError::WouldBlock => libc::EAGAIN,
            StreamError::Ended(number) => of_reason(*number),
            StreamError::Fault(_) => libc::ECONNABORTED,
            StreamError::Shut => libc::EPIPE,
            StreamError::Unknown => libc::ENOTCONN,
            StreamError::Exhausted => libc::ENOBUFS,
            _ => libc::EIO,
        })
    }
}

impl From<StreamError> for Errno {
    fn from(error: StreamError) -> Self {
        Self::from(&error)
    }
}

fn of_reason(number: u16) -> c_int {
    match number {
        reason::RESET | reason::DATA_AFTER_CLOSE => libc::ECONNRESET,
        reason::REFUSED | reason::PORT_UNREACHABLE => libc::ECONNREFUSED,
        reason::TIMED_OUT | reason::KEEPALIVE | reason::LINGER => libc::ETIMEDOUT,
        reason::HOST_UNREACHABLE | reason::PROHIBITED => libc::EHOSTUNREACH,
        reason::NETWORK_UNREACHABLE => libc::ENETUNREACH,
        reason::IN_USE => libc::EADDRINUSE,
        reason::NOT_AVAILABLE => libc::EADDRNOTAVAIL,
        reason::EXHAUSTED => libc::ENOBUFS,
        reason::UNSUPPORTED => libc::EOPNOTSUPP,
        reason::INVALID => libc::EINVAL,
        reason::ABORTED => libc::ECONNABORTED,
        _ => libc::ENOTCONN,
    }
}
