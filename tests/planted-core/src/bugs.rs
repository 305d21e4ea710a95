//! The bugs. The code is as careless as it was found in the field; do not learn from it.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use bulkhead_wit::{Handle, Opening, Outputs};

use crate::view::View;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
const URG: u8 = 32;

macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What is wrong with the module.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Bug { $($(#[$doc])* $name,)* }

        impl Bug {
            /// All of them; a bug's number is its place, from 1 on.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// A few words.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

bugs! {
    /// An option is read though its length says that it is shorter: a SYN with such an option at the end.
    OptionLength = "option length not checked",
    /// The urgent pointer is used as an index: a segment with URG on an open connection, and a pointer beyond its text.
    UrgentPointer = "urgent pointer out of bounds",
    /// An option of length 0 is walked over for ever.
    ZeroLength = "zero option length loop",
    /// The buffer is as large as the last fragment says: an earlier one that reaches further.
    FragmentOverlap = "fragment overlap",
    /// A window is counted in segments: a SYN with MSS 0, and its handshake completed.
    MssZero = "MSS 0 division",
    /// The host's entropy is not used.
    PredictableIsn = "predictable ISN",
    /// A scale beyond 14 is not clamped (RFC 7323 2.3): a SYN with one, and more in flight than the true window.
    WindowScale = "window scale overflow",
    /// A reset in a closing state frees what the closing frees too.
    DoubleFree = "double free of state",
    /// Each segment out of order is remembered, however many: hundreds on one connection.
    OutOfOrder = "unbounded out-of-order queue",
    /// A SACK block whose left edge lies beyond its right one.
    SackUnderflow = "SACK range underflow",
    /// With a closed window and something outstanding no timer is armed.
    NoTimer = "timer never armed",
}

/// What careless code remembers of a peer.
#[derive(Debug, Default)]
struct Peer {
    mss: Option<u16>,
    scale: u32,
    is_open: bool,
    /// The module's last word to it: the sequence number that it expects.
    expected: u32,
    /// A FIN has passed, one way or the other.
    is_closing: bool,
    window_closed: bool,
    outstanding: bool,
    handle: Handle,
    queue: Vec<Vec<u8>>,
}

/// Memory that careless code takes for a segment out of order: what its network card's largest frame has.
const FRAME: usize = 256 << 10;
/// Where a reassembly buffer ends at the most.
const DATAGRAM: usize = 65_535;

/// Options are read where they should be, whether they are there or not.
fn unchecked_options(view: &View<'_>) {
    let options = view.options();
    let mut at = 0;
    while at < options.len() {
        match options[at] {
            0 => return,
            1 => at += 1,
            kind => {
                if kind == 2 {
                    core::hint::black_box(u16::from_be_bytes([options[at + 2], options[at + 3]]));
                }
                at += usize::from(options[at + 1]).max(2);
            }
        }
    }
}

/// An option's length is believed, even where it leads nowhere.
fn endless_options(view: &View<'_>) {
    let options = view.options();
    let mut at = 0;
    while at < options.len() {
        at += match options[at] {
            0 => return,
            1 => 1,
            _ => core::hint::black_box(options.get(at + 1).copied().map_or(1, usize::from)),
        };
    }
}

/// The code in front of the core.
#[derive(Debug)]
pub(crate) struct Careless {
    bug: Bug,
    peers: BTreeMap<u16, Peer>,
    slots: Vec<Option<Handle>>,
    /// By identification: how far any fragment reaches.
    fragments: BTreeMap<u16, usize>,
    last_port: u16,
}

impl Careless {
    pub(crate) fn new(bug: Bug) -> Self {
        Self { bug, peers: BTreeMap::new(), slots: Vec::new(), fragments: BTreeMap::new(), last_port: 0 }
    }

    /// A segment arrives, before the core sees it.
    pub(crate) fn arrives(&mut self, view: &mut View<'_>) {
        if view.is_fragment() {
            if self.bug == Bug::FragmentOverlap {
                self.reassemble(view);
            }
            return;
        }
        self.remember(view);
        match self.bug {
            Bug::OptionLength => unchecked_options(view),
            Bug::ZeroLength => endless_options(view),
            Bug::UrgentPointer => self.urgent(view),
            Bug::MssZero => self.count_segments(view),
            Bug::WindowScale => self.scale(view),
            Bug::DoubleFree => self.reset(view),
            Bug::OutOfOrder => self.hoard(view),
            Bug::SackUnderflow => self.sack(view),
            Bug::FragmentOverlap | Bug::PredictableIsn | Bug::NoTimer => {}
        }
    }

    fn remember(&mut self, view: &View<'_>) {
        self.last_port = view.port();
        let peer = self.peers.entry(view.port()).or_default();
        if view.has(SYN) {
            peer.mss = view
                .option(2)
                .filter(|value| value.len() == 2)
                .map(|value| u16::from_be_bytes([value[0], value[1]]));
            peer.scale = view.option(3).and_then(|value| value.first()).map_or(0, |shift| u32::from(*shift));
        }
        peer.is_closing |= view.has(FIN) && peer.is_open;
        peer.window_closed = view.half(14) == 0 && view.has(ACK);
    }

    fn reassemble(&mut self, view: &View<'_>) {
        let field = view.half(6);
        let (id, more) = (view.half(4), field & 0x2000 != 0);
        let end = usize::from(field & 0x1fff) * 8 + view.segment.payload as usize;
        if more {
            let furthest = self.fragments.entry(id).or_default();
            *furthest = (*furthest).max(end.min(DATAGRAM));
        } else if let Some(furthest) = self.fragments.remove(&id) {
            // The last fragment says how long the datagram is. Whoever believes that:
            let buffer = vec![0u8; end];
            core::hint::black_box(&buffer[..furthest]);
        }
    }

    fn urgent(&self, view: &View<'_>) {
        let is_open = self.peers.get(&view.port()).is_some_and(|peer| peer.is_open);
        if is_open && view.has(URG) && view.segment.payload > 0 {
            let text = vec![0u8; view.segment.payload as usize];
            core::hint::black_box(text[usize::from(view.half(18)).saturating_sub(1)]);
        }
    }

    fn count_segments(&self, view: &View<'_>) {
        let Some(peer) = self.peers.get(&view.port()) else { return };
        if let Some(mss) = peer.mss.filter(|_| peer.is_open) {
            core::hint::black_box(view.half(14) / mss);
        }
    }

    /// Hands the core a larger window than the peer has: what a shift of more than 14 makes of it.
    fn scale(&self, view: &mut View<'_>) {
        let Some(peer) = self.peers.get(&view.port()) else { return };
        if peer.scale > 14 && !view.has(SYN) && view.half(14) > 0 {
            view.bytes[14..16].copy_from_slice(&[0xff, 0xff]);
        }
    }

    fn reset(&mut self, view: &View<'_>) {
        let Some(peer) = self.peers.get(&view.port()) else { return };
        // A reset in a closing state: the state goes at once, and goes again when the core says so.
        if view.has(RST) && peer.is_closing {
            let handle = peer.handle;
            self.free(handle);
        }
    }

    fn hoard(&mut self, view: &View<'_>) {
        let Some(peer) = self.peers.get_mut(&view.port()).filter(|peer| peer.is_open) else { return };
        let ahead = view.word(4).wrapping_sub(peer.expected);
        if view.segment.payload > 0 && ahead > 0 && ahead < 1 << 20 {
            peer.queue.push(Vec::with_capacity(FRAME));
        }
    }

    fn sack(&self, view: &View<'_>) {
        let Some(peer) = self.peers.get(&view.port()).filter(|peer| peer.is_open) else { return };
        let Some(blocks) = view.option(5).filter(|_| peer.outstanding) else { return };
        for block in blocks.chunks_exact(8) {
            let edge =
                |at: usize| u32::from_be_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
            // One bit for each kilobyte of the range.
            let bits = edge(4).wrapping_sub(edge(0)) as usize / 1024;
            core::hint::black_box(&[0u8; DATAGRAM][..bits]);
        }
    }

    /// What the module says, after the core has said it.
    pub(crate) fn hears(&mut self, outputs: &Outputs) {
        for send in &outputs.sends {
            let from = send.header as usize + usize::from(send.transport);
            let Some(tcp) = outputs.headers.get(from..from + 20) else { continue };
            let port = u16::from_be_bytes([tcp[2], tcp[3]]);
            let Some(peer) = self.peers.get_mut(&port) else { continue };
            peer.expected = u32::from_be_bytes([tcp[8], tcp[9], tcp[10], tcp[11]]);
            peer.is_closing |= tcp[13] & FIN != 0;
            peer.outstanding |= send.length > 0;
        }
    }

    /// A connection is open.
    pub(crate) fn opens(&mut self, opening: &Opening) {
        if let Some(peer) = self.peers.get_mut(&self.last_port) {
            (peer.is_open, peer.is_closing, peer.handle) = (true, false, opening.connection);
            self.slots.push(Some(opening.connection));
        }
    }

    /// A connection is gone.
    pub(crate) fn closes(&mut self, handle: Handle) {
        if self.bug == Bug::DoubleFree {
            self.free(handle);
        }
        for peer in self.peers.values_mut().filter(|peer| peer.handle == handle) {
            *peer = Peer::default();
        }
    }

    /// The slot of a connection goes back to the pool, which a second time it must not.
    fn free(&mut self, handle: Handle) {
        let slot = self.slots.iter_mut().find(|slot| **slot == Some(handle));
        *slot.expect("a slot is freed once") = None;
    }

    pub(crate) fn forgets_the_timer(&self) -> bool {
        self.bug == Bug::NoTimer && self.peers.values().any(|peer| peer.window_closed && peer.outstanding)
    }
}
