//! What is under way in one direction.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that one end has sent and the other has not got.
pub(super) struct Flight(Mutex<UnderWay>);

struct UnderWay {
    bytes: VecDeque<u8>,
    /// How many have arrived.
    arrived: u64,
    /// Since when the foremost of them is the next: nothing, while there are none.
    since: Option<Instant>,
}

impl Flight {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(UnderWay { bytes: VecDeque::new(), arrived: 0, since: None }))
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// They are sent next.
    pub(super) fn send(&self, bytes: &[u8], now: Instant) {
        let mut way = self.lock();
        way.since.get_or_insert(now);
        way.bytes.extend(bytes);
    }

    /// They have arrived; `asked` is when their end began to wait for them. How long they let it wait.
    ///
    /// # Errors
    /// Where they are not those that were sent.
    pub(super) fn arrive(&self, bytes: &[u8], asked: Instant, now: Instant) -> Result<Duration, String> {
        let mut way = self.lock();
        let at = way.arrived;
        if bytes.len() > way.bytes.len() {
            let more = bytes.len() - way.bytes.len();
            return Err(format!("{more} bytes arrived that nobody sent, after {at}"));
        }
        if !way.bytes.iter().zip(bytes).all(|(sent, got)| sent == got) {
            return Err(format!("of {} bytes after {at}, some arrived as others", bytes.len()));
        }
        way.bytes.drain(..bytes.len());
        way.arrived += bytes.len() as u64;
        let waited =
            way.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since.max(asked)));
        way.since = (!way.bytes.is_empty()).then_some(now);
        Ok(waited)
    }

    /// For how long nothing has arrived of what was sent, while its end waited for it, from `asked` on.
    pub(super) fn waits(&self, asked: Instant, now: Instant) -> Duration {
        let since = self.lock().since;
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since.max(asked)))
    }

    /// How many bytes are under way.
    pub(super) fn under_way(&self) -> usize {
        self.lock().bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_held_against_those_that_were_sent() {
        let (flight, now) = (Flight::new(), Instant::now());
        flight.send(b"hello", now);
        assert_eq!(flight.arrive(b"hel", now, now), Ok(Duration::ZERO));
        assert_eq!(flight.under_way(), 2);
        assert!(flight.arrive(b"lx", now, now).is_err_and(|why| why.contains("after 3")));
        assert!(
            flight
                .arrive(b"lo!", now, now)
                .is_err_and(|why| why.contains("1 bytes arrived that nobody sent"))
        );
        assert_eq!(flight.arrive(b"lo", now, now), Ok(Duration::ZERO));
        assert_eq!(flight.under_way(), 0);
    }

    #[test]
    fn only_what_is_under_way_and_waited_for_counts_as_a_wait() {
        let (flight, start) = (Flight::new(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(flight.waits(start, at(100)), Duration::ZERO);
        flight.send(b"ab", at(100));
        assert_eq!(flight.waits(start, at(103)), Duration::from_secs(3));
        assert_eq!(flight.waits(at(102), at(103)), Duration::from_secs(1), "its reader was elsewhere");
        assert_eq!(flight.arrive(b"a", start, at(104)), Ok(Duration::from_secs(4)));
        assert_eq!(flight.waits(start, at(109)), Duration::from_secs(5), "the rest counts from then on");
        assert_eq!(flight.arrive(b"b", start, at(110)), Ok(Duration::from_secs(6)));
        assert_eq!(flight.waits(start, at(200)), Duration::ZERO);
    }
}
