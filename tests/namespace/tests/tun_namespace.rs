//! A namespace is a network of its own, and is gone afterwards. Needs root.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bulkhead_namespace::Namespace;

fn exists(name: &str) -> bool {
    Path::new("/run/netns").join(name).exists()
}

/// Something that ends sooner or later, waited for with a bound that only a failure reaches.
fn eventually(what: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        if what() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

#[test]
#[ignore = "needs root"]
fn tun_namespace_is_a_network_of_its_own() {
    let one = Namespace::new().unwrap();
    let two = Namespace::new().unwrap();
    let listener = one.inside(|| TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
    let at = listener.local_addr().unwrap();
    assert!(one.inside(|| TcpStream::connect(at)).unwrap().is_ok());
    assert!(two.inside(|| TcpStream::connect(at)).unwrap().is_err());
    assert!(two.run(&["ip", "link", "set", "nothing", "up"]).is_err());
}

#[test]
#[ignore = "needs root"]
fn tun_namespace_goes_with_all_that_runs_inside() {
    let own = Namespace::new().unwrap();
    let (name, folder) = (own.name().to_owned(), own.folder().to_owned());
    std::fs::write(folder.join("file"), b"text").unwrap();
    let mut child = own.command("sleep").arg("1000").spawn().unwrap();
    assert!(exists(&name));
    // `ip` is on its way inside: what is not there yet cannot be found there.
    let pids = || Command::new("ip").args(["netns", "pids", &name]).output().unwrap().stdout;
    assert!(eventually(|| !pids().is_empty()));
    drop(own);
    assert!(!exists(&name) && !folder.exists());
    assert!(!child.wait().unwrap().success());
}

/// The process that made the namespace is killed with no chance to clear away.
#[test]
#[ignore = "needs root"]
fn tun_namespace_goes_with_a_killed_process() {
    const ASKED: &str = "BULKHEAD_NAMESPACE_VICTIM";
    if let Some(file) = std::env::var_os(ASKED) {
        // We are the one to be killed.
        let own = Namespace::new().unwrap();
        std::fs::write(PathBuf::from(file), own.name()).unwrap();
        own.command("sleep").arg("1000").status().unwrap();
        return;
    }
    let outer = Namespace::new().unwrap();
    let file = outer.folder().join("name");
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "tun_namespace_goes_with_a_killed_process"])
        .env(ASKED, &file)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let name = || std::fs::read_to_string(&file).unwrap_or_default();
    let is_there = eventually(|| !name().is_empty());
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(is_there);
    let folder = std::env::temp_dir().join(name());
    assert!(eventually(|| !exists(&name()) && !folder.exists()));
}
