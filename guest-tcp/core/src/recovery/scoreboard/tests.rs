use super::*;
use alloc::vec::Vec;

fn flight(to: u64) -> Scoreboard {
    let mut board = Scoreboard::starting_at(0);
    board.push(1, to, 10, Stamp::default());
    board
}

fn fates(board: &Scoreboard) -> Vec<(u64, u64, Fate)> {
    board.runs().map(|run| (run.start, run.end, run.fate)).collect()
}

#[test]
fn rfc2018_blocks_cut_a_super_segment_and_join_again() {
    let mut board = flight(60);
    let mut news = 0;
    board.sack(Span::new(20, 30), 10, |run| news += run.len());
    board.sack(Span::new(20, 40), 10, |run| news += run.len());
    assert_eq!(news, 20);
    use Fate::{Flying, Sacked};
    assert_eq!(fates(&board), [(0, 20, Flying), (20, 40, Sacked), (40, 60, Flying)]);
    assert_eq!((board.sacked(), board.pipe()), (20, 40));
    board.sack(Span::new(10, 50), 10, |_| {});
    assert_eq!(fates(&board), [(0, 10, Flying), (10, 50, Sacked), (50, 60, Flying)]);
    board.acknowledge(55, |_| {});
    assert_eq!(fates(&board), [(55, 60, Flying)]);
    assert!(board.is_consistent());
}

#[test]
fn rfc2018_8_a_block_acknowledges_whole_segments() {
    let mut board = Scoreboard::starting_at(0);
    board.push(1, 24, 10, Stamp::default());
    board.push(1, 50, 10, Stamp::default());
    let mut sacked = |start, end| {
        board.sack(Span::new(start, end), 10, |_| {});
        board.sacked()
    };
    assert_eq!(sacked(19, 20), 0); // the last byte of a segment
    assert_eq!(sacked(5, 19), 0);
    assert_eq!(sacked(20, 24), 4); // a short segment at the end of what was sent together
    assert_eq!(sacked(24, 39), 14); // a segment and a half after it
    assert_eq!(sacked(40, 50), 14 + 6); // its second half came with the one behind: only that one is whole
    assert!(board.is_consistent());
}

#[test]
fn a_segment_is_as_long_as_its_options_have_left_it() {
    let mut board = Scoreboard::starting_at(0);
    board.push(1, 21, 7, Stamp::default());
    board.sack(Span::new(7, 14), 10, |_| {});
    assert_eq!(board.sacked(), 7);
    board.sack(Span::new(15, 20), 10, |_| {});
    assert_eq!(board.sacked(), 7);
    board.push(1, 41, 10, Stamp::default());
    board.sack(Span::new(14, 31), 10, |_| {});
    use Fate::{Flying, Sacked};
    assert_eq!(fates(&board), [(0, 7, Flying), (7, 31, Sacked), (31, 41, Flying)]);
}

#[test]
fn lost_data_is_offered_in_one_span_and_flies_again() {
    let mut board = flight(60);
    board.sack(Span::new(40, 50), 10, |_| {});
    assert_eq!(board.mark_head_lost(40), 40);
    assert_eq!((board.lost(), board.pipe()), (40, 10));
    assert_eq!(board.first_lost(1000), Some(Span::new(0, 40)));
    board.resend(2, Span::new(0, 10), 10, Stamp::default());
    board.resend(2, Span::new(10, 15), 10, Stamp::default());
    assert_eq!((board.resent(), board.pipe()), (15, 25));
    use Fate::{Flying, Lost, Sacked};
    let runs = [(0, 15, Flying), (15, 40, Lost), (40, 50, Sacked), (50, 60, Flying)];
    assert_eq!(fates(&board), runs);
    assert_eq!(board.first_lost(10), Some(Span::new(15, 25)));
    board.unmark_lost();
    assert_eq!((board.lost(), board.pipe()), (0, 50));
    assert!(board.is_consistent());
}

#[test]
fn rfc2018_8_reneged_data_is_lost() {
    let mut board = flight(60);
    board.sack(Span::new(10, 20), 10, |_| {});
    board.renege();
    assert_eq!((board.sacked(), board.lost()), (0, 10));
}

#[test]
fn the_syn_stays_alone() {
    let mut board = flight(1);
    board.push(1, 100, 10, Stamp::default());
    board.mark_lost(|_| true);
    assert_eq!(board.first_lost(1000), Some(Span::new(0, 1)));
}

#[test]
fn a_scoreboard_is_bounded_whatever_the_peer_says() {
    let mut board = Scoreboard::starting_at(0);
    for number in 1..=20_000 {
        board.push(number, number * 1000, 1000, Stamp::default());
    }
    assert!(board.runs().count() <= RUNS);
    for number in 0..2000 {
        board.sack(Span::new(number * 1000 + 500, number * 1000 + 501), 1000, |_| {});
    }
    assert!(board.is_consistent());
    assert!(board.runs().count() <= RUNS);
    board.mark_lost(|run| run.start % 3 == 0);
    for _ in 0..2000 {
        let Some(span) = board.first_lost(700) else { break };
        board.resend(9000, span, 10, Stamp::default());
    }
    assert!(board.is_consistent());
    let mut out = Writer::default();
    board.save(&mut out);
    let mut loaded = flight(60);
    assert_eq!(loaded.refill(&mut out.finish().as_slice()), Some(()));
    assert_eq!(loaded, board);
}

#[test]
fn without_memory_for_more_runs_nothing_is_cut() {
    let mut board = Scoreboard::starting_at(1);
    board.push(1, 31, 10, Stamp::default());
    board.push(2, 61, 10, Stamp::default());
    board.tighten(true);
    board.push(3, 91, 10, Stamp::default());
    board.sack(Span::new(11, 21), 10, |_| {});
    use Fate::{Flying, Sacked};
    assert_eq!(fates(&board), [(1, 31, Flying), (31, 91, Flying)]);
    board.sack(Span::new(31, 91), 10, |_| {});
    board.push(4, 101, 10, Stamp::default());
    assert_eq!(fates(&board), [(1, 31, Flying), (31, 101, Flying)]);
    assert_eq!(board.mark_head_lost(30), 30);
    board.resend(5, Span::new(1, 11), 10, Stamp::default());
    assert_eq!((board.runs().len(), board.lost(), board.pipe()), (2, 0, 100));
    assert!(board.is_consistent());
    board.acknowledge(101, |_| {});
    assert_eq!(board.runs().len(), 0);
    board.tighten(false);
    board.push(6, 131, 10, Stamp::default());
    board.sack(Span::new(111, 121), 10, |_| {});
    assert_eq!(fates(&board), [(101, 111, Flying), (111, 121, Sacked), (121, 131, Flying)]);
}
