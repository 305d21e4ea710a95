//! Every way in which a connection ends.
#![allow(missing_docs, reason = "tests")]

mod common;

use bulkhead_wit::registry::reason;
use bulkhead_wit::*;
use common::peer::*;
use common::{Host, SECOND, config, v4};

fn closed(host: &Host, handle: Handle) -> Option<u16> {
    host.streams[&handle].closed
}

fn shutdown(host: &mut Host, peer: &mut Peer, handle: Handle) {
    host.call(Call::Shutdown(handle));
    let sent = host.settle();
    assert_eq!(sent.len(), 1);
    assert_ne!(sent[0].wire().flags & FIN, 0);
    peer.takes(&sent);
}

#[test]
fn the_peer_ends_first() {
    let (mut host, mut peer, handle) = server();
    let answer = peer.says(&mut host, FIN | ACK, 10);
    assert_eq!(answer[0].ack, peer.seq);
    assert_eq!(host.streams[&handle].finished, Some(10));
    // CLOSE-WAIT: we may go on for as long as we like.
    host.write(handle, 5000);
    let sent = host.settle();
    peer.takes(&sent);
    peer.says(&mut host, ACK, 0);
    assert_eq!(host.streams[&handle].acknowledged, 5000);
    shutdown(&mut host, &mut peer, handle);
    assert_eq!(closed(&host, handle), None);
    peer.says(&mut host, ACK, 0);
    assert_eq!(closed(&host, handle), Some(reason::NORMAL));
    assert_eq!(host.deadline, NEVER, "LAST-ACK leaves nothing behind");
    assert_eq!(peer.says(&mut host, ACK, 0)[0].flags, RST);
}

#[test]
fn we_end_first_and_wait() {
    let (mut host, mut peer, handle) = server();
    shutdown(&mut host, &mut peer, handle);
    peer.says(&mut host, ACK, 0);
    // FIN-WAIT-2, half closed: the peer goes on.
    peer.says(&mut host, ACK, 3000);
    assert_eq!(host.streams[&handle].exposed, 3000);
    let answer = peer.says(&mut host, FIN | ACK, 0);
    assert_eq!(answer[0].ack, peer.seq);
    assert_eq!(closed(&host, handle), Some(reason::NORMAL));
    assert_eq!(host.deadline, host.now + 60 * SECOND);
    // The FIN again restarts the 2 MSL; a reset does not end it (RFC 1337).
    host.now += 30 * SECOND;
    let fin = peer.at(peer.seq - 1, FIN | ACK, 0);
    host.inject(&fin);
    assert_eq!(host.settle().len(), 1);
    assert_eq!(host.deadline, host.now + 60 * SECOND);
    let reset = peer.at(peer.seq, RST, 0);
    host.inject(&reset);
    host.settle();
    assert_eq!(host.deadline, host.now + 60 * SECOND);
    host.at(host.deadline);
    assert_eq!(host.deadline, NEVER);
}

#[test]
fn both_end_at_once() {
    let (mut host, mut peer, handle) = server();
    host.call(Call::Shutdown(handle));
    let sent = host.settle();
    // The peer's FIN crosses ours.
    let answer = peer.says(&mut host, FIN | ACK, 0);
    assert_eq!(answer[0].ack, peer.seq);
    assert_eq!(closed(&host, handle), None);
    peer.takes(&sent);
    peer.says(&mut host, ACK, 0);
    assert_eq!(closed(&host, handle), Some(reason::NORMAL));
    assert_eq!(host.deadline, host.now + 60 * SECOND);
}

#[test]
fn a_fin_that_acknowledges_ours_ends_both() {
    let (mut host, mut peer, handle) = server();
    shutdown(&mut host, &mut peer, handle);
    let answer = peer.says(&mut host, FIN | ACK, 0);
    assert_eq!(answer[0].ack, peer.seq);
    assert_eq!(closed(&host, handle), Some(reason::NORMAL));
}

