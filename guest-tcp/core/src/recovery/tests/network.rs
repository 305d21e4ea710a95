//! A bottleneck with a queue, loss, delay and reordering, between `Recovery` and a receiver that does everything
//! right. Time is virtual and the dice are seeded.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use bulkhead_wit::limits::{MILLISECOND, SECOND};
use bulkhead_wit::types::Time;

use super::super::*;

/// The path and its troubles.
#[derive(Clone, Debug)]
pub(super) struct Network {
    pub(super) rtt: Time,
    /// Bytes per second of the bottleneck.
    pub(super) rate: u64,
    /// Bytes that its queue holds.
    pub(super) queue: u64,
    /// Lost segments, and lost acknowledgements, in a million.
    pub(super) loss: u64,
    /// Segments, in a million, that are delayed by `reorder_by`.
    pub(super) reorder: u64,
    pub(super) reorder_by: Time,
    /// Segments that arrive between these times are held until the second.
    pub(super) outage: Option<(Time, Time)>,
    /// The numbers of the segments (counted as sent, from 1) that are lost for sure.
    pub(super) lost_segments: Vec<u64>,
    pub(super) seed: u64,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            rtt: 40 * MILLISECOND,
            rate: 12_500_000, // 100 Mbit/s
            queue: 500_000,   // one bandwidth-delay product
            loss: 0,
            reorder: 0,
            reorder_by: 0,
            outage: None,
            lost_segments: Vec::new(),
            seed: 1,
        }
    }
}

enum Event {
    Data { span: Span, sent_at: Time },
    Ack { to: u64, blocks: Vec<Span>, dsack: Option<Span>, echoed: Time },
    DelayedAck,
}

/// The receiver: reassembly, SACK with the latest block first, D-SACK, delayed acknowledgements of 40 ms.
#[derive(Default)]
struct Receiver {
    next: u64,
    islands: BTreeMap<u64, u64>,
    recent: VecDeque<u64>,
    echo: Time,
    unacknowledged: u64,
    delayed: bool,
}

/// What a run of the simulation came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) finished_at: Time,
    pub(super) timeouts: u32,
    pub(super) probes: u32,
    pub(super) undone: u32,
    pub(super) resent: u64,
    pub(super) segments: u64,
    pub(super) needless: u64,
    pub(super) cwnd_max: u64,
}

/// One transfer over one path.
pub(super) struct Simulation {
    pub(super) recovery: Recovery,
    pub(super) network: Network,
    pub(super) now: Time,
    pub(super) outcome: Outcome,
    pub(super) end: u64,
    /// Bytes that the peer's window admits.
    pub(super) window: u64,
    events: BTreeMap<(Time, u64), Event>,
    serial: u64,
    free_at: Time,
    dice: u64,
    receiver: Receiver,
    sack: bool,
    timestamps: bool,
}

impl Simulation {
    pub(super) fn new(parameters: Parameters, network: Network) -> Self {
        let mut recovery = Recovery::new(parameters);
        recovery.negotiated(1000, parameters.sack, parameters.timestamps);
        Self {
            recovery,
            now: SECOND,
            outcome: Outcome::default(),
            end: 1,
            window: 1 << 30,
            events: BTreeMap::new(),
            serial: 0,
            free_at: 0,
            dice: network.seed,
            receiver: Receiver::default(),
            sack: parameters.sack,
            timestamps: parameters.timestamps,
            network,
        }
    }

    /// The application writes `bytes` more, and time passes until all is acknowledged or `patience` is over.
    pub(super) fn transfer(&mut self, bytes: u64, patience: Time) -> bool {
        self.end += bytes;
        let give_up = self.now + patience;
        self.pump();
        while self.recovery.acknowledged() < self.end {
            let event = self.events.first_key_value().map(|(&(at, _), _)| at);
            let timer = self.recovery.next_deadline().map(|at| at.max(self.now));
            let Some(next) = event.into_iter().chain(timer).min() else {
                panic!("stalled at {}: {:?}", self.now, self.recovery)
            };
            if next > give_up {
                return false;
            }
            self.now = next;
            if timer == Some(next) && event != Some(next) {
                if self.recovery.on_timer(next) == TimerAction::Timeout {
                    self.outcome.timeouts += 1;
                }
            } else if let Some((_, event)) = self.events.pop_first() {
                self.happen(event);
            }
            self.pump();
            self.check();
        }
        self.outcome.finished_at = self.now;
        self.outcome.undone = self.field(bulkhead_wit::registry::info::UNDONE) as u32;
        self.outcome.resent = self.field(bulkhead_wit::registry::info::TOTAL_RETRANS);
        true
    }

    pub(super) fn field(&self, key: u16) -> u64 {
        let mut fields = [0; bulkhead_wit::limits::INFO_FIELDS];
        self.recovery.info(self.now, &mut fields);
        fields[usize::from(key)]
    }

    /// Lets time pass without the application.
    pub(super) fn idle(&mut self, time: Time) {
        self.now += time;
        self.events.clear();
    }

    fn pump(&mut self) {
        for _ in 0..100_000 {
            let window_end = self.recovery.acknowledged() + self.window;
            let supply = Supply { end: self.end, window_end, small: true, fin: false };
            match self.recovery.next(self.now, &supply) {
                Next::Send(transmit) => {
                    self.outcome.probes += u32::from(transmit.purpose == Purpose::Probe);
                    self.recovery.on_sent(self.now, transmit.span);
                    self.put_on_the_wire(transmit.span);
                }
                Next::Wait(_) => return,
            }
        }
        panic!("sends without end");
    }

