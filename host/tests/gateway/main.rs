//! `bulkhead gateway` with programs that know nothing of it, in a namespace that plays the host.

mod confined;
mod hostile;
mod machine;
mod many;
mod programs;
#[path = "../real_programs/programs.rs"]
mod real;
mod slirp4netns;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bulkhead_namespace::Namespace;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_bulkhead");
/// An address that the host has, and that is no loopback.
const HOST: &str = "198.51.100.1";
const HOST_V6: &str = "2001:db8::1";
const MIB: usize = 1 << 20;

/// A namespace that plays the host; says so where there can be none.
fn host() -> Option<Namespace> {
    if !Path::new("/dev/net/tun").exists() {
        eprintln!("skipped: there is no /dev/net/tun here");
        return None;
    }
    let space = match Namespace::new() {
        Ok(space) => space,
        Err(error) => {
            eprintln!("skipped: no network namespace can be made here (it needs root): {error}");
            return None;
        }
    };
    space.run(&["ip", "address", "add", &format!("{HOST}/32"), "dev", "lo"]).unwrap();
    // There at once, without looking for a duplicate first.
    space.run(&["ip", "address", "add", &format!("{HOST_V6}/128"), "dev", "lo", "nodad"]).unwrap();
    Some(space)
}

fn command(space: &Namespace) -> Command {
    let mut command = space.command(PROGRAM);
    command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR")).stdin(Stdio::null());
    command.args(["gateway", "--json"]);
    command
}

/// Runs a line of shell inside.
fn inside(space: &Namespace, options: &[&str], line: &str) -> Output {
    command(space).args(options).args(["--", "sh", "-c", line]).output().unwrap()
}

/// What it printed, when all was well.
fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The exit code; whoever was ended by a signal has none.
fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

/// What the gateway tells at its end.
fn report(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stderr);
    let from = text.find('{').unwrap_or_else(|| panic!("no report: {text}"));
    serde_json::from_str(&text[from..]).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Says that it is over when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A web server of one file for as long as `work` lasts.
fn serving<T: Send>(space: &Namespace, bytes: &[u8], work: impl FnOnce() -> T + Send) -> T {
    let listeners = space
        .inside(|| [TcpListener::bind((HOST, 80)).unwrap(), TcpListener::bind((HOST_V6, 80)).unwrap()])
        .unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for listener in &listeners {
            listener.set_nonblocking(true).unwrap();
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let Ok((mut stream, _)) = listener.accept() else {
                        std::thread::sleep(Duration::from_millis(1));
                        continue;
                    };
                    scope.spawn(move || {
                        stream.set_nonblocking(false).unwrap();
                        let mut asked = Vec::new();
                        let mut some = [0; 4096];
                        while !asked.windows(4).any(|four| four == b"\r\n\r\n") {
                            match stream.read(&mut some) {
                                Ok(count) if count > 0 => asked.extend_from_slice(&some[..count]),
                                _ => return,
                            }
                        }
                        let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len());
                        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(bytes));
                    });
                }
            });
        }
        // Also when it panics: the scope waits for its threads.
        let _over = Over(&is_over);
        work()
    })
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x1234_5678_9abc_def1_u64;
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

#[test]
#[ignore = "needs root"]
fn tun_a_program_that_knows_nothing_reaches_what_the_host_reaches() {
    let Some(space) = host() else { return };
    let bytes = noise(64 * MIB);
    let file = space.folder().join("file");
    std::fs::write(&file, &bytes).unwrap();
    serving(&space, &bytes, || {
        for url in [format!("http://{HOST}/"), format!("http://[{HOST_V6}]/")] {
            let copy = space.folder().join("copy");
            let line = format!("curl -sS --fail -o {} '{url}'", copy.display());
            let output = inside(&space, &[], &line);
            said(&output);
            assert!(std::fs::read(&copy).unwrap() == bytes, "{url}: the copy differs");
            let report = report(&output);
            assert!(report["gateway"]["bytes_in"].as_u64().unwrap() > bytes.len() as u64, "{report}");
            assert_eq!((&report["gateway"]["connections"], &report["faults"]), (&1.into(), &0.into()));
        }
        // Many at a time; each is short, and none is lost.
        let line =
            format!("curl -sS --fail -Z --parallel-max 100 -o /dev/null -r 0-99 'http://{HOST}/?[1-100]'");
        said(&inside(&space, &[], &line));
    });
}

