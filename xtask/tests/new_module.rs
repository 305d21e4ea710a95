//! `cargo xtask new-module`, from its first word to what `bulkhead check` says of what it has written.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder that is gone afterwards, however it ends.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run(program: &Path, arguments: &[&str]) -> String {
    // The machine code that `bulkhead` keeps is kept with the build.
    let cache = env!("CARGO_TARGET_TMPDIR");
    let output = Command::new(program).args(arguments).env("XDG_CACHE_HOME", cache).output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{} {arguments:?}\n{out}{error}", program.display());
    out.into_owned()
}

#[test]
fn a_new_module_builds_and_keeps_the_contract() {
    let xtask = Path::new(env!("CARGO_BIN_EXE_xtask"));
    // One place for each run of it, since cargo remembers what it has compiled by its path.
    let folder = Folder(std::env::temp_dir().join("bulkhead-new-module"));
    let _ = std::fs::remove_dir_all(&folder.0);
    run(xtask, &["new-module", "new-module-test", "--in", folder.0.to_str().unwrap()]);
    let module = folder.0.join("new-module-test");
    run(xtask, &["guests", "--manifest-path", module.join("Cargo.toml").to_str().unwrap()]);
    let component = module.join("target/guests/new-module-test.wasm");
    // Built along with the tests of its own package, of which there are some.
    let bulkhead = xtask.with_file_name("bulkhead");
    let table = run(&bulkhead, &["check", component.to_str().unwrap()]);
    assert!(!table.contains(" NO "), "{table}");
    let answered = table.lines().find(|line| line.trim_start().starts_with("echo answered"));
    assert!(answered.is_some_and(|line| line.ends_with(" yes")), "{table}");
}
