//! Handshakes that do not go as they usually do, between two instances.

use bulkhead_tiny_tcp::Tcp;
use bulkhead_wit::registry::protocol;
use bulkhead_wit::{
    Address, Call, Config, Endpoint, Event, Handle, Inputs, Listen, Module, Open, Outputs, Prefix, Room,
    Segment,
};

const A: Endpoint = Endpoint { address: Address::from_v4([10, 0, 0, 1]), port: 1000 };
const B: Endpoint = Endpoint { address: Address::from_v4([10, 0, 0, 2]), port: 2000 };
/// Where the sequence number is, behind a network header.
const SEQUENCE: std::ops::Range<usize> = 24..28;

fn started(end: Endpoint) -> Tcp {
    let addresses = vec![Prefix { address: end.address, length: 24 }];
    let limits = Config { connections: 8, embryos: 8, ..Config::default() };
    let mut tcp = Tcp::default();
    tcp.start(&Config { addresses, mtu: 1500, ports_first: 1, ports_last: 9, shards: 1, ..limits }).unwrap();
    tcp
}

fn open(local: Endpoint, remote: Endpoint) -> Call {
    let connection = Handle::by_host(1, 1);
    Call::Open(Open {
        connection,
        local,
        remote,
        receive_first: 9000,
        receive_max: 9000,
        settings: Vec::new(),
    })
}

/// A step with these calls and, each a header, these segments of so many bytes: headers of what it sends, and what it says.
fn step(tcp: &mut Tcp, calls: &[Call], arrived: &[Vec<u8>], payload: u32) -> (Vec<Vec<u8>>, Vec<Event>) {
    let mut segments = Vec::new();
    for header in arrived {
        let place = segments.iter().map(|one: &Segment| u32::from(one.header_length)).sum();
        let header_length = header.len() as u16;
        let (transport, protocol) = (20, protocol::TCP);
        let about = Segment { header: place, header_length, transport, ..Segment::default() };
        segments.push(Segment { payload, protocol, ..about });
    }
    let headers = arrived.concat();
    let room = Room { sends: 9, bytes: 9000 };
    let mut outputs = Outputs::default();
    let inputs = Inputs { room, headers: &headers, segments: &segments, calls, ..Inputs::default() };
    tcp.step(&inputs, &mut outputs);
    let header = |send: &bulkhead_wit::Send| {
        let begin = send.header as usize;
        outputs.headers[begin..begin + usize::from(send.header_length)].to_vec()
    };
    (outputs.sends.iter().map(header).collect(), outputs.events)
}

#[test]
fn a_handshake_is_completed_in_order() {
    let (mut a, mut b) = (started(A), started(B));
    let listen = Listen { listener: 1, local: B, allow: 9, receive_first: 9000, ..Listen::default() };
    let (syn, _) = step(&mut a, &[open(A, B)], &[], 0);
    let (answer, _) = step(&mut b, &[Call::Listen(listen)], &syn, 0);
    let (acknowledgement, _) = step(&mut a, &[], &answer, 0);
    for by in [100_u32.wrapping_neg(), 2] {
        let mut other = acknowledgement.clone();
        let number = u32::from_be_bytes(other[0][SEQUENCE].try_into().unwrap()).wrapping_add(by);
        other[0][SEQUENCE].copy_from_slice(&number.to_be_bytes());
        // Something of it is new, but what comes before is not there: it is answered, and nothing more.
        let (sent, said) = step(&mut b, &[], &other, 149);
        assert_eq!((sent.len(), said), (1, Vec::new()), "{by}");
    }
    let (_, said) = step(&mut b, &[], &acknowledgement, 0);
    assert!(matches!(said[..], [Event::Accepted(_)]), "{said:?}");
}

#[test]
fn two_that_call_each_other_at_the_same_time_are_connected() {
    let (mut a, mut b) = (started(A), started(B));
    let (mut to_b, _) = step(&mut a, &[open(A, B)], &[], 0);
    let (mut to_a, _) = step(&mut b, &[open(B, A)], &[], 0);
    let mut said = Vec::new();
    for _ in 0..6 {
        let (from_a, of_a) = step(&mut a, &[], &to_a, 0);
        let (from_b, of_b) = step(&mut b, &[], &to_b, 0);
        (to_a, to_b) = (from_b, from_a);
        said.extend([of_a, of_b].concat());
    }
    assert!(matches!(said[..], [Event::Opened(_), Event::Opened(_)]), "{said:?}");
    assert!(to_a.is_empty() && to_b.is_empty(), "they go on about it");
}
