//! Dialogues with a peer by hand.

use alloc::vec::Vec;

use bulkhead_wit::limits::{MILLISECOND, SECOND};
use bulkhead_wit::registry::info;
use bulkhead_wit::types::Time;

use super::super::*;

const MSS: u64 = 1000;
const RTT: Time = 20 * MILLISECOND;

/// An established connection; the handshake took one RTT.
fn established(parameters: Parameters) -> (Recovery, Time) {
    let mut recovery = Recovery::new(parameters);
    let start = SECOND;
    recovery.on_sent(start, Span::new(0, 1));
    recovery.negotiated(MSS as u32, parameters.sack, parameters.timestamps);
    let acked = recovery.on_ack(start + RTT, &Ack { to: 1, ..Ack::default() });
    assert_eq!((acked.advanced, acked.rtt), (1, Some(RTT)));
    (recovery, start + RTT)
}

fn plain() -> Parameters {
    Parameters { pacing: false, ..Parameters::default() }
}

fn modern() -> Parameters {
    Parameters { sack: true, timestamps: true, ..plain() }
}

/// Sends all that may be sent of `end` offsets.
fn send(recovery: &mut Recovery, now: Time, end: u64) -> Vec<Transmit> {
    let supply = Supply { end, window_end: u64::MAX, small: true, fin: false };
    let mut sent = Vec::new();
    while let Next::Send(transmit) = recovery.next(now, &supply) {
        recovery.on_sent(now, transmit.span);
        sent.push(transmit);
    }
    sent
}

fn segment(number: u64) -> Span {
    Span::new(1 + number * MSS, 1 + (number + 1) * MSS)
}

fn ack(segments: u64) -> Ack<'static> {
    Ack { to: 1 + segments * MSS, ..Ack::default() }
}

fn field(recovery: &Recovery, key: u16) -> u64 {
    let mut fields = [0; bulkhead_wit::limits::INFO_FIELDS];
    recovery.info(0, &mut fields);
    fields[usize::from(key)]
}

#[test]
fn rfc6928_ten_segments_at_first() {
    let (mut recovery, now) = established(modern());
    let sent = send(&mut recovery, now, 100 * MSS);
    // At this rate two of them are a millisecond's worth.
    let pairs = [0, 2, 4, 6, 8].map(|at| Span::new(1 + at * MSS, 1 + (at + 2) * MSS));
    assert_eq!(sent, pairs.map(|span| Transmit { span, purpose: Purpose::New }));
    assert_eq!(recovery.in_flight(), 10 * MSS);
    // Slow start: two more for each acknowledged.
    let _ = recovery.on_ack(now + RTT, &ack(2));
    assert_eq!(recovery.cwnd(), 12 * MSS);
}

#[test]
fn a_part_of_an_offer_may_be_sent() {
    let (mut recovery, now) = established(modern());
    let supply = Supply { end: 100 * MSS, window_end: u64::MAX, small: true, fin: false };
    let Next::Send(_) = recovery.next(now, &supply) else { panic!("sends") };
    recovery.on_sent(now, Span::new(1, 1 + MSS));
    let Next::Send(rest) = recovery.next(now, &supply) else { panic!("sends") };
    assert_eq!(rest.span, Span::new(1 + MSS, 1 + 3 * MSS));
}

#[test]
fn small_segments_and_windows() {
    let (mut recovery, now) = established(modern());
    let next = |recovery: &mut Recovery, end, window_end, small| match recovery
        .next(now, &Supply { end, window_end, small, fin: false })
    {
        Next::Send(transmit) => Ok(transmit.span.len()),
        Next::Wait(reason) => Err(reason),
    };
    assert_eq!(next(&mut recovery, 1, 9999, true), Err(Reason::Idle));
    assert_eq!(next(&mut recovery, 501, 9999, false), Err(Reason::Idle));
    assert_eq!(next(&mut recovery, 501, 9999, true), Ok(500));
    assert_eq!(next(&mut recovery, 2501, 9999, false), Ok(2000));
    assert_eq!(next(&mut recovery, 1501, 9999, true), Ok(1500));
    assert_eq!(next(&mut recovery, 2501, 1, true), Err(Reason::Window));
    assert_eq!(next(&mut recovery, 2501, 2001, true), Ok(2000));
    assert_eq!(next(&mut recovery, 2501, 1801, true), Ok(1000));
    assert_eq!(next(&mut recovery, 2501, 801, false), Err(Reason::Window));
    assert_eq!(next(&mut recovery, 2501, 801, true), Ok(800)); // the caller judged it worth it
}

