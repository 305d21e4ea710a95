//! What is wrong is told in one line with what to do, and the exit code is not 0.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};

use super::server::{Server, namespace, program};

/// One line that says all of this, and this exit code.
fn told(mut command: Command, code: i32, says: &[&str]) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let error = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(code), "{command:?}: {error}");
    assert!(stdout.is_empty() && !error.contains("panicked"), "{command:?}: {error}");
    assert_eq!(error.lines().count(), 1, "{command:?}: {error}");
    for text in says {
        assert!(error.contains(text), "{command:?}: {text:?} is not in {error:?}");
    }
}

fn bulkhead(words: &[&str]) -> Command {
    let mut command = program(None);
    command.args(words);
    command
}

/// A folder of this test's own.
fn folder(name: &str) -> std::path::PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn files_that_are_no_modules_are_told_apart() {
    let folder = folder("modules");
    let cases: &[(&str, &[u8], &str)] = &[
        ("empty.wasm", b"", "is empty"),
        ("text.wasm", b"(component)\n", "is text"),
        ("other.wasm", b"\x7fELF\x02\x01\x01\0\0\0\0\0", "is not WebAssembly"),
        ("core.wasm", b"\0asm\x01\0\0\0", "core module, not a component"),
        ("nothing.wasm", b"\0asm\x0d\0\x01\0", "no protocol module"),
    ];
    for (name, bytes, says) in cases {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        let path = path.to_str().unwrap();
        for words in [vec!["inspect", path], vec!["run", "echo", "--module", path]] {
            told(bulkhead(&words), 1, &["bulkhead: ", name, says]);
        }
    }
    told(bulkhead(&["inspect", "/no/such.wasm"]), 1, &["/no/such.wasm", "cannot be read"]);
}

#[test]
fn another_contract_and_more_imports_than_allowed_are_told() {
    const MODULE: &[u8] = include_bytes!(env!("BULKHEAD_TCP_MODULE"));
    const OURS: &[u8] = b"bulkhead:protocol/protocol@1.0.0";
    // The same module, but for the version that it says it speaks; all names have the same length.
    let versioned = |version: &[u8; 5]| {
        let mut module = MODULE.to_vec();
        while let Some(at) = module.windows(OURS.len()).position(|window| window == OURS) {
            module[at + OURS.len() - version.len()..][..version.len()].copy_from_slice(version);
        }
        module
    };
    // A section of one import, `clock`, a resource type, behind what is there.
    let import = b"\x0a\x0a\x01\0\x05clock\x03\x01";
    let folder = folder("contracts");
    for (name, bytes, says) in [
        ("newer.wasm", versioned(b"2.0.0"), ["protocol@2.0.0", "protocol@1.0.0"]),
        ("older.wasm", versioned(b"0.9.0"), ["protocol@0.9.0", "protocol@1.0.0"]),
        ("clock.wasm", [MODULE, import.as_slice()].concat(), ["may: clock", "may import nothing"]),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        let path = path.to_str().unwrap();
        for words in [vec!["inspect", path], vec!["run", "echo", "--module", path]] {
            told(bulkhead(&words), 1, &["bulkhead: ", name, says[0], says[1]]);
        }
    }
}

#[test]
fn lines_that_make_no_sense_are_wrong_usage() {
    for (words, says) in [
        (&["run", "smtp"][..], "no such application; there are echo"),
        (&["run", "http"], "needs the directory"),
        (&["run", "echo:99999"], "no port"),
        (&["run", "echo:80", "http", "."], "cannot share port 80"),
        (&["run", "echo", "--peer-address", "10.1.1.1"], "in no network of --address"),
        (&["run", "echo", "--peer-address", "10.77.0.2"], "cannot be both"),
        (&["run", "echo", "--address", "10.1.0.2/24", "--address", "10.2.0.2/24"], "one network"),
        (&["run", "echo", "--placement", "native", "--module", "x.wasm"], "leave out --module"),
    ] {
        told(bulkhead(words), 2, &["bulkhead: ", says]);
    }
    // These are the argument parser's own words, which take more than a line.
    for words in [&["run"][..], &["run", "echo", "--mtu", "9"], &["run", "echo", "--address", "x"], &["fly"]]
    {
        let output = bulkhead(words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
    }
    told(bulkhead(&["run", "http", "/no/such/folder"]), 1, &["/no/such/folder", "directory that exists"]);
    told(bulkhead(&["run", "http", "/dev/null"]), 1, &["/dev/null", "directory that exists"]);
}

#[test]
fn help_teaches_and_inspect_tells() {
    let help = String::from_utf8(bulkhead(&["run", "--help"]).output().unwrap().stdout).unwrap();
    for text in ["Examples:", "sudo bulkhead run http ./site", "--placement", "Ctrl-C"] {
        assert!(help.contains(text), "{text}: {help}");
    }
    let told = String::from_utf8(bulkhead(&["inspect"]).output().unwrap().stdout).unwrap();
    for text in ["bulkhead:protocol/protocol@1.0.0", "imports         nothing", "blind", "TCP", "nodelay"] {
        assert!(told.contains(text), "{text}: {told}");
    }
    let json: serde_json::Value =
        serde_json::from_slice(&bulkhead(&["inspect", "--json"]).output().unwrap().stdout).unwrap();
    assert_eq!((&json["payload_blind"], &json["imports"]), (&true.into(), &serde_json::json!([])));
}

#[test]
#[ignore = "needs root"]
fn tun_what_is_taken_is_told() {
    let Some(space) = namespace() else { return };
    let run = |words: &[&str]| {
        let mut command = program(Some(&space));
        command.args(["run", "echo"]).args(words);
        command
    };
    let server = Server::start(&space, &["echo"]);
    told(run(&[]), 1, &["bulkhead0 is in use by another process"]);
    told(run(&["--tun", "other0"]), 1, &["10.77.0.0/24 is in use on the interface bulkhead0", "--address"]);
    told(run(&["--tun", "other0", "--address", "10.77.0.1/30"]), 1, &["10.77.0.1 is in use", "--address"]);
    told(
        run(&["--tun", "lo", "--address", "10.1.1.2/24"]),
        1,
        &["interface lo already", "choose another name"],
    );
    told(run(&["--tun", "a-name-that-is-too-long"]), 1, &["cannot be the name"]);
    told(
        run(&["--address", "10.1.1.2/24", "--tun", "o0", "--pcap", "/no/folder/x"]),
        1,
        &["/no/folder/x", "--pcap"],
    );
    server.end();

    let mut nobody = Command::new(super::server::PROGRAM);
    nobody.args(["run", "echo", "--tun", "bhnobody", "--address", "10.213.77.2/24"]);
    nobody.uid(65_534).gid(65_534).env_remove("HOME").env_remove("XDG_CACHE_HOME");
    // A folder of root's own on the way to the program keeps others from starting it.
    if nobody.output().is_ok() {
        told(nobody, 1, &["no permission to", "setcap cap_net_admin"]);
    } else {
        eprintln!("skipped in part: the program cannot be run as somebody else from here");
    }
}
