//! Programs that measure. What they find is printed; asserted is that they find something, and nothing wrong.

use std::time::Duration;

use serde_json::Value;

use super::server::{Server, curl, namespace, noise};
use super::{have, start};

fn gigabits(result: &Value, which: &str) -> f64 {
    result["end"][which]["bits_per_second"].as_f64().unwrap_or(0.0) / 1e9
}

#[test]
#[ignore = "needs root"]
fn tun_iperf3_both_directions() {
    let Some(space) = namespace().filter(|_| have(&["iperf3"])) else { return };
    let server = Server::start(&space, &["perf"]);
    for more in [&[][..], &["-R"], &["-P", "4"], &["-R", "-P", "4"], &["--bidir"], &["-n", "50M"]] {
        let mut words = vec!["iperf3", "-c", "10.77.0.2", "-J"];
        if !more.contains(&"-n") {
            words.extend(["-t", "1"]);
        }
        words.extend(more);
        let out = space.run(&words).unwrap_or_else(|error| panic!("{error}"));
        let result: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert!(result["error"].is_null(), "{words:?}: {}", result["error"]);
        println!(
            "{words:?}: {:.2} Gbit/s sent, {:.2} received",
            gigabits(&result, "sum_sent"),
            gigabits(&result, "sum_received")
        );
        assert!(gigabits(&result, "sum_received") > 0.0, "{words:?}");
    }
    server.end();
}

#[test]
#[ignore = "needs root"]
fn tun_perf_to_a_real_iperf3() {
    let Some(space) = namespace().filter(|_| have(&["iperf3"])) else { return };
    for more in ["", ",reverse", ",parallel=3"] {
        let _iperf3 = start(&space, &["iperf3", "-s", "-p", "5300"], "127.0.0.1:5300");
        let to = format!("10.77.0.1:5300,seconds=1{more}");
        let mut server = Server::start(&space, &["perf-to", &to]);
        server.wait_for("Gbit/s");
        println!("{}", server.said().lines().last().unwrap_or_default());
        assert!(!server.said().contains(" 0.00 Gbit/s"));
        server.end();
    }
}

#[test]
#[ignore = "needs root"]
fn tun_wrk_against_http() {
    let Some(space) = namespace().filter(|_| have(&["wrk"])) else { return };
    let folder = space.folder().join("site");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("small"), noise(1000, 1)).unwrap();
    let server = Server::start(&space, &["http", folder.to_str().unwrap()]);
    let words = ["wrk", "-t2", "-c50", "-d2s", "http://10.77.0.2/small"];
    let out = space.run(&words).unwrap_or_else(|error| panic!("{error}"));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    println!("{text}");
    assert!(
        text.contains("Requests/sec") && !text.contains("Socket errors") && !text.contains("Non-2xx"),
        "{text}"
    );
    server.end();
}

#[test]
#[ignore = "takes long: a gigabyte"]
fn slow_curl_a_gigabyte_with_its_checksum() {
    let Some(space) = namespace().filter(|_| have(&["curl", "sha256sum"])) else { return };
    let file = space.folder().join("file");
    let bytes = noise(64 << 20, 3);
    let mut out = std::fs::File::create(&file).unwrap();
    for _ in 0..16 {
        std::io::Write::write_all(&mut out, &bytes).unwrap();
    }
    drop((out, bytes));
    let server = Server::start(&space, &["http", space.folder().to_str().unwrap()]);
    let copy = space.folder().join("copy");
    curl(&space, &["-o", copy.to_str().unwrap(), "http://10.77.0.2/file"]);
    let sum = |path: &std::path::Path| {
        let out = space.run(&["sha256sum", path.to_str().unwrap()]).unwrap();
        String::from_utf8(out.stdout).unwrap().split(' ').next().unwrap_or_default().to_owned()
    };
    assert_eq!(sum(&file), sum(&copy));
    let summary = server.end();
    println!("{summary}");
}

#[test]
#[ignore = "needs root"]
fn tun_a_peer_that_vanishes_is_given_up() {
    let Some(space) = namespace() else { return };
    // Half a second without an acknowledgement is enough.
    let server = Server::start(&space, &["source", "--setting", "user-timeout=500000000"]);
    let stream = space.inside(|| std::net::TcpStream::connect("10.77.0.2:19").unwrap()).unwrap();
    std::io::Read::read_exact(&mut &stream, &mut [0; 1000]).unwrap();
    // Nothing comes back from here on: the kernel forgets how to reach us.
    space.run(&["ip", "addr", "del", "10.77.0.1/24", "dev", "bulkhead0"]).unwrap();
    space.run(&["ip", "addr", "add", "10.99.0.1/24", "dev", "bulkhead0"]).unwrap();
    let mut waited = 0;
    let closed = loop {
        std::thread::sleep(Duration::from_millis(100));
        waited += 1;
        if server.said().contains("failed") || waited > 100 {
            break server.said();
        }
    };
    drop(stream);
    println!("{closed}");
    server.signal("INT");
    let (status, summary, said) = server.wait();
    assert!(status.success(), "{said}");
    assert_eq!(summary["ended"], 1, "{summary}");
}
