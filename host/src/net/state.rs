//! What stands behind the lock: the stack, its device, and who waits.

mod figures;
mod hand_over;

pub(super) use hand_over::Origin;

use super::end::NetError;
use super::info::{Census, TcpInfo};
use super::limits::{ANSWER_TURNS, QUESTIONS, RETRY, UNHEARD};
use super::router::Router;
use super::slots::{Slots, Wake, tell};
use super::timer::Timer;
use crate::device::Device;
use crate::error::StreamError;
use crate::stack::{BindOptions, ListenOptions, ListenerId, SocketId, Stack, StreamId};
use crate::swap::{Newcomer, Rehearsal, ShadowReport, SwapError, Swapped};
use bulkhead_wit::registry::protocol;
use bulkhead_wit::{Endpoint, Handle, NEVER, Time};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::task::Waker;
use std::time::{Duration, Instant};

/// How far the stack has come on its way to the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Running,
    /// Connections end in kind until then.
    Draining(Time),
    /// What was left has been reset; the resets are to leave.
    Aborting,
}

/// The stack, its device, and who waits.
pub(super) struct State {
    pub(super) stack: Stack,
    /// Modules beside it, each a stack of its own: one that fails takes nothing of the others with it.
    beside: Vec<Stack>,
    router: Router,
    pub(super) slots: Slots,
    timer: Timer,
    clock: Instant,
    /// The driver's waker while it waits; `None` while it is on its way to look again anyway.
    driver: Option<Waker>,
    phase: Phase,
    /// Socket calls with news for the module take the turn themselves while the driver waits.
    turns_in_calls: bool,
    /// Set when nobody takes turns any more.
    pub(super) end: Option<NetError>,
    /// Bytes that applications had written when the device was last heard.
    heard_at: u64,
    /// It was heard in a writer's call.
    has_heard_in_call: bool,
    /// A turn is under way; still set at the next one if it panicked.
    is_turning: bool,
    turns: u64,
    /// The driver does not sleep for this long after the last step.
    busy_poll: Time,
    /// When the last turn ended that had a step.
    worked: Time,
    /// When the driver was woken for news.
    woken: Time,
    deadline: Time,
    turned: Time,
    longest_gap: Time,
    /// The module's own figures when they were asked for last.
    census: Option<Census>,
    /// No turn is taken: a successor is taking over.
    stands: bool,
    /// The system's monotonic time when the stack's was 0, as it was when it came to stand.
    origin: i128,
    /// Frames that are to be sent first.
    withheld: Vec<hand_over::Withheld>,
}

impl State {
    pub(super) fn new(
        stack: Stack,
        beside: Vec<Stack>,
        router: Router,
        turns_in_calls: bool,
    ) -> io::Result<Self> {
        Ok(Self {
            stack,
            beside,
            router,
            slots: Slots::default(),
            timer: Timer::new()?,
            clock: Instant::now(),
            driver: None,
            phase: Phase::Running,
            turns_in_calls,
            end: None,
            heard_at: 0,
            has_heard_in_call: false,
            is_turning: false,
            turns: 0,
            busy_poll: 0,
            worked: 0,
            woken: NEVER,
            deadline: NEVER,
            turned: 0,
            longest_gap: 0,
            census: None,
            stands: false,
            origin: 0,
            withheld: Vec::new(),
        })
    }

    pub(super) fn device(&self) -> &dyn Device {
        self.router.device()
    }

    /// The module with this number; 0 is the first.
    pub(super) fn module(&mut self, number: usize) -> &mut Stack {
        match number.checked_sub(1).and_then(|number| self.beside.get_mut(number)) {
            Some(stack) => stack,
            None => &mut self.stack,
        }
    }

    /// Modules beside the first.
    pub(super) fn beside(&self) -> usize {
        self.beside.len()
    }

    /// The module that serves an IP protocol.
    pub(super) fn module_for(&self, protocol: u8) -> Option<usize> {
        self.modules().position(|stack| stack.serves(protocol))
    }

    fn modules(&self) -> impl Iterator<Item = &Stack> {
        std::iter::once(&self.stack).chain(&self.beside)
    }

