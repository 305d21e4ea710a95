//! The link against a module that lies, and over sockets that are full, cut off, or carry no frames.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bulkhead_wit::registry::{protocol, service};
use bulkhead_wit::{
    Config, Description, Event, Failed, Inputs, Kind, NEVER, Outputs, Place, Send, Service, Source, Summary,
};

use super::*;
use crate::fault::Fault;
use crate::placement::{Instance, StepCost};

const OURS: Mac = [2, 0, 0, 0, 0, 1];
const GUEST: Mac = [2, 0, 0, 0, 0, 9];
const NEXT: Time = 1 << 40;

/// Answers every frame with what it was told to.
struct Scripted {
    description: Description,
    answer: fn(&mut Outputs),
    heard: Arc<AtomicU32>,
}

impl Instance for Scripted {
    fn description(&self) -> &Description {
        &self.description
    }

    fn start(&mut self, _config: &Config) -> Result<(), Fault> {
        Ok(())
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) -> Result<(), Fault> {
        outputs.clear();
        outputs.deadline = NEXT;
        if let [segment] = inputs.segments {
            assert_eq!((segment.kind, segment.transport), (Kind::Frame, 14));
            self.heard.fetch_add(1, Ordering::Relaxed);
            (self.answer)(outputs);
        }
        Ok(())
    }

    fn save(&mut self) -> Result<Vec<u8>, Fault> {
        Ok(Vec::new())
    }

    fn load(&mut self, _: &Config, _: Time, _: &[u8]) -> Result<Vec<Summary>, Fault> {
        Ok(Vec::new())
    }

    fn cost(&self) -> StepCost {
        StepCost::default()
    }
}

/// The link to a module that answers so, the guest's end of it, and how many frames the module heard.
fn link(answer: fn(&mut Outputs)) -> (Ethernet, UnixStream, Arc<AtomicU32>) {
    let heard = Arc::new(AtomicU32::new(0));
    let shared = Arc::clone(&heard);
    let arp = Service { kind: service::ETHERTYPE, value: 0x0806 };
    let of = |value| Service { kind: service::UDP_PORT, value };
    let factory = move || {
        let description =
            Description { serves: vec![arp, of(67)], sends: vec![arp, of(68)], ..Description::default() };
        Ok(Box::new(Scripted { description, answer, heard: Arc::clone(&shared) }) as Box<dyn Instance>)
    };
    let ours = [(IpAddr::from(Ipv4Addr::new(10, 0, 2, 2)), 24), (IpAddr::from(Ipv6Addr::LOCALHOST), 64)];
    let neighbours = Neighbours::new(Box::new(factory), OURS, &ours, Guest::default(), 1500).unwrap();
    let (near, far) = UnixStream::pair().unwrap();
    far.set_nonblocking(true).unwrap();
    (Ethernet::new(Stream::new(near).unwrap(), neighbours, 1500), far, heard)
}

fn frame(to: Mac, from: Mac, kind: [u8; 2], payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind, payload].concat()
}

fn give(mut far: &UnixStream, frame: &[u8]) {
    far.write_all(&[&(frame.len() as u32).to_be_bytes()[..], frame].concat()).unwrap();
}

/// The frames that have come to the guest.
fn taken(mut far: &UnixStream) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    let _ = far.read_to_end(&mut bytes);
    let (mut frames, mut rest) = (Vec::new(), &bytes[..]);
    while let Some((length, after)) = rest.split_first_chunk() {
        let (frame, next) = after.split_at(u32::from_be_bytes(*length) as usize);
        frames.push(frame.to_vec());
        rest = next;
    }
    frames
}

/// A UDP datagram over IPv4, as far as anybody looks at it.
fn udp(to: [u8; 4], port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    [
        &[0x45, 0, 0, 28, 0, 0, 0, 0, 64, protocol::UDP, 0, 0, 10, 0, 2, 100][..],
        &to,
        &[9, 9, high, low, 0, 8, 0, 0],
    ]
    .concat()
}

const ARP: [u8; 2] = [8, 6];

fn says(outputs: &mut Outputs, frame: &[u8]) {
    let send =
        Send { header: outputs.headers.len() as u32, header_length: frame.len() as u16, ..Send::default() };
    outputs.sends.push(send);
    outputs.headers.extend_from_slice(frame);
}

