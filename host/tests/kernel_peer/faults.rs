//! The module fails in the middle of downloads, and curl does not notice.

use std::path::Path;

use super::server::{Server, curl, namespace, noise, program};

/// The hostile module's setting: it panics over acknowledgements whose number, with the timestamp, is a multiple of this.
const PANICS: &str = "61443=1021";
/// Downloads at most until one met a fault: which numbers are acknowledged is the kernel's affair.
const DOWNLOADS: u32 = 20;

#[test]
#[ignore = "needs root"]
fn tun_a_module_that_panics_in_mid_download_costs_curl_nothing() {
    let Some(space) = namespace() else { return };
    let guests = std::env::var("BULKHEAD_GUESTS")
        .unwrap_or_else(|_| concat!(env!("CARGO_TARGET_TMPDIR"), "/../guests").to_owned());
    let module = Path::new(&guests).join("hostile-guest.wasm");
    let (file, reports) = (space.folder().join("file"), space.folder().join("reports"));
    let bytes = noise(160 << 20, 6);
    std::fs::write(&file, &bytes).unwrap();
    let words = [
        "http",
        space.folder().to_str().unwrap(),
        "--module",
        module.to_str().unwrap(),
        "--setting",
        PANICS,
        "--reports",
        reports.to_str().unwrap(),
    ];
    let server = Server::start(&space, &words);
    for _ in 0..DOWNLOADS {
        assert!(curl(&space, &["http://10.77.0.2/file"]) == bytes, "the copy differs");
        if server.said().contains("recovered: the module panicked") {
            break;
        }
    }
    server.signal("INT");
    let (status, summary, said) = server.wait();
    assert!(status.success(), "{said}");
    let faults = summary["faults"].as_u64().unwrap();
    assert!(faults > 0, "no acknowledgement was poison: {summary}");
    assert!(
        said.contains("a defect that a test asked for") && said.contains("hostile-core/src/lib.rs"),
        "{said}"
    );
    assert!(said.contains("connections_dropped=0") && !said.contains("no recovery"), "{said}");

    // Each report has a recording, and that does it again.
    let recording = std::fs::read_dir(&reports).unwrap().map(|entry| entry.unwrap().path());
    let recording =
        recording.filter(|path| path.extension().is_some_and(|kind| kind == "rec")).min().unwrap();
    let text = std::fs::read_to_string(recording.with_extension("txt")).unwrap();
    assert!(text.contains("a segment from 10.77.0.1:") && text.contains("recovered in"), "{text}");
    let output = program(None).arg("replay").arg(&recording).arg("--module").arg(&module).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && told.contains("fails as recorded: the module panicked"), "{told}");
    println!("{faults} faults\n{text}\n{told}");
}
