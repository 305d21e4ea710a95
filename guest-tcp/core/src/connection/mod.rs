//! The transmission control block (RFC 9293 3.3.1), by what its parts are for.

mod info;
mod receive;
mod send;
mod tuning;

pub(crate) use receive::{Receive, scale_for};
pub(crate) use send::Send;
pub(crate) use tuning::Tuning;

use crate::header::ip::Ip;
use crate::header::tcp::{Flags, Tcp};
use crate::instance::{Instance, earlier, mss_of, ticks};
use crate::limits;
use crate::recovery::{Algorithm, Parameters, Recovery};
use crate::seq::Seq;
use crate::settings::{BBR, RENO, Settings};
use crate::state::State;
use alloc::sync::Arc;
use bulkhead_wit::{Endpoint, Handle, Mark, NEVER, Time};

/// How a connection ends, decided where it is found out and carried out by the owner of all connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// Nothing is left of it; the registry's reason and a value.
    Gone(u16, u32),
    /// Both streams have ended: 2 MSL of quiet.
    TimeWait,
    /// Nobody reads and our FIN is acknowledged: only the peer's FIN is still to come.
    FinWait2,
}

/// What both sides agreed on with their SYNs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Negotiated {
    pub timestamps: bool,
    pub sack: bool,
    pub window_scale: bool,
    /// In SYN-SENT: our SYN asks for it.
    pub ecn: bool,
    /// Our timestamp clock's start.
    pub timestamp_offset: u32,
}

/// Deadlines of a connection; [`NEVER`] where one is not set. Loss timers are recovery's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Deadlines {
    pub delayed_ack: Time,
    /// The next window probe, also the override of silly window avoidance (RFC 9293 3.8.6.1, 3.8.6.2.1).
    pub persist: Time,
    pub keepalive: Time,
    /// When a tail that is held back is sent after all.
    pub cork: Time,
    /// The end of a linger or of the user timeout while nothing is in flight.
    pub linger: Time,
}

/// What happened lately, for `info`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Activity {
    pub sent_at: Time,
    pub received_at: Time,
    pub acked_at: Time,
    pub segs_in: u32,
    pub segs_out: u32,
    pub out_of_order: u32,
    pub bytes_sent: u64,
}

/// Who was quiet for longer is in no cache, if there are many.
const QUIET: Time = 10 * bulkhead_wit::limits::MILLISECOND;

/// One connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Connection {
    pub handle: Handle,
    pub local: Endpoint,
    pub remote: Endpoint,
    pub state: State,
    pub settings: Arc<Settings>,
    pub negotiated: Negotiated,
    pub send: Send,
    pub receive: Receive,
    pub recovery: Recovery,
    pub deadlines: Deadlines,
    pub activity: Activity,
    /// The MTU of the path as far as it is known.
    pub path_mtu: u32,
    /// Nobody reads any more (CLOSE was called).
    pub closed: bool,
    /// `choosing` is still to be said.
    pub chosen: bool,
    /// An acknowledgement is to be sent as soon as there is room.
    pub ack_now: bool,
    /// What ended it, until that is carried out.
    pub ending: Option<Ending>,
    /// There is something to mark in this step.
    pub marked: bool,
    /// The segment of this step that advanced SND.UNA.
    pub by: u16,
    /// It stands in the list of those with something to send.
    pub ready: bool,
    /// When an out-of-window segment was answered last.
    pub out_of_window_at: Time,
    /// The soft error that is told if the connection times out (RFC 5461).
    pub soft_error: u16,
    /// The state's number under which it is counted; 0 where it is not yet.
    pub counted: u8,
}

/// What a new connection is made of.
pub(crate) struct Begin {
    pub handle: Handle,
    pub local: Endpoint,
    pub remote: Endpoint,
    pub settings: Arc<Settings>,
    pub iss: Seq,
    pub receive_first: u32,
    pub receive_max: u32,
}