#[test]
fn datagrams_lose_their_header_and_get_one() {
    let (mut link, far, heard) = link(|_| ());
    let mut pool = FramePool::new(4);
    // Before the guest has said anything it is nowhere.
    assert!(!link.transmit(&[IoSlice::new(&[0x45, 1, 2])], Offload::default()).unwrap());
    for (to, from, kind, payload) in [
        ([9; 6], GUEST, IPV4, &[1; 40][..]),        // another's
        ([0xff; 6], GUEST, IPV4, &[2; 40]),         // to everybody
        (OURS, [1, 2, 3, 4, 5, 6], IPV4, &[3; 40]), // from a group
        (OURS, GUEST, [0x12, 0x34], &[4; 40]),
        (OURS, GUEST, IPV4, &[5; 1501]), // longer than the MTU
        (OURS, GUEST, IPV4, &[6; 1500]),
        (OURS, GUEST, IPV6, &[7; 60]),
    ] {
        give(&far, &frame(to, from, kind, payload));
    }
    give(&far, b"short");
    give(&far, &frame([0xff; 6], GUEST, ARP, &[8; 46]));
    let got = std::iter::from_fn(|| link.receive(&mut pool).unwrap()).map(|frame| frame.bytes.to_vec());
    assert_eq!(got.collect::<Vec<_>>(), [vec![6; 1500], vec![7; 60]]);
    assert_eq!(heard.load(Ordering::Relaxed), 1);
    for datagram in [[0x45, 1, 2], [0x60, 1, 2]] {
        let parts = [IoSlice::new(&datagram[..1]), IoSlice::new(&datagram[1..])];
        assert!(link.transmit(&parts, Offload::default()).unwrap());
    }
    assert_eq!(
        taken(&far),
        [frame(GUEST, OURS, IPV4, &[0x45, 1, 2]), frame(GUEST, OURS, IPV6, &[0x60, 1, 2])]
    );
}

#[test]
fn questions_of_the_link_are_the_modules_and_datagrams_on_their_way_are_not() {
    let (mut link, far, heard) = link(|outputs| says(outputs, &frame(GUEST, OURS, ARP, &[7; 28])));
    let mut pool = FramePool::new(4);
    for (to, port) in [([255; 4], 67), ([10, 0, 2, 2], 67), ([198, 51, 100, 1], 67), ([10, 0, 2, 2], 68)] {
        give(&far, &frame(OURS, GUEST, IPV4, &udp(to, port)));
    }
    let passed = std::iter::from_fn(|| link.receive(&mut pool).unwrap()).count();
    assert_eq!((passed, heard.load(Ordering::Relaxed)), (2, 2));
    assert_eq!(taken(&far), vec![frame(GUEST, OURS, ARP, &[7; 28]); 2]);
}

/// How many restarts there are before a module that always does this is given up, and that the guest hears nothing.
fn refused(answer: fn(&mut Outputs)) {
    let (mut link, far, heard) = link(answer);
    let mut pool = FramePool::new(4);
    for _ in 0..10 {
        give(&far, &frame([0xff; 6], GUEST, ARP, &[0; 46]));
        assert!(link.receive(&mut pool).unwrap().is_none());
    }
    assert_eq!(taken(&far), Vec::<Vec<u8>>::new());
    // The first, and as many more as may follow within a minute.
    assert_eq!(heard.load(Ordering::Relaxed), 1 + crate::supervise::RESTARTS as u32);
    assert_eq!(link.next_deadline(), NEVER);
    // Datagrams pass all the same.
    give(&far, &frame(OURS, GUEST, IPV4, &[6; 40]));
    assert!(link.receive(&mut pool).unwrap().is_some());
}

#[test]
fn a_module_that_lies_is_given_up_and_nobody_hears_it() {
    // From another's address, and to ourselves.
    refused(|outputs| says(outputs, &frame(GUEST, [2, 0, 0, 0, 0, 2], ARP, &[0; 28])));
    refused(|outputs| says(outputs, &frame(OURS, OURS, ARP, &[0; 28])));
    // Of kinds that it has not named; from an IP address that is not ours.
    refused(|outputs| says(outputs, &frame(GUEST, OURS, [0x12, 0x34], &[0; 28])));
    refused(|outputs| {
        let mut datagram = udp([10, 0, 2, 100], 53);
        datagram[12..16].copy_from_slice(&[10, 0, 2, 2]);
        says(outputs, &frame(GUEST, OURS, IPV4, &datagram));
    });
    refused(|outputs| says(outputs, &frame(GUEST, OURS, IPV4, &udp([10, 0, 2, 100], 68))));
    // Not a frame at all, more than may be, out of nowhere, with bytes of others.
    refused(|outputs| says(outputs, b"short"));
    refused(|outputs| (0..5).for_each(|_| says(outputs, &frame(GUEST, OURS, ARP, &[0; 28]))));
    refused(|outputs| outputs.sends.push(Send { header: 7, header_length: 60, ..Send::default() }));
    refused(|outputs| {
        says(outputs, &frame(GUEST, OURS, ARP, &[0; 28]));
        outputs.sends[0] = Send { source: Source::Segment, length: 1, ..outputs.sends[0] };
    });
    // What nobody asked for, and a time that has passed.
    refused(|outputs| outputs.places.push(Place::default()));
    refused(|outputs| outputs.events.push(Event::Failed(Failed { call: 0, reason: 1 })));
    refused(|outputs| outputs.unfinished = true);
    refused(|outputs| outputs.deadline = 0);
}

