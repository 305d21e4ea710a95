//! Runs plans of the simulator: one seed again, or many.

use bulkhead_tests::simulation::{Outcome, Placement, Plan, plans, simulate};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

const HELP: &str = "\
simulate [PLAN...] [--seed N] [--seeds COUNT] [--wasm] [--pcap FOLDER]

Runs the plans (all of them if none is named) in tests/simulation/plans.
--seed N       the seed to begin with (0)
--seeds COUNT  how many seeds (1)
--wasm         the module in its sandbox, not natively
--pcap FOLDER  write what both ends saw to FOLDER/PLAN-a.pcap and FOLDER/PLAN-b.pcap
";

struct Wish {
    plans: Vec<String>,
    seed: u64,
    seeds: u64,
    placement: Placement,
    captures: Option<PathBuf>,
}

fn wish() -> Option<Wish> {
    let mut wish =
        Wish { plans: Vec::new(), seed: 0, seeds: 1, placement: Placement::Native, captures: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seed" => wish.seed = words.next()?.parse().ok()?,
            "--seeds" => wish.seeds = words.next()?.parse().ok()?,
            "--wasm" => wish.placement = Placement::Wasm,
            "--pcap" => wish.captures = Some(words.next()?.into()),
            _ if word.starts_with('-') => return None,
            _ => wish.plans.push(word),
        }
    }
    Some(wish)
}

fn main() -> ExitCode {
    let Some(wish) = wish() else {
        eprint!("{HELP}");
        return ExitCode::from(2);
    };
    let all = plans();
    let chosen: Vec<&Plan> =
        all.iter().filter(|plan| wish.plans.is_empty() || wish.plans.contains(&plan.name)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = all.iter().map(|plan| plan.name.as_str()).collect();
        eprintln!("there is no such plan; there are {}", names.join(", "));
        return ExitCode::from(2);
    }
    let mut failures = 0;
    for plan in chosen {
        let begun = Instant::now();
        let mut sum = Outcome::default();
        for seed in wish.seed..wish.seed + wish.seeds {
            match simulate(plan, seed, wish.placement, wish.captures.clone()) {
                Ok(outcome) => sum = sum.plus(&outcome),
                Err(failure) => {
                    failures += 1;
                    println!("{failure}");
                }
            }
        }
        println!("{:<22} {} seeds, {sum}, {:.1} s", plan.name, wish.seeds, begun.elapsed().as_secs_f64());
    }
    ExitCode::from(u8::from(failures > 0))
}
