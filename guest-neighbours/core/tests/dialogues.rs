//! The core by itself: frames in, frames out. A foreign peer (smoltcp) speaks with it in the host's tests.

use bulkhead_neighbours::Neighbours;
use bulkhead_wit::registry::setting;
use bulkhead_wit::{
    Address, Batch, Config, Kind, Module as _, NEVER, Outputs, Prefix, Room, Segment, Setting, Source,
};

const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
const GUEST: [u8; 6] = [2, 0, 0, 0, 0, 9];
const ALL: [u8; 6] = [0xff; 6];
const SECOND: u64 = 1_000_000_000;

fn config() -> Config {
    let v6 = Address::from_v6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    let number = |octets: [u8; 4]| u64::from(u32::from_be_bytes(octets));
    let settings = [
        (setting::LINK_ADDRESS, 0x0200_0000_0001),
        (setting::LEASE, number([10, 0, 2, 100])),
        (setting::NAME_SERVER, number([10, 0, 2, 3])),
    ];
    Config {
        addresses: vec![
            Prefix { address: Address::from_v4([10, 0, 2, 2]), length: 120 },
            Prefix { address: v6, length: 64 },
        ],
        mtu: 1500,
        settings: settings.map(|(key, value)| Setting { key, value }).to_vec(),
        ..Config::default()
    }
}

fn started() -> Neighbours {
    let mut neighbours = Neighbours::new();
    neighbours.start(&config()).unwrap();
    neighbours
}

fn step(neighbours: &mut Neighbours, now: u64, frames: &[Vec<u8>]) -> (Vec<Vec<u8>>, u64) {
    let mut batch = Batch { now, room: Room { sends: 8, bytes: 8 * 512 }, ..Batch::default() };
    for frame in frames {
        let header = batch.headers.len() as u32;
        let seen = &frame[..frame.len().min(512)];
        batch.headers.extend_from_slice(seen);
        batch.segments.push(Segment {
            header,
            payload: (frame.len() - seen.len()) as u32,
            header_length: seen.len() as u16,
            kind: Kind::Frame,
            ..Segment::default()
        });
    }
    let mut outputs = Outputs::default();
    neighbours.step(&batch.inputs(), &mut outputs);
    let sent = outputs.sends.iter().map(|send| {
        assert_eq!((send.source, send.length, send.mss), (Source::Nothing, 0, 0));
        let from = send.header as usize;
        let frame = outputs.headers[from..from + usize::from(send.header_length)].to_vec();
        assert_eq!(frame[6..12], OURS);
        frame
    });
    (sent.collect(), outputs.deadline)
}

fn one(frame: Vec<u8>) -> Option<Vec<u8>> {
    let (mut sent, _) = step(&mut started(), 1, &[frame]);
    assert!(sent.len() < 2);
    sent.pop()
}

fn sum(parts: &[&[u8]]) -> u16 {
    let bytes: Vec<u8> = parts.concat();
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let total: u32 = words.sum();
    let folded = (total >> 16) + (total & 0xffff);
    !((folded >> 16) + folded) as u16
}

fn arp(asker: [u8; 4], wanted: [u8; 4]) -> Vec<u8> {
    [&ALL[..], &GUEST, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &GUEST, &asker, &[0; 6], &wanted, &[0; 18]].concat()
}

#[test]
fn who_has_an_address_of_ours() {
    for wanted in [[10, 0, 2, 2], [10, 0, 2, 3]] {
        let reply = one(arp([10, 0, 2, 100], wanted)).unwrap();
        let right =
            [&GUEST[..], &OURS, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &OURS, &wanted, &GUEST, &[10, 0, 2, 100]];
        assert_eq!(reply, right.concat());
    }
    // Not for the guest's own, not for anybody else's, not for what is no question.
    assert_eq!(one(arp([0; 4], [10, 0, 2, 100])), None);
    assert_eq!(one(arp([10, 0, 2, 100], [10, 0, 2, 9])), None);
    assert_eq!(one(arp([10, 0, 2, 2], [10, 0, 2, 2])), None);
    let mut reply = arp([10, 0, 2, 100], [10, 0, 2, 2]);
    reply[21] = 2;
    assert_eq!(one(reply), None);
    let mut short = arp([10, 0, 2, 100], [10, 0, 2, 2]);
    short.truncate(41);
    assert_eq!(one(short), None);
}

