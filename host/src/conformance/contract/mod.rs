//! What every module has to be able to do, whatever protocol it speaks: the contract, held against an instance.
//!
//! Two hosts with an instance each stand at the ends of a link in memory, in virtual time, and do what applications do;
//! what a wire's other end would object to is left to the scripts. A check that a module does not serve the protocol for
//! is told as such and is no failure.

mod datagrams;
mod life;
mod pair;
mod streams;

use super::suite::Factory;
use bulkhead_wit::registry::{protocol, service};
use bulkhead_wit::{Description, STATELESS};
use std::fmt;

/// What came of a check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// It holds; with a figure or a remark, or empty.
    Holds(String),
    /// It does not, and why.
    Fails(String),
    /// The module does not serve what it is about.
    NotServed(&'static str),
}

/// One check and what came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// What is asked, in a few words.
    pub name: &'static str,
    /// What came of it.
    pub finding: Finding,
}

/// A check: a remark, or why it does not hold.
type Ask = fn(&Factory<'_>) -> Result<String, String>;

/// What a module must serve for a check to make sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Needs {
    Nothing,
    /// A state that can be saved.
    State,
    /// The same, and TCP.
    TcpState,
    Protocol(u8, &'static str),
}

const TCP: Needs = Needs::Protocol(protocol::TCP, "TCP");
const UDP: Needs = Needs::Protocol(protocol::UDP, "UDP");
const ICMP: Needs = Needs::Protocol(protocol::ICMP, "ICMP");

/// Every check, in the order of the table.
const CHECKS: &[(&str, Needs, Ask)] = &[
    ("describes itself", Needs::Nothing, life::describes),
    ("starts, with both versions of IP", Needs::Nothing, life::starts),
    ("an empty step has no effect", Needs::Nothing, life::empty_step),
    ("answers what it does not know", Needs::Nothing, life::unknown_calls),
    ("refuses a state that is none", Needs::Nothing, life::refuses_rubbish),
    ("outlives 5,000 frames of rubbish", Needs::Nothing, life::outlives_rubbish),
    ("saves and loads when fresh", Needs::State, life::fresh_round_trip),
    ("echo answered", ICMP, life::echo),
    ("sends nothing without room", TCP, life::no_room),
    ("opens, passively and actively, IPv4", TCP, streams::opens_v4),
    ("opens, passively and actively, IPv6", TCP, streams::opens_v6),
    ("data both ways", TCP, streams::both_ways),
    ("data both ways on a bad link", TCP, streams::on_a_bad_link),
    ("eight connections, each with its own bytes", TCP, streams::side_by_side),
    ("a reader that waits stops the writer", TCP, streams::back_pressure),
    ("half close", TCP, streams::half_close),
    ("close leaves nothing", TCP, streams::close),
    ("reset", TCP, streams::reset),
    ("a closed port refuses", TCP, streams::refused),
    ("listens no more", TCP, streams::unlisten),
    ("the same inputs, the same outputs", TCP, streams::deterministic),
    ("another instance takes over in mid-stream", Needs::TcpState, streams::takes_over),
    ("200 connections open at once", TCP, streams::many),
    ("datagrams both ways, IPv4", UDP, datagrams::both_ways_v4),
    ("datagrams both ways, IPv6", UDP, datagrams::both_ways_v6),
    ("a port that is bound is in use", UDP, datagrams::in_use),
    ("a closed port is unreachable", UDP, datagrams::unreachable),
    ("the same datagrams, the same outputs", UDP, datagrams::deterministic),
];

/// Runs every check against fresh instances.
///
/// # Errors
/// Where there is no instance to ask.
pub fn check_contract(factory: &Factory<'_>) -> Result<Vec<Check>, String> {
    let description = factory()?.description().clone();
    let check = |(name, needs, ask): &(&'static str, Needs, Ask)| {
        let finding = match needs {
            Needs::Protocol(number, protocol) if !serves(&description, *number) => {
                Finding::NotServed(protocol)
            }
            Needs::TcpState if !serves(&description, protocol::TCP) => Finding::NotServed("TCP"),
            Needs::State | Needs::TcpState if description.state_format == STATELESS => {
                Finding::NotServed("saved states")
            }
            _ => ask(factory).map_or_else(Finding::Fails, Finding::Holds),
        };
        Check { name, finding }
    };
    Ok(CHECKS.iter().map(check).collect())
}

/// Whether a module says that it serves an IP protocol.
#[must_use]
pub fn serves(description: &Description, protocol: u8) -> bool {
    let is_it = |s: &bulkhead_wit::Service| s.kind == service::IP_PROTOCOL && s.value == u16::from(protocol);
    description.serves.iter().any(is_it)
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds(remark) if remark.is_empty() => f.write_str("yes"),
            Self::Holds(remark) => write!(f, "yes     {remark}"),
            Self::Fails(why) => write!(f, "NO      {why}"),
            Self::NotServed(protocol) => write!(f, "n/a     it does not serve {protocol}"),
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<44}{}", self.name, self.finding)
    }
}

/// An error with what was being done.
fn told(what: &str) -> impl Fn(crate::StreamError) -> String {
    move |error| format!("{what}: {error}")
}

fn need(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}
