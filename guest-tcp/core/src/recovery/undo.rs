//! Taking a reduction back that turns out spurious: by the echoed timestamp (Eifel, RFC 3522 and 4015), by D-SACK
//! for all that was retransmitted (RFC 3708), and after a timeout by F-RTO (RFC 5682).

use bulkhead_wit::types::Time;

use crate::save::codec::{Writer, put, take};

use super::api::Span;
use super::congestion::{Control, Window};
use super::maybe::Maybe;
use super::rack::Echo;
use super::scoreboard::{Fate, Scoreboard};

/// What was before a reduction, and what became of its retransmissions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Undo {
    window: Window,
    control: Control,
    /// SND.UNA and SND.NXT when the reduction began.
    span: Span,
    /// Bytes retransmitted since, and those of them that the receiver had already.
    resent: u64,
    needless: u64,
    /// When the first retransmission left.
    resent_at: Maybe,
}

impl Undo {
    /// What is before a reduction. Retransmissions that are still out from an earlier one are as if of this: their
    /// acknowledgements and duplicates must not be taken for those of originals.
    pub(super) fn new(window: Window, control: &Control, board: &Scoreboard) -> Self {
        let out = board.runs().filter(|run| run.fate == Fate::Flying && run.again);
        Self {
            window,
            control: control.clone(),
            span: Span::new(board.una(), board.end()),
            resent: board.resent(),
            needless: 0,
            resent_at: out.map(|run| run.sent_at).min().into(),
        }
    }

    pub(super) fn on_resent(&mut self, now: Time, bytes: u64) {
        self.resent = self.resent.saturating_add(bytes);
        if self.resent_at.is_none() {
            self.resent_at = Maybe::some(now);
        }
    }

    /// RFC 2883: a duplicate arrived there.
    pub(super) fn on_dsack(&mut self, span: Span) {
        if span.end > self.span.start && span.start < self.span.end {
            self.needless = self.needless.saturating_add(span.len());
        }
    }

    /// RFC 3522 section 3: SND.UNA advanced by a segment sent before the first retransmission.
    pub(super) fn is_eifel(&self, echo: Echo) -> bool {
        self.resent_at.get().is_some_and(|at| echo.is_before(at))
    }

    /// RFC 3708 section 3: all that was retransmitted arrived twice.
    pub(super) fn is_all_needless(&self) -> bool {
        self.resent > 0 && self.needless >= self.resent
    }

    /// Whether the outcome can no longer be told: everything sent after it was acknowledged too.
    pub(super) fn is_over(&self, una: u64, recover: u64) -> bool {
        una > self.span.end && una > recover
    }

    /// RFC 4015 section 3.2 steps 5 to 7, and RFC 9438 4.9: as if nothing had been.
    pub(super) fn restore(self, window: &mut Window, control: &mut Control) {
        window.cwnd = window.cwnd.max(self.window.cwnd);
        window.ssthresh = window.ssthresh.max(self.window.ssthresh);
        // A model of the path has only learned since.
        if !control.is_by_model() {
            *control = self.control;
        }
    }
}

impl Undo {
    pub(super) fn save(&self, out: &mut Writer) {
        let Self { window, control, span, resent, needless, resent_at } = self;
        put(window, out);
        control.save(out);
        put(&[span.start, span.end, *resent, *needless], out);
        put(resent_at, out);
    }
    pub(super) fn load(from: &mut &[u8]) -> Option<Self> {
        let (window, control) = (take(from)?, Control::load(from)?);
        let [start, end, resent, needless] = take(from)?;
        Some(Self { window, control, span: Span { start, end }, resent, needless, resent_at: take(from)? })
    }
}

/// F-RTO (RFC 5682 section 3, with SACK where there is): was the timeout spurious?
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Frto {
    /// It is not asked, or the answer was no.
    #[default]
    Off,
    /// The first segment was retransmitted; the next acknowledgement tells more.
    Asking,
    /// Step 2b: new data is to be sent instead of retransmissions, if there is any.
    Probing,
    /// New data was sent; nothing else until the next acknowledgement.
    Probed,
}

