//! A hostile program inside, and an honest one beside it.

use std::collections::HashMap;
use std::net::UdpSocket;

use super::{HOST, MIB, host, inside, noise, report, said, serving};

/// What no socket would send, and sockets by the hundred.
const SCRIPT: &str = include_str!("hostile.py");
/// Descriptors of the gateway at most: connections, flows, and what it has besides.
const DESCRIPTORS: u64 = 4096 + 1024 + 128;
/// Memory of the gateway at most, in KiB: three sandboxes, the frames, and what so many connections hold.
const MEMORY_KIB: u64 = 400 << 10;

/// Runs it for so long; the honest program fetches the same file again and again meanwhile.
fn endure(seconds: u32) {
    let Some(space) = host() else { return };
    // Whoever is there does not answer: an interface that nobody reads drops what it is given.
    for line in
        ["tuntap add dev silent mode tun", "address add 203.0.113.1/24 dev silent", "link set silent up"]
    {
        space.run(&[&["ip"], &line.split(' ').collect::<Vec<_>>()[..]].concat()).unwrap();
    }
    let bytes = noise(MIB);
    let folder = space.folder().display().to_string();
    std::fs::write(space.folder().join("file"), &bytes).unwrap();
    std::fs::write(space.folder().join("hostile.py"), SCRIPT).unwrap();
    // The shell's parent is the gateway.
    let line = format!(
        "cd {folder}; ip address add 10.0.2.101/32 dev tun0; python3 hostile.py tun0 {HOST} 203.0.113. {seconds} > deeds & hostile=$!\n\
         served=0; descriptors=0\n\
         while kill -0 $hostile 2> /dev/null; do\n\
           curl -sS --fail -m 20 -o copy http://{HOST}/ && cmp copy file || exit 9\n\
           served=$((served + 1)); now=$(ls /proc/$PPID/fd | wc -l); [ $now -gt $descriptors ] && descriptors=$now\n\
         done\n\
         wait $hostile || exit 8\n\
         curl -sS --fail -m 20 -o copy http://{HOST}/ && cmp copy file || exit 7\n\
         echo served=$served descriptors=$descriptors memory=$(sed -n 's/^VmHWM:[^0-9]*\\([0-9]*\\) kB/\\1/p' /proc/$PPID/status) $(cat deeds)"
    );
    let output = serving(&space, &bytes, || inside(&space, &[], &line));
    let (said, report) = (said(&output), report(&output));
    println!("{said}\n{report}");
    let figures: HashMap<&str, u64> = said
        .split_whitespace()
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name, value.parse().unwrap()))
        .collect();
    for deed in ["malformed", "syns", "hoarded", "fragments", "flows", "scanned"] {
        assert!(figures[deed] > 200 * u64::from(seconds), "{deed}: {said}");
    }
    assert!(figures["served"] > u64::from(seconds) / 4, "{said}");
    assert!(figures["descriptors"] <= DESCRIPTORS, "{said}");
    assert!(figures["memory"] <= MEMORY_KIB, "{said}");
    assert_eq!(report["faults"], 0, "{report}");
    // What it begins and does not complete keeps no port of the host's: whoever connects would have to look for a free one
    // among them.
    let waiting = space.run(&["ss", "-Htn", "state", "time-wait", "dport", "=", ":80"]).unwrap();
    let waiting = String::from_utf8_lossy(&waiting.stdout).lines().count() as u64;
    println!("waiting={waiting}");
    assert!(waiting <= figures["served"] + 1, "{waiting} in TIME-WAIT, {said}");
    // It was held off by its bounds, and not by chance.
    assert!(report["gateway"]["given_up"].as_u64().unwrap() > 0, "{report}");
}

#[test]
#[ignore = "needs root"]
fn tun_a_hostile_program_harms_nobody_but_itself() {
    endure(6);
}

#[test]
#[ignore = "takes long: a minute"]
fn slow_a_hostile_program_for_a_minute() {
    endure(60);
}

/// One asks and waits; another opens a flow of datagrams after the other, and only then says that the first may be answered.
const FLOWS: &str = r#"
import socket, sys, time
def bound(address):
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind((address, 0))
    one.settimeout(0.05)
    return one
honest, greedy = bound("10.0.2.100"), bound("10.0.2.101")
honest.sendto(b"question", (sys.argv[1], 7))
for port in range(20000, 23000):
    greedy.sendto(b"x", (sys.argv[1], port))
    if port % 50 == 0:
        time.sleep(0.02)
for again in range(100):
    greedy.sendto(b"now", (sys.argv[1], 7))
    try:
        print(honest.recv(100).decode())
        break
    except TimeoutError:
        pass
"#;

#[test]
#[ignore = "needs root"]
fn tun_whoever_opens_many_flows_takes_none_from_others() {
    let Some(space) = host() else { return };
    std::fs::write(space.folder().join("flows.py"), FLOWS).unwrap();
    let socket = space.inside(|| UdpSocket::bind((HOST, 7)).unwrap()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut bytes, mut asked) = ([0; 100], None);
            while let Ok((count, from)) = socket.recv_from(&mut bytes) {
                match &bytes[..count] {
                    b"question" => asked = Some(from),
                    b"now" => drop(asked.map(|to| socket.send_to(b"answer", to))),
                    _ => return,
                }
            }
        });
        let script = space.folder().join("flows.py").display().to_string();
        let line = format!("ip address add 10.0.2.101/32 dev tun0; python3 {script} {HOST}");
        let output = inside(&space, &[], &line);
        space.inside(|| UdpSocket::bind((HOST, 0)).unwrap().send_to(b"end", (HOST, 7)).unwrap()).unwrap();
        assert_eq!(said(&output), "answer");
        let report = report(&output);
        // More than there may be at a time.
        assert!(report["gateway"]["udp_flows"].as_u64().unwrap() > 1500, "{report}");
    });
}
