//! The simulator's plans: some seeds of each by default, thousands in the slow test.

use bulkhead_tests::simulation::{Outcome, Placement, plans, simulate};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs seeds of every plan on both cores and prints the totals.
fn run(first: u64, seeds: u64, placement: Placement) {
    let plans = plans();
    let jobs = plans.len() as u64 * seeds;
    let next = AtomicU64::new(0);
    let sums = Mutex::new(vec![Outcome::default(); plans.len()]);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let job = next.fetch_add(1, Ordering::Relaxed);
                    if job >= jobs {
                        return;
                    }
                    let plan = (job % plans.len() as u64) as usize;
                    let seed = first + job / plans.len() as u64;
                    match simulate(&plans[plan], seed, placement, None) {
                        Ok(outcome) => {
                            let sum = &mut sums.lock().unwrap()[plan];
                            *sum = sum.plus(&outcome);
                        }
                        Err(failure) => {
                            println!("{failure}");
                            failures.lock().unwrap().push(failure);
                        }
                    }
                }
            });
        }
    });
    let mut all = Outcome::default();
    for (plan, sum) in plans.iter().zip(sums.into_inner().unwrap()) {
        println!("{:<12} {seeds} seeds, {sum}", plan.name);
        all = all.plus(&sum);
    }
    println!("{:<12} {jobs} runs, {all}", "in all");
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} of {jobs} runs failed; the first: {}", failures.len(), failures[0]);
}

#[test]
fn some_seeds() {
    run(0, 12, Placement::Native);
}

#[test]
fn a_seed_in_the_sandbox() {
    run(5000, 1, Placement::Wasm);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let plans = plans();
    let everything = plans.iter().find(|plan| plan.name == "everything").expect("the plan");
    let run = |seed| simulate(everything, seed, Placement::Native, None);
    assert_eq!(run(3), run(3));
}

#[test]
#[ignore = "takes minutes"]
fn slow_thousands_of_seeds() {
    run(10_000, 300, Placement::Native);
    run(20_000, 20, Placement::Wasm);
}
