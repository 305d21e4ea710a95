//! `bulkhead reseed`, over the control socket.

use bulkhead_namespace::Namespace;

use super::server::{Server, curl, namespace, program};

/// The sequence numbers of the SYNs that the stack has sent, in a capture of raw IP.
fn initial_sequence_numbers(capture: &[u8]) -> Vec<u32> {
    let mut found = Vec::new();
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().unwrap());
    let mut rest = &capture[24..];
    while !rest.is_empty() {
        let (header, more) = rest.split_at(16);
        let (frame, more) = more.split_at(word(&header[8..]) as usize);
        rest = more;
        // IPv4, TCP, ours.
        if frame[0] >> 4 != 4 || frame[9] != 6 || frame[12..16] != [10, 77, 0, 2] {
            continue;
        }
        let segment = &frame[usize::from(frame[0] & 15) * 4..];
        if segment[13] & 2 != 0 {
            found.push(u32::from_be_bytes(segment[4..8].try_into().unwrap()));
        }
    }
    found
}

fn reseed(space: &Namespace, control: &str) {
    let output = program(Some(space)).args(["reseed", "--control", control]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("connections to come have other secrets"), "{said}");
}

/// What connections between the same ends begin with, under the same seed.
fn begin_with(is_reseeded: bool) -> Option<Vec<u32>> {
    let space = namespace()?;
    let (file, control) = (space.folder().join("wire.pcap"), space.folder().join("control"));
    let site = space.folder().join("site");
    std::fs::create_dir(&site).unwrap();
    let (name, control) = (file.to_str().unwrap(), control.to_str().unwrap());
    let words = ["http", site.to_str().unwrap(), "--seed", "7", "--pcap", name, "--control", control];
    let server = Server::start(&space, &words);
    if is_reseeded {
        reseed(&space, control);
    }
    for port in 4000..4003 {
        let port = port.to_string();
        curl(&space, &["--local-port", &port, "http://10.77.0.2/"]);
    }
    server.end();
    let numbers = initial_sequence_numbers(&std::fs::read(file).unwrap());
    assert_eq!(numbers.len(), 3);
    Some(numbers)
}

/// They go up with the clock, by 250 a millisecond (RFC 9293 3.4.1): two that differ by a minute's worth or less are the same.
fn are_same(first: &[u32], other: &[u32]) -> bool {
    let distance = |(one, other): (&u32, &u32)| one.wrapping_sub(*other).min(other.wrapping_sub(*one));
    first.iter().zip(other).all(|both| distance(both) < 60 * 250_000)
}

#[test]
#[ignore = "needs root"]
fn tun_connections_after_a_reseed_do_not_follow_from_the_seed() {
    let Some(first) = begin_with(false) else { return };
    let (again, reseeded) = (begin_with(false).unwrap(), begin_with(true).unwrap());
    assert!(are_same(&first, &again), "{first:?} {again:?}");
    // That all three are the same by chance happens once in three million runs.
    assert!(!are_same(&first, &reseeded), "{first:?} {reseeded:?}");
}