/// A DHCP message with these options, from an address that it may have already.
fn dhcp(address: [u8; 4], broadcast: bool, options: &[&[u8]]) -> Vec<u8> {
    let mut message = vec![1, 1, 6, 0, 1, 2, 3, 4, 0, 0, if broadcast { 0x80 } else { 0 }, 0];
    message.extend(address);
    message.resize(28, 0);
    message.extend(GUEST);
    message.resize(236, 0);
    message.extend([99, 130, 83, 99]);
    options.iter().for_each(|option| message.extend_from_slice(option));
    message.push(255);
    let length = message.len() as u16;
    let mut ip = vec![0x45, 0];
    ip.extend((28 + length).to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    ip.extend(address);
    ip.extend([255; 4]);
    let check = sum(&[&ip]).to_be_bytes();
    ip[10..12].copy_from_slice(&check);
    [&ALL[..], &GUEST, &[8, 0], &ip, &[0, 68, 0, 67], &(8 + length).to_be_bytes(), &[0, 0], &message].concat()
}

/// Where the answer goes, what it is, the address that it gives, and an option of it.
type Told = ([u8; 4], u8, [u8; 4], Vec<(u8, Vec<u8>)>);

fn told(frame: &[u8]) -> Told {
    let ip = &frame[14..34];
    assert_eq!((sum(&[ip]), &ip[12..16]), (0, &[10, 0, 2, 2][..]));
    let udp = &frame[34..];
    let pseudo = [0, 17, udp[4], udp[5]];
    assert_eq!(sum(&[&ip[12..20], &pseudo, udp]), 0);
    assert_eq!(udp[..4], [0, 67, 0, 68]);
    let message = &udp[8..];
    assert!(message.len() >= 300);
    assert_eq!((&message[..8], &message[28..34]), (&[2, 1, 6, 0, 1, 2, 3, 4][..], &GUEST[..]));
    let (mut options, mut rest) = (Vec::new(), &message[240..]);
    while rest[0] != 255 {
        let end = 2 + usize::from(rest[1]);
        options.push((rest[0], rest[2..end].to_vec()));
        rest = &rest[end..];
    }
    let kind = options[0].1[0];
    (ip[16..20].try_into().unwrap(), kind, message[16..20].try_into().unwrap(), options)
}

#[test]
fn an_address_for_the_guest_and_what_goes_with_it() {
    let lease = [10, 0, 2, 100];
    let (to, kind, given, options) = told(&one(dhcp([0; 4], false, &[&[53, 1, 1]])).unwrap());
    assert_eq!((to, kind, given), (lease, 2, lease));
    let option = |code| options.iter().find(|option| option.0 == code).map(|option| option.1.clone());
    assert_eq!(option(1), Some(vec![255, 255, 255, 0]));
    assert_eq!(option(3), Some(vec![10, 0, 2, 2]));
    assert_eq!(option(6), Some(vec![10, 0, 2, 3]));
    assert_eq!(option(26), Some(vec![5, 220]));
    assert_eq!(option(51), Some(86_400_u32.to_be_bytes().to_vec()));
    assert_eq!(option(54), Some(vec![10, 0, 2, 2]));

    let ours: &[u8] = &[54, 4, 10, 0, 2, 2];
    let asks = |options: &[&[u8]]| one(dhcp([0; 4], true, options)).map(|frame| told(&frame));
    let (to, kind, given, _) = asks(&[&[53, 1, 3], ours, &[0, 0, 50, 4, 10, 0, 2, 100]]).unwrap();
    assert_eq!((to, kind, given), ([255; 4], 5, lease), "by broadcast, as it asked");
    let (_, kind, given, options) = asks(&[&[53, 1, 3], &[50, 4, 192, 168, 1, 5]]).unwrap();
    assert_eq!((kind, given, options.len()), (6, [0; 4], 2), "an address of another network");
    // Another server's, a release, no DHCP at all.
    assert_eq!(asks(&[&[53, 1, 3], &[54, 4, 10, 0, 2, 9]]), None);
    assert_eq!(asks(&[&[53, 1, 7], ours]), None);
    assert_eq!(asks(&[]), None);
    // It renews, and asks for what else there is.
    let (to, kind, given, _) = told(&one(dhcp(lease, false, &[&[53, 1, 3]])).unwrap());
    assert_eq!((to, kind, given), (lease, 5, lease));
    let (_, kind, given, options) = told(&one(dhcp(lease, false, &[&[53, 1, 8]])).unwrap());
    assert_eq!((kind, given), (5, [0; 4]));
    assert!(options.iter().all(|option| option.0 != 51));
}

const LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 1];

fn message(source: [u8; 16], body: &[u8]) -> Vec<u8> {
    let to = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    let mut body = body.to_vec();
    let pseudo = [0, 0, 0, body.len() as u8, 0, 0, 0, 58];
    let check = sum(&[&source, &to, &pseudo, &body]).to_be_bytes();
    body[2..4].copy_from_slice(&check);
    let head = [0x60, 0, 0, 0, 0, body.len() as u8, 58, 255];
    [&[0x33, 0x33, 0, 0, 0, 2][..], &GUEST, &[0x86, 0xdd], &head, &source, &to, &body].concat()
}

