//! Sockets: what applications use, and the driver that keeps the stack going.
//!
//! A [`Builder`] puts a device, a module and addresses together and gives a [`Net`], a cheap handle, and a [`Driver`].
//! The driver takes [turns](crate::Stack::turn) whenever frames arrive, a deadline is due or an application has said
//! something; [`Builder::spawn`] puts it onto a thread of its own, [`Driver::run`] onto any tokio runtime. Sockets
//! lock the stack, move bytes and return: the stack's own buffers are the only ones, so back pressure is TCP's.
//!
//! | who waits | how |
//! |---|---|
//! | async tasks | [`TcpListener`], [`TcpStream`]: tokio's `AsyncRead` and `AsyncWrite`; [`UdpSocket`] |
//! | threads | [`blocking`]: std's `Read` and `Write`, with timeouts |
//! | the driver | the device's readiness, a timer of nanoseconds (`timerfd`), wakers of sockets |
//!
//! **Threads.** One lock holds the stack, its device and the wakers. Nothing sleeps, blocks or wakes anybody while it
//! holds it. With a driver on a thread of its own, a call that has news for the module takes the turn itself while the
//! driver sleeps ([`Builder::turns_in_calls`]); or application tasks and the driver share one current-thread runtime.
//! Either saves a wake-up per message.
//!
//! **Several modules.** Beside the first module others can serve other protocols ([`Builder::udp`],
//! [`Builder::beside`]), each in an instance and behind a wall of its own: when one fails, nothing of the others is
//! disturbed. Each frame goes to the module that serves its protocol.
//!
//! **Ourselves.** What is sent to an address of the stack's own turns round in the host and arrives as from a wire, so
//! connecting to oneself works as everywhere (but not from a port to itself).
//!
//! **Memory and bounds.** Two wakers a stream, and more only where more tasks wait on one; buffers are those of [`Sizes`](crate::Sizes), which grow
//! only as the module asks.
//!
//! **Cancellation.** A future that is dropped has moved no byte that it did not report. A dropped connect resets what
//! it began.
//!
//! **The end.** When the driver is dropped, the module fails or the stack is shut down, everybody who waits is woken
//! with an error, and bytes that arrived before it can still be read.

pub mod blocking;
mod builder;
mod driver;
mod end;
mod hand_over;
mod handle;
mod info;
mod limits;
mod listener;
mod offers;
mod pair;
mod router;
mod shared;
mod slots;
mod split;
mod state;
mod stream;
mod summary;
mod timer;
mod udp;

pub use builder::Builder;
pub(crate) use builder::random_seed;
pub use driver::Driver;
pub use end::NetError;
pub use hand_over::{HandOver, Taken};
pub use handle::Net;
pub use info::{Census, ConnectionInfo, TcpInfo, TcpState};
pub use listener::{Incoming, TcpListener};
pub use offers::{Offer, Offers};
pub use pair::{PairDevice, pair};
pub use split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};
pub use stream::TcpStream;
pub use summary::{ModuleSummary, Summary};
pub use udp::UdpSocket;