#[test]
fn rfc8985_6_a_hole_is_sent_again_and_the_window_reduced() {
    let (mut recovery, now) = established(modern());
    send(&mut recovery, now, 10 * MSS + 1);
    let later = now + RTT;
    let blocks = [Span::new(segment(1).start, segment(9).end)];
    let acked = recovery.on_ack(later, &Ack { sacks: &blocks, ..ack(0) });
    assert_eq!((acked.delivered, acked.lost, acked.reduced), (9 * MSS, MSS, true));
    assert_eq!(field(&recovery, info::CA_STATE), 3);
    let sent = send(&mut recovery, later, 10 * MSS + 1);
    assert_eq!(sent, [Transmit { span: segment(0), purpose: Purpose::Retransmission }]);
    let acked = recovery.on_ack(later + RTT, &ack(10));
    assert_eq!((acked.advanced, acked.delivered), (10 * MSS, MSS));
    assert_eq!((recovery.cwnd(), field(&recovery, info::CA_STATE)), (7 * MSS, 0));
    assert_eq!(recovery.next_deadline(), None);
}

#[test]
fn rfc8985_6_2_a_lost_retransmission_is_found_without_a_timeout() {
    let (mut recovery, now) = established(modern());
    send(&mut recovery, now, 10 * MSS + 1);
    let later = now + RTT;
    let blocks = [Span::new(segment(1).start, segment(5).end)];
    let _ = recovery.on_ack(later, &Ack { sacks: &blocks, ..ack(0) });
    let sent = send(&mut recovery, later, 40 * MSS);
    assert_eq!(sent[0].span, segment(0));
    // New data sent after the retransmission arrives; the retransmission did not.
    let new = sent.iter().find(|sent| sent.purpose == Purpose::New).expect("new data").span;
    let blocks = [Span::new(segment(1).start, new.end)];
    let acked = recovery.on_ack(later + RTT, &Ack { sacks: &blocks, ..ack(0) });
    assert_eq!(acked.lost, MSS);
    assert_eq!(send(&mut recovery, later + RTT, 40 * MSS)[0].span, segment(0));
}

#[test]
fn rfc3042_limited_transmit_and_the_third_duplicate() {
    let (mut recovery, now) = established(plain());
    send(&mut recovery, now, 60 * MSS);
    let later = now + RTT;
    for expected in [segment(10), segment(11)] {
        let _ = recovery.on_ack(later, &ack(0));
        let sent = send(&mut recovery, later, 60 * MSS);
        assert_eq!(sent, [Transmit { span: expected, purpose: Purpose::New }]);
    }
    let acked = recovery.on_ack(later, &ack(0));
    assert!(acked.reduced);
    let sent = send(&mut recovery, later, 60 * MSS);
    assert_eq!(sent[0], Transmit { span: segment(0), purpose: Purpose::Retransmission });
    // RFC 6582 3.2 step 3: a partial acknowledgement sends the next hole at once.
    let acked = recovery.on_ack(later + RTT, &ack(4));
    assert_eq!(acked.lost, MSS);
    assert_eq!(send(&mut recovery, later + RTT, 60 * MSS)[0].span, segment(4));
    let end = recovery.sent_end();
    let _ = recovery.on_ack(later + 2 * RTT, &Ack { to: end, ..Ack::default() });
    assert_eq!(field(&recovery, info::CA_STATE), 0);
}

#[test]
fn rfc5681_2_what_is_no_duplicate() {
    let (mut recovery, now) = established(plain());
    send(&mut recovery, now, 60 * MSS);
    for _ in 0..5 {
        let _ = recovery.on_ack(now + RTT, &Ack { window_changed: true, ..ack(0) });
        let _ = recovery.on_ack(now + RTT, &Ack { carries: true, ..ack(0) });
    }
    assert_eq!(field(&recovery, info::CA_STATE), 0);
    assert_eq!(field(&recovery, info::SACKED), 0);
}

#[test]
fn rfc6298_5_timer_backs_off_and_progress_ends_it() {
    let (mut recovery, now) = established(plain());
    send(&mut recovery, now, 5 * MSS + 1);
    let rto = recovery.rto();
    assert_eq!(rto, 220 * MILLISECOND);
    assert_eq!(recovery.next_deadline(), Some(now + rto));
    assert_eq!(recovery.on_timer(now + rto - 1), TimerAction::Nothing);
    let mut at = now;
    for round in 0..3 {
        at = recovery.next_deadline().expect("armed");
        assert_eq!(recovery.on_timer(at), TimerAction::Timeout);
        assert_eq!(recovery.timeouts(), round + 1);
        let sent = send(&mut recovery, at, 5 * MSS + 1);
        assert_eq!(sent, [Transmit { span: segment(0), purpose: Purpose::Retransmission }]);
        assert_eq!(recovery.next_deadline(), Some(at + (rto << (round + 1))));
    }
    assert_eq!((recovery.cwnd(), recovery.ssthresh()), (MSS, 7 * MSS)); // reduced once
    let _ = recovery.on_ack(at + RTT, &ack(1));
    assert_eq!((recovery.timeouts(), recovery.rto()), (0, rto));
    assert_eq!(recovery.cwnd(), 2 * MSS);
    assert_eq!(send(&mut recovery, at + RTT, 5 * MSS + 1)[0].span.start, segment(1).start);
}