#[test]
fn a_new_syn_in_time_wait_begins_anew() {
    let (mut host, mut peer, handle) = server();
    shutdown(&mut host, &mut peer, handle);
    peer.says(&mut host, FIN | ACK, 0);
    assert_eq!(closed(&host, handle), Some(reason::NORMAL));
    // An old number is only acknowledged, a higher one begins anew (RFC 9293 MUST-13).
    let old = peer.at(peer.seq - 100, SYN, 0);
    host.inject(&old);
    assert_eq!(wires(host.settle())[0].flags, ACK);
    peer.seq += 100;
    let again = peer.connect(&mut host);
    assert_ne!(again, handle);
}

#[test]
fn a_fin_beyond_a_hole_is_told_at_once_and_taken_later() {
    let (mut host, peer, handle) = server();
    let base = peer.seq;
    let fin = peer.at(base + 100, FIN | ACK, 50);
    host.inject(&fin);
    let answer = wires(host.settle());
    assert_eq!(answer[0].ack, base);
    assert_eq!(host.streams[&handle].finished, Some(150));
    let data = peer.at(base, ACK, 100);
    host.inject(&data);
    let answer = wires(host.settle());
    assert_eq!(answer[0].ack, base + 151);
    assert_eq!(host.streams[&handle].exposed, 150);
}

#[test]
fn resets_are_believed_only_at_the_right_place() {
    let (mut host, mut peer, handle) = server();
    let inside = peer.at(peer.seq + 5, RST, 0);
    host.inject(&inside);
    let answer = wires(host.settle());
    assert_eq!((answer[0].flags, answer[0].ack), (ACK, peer.seq), "a challenge (RFC 5961)");
    let outside = peer.at(peer.seq.wrapping_add(70_000), RST, 0);
    host.inject(&outside);
    assert!(host.settle().is_empty());
    assert_eq!(closed(&host, handle), None);
    peer.says(&mut host, RST, 0);
    assert_eq!(closed(&host, handle), Some(reason::RESET));
}

#[test]
fn a_syn_or_a_wild_acknowledgement_is_challenged() {
    let (mut host, peer, handle) = server();
    for frame in [
        peer.at(peer.seq, SYN, 0),
        peer.at(peer.seq.wrapping_sub(9999), SYN, 0),
        Peer { ack: peer.ack.wrapping_add(1), ..peer.clone() }.at(peer.seq, ACK, 10),
        Peer { ack: peer.ack.wrapping_sub(1 << 30), ..peer.clone() }.at(peer.seq, ACK, 10),
    ] {
        host.inject(&frame);
        let answer = wires(host.settle());
        assert_eq!((answer.len(), answer[0].flags), (1, ACK));
        let later = host.now + SECOND;
        assert!(host.at(later).is_empty());
    }
    assert_eq!(closed(&host, handle), None);
    assert_eq!(host.streams[&handle].exposed, 0, "what came with them was not taken");
}

#[test]
fn challenges_are_limited() {
    let (mut host, peer, _) = server();
    let mut answers = 0;
    for _ in 0..3000 {
        let syn = peer.at(peer.seq, SYN, 0);
        host.inject(&syn);
        answers += host.settle().len();
    }
    assert_eq!(answers, 1, "one in half a second for a connection");
}

#[test]
fn abort_resets_and_says_so() {
    let (mut host, mut peer, handle) = server();
    host.call(Call::Abort(handle));
    let sent = wires(host.settle());
    assert_eq!((sent[0].flags, sent[0].seq), (RST | ACK, peer.ack));
    assert_eq!(closed(&host, handle), Some(reason::ABORTED));
    assert_eq!(peer.says(&mut host, ACK, 10)[0].flags, RST);
}

fn close(host: &mut Host, handle: Handle, linger: Time) -> Vec<common::wire::Wire> {
    host.call(Call::Close(Close { connection: handle, linger }));
    wires(host.settle())
}

#[test]
fn close_with_unread_data_resets() {
    let (mut host, mut peer, handle) = server();
    peer.says(&mut host, ACK, 100);
    assert_eq!(close(&mut host, handle, NEVER)[0].flags & RST, RST);
    assert_eq!(closed(&host, handle), Some(reason::ABORTED));
}

