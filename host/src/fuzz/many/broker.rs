//! The machine's broker: LLMP's, with a guard who looks at each message before others get it.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Duration;

use libafl::events::{Event, EventWithStats};
use libafl_bolts::llmp::{Flags, Listener, LlmpBroker, LlmpBrokerInner, LlmpHook, LlmpMsgHookResult, Tag};
use libafl_bolts::tuples::tuple_list;
use libafl_bolts::{ClientId, Error};

use super::hub::Hub;
use super::input::Scenario;
use super::limits;
use super::pages::{Page, Pages};

/// How often messages are looked for.
const LOOKED: Duration = Duration::from_millis(1);

/// Bytes that a case takes beside its own: in LLMP's page, and to be known again.
const OVERHEAD: usize = 256;

/// Hands on each case once, and nothing else: brokers may be connected in a circle, and a broker keeps all that it hands on.
struct Guard<'h> {
    hub: &'h Hub<'h>,
    seen: HashSet<u64>,
    bytes: usize,
}

impl Guard<'_> {
    /// Whether everybody should get this case.
    fn admits(&mut self, case: &Scenario, bytes: usize) -> bool {
        let mut hasher = DefaultHasher::new();
        case.hash(&mut hasher);
        let name = hasher.finish();
        if self.seen.contains(&name) {
            return false;
        }
        if self.bytes + bytes + OVERHEAD > limits::SHARED_BYTES {
            self.hub.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes + OVERHEAD;
        self.seen.insert(name)
    }
}

impl LlmpHook<Page, Pages> for Guard<'_> {
    fn on_new_message(
        &mut self,
        _broker: &mut LlmpBrokerInner<Page, Pages>,
        _client: ClientId,
        _tag: &mut Tag,
        _flags: &mut Flags,
        message: &mut [u8],
        _more: &mut Vec<(Tag, Flags, Vec<u8>)>,
    ) -> Result<LlmpMsgHookResult, Error> {
        let event = postcard::from_bytes::<EventWithStats<Scenario>>(message).ok();
        let Some(event) = event else {
            self.hub.dropped.fetch_add(1, Ordering::Relaxed);
            return Ok(LlmpMsgHookResult::Handled);
        };
        // What a run has shown is never believed, so it is not handed on either.
        let Event::NewTestcase { input, forward_id, observers_buf: None, .. } = event.event() else {
            return Ok(LlmpMsgHookResult::Handled);
        };
        let is_new = self.admits(input, message.len());
        if forward_id.is_some() {
            self.hub.taken.fetch_add(1, Ordering::Relaxed);
            self.hub.arrived.fetch_add(is_new.into(), Ordering::Relaxed);
        }
        Ok(if is_new { LlmpMsgHookResult::ForwardToClients } else { LlmpMsgHookResult::Handled })
    }
}

/// Serves workers and links until the hub is over; tells the port at which they find it.
pub(super) fn serve(hub: &Hub<'_>, opened: &Sender<u16>) -> Result<(), Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let guard = Guard { hub, seen: HashSet::new(), bytes: 0 };
    // Pages are kept, so that whoever joins later gets all cases: the guard sees to it that there is an end to them.
    let mut broker = LlmpBroker::new(Pages, tuple_list!(guard))?;
    // Its thread waits for connections until the process ends: LLMP has no way to tell it to stop.
    drop(broker.inner_mut().launch_listener(Listener::Tcp(listener))?);
    // Nobody waits where the campaign has ended already.
    let _ = opened.send(port);
    while !hub.over.load(Ordering::Relaxed) {
        broker.broker_once()?;
        std::thread::sleep(LOOKED);
    }
    Ok(())
}
