//! smoltcp in the sandbox, with payload access, against the kernel.

use std::path::Path;

use super::server::{Server, curl, namespace, noise, program};

const MIB: usize = 1 << 20;

fn module() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests/smoltcp-module.wasm");
    file.to_str().unwrap().to_owned()
}

#[test]
fn what_it_is_trusted_with_shows() {
    let output = program(None).args(["inspect", &module()]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "bulkhead:protocol/payload@1.0.0",
        "reads application data",
        "none: another module takes over by a cold swap",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

fn download(flags: &[&str]) {
    let Some(space) = namespace() else { return };
    let (file, copies) = (space.folder().join("file"), space.folder().join("copy_#1"));
    let bytes = noise(8 * MIB, 1);
    std::fs::write(&file, &bytes).unwrap();
    let (folder, module) = (space.folder().to_str().unwrap(), module());
    let server = Server::start(&space, &[&["http", folder, "--module", &module], flags].concat());
    curl(&space, &["-Z", "-o", copies.to_str().unwrap(), "http://10.77.0.2/file?[1-4]"]);
    for number in 1..=4 {
        let copy = std::fs::read(space.folder().join(format!("copy_{number}"))).unwrap();
        assert!(copy == bytes, "copy {number} differs");
    }
    let summary = server.end();
    assert!(summary["bytes_out"].as_u64().unwrap() > 32 * MIB as u64, "{summary}");
    // curl uses some of its connections again.
    assert_eq!(
        (&summary["faults"], &summary["applications"][0]["failed"]),
        (&0.into(), &0.into()),
        "{summary}"
    );
}

#[test]
#[ignore = "needs root"]
fn tun_download_from_smoltcp() {
    download(&["--offload", "off"]);
}

#[test]
#[ignore = "needs root"]
fn tun_download_from_smoltcp_with_offload() {
    download(&["--offload", "on"]);
}
