//! What peers and applications that know Linux rely on: pushes, corks, resets, and the profile `linux`.
#![allow(missing_docs, reason = "tests")]

mod common;

use bulkhead_wit::registry::{info, setting};
use bulkhead_wit::*;
use common::peer::*;
use common::wire::Frame;
use common::{Host, MS, config, v4};

const MSS: u32 = 1460;
const PLAIN: &[u8] = &[2, 4, 5, 180];

fn server(options: &[u8], settings: &[(u16, u64)]) -> (Host, Peer, Handle) {
    let mut config = config(v4(1), 5);
    config.settings = settings.iter().map(|&(key, value)| Setting { key, value }).collect();
    let mut host = Host::new(config);
    host.listen(80);
    host.settle();
    let mut peer = Peer::new(80);
    let handle = peer.connect_with(&mut host, options.to_vec());
    (host, peer, handle)
}

fn set(host: &mut Host, of: Handle, key: u16, value: u64) {
    host.call(Call::Set(Change { of, setting: Setting { key, value } }));
}

/// What follows the acknowledgement of all that the peer took.
fn acknowledged(host: &mut Host, peer: &mut Peer) -> Vec<Frame> {
    let frame = peer.segment(ACK, 0);
    host.inject(&frame);
    host.settle()
}

#[test]
fn a_run_of_segments_ends_with_a_push_though_more_is_written() {
    let (mut host, _, handle) = server(PLAIN, &[]);
    host.write(handle, 40 * u64::from(MSS));
    let sent = host.settle();
    assert_eq!(sent.iter().map(|frame| frame.length).sum::<u32>(), 10 * MSS);
    assert!(sent.iter().all(|frame| frame.wire().flags == ACK | PSH));
}

#[test]
fn the_end_of_a_record_is_pushed_though_more_is_written() {
    let (mut host, mut peer, handle) = server(PLAIN, &[]);
    host.write(handle, 10 * u64::from(MSS));
    let first = host.settle();
    peer.takes(&first);
    host.write_marked(handle, 100, MarkAt::END_OF_RECORD);
    host.step();
    host.write(handle, 30_000);
    host.step();
    let sent = acknowledged(&mut host, &mut peer);
    assert_eq!((sent[0].length, sent[0].wire().flags), (100, ACK | PSH));
}

#[test]
fn nodelay_lets_go_what_a_cork_holds_and_the_cork_s_end_pushes() {
    let (mut host, _, handle) = server(PLAIN, &[(setting::CORK, 1)]);
    host.write(handle, 40);
    assert!(host.settle().is_empty());
    set(&mut host, handle, setting::NODELAY, 1);
    assert_eq!(host.settle()[0].length, 40);

    let (mut host, _, handle) = server(PLAIN, &[]);
    host.write_marked(handle, 40, MarkAt::MORE);
    assert!(host.settle().is_empty());
    let late = host.at(host.now + 200 * MS);
    assert_eq!((late[0].length, late[0].wire().flags), (40, ACK | PSH));
}

#[test]
fn rfc7323_3_2_a_reset_carries_timestamps() {
    let (mut host, _, handle) = server(&syn_options(7), &[]);
    host.call(Call::Abort(handle));
    let reset = &wires(host.settle())[0];
    assert_eq!(reset.flags, RST | ACK);
    assert_eq!(reset.options.len(), 12);
}

#[test]
fn rfc5961_3_2_data_after_close_is_reset_where_the_peer_expects_it() {
    let (mut host, mut peer, handle) = server(PLAIN, &[]);
    let expected = peer.ack;
    host.call(Call::Close(Close { connection: handle, linger: NEVER }));
    assert_eq!(wires(host.settle())[0].flags, FIN | ACK);
    // The FIN is lost: a reset behind it would only be challenged.
    let reset = peer.says(&mut host, ACK, 1);
    assert_eq!((reset[0].flags, reset[0].seq), (RST, expected));
}

#[test]
fn the_profile_sizes_super_segments_as_linux_and_does_not_pace() {
    let mut host = Host::new(config(v4(1), 6));
    let profile = Setting { key: setting::PROFILE, value: 1 };
    let handle = host.open(Endpoint::new(v4(2), 80), vec![profile]);
    let syn = host.settle().remove(0).wire();
    let mut peer = Peer::new(syn.source.port);
    peer.here.port = 80;
    peer.ack = syn.seq.wrapping_add(1);
    host.now += 100 * MS;
    let mut answer = peer.build(peer.seq, SYN | ACK, 0);
    answer.options = PLAIN.to_vec();
    peer.seq = peer.seq.wrapping_add(1);
    host.inject(&answer.frame());
    host.settle();
    // 2 * 10 segments in 100 ms are less than one in a millisecond: two is the least.
    host.write(handle, 100 * u64::from(MSS));
    let first = host.settle();
    assert!(first.len() == 5 && first.iter().all(|frame| frame.length == 2 * MSS));
    peer.takes(&first);
    host.now += 100 * MS;
    let second = acknowledged(&mut host, &mut peer);
    assert!(second.len() == 10 && second.iter().all(|frame| frame.length == 2 * MSS), "{second:?}");
    assert_eq!(host.info(handle)[usize::from(info::CWND)], 20);
}
