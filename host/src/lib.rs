//! TCP behind a wall.
//!
//! The protocol stack is a module: a pure function from state, time and inputs to state and outputs, compiled to a
//! WebAssembly component and run in-process, in a sandbox. The host around it acts as a very good network card: it
//! keeps the payload, checks every output of the module before the first is carried out, and serves applications.
//!
//! # A tour
//!
//! [`net`] is what applications use (feature `net`): a [`Builder`](net::Builder) puts a device, a module and addresses
//! together, [`spawn`](net::Builder::spawn) puts the driver onto a thread of its own, and what comes back is a cheap
//! handle. Streams are tokio's `AsyncRead` and `AsyncWrite`, so that hyper, axum and whatever else builds on those run
//! unchanged; [`net::blocking`] is the same for threads. Two stacks joined in memory, which needs no privileges:
//!
//! ```
//! # #[cfg(feature = "net")] mod example {
//! use bulkhead::net::{Builder, PairDevice, pair};
//! use std::io;
//! use std::time::Duration;
//! use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # pub async fn run() -> io::Result<()> {
//! let (left, right) = pair(1500)?;
//! let server = stack(left).address([10, 0, 0, 1].into(), 24).spawn()?;
//! let client = stack(right).address([10, 0, 0, 2].into(), 24).spawn()?;
//!
//! let listener = server.listen(([10, 0, 0, 1], 7).into())?;
//! tokio::spawn(async move {
//!     while let Ok((mut stream, _peer)) = listener.accept().await {
//!         tokio::spawn(async move {
//!             let (mut read, mut write) = stream.split();
//!             tokio::io::copy(&mut read, &mut write).await
//!         });
//!     }
//! });
//!
//! let mut stream = client.connect(([10, 0, 0, 1], 7).into()).await?;
//! stream.write_all(b"hello").await?;
//! stream.shutdown().await?;
//! let mut answer = String::new();
//! stream.read_to_string(&mut answer).await?;
//! assert_eq!(answer, "hello");
//! drop(stream);
//!
//! let summary = client.shutdown(Duration::from_secs(5)).await;
//! assert_eq!((summary.connections, summary.faults), (1, 0));
//! # Ok(())
//! # }
//!
//! fn stack(device: PairDevice) -> Builder {
//! #   if cfg!(not(feature = "wasm")) {
//! #       let tcp = Box::new(bulkhead_tcp::Tcp::new());
//! #       let native = bulkhead::placement::native::Native::new(tcp);
//! #       return Builder::new(device).instance(Box::new(native));
//! #   }
//!     // The bundled module, in the sandbox.
//!     Builder::new(device)
//! }
//! # }
//! # fn main() {
//! #     #[cfg(feature = "net")]
//! #     example::run().unwrap();
//! # }
//! ```
//!
//! Instead of [`pair`](net::pair), a [`device::Tun`] or [`device::OffloadTun`] connects a stack with this machine's
//! kernel, and anything that moves datagrams can be a [`device::Device`]: three methods, and a descriptor to wait on.
//! The folder `examples` has one idea each.
//!
//! Below the sockets, [`Stack`] is the host's core without a clock and without I/O: simulators, replay and tests pump it
//! by hand, in virtual time.
//!
//! # The rooms
//!
//! The way of a segment, room by room; [`turn`](Stack::turn) walks it and is to be read first:
//!
//! | room | module |
//! |---|---|
//! | where frames come from and go to | [`device`] |
//! | frame into header and payload | [`split`] |
//! | the module, wherever it runs | [`placement`] |
//! | every output held against the contract | [`inspect`] |
//! | applications' bytes | [`streams`] |
//! | header and range into frames | [`join`] |
//!
//! And what stands around them: [`net`] drives a stack and has its sockets, [`record`] keeps what a module was given, for
//! replay and recovery, [`supervise`] decides what follows a fault, [`swap`] puts another module in the place of one that
//! runs.

#[cfg(feature = "wasm")]
pub mod artifact;
pub mod checksum;
#[cfg(feature = "compare")]
pub mod compare;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod device;
pub mod error;
pub mod fault;
pub mod frame;
#[cfg(feature = "fuzz-cases")]
pub mod fuzz;
#[cfg(feature = "net")]
pub mod handover;
pub mod inspect;
pub mod join;
#[cfg(feature = "net")]
pub mod net;
pub mod payload;
pub mod placement;
pub mod record;
pub mod split;
pub mod stack;
pub mod streams;
pub mod supervise;
pub mod swap;
pub mod turn;

pub use error::StreamError;
pub use fault::Fault;
pub use stack::{
    Accepted, BindOptions, ConnectOptions, ListenOptions, ListenerId, Options, SocketId, Stack, StreamId,
};
pub use streams::{Readiness, Sizes};
pub use turn::Turn;

/// The README's example is compiled with the documentation's own.
#[cfg(all(doctest, feature = "net", feature = "tun", feature = "wasm"))]
#[doc = include_str!("../../README.md")]
struct Readme;
