//! The sockets and their driver, in real time: two stacks joined by a pair of devices in memory.
#![cfg(feature = "net")]

mod blocking;
mod cancel;
mod common;
mod ends;
mod faults;
mod load;
mod streams;
mod swap;
mod udp;
