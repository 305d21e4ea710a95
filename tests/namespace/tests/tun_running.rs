//! Programs end with whoever started them, and what they made goes with them. Needs root.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bulkhead_namespace::{Namespace, Running, bound, end_with_input, patiently};

/// Names the file into which the one to be ended writes its namespace's name.
const ASKED: &str = "BULKHEAD_RUNNING_VICTIM";

#[test]
#[ignore = "needs root"]
fn tun_running_ends_in_order_or_on_drop() {
    if ignores_interrupts() {
        eprintln!(
            "skipped: whoever started this in the background has it ignore Ctrl-C, and its children with it"
        );
        return;
    }
    let space = Namespace::new().unwrap();
    let sleeper = || Running::start(space.command("sleep").arg("1000").stdin(Stdio::null())).unwrap();
    let mut one = sleeper();
    assert!(!one.has_ended());
    assert!(!one.end().unwrap().status.success());
    drop(sleeper());
    let pids = Command::new("ip").args(["netns", "pids", space.name()]).output().unwrap();
    assert!(pids.status.success() && pids.stdout.is_empty(), "{pids:?}");
}

/// Whether SIGINT (number 2) is ignored here, as shells do to what they start in the background.
fn ignores_interrupts() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(ignored.trim(), 16).unwrap() & 1 << (2 - 1) != 0
}

/// Whoever holds the other end of its input goes without a word: the process goes too, and its namespace.
#[test]
#[ignore = "needs root"]
fn tun_running_ends_with_its_input() {
    if let Some(file) = std::env::var_os(ASKED) {
        end_with_input().unwrap();
        let own = Namespace::new().unwrap();
        std::fs::write(file, own.name()).unwrap();
        own.command("sleep").arg("1000").status().unwrap();
        return;
    }
    let outer = Namespace::new().unwrap();
    let file = outer.folder().join("name");
    let mut command = bound(&std::env::current_exe().unwrap(), false);
    command.args(["--ignored", "--exact", "tun_running_ends_with_its_input"]).env(ASKED, &file);
    let mut victim = command.stdout(Stdio::null()).spawn().unwrap();
    let limit = Duration::from_secs(20);
    let name = patiently(limit, || match std::fs::read_to_string(&file) {
        Ok(name) if !name.is_empty() => Ok(name),
        other => Err(format!("{other:?}")),
    });
    let name = name.unwrap();
    assert!(Path::new("/run/netns").join(&name).exists());
    drop(victim.stdin.take());
    assert!(!victim.wait().unwrap().success());
    let gone = patiently(limit, || {
        let is_there =
            Path::new("/run/netns").join(&name).exists() || std::env::temp_dir().join(&name).exists();
        if is_there { Err(()) } else { Ok(()) }
    });
    assert!(gone.is_ok());
    let known = Command::new("ip").args(["netns", "pids", &name]).output().unwrap();
    assert!(!known.status.success(), "there is no such namespace any more");
}
