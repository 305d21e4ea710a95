//! The TCP core with defects that a test chooses by a setting of the instance.
//!
//! It serves honestly until so many steps brought payload; then the defect fires in the first step in which there is
//! something for it to spoil. So real connections are open and real bytes under way when it happens.
#![no_std]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_wit::{
    Config, Description, Event, Finished, Handle, Inputs, Mark, Module, Note, Outputs, Place, Source,
    Summary, Time, limits,
};

/// The setting that chooses the defect: its number in bits 0 to 7, honest steps with payload in the others.
pub const SETTING: u16 = 0xf001;
/// The setting that makes segments poison which have a TTL of [`POISON`] and more.
pub const POISONABLE: u16 = 0xf004;
/// The setting that makes acknowledgements poison whose number, with the timestamp, is a multiple of its value: the module
/// panics over them.
pub const ACKNOWLEDGED: u16 = 0xf003;
/// The setting after how many steps with payload the module panics in every step, for good: that is part of its state.
pub const FOR_GOOD: u16 = 0xf005;
/// The TTL that stands for the first defect: a segment with it makes the module do that, each time it comes.
pub const POISON: u8 = 200;

/// The setting that says where those defects reach to which read and write outside: an address in the memory of whoever
/// runs the module without a wall.
pub const TARGET: u16 = 0xf002;
/// Bytes that they read or write there.
const REACH: usize = 16;