#[test]
#[ignore = "needs root"]
fn tun_what_the_host_is_refused_the_inside_is_refused_in_kind() {
    let Some(space) = host() else { return };
    space.run(&["ip", "route", "add", "unreachable", "203.0.113.0/24"]).unwrap();
    let curl = |options: &[&str], to: &str| {
        let output = inside(&space, options, &format!("curl -sS -m 20 http://{to}/"));
        (String::from_utf8_lossy(&output.stderr).into_owned(), report(&output)["gateway"].clone())
    };
    for (options, to, counter) in [
        (&[][..], format!("{HOST}:81"), "failed"),
        (&[], "203.0.113.5".into(), "failed"),
        (&[], "10.0.2.2".into(), "denied"),
        (&["--deny", HOST], HOST.into(), "denied"),
        (&["--allow", "192.0.2.0/24"], HOST.into(), "denied"),
        (&["--deny", ":80-90"], HOST.into(), "denied"),
    ] {
        let (error, report) = curl(options, &to);
        // At once, and not by a timeout (28).
        assert!(error.contains("curl: (7)"), "{to} {options:?}: {error}");
        assert!(
            report[counter].as_u64().unwrap() >= 1 && report["connections"] == 0,
            "{to} {options:?}: {report}"
        );
    }
}

/// Sends a datagram by a connected socket that hears every ICMP error, and prints what it hears.
const KNOCK: &str = r#"
import errno, socket, sys
for to in sys.argv[1:]:
    v6 = ":" in to
    one = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    one.setsockopt(socket.IPPROTO_IPV6 if v6 else socket.IPPROTO_IP, 25 if v6 else 11, 1)
    one.settimeout(10)
    one.connect((to, 9))
    one.send(b"is anybody there?")
    try:
        print(one.recv(100))
    except OSError as error:
        print(errno.errorcode.get(error.errno, error))
"#;

#[test]
#[ignore = "needs root"]
fn tun_what_the_host_is_told_of_datagrams_the_inside_is_told_in_kind() {
    let Some(space) = host() else { return };
    space.run(&["ip", "route", "add", "unreachable", "203.0.113.0/24"]).unwrap();
    let script = space.folder().join("knock.py");
    std::fs::write(&script, KNOCK).unwrap();
    let knock = |options: &[&str], to: &[&str]| {
        let output = inside(&space, options, &format!("python3 {} {}", script.display(), to.join(" ")));
        said(&output).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let heard = knock(&[], &[HOST, HOST_V6, "203.0.113.5"]);
    assert_eq!(heard, ["ECONNREFUSED", "ECONNREFUSED", "EHOSTUNREACH"]);
    // What ICMP calls prohibited, Linux calls so.
    assert_eq!(knock(&["--deny", ":9"], &[HOST, HOST_V6]), ["EHOSTUNREACH", "EACCES"]);
}

#[test]
#[ignore = "needs root"]
fn tun_the_hosts_loopback_is_reached_only_where_it_was_said() {
    let Some(space) = host() else { return };
    let listener = space.inside(|| TcpListener::bind("127.0.0.1:82").unwrap()).unwrap();
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 16]).unwrap();
        stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 8\r\n\r\nloopback").unwrap();
        // Whatever is left of the question is read, so that the end is no reset.
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let line = "curl -sS --fail http://10.0.2.2:82/";
    assert_eq!(code(&inside(&space, &[], line)), 7);
    assert_eq!(said(&inside(&space, &["--host-loopback"], line)), "loopback");
    asked.join().unwrap();
}

