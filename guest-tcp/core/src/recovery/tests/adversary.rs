//! A peer and a driver that do anything: nothing panics, the books balance, and there is always a timer.

use alloc::vec::Vec;

use bulkhead_wit::limits::MILLISECOND;

use super::super::*;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ (value >> 31)) % below.max(1)
    }

    /// Below 2^`bits`, each magnitude as likely as another.
    fn any_magnitude(&mut self, bits: u64) -> u64 {
        let below = 1 << self.roll(bits);
        self.roll(below)
    }

    fn span(&mut self, from: u64, to: u64) -> Span {
        let start = from + self.roll(to.saturating_sub(from) + 2);
        Span::new(start, start + self.roll(5000))
    }
}

fn check(recovery: &Recovery) {
    assert!(recovery.board.is_consistent(), "{recovery:?}");
    assert!(recovery.window.cwnd > 0 && recovery.window.cwnd <= limits::CWND);
    assert!(recovery.board.outstanding() == 0 || recovery.rto_at.is_some());
    assert!(recovery.in_flight() <= recovery.board.outstanding());
}

fn arrive(recovery: &mut Recovery, now: Time, dice: &mut Dice) {
    let (una, end) = (recovery.acknowledged(), recovery.sent_end());
    let to = match dice.roll(4) {
        0 => una,
        1 => una.saturating_sub(dice.roll(3000)),
        _ => {
            let reach = dice.any_magnitude(20);
            una + dice.roll((end - una).min(reach) + 1)
        }
    };
    let blocks: Vec<Span> = (0..dice.roll(5)).map(|_| dice.span(una, end)).collect();
    let dsack = (dice.roll(4) == 0).then(|| dice.span(0, end));
    let ack = Ack {
        to,
        sacks: &blocks,
        dsack,
        echoed: (dice.roll(3) > 0).then(|| now.saturating_sub(dice.roll(300) * MILLISECOND)),
        window_changed: dice.roll(4) == 0,
        carries: dice.roll(4) == 0,
        ecn_echo: dice.roll(20) == 0,
    };
    let acked = recovery.on_ack(now, &ack);
    assert!(acked.advanced <= end - una);
}

fn send(recovery: &mut Recovery, now: Time, dice: &mut Dice) {
    let (una, end) = (recovery.acknowledged(), recovery.sent_end());
    let supply = Supply {
        end: end + dice.roll(200_000),
        window_end: (una + dice.roll(300_000)).max(end.saturating_sub(dice.roll(3000))),
        small: dice.roll(2) == 0,
        fin: false,
    };
    for _ in 0..dice.roll(20) {
        let Next::Send(transmit) = recovery.next(now, &supply) else { return };
        let span = transmit.span;
        assert!(!span.is_empty() && span.len() <= SUPER_SEGMENT.max(recovery.window.mss));
        assert!(span.start >= recovery.acknowledged() && span.start <= recovery.sent_end());
        let length = if dice.roll(8) == 0 { 1 + dice.roll(span.len()) } else { span.len() };
        recovery.on_sent(now, Span::new(span.start, span.start + length));
        check(recovery);
    }
}

#[test]
fn whatever_a_peer_says_the_books_balance() {
    for seed in 1..=60 {
        let mut dice = Dice(seed);
        let sack = dice.roll(4) > 0;
        let algorithm = if dice.roll(2) == 0 { Algorithm::Reno } else { Algorithm::Cubic };
        let mut recovery = Recovery::new(Parameters { algorithm, ..Parameters::default() });
        recovery.negotiated(1 + dice.roll(2000) as u32, sack, dice.roll(2) == 0);
        let mut now = dice.roll(1 << 40);
        for _ in 0..2000 {
            now += dice.any_magnitude(28);
            match dice.roll(10) {
                0..4 => arrive(&mut recovery, now, &mut dice),
                4..8 => send(&mut recovery, now, &mut dice),
                8 => {
                    now = recovery.next_deadline().unwrap_or(now).max(now);
                    let _ = recovery.on_timer(now);
                }
                _ if dice.roll(20) == 0 => {
                    recovery.mss_changed(1 + dice.roll(70_000) as u32);
                    recovery.too_big(now);
                }
                _ => {
                    assert_eq!(Recovery::loaded(&recovery.saved()).as_ref(), Some(&recovery));
                }
            }
            check(&recovery);
        }
    }
}
