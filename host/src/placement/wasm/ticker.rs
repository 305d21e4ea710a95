//! Ends a step that does not end by itself.
//!
//! Compiled code compares the engine's epoch with its deadline at every loop and function entry. One thread advances
//! the epoch every [`TICK`] while any instance is in a call, and sleeps when none has been for a while. A call whose
//! deadline passes is asked for its CPU time: only that counts, so a thread that was preempted is not blamed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::Engine;

/// How often running code is looked at. A budget is kept to within two of these, so that a step which does not end is found
/// after 24 ms at the latest.
const TICK: Duration = Duration::from_millis(2);
/// Ticks without any call before the ticker sleeps.
const QUIET: u32 = 100;

/// Whether an instance is in a call: odd while it is. It has a cache line to itself, since each step writes it.
#[repr(align(128))]
#[derive(Default)]
struct Beat(AtomicU64);

/// The ticker of an engine.
pub(super) struct Ticker {
    engine: Engine,
    asleep: AtomicBool,
    beats: Mutex<Vec<Weak<Beat>>>,
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
        self.lock().push(Arc::downgrade(&beat));
        Pulse { ticker: Arc::clone(self), beat, count: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Beat>>> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let (mut quiet, mut before) = (0, 0);
        loop {
            if self.asleep.load(Ordering::SeqCst) {
                let beats = self.lock();
                let woken = self.wake.wait_while(beats, |_| self.asleep.load(Ordering::SeqCst));
                drop(woken.unwrap_or_else(PoisonError::into_inner));
                quiet = 0;
            }
            std::thread::sleep(TICK);
            self.engine.increment_epoch();
            let (sum, busy) = self.beats_now();
            quiet = if busy || sum != before { 0 } else { quiet + 1 };
            before = sum;
            if quiet > QUIET {
                self.asleep.store(true, Ordering::SeqCst);
                // A call that began before it could see the line above is seen here.
                let (now, busy) = self.beats_now();
                if busy || now != sum {
                    self.asleep.store(false, Ordering::SeqCst);
                }
            }
        }
    }

    /// A number that changes when any instance begins or ends a call, and whether one is in a call.
    fn beats_now(&self) -> (u64, bool) {
        let (mut sum, mut busy) = (0u64, false);
        self.lock().retain(|beat| {
            let Some(beat) = beat.upgrade() else { return false };
            let count = beat.0.load(Ordering::SeqCst);
            sum = sum.wrapping_add(count);
            busy |= count % 2 == 1;
            true
        });
        (sum, busy)
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
