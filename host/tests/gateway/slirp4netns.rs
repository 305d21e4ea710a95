//! Called as rootless tools call slirp4netns: by its name, with its words, and with descriptors.

use std::fs::File;
use std::io::{PipeWriter, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};

use bulkhead_namespace::Namespace;
use rustix::fd::AsRawFd as _;
use rustix::io::{FdFlags, fcntl_setfd};

use super::{HOST, HOST_V6, PROGRAM, host, serving};

/// What a container's runtime keeps: a process in a network namespace of its own.
struct Container(Child);

impl Container {
    fn new(space: &Namespace) -> Self {
        let child = space.command("unshare").args(["--net", "sleep", "1000"]).stdout(Stdio::null()).spawn();
        let child = child.unwrap();
        // Until the namespace is another one.
        let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        let ours = space.inside(|| of("thread-self")).unwrap();
        while of(&child.id().to_string()) == ours {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Self(child)
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    /// What a line of shell prints in it.
    fn says(&self, line: &str) -> String {
        let output = Command::new("nsenter")
            .args([&format!("--net={}", self.path()), "sh", "-c", line])
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// It runs, and its network is there; it ends when the writer is dropped.
struct Running {
    child: Child,
    _exit: PipeWriter,
}

impl Running {
    fn new(space: &Namespace, words: &[&str]) -> Self {
        let name = space.folder().join("slirp4netns");
        let _ = symlink(PROGRAM, &name);
        let (mut is_ready, ready) = std::io::pipe().unwrap();
        let (exits, exit) = std::io::pipe().unwrap();
        for inherited in [ready.as_fd(), exits.as_fd()] {
            fcntl_setfd(inherited, FdFlags::empty()).unwrap();
        }
        let child = space
            .command(&name)
            .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
            .args(["-r", &ready.as_raw_fd().to_string(), "-e", &exits.as_raw_fd().to_string()])
            .args(words)
            .stderr(File::create(space.folder().join("said")).unwrap())
            .spawn()
            .unwrap();
        drop((ready, exits));
        let mut word = String::new();
        is_ready.read_to_string(&mut word).unwrap();
        let said = std::fs::read_to_string(space.folder().join("said")).unwrap();
        // One character, and then the descriptor is closed, though the program goes on.
        assert_eq!(word, "1", "{said}");
        Self { child, _exit: exit }
    }

    fn end(self) {
        let Self { mut child, _exit: exit } = self;
        assert!(child.try_wait().unwrap().is_none(), "it has ended by itself");
        drop(exit);
        assert!(child.wait().unwrap().success());
    }
}

#[test]
#[ignore = "needs root"]
fn tun_as_podman_calls_it() {
    let Some(space) = host() else { return };
    let container = Container::new(&space);
    let path = container.path();
    let words = [
        "--disable-host-loopback",
        "--mtu=65520",
        "--enable-sandbox",
        "--enable-seccomp",
        "--enable-ipv6",
        "-c",
        "--netns-type=path",
        &path,
        "tap0",
    ];
    let running = Running::new(&space, &words);
    assert!(container.says("ip -o link show tap0").contains("mtu 65520"));
    assert!(container.says("ip -o -4 address show tap0").contains("10.0.2.100/24"));
    assert!(container.says("ip -o link show lo").contains("UP"));
    let got = serving(&space, b"by another name", || {
        [format!("http://{HOST}/"), format!("http://[{HOST_V6}]/")]
            .map(|url| container.says(&format!("curl -sS --fail '{url}'")))
    });
    assert_eq!(got, ["by another name", "by another name"]);
    running.end();
    // The interface is gone with it.
    assert!(!container.says("ip -o link").contains("tap0"));
}

#[test]
#[ignore = "needs root"]
fn tun_by_process_id_with_another_network_and_without_configuration() {
    let Some(space) = host() else { return };
    let container = Container::new(&space);
    let pid = container.0.id().to_string();
    let running = Running::new(&space, &["--cidr=10.9.0.0/16", "--disable-dns", &pid, "eth0"]);
    // Who does not say -c sees to it himself.
    assert_eq!(container.says("ip -o -4 address show eth0"), "");
    container
        .says("ip address add 10.9.0.100/16 dev eth0; ip link set eth0 up; ip route add default dev eth0");
    let got = serving(&space, b"bare", || container.says(&format!("curl -sS --fail http://{HOST}/")));
    assert_eq!(got, "bare");
    running.end();
}

#[test]
fn what_is_not_served_is_refused_with_a_word() {
    for (words, error) in [
        (&["--api-socket=/tmp/x", "1"][..], "--api-socket is not served"),
        (&["--macaddress=02:00:00:00:00:01", "1"], "no MAC address"),
        (&["/proc/1/ns/net"], "--netns-type=path"),
        (&["--ready-fd=77", "1"], "no descriptor 77"),
        (&["--cidr=10.0.2.0/30", "1"], "8 to 25 bits"),
    ] {
        let output = Command::new(PROGRAM).arg("slirp4netns").args(words).output().unwrap();
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(error), "{words:?}: {said}");
    }
    // What tools look for before they call it.
    let help = Command::new(PROGRAM).args(["slirp4netns", "--help"]).output().unwrap().stdout;
    let help = String::from_utf8_lossy(&help).into_owned();
    for word in [
        "--disable-host-loopback",
        "--mtu",
        "--enable-sandbox",
        "--enable-seccomp",
        "--netns-type",
        "--enable-ipv6",
        "--cidr",
        "--outbound-addr",
    ] {
        assert!(help.contains(word), "{word}");
    }
}
