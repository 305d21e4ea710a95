//! Ends a step that does not end by itself.
//!
//! Compiled code compares the engine's epoch with its deadline at every loop and function entry. One thread advances
//! the epoch every [`TICK`] while there are calls, every [`LASTING`] while one goes on from one tick to the next, and sleeps when there
//! has been none for a while. A call whose deadline passes is asked for its CPU time: only that counts, so a thread that was preempted is
//! not blamed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::Engine;

/// How often it is looked whether a call goes on from before. Each time costs whoever runs on the ticker's processor some 20
/// microseconds, in a virtual machine more: every 2 ms, it was the slowest hundredth of round trips.
const TICK: Duration = Duration::from_millis(10);
/// How often a call that goes on is asked for its time. Its first tick goes unseen, so a step which does not end is found after its
/// budget, a `TICK` and this: 32 ms at the latest.
const LASTING: Duration = Duration::from_millis(2);
/// Ticks without any call before the ticker sleeps.
const QUIET: u32 = 20;

/// Whether an instance is in a call: odd while it is. It has a cache line to itself, since each step writes it.
#[repr(align(128))]
#[derive(Default)]
struct Beat(AtomicU64);

/// An instance, as the ticker saw it last.
struct Watched {
    beat: Weak<Beat>,
    count: u64,
}

/// What the ticker sees of all instances.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Seen {
    /// There was a call since it looked last, or there is one.
    is_busy: bool,
    /// A call goes on that it saw before.
    is_lasting: bool,
}

/// The ticker of an engine.
pub(super) struct Ticker {
    engine: Engine,
    asleep: AtomicBool,
    beats: Mutex<Vec<Watched>>,
    wake: Condvar,
}

/// An instance's side of the ticker.
pub(super) struct Pulse {
    ticker: Arc<Ticker>,
    beat: Arc<Beat>,
    count: u64,
}

impl Ticker {
    /// The ticker of this engine; its thread starts asleep and lives as long as the program.
    pub(super) fn new(engine: &Engine) -> std::io::Result<Arc<Self>> {
        let ticker = Arc::new(Self {
            engine: engine.clone(),
            asleep: AtomicBool::new(true),
            beats: Mutex::default(),
            wake: Condvar::new(),
        });
        let own = Arc::clone(&ticker);
        std::thread::Builder::new().name("bulkhead-ticker".into()).spawn(move || own.run())?;
        Ok(ticker)
    }

    /// A new instance's pulse.
    pub(super) fn pulse(self: &Arc<Self>) -> Pulse {
        let beat = Arc::new(Beat::default());
        self.lock().push(Watched { beat: Arc::downgrade(&beat), count: 0 });
        Pulse { ticker: Arc::clone(self), beat, count: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Watched>> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let (mut quiet, mut seen) = (0, Seen::default());
        loop {
            if self.asleep.load(Ordering::SeqCst) {
                let beats = self.lock();
                let woken = self.wake.wait_while(beats, |_| self.asleep.load(Ordering::SeqCst));
                drop(woken.unwrap_or_else(PoisonError::into_inner));
                quiet = 0;
            }
            std::thread::sleep(if seen.is_lasting { LASTING } else { TICK });
            self.engine.increment_epoch();
            seen = self.look();
            quiet = if seen.is_busy { 0 } else { quiet + 1 };
            if quiet > QUIET {
                self.asleep.store(true, Ordering::SeqCst);
                // A call that began before it could see the line above is seen here.
                if self.look().is_busy {
                    self.asleep.store(false, Ordering::SeqCst);
                }
            }
        }
    }

    /// Looks at all instances that are left.
    fn look(&self) -> Seen {
        let mut seen = Seen::default();
        self.lock().retain_mut(|watched| {
            let Some(beat) = watched.beat.upgrade() else { return false };
            let count = beat.0.load(Ordering::SeqCst);
            let (is_in_call, is_as_before) = (count % 2 == 1, count == watched.count);
            watched.count = count;
            seen.is_busy |= is_in_call || !is_as_before;
            seen.is_lasting |= is_in_call && is_as_before;
            true
        });
        seen
    }

    #[cold]
    fn rouse(&self) {
        let _beats = self.lock();
        self.asleep.store(false, Ordering::SeqCst);
        self.wake.notify_one();
    }
}

impl Pulse {
    /// A call begins.
    pub(super) fn begin(&mut self) {
        self.count |= 1;
        self.beat.0.store(self.count, Ordering::SeqCst);
        if self.ticker.asleep.load(Ordering::SeqCst) {
            self.ticker.rouse();
        }
    }

    /// It has ended.
    pub(super) fn end(&mut self) {
        self.count = self.count.wrapping_add(1);
        self.beat.0.store(self.count, Ordering::Release);
    }
}

/// CPU time that a call has used. It is not looked at before the first tick within the call, since that would cost
/// every step a system call: so up to a tick goes unseen, in the module's favour.
#[derive(Default)]
pub(super) struct Meter {
    limit: Duration,
    from: Option<Duration>,
}

impl Meter {
    /// A call with this much CPU time begins.
    pub(super) fn begin(&mut self, limit: Duration) {
        *self = Self { limit, from: None };
    }

    /// A tick has passed: the time used, if it is more than allowed.
    pub(super) fn exceeded(&mut self) -> Option<(Duration, Duration)> {
        let now = thread_cpu();
        let used = now.saturating_sub(*self.from.get_or_insert(now));
        (used >= self.limit).then_some((used, self.limit))
    }
}

fn thread_cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}
