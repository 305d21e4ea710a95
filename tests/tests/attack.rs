//! Attacks on a serving stack, in virtual time: an honest client's transfer goes on, nothing grows without a bound, and not
//! every frame is answered.

use bulkhead::device::link::{Impairments, Link, LinkConfig, LinkEnd};
use bulkhead::device::{Capabilities, Device, Offload};
use bulkhead::frame::{Frame, FramePool};
use bulkhead::{ConnectOptions, ListenOptions, Options, Stack};
use bulkhead_tests::attack::{ATTACKERS, Attack, Attacker};
use bulkhead_tests::world::{V4, byte, native};
use bulkhead_wit::limits::{MILLISECOND, SECOND};
use bulkhead_wit::registry::census;
use bulkhead_wit::{Endpoint, Time};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddrV4;

/// Frames of the attacker a second.
const RATE: u64 = 5_000;
/// How long it goes on.
const TIME: Time = SECOND;

/// The server's device: its end of the link, and the attacker beside it.
struct Both {
    link: LinkEnd,
    arriving: VecDeque<Vec<u8>>,
    attacker: Option<Attacker>,
}

impl Device for Both {
    fn capabilities(&self) -> Capabilities {
        self.link.capabilities()
    }

    fn receive(&mut self, pool: &mut FramePool) -> io::Result<Option<Frame>> {
        match self.arriving.pop_front() {
            Some(frame) => pool.copy(&[IoSlice::new(&frame)], Offload::default()).map(Some),
            None => self.link.receive(pool),
        }
    }

    fn transmit(&mut self, parts: &[IoSlice<'_>], offload: Offload) -> io::Result<bool> {
        let frame: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        if frame.get(16..18) == Some(&ATTACKERS) {
            if let Some(attacker) = &mut self.attacker {
                attacker.hear(&frame);
            }
            return Ok(true);
        }
        self.link.transmit(parts, offload)
    }
}

struct Outcome {
    read: u64,
    memory: usize,
    counts: Vec<u64>,
    heard: u64,
    alive: bool,
}

fn stack(host: usize) -> Stack {
    let mut options = Options::new(V4[host], 24, 1500, [host as u64, 2, 3, 4]);
    options.memory = 4 << 20;
    options.config.embryos = 256;
    Stack::new(native(), options).expect("the module starts")
}

/// An honest client downloads while the attack goes on.
fn under(attack: Option<Attack>) -> Outcome {
    let way =
        Impairments { delay: 5 * MILLISECOND, rate: 10_000_000, queue: 50_000, ..Impairments::default() };
    let (link, mut near, far) = Link::new(LinkConfig { there: way, back: way, ..LinkConfig::default() }, 1);
    let mut device = Both { link: far, arriving: VecDeque::new(), attacker: None };
    let (mut client, mut server) = (stack(0), stack(1));
    let at = Endpoint::new(V4[1].into(), 80);
    let listener = server.listen(at, ListenOptions::default()).unwrap();
    server.turn(0, &mut device).unwrap();
    let stream = client.connect(at, ConnectOptions::default()).unwrap();
    let (mut serving, mut buffer) = (Vec::new(), vec![0; 65_536]);
    let (mut now, mut read, mut memory, mut sent) = (0, 0_u64, 0, 0);
    let mut bytes = vec![0; 16_384];
    while now < TIME + SECOND {
        link.advance(now);
        if let (Some(attack), None, Some((local, _))) = (attack, &device.attacker, client.ends(stream))
            && now >= SECOND
        {
            let end = |end: Endpoint| SocketAddrV4::new(end.address.v4().unwrap().into(), end.port);
            device.attacker = Some(Attacker::new(attack, 7, end(at), end(local)));
        }
        if let Some(attacker) = &mut device.attacker {
            while sent < (now - SECOND) * RATE / SECOND {
                device.arriving.push_back(attacker.frame());
                sent += 1;
            }
        }
        while let Ok(accepted) = server.accept(listener) {
            serving.push((accepted.stream, 0));
        }
        for (stream, written) in &mut serving {
            for (at, slot) in (*written..).zip(&mut bytes) {
                *slot = byte(9, at);
            }
            while let Ok(count) = server.write(*stream, &bytes) {
                *written += count as u64;
                for (at, slot) in (*written..).zip(&mut bytes) {
                    *slot = byte(9, at);
                }
            }
        }
        while let Ok(count) = client.read(stream, &mut buffer) {
            for (at, got) in (read..).zip(&buffer[..count]) {
                assert_eq!(*got, byte(9, at), "byte {at}");
            }
            read += count as u64;
        }
        client.turn(now, &mut near).unwrap();
        server.turn(now, &mut device).unwrap_or_else(|fault| panic!("{}", fault.report()));
        while server.next_ready().is_some() || client.next_ready().is_some() {}
        memory = memory.max(server.stream_memory());
        assert!(server.stream_memory() <= server.memory_bound());
        now += MILLISECOND / 4;
    }
    let alive = client.end_of(stream).is_none();
    device.arriving.clear();
    server.ask_info(None).unwrap();
    server.turn(now, &mut device).unwrap();
    let counts = server.take_info(None).unwrap();
    Outcome { read, memory, counts, heard: device.attacker.map_or(0, |attacker| attacker.heard), alive }
}

#[test]
fn an_honest_client_gets_on_whatever_strangers_send() {
    let peace = under(None);
    println!("{:<15} {:>7} kB read, {:>5} kB held", "peace", peace.read / 1000, peace.memory / 1000);
    for attack in Attack::ALL {
        let war = under(Some(attack));
        let count = |field: u16| war.counts[usize::from(field)];
        println!(
            "{:<15} {:>7} kB read, {:>5} kB held, {:>6} kB of state, {:>5} answers, {:>5} challenges, {:>5} cookies",
            attack.name(),
            war.read / 1000,
            war.memory / 1000,
            count(census::STATE_BYTES) / 1000,
            war.heard,
            count(census::CHALLENGES),
            count(census::COOKIES_SENT),
        );
        assert!(war.alive, "{}: the honest connection ended", attack.name());
        // Whoever is given connections shares in what there is; all others cost next to nothing.
        let share = if attack == Attack::ZeroWindow || attack == Attack::TinySegments { 50 } else { 90 };
        assert!(
            war.read * 100 >= peace.read * share,
            "{}: {} of {} bytes",
            attack.name(),
            war.read,
            peace.read
        );
        assert!(
            count(census::STATE_BYTES) < 8 << 20,
            "{}: {} bytes of state",
            attack.name(),
            count(census::STATE_BYTES)
        );
        assert!(count(census::CHALLENGES) <= 1000 * (TIME / SECOND + 1), "{}", attack.name());
    }
}
