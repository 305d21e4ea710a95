//! Packets as a script would write them, for failures and traces.

use super::script::{Body, Icmp, Network, Number, Packet, Tcp, TcpOption, flag};
use std::fmt;

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.network)?;
        match &self.body {
            Body::Tcp(tcp) => write!(f, "{tcp}"),
            Body::Icmp(icmp) => write!(f, "{icmp}"),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ecn = |bits: u8| ["noecn", "ect1", "ect0", "ce"].get(usize::from(bits & 3)).copied();
        let parts = [
            self.ecn.and_then(ecn).map(str::to_owned),
            self.ttl.map(|ttl| format!("ttl {ttl}")),
            self.tos.map(|tos| format!("tos {tos:#x}")),
            self.df.map(|df| if df { "df" } else { "nodf" }.to_owned()),
            self.port.map(|port| format!("port {port}")),
            self.local.map(|port| format!("local {port}")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() { Ok(()) } else { write!(f, "[{}] ", parts.join(", ")) }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Is(number) => write!(f, "{number}"),
        }
    }
}

/// A TCP segment from its header's bytes and the length of its payload, in the wire's own numbers.
pub(crate) fn segment_text(header: &[u8], length: u32) -> Option<String> {
    let (tcp, _) = super::wire::read_segment(header)?;
    Some(Tcp { length, ..tcp }.to_string())
}

/// Flags by their letters.
pub(super) fn flags(flags: u8) -> String {
    let letters: String =
        flag::LETTERS.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, letter)| letter).collect();
    if letters.is_empty() { "-".to_owned() } else { letters }
}

impl fmt::Display for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.seq.wrapping_add(self.length);
        write!(f, "{} {}:{end}({})", flags(self.flags), self.seq, self.length)?;
        if let Some(ack) = self.ack {
            write!(f, " ack {ack}")?;
        }
        if let Some(window) = self.window {
            write!(f, " win {window}")?;
        }
        if let Some(urgent) = self.urgent {
            write!(f, " urg {urgent}")?;
        }
        match &self.options {
            None => f.write_str(" <...>"),
            Some(options) if options.is_empty() => Ok(()),
            Some(options) => {
                let options: Vec<String> = options.iter().map(ToString::to_string).collect();
                write!(f, " <{}>", options.join(","))
            }
        }
    }
}

impl fmt::Display for TcpOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => f.write_str("eol"),
            Self::Nop => f.write_str("nop"),
            Self::Mss(mss) => write!(f, "mss {mss}"),
            Self::WindowScale(shift) => write!(f, "wscale {shift}"),
            Self::SackOk => f.write_str("sackOK"),
            Self::Sack(blocks) => {
                f.write_str("sack")?;
                blocks.iter().try_for_each(|(left, right)| write!(f, " {left}:{right}"))
            }
            Self::Timestamps(value, echo) => write!(f, "TS val {value} ecr {echo}"),
            Self::Hex(bytes) => {
                f.write_str("hex ")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl fmt::Display for Icmp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Echo { is_reply, id, seq, length } => {
                let name = if *is_reply { "echo_reply" } else { "echo_request" };
                write!(f, "icmp {name} id {id} seq {seq} len {length}")
            }
            Self::Error { kind: (kind, code), mtu, quoted } => {
                write!(f, "icmp error type {kind} code {code}")?;
                if *mtu > 0 {
                    write!(f, " mtu {mtu}")?;
                }
                quoted.as_ref().map_or(Ok(()), |quoted| write!(f, " [{quoted}]"))
            }
        }
    }
}