    /// Secrets anew, in every module.
    pub(super) fn reseed(&mut self, seed: [u64; 4]) {
        self.stack.reseed(seed);
        self.beside.iter_mut().for_each(|stack| stack.reseed(seed));
    }

    fn has_news(&self) -> bool {
        self.router.waiting() > 0 || self.modules().any(Stack::has_news)
    }

    pub(super) fn timer(&mut self) -> &mut Timer {
        &mut self.timer
    }

    fn now(&self) -> Time {
        nanoseconds(self.clock.elapsed())
    }

    /// What ended the stack, once it has.
    pub(super) fn alive(&self) -> io::Result<()> {
        match &self.end {
            Some(end) => Err(end.clone().into()),
            None => Ok(()),
        }
    }

    // ---- turns

    /// One turn, and the wakers of those with news. Says whether there is more to do at once.
    fn turn(&mut self, wake: &mut Wake, hearing: Hearing) -> bool {
        if self.end.is_some() || self.stands {
            return false;
        }
        if std::mem::replace(&mut self.is_turning, true) {
            self.finish(NetError::DriverGone, wake);
            return false;
        }
        let now = self.now();
        self.note_gap(now);
        let errors = self.device_errors();
        let mut again = self.turn_modules(wake, hearing);
        self.is_turning = false;
        self.turns += 1;
        again |= self.router.waiting() > 0;
        self.turned = self.now();
        let modules = self.modules().map(Stack::next_deadline).min().unwrap_or(NEVER);
        self.deadline = modules.min(self.router.device().next_deadline());
        if self.device_errors() != errors {
            self.deadline = self.deadline.min(self.turned + nanoseconds(RETRY));
        }
        // Those that go on are not disturbed by one that has failed for good.
        if self.modules().all(|stack| stack.fault().is_some())
            && let Some(fault) = self.stack.fault().cloned()
        {
            self.finish(NetError::Fault(fault), wake);
            return false;
        }
        again
    }

    fn device_errors(&self) -> u64 {
        self.modules().map(|stack| stack.totals().device_errors).sum()
    }

    /// A turn of each module. The first that is alive reads the device, for all, if this turn is to hear it.
    fn turn_modules(&mut self, wake: &mut Wake, hearing: Hearing) -> bool {
        let clock = self.clock;
        let reader = self.modules().position(|stack| stack.fault().is_none());
        let reader = reader.filter(|_| hearing == Hearing::Arrivals);
        if reader.is_some() {
            self.heard_at = self.stack.totals().bytes_written;
        }
        let (mut again, mut has_worked) = (false, false);
        let modules = std::iter::once(&mut self.stack).chain(&mut self.beside);
        for (number, stack) in modules.enumerate() {
            let mut port = self.router.port(number, reader == Some(number));
            let result = stack.turn_by(&mut || nanoseconds(clock.elapsed()), &mut port);
            let steps = result.as_ref().map_or(0, |turn| turn.steps);
            has_worked |= steps > 0;
            again |= result.is_ok_and(|turn| turn.again);
            tell(&mut self.slots, number, stack, wake);
        }
        if has_worked {
            self.worked = self.now();
        }
        again
    }

    /// A stack of ours between two turns, with the device as it sees it. Then those with news are woken, and the driver
    /// looks when the next turn is due.
    fn between_turns<T>(
        &mut self,
        number: usize,
        wake: &mut Wake,
        work: impl FnOnce(&mut Stack, &mut dyn Device) -> T,
    ) -> T {
        let mut port = self.router.port(number, false);
        let stack = match number.checked_sub(1).and_then(|number| self.beside.get_mut(number)) {
            Some(stack) => stack,
            None => &mut self.stack,
        };
        let result = work(stack, &mut port);
        tell(&mut self.slots, number, stack, wake);
        wake.driver = wake.driver.take().or(self.driver.take());
        result
    }

    /// The module whose place a newcomer can take: the first that serves TCP as it does, or UDP.
    fn place_for(&self, newcomer: &Newcomer) -> Result<usize, SwapError> {
        if self.end.is_some() || self.phase != Phase::Running {
            return Err(SwapError::Ended);
        }
        let serves = |number: &u8| newcomer.serves(*number);
        let number = [protocol::TCP, protocol::UDP].into_iter().find(serves);
        number.and_then(|number| self.module_for(number)).ok_or_else(|| {
            SwapError::Serves("the newcomer serves no protocol that a module here serves".to_owned())
        })
    }

