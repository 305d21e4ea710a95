//! What the wall costs: nanoseconds a step with 1 to 128 segments, in the sandbox and natively, beside a system call on
//! the same machine.
//!
//! `cargo bench -p bulkhead --bench step`. Both placements get the same steps of one connection that receives bulk data:
//! full segments in order, and an application that reads everything at once. Each figure is the median of many runs.
//! With `-- FILE.wasm` it measures that module. As a test (`cargo test --benches`) everything runs once, and nothing is measured.

use std::time::Instant;

use bulkhead::artifact::Artifact;
use bulkhead::compare::steps;
use bulkhead::placement::native::Native;

/// Runs, of which the median counts.
const RUNS: usize = 301;

fn main() {
    let file = std::env::args().skip(1).find(|argument| argument.ends_with(".wasm"));
    let runs = if std::env::args().any(|argument| argument == "--bench") { RUNS } else { 1 };
    let artifact =
        file.map_or_else(Artifact::bundled, |file| Artifact::from_file(file.as_ref())).expect("a module");
    println!("module loaded in {:?}, from the cache: {}", artifact.loading().took, artifact.loading().cached);
    let start = Instant::now();
    let instance = artifact.instance().expect("an instance");
    println!("instance made in {:?}", start.elapsed());
    let native = Native::new(Box::new(bulkhead_tcp::Tcp::new()));
    let results = steps(Box::new(instance), Box::new(native), runs).expect("a TCP");
    print!("{}", results.rows());
}
