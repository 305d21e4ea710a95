//! The filter of system calls has to let everything pass that the gateway does: seen from outside, by strace.

use std::process::Command;

use super::{HOST, MIB, PROGRAM, host, inside, noise, report, said, serving};

/// The gateway's own calls since it was confined, as strace tells them, with their results.
fn calls_since(trace: &str) -> Vec<&str> {
    // Threads of one process share the filter; the program inside and what came before have other ids or come earlier.
    let confined = trace.lines().rfind(|line| line.contains("seccomp(SECCOMP_SET_MODE_FILTER")).unwrap();
    let from = trace.find(confined).unwrap();
    let pid = confined.split_whitespace().next().unwrap();
    trace[from..].lines().filter(|line| line.split_whitespace().next() == Some(pid)).collect()
}

#[test]
#[ignore = "needs root"]
fn tun_no_call_that_it_makes_is_refused() {
    if Command::new("strace").arg("-V").output().is_err() {
        eprintln!("skipped: strace is not installed");
        return;
    }
    let Some(space) = host() else { return };
    let (trace, bytes) = (space.folder().join("trace"), noise(4 * MIB));
    // Down, refused, denied, datagrams, many at once.
    let line = format!(
        "curl -sS --fail -o /dev/null http://{HOST}/; curl -sS -m 5 http://{HOST}:81/; curl -sS -m 5 http://10.0.2.2/; \
         curl -sS --fail -Z --parallel-max 20 -o /dev/null -r 0-99 'http://{HOST}/?[1-20]'; \
         python3 -c \"import socket; s=socket.socket(2,2); s.sendto(b'x', ('{HOST}', 9))\"; true"
    );
    let output = serving(&space, &bytes, || {
        space
            .command("strace")
            .args(["-f", "-qq", "-o"])
            .arg(&trace)
            .arg(PROGRAM)
            .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
            .args(["gateway", "-p", "8080:80", "--dns", HOST, "--json", "--", "sh", "-c", &line])
            .output()
            .unwrap()
    });
    said(&output);
    let trace = std::fs::read_to_string(&trace).unwrap();
    let calls = calls_since(&trace);
    assert!(calls.len() > 100, "{} calls were seen", calls.len());
    let is_refused = |line: &&&str| line.contains("EPERM") || line.contains("SIGSYS");
    let refused: Vec<&&str> = calls.iter().filter(is_refused).take(20).collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

/// The hostile module's setting: it panics over acknowledgements whose number, with the timestamp, is a multiple of this.
const PANICS: &str = "61443=509";
/// Downloads at most until one met a fault: which numbers are acknowledged is the kernel's affair.
const DOWNLOADS: u32 = 20;

#[test]
#[ignore = "needs root"]
fn tun_a_module_that_panics_is_followed_by_another_and_no_download_notices() {
    let Some(space) = host() else { return };
    let guests = std::env::var("BULKHEAD_GUESTS")
        .unwrap_or_else(|_| concat!(env!("CARGO_TARGET_TMPDIR"), "/../guests").to_owned());
    let module = format!("{guests}/hostile-guest.wasm");
    let (bytes, copy) = (noise(64 * MIB), space.folder().join("copy"));
    let line = format!("curl -sS --fail -o {} http://{HOST}/", copy.display());
    serving(&space, &bytes, || {
        for _ in 0..DOWNLOADS {
            let output = inside(&space, &["--module", &module, "--setting", PANICS], &line);
            said(&output);
            assert!(std::fs::read(&copy).unwrap() == bytes, "the copy differs");
            if report(&output)["faults"].as_u64().unwrap() > 0 {
                return;
            }
        }
        panic!("no acknowledgement was poison in {DOWNLOADS} downloads");
    });
}