    /// A state for a newcomer to rehearse with.
    pub(super) fn rehearsal(&mut self, newcomer: &Newcomer) -> Result<Rehearsal, SwapError> {
        let number = self.place_for(newcomer)?;
        self.module(number).rehearsal()
    }

    /// Another module in the place of the one that serves the same.
    pub(super) fn swap(
        &mut self,
        newcomer: Newcomer,
        is_cold: bool,
        wake: &mut Wake,
    ) -> Result<Swapped, SwapError> {
        let number = self.place_for(&newcomer)?;
        let result = self.between_turns(number, wake, |stack, device| {
            if is_cold { stack.swap_cold(device, newcomer) } else { stack.swap(device, newcomer) }
        });
        if result.is_ok() {
            let stack = self.modules().nth(number);
            let served: Vec<u8> =
                (0..=u8::MAX).filter(|number| stack.is_some_and(|stack| stack.serves(*number))).collect();
            self.router.replace(number, served.into_iter());
        }
        result
    }

    /// A newcomer beside the module that serves the same, for so many steps.
    pub(super) fn shadow(&mut self, newcomer: Newcomer, steps: u32) -> Result<(), SwapError> {
        let number = self.place_for(&newcomer)?;
        self.module(number).shadow(newcomer, steps)
    }

    /// How the shadow has done, of whichever module.
    pub(super) fn shadow_report(&self) -> Option<ShadowReport> {
        self.modules().find_map(Stack::shadow_report).cloned()
    }

    /// How long the stack had something to do and nobody took a turn.
    fn note_gap(&mut self, now: Time) {
        let due = self.woken.min(self.deadline).max(self.turned);
        self.woken = NEVER;
        self.longest_gap = self.longest_gap.max(now.saturating_sub(due));
    }

    /// The driver's turn. Says whether it is to come back at once; if not, `waker` is woken when it is to.
    pub(super) fn drive(&mut self, waker: &Waker, wake: &mut Wake) -> bool {
        if self.stands {
            self.driver = Some(waker.clone());
            return false;
        }
        self.driver = None;
        self.send_withheld();
        let again = self.turn(wake, Hearing::Arrivals) || self.wind_down(wake) || self.is_busy();
        if !again && self.end.is_none() {
            self.driver = Some(waker.clone());
            self.arm();
        }
        again
    }

    /// Whether it is too soon to sleep.
    fn is_busy(&self) -> bool {
        self.busy_poll > 0 && self.end.is_none() && self.turned < self.worked.saturating_add(self.busy_poll)
    }

    /// From now on the driver does not sleep for this long after a step.
    pub(super) fn busy_poll(&mut self, time: Duration) {
        self.busy_poll = nanoseconds(time);
    }

    fn arm(&mut self) {
        let until = if let Phase::Draining(until) = self.phase { until } else { NEVER };
        self.timer.arm(self.now(), self.deadline.min(until));
    }

    /// A turn by whoever needs the module's answer now. The driver is told if it has to go on from here.
    fn turn_here(&mut self, wake: &mut Wake) {
        let was_waiting = self.driver.is_some();
        // Out of here before anything can panic: then the driver finds out.
        wake.driver = self.driver.take();
        // Whoever writes in bulk hears acknowledgements between its writes: else it would fill its queue, which is larger than
        // the caches, before any byte of it is done with.
        let is_bulk = self.stack.totals().bytes_written - self.heard_at >= UNHEARD;
        self.has_heard_in_call |= is_bulk;
        let again = self.turn(wake, if is_bulk { Hearing::Arrivals } else { Hearing::Calls });
        if was_waiting && !again && self.end.is_none() {
            self.driver = wake.driver.take();
            self.arm();
        }
    }

