//! The states of RFC 9293 3.3.2 that a connection can be in. LISTEN, and SYN-RECEIVED after it, are a listener's and an
//! embryo's; TIME-WAIT is [`time_wait`](crate::time_wait)'s; CLOSED is none at all.

/// A connection's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    SynSent,
    /// After a simultaneous open.
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
}

impl State {
    /// The registry's number of it.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::SynSent => 2,
            Self::SynReceived => 3,
            Self::Established => 4,
            Self::FinWait1 => 5,
            Self::FinWait2 => 6,
            Self::CloseWait => 7,
            Self::Closing => 8,
            Self::LastAck => 9,
        }
    }

    /// Back from its number.
    pub(crate) const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            2 => Self::SynSent,
            3 => Self::SynReceived,
            4 => Self::Established,
            5 => Self::FinWait1,
            6 => Self::FinWait2,
            7 => Self::CloseWait,
            8 => Self::Closing,
            9 => Self::LastAck,
            _ => return None,
        })
    }

    /// Both sequence numbers are agreed on (RFC 9293 3.5).
    pub(crate) const fn is_synchronized(self) -> bool {
        !matches!(self, Self::SynSent | Self::SynReceived)
    }

    /// The peer may still send text.
    pub(crate) const fn takes_text(self) -> bool {
        matches!(self, Self::Established | Self::FinWait1 | Self::FinWait2)
    }
}
