//! Two hosts, and the frames that are on their way between them. What becomes of a frame on its way is the test's affair.

use super::Host;
use super::wire::Frame;
use bulkhead_wit::{NEVER, Time};
use std::collections::BTreeMap;

/// What a step takes at most.
const SEGMENTS: usize = bulkhead_wit::limits::SEGMENTS;

pub struct Flight {
    pub hosts: [Host; 2],
    flying: BTreeMap<(Time, u64), (usize, Frame)>,
    count: u64,
}

impl Flight {
    pub fn new(hosts: [Host; 2]) -> Self {
        Self { hosts, flying: BTreeMap::new(), count: 0 }
    }

    /// A frame that arrives at `at`.
    pub fn launch(&mut self, at: Time, to: usize, frame: Frame) {
        self.count += 1;
        self.flying.insert((at, self.count), (to, frame));
    }

    /// Moves both hosts to the next thing that happens; none if nothing ever will.
    pub fn pass(&mut self) -> Option<Time> {
        let arrival = self.flying.keys().next().map_or(NEVER, |key| key.0);
        let next = arrival.min(self.hosts[0].deadline).min(self.hosts[1].deadline);
        for host in self.hosts.iter_mut().filter(|_| next != NEVER) {
            host.now = host.now.max(next);
        }
        (next != NEVER).then_some(next)
    }

    /// Delivers what has arrived by now; a host whose batch is full has to make a step first.
    pub fn deliver(&mut self, now: Time) -> Option<usize> {
        while let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= now) {
            let (to, frame) = entry.remove();
            self.hosts[to].inject(&frame);
            if self.hosts[to].batch.segments.len() == SEGMENTS {
                return Some(to);
            }
        }
        None
    }

    /// Whether a host has something to do.
    pub fn is_due(&self, which: usize, now: Time) -> bool {
        let Host { batch, deadline, .. } = &self.hosts[which];
        !batch.segments.is_empty() || !batch.positions.is_empty() || *deadline <= now
    }
}
