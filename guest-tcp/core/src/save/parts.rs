//! What each part of the state consists of. A field that is added here changes the format's number.

use super::codec::{Reader, Save, structures};
use crate::connection::{Activity, Connection, Deadlines, Ending, Negotiated, Receive, Send, Tuning};
use crate::embryo::Embryo;
use crate::fragment::Slot;
use crate::hash::Key;
use crate::instance::{Counters, Instance, Keys, Rate};
use crate::listener::Listener;
use crate::reassembly::{Island, Reassembly};
use crate::recovery::{Maybe, Recovery};
use crate::seq::Seq;
use crate::settings::Settings;
use crate::state::State;
use crate::time_wait::TimeWait;
use alloc::vec::Vec;
use bulkhead_wit::{Address, Endpoint, Handle, Listening, Prefix};

/// The number of the format.
pub(crate) const FORMAT: u32 = 4;

impl Save for Seq {
    fn save(&self, out: &mut Vec<u8>) {
        self.0.save(out);
    }
    fn load(from: &mut Reader<'_>) -> Option<Self> {
        u32::load(from).map(Self)
    }
}

impl Save for Handle {
    fn save(&self, out: &mut Vec<u8>) {
        self.0.save(out);
    }
    fn load(from: &mut Reader<'_>) -> Option<Self> {
        u64::load(from).map(Self)
    }
}

impl Save for Listening {
    fn save(&self, out: &mut Vec<u8>) {
        self.0.save(out);
    }
    fn load(from: &mut Reader<'_>) -> Option<Self> {
        u8::load(from).map(Self)
    }
}

impl Save for Key {
    fn save(&self, out: &mut Vec<u8>) {
        (self.0, self.1).save(out);
    }
    fn load(from: &mut Reader<'_>) -> Option<Self> {
        <(u64, u64)>::load(from).map(|(first, second)| Self(first, second))
    }
}

impl Save for State {
    fn save(&self, out: &mut Vec<u8>) {
        self.number().save(out);
    }
    fn load(from: &mut Reader<'_>) -> Option<Self> {
        Self::from_number(u8::load(from)?)
    }
}

impl Save for Ending {
    // An ending is carried out in the step that finds it: there is none between steps.
    fn save(&self, _: &mut Vec<u8>) {}
    fn load(_: &mut Reader<'_>) -> Option<Self> {
        None
    }
}

impl Save for Maybe {
    fn save(&self, out: &mut Vec<u8>) {
        self.get().save(out);
    }
    fn load(from: &mut Reader<'_>) -> Option<Self> {
        Option::load(from).map(Self::from)
    }
}

impl Save for Recovery {
    fn save(&self, out: &mut Vec<u8>) {
        Self::save(self, out);
    }
    fn load(from: &mut Reader<'_>) -> Option<Self> {
        Self::load(&mut from.0)
    }
}

structures! {
    Address { high, low }
    Endpoint { address, port }
    Prefix { address, length }
    Island { start, end, stamp }
    Reassembly { islands }
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
    Instance {
        addresses, any_address, mtu, shard, shards, ports, connections, embryos, offers, islands, holds, settings,
        keys, counters, challenges, echo_rate, error_rate, port_counter, cookies_at,
    }
    Listener { number, local, how, allow, accepted, receive_first, receive_max, settings }
    Embryo {
        listener, local, remote, irs, iss, peer_mss, peer_scale, sack, timestamp, timestamp_at, window, sent_at,
        retransmitted, deadline, offered, undecided, completed, cookie, ecn,
    }
    TimeWait {
        local, remote, send_next, receive_next, window, scale, timestamps, deadline, fin_wait_2, answered_at, ttl,
        traffic_class,
    }
    Slot { source, destination, protocol, identification, length, next, reassembly, deadline }
    Negotiated { timestamps, sack, window_scale, ecn, timestamp_offset }
    Tuning { rtt, rtt_seq, rtt_at, space, from, from_at, want }
    Deadlines { delayed_ack, persist, keepalive, cork, linger }
    Activity { sent_at, received_at, acked_at, segs_in, segs_out, out_of_order, bytes_sent }
    Send {
        iss, window, window_max, window_seq, window_ack, scale, peer_mss, written, ended, more, held, push_at, urgent_at,
        small_end, record_ends, uncorked, cwr, probes, probe_backoff, keepalive_probes,
    }
    Receive {
        base, next, limit, consumed, edge, fin, fin_taken, scale, quick, mss, acked, timestamp, timestamp_at,
        duplicate, urgent_at, ecn_echo, max, tuning, reassembly,
    }
    Connection {
        handle, local, remote, state, settings, negotiated, send, receive, recovery, deadlines, activity, path_mtu,
        closed, chosen, ack_now, ending, marked, by, ready, out_of_window_at, soft_error, counted,
    }
}
