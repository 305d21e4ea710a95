//! What applications see when the module fails.

use super::common::{SERVER, address, builder, connected};
use bulkhead::Fault;
use bulkhead::net::pair;
use bulkhead::placement::native::Native;
use bulkhead_tcp::Tcp;
use bulkhead_wit::{Call, Config, Description, Inputs, Module, Outputs, Setting, Summary, Time};
use std::error::Error;
use std::io::{self, ErrorKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The setting that kills.
const FATAL: u16 = 9999;

/// TCP with a weak spot.
struct Fragile(Tcp);

impl Module for Fragile {
    fn describe(&self) -> Description {
        self.0.describe()
    }

    fn start(&mut self, config: &Config) -> Result<(), String> {
        self.0.start(config)
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) {
        let is_fatal = |call: &Call| matches!(call, Call::Set(change) if change.setting.key == FATAL);
        assert!(!inputs.calls.iter().any(is_fatal), "the weak spot");
        self.0.step(inputs, outputs);
    }

    fn save(&self) -> Vec<u8> {
        self.0.save()
    }

    fn load(&mut self, config: &Config, now: Time, state: &[u8]) -> Result<Vec<Summary>, String> {
        self.0.load(config, now, state)
    }
}

fn fragile() -> Box<Native> {
    Box::new(Native::new(Box::new(Fragile(Tcp::new()))))
}

fn fault_of(error: &io::Error) -> &Fault {
    let mut source: Option<&(dyn Error + 'static)> = error.source();
    let inner = error.get_ref().and_then(|inner| inner.source());
    source = inner.or(source);
    source.and_then(|source| source.downcast_ref::<Fault>()).unwrap_or_else(|| panic!("{error:?}"))
}

#[tokio::test]
async fn a_fault_is_told_to_everybody() {
    let (first, second) = pair(1500).unwrap();
    let server = builder(first, "10.9.0.1", 1).instance(fragile()).spawn().unwrap();
    let client = builder(second, "10.9.0.2", 2).spawn().unwrap();
    let (listener, mut accepted, mut stream) = connected(&server, &client).await;
    stream.write_all(b"before").await.unwrap();
    accepted.readable().await.unwrap();
    let accepting = tokio::spawn(async move { listener.accept().await.map(drop) });
    accepted.set(Setting { key: FATAL, value: 0 }).unwrap();
    let mut bytes = [0; 6];
    accepted.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"before");
    let error = accepted.read(&mut bytes).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    assert_eq!(fault_of(&error).to_string(), "the module panicked: the weak spot");
    let error = accepting.await.unwrap().unwrap_err();
    assert_eq!(fault_of(&error).to_string(), "the module panicked: the weak spot");
    let summary = server.shutdown(std::time::Duration::ZERO).await;
    assert_eq!(summary.faults, 1);
    assert!(summary.fault.is_some());
}

#[tokio::test]
async fn a_fresh_instance_serves_on() {
    let (first, second) = pair(1500).unwrap();
    let server = builder(first, "10.9.0.1", 1)
        .instance(fragile())
        .restarted_by(Box::new(|| Ok(fragile())))
        .spawn()
        .unwrap();
    let client = builder(second, "10.9.0.2", 2).spawn().unwrap();
    let (listener, mut accepted, stream) = connected(&server, &client).await;
    accepted.set(Setting { key: FATAL, value: 0 }).unwrap();
    let error = accepted.read(&mut [0; 6]).await.unwrap_err();
    assert_eq!(fault_of(&error).to_string(), "the module panicked: the weak spot");
    drop((accepted, stream));
    let (accepted, connected) = tokio::join!(listener.accept(), client.connect(address(SERVER)));
    let (mut accepted, mut stream) = (accepted.unwrap().0, connected.unwrap());
    stream.write_all(b"again").await.unwrap();
    let mut bytes = [0; 5];
    accepted.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"again");
    let stat = server.stat();
    assert_eq!((stat.faults, stat.incidents.len()), (1, 1));
    assert!(stat.fault.is_none() && stat.incidents[0].restarted);
}
