//! The stack against other stacks, with programs that people use, over a relay that loses and delays: `cargo xtask
//! interop`.
//!
//! - [`factor`]: what can be chosen for a cell: peer, direction, load, fault, path, options;
//! - [`matrix`]: cells such that every two choices meet in one of them;
//! - [`place`]: two network namespaces, the relay between them, the stack in one and its peer in the other;
//! - [`addresses`]: who has which address there;
//! - [`mod@smoltcp`]: smoltcp as a peer; `lwip/forward.c` is lwIP as one;
//! - [`load`]: what the programs do, and what has to come of it;
//! - [`witness`]: knows every byte of a load whose programs do not look at them;
//! - [`cell`]: one cell from its beginning to its end, and that nothing is left of it;
//! - [`report`]: what came of it.

mod addresses;
mod cell;
mod factor;
mod load;
mod matrix;
mod place;
mod report;
mod smoltcp;
mod witness;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use bulkhead_namespace::end_with_input;
use clap::{Args, Parser, Subcommand};

use factor::Peer;

/// Cells of a first look.
const QUICK: usize = 14;

#[derive(Parser)]
#[command(name = "interop", about = "The stack against other stacks, with programs that people use", long_about = None)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the matrix
    Run(Arguments),
    /// What the matrix starts itself: smoltcp as a peer
    #[command(hide = true)]
    Smoltcp(smoltcp::Forward),
}

/// What is to be run.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The program `bulkhead`
    #[arg(long, value_name = "FILE")]
    program: PathBuf,
    /// What `lwip/forward.c` was compiled to; cells with lwIP are left out without it
    #[arg(long, value_name = "FILE")]
    lwip: Option<PathBuf>,
    /// A few cells with little data: a first look
    #[arg(long)]
    quick: bool,
    /// Where the module runs
    #[arg(long, default_value = "wasm")]
    placement: String,
    /// Another module for the stack than the bundled one; a peer that is another of it keeps that
    #[arg(long, value_name = "FILE.wasm")]
    module: Option<PathBuf>,
    /// Only cells with all of these words in their description, as in `bbr,ssh`
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Write every frame of the stack, and of its peer if that is another of it, into this folder, for Wireshark: cell by cell
    #[arg(long, value_name = "DIR")]
    pcap: Option<PathBuf>,
    /// Only list the cells
    #[arg(long)]
    list: bool,
    /// Write all results to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let outcome = match Program::parse().command {
        Command::Run(arguments) => run(&arguments),
        Command::Smoltcp(peer) => smoltcp::forward(&peer).map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("interop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    end_with_input()?;
    let mut cells = matrix::cells();
    if arguments.quick {
        cells.truncate(QUICK);
    } else {
        cells.splice(0..0, matrix::fixed());
    }
    cells.retain(|cell| {
        let text = cell.to_string();
        arguments.only.iter().all(|word| text.split([' ', ',']).any(|part| part == word))
    });
    let left_out = cells.extract_if(.., |cell| cell.peer == Peer::Lwip && arguments.lwip.is_none()).count();
    anyhow::ensure!(!cells.is_empty(), "no cell has all of these words; --list shows them");
    if arguments.list {
        cells.iter().for_each(|cell| println!("{cell}"));
        return Ok(true);
    }
    let mut results = Vec::new();
    for (number, cell) in cells.iter().enumerate() {
        eprint!("{:>3}/{} {cell}: ", number + 1, cells.len());
        let result = cell::run(arguments, cell);
        eprintln!("{result}");
        results.push((*cell, result));
    }
    let report = report::Report::new(arguments, results, left_out);
    print!("{}", report.summary());
    if let Some(path) = &arguments.json {
        std::fs::write(path, format!("{:#}\n", report.json())).with_context(|| path.display().to_string())?;
    }
    Ok(report.all_passed())
}
