//! What each part of the state consists of. A field that is added here changes the format's number.

use super::codec::{Fixed, Put, Reader, Refill, Save, Take, Writer, fixed, refilled, varying};
use crate::connection::{Activity, Connection, Deadlines, Ending, Negotiated, Receive, Send, Tuning};
use crate::embryo::Embryo;
use crate::fragment::Slot;
use crate::hash::Key;
use crate::instance::{Counters, Instance, Keys, Rate};
use crate::listener::Listener;
use crate::reassembly::{Island, Reassembly};
use crate::recovery::Recovery;
use crate::seq::Seq;
use crate::settings::Settings;
use crate::state::State;
use crate::time_wait::TimeWait;
use bulkhead_wit::{Address, Endpoint, Handle, Listening, Prefix};

/// The number of the format.
pub(crate) const FORMAT: u32 = 6;

/// One number that is a type of its own.
macro_rules! wrapped {
    ($($name:ty: $number:ty)*) => {$(
        impl Fixed for $name {
            const WIDTH: usize = <$number>::WIDTH;
            #[inline(always)]
            fn put(&self, to: &mut Put<'_>) {
                self.0.put(to);
            }
            #[inline(always)]
            fn take(from: &mut Take<'_>) -> Option<Self> {
                <$number>::take(from).map(Self)
            }
        }
    )*};
}

wrapped! { Seq: u32 Handle: u64 Listening: u8 }

impl Fixed for Key {
    const WIDTH: usize = 16;
    #[inline(always)]
    fn put(&self, to: &mut Put<'_>) {
        (self.0, self.1).put(to);
    }
    #[inline(always)]
    fn take(from: &mut Take<'_>) -> Option<Self> {
        <(u64, u64)>::take(from).map(|(first, second)| Self(first, second))
    }
}

impl Fixed for State {
    const WIDTH: usize = 1;
    #[inline(always)]
    fn put(&self, to: &mut Put<'_>) {
        self.number().put(to);
    }
    #[inline(always)]
    fn take(from: &mut Take<'_>) -> Option<Self> {
        Self::from_number(u8::take(from)?)
    }
}

/// An ending is carried out in the step that finds it: there is none between steps.
impl Fixed for Ending {
    const WIDTH: usize = 0;
    #[inline(always)]
    fn put(&self, _: &mut Put<'_>) {}
    #[inline(always)]
    fn take(_: &mut Take<'_>) -> Option<Self> {
        None
    }
}

impl Refill for Recovery {
    fn save(&self, out: &mut Writer) {
        Self::save(self, out);
    }
    fn refill(&mut self, from: &mut Reader<'_>) -> Option<()> {
        Self::refill(self, &mut from.bytes)
    }
}

impl Save for Reassembly {
    fn save(&self, out: &mut Writer) {
        self.islands.save(out);
    }
    fn load(from: &mut Reader<'_>) -> Option<Self> {
        Save::load(from).map(|islands| Self { islands })
    }
}

impl Save for Option<Slot> {
    fn save(&self, out: &mut Writer) {
        self.is_some().save(out);
        if let Some(slot) = self {
            slot.save(out);
        }
    }
    fn load(from: &mut Reader<'_>) -> Option<Self> {
        if bool::load(from)? { Slot::load(from).map(Some) } else { Some(None) }
    }
}

fixed! {
    Address { high, low }
    Endpoint { address, port }
    Prefix { address, length }
    Island { start, end, stamp }
    Rate { second, used }
    Keys { table, isn, timestamps, ports, cookies }
    Counters {
        segs_in, segs_out, retrans, dropped, resets_out, resets_in, challenges, cookies_sent, cookies_received,
        backlog_drops, echoes,
    }
    Settings {
        linux, nodelay, cork, quickack, timestamps, sack, window_scale, pmtu_discover, ecn, ttl, traffic_class,
        keepalive_count, syn_retries, retries, maxseg, super_segment_min, initial_window, window_clamp, notsent_lowat, keepalive_idle,
        keepalive_interval, user_timeout, linger2, defer_accept, rto_min, max_pacing_rate, congestion,
    }
    Embryo {
        listener, local, remote, irs, iss, peer_mss, peer_scale, sack, timestamp, timestamp_at, window, sent_at,
        retransmitted, deadline, offered, undecided, completed, cookie, ecn,
    }
    TimeWait {
        local, remote, send_next, receive_next, window, scale, timestamps, deadline, fin_wait_2, answered_at, ttl,
        traffic_class,
    }
    Negotiated { timestamps, sack, window_scale, ecn, timestamp_offset }
    Tuning { rtt, rtt_seq, rtt_at, space, from, from_at, want }
    Deadlines { delayed_ack, persist, keepalive, cork, linger }
    Activity { sent_at, received_at, acked_at, segs_in, segs_out, out_of_order, bytes_sent }
}

varying! {
    Instance {
        any_address, mtu, shard, shards, ports, connections, embryos, offers, islands, holds, keys, counters, challenges,
        echo_rate, error_rate, port_counter, cookies_at; addresses, settings,
    }
    Listener { number, local, how, allow, accepted, receive_first, receive_max; settings }
    Slot { source, destination, protocol, identification, length, next, deadline; reassembly }
}

refilled! {
    Send {
        iss, window, window_max, window_seq, window_ack, scale, peer_mss, written, ended, more, held, push_at, urgent_at,
        small_end, uncorked, cwr, probes, probe_backoff, keepalive_probes; record_ends;
    }
    Receive {
        base, next, limit, consumed, edge, fin, fin_taken, scale, quick, mss, acked, timestamp, timestamp_at,
        duplicate, urgent_at, ecn_echo, max, tuning; reassembly;
    }
    Connection {
        handle, local, remote, state, negotiated, deadlines, activity, path_mtu, closed, chosen, ack_now, ending, marked, by,
        ready, out_of_window_at, soft_error, counted; settings; send, receive, recovery,
    }
}
