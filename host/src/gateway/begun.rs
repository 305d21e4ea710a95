//! Connections that are begun and not open yet, and who has to go when there are too many of them.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::yield_now;

use super::counts::Counts;
use super::limits::BEGUN;

/// Who asks, and for whom.
type Ends = (IpAddr, SocketAddr);

/// Those whose destination has not answered, or whose beginner has not. Whoever begins many and completes none (a flood of
/// SYNs, a scan of addresses that are silent) would otherwise keep everybody else out for as long as a destination may
/// take. So where there are as many as there may be, the oldest of whoever has most goes; who has as many itself takes from its
/// own, and asks in vain for a destination that it has most for already. Those that wait for their destination are given
/// up in silence, and their beginner asks again.
#[derive(Clone, Default)]
pub(super) struct Begun(Arc<Mutex<Table>>);

/// A connection that is begun, for as long as it lives.
pub(super) struct Beginning {
    key: (Ends, u64),
    begun: Begun,
    given_up: oneshot::Receiver<()>,
}

#[derive(Default)]
struct Table {
    next: u64,
    /// The oldest of the same ends first.
    entries: BTreeMap<(Ends, u64), oneshot::Sender<()>>,
    sources: Counts<IpAddr>,
    destinations: HashMap<IpAddr, Counts<SocketAddr>>,
}

impl Begun {
    /// One more, if there is room for it, or somebody has more than it.
    pub(super) fn add(&self, ends: Ends) -> Option<Beginning> {
        let mut table = self.table();
        if table.entries.len() >= BEGUN {
            table.make_room(ends)?;
        }
        let (give_up, given_up) = oneshot::channel();
        let number = table.next;
        table.next += 1;
        table.entries.insert((ends, number), give_up);
        table.tally(ends, 1);
        Some(Beginning { key: (ends, number), begun: self.clone(), given_up })
    }

    /// A place among those that may be there at a time, if need be that of one that is only begun.
    pub(super) async fn place(&self, places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        loop {
            if let Ok(place) = Arc::clone(places).try_acquire_owned() {
                return Some(place);
            }
            let victim = {
                let mut table = self.table();
                table.greediest().and_then(|ends| table.give_up(ends))
            };
            victim?;
            // It gives its place back when it has its turn.
            yield_now().await;
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing in here panics half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Gives up the oldest of whoever has most. Where that is the one who asks, the oldest of those for the destination
    /// that most of its own are for, unless it asks for that one again.
    fn make_room(&mut self, (from, to): Ends) -> Option<()> {
        let greediest = self.sources.most()?;
        if self.sources.get(from) < self.sources.get(greediest) {
            return self.give_up(self.greediest()?);
        }
        let theirs = self.destinations.get(&from)?;
        let most = theirs.most()?;
        if theirs.get(to) >= theirs.get(most) {
            return None;
        }
        self.give_up((from, most))
    }

    /// The source that has most, and of its destinations the one that most are for.
    fn greediest(&self) -> Option<Ends> {
        let source = self.sources.most()?;
        Some((source, self.destinations.get(&source)?.most()?))
    }

    /// Tells the oldest of them.
    fn give_up(&mut self, ends: Ends) -> Option<()> {
        let (key, _) = self.entries.range((ends, 0)..=(ends, u64::MAX)).next()?;
        let give_up = self.remove(*key)?;
        // It may be over by itself.
        let _ = give_up.send(());
        Some(())
    }

    fn remove(&mut self, key: (Ends, u64)) -> Option<oneshot::Sender<()>> {
        let give_up = self.entries.remove(&key)?;
        self.tally(key.0, -1);
        Some(give_up)
    }

    /// One more or one less.
    fn tally(&mut self, (from, to): Ends, by: isize) {
        let count = self.sources.change(from, by, self.next);
        self.destinations.entry(from).or_default().change(to, by, self.next);
        if count == 0 {
            self.destinations.remove(&from);
        }
    }
}

impl Beginning {
    /// Completes when it is to be given up.
    pub(super) async fn given_up(&mut self) {
        if (&mut self.given_up).await.is_err() {
            std::future::pending().await
        }
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        self.begun.table().remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(from: u8, to: u8) -> Ends {
        (IpAddr::from([10, 0, 2, from]), SocketAddr::from(([203, 0, 113, to], 80)))
    }

    fn is_given_up(one: &mut Beginning) -> bool {
        one.given_up.try_recv().is_ok()
    }

    #[test]
    fn the_oldest_of_whoever_has_most_goes() {
        let begun = Begun::default();
        let mut honest = begun.add(ends(1, 1)).unwrap();
        let mut greedy: Vec<_> = (1..BEGUN).map(|_| begun.add(ends(2, 1)).unwrap()).collect();
        assert!(begun.add(ends(2, 1)).is_none(), "who has most has room of its own to make");
        let mut second = begun.add(ends(1, 1)).unwrap();
        assert!(!is_given_up(&mut honest) && !is_given_up(&mut second));
        assert!(is_given_up(&mut greedy[0]) && !greedy[1..].iter_mut().any(is_given_up));
    }

    #[test]
    fn whoever_has_as_many_as_anybody_makes_room_for_itself() {
        let begun = Begun::default();
        let mut scan: Vec<_> =
            (0..BEGUN / 2).map(|to| begun.add(ends(1, (to % 250) as u8)).unwrap()).collect();
        let mut other: Vec<_> = (0..BEGUN / 2).map(|_| begun.add(ends(2, 1)).unwrap()).collect();
        let mut honest = begun.add(ends(1, 251)).unwrap();
        assert!(scan.iter_mut().any(is_given_up) && !other.iter_mut().any(is_given_up));
        assert!(!is_given_up(&mut honest));
    }

    #[test]
    fn what_is_open_makes_room() {
        let begun = Begun::default();
        let mut there: Vec<_> = (0..BEGUN).map(|_| begun.add(ends(1, 1)).unwrap()).collect();
        assert!(begun.add(ends(1, 1)).is_none());
        drop(there.pop());
        assert!(begun.add(ends(1, 1)).is_some());
        drop(there);
        let table = begun.table();
        assert!(table.entries.is_empty() && table.sources.is_empty() && table.destinations.is_empty());
    }

    #[test]
    fn one_source_has_room_for_its_other_destinations() {
        let begun = Begun::default();
        let mut flood: Vec<_> =
            (0..BEGUN).map(|number| begun.add(ends(1, (number % 200) as u8)).unwrap()).collect();
        let mut honest = begun.add(ends(1, 250)).unwrap();
        assert_eq!(flood.iter_mut().filter_map(|one| is_given_up(one).then_some(())).count(), 1);
        for destination in 0..200 {
            // As many as the others: it stands back, and takes no place of the honest one's.
            let _ = begun.add(ends(1, destination));
        }
        assert!(!is_given_up(&mut honest));
    }

    #[tokio::test]
    async fn a_place_is_made_by_what_is_only_begun() {
        let (begun, places) = (Begun::default(), Arc::new(Semaphore::new(1)));
        let held = begun.place(&places).await.unwrap();
        assert!(begun.place(&places).await.is_none(), "what is open keeps its place");
        let mut one = begun.add(ends(1, 1)).unwrap();
        let given_up = tokio::spawn(async move {
            one.given_up().await;
            drop(held);
        });
        assert!(begun.place(&places).await.is_some());
        given_up.await.unwrap();
    }
}
