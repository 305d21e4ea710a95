//! TIME-WAIT (RFC 9293 3.10.7.4), and FIN-WAIT-2 without an owner: all that is left of a connection that the host has
//! done with.

use crate::arrive::Arrived;
use crate::arrive::acceptability::in_window;
use crate::connection::Connection;
use crate::header::ip::Ip;
use crate::header::options::Options;
use crate::header::tcp::{Flags, Tcp};
use crate::instance::ticks;
use crate::limits::{OUT_OF_WINDOW_INTERVAL, REUSE_AFTER, TIME_WAIT};
use crate::out::{Context, Payload, Segment};
use crate::seq::Seq;
use bulkhead_wit::{Endpoint, Time};

/// The rest of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TimeWait {
    pub local: Endpoint,
    pub remote: Endpoint,
    /// SND.NXT and RCV.NXT.
    pub send_next: Seq,
    pub receive_next: Seq,
    pub window: u16,
    pub scale: u8,
    /// TS.Recent and our clock's start, if timestamps are on.
    pub timestamps: Option<(u32, u32)>,
    pub deadline: Time,
    /// The peer's FIN is still to come.
    pub fin_wait_2: bool,
    pub answered_at: Time,
    pub ttl: u8,
    pub traffic_class: u8,
}

/// What is to become of it after a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Then {
    /// It stays, with its deadline.
    Stay,
    /// It ends.
    End,
    /// It ends, and the SYN begins anew (RFC 6191).
    Anew,
}

impl TimeWait {
    pub(crate) fn new(connection: &mut Connection, fin_wait_2: bool, now: Time) -> Self {
        let lasts = if fin_wait_2 { connection.settings.linger2 } else { TIME_WAIT };
        let timestamps = (connection.receive.timestamp, connection.negotiated.timestamp_offset);
        Self {
            local: connection.local,
            remote: connection.remote,
            send_next: connection.send.number(connection.recovery.sent_end()),
            receive_next: connection.receive.next_number(),
            window: connection.receive.announce(connection.settings.window_clamp),
            scale: connection.receive.scale,
            timestamps: connection.negotiated.timestamps.then_some(timestamps),
            deadline: now.saturating_add(lasts),
            fin_wait_2,
            answered_at: 0,
            ttl: connection.settings.ttl,
            traffic_class: connection.settings.traffic_class,
        }
    }

    /// Whether an active open may take its ends: the peer can tell old segments by their timestamps (RFC 6191 applied to
    /// our own side; Linux: `tcp_tw_reuse`), once that clock has surely moved on.
    pub(crate) fn may_be_reused(&self, now: Time) -> bool {
        let since = self.deadline.saturating_sub(TIME_WAIT);
        self.timestamps.is_some() && !self.fin_wait_2 && now.saturating_sub(since) >= REUSE_AFTER
    }

    /// The number that a connection begins with that follows: beyond all that this one can have sent.
    pub(crate) fn next_initial(&self) -> Seq {
        self.send_next.plus(u32::from(u16::MAX) + 2)
    }

    /// A segment for it.
    pub(crate) fn arrive(&mut self, segment: &Arrived, cx: &mut Context<'_>) -> Then {
        if self.begins_anew(segment) {
            return Then::Anew;
        }
        let start = i64::from(segment.tcp.seq.after(self.receive_next));
        let length = i64::from(segment.sequence_length());
        let window = if self.fin_wait_2 { i64::from(self.window) << self.scale } else { 0 };
        let old = segment
            .options
            .timestamps
            .zip(self.timestamps)
            .is_some_and(|((value, _), (recent, _))| Seq(value).is_before(Seq(recent)));
        if segment.has(Flags::RST) {
            return self.reset(start, old, cx);
        }
        // In TIME-WAIT nothing is acceptable but a bare acknowledgement: the peer's stream has ended.
        let beyond = !self.fin_wait_2 && length > 0;
        if old || beyond || !in_window(start, length, 0, window) || segment.has(Flags::SYN) {
            self.answer(segment, cx);
            // RFC 9293: a retransmission of the peer's FIN restarts the 2 MSL timeout.
            if segment.has(Flags::FIN) && !old && !self.fin_wait_2 && start + length == 0 {
                self.deadline = cx.now.saturating_add(TIME_WAIT);
            }
            return Then::Stay;
        }
        if !segment.has(Flags::ACK) {
            return Then::Stay;
        }
        if let (Some((value, _)), Some((recent, _))) = (segment.options.timestamps, self.timestamps.as_mut())
        {
            *recent = value;
        }
        if self.fin_wait_2 { self.await_fin(segment, start, cx) } else { Then::Stay }
    }

    /// FIN-WAIT-2 without an owner: text finds nobody to read it (RFC 2525 2.17), the FIN leads to TIME-WAIT.
    fn await_fin(&mut self, segment: &Arrived, start: i64, cx: &mut Context<'_>) -> Then {
        if start + i64::from(segment.length) > 0 {
            crate::emit::reset_for(segment, cx);
            return Then::End;
        }
        if segment.has(Flags::FIN) && start + i64::from(segment.length) == 0 {
            self.receive_next = self.receive_next.plus(1);
            self.fin_wait_2 = false;
            self.deadline = cx.now.saturating_add(TIME_WAIT);
            self.acknowledge(cx);
        }
        Then::Stay
    }

    /// RFC 1337: a reset does not cut TIME-WAIT short. FIN-WAIT-2 it ends, at exactly RCV.NXT (RFC 5961).
    fn reset(&self, start: i64, old: bool, cx: &mut Context<'_>) -> Then {
        if self.fin_wait_2 && start == 0 && !old {
            cx.instance.counters.resets_in += 1;
            return Then::End;
        }
        Then::Stay
    }

    /// RFC 9293 MUST-13 and RFC 6191 2: a SYN that cannot be an old duplicate, by timestamp or else by number.
    fn begins_anew(&self, segment: &Arrived) -> bool {
        let flags = segment.tcp.flags;
        if !flags.has(Flags::SYN) || flags.has(Flags::ACK) || flags.has(Flags::RST) || self.fin_wait_2 {
            return false;
        }
        match (segment.options.timestamps, self.timestamps) {
            (Some((value, _)), Some((recent, _))) if value != recent => Seq(value).after(Seq(recent)) > 0,
            _ => segment.tcp.seq.after(self.receive_next) > 0,
        }
    }

    fn answer(&mut self, segment: &Arrived, cx: &mut Context<'_>) {
        let quiet = cx.now.saturating_sub(self.answered_at) < OUT_OF_WINDOW_INTERVAL;
        if segment.sequence_length() == 0 && self.answered_at > 0 && quiet {
            return;
        }
        self.answered_at = cx.now.max(1);
        self.acknowledge(cx);
    }

    /// An acknowledgement of everything.
    pub(crate) fn acknowledge(&self, cx: &mut Context<'_>) {
        let timestamps = self.timestamps.map(|(recent, offset)| (ticks(cx.now).wrapping_add(offset), recent));
        let segment = Segment {
            ip: Ip {
                source: self.local.address,
                destination: self.remote.address,
                ttl: self.ttl,
                traffic_class: self.traffic_class,
            },
            dont_fragment: true,
            tcp: Tcp {
                source_port: self.local.port,
                destination_port: self.remote.port,
                seq: self.send_next,
                ack: self.receive_next,
                flags: Flags::ACK,
                window: self.window,
                urgent: 0,
            },
            options: Options { timestamps, ..Options::default() },
            syn: false,
            payload: Payload::default(),
        };
        cx.instance.counters.segs_out += u64::from(cx.out.segment(&segment));
    }
}
