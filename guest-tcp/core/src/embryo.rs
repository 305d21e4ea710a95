//! Half-open passive connections (SYN-RECEIVED after LISTEN): as little as a stranger may cost.

use crate::arrive::{Arrived, ecn};
use crate::connection::{announced_mss, default_mss, scale_for};
use crate::cookie;
use crate::header::ip::Ip;
use crate::header::options::Options;
use crate::header::tcp::{Flags, Tcp};
use crate::instance::{Instance, ticks};
use crate::limits::{MSS_MIN, RTO_INITIAL, RTO_MAX};
use crate::listener::Listener;
use crate::out::{Context, Payload, Segment};
use crate::seq::Seq;
use bulkhead_wit::limits::DEADLINE_MIN;
use bulkhead_wit::{Endpoint, Handle, Time};

/// What is remembered of a SYN.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Embryo {
    pub listener: u32,
    pub local: Endpoint,
    pub remote: Endpoint,
    pub irs: Seq,
    pub iss: Seq,
    pub peer_mss: u16,
    pub peer_scale: Option<u8>,
    pub sack: bool,
    /// TSval of the SYN, if timestamps are on.
    pub timestamp: Option<u32>,
    pub timestamp_at: Time,
    /// The window announced in the SYN-ACK.
    pub window: u16,
    /// When the SYN-ACK was sent first, and how often since.
    pub sent_at: Time,
    pub retransmitted: u8,
    pub deadline: Time,
    /// The connection that was offered for it (0: none), and whether the host has still to decide.
    pub offered: Handle,
    pub undecided: bool,
    /// The handshake is complete and only data is waited for (deferred accept).
    pub completed: bool,
    /// It was not kept but read from a cookie.
    pub cookie: bool,
    pub ecn: bool,
}

impl Embryo {
    /// From an acceptable SYN.
    pub(crate) fn new(segment: &Arrived, listener: &Listener, instance: &Instance, now: Time) -> Self {
        let settings = &listener.settings;
        let options = &segment.options;
        let timestamp = options.timestamps.filter(|_| settings.timestamps).map(|(value, _)| value);
        Self {
            listener: listener.number,
            local: segment.local,
            remote: segment.remote,
            irs: segment.tcp.seq,
            iss: instance.initial_sequence(now, segment.local, segment.remote),
            peer_mss: options.mss.unwrap_or(default_mss(segment.remote)).max(MSS_MIN),
            peer_scale: options.window_scale.filter(|_| settings.window_scale),
            sack: options.sack_permitted && settings.sack,
            timestamp,
            timestamp_at: now,
            window: first_window(listener),
            sent_at: now,
            retransmitted: 0,
            deadline: now.saturating_add(RTO_INITIAL),
            offered: Handle::INSTANCE,
            undecided: false,
            completed: false,
            cookie: false,
            ecn: ecn::asked(settings.ecn, segment),
        }
    }

    /// The interval until the next SYN-ACK.
    pub(crate) fn backoff(&self) -> Time {
        RTO_INITIAL.checked_shl(u32::from(self.retransmitted.min(8))).unwrap_or(RTO_MAX).min(RTO_MAX)
    }

    /// The same without being kept: its number and timestamp remember it. Without timestamps, no other options.
    pub(crate) fn into_cookie(mut self, instance: &Instance, now: Time) -> Self {
        self.cookie = true;
        self.ecn = false;
        if self.timestamp.is_none() {
            (self.peer_scale, self.sack) = (None, false);
        }
        self.iss = cookie::bake(instance, &self, now);
        self
    }

    /// Sends the SYN-ACK, or tries again soon where there is no room.
    pub(crate) fn send_syn_ack(&mut self, listener: &Listener, cx: &mut Context<'_>) -> bool {
        let sent = cx.out.segment(&self.syn_ack(listener, cx));
        if sent {
            self.deadline = cx.now.saturating_add(self.backoff());
            cx.instance.counters.segs_out += 1;
        } else {
            self.deadline = cx.now.saturating_add(DEADLINE_MIN);
        }
        sent
    }

    /// The SYN-ACK's timer fired.
    pub(crate) fn send_again(&mut self, listener: &Listener, cx: &mut Context<'_>) {
        self.retransmitted += 1;
        if self.send_syn_ack(listener, cx) {
            cx.instance.counters.retrans += 1;
        } else {
            self.retransmitted -= 1;
        }
    }

    fn syn_ack(&self, listener: &Listener, cx: &Context<'_>) -> Segment {
        let settings = &listener.settings;
        let value = if self.cookie {
            cookie::timestamp(cx.instance, self, cx.now)
        } else {
            ticks(cx.now).wrapping_add(cx.instance.timestamp_offset(self.local, self.remote))
        };
        let options = Options {
            mss: Some(announced_mss(settings, cx.instance, self.remote)),
            window_scale: self.peer_scale.map(|_| scale_for(listener.receive_first, listener.receive_max)),
            sack_permitted: self.sack,
            timestamps: self.timestamp.map(|echo| (value, echo)),
            ..Options::default()
        };
        let tcp = Tcp {
            source_port: self.local.port,
            destination_port: self.remote.port,
            seq: self.iss,
            ack: self.irs.plus(1),
            flags: Flags::SYN.with(Flags::ACK).with_if(self.ecn, Flags::ECE),
            window: self.window,
            urgent: 0,
        };
        Segment {
            ip: self.ip(settings.ttl, settings.traffic_class),
            dont_fragment: settings.pmtu_discover,
            tcp,
            options,
            syn: true,
            payload: Payload::default(),
        }
    }

    /// An empty acknowledgement, for what is out of its window.
    pub(crate) fn send_ack(&self, cx: &mut Context<'_>) {
        let offset = cx.instance.timestamp_offset(self.local, self.remote);
        let options = Options {
            timestamps: self.timestamp.map(|echo| (ticks(cx.now).wrapping_add(offset), echo)),
            ..Options::default()
        };
        let tcp = Tcp {
            source_port: self.local.port,
            destination_port: self.remote.port,
            seq: self.iss.plus(1),
            ack: self.irs.plus(1),
            flags: Flags::ACK,
            window: self.window,
            urgent: 0,
        };
        let ip = self.ip(cx.instance.settings.ttl, cx.instance.settings.traffic_class);
        let payload = Payload::default();
        let segment = Segment { ip, dont_fragment: true, tcp, options, syn: false, payload };
        cx.instance.counters.segs_out += u64::from(cx.out.segment(&segment));
    }

    fn ip(&self, ttl: u8, traffic_class: u8) -> Ip {
        Ip { source: self.local.address, destination: self.remote.address, ttl, traffic_class }
    }
}

/// The unscaled window of a SYN-ACK.
fn first_window(listener: &Listener) -> u16 {
    let mut window = listener.receive_first;
    if listener.settings.window_clamp > 0 {
        window = window.min(listener.settings.window_clamp);
    }
    u16::try_from(window).unwrap_or(u16::MAX)
}
