//! What is particular to a module in a process of its own: how its ends are told, and that nothing of it stays behind.

use super::common::{SERVER, address, builder, connected};
use bulkhead::Fault;
use bulkhead::fault::{Ending, Lost};
use bulkhead::net::pair;
use bulkhead::placement::Instance as _;
use bulkhead::placement::process::{Launch, Process};
use bulkhead_wit::Module as _;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The variable that makes of a test a host which is to be killed.
const HOST: &str = "BULKHEAD_TEST_HOST";

fn launch() -> Launch {
    Launch::new(env!("CARGO_BIN_EXE_bulkhead"), ["serve-module"])
}

fn signal(id: u32, signal: Signal) {
    kill_process(Pid::from_raw(id as i32).unwrap(), signal).unwrap();
}

/// Lines of a process's status; nothing once it is gone.
fn status(id: u32, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// It ends some time; how soon is the system's affair.
fn ends(id: u32) {
    let begun = Instant::now();
    while status(id, "State").is_some_and(|state| !state.starts_with('Z')) {
        assert!(begun.elapsed() < Duration::from_secs(30), "process {id} is there still");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_server_has_no_privileges() {
    let process = Process::new(&launch()).unwrap();
    let id = process.id().unwrap();
    assert_eq!(*process.description(), bulkhead_tcp::Tcp::new().describe());
    assert_eq!(status(id, "NoNewPrivs").unwrap(), "1");
    assert_eq!(status(id, "Seccomp").unwrap(), "2");
    assert_eq!(status(id, "CapEff").unwrap(), "0000000000000000");
    if rustix::process::geteuid().is_root() {
        assert_eq!(status(id, "Uid").unwrap(), "65534 65534 65534 65534");
        assert_eq!(status(id, "Groups").unwrap_or_default(), "");
    }
    drop(process);
    ends(id);
}

#[test]
fn what_is_no_server_is_told() {
    let nothing = Process::new(&Launch::new("/nonexistent/program", [""])).unwrap_err();
    assert!(nothing.to_string().starts_with("the module's process did not start: /nonexistent"), "{nothing}");
    let other = Process::new(&Launch::new("/bin/false", [""])).unwrap_err();
    assert_eq!(other, Fault::Lost(Lost::ended(None, Some(1), String::new())));
    let alone = Command::new(env!("CARGO_BIN_EXE_bulkhead")).arg("serve-module").output().unwrap();
    assert!(!alone.status.success());
    assert!(String::from_utf8_lossy(&alone.stderr).contains("started by bulkhead itself"));
}

#[test]
fn a_stopped_server_is_ended() {
    let mut process = Process::new(&launch()).unwrap();
    let id = process.id().unwrap();
    signal(id, Signal::STOP);
    let fault = process.save().unwrap_err();
    assert!(matches!(fault, Fault::Lost(Lost { ending: Ending::Silent { .. }, .. })), "{fault}");
    assert_eq!(process.save(), Err(Fault::Ended));
    ends(id);
}

/// Does nothing among the other tests. Asked by the next one, it has a server and waits to be killed.
#[test]
fn a_host_that_waits() {
    if std::env::var_os(HOST).is_none() {
        return;
    }
    let process = Process::new(&launch()).unwrap();
    println!("server {}", process.id().unwrap());
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn nothing_stays_behind_a_host_that_is_killed() {
    let mut host = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "process::servers::a_host_that_waits"])
        .env(HOST, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(host.stdout.take().unwrap()).lines().map_while(Result::ok);
    let id = lines.find_map(|line| line.split_once("server ")?.1.parse().ok()).unwrap();
    assert!(status(id, "State").is_some());
    host.kill().unwrap();
    host.wait().unwrap();
    ends(id);
}

/// Connections of a killed server are told, listeners go on with the next one.
#[tokio::test]
async fn a_killed_server_is_replaced_and_no_connection_notices() {
    let (first, second) = pair(1500).unwrap();
    let process = || Process::new(&launch()).map(Box::new);
    let instance = process().unwrap();
    let id = instance.id().unwrap();
    let server = builder(first, "10.9.0.1", 1)
        .instance(instance)
        .restarted_by(Box::new(move || Ok(process()?)))
        .spawn()
        .unwrap();
    let client = builder(second, "10.9.0.2", 2).spawn().unwrap();
    let (listener, mut accepted, mut stream) = connected(&server, &client).await;
    stream.write_all(b"x").await.unwrap();
    assert_eq!(accepted.read_u8().await.unwrap(), b'x');
    signal(id, Signal::KILL);
    stream.write_all(b"x").await.unwrap();
    assert_eq!(accepted.read_u8().await.unwrap(), b'x');
    let incident = server.stat().incidents[0].clone();
    assert!(format!("{:?}", incident.fault).contains("Killed { signal: 9 }"), "{incident:?}");
    assert!(incident.recovered && incident.streams == 0, "{incident:?}");
    drop((accepted, stream));
    let (accepted, connected) = tokio::join!(listener.accept(), client.connect(address(SERVER)));
    let (mut accepted, mut stream) = (accepted.unwrap().0, connected.unwrap());
    stream.write_all(b"again").await.unwrap();
    let mut bytes = [0; 5];
    accepted.read_exact(&mut bytes).await.unwrap();
    assert_eq!((&bytes, server.stat().faults), (b"again", 1));
}
