//! Traffic becomes cases that do again what was seen.

use bulkhead::fuzz::{Case, Checker, Target, Trace, seeds};

/// A handshake with all options, data both ways, a hole and its SACK, a pause, an end from each side.
const CASE: &str = "\
seg 0 S opts=mss:1460,sackok,ts:0:0,nop,scale:7
seg 0 A opts=nop,nop,ts:0:0
seg 0 PA len=100 opts=nop,nop,ts:0:0
read 0 100
write 0 5000
wait 50000
seg 0 A ack=-2000 win=9000 opts=nop,nop,ts:0:0,nop,nop,sack:-1000:0
seg 0 A seq=+700 len=300 opts=nop,nop,ts:0:0
wait 1000000
seg 0 A opts=nop,nop,ts:0:0
seg 0 A len=700 opts=nop,nop,ts:0:0
read 0 1000
shutdown 0
wait 20000
seg 0 FA opts=nop,nop,ts:0:0
";

fn checker() -> Checker {
    Checker::new(Target::bundled().expect("the bundled module"), 1, Vec::new(), None)
}

fn traced(checker: &Checker, case: &Case) -> (Vec<String>, Vec<u8>) {
    let mut trace = Trace::default();
    let outcome = checker.plain(case, Some(&mut trace));
    assert_eq!(outcome.finding, None, "{case}");
    let sent = trace.text().lines().filter_map(|line| line.split_once(" < "));
    // When an application reads is not seen in a capture, and shows in the windows.
    let shown = |frame: &str| {
        frame.split(", ").filter(|part| !part.starts_with("win ")).collect::<Vec<_>>().join(", ")
    };
    (sent.map(|(_, frame)| shown(frame)).collect(), trace.pcap())
}

#[test]
fn a_capture_does_again_what_was_seen() {
    let checker = checker();
    let case: Case = CASE.parse().expect("a case");
    let (sent, capture) = traced(&checker, &case);
    assert!(sent.len() >= 8, "{sent:?}");
    let mut traffic = seeds::Traffic::default();
    seeds::capture(&capture, &mut traffic).expect("a capture");
    let (cases, left_out) = traffic.cases();
    assert_eq!((cases.len(), left_out), (1, 0));
    let again = cases.first().expect("a case");
    let (sent_again, _) = traced(&checker, again);
    assert_eq!(sent_again, sent, "{again}");
    // And a capture that is cut off anywhere is the beginning of it.
    for length in [24, 100, capture.len() / 2, capture.len() - 1] {
        let mut traffic = seeds::Traffic::default();
        seeds::capture(&capture[..length], &mut traffic).expect("the beginning of a capture");
        for part in traffic.cases().0 {
            assert!(part.events.len() <= again.events.len());
        }
    }
}

/// The other format, as Wireshark writes it: Ethernet, microseconds, big-endian for once.
#[test]
fn both_formats_say_the_same() {
    let (_, capture) = traced(&checker(), &CASE.parse().expect("a case"));
    let cases = |bytes: &[u8]| {
        let mut traffic = seeds::Traffic::default();
        seeds::capture(bytes, &mut traffic).map(|()| traffic.cases())
    };
    let block = |kind: u32, body: &[u8]| {
        let length = (body.len() as u32 + 12).to_be_bytes();
        [&kind.to_be_bytes(), &length, body, &length].concat()
    };
    let mut other =
        block(0x0a0d_0d0a, &[0x1a, 0x2b, 0x3c, 0x4d, 0, 1, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
    other.extend(block(1, &[0, 1, 0, 0, 0, 4, 0, 0]));
    let mut rest = &capture[24..];
    while let Some((head, tail)) = rest.split_at_checked(16) {
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (frame, after) = tail.split_at(word(8) as usize);
        rest = after;
        let at = u64::from(word(0)) * 1_000_000 + u64::from(word(4)) / 1000;
        let length = frame.len() as u32 + 14;
        let mut body = [0_u32, (at >> 32) as u32, at as u32, length, length].map(u32::to_be_bytes).concat();
        body.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
        body.extend(frame);
        body.resize(body.len().next_multiple_of(4), 0);
        other.extend(block(6, &body));
    }
    let (ours, theirs) = (cases(&capture).expect("pcap"), cases(&other).expect("pcapng"));
    assert_eq!(ours, theirs);
    assert!(cases(b"seg 0 S\n").is_err() && cases(&[]).is_err() && cases(&[0; 4000]).is_err());
    // Nothing in a file is trusted.
    for at in 0..other.len() {
        let mut bent = other.clone();
        bent[at] ^= 0xff;
        let _ = cases(&bent);
    }
}
