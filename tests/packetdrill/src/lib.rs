//! A protocol module as packetdrill's system under test.
//!
//! packetdrill can load a shared object in place of the kernel's TCP (`--so_filename`). This one answers with a
//! bulkhead [`Stack`](bulkhead::Stack), for any module and placement, in virtual time: a wait is over at once, and
//! every run of a script is the same. See `setup` for the flags.
//!
//! - `ffi`: the interface in C, and nothing else; the only unsafe code;
//! - `setup`, `sysctl`: which module, in which surroundings;
//! - `world`: the stack, its sockets and the time; `wait`: who waits for what;
//! - `socket`, `transfer`, `options`, `info`, `epoll`: the system calls;
//! - `watch`: how much of each stream has left.
//!
//! packetdrill's own `getsockopt` for code blocks, and `sendfile`, pass its interface by. Preloaded as well
//! (`LD_PRELOAD`), this library answers them for its own sockets.

mod epoll;
mod errno;
mod ffi;
mod info;
mod options;
mod setup;
mod socket;
mod sysctl;
mod transfer;
mod wait;
mod watch;
mod world;

pub use ffi::{Interface, packetdrill_interface_init};