/// An acknowledgement after a timeout.
#[derive(Clone, Copy, Debug)]
pub(super) struct AfterTimeout {
    /// Never retransmitted data from before the timeout was newly delivered.
    pub(super) original: bool,
    /// SND.UNA advanced, but not to the end of what was sent before the timeout.
    pub(super) partial: bool,
    /// A duplicate acknowledgement, or new SACK blocks.
    pub(super) duplicate: bool,
    /// New data was sent since the timeout.
    pub(super) beyond: bool,
}

/// What F-RTO makes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Nothing yet.
    Open,
    /// Step 3b: the timeout was spurious.
    Spurious,
    /// Step 2b: try new data; the recovery point moves to SND.NXT.
    TryNew,
}

impl Frto {
    pub(super) fn on_ack(&mut self, ack: &AfterTimeout) -> Verdict {
        match *self {
            Self::Off => return Verdict::Open,
            Self::Probing | Self::Probed => *self = Self::Asking,
            Self::Asking => {}
        }
        if ack.original {
            *self = Self::Off;
            return Verdict::Spurious;
        }
        if ack.beyond {
            if ack.duplicate {
                *self = Self::Off; // step 3a: the loss was real
            }
        } else if ack.partial {
            *self = Self::Probing;
            return Verdict::TryNew;
        }
        Verdict::Open
    }
}

crate::save::codec::numbered! {
    Frto { 0 = Off, 1 = Asking, 2 = Probing, 3 = Probed }
}

#[cfg(test)]
mod tests {
    use super::super::api::Algorithm;
    use super::super::rate::Stamp;
    use super::*;
    use bulkhead_wit::limits::MILLISECOND;

    const NOTHING: AfterTimeout =
        AfterTimeout { original: false, partial: false, duplicate: false, beyond: false };

    fn undo() -> (Undo, Window, Control) {
        let window = Window { cwnd: 20_000, ssthresh: u64::MAX, mss: 1000 };
        let mut control = Control::new(Algorithm::Cubic, false);
        let mut board = Scoreboard::starting_at(1000);
        board.push(0, 21_000, 1000, Stamp::default());
        let undo = Undo::new(window, &control, &board);
        let ssthresh = control.reduce(&window);
        (undo, Window { cwnd: 1000, ssthresh, ..window }, control)
    }

    #[test]
    fn rfc3522_an_echo_older_than_the_retransmission() {
        let (mut undo, mut window, mut control) = undo();
        let echo = |at| Echo { at: Some(at), tick: MILLISECOND };
        assert!(!undo.is_eifel(echo(0)));
        undo.on_resent(50 * MILLISECOND + 500, 1000);
        assert!(undo.is_eifel(echo(49 * MILLISECOND)));
        assert!(!undo.is_eifel(echo(50 * MILLISECOND))); // the same tick says nothing
        assert!(!undo.is_eifel(Echo { at: None, tick: MILLISECOND }));
        undo.restore(&mut window, &mut control);
        assert_eq!((window.cwnd, window.ssthresh), (20_000, u64::MAX));
        assert_eq!(control, Control::new(Algorithm::Cubic, false));
    }

    #[test]
    fn rfc3708_all_retransmissions_arrived_twice() {
        let (mut undo, ..) = undo();
        assert!(!undo.is_all_needless());
        undo.on_resent(0, 2000);
        undo.on_dsack(Span::new(1000, 2000));
        undo.on_dsack(Span::new(0, 1000)); // from before
        assert!(!undo.is_all_needless());
        undo.on_dsack(Span::new(2000, 3000));
        assert!(undo.is_all_needless());
    }

    #[test]
    fn rfc5682_3_new_data_tells() {
        let mut frto = Frto::Asking;
        assert_eq!(frto.on_ack(&AfterTimeout { partial: true, ..NOTHING }), Verdict::TryNew);
        frto = Frto::Probed;
        let next = AfterTimeout { beyond: true, partial: true, ..NOTHING };
        assert_eq!(frto.on_ack(&AfterTimeout { original: true, ..next }), Verdict::Spurious);
        frto = Frto::Probed;
        assert_eq!(frto.on_ack(&AfterTimeout { duplicate: true, ..next }), Verdict::Open);
        assert_eq!(frto, Frto::Off);
    }
}
