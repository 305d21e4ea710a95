//! Two stacks that see each other.

use bulkhead::net::{Builder, Driver, Net, PairDevice, TcpListener, TcpStream, pair};
use bulkhead_wit::{Config, Description, Inputs, Module, Outputs, Summary, Time};
use std::net::SocketAddr;

pub(crate) const SERVER: &str = "10.9.0.1:7000";

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A stack at this address, on this device, with TCP in the placement of these tests.
pub(crate) fn builder(device: PairDevice, host: &str, seed: u64) -> Builder {
    super::with_module(Builder::new(device))
        .address(host.parse().unwrap(), 24)
        .seed([seed, 2, 3, 4])
}

/// A server's stack and a client's, each on a thread of its own.
pub(crate) fn stacks() -> (Net, Net) {
    let (first, second) = pair(1500).unwrap();
    // One of each kind: the server's calls take turns, the client's wake the driver.
    let client = builder(second, "10.9.0.2", 2).turns_in_calls(false);
    (builder(first, "10.9.0.1", 1).spawn().unwrap(), client.spawn().unwrap())
}

/// The same, with the drivers in the caller's hands.
pub(crate) fn driven() -> ((Net, Driver), (Net, Driver)) {
    let (first, second) = pair(1500).unwrap();
    (builder(first, "10.9.0.1", 1).build().unwrap(), builder(second, "10.9.0.2", 2).build().unwrap())
}

/// A listener and both ends of a connection of it: the server's, then the client's.
pub(crate) async fn connected(server: &Net, client: &Net) -> (TcpListener, TcpStream, TcpStream) {
    let listener = server.listen(address(SERVER)).unwrap();
    let (accepted, connected) = tokio::join!(listener.accept(), client.connect(address(SERVER)));
    (listener, accepted.unwrap().0, connected.unwrap())
}

/// Bytes that say where they belong.
pub(crate) fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(length)
    .collect()
}

/// A module with a weak spot: it panics over inputs that this says are fatal.
pub(crate) struct Fragile<M>(pub(crate) M, pub(crate) fn(&Inputs<'_>) -> bool);

impl<M: Module> Module for Fragile<M> {
    fn describe(&self) -> Description {
        self.0.describe()
    }

    fn start(&mut self, config: &Config) -> Result<(), String> {
        self.0.start(config)
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) {
        assert!(!(self.1)(inputs), "the weak spot");
        self.0.step(inputs, outputs);
    }

    fn save(&self) -> Vec<u8> {
        self.0.save()
    }

    fn load(&mut self, config: &Config, now: Time, state: &[u8]) -> Result<Vec<Summary>, String> {
        self.0.load(config, now, state)
    }
}