    fn put_on_the_wire(&mut self, span: Span) {
        let mut at = span.start;
        while at < span.end {
            let end = span.end.min(at + u64::from(self.recovery.mss()));
            let piece = Span::new(at, end);
            at = end;
            self.outcome.segments += 1;
            let backlog = self.free_at.saturating_sub(self.now) * self.network.rate / SECOND;
            let forced = self.network.lost_segments.contains(&self.outcome.segments);
            if self.roll(self.network.loss) || forced || backlog > self.network.queue {
                continue;
            }
            self.free_at = self.free_at.max(self.now) + (piece.len() + 40) * SECOND / self.network.rate;
            let mut arrives = self.free_at + self.network.rtt / 2;
            if self.roll(self.network.reorder) {
                arrives += self.network.reorder_by;
            }
            if let Some((from, to)) = self.network.outage
                && (from..to).contains(&arrives)
            {
                arrives = to;
            }
            self.schedule(arrives, Event::Data { span: piece, sent_at: self.now });
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Data { span, sent_at } => self.receive(span, sent_at),
            Event::DelayedAck => {
                if core::mem::take(&mut self.receiver.delayed) {
                    self.acknowledge(None);
                }
            }
            Event::Ack { to, blocks, dsack, echoed } => {
                let ack = Ack {
                    to,
                    sacks: &blocks,
                    dsack,
                    echoed: self.timestamps.then_some(echoed / MILLISECOND * MILLISECOND),
                    ..Ack::default()
                };
                let _ = self.recovery.on_ack(self.now, &ack);
            }
        }
    }

    fn receive(&mut self, span: Span, sent_at: Time) {
        let receiver = &mut self.receiver;
        let mut dsack = None;
        let known = receiver.islands.range(..=span.start).next_back();
        if span.end <= receiver.next || known.is_some_and(|(_, &end)| end >= span.end) {
            dsack = Some(span);
            self.outcome.needless += 1;
        } else if span.start <= receiver.next {
            receiver.echo = sent_at;
            receiver.next = span.end;
            while let Some((&start, &end)) = receiver.islands.first_key_value() {
                if start > receiver.next {
                    break;
                }
                receiver.next = receiver.next.max(end);
                receiver.islands.remove(&start);
                receiver.recent.retain(|&known| known != start);
            }
        } else {
            self.add_island(span);
        }
        let receiver = &mut self.receiver;
        receiver.unacknowledged += 1;
        let odd = dsack.is_some() || !receiver.islands.is_empty();
        if odd || receiver.unacknowledged >= 2 || span.start == 0 {
            self.acknowledge(dsack);
        } else if !receiver.delayed {
            receiver.delayed = true;
            self.schedule(self.now + 40 * MILLISECOND, Event::DelayedAck);
        }
    }

    fn add_island(&mut self, span: Span) {
        let receiver = &mut self.receiver;
        let (mut start, mut end) = (span.start, span.end);
        let touching: Vec<(u64, u64)> = receiver
            .islands
            .range(..=end)
            .filter(|&(_, &island_end)| island_end >= start)
            .map(|(&start, &end)| (start, end))
            .collect();
        for (known, island_end) in touching {
            receiver.islands.remove(&known);
            receiver.recent.retain(|&recent| recent != known);
            start = start.min(known);
            end = end.max(island_end);
        }
        receiver.islands.insert(start, end);
        receiver.recent.push_front(start);
    }

    fn acknowledge(&mut self, dsack: Option<Span>) {
        self.receiver.unacknowledged = 0;
        self.receiver.delayed = false;
        if self.roll(self.network.loss) {
            return;
        }
        let (receiver, sack) = (&self.receiver, self.sack);
        let blocks = receiver.recent.iter().take(3).filter(|_| sack);
        let blocks = blocks.map(|&start| Span::new(start, receiver.islands[&start])).collect();
        let (to, echoed) = (receiver.next, receiver.echo);
        let dsack = dsack.filter(|_| sack);
        let at = self.now + self.network.rtt / 2;
        self.schedule(at, Event::Ack { to, blocks, dsack, echoed });
    }

    fn schedule(&mut self, at: Time, event: Event) {
        self.serial += 1;
        self.events.insert((at, self.serial), event);
    }

    fn roll(&mut self, in_a_million: u64) -> bool {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.dice;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ (value >> 31)) % 1_000_000 < in_a_million
    }

    /// What holds after every event.
    fn check(&mut self) {
        let recovery = &self.recovery;
        assert!(recovery.board.is_consistent(), "{recovery:?}");
        let flying: u64 =
            recovery.board.runs().filter(|run| run.fate == Fate::Flying).map(|run| run.len()).sum();
        assert_eq!(recovery.board.pipe(), flying);
        assert!(recovery.window.cwnd > 0 && recovery.window.cwnd <= limits::CWND);
        assert!(recovery.window.ssthresh >= 2 * recovery.window.mss);
        let idle = recovery.board.outstanding() == 0;
        assert!(idle || recovery.rto_at.is_some(), "no timer: {recovery:?}");
        self.outcome.cwnd_max = self.outcome.cwnd_max.max(recovery.window.cwnd);
        if self.serial.is_multiple_of(64) {
            assert_eq!(Recovery::loaded(&recovery.saved()).as_ref(), Some(recovery));
        }
    }
}