#[test]
fn a_guest_that_only_asks_does_not_hold_up_the_rest() {
    let (mut link, far, heard) = link(|_| ());
    let mut pool = FramePool::new(4);
    (0..100).for_each(|_| give(&far, &frame([0xff; 6], GUEST, ARP, &[0; 46])));
    link.set_now(5);
    assert!(link.receive(&mut pool).unwrap().is_none());
    assert_eq!((heard.load(Ordering::Relaxed), link.next_deadline()), (FRAMES as u32, 5), "at once again");
    assert!(link.receive(&mut pool).unwrap().is_none());
    assert_eq!((heard.load(Ordering::Relaxed), link.next_deadline()), (100, NEXT));
}

#[test]
fn what_a_full_stream_does_not_take_waits_in_order_and_within_bounds() {
    let (near, far) = UnixStream::pair().unwrap();
    far.set_nonblocking(true).unwrap();
    let mut link = Stream::new(near).unwrap();
    let frames = |n: u32| [&n.to_be_bytes()[..], &[7; 1400]].concat();
    let sent = (0..).take_while(|n| link.transmit(&[IoSlice::new(&frames(*n))]).unwrap()).count();
    assert!((4 << 20..8 << 20).contains(&(sent * 1408)), "{sent}");
    let mut got = Vec::new();
    let mut some = vec![0; 1 << 20];
    while got.len() < sent * 1408 {
        match (&far).read(&mut some) {
            Ok(count) => got.extend_from_slice(&some[..count]),
            Err(_) => link.flush().unwrap(),
        }
    }
    assert_eq!(got.len(), sent * 1408);
    for (n, frame) in (0..).zip(got.chunks(1408)) {
        assert_eq!((&frame[..4], &frame[4..]), (&1404_u32.to_be_bytes()[..], &frames(n)[..]));
    }
    link.flush().unwrap();
    assert!(link.transmit(&[IoSlice::new(b"and"), IoSlice::new(b"on")]).unwrap());
    assert_eq!((&far).read(&mut some).unwrap(), 9);
}

#[test]
fn pieces_of_frames_are_put_together_and_what_is_none_ends_the_link() {
    let (near, mut far) = UnixStream::pair().unwrap();
    let mut link = Stream::new(near).unwrap();
    let mut waiting: VecDeque<u8> = (0..100_u8).flat_map(|n| [&[0, 0, 0, 3][..], &[n; 3]].concat()).collect();
    let mut seen = Vec::new();
    while !waiting.is_empty() || seen.len() < 100 {
        let piece: Vec<u8> = (0..5).filter_map(|_| waiting.pop_front()).collect();
        far.write_all(&piece).unwrap();
        while let Some(frame) = link.peek().unwrap() {
            seen.push(frame.to_vec());
            link.consume();
        }
    }
    assert!((0..100_u8).zip(&seen).all(|(n, frame)| *frame == [n; 3]));
    far.write_all(&u32::MAX.to_be_bytes()).unwrap();
    assert_eq!(link.peek().unwrap_err().kind(), io::ErrorKind::InvalidData);
    // The other end is told.
    assert_eq!(far.read(&mut [0; 1]).unwrap(), 0);
    let (near, far) = UnixStream::pair().unwrap();
    let mut link = Stream::new(near).unwrap();
    drop(far);
    assert_eq!(link.peek().unwrap(), None);
}

#[test]
fn a_link_of_datagrams_outlives_its_other_end() {
    let folder = std::env::temp_dir().join(format!("bulkhead-link-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let (ours, theirs) = (folder.join("ours"), folder.join("theirs"));
    let mut link = Datagrams::new(UnixDatagram::bind(&ours).unwrap(), &theirs).unwrap();
    for round in 0..2_u8 {
        assert!(!link.transmit(&[IoSlice::new(b"nobody")]).unwrap());
        let guest = UnixDatagram::bind(&theirs).unwrap();
        guest.send_to(&[round; 60], &ours).unwrap();
        assert_eq!(link.peek().unwrap(), Some(&[round; 60][..]));
        link.consume();
        assert_eq!(link.peek().unwrap(), None);
        assert!(link.transmit(&[IoSlice::new(b"some"), IoSlice::new(b"body")]).unwrap());
        let mut bytes = [0; 100];
        let count = guest.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..count], b"somebody");
        std::fs::remove_file(&theirs).unwrap();
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
