//! What the wall costs: nanoseconds a step with 1 to 128 segments, in the sandbox and natively, beside a system call on
//! the same machine.
//!
//! `cargo bench -p bulkhead --bench step`. Both placements get the same steps of one connection that receives bulk data:
//! full segments in order, and an application that reads everything at once. Each figure is the median of many runs.
//! With `-- FILE.wasm` it measures that module. As a test (`cargo test --benches`) everything runs once, and nothing is measured.

use std::hint::black_box;
use std::time::Instant;

use bulkhead::artifact::Artifact;
use bulkhead::compare::Bulk;
use bulkhead::placement::native::Native;

/// Steps in one run.
const STEPS: u32 = 64;
/// Runs, of which the median counts.
const RUNS: usize = 301;

fn median(mut run: impl FnMut() -> f64) -> f64 {
    let runs = if std::env::args().any(|argument| argument == "--bench") { RUNS } else { 1 };
    let mut times: Vec<f64> = (0..runs).map(|_| run()).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The median time of a step with so many segments, in nanoseconds.
fn full(bulk: &mut Bulk, segments: u32) -> f64 {
    median(|| bulk.time(segments, STEPS).expect("no fault"))
}

/// The median time of a step with nothing in it but the time.
fn empty(bulk: &mut Bulk) -> f64 {
    median(|| bulk.time_empty(STEPS).expect("no fault"))
}

fn main() {
    let file = std::env::args().skip(1).find(|argument| argument.ends_with(".wasm"));
    let artifact =
        file.map_or_else(Artifact::bundled, |file| Artifact::from_file(file.as_ref())).expect("a module");
    println!("module loaded in {:?}, from the cache: {}", artifact.loading().took, artifact.loading().cached);
    let start = Instant::now();
    let instance = artifact.instance().expect("an instance");
    println!("instance made in {:?}", start.elapsed());
    let open = |instance| Bulk::new(instance).expect("a TCP");
    let mut wasm = open(Box::new(instance));
    let mut native = open(Box::new(Native::new(Box::new(bulkhead_tcp::Tcp::new()))));
    let call = median(|| {
        let start = Instant::now();
        (0..STEPS).for_each(|_| _ = black_box(std::os::unix::process::parent_id()));
        start.elapsed().as_nanos() as f64 / f64::from(STEPS)
    });
    println!("getppid {call:.0} ns");
    println!(
        "segments   wasm ns  native ns   difference a segment   in getppids (step, difference a segment)"
    );
    let (inside, outside) = (empty(&mut wasm), empty(&mut native));
    println!("{:>8} {inside:>9.0} {outside:>10.0}", "empty");
    for segments in [1, 8, 32, 128] {
        let (inside, outside) = (full(&mut wasm, segments), full(&mut native, segments));
        let each = (inside - outside) / f64::from(segments);
        let (step, more) = (inside / call, each / call);
        println!("{segments:>8} {inside:>9.0} {outside:>10.0} {each:>22.1} {step:>14.2} {more:>8.2}");
    }
}
