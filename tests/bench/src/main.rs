//! What a stack does a second, seen from the kernel's own TCP on the other side: `cargo xtask bench`.
//!
//! - [`plan`]: what is measured, and on which [`subject`]s;
//! - [`crowd`]: a hundred thousand connections;
//! - [`gateways`]: instead, gateways beside each other: `cargo xtask gateway-bench`;
//! - [`server`]: the applications on every stack; a process of its own, so that its CPU time is its own;
//! - [`smoltcp`]: the same applications as people write them over smoltcp; `lwip/serve.c`: over lwIP;
//! - `bulkhead::compare`: the applications, the client (the kernel's sockets in the peer's namespace), and the figures.
//!
//! All subjects are up from the beginning, each in a namespace of its own, and are measured in turns, so that what
//! disturbs the machine disturbs all of them alike. Absolute figures do not carry over to another machine; ratios do.

mod crowd;
mod gateways;
mod plan;
mod server;
mod smoltcp;
mod subject;

use std::path::{Path, PathBuf};

use bulkhead::artifact::Artifact;
use bulkhead::compare::{Results, costs, steps};
use bulkhead::placement::Instance;
use bulkhead::placement::native::Native;
use clap::{Parser, Subcommand};
use serde_json::{Map, Value};

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
    /// The server over lwIP, which is left out without it
    #[arg(long, value_name = "FILE")]
    lwip: Option<PathBuf>,
    /// Repetitions, of which the median counts; bulk has three times as many
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
        /// How much further its ports are than usual
        #[arg(default_value_t = 0)]
        further: u16,
    },
    /// Another of them: clients that are asked on standard input
    #[command(hide = true)]
    Clients {
        /// Where they are
        own: std::net::Ipv4Addr,
        /// The server's port
        port: u16,
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
        Some(Command::Serve { kind, further }) => server::serve(kind, further),
        Some(Command::Clients { own, port }) => crowd::clients(own, port),
        Some(Command::Gateways { program, quick, json }) => {
            bulkhead_namespace::end_with_input()?;
            let results = gateways::measure(&program, if quick { 3 } else { 5 }, quick)?;
            show(&results, json.as_deref())
        }
        None => {
            bulkhead_namespace::end_with_input()?;
            measure(arguments)
        }
    }
}

/// Runs of a step, of which the median counts.
const STEP_RUNS: usize = 301;

fn measure(arguments: Arguments) -> anyhow::Result<()> {
    let all = Workload::ALL.to_vec();
    let workloads = if arguments.measure.is_empty() { all } else { arguments.measure };
    let mut kinds = if arguments.only.is_empty() { Kind::USUAL.to_vec() } else { arguments.only };
    if arguments.lwip.is_none() {
        kinds.retain(|kind| *kind != Kind::Lwip);
    }
    let is_quick = arguments.quick;
    let artifact = Artifact::bundled()?;
    let inside = || -> anyhow::Result<Box<dyn Instance>> { Ok(Box::new(artifact.instance()?)) };
    let mut json = Map::new();
    if workloads.contains(&Workload::Step) {
        let runs = if is_quick { STEP_RUNS / 10 } else { STEP_RUNS };
        let results = steps(inside()?, outside(), runs)?;
        println!("A step, in the sandbox and natively, medians of {runs}\n\n{}", results.rows());
        json.insert("step".into(), results.json());
    }
    if workloads.contains(&Workload::Segment) {
        let mut results = Results::of_crowds(1);
        eprint!("a segment among many connections");
        costs(&mut results, "native", is_quick, || anyhow::Ok(outside()))?;
        costs(&mut results, "wasm", is_quick, inside)?;
        eprint!("\r\x1b[K");
        println!(
            "A segment inside the module, by how many connections are active of how many; in brackets the ratio to the \
             first column, more than 1 is better\n\n{}",
            results.rows()
        );
        json.insert("segment".into(), results.json());
    }
    if workloads.iter().any(|workload| !workload.is_alone()) {
        let repetitions = if is_quick { 3 } else { arguments.repetitions as usize };
        let plan = plan::Plan { kinds, workloads, repetitions, is_quick, lwip: arguments.lwip };
        let results = plan.run()?;
        print!("{}", results.table());
        let beside: Vec<_> = results.ratios(Kind::Wasm.name(), Kind::Native.name()).collect();
        if !beside.is_empty() {
            println!(
                "\nThe sandbox by the same natively, median of the ratios of each repetition, more than 1 is better"
            );
            beside.iter().for_each(|(figure, ratio)| println!("{:<64} {ratio:.2}", figure.name));
        }
        if let Value::Object(stacks) = results.json() {
            json.extend(stacks);
        }
    }
    write(&Value::Object(json), arguments.json.as_deref())
}

/// The bundled module natively.
fn outside() -> Box<dyn Instance> {
    Box::new(Native::new(Box::new(bulkhead_tcp::Tcp::new())))
}

fn show(results: &Results, json: Option<&Path>) -> anyhow::Result<()> {
    print!("{}", results.table());
    write(&results.json(), json)
}

fn write(figures: &Value, path: Option<&Path>) -> anyhow::Result<()> {
    if let Some(path) = path {
        std::fs::write(path, format!("{figures:#}\n"))?;
        println!("figures in {}", path.display());
    }
    Ok(())
}
