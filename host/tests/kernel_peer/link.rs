//! `bulkhead link`: the kernel on both sides.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bulkhead_namespace::Namespace;
use serde_json::Value;

use super::server::{namespace, noise, program};

/// Joins two namespaces, and gives both ends addresses.
fn joined(flags: &[&str]) -> Option<(Namespace, Namespace, Child)> {
    let (left, right) = (namespace()?, namespace()?);
    let mut command = program(None);
    command.args(["link", "--json", "--a", &format!("wan0@{}", left.name())]);
    command.args(["--b", &format!("wan0@{}", right.name())]).args(flags);
    let link = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    for (space, address) in [(&left, "10.1.0.1/24"), (&right, "10.1.0.2/24")] {
        let begun = Instant::now();
        while space.run(&["ip", "address", "add", address, "dev", "wan0"]).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the interface does not come");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    Some((left, right, link))
}

fn end(mut link: Child) -> Value {
    Command::new("kill").args(["-INT", &link.id().to_string()]).status().unwrap();
    let mut text = String::new();
    link.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(link.wait().unwrap().success());
    serde_json::from_str(&text).unwrap()
}

/// Sends the bytes from the left to the right, and returns what arrived and how long it took.
fn carry(left: &Namespace, right: &Namespace, bytes: &[u8]) -> (Vec<u8>, Duration) {
    let listener = right.inside(|| TcpListener::bind("10.1.0.2:7").unwrap()).unwrap();
    std::thread::scope(|scope| {
        let arrived = scope.spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            all
        });
        let begun = Instant::now();
        left.inside(|| {
            let mut stream = TcpStream::connect("10.1.0.2:7").unwrap();
            stream.write_all(bytes).unwrap();
        })
        .unwrap();
        (arrived.join().unwrap(), begun.elapsed())
    })
}

#[test]
#[ignore = "needs root"]
fn tun_link_impairs_each_direction_as_told() {
    let flags = ["--delay", "30ms/10ms", "--loss", "2%/0", "--corrupt", "0/1%", "--seed", "5"];
    let Some((left, right, link)) = joined(&flags) else { return };
    let bytes = noise(2 << 20, 3);
    let (arrived, time) = carry(&left, &right, &bytes);
    assert!(arrived == bytes, "the copy differs");
    assert!(time >= Duration::from_millis(80), "two round trips of 40 ms at the least: {time:?}");
    let summary = end(link);
    let (there, back) = (&summary["there"], &summary["back"]);
    let number = |way: &Value, name: &str| way[name].as_u64().unwrap();
    // Super-segments are cut before they are lost: as many frames as segments.
    assert!(number(there, "frames") > (2 << 20) / 1448, "{summary}");
    assert!(number(there, "lost") > 0 && number(there, "corrupted") == 0, "{summary}");
    assert!(number(back, "lost") == 0, "{summary}");
    assert_eq!(summary["seed"], 5);
}

#[test]
#[ignore = "needs root"]
fn tun_link_that_loses_everything() {
    let Some((left, _right, link)) = joined(&["--loss", "100%"]) else { return };
    let refused = left
        .inside(|| {
            let to = "10.1.0.2:7".parse().unwrap();
            TcpStream::connect_timeout(&to, Duration::from_millis(300)).unwrap_err().kind()
        })
        .unwrap();
    assert_eq!(refused, ErrorKind::TimedOut);
    let summary = end(link);
    assert_eq!(summary["there"]["delivered"], 0, "{summary}");
    assert!(summary["there"]["lost"].as_u64().unwrap() > 0, "{summary}");
}

#[test]
fn a_link_says_what_is_wrong_with_its_arguments() {
    for (words, says) in [
        (&["--a", "x", "--b", "y", "--loss", "5"][..], "the unit is one of %"),
        (&["--a", "x", "--b", "y", "--delay", "1parsec"], "the unit is one of us, ms, s"),
        (&["--a", "x"], "--b"),
        (&["--a", "x@", "--b", "y"], "no namespace"),
    ] {
        let output = program(None).arg("link").args(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        assert!(said.contains(says), "{words:?}: {said}");
    }
    let output = program(None).args(["link", "--a", "x@no-such-netns", "--b", "y"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("ip netns add"));
}