impl Connection {
    /// Looks at all of it at once, if it was quiet for so long that others have taken its place in the processor's caches: then its
    /// lines are fetched side by side, and not one after the other as they are needed. Nothing depends on what is seen.
    #[inline]
    pub(crate) fn approach(&self, now: Time) {
        let activity = &self.activity;
        if now.saturating_sub(activity.received_at.max(activity.sent_at)) > QUIET {
            let seen = self.recovery.glance()
                ^ self.receive.next
                ^ self.receive.tuning.rtt
                ^ u64::from(self.receive.scale)
                ^ self.send.written
                ^ u64::from(self.send.window)
                ^ self.deadlines.persist;
            core::hint::black_box(seen);
        }
    }

    /// Pieces that its scoreboard and its reassembly are in.
    pub(crate) fn pieces(&self) -> usize {
        self.recovery.pieces() + self.receive.reassembly.islands().len()
    }

    /// A connection in SYN-SENT that has sent nothing yet.
    pub(crate) fn new(begin: Begin, instance: &Instance) -> Self {
        let Begin { handle, local, remote, settings, iss, receive_first, receive_max } = begin;
        let mut connection = Self {
            handle,
            local,
            remote,
            state: State::SynSent,
            negotiated: Negotiated {
                timestamps: settings.timestamps,
                sack: settings.sack,
                window_scale: settings.window_scale,
                ecn: settings.ecn == 1,
                timestamp_offset: instance.timestamp_offset(local, remote),
            },
            send: Send::new(iss, default_mss(remote)),
            receive: Receive::new(receive_first, receive_max, settings.window_scale),
            recovery: Recovery::new(parameters(&settings)),
            deadlines: Deadlines {
                delayed_ack: NEVER,
                persist: NEVER,
                keepalive: NEVER,
                cork: NEVER,
                linger: NEVER,
            },
            settings,
            activity: Activity::default(),
            path_mtu: instance.mtu,
            closed: false,
            chosen: false,
            ack_now: false,
            ending: None,
            marked: false,
            by: 0,
            ready: false,
            out_of_window_at: 0,
            soft_error: 0,
            counted: 0,
        };
        connection.recovery.mss_changed(u32::from(connection.send_mss()));
        connection
    }

    /// One that is to be filled with what was saved.
    pub(crate) fn blank() -> Self {
        let nowhere = Endpoint::default();
        let (settings, iss) = (Arc::default(), Seq(0));
        let begin = Begin {
            handle: Handle::INSTANCE,
            local: nowhere,
            remote: nowhere,
            settings,
            iss,
            receive_first: 0,
            receive_max: 0,
        };
        Self::new(begin, &Instance::default())
    }

    /// The earliest of all deadlines.
    pub(crate) fn deadline(&self) -> Time {
        let Deadlines { delayed_ack, persist, keepalive, cork, linger } = self.deadlines;
        let own = delayed_ack.min(persist).min(keepalive).min(cork).min(linger);
        earlier(earlier(own, self.recovery.next_deadline()), self.user_timeout())
    }

    /// When the user timeout is over (RFC 9293 3.8.3, RFC 5482).
    pub(crate) fn user_timeout(&self) -> Option<Time> {
        let timeout = self.settings.user_timeout;
        let since = self.recovery.waiting_since().filter(|_| timeout > 0)?;
        Some(since.saturating_add(timeout))
    }

    /// Payload bytes of a full segment now: the peer's MSS and the path's, less options (RFC 9293 3.7.1, RFC 6691).
    pub(crate) fn send_mss(&self) -> u16 {
        let mut mss = self.send.peer_mss.min(mss_of(self.path_mtu, self.remote.address));
        if self.settings.maxseg > 0 {
            mss = mss.min(self.settings.maxseg);
        }
        mss.max(limits::MSS_MIN).saturating_sub(self.timestamps_length()).max(1)
    }

    fn timestamps_length(&self) -> u16 {
        if self.negotiated.timestamps { crate::header::options::TIMESTAMPS_LENGTH } else { 0 }
    }

    /// The MSS that we announce: what the link takes, without options (RFC 6691).
    pub(crate) fn announced_mss(&self, instance: &Instance) -> u16 {
        announced_mss(&self.settings, instance, self.remote)
    }

    /// TSval at `now` (RFC 7323 4).
    pub(crate) fn timestamp(&self, now: Time) -> u32 {
        ticks(now).wrapping_add(self.negotiated.timestamp_offset)
    }