    /// After a socket's call: if there are news for the module and the driver does not look anyway, it is woken, or the
    /// caller takes the turn.
    pub(super) fn tell_driver(&mut self, wake: &mut Wake) {
        if self.driver.is_none() || !self.has_news() {
            return;
        }
        if self.turns_in_calls {
            self.turn_here(wake);
        } else {
            self.woken = self.now();
            wake.driver = self.driver.take();
        }
    }

    /// Whether a writer lets other tasks of its thread run before it writes on. Since its calls make space for the next, it
    /// would never have to wait, and nobody else could write.
    pub(super) fn lets_others_run(&mut self) -> bool {
        std::mem::take(&mut self.has_heard_in_call)
    }

    /// An answer of the module: a connection's information, or the census.
    pub(super) fn ask(&mut self, id: Option<StreamId>, wake: &mut Wake) -> io::Result<Vec<u64>> {
        self.alive()?;
        self.stack.ask_info(id)?;
        for _ in 0..ANSWER_TURNS {
            self.turn_here(wake);
            if let Some(fields) = self.stack.take_info(id) {
                return Ok(fields);
            }
        }
        self.alive()?;
        Err(io::Error::new(io::ErrorKind::NotConnected, StreamError::Unknown))
    }

    /// What the module says of each of these connections; none where it is gone meanwhile.
    pub(super) fn ask_each(&mut self, handles: &[Handle], wake: &mut Wake) -> Vec<Option<TcpInfo>> {
        let mut found = Vec::with_capacity(handles.len());
        for some in handles.chunks(QUESTIONS) {
            some.iter().for_each(|handle| self.stack.ask_about(*handle));
            for _ in 0..ANSWER_TURNS {
                self.turn_here(wake);
                if !self.stack.has_news() {
                    break;
                }
            }
            found.extend(
                some.iter().map(|handle| {
                    self.stack.take_answer(*handle).map(|fields| TcpInfo::from_fields(&fields))
                }),
            );
        }
        found
    }

    // ---- listeners

    /// Listens and has the module's word that it does.
    pub(super) fn listen(
        &mut self,
        local: SocketAddr,
        options: ListenOptions,
        wake: &mut Wake,
    ) -> io::Result<(ListenerId, SocketAddr)> {
        self.alive()?;
        if self.phase != Phase::Running {
            return Err(NetError::Shutdown.into());
        }
        let local = if local.port() == 0 && !options.any_address { self.free_port(local)? } else { local };
        let id = self.stack.listen(Endpoint::from(local), options)?;
        self.turn_here(wake);
        if let Err(error) = self.alive().and_then(|()| Ok(self.stack.is_listening(id)?)) {
            self.stack.unlisten(id);
            return Err(error);
        }
        self.slots.add_listener(id, local);
        Ok((id, local))
    }

    /// Binds a datagram socket and has the module's word that it did: its module's number, its name, where it is.
    pub(super) fn bind(
        &mut self,
        local: SocketAddr,
        options: BindOptions,
        wake: &mut Wake,
    ) -> io::Result<(usize, SocketId, SocketAddr)> {
        self.alive()?;
        if self.phase != Phase::Running {
            return Err(NetError::Shutdown.into());
        }
        let number = self.module_for(protocol::UDP).ok_or_else(|| {
            io::Error::new(io::ErrorKind::Unsupported, "no module here serves UDP: see `Builder::udp`")
        })?;
        let is_chosen = local.port() != 0 || options.any_port;
        let local = if is_chosen { local } else { self.free_datagram_port(number, local)? };
        let id = self.module(number).bind(Endpoint::from(local), options)?;
        self.turn_here(wake);
        if let Err(error) = self.alive().and_then(|()| Ok(self.module(number).is_bound_still(id)?)) {
            self.module(number).unbind(id);
            return Err(error);
        }
        self.slots.add_socket((number, id));
        Ok((number, id, local))
    }

    fn free_datagram_port(&mut self, number: usize, mut local: SocketAddr) -> io::Result<SocketAddr> {
        let ports = self.ephemeral_ports();
        let stack = self.module(number);
        let port = ports.into_iter().find(|port| !stack.is_bound(*port)).ok_or(StreamError::Exhausted)?;
        local.set_port(port);
        Ok(local)
    }

