//! TCP behind a wall.
//!
//! The protocol stack is a module: a pure function from state, time and inputs to state and outputs, compiled to a
//! WebAssembly component and run in-process, in a sandbox. The host around it acts as a very good network card: it
//! keeps the payload, checks every output of the module before the first is carried out, and serves applications.
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

#[cfg(feature = "wasm")]
pub mod artifact;
pub mod checksum;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod device;
pub mod error;
pub mod fault;
pub mod frame;
pub mod inspect;
pub mod join;
#[cfg(feature = "net")]
pub mod net;
pub mod placement;
pub mod split;
pub mod stack;
pub mod streams;
pub mod supervise;
pub mod turn;

pub use error::StreamError;
pub use fault::Fault;
pub use stack::{Accepted, ConnectOptions, ListenOptions, ListenerId, Options, Stack, StreamId};
pub use streams::{Readiness, Sizes};
pub use turn::Turn;