#[test]
fn close_without_linger_resets() {
    let (mut host, _, handle) = server();
    assert_eq!(close(&mut host, handle, 0)[0].flags & RST, RST);
}

#[test]
fn data_after_close_is_reset() {
    let (mut host, mut peer, handle) = server();
    assert_eq!(close(&mut host, handle, NEVER)[0].flags & FIN, FIN);
    let answer = peer.says(&mut host, ACK, 10);
    assert_eq!(answer[0].flags & RST, RST);
    assert_eq!(closed(&host, handle), Some(reason::DATA_AFTER_CLOSE));
}

#[test]
fn a_closed_connection_needs_nothing_of_the_host_in_fin_wait_2() {
    let (mut host, mut peer, handle) = server();
    assert_eq!(close(&mut host, handle, NEVER).len(), 1);
    peer.ack += 1;
    peer.says(&mut host, ACK, 0);
    assert_eq!(closed(&host, handle), Some(reason::NORMAL));
    assert_eq!(host.deadline, host.now + 60 * SECOND);
    host.now += SECOND;
    let answer = peer.says(&mut host, FIN | ACK, 0);
    assert_eq!((answer[0].flags, answer[0].ack), (ACK, peer.seq));
    assert_eq!(host.deadline, host.now + 60 * SECOND);

    let (mut host, mut peer, handle) = server();
    close(&mut host, handle, NEVER);
    peer.ack += 1;
    peer.says(&mut host, ACK, 0);
    assert_eq!(peer.says(&mut host, ACK, 5)[0].flags & RST, RST, "nobody reads it");
    assert_eq!(host.deadline, NEVER);
}

#[test]
fn a_fin_that_acknowledges_the_fin_of_a_closed_connection_is_answered() {
    let (mut host, mut peer, handle) = server();
    close(&mut host, handle, NEVER);
    peer.ack += 1;
    let answer = peer.says(&mut host, FIN | ACK, 0);
    assert_eq!(answer.len(), 1);
    assert_eq!(answer[0].ack, peer.seq);
    assert_eq!(closed(&host, handle), Some(reason::NORMAL));
    assert_eq!(host.deadline, host.now + 60 * SECOND, "TIME-WAIT");
}

#[test]
fn a_linger_that_runs_out_resets() {
    let (mut host, mut peer, handle) = server();
    host.write(handle, 100);
    host.settle();
    close(&mut host, handle, 5 * SECOND);
    let start = host.now;
    let mut last = Vec::new();
    while closed(&host, handle).is_none() {
        last = wires(host.at(host.deadline));
    }
    assert_eq!(host.now, start + 5 * SECOND);
    assert_eq!(last[0].flags & RST, RST);
    assert!(peer.says(&mut host, RST, 0).is_empty());
}

#[test]
fn a_shutdown_covers_what_the_same_step_says_was_written() {
    let (mut host, mut peer, handle) = server();
    host.call(Call::Shutdown(handle));
    host.write(handle, 700);
    let sent = host.settle();
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].length, sent[0].wire().flags & FIN), (700, FIN));
    peer.takes(&sent);
    peer.says(&mut host, FIN | ACK, 0);
    assert_eq!(closed(&host, handle), Some(reason::NORMAL));
    assert_eq!(host.streams[&handle].acknowledged, 700);
}

#[test]
fn a_lost_fin_comes_again() {
    let (mut host, mut peer, handle) = server();
    shutdown(&mut host, &mut peer, handle);
    let mut again = Vec::new();
    while again.is_empty() {
        again = wires(host.at(host.deadline));
    }
    assert_ne!(again[0].flags & FIN, 0);
    peer.says(&mut host, ACK, 0);
    assert_eq!(closed(&host, handle), None);
}

