use super::*;
use crate::conformance::script::{Body, Number, Outcome, TcpOption, flag};
use bulkhead_wit::limits::MILLISECOND;

fn one(line: &str) -> Event {
    let script = parse("test", line).expect("a line that can be read");
    script.events.into_iter().next().expect("an event")
}

#[test]
fn times_of_all_kinds() {
    let at = |is_relative, ms| Moment { is_relative, time: ms * MILLISECOND };
    assert_eq!(one("0.25 close(4) = 0").when, When::At(at(false, 250)));
    assert_eq!(one("+.040 close(4) = 0").when, When::At(at(true, 40)));
    assert_eq!(one("+40ms close(4) = 0").when, When::At(at(true, 40)));
    assert_eq!(one("+.1~+.2 > . 1:1(0) ack 1").when, When::Between(at(true, 100), at(true, 200)));
    assert_eq!(one("+.1....3 read(4, ..., 1) = 1").when, When::During(at(true, 100), at(true, 300)));
    assert_eq!(one("* > R 1:1(0)").when, When::Anytime);
}

#[test]
fn a_segment_and_its_options() {
    let event =
        one("+0 < [ect0, ttl 3] SE. 5:15(10) ack 7 win 100 <mss 1460,sackOK,TS val 1 ecr *,nop,wscale 7>");
    let What::Inject(packet) = event.what else { panic!("{event:?}") };
    assert_eq!((packet.network.ecn, packet.network.ttl), (Some(2), Some(3)));
    let Body::Tcp(tcp) = packet.body else { panic!() };
    assert_eq!(tcp.flags, flag::SYN | flag::ECE | flag::ACK);
    assert_eq!((tcp.seq, tcp.length, tcp.ack), (5, 10, Some(Number::Is(7))));
    let options = tcp.options.expect("options");
    assert_eq!(options[2], TcpOption::Timestamps(Number::Is(1), Number::Any));
    assert_eq!(options.len(), 5);
}

#[test]
fn what_is_shown_reads_back() {
    for line in [
        "P. 1:1001(1000) ack 1 win 257 <nop,nop,TS val 5 ecr 6>",
        ". 1:1(0) ack 1 <nop,nop,sack 3:5 7:9>",
        "[ce, port 7] PU. 1:3(2) ack 9 urg 2 <...>",
        "icmp echo_reply id 1 seq 2 len 56",
    ] {
        let What::Inject(packet) = one(&format!("+0 < {line}")).what else { panic!("{line}") };
        assert_eq!(packet.to_string(), line);
    }
}

#[test]
fn calls_and_results() {
    let What::Call(call) = one("+0 setsockopt(4, SOL_SOCKET, SO_LINGER, {onoff=1, linger=0}, 8) = 0").what
    else {
        panic!()
    };
    assert_eq!((call.arguments.len(), call.result), (5, Outcome::Value(0)));
    let What::Call(call) = one("+0 read(4, ..., 10) = -1 EAGAIN (Resource temporarily unavailable)").what
    else {
        panic!()
    };
    assert_eq!(call.result, Outcome::Error("EAGAIN".to_owned()));
    let What::Call(call) = one("+0 poll(4) = POLLIN|POLLOUT").what else { panic!() };
    assert_eq!(call.result, Outcome::Flags("POLLIN|POLLOUT".to_owned()));
}

#[test]
fn comments_and_lines() {
    let text = "// one\nset congestion=reno\n--mtu=9000\n/* two\n three */ # four\n+0 close(4) = 0 // five\n";
    let script = parse("test", text).expect("a script");
    assert_eq!((script.events.len(), script.events[0].line), (1, 6));
    assert_eq!((script.setup.mtu, script.setup.settings.len()), (9000, 1));
}

#[test]
fn what_cannot_be_read_is_told_with_its_line() {
    for (text, line) in [
        ("\n+0 < . 1:5(3) ack 1", 2),
        ("+0 < S 0:0(0) ack 1", 1),
        ("+0 > Q 0:0(0)", 1),
        ("+0 close(4)", 1),
        ("set nothing=1", 1),
        ("+0 close(4) = 0\nset mtu=1500", 2),
        ("+.1~+.2 close(4) = 0", 1),
        ("+0 %{ nonsense == 1 }%", 1),
        ("+0 < icmp nonsense", 1),
        ("+99999999999999999999 close(4) = 0", 1),
    ] {
        assert_eq!(parse("test", text).expect_err(text).line, line, "{text}");
    }
}