#[test]
fn rfc6298_3_karn_no_sample_from_a_retransmission() {
    let (mut recovery, now) = established(plain());
    send(&mut recovery, now, MSS + 1);
    let at = recovery.next_deadline().expect("armed");
    let _ = recovery.on_timer(at);
    send(&mut recovery, at, MSS + 1);
    let acked = recovery.on_ack(at + RTT, &ack(1));
    assert_eq!(acked.rtt, None);
    assert_eq!(recovery.srtt(), Some(RTT));
}

#[test]
fn rfc7323_4_1_the_echo_measures_a_retransmission() {
    let (mut recovery, now) = established(modern());
    send(&mut recovery, now, MSS + 1);
    while recovery.on_timer(recovery.next_deadline().expect("armed")) != TimerAction::Timeout {
        let at = recovery.next_deadline().expect("armed");
        send(&mut recovery, at, MSS + 1);
    }
    let at = now + SECOND;
    send(&mut recovery, at, MSS + 1);
    let acked = recovery.on_ack(at + RTT, &Ack { echoed: Some(at), ..ack(1) });
    assert_eq!(acked.rtt, Some(RTT));
}

#[test]
fn rfc6298_5_7_a_retransmitted_syn() {
    let mut recovery = Recovery::new(Parameters::default());
    let first = send(&mut recovery, 0, 100 * MSS);
    assert_eq!(first, [Transmit { span: Span::new(0, 1), purpose: Purpose::New }]);
    assert_eq!(recovery.next_deadline(), Some(SECOND));
    assert_eq!(recovery.on_timer(SECOND), TimerAction::Timeout);
    let again = send(&mut recovery, SECOND, 100 * MSS);
    assert_eq!(again, [Transmit { span: Span::new(0, 1), purpose: Purpose::Retransmission }]);
    assert_eq!(recovery.next_deadline(), Some(3 * SECOND));
    recovery.negotiated(1000, true, false);
    let _ = recovery.on_ack(SECOND + RTT, &ack(0));
    assert_eq!((recovery.rto(), recovery.cwnd()), (3 * SECOND, 10 * MSS));
    // RFC 5681 3.1, after two.
    let mut recovery = Recovery::new(Parameters { mss: 1000, ..Parameters::default() });
    for _ in 0..3 {
        let at = recovery.next_deadline().unwrap_or(0);
        let _ = recovery.on_timer(at);
        send(&mut recovery, at, 100 * MSS);
    }
    let _ = recovery.on_ack(4 * SECOND, &ack(0));
    assert_eq!(recovery.cwnd(), MSS);
}

#[test]
fn rfc3168_6_1_2_once_a_round_trip() {
    let (mut recovery, now) = established(modern());
    send(&mut recovery, now, 10 * MSS + 1);
    let acked = recovery.on_ack(now + RTT, &Ack { ecn_echo: true, ..ack(2) });
    assert!(acked.reduced);
    assert_eq!((recovery.ssthresh(), field(&recovery, info::CA_STATE)), (7 * MSS, 2));
    let acked = recovery.on_ack(now + RTT, &Ack { ecn_echo: true, ..ack(4) });
    assert!(!acked.reduced);
    let _ = recovery.on_ack(now + RTT, &ack(10));
    assert_eq!((recovery.cwnd(), field(&recovery, info::CA_STATE)), (7 * MSS, 0));
}

#[test]
fn rfc3168_6_1_2_a_timeout_is_told_with_the_next_acknowledgement() {
    let (mut recovery, now) = established(plain());
    send(&mut recovery, now, 5 * MSS + 1);
    let at = recovery.next_deadline().expect("armed");
    assert_eq!(recovery.on_timer(at), TimerAction::Timeout);
    send(&mut recovery, at, 5 * MSS + 1);
    assert!(recovery.on_ack(at + RTT, &ack(1)).reduced);
    assert!(!recovery.on_ack(at + RTT, &ack(2)).reduced);
}

#[test]
fn rfc2018_8_a_reneging_receiver() {
    let (mut recovery, now) = established(modern());
    send(&mut recovery, now, 10 * MSS + 1);
    let later = now + RTT;
    let blocks = [segment(2)];
    let _ = recovery.on_ack(later, &Ack { sacks: &blocks, ..ack(1) });
    // SND.UNA comes to stand before what had been selectively acknowledged.
    let _ = recovery.on_ack(later, &ack(2));
    let at = recovery.next_deadline().expect("armed");
    assert!(at <= later + 10 * MILLISECOND);
    assert_eq!(recovery.on_timer(at), TimerAction::Timeout);
    assert_eq!(send(&mut recovery, at, 10 * MSS + 1)[0].span.start, segment(2).start);
}

