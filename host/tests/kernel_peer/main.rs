//! The whole program against the kernel's TCP, over a TUN device in a network namespace of the test's own.
//!
//! Those that need root are `ignore`d and have `tun_` in their names; they skip, and say so, where there is no
//! `/dev/net/tun` or no namespace to be had.

mod bad_input;
mod check;
mod compare;
mod ending;
mod faults;
mod link;
mod recording;
mod reseed;
mod server;
mod smoltcp;
mod swap;
mod traffic;
mod upgrade;