#[test]
fn unlisten_forgets_what_is_half_open_only() {
    let (mut host, mut peer, handle) = server();
    let mut other = Peer::new(80);
    other.here.port = 40_001;
    other.says(&mut host, SYN, 0);
    host.call(Call::Unlisten(1));
    assert!(host.settle().is_empty());
    assert_eq!(other.says(&mut host, ACK, 0)[0].flags, RST);
    peer.says(&mut host, ACK, 10);
    assert_eq!(host.streams[&handle].exposed, 10);
    other.here.port = 40_002;
    assert_eq!(other.says(&mut host, SYN, 0)[0].flags & RST, RST);
}

#[test]
fn a_port_can_be_opened_again_after_its_connection_is_gone() {
    let mut host = Host::new(config(v4(1), 5));
    let local = Endpoint::new(v4(1), 5000);
    let remote = Endpoint::new(v4(2), 80);
    let first = host.open_from(local, remote, Vec::new());
    host.settle();
    host.open_from(local, remote, Vec::new());
    host.settle();
    assert!(host.events.iter().any(|event| matches!(event,
        Event::Failed(failed) if failed.reason == reason::IN_USE)));
    host.call(Call::Abort(first));
    assert!(host.settle().is_empty(), "nobody to reset in SYN-SENT");
    assert_eq!(closed(&host, first), Some(reason::ABORTED));
    let again = host.open_from(local, remote, Vec::new());
    assert_eq!(host.settle().len(), 1);
    assert_eq!(closed(&host, again), None);
}

/// RFC 6191, for our own opens: with timestamps the peer can tell the connections apart.
#[test]
fn an_open_may_take_what_is_in_time_wait_if_there_are_timestamps() {
    for timestamps in [false, true] {
        let mut host = Host::new(config(v4(1), 5));
        let (local, remote) = (Endpoint::new(v4(1), 5000), Endpoint::new(v4(2), 80));
        let first = host.open_from(local, remote, Vec::new());
        let syn = wires(host.settle())[0].clone();
        let options = |value| if timestamps { common::peer::timestamps(value, 0) } else { Vec::new() };
        let answer = |seq, ack, flags, value| common::wire::Build {
            source: remote,
            destination: local,
            seq,
            ack,
            flags,
            options: options(value),
            window: 1000,
            ..common::wire::Build::default()
        };
        host.inject(&answer(100, syn.seq.wrapping_add(1), SYN | ACK, 1).frame());
        host.settle();
        host.call(Call::Shutdown(first));
        host.settle();
        host.inject(&answer(101, syn.seq.wrapping_add(2), FIN | ACK, 2).frame());
        host.settle();
        assert_eq!(closed(&host, first), Some(reason::NORMAL));
        let early = host.open_from(local, remote, Vec::new());
        host.settle();
        let refused =
            |host: &Host| host.events.iter().filter(|event| matches!(event, Event::Failed(_))).count();
        assert_eq!(refused(&host), 1, "the clock has not moved on: {early:?}");
        host.at(host.now + 2 * SECOND);
        host.open_from(local, remote, Vec::new());
        let again = wires(host.settle());
        assert_eq!(again.len(), usize::from(timestamps));
        if let Some(again) = again.first() {
            assert_eq!((again.flags, again.seq.wrapping_sub(syn.seq)), (SYN, 2 + 65_537));
        }
    }
}

/// The host deals with openings before endings: a place that is left in a step is not free in it.
#[test]
fn a_place_is_not_taken_again_in_the_step_that_leaves_it() {
    let (mut host, mut peer, handle) = server();
    peer.says(&mut host, FIN | ACK, 0);
    shutdown(&mut host, &mut peer, handle);
    let mut other = Peer::new(80);
    other.here.port = 40_001;
    let answer = other.says(&mut host, SYN, 0);
    other.ack = answer[0].seq.wrapping_add(1);
    let (last, first) = (peer.segment(ACK, 0), other.segment(ACK, 0));
    host.inject(&last);
    host.inject(&first);
    host.settle();
    assert_eq!(closed(&host, handle), Some(reason::NORMAL));
    assert_ne!(host.accepted().slot(), handle.slot());
}