#[test]
fn routers_and_neighbours_are_found() {
    let guest = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    let advertisement = one(message(guest, &[133, 0, 0, 0, 0, 0, 0, 0])).unwrap();
    assert_eq!(advertisement[..6], [0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(advertisement[22..38], LOCAL);
    let body = &advertisement[54..];
    assert_eq!(sum(&[&advertisement[22..54], &[0, 0, 0, body.len() as u8, 0, 0, 0, 58], body]), 0);
    assert_eq!((body[0], &body[6..8], body[4]), (134, &1800_u16.to_be_bytes()[..], 64));
    assert_eq!(body[16..24], [1, 1, 2, 0, 0, 0, 0, 1]);
    assert_eq!(body[24..32], [5, 1, 0, 0, 0, 0, 5, 220]);
    assert_eq!(body[32..36], [3, 4, 64, 0xc0]);
    assert_eq!(body[48..], [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

    let ours = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    let asks = |source, target: [u8; 16]| {
        one(message(source, &[&[135, 0, 0, 0, 0, 0, 0, 0], &target[..], &[1, 1], &GUEST].concat()))
    };
    for target in [ours, LOCAL] {
        let reply = asks(guest, target).unwrap();
        assert_eq!((&reply[..6], &reply[22..38], &reply[38..54]), (&GUEST[..], &target[..], &guest[..]));
        assert_eq!((reply[54], reply[58]), (136, 0xe0));
        assert_eq!(reply[62..], [&target[..], &[2, 1], &OURS].concat());
        let body = &reply[54..];
        assert_eq!(sum(&[&reply[22..54], &[0, 0, 0, body.len() as u8, 0, 0, 0, 58], body]), 0);
    }
    // Whoever wants one of ours for itself is told that it cannot have it.
    let taken = asks([0; 16], ours).unwrap();
    assert_eq!((&taken[..6], taken[58]), (&[0x33, 0x33, 0, 0, 0, 1][..], 0xa0));
    assert_eq!(asks(guest, [0xfd; 16]), None);
    // What a router passed on, what has a wrong sum, and an option of no length.
    let mut far = message(guest, &[133, 0, 0, 0, 0, 0, 0, 0]);
    far[21] = 254;
    let mut wrong = message(guest, &[133, 0, 0, 0, 0, 0, 0, 0]);
    wrong[57] ^= 1;
    let endless = message(guest, &[133, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!([far, wrong, endless].map(one), [const { None }; 3]);
}

#[test]
fn a_router_is_heard_of_again_in_time() {
    let mut neighbours = started();
    assert_eq!(step(&mut neighbours, 0, &[]), (vec![], 600 * SECOND));
    let (sent, deadline) = step(&mut neighbours, 600 * SECOND, &[]);
    assert_eq!((sent.len(), sent[0][54], deadline), (1, 134, 1200 * SECOND));
    let saved = neighbours.save();
    let mut other = started();
    other.load(&config(), 601 * SECOND, &saved).unwrap();
    assert_eq!((other.save(), other == neighbours), (saved, true));
    assert_eq!(step(&mut other, 1200 * SECOND, &[]).0.len(), 1);
    assert!(other.load(&config(), 0, &[1; 31]).is_err());
    // Without IPv6 there is nothing to tell.
    let mut v4 = Neighbours::new();
    let addresses = config().addresses[..1].to_vec();
    v4.start(&Config { addresses, ..config() }).unwrap();
    assert_eq!(step(&mut v4, 600 * SECOND, &[]), (vec![], NEVER));
    assert!(Neighbours::new().start(&Config { settings: vec![], ..config() }).is_err());
}

#[test]
fn whatever_comes_it_answers_with_frames_of_its_own_or_not_at_all() {
    let mut state = 4711_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let guest = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    let right = [
        arp([10, 0, 2, 100], [10, 0, 2, 2]),
        dhcp([0; 4], false, &[&[53, 1, 1], &[50, 4, 1, 2, 3, 4], &[61, 7, 1, 2, 3, 4, 5, 6, 7]]),
        message(guest, &[133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 9]),
    ];
    let mut neighbours = started();
    let mut answered = 0;
    for now in 0..100_000 {
        let mut frame = right[random(right.len())].clone();
        for _ in 0..random(4) {
            let at = random(frame.len());
            frame[at] = random(256) as u8;
        }
        frame.truncate(if random(4) == 0 { random(frame.len() + 1) } else { frame.len() });
        frame.resize(frame.len() + if random(8) == 0 { random(2000) } else { 0 }, random(256) as u8);
        answered += step(&mut neighbours, now, &[frame]).0.len();
    }
    assert!((10_000..100_000).contains(&answered), "{answered}");
}