#[test]
fn rfc2883_a_needless_recovery_is_taken_back() {
    let (mut recovery, now) = established(Parameters { timestamps: false, ..modern() });
    send(&mut recovery, now, 10 * MSS + 1);
    let later = now + RTT;
    let blocks = [Span::new(segment(1).start, segment(9).end)];
    let _ = recovery.on_ack(later, &Ack { sacks: &blocks, ..ack(0) });
    send(&mut recovery, later, 10 * MSS + 1);
    // The original was only late.
    let acked = recovery.on_ack(later + MILLISECOND, &ack(10));
    assert!(!acked.undone);
    assert_eq!(recovery.cwnd(), 7 * MSS);
    let acked = recovery.on_ack(later + RTT, &Ack { dsack: Some(segment(0)), ..ack(10) });
    assert!(acked.undone);
    assert_eq!((recovery.cwnd(), recovery.ssthresh()), (10 * MSS, u64::MAX));
}

#[test]
fn rfc1191_too_big_segments_go_again_smaller_and_the_window_stays() {
    let (mut recovery, now) = established(modern());
    send(&mut recovery, now, 10 * MSS + 1);
    recovery.mss_changed(500);
    recovery.too_big(now);
    let sent = send(&mut recovery, now, 10 * MSS + 1);
    assert_eq!((sent[0].span.start, sent.last().map(|last| last.span.end)), (1, Some(1 + 10 * MSS)));
    assert_eq!(recovery.ssthresh(), u64::MAX);
    let _ = recovery.on_ack(now + RTT, &ack(10));
    assert_eq!(field(&recovery, info::CA_STATE), 0);
}

#[test]
fn a_fin_is_an_offset_like_any_other() {
    let (mut recovery, now) = established(modern());
    let sent = send(&mut recovery, now, 1 + MSS + 1);
    assert_eq!(sent[0].span, Span::new(1, 2 + MSS));
    let acked = recovery.on_ack(now + RTT, &Ack { to: 2 + MSS, ..Ack::default() });
    assert_eq!(acked.advanced, MSS + 1);
    assert_eq!(recovery.next_deadline(), None);
}

#[test]
fn a_shrunken_window_holds_retransmissions_but_the_first() {
    let (mut recovery, now) = established(modern());
    send(&mut recovery, now, 10 * MSS + 1);
    let mut action = TimerAction::Nothing;
    let mut at = now;
    while action != TimerAction::Timeout {
        at = recovery.next_deadline().expect("armed");
        action = recovery.on_timer(at);
        let supply = Supply { end: 10 * MSS + 1, window_end: 1, small: true, fin: false };
        if let Next::Send(transmit) = recovery.next(at, &supply) {
            recovery.on_sent(at, transmit.span);
            assert!(transmit.span == segment(0) || transmit.purpose == Purpose::Probe);
        }
    }
    let supply = Supply { end: 10 * MSS + 1, window_end: 1, small: true, fin: false };
    assert!(matches!(recovery.next(at, &supply), Next::Wait(_)));
}

#[test]
fn a_cookie_connection_starts_untimed() {
    let mut recovery = Recovery::new(modern());
    recovery.negotiated(1000, true, true);
    recovery.established(SECOND);
    assert_eq!((recovery.sent_end(), recovery.acknowledged(), recovery.srtt()), (1, 1, None));
    assert_eq!(send(&mut recovery, SECOND, 5 * MSS)[0].span, Span::new(1, 5 * MSS));
}

#[test]
fn an_idle_connection_is_small() {
    assert!(size_of::<Recovery>() <= 544, "{}", size_of::<Recovery>());
}

#[test]
fn a_damaged_state_is_refused_or_consistent() {
    let (mut recovery, now) = established(modern());
    send(&mut recovery, now, 10 * MSS + 1);
    let blocks = [Span::new(segment(1).start, segment(4).end)];
    let _ = recovery.on_ack(now + RTT, &Ack { sacks: &blocks, ..ack(0) });
    let saved = recovery.saved();
    assert_eq!(Recovery::loaded(&saved).as_ref(), Some(&recovery));
    for at in 0..saved.len() {
        assert_eq!(Recovery::loaded(&saved[..at]), None);
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut damaged = saved.clone();
            damaged[at] = value;
            if let Some(mut loaded) = Recovery::loaded(&damaged) {
                // Whatever it believes, it does not panic.
                send(&mut loaded, now + 2 * RTT, 40 * MSS);
                let _ = loaded.on_ack(now + 3 * RTT, &ack(3));
                let _ = loaded.on_timer(now + 30 * SECOND);
                send(&mut loaded, now + 30 * SECOND, 40 * MSS);
            }
        }
    }
}