#[test]
#[ignore = "needs root"]
fn tun_the_programs_end_is_the_gateways() {
    let Some(space) = host() else { return };
    assert_eq!(code(&inside(&space, &[], "exit 7")), 7);
    assert_eq!(code(&inside(&space, &[], "kill -TERM $$")), 128 + 15);
    let missing = command(&space).args(["--", "/nowhere/program"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(127), "{missing:?}");
    // What was made for the session is gone with it.
    let folder = space.folder().join("runtime");
    std::fs::create_dir(&folder).unwrap();
    let output =
        command(&space).env("XDG_RUNTIME_DIR", &folder).args(["--", "cat", "/etc/resolv.conf"]).output();
    assert_eq!(said(&output.unwrap()), "nameserver 10.0.2.3\noptions edns0");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
}

/// Answers every question with one address.
fn name_server(socket: &UdpSocket) {
    let mut bytes = [0; 2048];
    while let Ok((count, from)) = socket.recv_from(&mut bytes) {
        if &bytes[..count] == b"end" {
            return;
        }
        let Some(end) = bytes[12..count].iter().position(|byte| *byte == 0) else { continue };
        let question = 12..12 + end + 5;
        let is_v4 = bytes[question.end - 4..question.end - 2] == [0, 1];
        let mut answer = bytes[..2].to_vec();
        answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_v4), 0, 0, 0, 0]);
        answer.extend(&bytes[question]);
        if is_v4 {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 51, 100, 1]);
        }
        socket.send_to(&answer, from).unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn tun_names_and_datagrams() {
    let Some(space) = host() else { return };
    let socket = space.inside(|| UdpSocket::bind((HOST, 53)).unwrap()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| name_server(&socket));
        let output = serving(&space, b"by name", || {
            inside(&space, &["--dns", HOST], "curl -sS --fail http://some.name.example/")
        });
        assert_eq!(said(&output), "by name");
        let report = report(&output);
        assert!(report["gateway"]["datagrams_in"].as_u64().unwrap() >= 1, "{report}");
        space.inside(|| UdpSocket::bind((HOST, 0)).unwrap().send_to(b"end", (HOST, 53)).unwrap()).unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn tun_a_port_of_the_hosts_leads_inside() {
    let Some(space) = host() else { return };
    let bytes = noise(MIB);
    std::fs::write(space.folder().join("file"), &bytes).unwrap();
    let folder = space.folder().to_str().unwrap();
    let server = ["python3", "-m", "http.server", "80", "--directory", folder];
    let mut child = command(&space)
        .args(["-p", "8080:80", "--"])
        .args(server)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let got = space
        .run(&[
            "curl",
            "-sS",
            "--retry",
            "40",
            "--retry-all-errors",
            "--retry-delay",
            "1",
            "http://127.0.0.1:8080/file",
        ])
        .unwrap()
        .stdout;
    assert!(got == bytes, "{} bytes", got.len());
    // A signal to the gateway reaches the program, and its end is told.
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
}

/// The mode that other machines have; put back at the end.
struct OpenToAll(u32);

impl OpenToAll {
    fn new() -> Self {
        let before = std::fs::metadata("/dev/net/tun").unwrap().permissions().mode();
        std::fs::set_permissions("/dev/net/tun", std::fs::Permissions::from_mode(0o666)).unwrap();
        Self(before)
    }
}

impl Drop for OpenToAll {
    fn drop(&mut self) {
        let _ = std::fs::set_permissions("/dev/net/tun", std::fs::Permissions::from_mode(self.0));
    }
}

#[test]
#[ignore = "needs root"]
fn tun_an_ordinary_user_needs_nobodys_help() {
    let Some(space) = host() else { return };
    // Where an ordinary user may read it, whatever the checkout's folder allows.
    let program = space.folder().join("bulkhead");
    std::fs::copy(PROGRAM, &program).unwrap();
    for path in [space.folder(), &program] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let run = |line: &str| {
        let user =
            ["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"];
        let mut command = space.command("setpriv");
        command.args(user).arg(&program).args(["gateway", "--", "sh", "-c", line]);
        command.env_remove("XDG_RUNTIME_DIR").env("XDG_CACHE_HOME", "/nonexistent").output().unwrap()
    };
    let open = OpenToAll::new();
    let output = serving(&space, b"without root", || run(&format!("id -u; curl -sS --fail http://{HOST}/")));
    if String::from_utf8_lossy(&output.stderr).contains("unshare failed") {
        eprintln!("skipped: this kernel gives ordinary users no user namespaces");
        return;
    }
    assert_eq!(said(&output), "65534\nwithout root");
    drop(open);
    if std::fs::metadata("/dev/net/tun").unwrap().permissions().mode() & 0o006 == 0 {
        let closed = run("true");
        assert_eq!(closed.status.code(), Some(125));
        let error = String::from_utf8_lossy(&closed.stderr).into_owned();
        assert!(error.contains("chmod 666 /dev/net/tun"), "{error}");
    }
}

#[test]
#[ignore = "needs root"]
fn tun_beyond_its_bounds_it_refuses_and_serves_the_others() {
    let Some(space) = host() else { return };
    // A program that holds what it is given, and one that only wants a file.
    let hold = format!(
        "import socket,time\nheld=[]\nfor n in range(60):\n  s=socket.socket()\n  s.settimeout(5)\n  try:\n    \
         s.connect(('{HOST}',80)); s.sendall(b'GET'); held.append(s)\n  except OSError: s.close()\ntime.sleep(0.2)\n\
         refused=0\nfor s in held:\n  s.settimeout(0.05)\n  try:\n    refused+=s.recv(1)==b''\n  except TimeoutError: pass\n  \
         except OSError: refused+=1\nprint(len(held)-refused)\n[s.close() for s in held]"
    );
    let script = space.folder().join("hold.py");
    std::fs::write(&script, hold).unwrap();
    let output = serving(&space, b"the others", || {
        let line = format!(
            "python3 {}; sleep 0.3; curl -sS --fail --retry 5 --retry-all-errors http://{HOST}/",
            script.display()
        );
        inside(&space, &["--connections", "20"], &line)
    });
    assert_eq!(said(&output), "20\nthe others");
    let report = report(&output);
    assert_eq!(report["gateway"]["refused"], 40, "{report}");
}