    /// The network header of what we send.
    pub(crate) fn ip(&self) -> Ip {
        Ip {
            source: self.local.address,
            destination: self.remote.address,
            ttl: self.settings.ttl,
            traffic_class: self.settings.traffic_class,
        }
    }

    /// A TCP header without window.
    pub(crate) fn tcp(&self, seq: Seq, flags: Flags) -> Tcp {
        let flags = flags.with_if(self.receive.ecn_echo && !flags.has(Flags::SYN), Flags::ECE);
        Tcp {
            source_port: self.local.port,
            destination_port: self.remote.port,
            seq,
            ack: if flags.has(Flags::ACK) { self.receive.next_number() } else { Seq(0) },
            flags,
            window: 0,
            urgent: 0,
        }
    }

    /// Whether there can be anything to send.
    pub(crate) fn wants_turn(&self) -> bool {
        self.ack_now || self.send.supply() > self.recovery.sent_end() || self.recovery.owes()
    }

    /// How far it has come.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            connection: self.handle,
            exposed: self.receive.next,
            acknowledged: self.acknowledged(),
            by: u32::from(self.by),
            want_receive: self.receive.tuning.want,
            // Twice the congestion window, so that it is not the queue that limits (Linux: `tcp_sndbuf_expand`).
            want_send: u32::try_from(2 * self.recovery.cwnd()).unwrap_or(u32::MAX),
        }
    }

    /// Bytes that the peer has acknowledged, without SYN and FIN.
    pub(crate) fn acknowledged(&self) -> u64 {
        let data = self.recovery.acknowledged().saturating_sub(1);
        self.send.end().map_or(data, |end| data.min(end))
    }

    /// Bytes that were sent at least once.
    pub(crate) fn sent(&self) -> u64 {
        let data = self.recovery.sent_end().saturating_sub(1);
        self.send.end().map_or(data, |end| data.min(end))
    }

    /// Whether our FIN is acknowledged.
    pub(crate) fn fin_acknowledged(&self) -> bool {
        self.send.end().is_some_and(|end| self.recovery.acknowledged() > end + 1)
    }

    /// Ends it, unless it has ended already.
    pub(crate) fn end(&mut self, ending: Ending) {
        self.ending.get_or_insert(ending);
    }

    /// Retransmissions and probes before giving up.
    pub(crate) fn retries(&self) -> u8 {
        match self.state {
            State::SynSent | State::SynReceived => self.settings.syn_retries,
            _ if self.closed => self.settings.retries.min(limits::ORPHAN_RETRIES),
            _ => self.settings.retries,
        }
    }

    /// Restarts the keepalive timer: something arrived (RFC 9293 3.8.4).
    pub(crate) fn restart_keepalive(&mut self, now: Time) {
        self.send.keepalive_probes = 0;
        self.deadlines.keepalive = if self.settings.keepalive_idle == 0 || !self.state.is_synchronized() {
            NEVER
        } else {
            now.saturating_add(self.settings.keepalive_idle)
        };
    }
}

/// RFC 9293 3.7.1, MUST-15: what a peer takes that names no MSS.
pub(crate) fn default_mss(remote: Endpoint) -> u16 {
    if remote.address.is_v4() { limits::MSS_DEFAULT_V4 } else { limits::MSS_DEFAULT_V6 }
}

/// The MSS option of our SYN.
pub(crate) fn announced_mss(settings: &Settings, instance: &Instance, remote: Endpoint) -> u16 {
    let mss = instance.mss_for(remote.address);
    if settings.maxseg > 0 { mss.min(settings.maxseg.max(limits::MSS_MIN)) } else { mss }
}

/// What recovery starts with.
pub(crate) fn parameters(settings: &Settings) -> Parameters {
    Parameters {
        initial_window: settings.initial_window,
        algorithm: match settings.congestion {
            RENO => Algorithm::Reno,
            BBR => Algorithm::Bbr,
            _ => Algorithm::Cubic,
        },
        rto_min: settings.rto_min,
        timestamp_tick: limits::TIMESTAMP_TICK,
        pacing: !settings.linux,
        linux: settings.linux,
        super_segment_min: settings.super_segment_min,
        max_pacing_rate: settings.max_pacing_rate,
        ..Parameters::default()
    }
}
