//! The sockets of threads.

use super::common::{SERVER, address, pattern, stacks};
use bulkhead::net::blocking::{TcpListener, TcpStream};
use std::io::{ErrorKind, Read as _, Write as _};
use std::thread;
use std::time::Duration;

#[test]
fn threads_echo() {
    const LENGTH: usize = 4 << 20;
    let (server, client) = stacks();
    let listener = TcpListener::bind(&server, address(SERVER)).unwrap();
    let serving = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        std::io::copy(&mut &stream, &mut &stream).unwrap()
    });
    let stream = TcpStream::connect(&client, address(SERVER)).unwrap();
    let sent = pattern(LENGTH, 21);
    let got = thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(&sent).unwrap();
            stream.shutdown_write().unwrap();
        });
        let mut got = Vec::new();
        (&stream).read_to_end(&mut got).unwrap();
        got
    });
    assert!(got == sent);
    assert_eq!(serving.join().unwrap(), LENGTH as u64);
    let summary = client.shutdown_blocking(Duration::from_secs(20));
    assert_eq!(summary.bytes_out, LENGTH as u64);
}

#[test]
fn timeouts() {
    let (server, client) = stacks();
    let listener = TcpListener::bind(&server, address(SERVER)).unwrap();
    listener.set_timeout(Some(Duration::from_millis(10)));
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::TimedOut);
    let mut stream = TcpStream::connect(&client, address(SERVER)).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(10)));
    stream.set_write_timeout(Some(Duration::from_millis(10)));
    assert_eq!(stream.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
    let chunk = [0; 1 << 16];
    let full = loop {
        if let Err(error) = stream.write(&chunk) {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::TimedOut);
    let nobody = TcpStream::connect_timeout(&client, address("10.9.0.99:1"), Duration::from_millis(10));
    assert_eq!(nobody.unwrap_err().kind(), ErrorKind::TimedOut);
}
