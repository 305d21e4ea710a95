//! What applications see when the module fails.

use super::common::{Fragile, SERVER, address, builder, connected};
use bulkhead::Fault;
use bulkhead::net::pair;
use bulkhead::placement::native::Native;
use bulkhead_tcp::Tcp;
use bulkhead_wit::{Call, Inputs, Setting};
use std::error::Error;
use std::io::{self, ErrorKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The setting that kills.
const FATAL: u16 = 9999;

fn fragile() -> Box<Native> {
    let fatal = |inputs: &Inputs<'_>| {
        inputs.calls.iter().any(|call| matches!(call, Call::Set(change) if change.setting.key == FATAL))
    };
    Box::new(Native::new(Box::new(Fragile(Tcp::new(), fatal))))
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
