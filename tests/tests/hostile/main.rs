//! Modules that break the contract: every rule of inspect, by a module that is compiled in and does what the test
//! says. The same defects behind the wall, in a component that otherwise serves real connections, are in `behind`.

mod behind;
mod datagrams;
mod endings;
mod honest;
mod openings;
mod payload;
mod places;
mod sends;
