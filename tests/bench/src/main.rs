//! What a stack does a second, seen from the kernel's own TCP on the other side: `cargo xtask bench`.
//!
//! - [`plan`]: what is measured, and on which [`subject`]s;
//! - [`gateways`]: instead, gateways beside each other: `cargo xtask gateway-bench`;
//! - [`server`]: the applications on every stack; a process of its own, so that its CPU time is its own;
//! - [`smoltcp`]: the same applications as people write them over smoltcp;
//! - `bulkhead::compare`: the applications, the client (the kernel's sockets in the peer's namespace), and the figures.
//!
//! All subjects are up from the beginning, each in a namespace of its own, and are measured in turns, so that what
//! disturbs the machine disturbs all of them alike. Absolute figures do not carry over to another machine; ratios do.

mod gateways;
mod plan;
mod server;
mod smoltcp;
mod subject;

use std::path::{Path, PathBuf};

use bulkhead::compare::Results;
use clap::{Parser, Subcommand};

use plan::Workload;
use subject::Kind;

#[derive(Parser)]
#[command(about = "Throughput, latency and CPU time of stacks, side by side", long_about = None)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Fewer and shorter repetitions: a first look
    #[arg(long)]
    quick: bool,
    /// Write all figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only these stacks; may be repeated
    #[arg(long, value_enum)]
    only: Vec<Kind>,
    /// Only these measurements; may be repeated
    #[arg(long, value_enum)]
    measure: Vec<Workload>,
    /// Repetitions, of which the median counts
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=101))]
    repetitions: u32,
}

#[derive(Subcommand)]
enum Command {
    /// What the benchmark starts itself: the applications on one stack
    #[command(hide = true)]
    Serve {
        /// The stack
        kind: Kind,
    },
    /// Instead: `bulkhead gateway` beside slirp4netns and pasta
    Gateways {
        /// The program `bulkhead`
        #[arg(long, value_name = "FILE")]
        program: PathBuf,
        /// Fewer and shorter repetitions
        #[arg(long)]
        quick: bool,
        /// Write all figures to this file
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Serve { kind }) => server::serve(kind),
        Some(Command::Gateways { program, quick, json }) => {
            bulkhead_namespace::end_with_input()?;
            let results = gateways::measure(&program, if quick { 3 } else { 5 }, quick)?;
            show(&results, json.as_deref())
        }
        None => {
            bulkhead_namespace::end_with_input()?;
            let repetitions = if arguments.quick { 3 } else { arguments.repetitions };
            let plan = plan::Plan {
                kinds: if arguments.only.is_empty() { Kind::USUAL.to_vec() } else { arguments.only },
                workloads: if arguments.measure.is_empty() {
                    Workload::ALL.to_vec()
                } else {
                    arguments.measure
                },
                repetitions: repetitions as usize,
                is_quick: arguments.quick,
            };
            show(&plan.run()?, arguments.json.as_deref())
        }
    }
}

fn show(results: &Results, json: Option<&Path>) -> anyhow::Result<()> {
    print!("{}", results.table());
    if let Some(path) = json {
        std::fs::write(path, format!("{:#}\n", results.json()))?;
        println!("figures in {}", path.display());
    }
    Ok(())
}
