//! A module that does what a test says, step by step, and a host around it with two open connections: for holding
//! every rule of the contract against a module that breaks it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bulkhead::device::queue::QueueDevice;
use bulkhead::device::{Capabilities, Offload};
use bulkhead::fault::{Fault, Rule};
use bulkhead::placement::native::Native;
use bulkhead::{ListenOptions, ListenerId, Options, Stack, StreamError, StreamId};
use bulkhead_wit::registry::{protocol, service};
use bulkhead_wit::{
    Address, Config, Description, Endpoint, Event, Handle, Inputs, Mark, Module, NEVER, Opening, Outputs,
    Payload, Place, Send as Sent, Service, Source, Summary, Time, limits,
};

use crate::frames::{ACK, FIN, SYN, Tcp, echo_request, fragment};

/// Our address.
pub const OURS: [u8; 4] = [10, 0, 0, 1];
/// The peer's.
pub const PEER: [u8; 4] = [10, 0, 0, 2];
/// Where we listen.
pub const PORT: u16 = 80;
/// The sequence number of each peer's first byte.
pub const RECEIVE_BASE: u32 = 1001;
/// The sequence number of our first byte to each peer.
pub const SEND_BASE: u32 = 5001;
/// The first connection, from port 1000.
pub const A: Handle = Handle::by_module(1, 1);
/// The second connection, from port 2000.
pub const B: Handle = Handle::by_module(2, 1);

/// What arrives in the step under test, by its number in the batch.
pub mod arrived {
    /// 50 bytes of A at 0; acknowledges 40.
    pub const DATA_OF_A: u32 = 0;
    /// 50 bytes of A at 100, and the end of the stream; acknowledges 40.
    pub const END_OF_A: u32 = 1;
    /// 10 bytes of B at 0; acknowledges nothing.
    pub const DATA_OF_B: u32 = 2;
    /// A SYN from port 3000.
    pub const SYN: u32 = 3;
    /// An echo request with 32 bytes.
    pub const ECHO: u32 = 4;
    /// A fragment: 64 bytes at 0 of datagram 7.
    pub const FRAGMENT: u32 = 5;
    /// A fragment: 64 bytes at 64 of datagram 8.
    pub const OTHER_FRAGMENT: u32 = 6;
    /// What would complete the handshake with port 3000: sequence number 9001, acknowledges 7001.
    pub const HANDSHAKE: u32 = 7;
}