macro_rules! defects {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What the module does wrong.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Defect { $($(#[$doc])* $name,)* }

        impl Defect {
            /// All of them, by number.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

defects! {
    /// Panics.
    Panic,
    /// Never comes back.
    Loop,
    /// Takes memory without end.
    Memory,
    /// Calls itself without end.
    Stack,
    /// Reads outside its memory (only behind the wall).
    WildRead,
    /// Places bytes of a segment that does not exist.
    PayloadIndex,
    /// Sends bytes beyond what the application wrote.
    OutsideQueue,
    /// Sends a connection's bytes to another port.
    Redirect,
    /// Places a connection's bytes into another one.
    AnotherConnection,
    /// Places bytes one further than they belong.
    WrongOffset,
    /// Exposes a byte that has not arrived.
    Hole,
    /// Sends from an address that is not ours.
    ForgedSource,
    /// Says that more was acknowledged than was.
    FalseAcknowledgement,
    /// Says that the peer has ended its stream.
    FalseEnd,
    /// Ends our stream before the application does.
    FalseFin,
    /// Sends more than there is room for.
    TooManySends,
    /// Tells more events than allowed.
    TooManyEvents,
    /// Writes more of a note than allowed.
    LongNote,
    /// Wants to be called again at once, for ever.
    NearDeadline,
    /// Speaks of a connection that is not there.
    UnknownHandle,
    /// Reads far beyond the end of a buffer of its own, and tells what it finds.
    OverRead,
    /// Writes far beyond the end of a buffer of its own.
    OverWrite,
    /// Writes where a pointer leads that was never one.
    WildWrite,
    /// Flips a bit of its own state, and goes on as if nothing had happened.
    BitFlip,
}

impl Defect {
    /// The setting's value for this defect after `honest` steps with payload.
    #[must_use]
    pub const fn after(self, honest: u32) -> u64 {
        self as u64 | (honest as u64) << 8
    }
}

/// The core, honest until its defect fires. It bears the honest core's name: see the component's `Cargo.toml`.
#[derive(Debug, Default)]
pub struct Tcp {
    core: bulkhead_tcp::Tcp,
    defect: Option<Defect>,
    /// Where a defect reaches to outside.
    target: u64,
    /// Steps with payload before it fires.
    honest: u64,
    /// Whether segments can be poison.
    is_poisonable: bool,
    /// Steps with payload before it fails for good.
    good: Option<u32>,
    /// Acknowledgements that are multiples of it are poison; 0 is none.
    multiple: u32,
    /// Connections that were accepted.
    open: Vec<Handle>,
    config: Config,
}

impl Tcp {
    /// A module that has not been started.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Module for Tcp {
    fn describe(&self) -> Description {
        Description { name: String::from("hostile"), ..self.core.describe() }
    }

    fn start(&mut self, config: &Config) -> Result<(), String> {
        let setting = |key: u16| config.settings.iter().find(|one| one.key == key).map(|one| one.value);
        let value = setting(SETTING);
        self.target = setting(TARGET).unwrap_or(0);
        self.defect = value.and_then(|value| Defect::ALL.get((value & 0xff) as usize).copied());
        self.honest = value.unwrap_or(0) >> 8;
        self.is_poisonable = config.settings.iter().any(|setting| setting.key == POISONABLE);
        let multiple = config.settings.iter().find(|setting| setting.key == ACKNOWLEDGED);
        self.multiple = multiple.map_or(0, |setting| setting.value as u32);
        self.good = setting(FOR_GOOD).map(|steps| steps as u32);
        self.config = config.clone();
        self.core.start(config)
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) {
        self.core.step(inputs, outputs);
        for event in &outputs.events {
            if let Event::Accepted(opening) = event {
                self.open.push(opening.connection);
            }
        }
        let brings_payload = inputs.segments.iter().any(|segment| segment.payload > 0);
        match &mut self.good {
            Some(0) => fail(Defect::Panic),
            Some(left) => *left -= u32::from(brings_payload),
            None => {}
        }
        if self.honest > 0 {
            self.honest -= u64::from(brings_payload);
            return;
        }
        if let Some(defect) = self.defect
            && (reach(defect, self.target, outputs) || self.fire(defect, inputs, outputs))
        {
            self.defect = None;
        }
        if self.is_poisonable {
            let poison = inputs.segments.iter().filter_map(|segment| poison_in(inputs.headers, segment));
            poison.for_each(|defect| _ = self.fire(defect, inputs, outputs));
        }
        let is_poison = |ack: u32| self.multiple > 0 && ack.is_multiple_of(self.multiple);
        if inputs.segments.iter().filter_map(|segment| ack_in(inputs.headers, segment)).any(is_poison) {
            fail(Defect::Panic);
        }
    }

    /// Whether segments are poison is part of the state, and whether it fails for good; a defect that waits for its time is
    /// not.
    fn save(&self) -> Vec<u8> {
        let mut state = self.core.save();
        state.extend_from_slice(&self.good.unwrap_or(u32::MAX).to_le_bytes());
        state.extend_from_slice(&self.multiple.to_le_bytes());
        state.push(u8::from(self.is_poisonable));
        state
    }

    fn load(&mut self, config: &Config, now: Time, state: &[u8]) -> Result<Vec<Summary>, String> {
        let empty = || String::from("the state is empty");
        let (last, state) = state.split_last().ok_or_else(empty)?;
        let (state, multiple) = state.split_last_chunk().ok_or_else(empty)?;
        let (state, good) = state.split_last_chunk().ok_or_else(empty)?;
        self.multiple = u32::from_le_bytes(*multiple);
        self.good = Some(u32::from_le_bytes(*good)).filter(|left| *left != u32::MAX);
        let summaries = self.core.load(config, now, state)?;
        self.is_poisonable = *last == 1;
        self.open = summaries.iter().map(|summary| summary.connection).collect();
        self.config = config.clone();
        Ok(summaries)
    }
}

impl Tcp {
    fn fire(&mut self, defect: Defect, inputs: &Inputs<'_>, outputs: &mut Outputs) -> bool {
        if defect != Defect::BitFlip {
            return fire(defect, &self.open, inputs, outputs);
        }
        let mut state = self.core.save();
        let place =
            (inputs.now.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) as usize % (state.len() * 8).max(1);
        if let Some(byte) = state.get_mut(place / 8) {
            *byte ^= 1 << (place % 8);
        }
        let mut bent = bulkhead_tcp::Tcp::new();
        // What cannot be a state at all is not loaded, and nothing has happened.
        if bent.load(&self.config, inputs.now, &state).is_ok() {
            self.core = bent;
        }
        true
    }
}

/// The acknowledgement number of a TCP segment that has no SYN, with its window and its timestamp mixed in as Linux lays it
/// out: the same acknowledgement a little later, or with more room, is another one, as a fault that a chance has brought
/// about does not come again.
fn ack_in(headers: &[u8], segment: &bulkhead_wit::Segment) -> Option<u32> {
    let tcp = headers.get(segment.header as usize + usize::from(segment.transport)..)?;
    let is_plain = segment.protocol == 6 && tcp.get(13)? & 2 == 0;
    let number = |at: usize| tcp.get(at..)?.first_chunk().copied().map(u32::from_be_bytes);
    let timestamp = if tcp.get(20..24)? == [1, 1, 8, 10] { number(24)? } else { 0 };
    let window = u16::from_be_bytes(*tcp.get(14..)?.first_chunk()?);
    is_plain.then_some(number(8)?.wrapping_add(timestamp).wrapping_add(window.into()))
}

/// The defect that a segment calls for: IPv4 carries it as its TTL.
fn poison_in(headers: &[u8], segment: &bulkhead_wit::Segment) -> Option<Defect> {
    let ttl = headers.get(segment.header as usize + 8)?;
    Defect::ALL.get(usize::from(ttl.checked_sub(POISON)?)).copied()
}

/// Does it, if there is something to spoil in this step.
fn fire(defect: Defect, open: &[Handle], inputs: &Inputs<'_>, outputs: &mut Outputs) -> bool {
    match defect {
        // Without a target: done by `reach` otherwise.
        Defect::OverRead | Defect::OverWrite | Defect::WildWrite => fail(Defect::WildRead),
        Defect::Panic | Defect::Loop | Defect::Memory | Defect::Stack | Defect::WildRead => fail(defect),
        Defect::OutsideQueue | Defect::Redirect | Defect::ForgedSource | Defect::FalseFin => {
            return spoil_send(defect, outputs);
        }
        Defect::AnotherConnection | Defect::WrongOffset => return spoil_place(defect, open, outputs),
        Defect::Hole | Defect::FalseAcknowledgement => {
            let Some(mark) = outputs.marks.first_mut() else { return false };
            if defect == Defect::Hole {
                mark.exposed += 1;
            } else {
                mark.acknowledged += 1 << 20;
            }
        }
        Defect::FalseEnd => {
            let told = |finished: &Event| matches!(finished, Event::Finished(_));
            let Some(mark) = outputs.marks.first() else { return false };
            if inputs.segments.is_empty() || outputs.events.iter().any(told) {
                return false;
            }
            let end = Finished { connection: mark.connection, at: mark.exposed, segment: 0 };
            outputs.events.push(Event::Finished(end));
        }
        Defect::PayloadIndex => {
            let Some(of) = open.first() else { return false };
            let segment = limits::SEGMENTS as u32 - 1;
            outputs.places.push(Place {
                of: of.0,
                segment,
                length: 1,
                source: Source::Segment,
                ..Place::default()
            });
        }
        Defect::TooManySends => {
            let Some(send) = outputs.sends.first().copied() else { return false };
            outputs.sends.resize(limits::SENDS, send);
        }
        Defect::TooManyEvents => outputs.events.resize(limits::EVENTS + 1, Event::Release(0)),
        Defect::LongNote => {
            let text = core::iter::repeat_n('x', limits::NOTE_BYTES + 1).collect();
            outputs.notes.push(Note { level: 3, connection: Handle::INSTANCE, text });
        }
        Defect::NearDeadline => {
            (outputs.deadline, outputs.unfinished) = (inputs.now, false);
        }
        Defect::UnknownHandle => {
            let connection = Handle::by_module(limits::CONNECTIONS - 1, 9);
            outputs.marks.push(Mark { connection, ..Mark::default() });
        }
        // The caller's: it needs the whole state.
        Defect::BitFlip => {}
    }
    true
}

/// Ends without an answer, in one way or another.
fn fail(defect: Defect) -> ! {
    match defect {
        Defect::Loop => loop {
            core::hint::spin_loop();
        },
        Defect::Memory => {
            let mut taken: Vec<Vec<u8>> = Vec::new();
            loop {
                taken.push(core::hint::black_box(Vec::with_capacity(1 << 20)));
            }
        }
        Defect::Stack => panic!("went down to {}", down(1)),
        Defect::WildRead => wild_read(),
        _ => panic!("a defect that a test asked for"),
    }
}

/// Reads or writes outside, if that is the defect and there is somewhere to reach to. Says whether it was done, which
/// no wall lets it say.
#[expect(unsafe_code, reason = "reaching outside is the defect")]
fn reach(defect: Defect, target: u64, outputs: &mut Outputs) -> bool {
    if target == 0 {
        return false;
    }
    // An address of the application's is longer than a module's; behind the wall it is one that the module has not.
    #[cfg(target_arch = "wasm32")]
    let target = target as usize | 0x8000_0000;
    #[cfg(not(target_arch = "wasm32"))]
    let target = target as usize;
    let mut own = [0u8; REACH];
    let start = core::hint::black_box(own.as_mut_ptr());
    let beyond = start.wrapping_add(target.wrapping_sub(start as usize));
    // With a wall the instance or the process ends here. Without one these bytes are those that the test has set aside.
    match defect {
        Defect::OverRead => {
            // SAFETY: none, which is the point.
            let read = |at| char::from(unsafe { beyond.wrapping_add(at).read_volatile() });
            let text = (0..REACH).map(read).collect();
            outputs.notes.push(Note { level: 3, connection: Handle::INSTANCE, text });
        }
        Defect::OverWrite => {
            for at in 0..REACH {
                // SAFETY: none, which is the point.
                unsafe { beyond.wrapping_add(at).write_volatile(0x5a) };
            }
        }
        Defect::WildWrite => {
            // SAFETY: none, which is the point.
            unsafe { (target as *mut [u8; REACH]).write_volatile([0x5a; REACH]) };
        }
        _ => return false,
    }
    true
}

#[expect(unconditional_recursion, reason = "the very thing")]
#[inline(never)]
fn down(depth: u64) -> u64 {
    let frame = core::hint::black_box([depth; 64]);
    down(depth + 1) + frame.iter().sum::<u64>()
}

#[cfg(target_arch = "wasm32")]
#[expect(unsafe_code, reason = "a read outside the module's memory is the defect, and a trap there")]
fn wild_read() -> ! {
    // SAFETY: none, and none needed: the sandbox ends the instance.
    let byte = unsafe { core::ptr::read_volatile(core::hint::black_box(0xfff0_0000usize) as *const u8) };
    panic!("read {byte} from nowhere")
}

#[cfg(not(target_arch = "wasm32"))]
fn wild_read() -> ! {
    panic!("nothing stops a wild read here, so there is none")
}

/// Bytes of an IPv4 header without options; the test's links carry nothing else.
const IPV4: usize = 20;

fn spoil_send(defect: Defect, outputs: &mut Outputs) -> bool {
    let Some(send) = outputs.sends.iter_mut().find(|send| send.source == Source::Queue) else { return false };
    let header = outputs.headers.get_mut(send.header as usize..).unwrap_or_default();
    let byte = match defect {
        Defect::OutsideQueue => {
            send.at += 1 << 20;
            return true;
        }
        Defect::ForgedSource => {
            // Without bytes, which would be a broken binding before that.
            (send.source, send.of, send.at, send.length) = (Source::Nothing, 0, 0, 0);
            12
        }
        Defect::Redirect => IPV4 + 3,
        _ => IPV4 + 13,
    };
    // The source's first byte, the destination port's last, or the flags, where 1 is FIN.
    header.get_mut(byte).map(|byte| *byte ^= 1).is_some()
}

fn spoil_place(defect: Defect, open: &[Handle], outputs: &mut Outputs) -> bool {
    let Some(place) = outputs.places.first_mut() else { return false };
    if defect == Defect::WrongOffset {
        place.at += 1;
        return true;
    }
    let other = open.iter().find(|handle| handle.0 != place.of);
    other.map(|other| place.of = other.0).is_some()
}