    /// The same address with an ephemeral port that no listener has.
    fn free_port(&self, mut local: SocketAddr) -> io::Result<SocketAddr> {
        let ports = self.ephemeral_ports();
        let port =
            ports.into_iter().find(|port| !self.slots.is_listened(*port)).ok_or(StreamError::Exhausted)?;
        local.set_port(port);
        Ok(local)
    }

    /// Every port that may be chosen, from another one on each time.
    fn ephemeral_ports(&self) -> impl IntoIterator<Item = u16> + use<> {
        let config = &self.stack.options().config;
        let (first, last) = (config.ports_first.max(1), config.ports_last);
        let count = u64::from(last.saturating_sub(first)) + 1;
        let start = (config.seed.1 ^ self.turns) % count;
        (start..start + count).filter_map(move |n| u16::try_from(u64::from(first) + n % count).ok())
    }

    pub(super) fn unlisten(&mut self, id: ListenerId) {
        if self.slots.remove_listener(id) {
            self.stack.unlisten(id);
        }
    }

    // ---- the end

    /// Listeners end, streams end after what was written, and whatever is left at the end of `drain` is reset.
    pub(super) fn begin_shutdown(&mut self, drain: Duration, wake: &mut Wake) {
        let until = self.now().saturating_add(nanoseconds(drain));
        match self.phase {
            Phase::Running => {
                let listeners: Vec<ListenerId> = self.slots.listeners().collect();
                for id in listeners {
                    self.slots.ready_listener(id, wake);
                    self.stack.unlisten(id);
                }
                let streams: Vec<StreamId> = self.slots.streams().collect();
                for id in streams {
                    // Streams that have ended already are no error here.
                    let _ = self.stack.shutdown(id);
                }
                self.phase = Phase::Draining(until);
            }
            Phase::Draining(before) => self.phase = Phase::Draining(before.min(until)),
            Phase::Aborting => {}
        }
        // Even without news: there may be nothing left to wait for.
        wake.driver = wake.driver.take().or(self.driver.take());
    }

    /// One step towards the end, when nothing else is to be done. Says whether a turn is needed for it.
    fn wind_down(&mut self, wake: &mut Wake) -> bool {
        match self.phase {
            _ if self.end.is_some() => false,
            Phase::Running => false,
            Phase::Draining(until) => {
                if self.now() < until && !self.is_drained(wake) {
                    return false;
                }
                self.stack.abort_all();
                self.phase = Phase::Aborting;
                true
            }
            Phase::Aborting => {
                self.take_census(wake);
                self.finish(NetError::Shutdown, wake);
                false
            }
        }
    }

    /// Whether no connection needs us any more. The module goes on alone with what has nothing more to deliver: a FIN of
    /// the peer is to be answered still, so its word counts too.
    fn is_drained(&mut self, wake: &mut Wake) -> bool {
        if self.stack.connections().next().is_some() {
            return false;
        }
        self.take_census(wake);
        self.census.is_none_or(|census| census.closing + census.syn_received + census.established == 0)
    }

    /// Nobody takes turns any more: everybody is told.
    pub(super) fn finish(&mut self, end: NetError, wake: &mut Wake) {
        if self.end.is_none() {
            self.end = Some(end);
        }
        self.stack.end_recording();
        self.slots.all(wake);
        wake.driver = wake.driver.take().or(self.driver.take());
    }

    /// Whether the stack is on its way to the end.
    pub(super) fn is_closing(&self) -> bool {
        self.phase != Phase::Running
    }

    /// Asks the module for its own figures, as long as it answers.
    pub(super) fn take_census(&mut self, wake: &mut Wake) {
        if let Ok(fields) = self.ask(None, wake) {
            self.census = Some(Census::from_fields(&fields));
        }
    }
}

/// What a turn listens to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hearing {
    /// Everything: the driver's turn.
    Arrivals,
    /// Calls alone: a turn within a call. The driver will be woken for what has arrived, and asking the device for it
    /// would cost each small write a system call.
    Calls,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("stack", &self.stack).field("end", &self.end).finish_non_exhaustive()
    }
}

pub(super) fn nanoseconds(time: Duration) -> Time {
    Time::try_from(time.as_nanos()).unwrap_or(NEVER)
}