/// What the module does in one step.
type Act = Box<dyn FnOnce(&Inputs<'_>, &mut Outputs, &mut dyn Payload) + Send>;
type Acts = Arc<Mutex<VecDeque<Act>>>;

/// A module that does what a test says; without a word, nothing.
struct Scripted {
    acts: Acts,
    has_payload: bool,
}

/// What a payload-blind module has at hand.
struct Nothing;

impl Payload for Nothing {
    fn read(&mut self, _: Source, _: u64, _: u64, _: u32) -> Vec<u8> {
        Vec::new()
    }

    fn stage(&mut self, _: &[u8]) -> u32 {
        u32::MAX
    }
}

impl Module for Scripted {
    fn describe(&self) -> Description {
        let service = |value| Service { kind: service::IP_PROTOCOL, value: u16::from(value) };
        let services = vec![service(protocol::TCP), service(protocol::ICMP)];
        let name = "scripted".into();
        Description { name, serves: services.clone(), sends: services, ..Description::default() }
    }

    fn start(&mut self, _: &Config) -> Result<(), String> {
        Ok(())
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) {
        self.step_with(inputs, outputs, &mut Nothing);
    }

    fn has_payload(&self) -> bool {
        self.has_payload
    }

    fn step_with(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs, payload: &mut dyn Payload) {
        let act = self.acts.lock().expect("no act panics").pop_front();
        if let Some(act) = act {
            act(inputs, outputs, payload);
        }
    }

    fn save(&self) -> Vec<u8> {
        Vec::new()
    }

    fn load(&mut self, _: &Config, _: Time, _: &[u8]) -> Result<Vec<Summary>, String> {
        Err("nothing is ever saved".into())
    }
}

/// A host with a scripted module.
pub struct Scene {
    /// The host.
    pub stack: Stack,
    /// Its device.
    pub device: QueueDevice,
    /// The listener at [`PORT`].
    pub listener: ListenerId,
    /// The open streams.
    pub streams: Vec<StreamId>,
    acts: Acts,
    now: Time,
}

/// A segment from the peer's `port`, at `offset` in its stream, that acknowledges so many of our bytes.
#[must_use]
pub fn from_peer(port: u16, offset: u32, acknowledges: u32, flags: u8) -> Tcp {
    Tcp {
        source: (PEER, port),
        destination: (OURS, PORT),
        seq: RECEIVE_BASE + offset,
        ack: SEND_BASE + acknowledges,
        flags,
    }
}

/// A segment to the peer's `port`, at `offset` in our stream.
#[must_use]
pub fn to_peer(port: u16, offset: u32) -> Tcp {
    Tcp {
        source: (OURS, PORT),
        destination: (PEER, port),
        seq: SEND_BASE + offset,
        ack: RECEIVE_BASE,
        flags: ACK,
    }
}

/// An opening as the scene's handshakes have it.
#[must_use]
pub fn opening(connection: Handle, segment: u32) -> Opening {
    Opening { listener: 1, connection, segment, receive_base: RECEIVE_BASE, send_base: SEND_BASE, mss: 1460 }
}

/// Bytes of a segment into a stream.
#[must_use]
pub fn place(of: Handle, segment: u32, at: u64, length: u32) -> Place {
    Place { of: of.0, at, segment, length, source: Source::Segment, ..Place::default() }
}

/// How far a connection has come.
#[must_use]
pub fn mark(connection: Handle, exposed: u64, acknowledged: u64, by: u32) -> Mark {
    Mark { connection, exposed, acknowledged, by, ..Mark::default() }
}

/// A send of queue bytes.
#[must_use]
pub fn queue(of: Handle, at: u64, length: u32) -> Sent {
    Sent { of: of.0, at, length, source: Source::Queue, ..Sent::default() }
}

/// Adds a send under this header, whose transport header begins at 20.
pub fn send(outputs: &mut Outputs, header: &[u8], send: Sent) {
    let at = outputs.headers.len() as u32;
    outputs.headers.extend_from_slice(header);
    outputs.sends.push(Sent { header: at, header_length: header.len() as u16, transport: 20, ..send });
}

impl Scene {
    /// A host that listens.
    ///
    /// # Panics
    /// Where the host does not start.
    #[must_use]
    pub fn new() -> Self {
        Self::of_world(false)
    }

    /// A host that listens, with a module that has payload access or not.
    fn of_world(has_payload: bool) -> Self {
        let acts = Acts::default();
        let module = Scripted { acts: Arc::clone(&acts), has_payload };
        let instance = Box::new(Native::new(Box::new(module)));
        let options = Options::new(std::net::IpAddr::from(OURS), 24, 1500, [1, 2, 3, 4]);
        let mut stack = Stack::new(instance, options).expect("it starts");
        let local = Endpoint::new(Address::from_v4(OURS), PORT);
        let listener = stack.listen(local, ListenOptions::default()).expect("it listens");
        let device = QueueDevice::new(Capabilities::plain(1500));
        let mut scene = Self { stack, device, listener, streams: Vec::new(), acts, now: 0 };
        scene.step(|_, _| {}).expect("nothing happens");
        scene
    }

    /// A frame arrives.
    pub fn arrive(&mut self, frame: &[u8]) {
        assert!(self.device.inject(frame, Offload::default()), "the device is full");
    }

    /// One turn, a millisecond later, in whose first step the module does this.
    ///
    /// # Errors
    /// The fault that it is.
    ///
    /// # Panics
    /// Where the host sees no reason for a step.
    pub fn step(
        &mut self,
        act: impl FnOnce(&Inputs<'_>, &mut Outputs) + Send + 'static,
    ) -> Result<(), Arc<Fault>> {
        self.step_with(|inputs, outputs, _| act(inputs, outputs))
    }

    /// The same with payload at hand.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    ///
    /// # Panics
    /// As [`step`](Self::step).
    pub fn step_with(
        &mut self,
        act: impl FnOnce(&Inputs<'_>, &mut Outputs, &mut dyn Payload) + Send + 'static,
    ) -> Result<(), Arc<Fault>> {
        self.now += limits::MILLISECOND;
        self.acts.lock().expect("no act panics").push_back(Box::new(act));
        let result = self.stack.turn(self.now, &mut self.device);
        assert!(self.acts.lock().expect("no act panics").is_empty(), "there was no step");
        result.map(drop)
    }

    /// A turn in which the module, if it is asked at all, does nothing.
    ///
    /// # Errors
    /// The fault that it is.
    pub fn idle(&mut self) -> Result<(), Arc<Fault>> {
        self.now += limits::MILLISECOND;
        self.stack.turn(self.now, &mut self.device).map(drop)
    }

    /// Connections [`A`] and [`B`] are open; A has 100 bytes to send, of which 60 were sent, and B has 30. What
    /// [`arrived`] lists waits for the next step.
    ///
    /// # Panics
    /// Where an honest module is called a liar.
    #[must_use]
    pub fn ready() -> Self {
        Self::new().made_ready()
    }

    /// The same with a module that has payload access.
    ///
    /// # Panics
    /// As [`ready`](Self::ready).
    #[must_use]
    pub fn ready_with_payload() -> Self {
        Self::of_world(true).made_ready()
    }

    fn made_ready(self) -> Self {
        let mut scene = self;
        scene.arrive(&from_peer(1000, 0, 0, ACK).frame(b""));
        scene.arrive(&from_peer(2000, 0, 0, ACK).frame(b""));
        let open = scene.step(|_, outputs| {
            outputs.events.push(Event::Accepted(opening(A, 0)));
            outputs.events.push(Event::Accepted(opening(B, 1)));
        });
        open.expect("two honest openings");
        for bytes in [[b'a'; 100].as_slice(), &[b'b'; 30]] {
            let stream = scene.stack.accept(scene.listener).expect("an open connection").stream;
            assert_eq!(scene.stack.write(stream, bytes).expect("space"), bytes.len());
            scene.streams.push(stream);
        }
        let sent = scene.step(|_, outputs| send(outputs, &to_peer(1000, 0).header(), queue(A, 0, 60)));
        sent.expect("an honest send");
        while scene.device.take().is_some() {}
        for frame in waiting() {
            scene.arrive(&frame);
        }
        scene
    }

    /// The rule that the module breaks when it does this in the step under test. The step has no effect, every open
    /// stream is told the rule, and so is who listens.
    ///
    /// # Panics
    /// Where it breaks none, or the host does not behave so.
    #[must_use]
    pub fn broken(act: impl FnOnce(&Inputs<'_>, &mut Outputs) + Send + 'static) -> Rule {
        Self::ready().breaks(act)
    }

    /// As [`broken`](Self::broken), in this scene.
    ///
    /// # Panics
    /// As [`broken`](Self::broken).
    pub fn breaks(self, act: impl FnOnce(&Inputs<'_>, &mut Outputs) + Send + 'static) -> Rule {
        self.breaks_with(|inputs, outputs, _| act(inputs, outputs))
    }

    /// The same with payload at hand.
    ///
    /// # Panics
    /// As [`broken`](Self::broken).
    pub fn breaks_with(
        mut self,
        act: impl FnOnce(&Inputs<'_>, &mut Outputs, &mut dyn Payload) + Send + 'static,
    ) -> Rule {
        let fault = self.step_with(act).expect_err("the module broke a rule, and nobody saw it");
        let rule = fault.rule().unwrap_or_else(|| panic!("{fault}"));
        assert!(fault.to_string().contains(rule.name()), "{fault}");
        assert_eq!(self.device.leaving(), 0, "something of the step was sent: {fault}");
        for stream in self.streams.clone() {
            let told = self.stack.read(stream, &mut [0; 64]);
            assert!(matches!(&told, Err(StreamError::Fault(of)) if **of == *fault), "{told:?}, not {fault}");
            let told = self.stack.write(stream, b"more");
            assert!(matches!(told, Err(StreamError::Fault(_) | StreamError::Shut)), "{told:?}");
        }
        let told = self.stack.accept(self.listener);
        assert!(matches!(told, Err(StreamError::Fault(_))), "{told:?}");
        assert_eq!(self.idle(), Err(Arc::clone(&fault)), "the instance is not entered again");
        assert_eq!(self.stack.next_deadline(), NEVER);
        rule
    }
}

impl Default for Scene {
    fn default() -> Self {
        Self::new()
    }
}

/// What [`arrived`] lists.
fn waiting() -> [Vec<u8>; 8] {
    let stranger = Tcp { seq: 9000, ack: 0, ..from_peer(3000, 0, 0, SYN) };
    [
        from_peer(1000, 0, 40, ACK).frame(&[1; 50]),
        from_peer(1000, 100, 40, ACK | FIN).frame(&[3; 50]),
        from_peer(2000, 0, 0, ACK).frame(&[9; 10]),
        stranger.frame(b""),
        echo_request(PEER, OURS, &[5; 32]),
        fragment(PEER, OURS, 7, 0, &[7; 64]),
        fragment(PEER, OURS, 8, 64, &[8; 64]),
        Tcp { seq: 9001, ack: 7001, flags: ACK, ..stranger }.frame(b""),
    ]
}
