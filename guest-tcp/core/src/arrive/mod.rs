//! SEGMENT ARRIVES (RFC 9293 3.10.7), a file per step.

pub(crate) mod acceptability;
pub(crate) mod ack;
pub(crate) mod closed;
pub(crate) mod ecn;
pub(crate) mod fin;
pub(crate) mod listen;
pub(crate) mod rst;
pub(crate) mod syn;
pub(crate) mod syn_sent;
pub(crate) mod text;
pub(crate) mod urgent;

use crate::connection::{Connection, Ending};
use crate::emit;
use crate::header::ip::{ECN_CE, Ip};
use crate::header::options::Options;
use crate::header::tcp::{Flags, Tcp};
use crate::out::Context;
use crate::state::State;
use acceptability::Verdict;
use bulkhead_wit::Endpoint;

/// A TCP segment that arrived. The payload has a length and no bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arrived {
    /// Its number in this step's list.
    pub index: u32,
    pub local: Endpoint,
    pub remote: Endpoint,
    /// Congestion was experienced on the way (RFC 3168 5).
    pub ce: bool,
    pub tcp: Tcp,
    pub options: Options,
    /// Bytes of payload.
    pub length: u32,
    /// The largest payload of the real segments in it.
    pub mss: u16,
    /// Real segments.
    pub count: u16,
}

impl Arrived {
    /// Reads a segment in place of the one that was there; `None`, and nothing read, if its headers are malformed or it can
    /// be no connection's.
    #[inline]
    pub(crate) fn read(&mut self, index: u32, header: &[u8], segment: &bulkhead_wit::Segment) -> Option<()> {
        let ip = Ip::parse(header)?;
        let (tcp, options) = Tcp::parse(header.get(usize::from(segment.transport)..)?)?;
        // RFC 9293 3.9.2.3, MUST-57 and MUST-63: nothing from or to a broadcast or multicast address.
        if !ip.source.is_unicast() || !ip.destination.is_unicast() || tcp.source_port == 0 {
            return None;
        }
        self.index = index;
        self.local = Endpoint::new(ip.destination, tcp.destination_port);
        self.remote = Endpoint::new(ip.source, tcp.source_port);
        self.ce = ip.traffic_class & ECN_CE == ECN_CE;
        self.tcp = tcp;
        self.options.read(options);
        self.length = segment.payload;
        self.mss = segment.mss.max(1);
        self.count = segment.count.max(1);
        Some(())
    }

    pub(crate) const fn has(&self, flag: Flags) -> bool {
        self.tcp.flags.has(flag)
    }

    /// SEG.LEN: text, SYN and FIN.
    pub(crate) fn sequence_length(&self) -> u32 {
        self.length + u32::from(self.has(Flags::SYN)) + u32::from(self.has(Flags::FIN))
    }
}

/// A segment for a connection, whatever its state. What it brings about stands in the connection and the outputs.
pub(crate) fn arrive(connection: &mut Connection, segment: &Arrived, cx: &mut Context<'_>) {
    connection.recovery.tighten(cx.is_tight);
    connection.activity.segs_in = connection.activity.segs_in.wrapping_add(u32::from(segment.count));
    match connection.state {
        State::SynSent => syn_sent::arrive(connection, segment, cx),
        _ => otherwise(connection, segment, cx),
    }
}

/// RFC 9293 3.10.7.4: the steps for all other states, in their order.
pub(crate) fn otherwise(connection: &mut Connection, segment: &Arrived, cx: &mut Context<'_>) {
    let stripped = syn::strip_simultaneous(connection, segment);
    let segment = stripped.as_ref().unwrap_or(segment);
    match acceptability::check(connection, segment, cx.now) {
        Verdict::Acceptable => {}
        Verdict::Unacceptable if rst::is_after_fin(connection, segment) => {}
        Verdict::Unacceptable => return acceptability::refuse(connection, segment, cx),
    }
    if segment.has(Flags::RST) {
        return rst::arrive(connection, segment, cx);
    }
    if segment.has(Flags::SYN) {
        return syn::arrive(connection, cx);
    }
    // Fifth: an acknowledgement is a must; without it the segment is dropped.
    if !segment.has(Flags::ACK) {
        cx.instance.counters.dropped += 1;
        return;
    }
    connection.restart_keepalive(cx.now);
    if !ack::arrive(connection, segment, cx) {
        return;
    }
    // Only now: nothing is believed of a segment that acknowledges what was never sent (RFC 5961 5.2).
    acceptability::remember_timestamp(connection, segment, cx.now);
    if connection.ending.is_some() {
        return;
    }
    ecn::arrive(connection, segment);
    urgent::arrive(connection, segment, cx);
    text::arrive(connection, segment, cx);
    if connection.ending.is_none() {
        fin::arrive(connection, segment, cx);
    }
    // Only now: the segment that acknowledges our FIN may bring the peer's.
    if connection.ending.is_none() && connection.state == State::FinWait2 && connection.closed {
        connection.end(Ending::FinWait2);
    }
    if connection.ack_now && text::must_be_acknowledged_alone(connection) {
        emit::ack(connection, cx);
    }
}
