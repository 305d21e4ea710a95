//! Whether what left is what the script expects.

use super::flow::{End, offset, pattern};
use super::script::{Body, Icmp, Network, Number, Packet, Tcp, TcpOption, flag};

/// How packets are compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    /// PSH is not looked at.
    pub is_push_free: bool,
    /// How far our timestamps may be off, in ticks.
    pub clock_slack: u32,
}

/// What differs, in words; empty if nothing does. `got` has the script's numbers.
pub(super) fn differences(expected: &Packet, got: &Packet, how: How) -> Vec<&'static str> {
    let mut differ = network(&expected.network, &got.network);
    match (&expected.body, &got.body) {
        (Body::Tcp(expected), Body::Tcp(got)) => tcp(expected, got, how, &mut differ),
        (Body::Icmp(expected), Body::Icmp(got)) => icmp(expected, got, how, &mut differ),
        _ => differ.push("protocol"),
    }
    differ
}

fn network(expected: &Network, got: &Network) -> Vec<&'static str> {
    let differs =
        |expected: Option<u32>, got: Option<u32>| expected.is_some_and(|expected| Some(expected) != got);
    let byte = |value: Option<u8>| value.map(u32::from);
    [
        ("ECN bits", byte(expected.ecn), byte(got.ecn)),
        ("ttl", byte(expected.ttl), byte(got.ttl)),
        ("tos", byte(expected.tos), byte(got.tos)),
        ("df", expected.df.map(u32::from), got.df.map(u32::from)),
        ("remote port", expected.port.map(u32::from), got.port.map(u32::from)),
        ("local port", expected.local.map(u32::from), got.local.map(u32::from)),
    ]
    .into_iter()
    .filter(|(_, expected, got)| differs(*expected, *got))
    .map(|(name, _, _)| name)
    .collect()
}

fn tcp(expected: &Tcp, got: &Tcp, how: How, differ: &mut Vec<&'static str>) {
    let ignored = if how.is_push_free { flag::PSH } else { 0 };
    let number = |expected: Option<Number>, got: Option<Number>| {
        expected.is_none_or(|expected| got.is_some_and(|got| expected.allows(got, 0)))
    };
    let checks = [
        ("flags", expected.flags & !ignored == got.flags & !ignored),
        ("sequence number", expected.seq == got.seq),
        ("length", expected.length == got.length),
        ("ack", number(expected.ack, got.ack)),
        ("window", number(expected.window, got.window)),
        ("urgent pointer", expected.urgent.is_none_or(|urgent| got.urgent == Some(urgent))),
        ("options", options(expected.options.as_deref(), got.options.as_deref(), how)),
    ];
    differ.extend(checks.into_iter().filter(|(_, holds)| !holds).map(|(name, _)| name));
}

fn options(expected: Option<&[TcpOption]>, got: Option<&[TcpOption]>, how: How) -> bool {
    let Some(expected) = expected else { return true };
    let got = got.unwrap_or_default();
    let equal = |(expected, got): (&TcpOption, &TcpOption)| match (expected, got) {
        (TcpOption::Mss(expected), TcpOption::Mss(got))
        | (TcpOption::WindowScale(expected), TcpOption::WindowScale(got)) => expected.allows(*got, 0),
        (TcpOption::Timestamps(value, echo), TcpOption::Timestamps(got_value, got_echo)) => {
            value.allows(*got_value, how.clock_slack) && echo.allows(*got_echo, 0)
        }
        _ => expected == got,
    };
    expected.len() == got.len() && expected.iter().zip(got).all(equal)
}

fn icmp(expected: &Icmp, got: &Icmp, how: How, differ: &mut Vec<&'static str>) {
    match (expected, got) {
        (
            Icmp::Error { kind, mtu, quoted },
            Icmp::Error { kind: got_kind, mtu: got_mtu, quoted: got_quoted },
        ) => {
            if kind != got_kind {
                differ.push("ICMP type or code");
            }
            if mtu != got_mtu {
                differ.push("ICMP MTU");
            }
            if let (Some(quoted), Some(got)) = (quoted, got_quoted) {
                tcp(quoted, got, how, differ);
            }
        }
        _ if expected == got => {}
        _ => differ.push("ICMP message"),
    }
}

/// Whether a payload of ours is what the application wrote at its place in the stream.
pub(super) fn is_payload_right(tcp: &Tcp, payload: &[u8]) -> bool {
    let from = offset(tcp);
    (0_u32..).zip(payload).all(|(at, byte)| *byte == pattern(End::Local, from.wrapping_add(at)))
}

/// Puts `next` at the end of `first` if it goes on exactly there and says nothing else.
pub(super) fn merge(first: &mut Tcp, next: &Tcp) -> bool {
    let ends = flag::PSH | flag::FIN;
    let goes_on = next.seq == first.seq.wrapping_add(first.length)
        && first.length > 0
        && next.length > 0
        && first.flags & flag::FIN == 0
        && first.flags & !ends == next.flags & !ends
        && first.ack == next.ack
        && first.window == next.window
        && first.options == next.options;
    if goes_on {
        first.length += next.length;
        first.flags |= next.flags;
    }
    goes_on
}
