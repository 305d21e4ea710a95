//! Finds the modules that the library carries inside it.

use std::env;
use std::path::{Path, PathBuf};

/// The modules' files in the folder of guests, and what the library calls them.
const MODULES: [(&str, &str); 3] = [
    ("guest-tcp.wasm", "BULKHEAD_TCP_MODULE"),
    ("guest-udp.wasm", "BULKHEAD_UDP_MODULE"),
    ("guest-neighbours.wasm", "BULKHEAD_NEIGHBOURS_MODULE"),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=BULKHEAD_GUESTS");
    println!("cargo::rerun-if-env-changed=CARGO_TARGET_DIR");
    if env::var_os("CARGO_FEATURE_WASM").is_none() {
        return;
    }
    for (file, variable) in MODULES {
        let places: Vec<PathBuf> = folders().into_iter().map(|folder| folder.join(file)).collect();
        match places.iter().find(|place| place.is_file()) {
            // This one file is watched, and not where it could have been: what is missing counts as changed, every time.
            Some(module) => {
                println!("cargo::rerun-if-changed={}", module.display());
                println!("cargo::rustc-env={variable}={}", module.display());
            }
            None => println!("cargo::error={file} is not built yet: run `cargo xtask guests`"),
        }
    }
}

/// Where modules can be, best first. `BULKHEAD_GUESTS` names a folder and leaves no other choice.
fn folders() -> Vec<PathBuf> {
    if let Some(folder) = env::var_os("BULKHEAD_GUESTS") {
        return vec![PathBuf::from(folder)];
    }
    let out = env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    let of_target = |target: &Path| target.join("guests");
    // OUT_DIR is <target>[/<triple>]/<profile>/build/<package>/out.
    let mut places: Vec<PathBuf> = out.ancestors().skip(4).take(2).map(of_target).collect();
    if let Some(target) = env::var_os("CARGO_TARGET_DIR") {
        places.push(of_target(Path::new(&target)));
    }
    if let Some(host) = env::var_os("CARGO_MANIFEST_DIR") {
        places.extend(Path::new(&host).parent().map(|workspace| of_target(&workspace.join("target"))));
    }
    places.retain(|place| place.is_absolute());
    places
}
