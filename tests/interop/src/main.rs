//! The stack against other stacks, with programs that people use, over a relay that loses and delays: `cargo xtask
//! interop`.
//!
//! - [`factor`]: what can be chosen for a cell: peer, direction, load, fault, path, options;
//! - [`matrix`]: cells such that every two choices meet in one of them;
//! - [`place`]: two network namespaces, the relay between them, the stack in one and its peer in the other;
//! - [`load`]: what the programs do, and what has to come of it;
//! - [`cell`]: one cell from its beginning to its end, and that nothing is left of it;
//! - [`report`]: what came of it.

mod cell;
mod factor;
mod load;
mod matrix;
mod place;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use bulkhead_namespace::end_with_input;
use clap::Parser;

/// Cells of a first look.
const QUICK: usize = 14;

/// What is to be run.
#[derive(Parser)]
#[command(about = "The stack against other stacks, with programs that people use", long_about = None)]
pub(crate) struct Arguments {
    /// The program `bulkhead`
    #[arg(long, value_name = "FILE")]
    program: PathBuf,
    /// The program `bulkhead-bench`, whose smoltcp is a peer
    #[arg(long, value_name = "FILE")]
    bench: PathBuf,
    /// A few cells with little data: a first look
    #[arg(long)]
    quick: bool,
    /// Where the module runs
    #[arg(long, default_value = "wasm")]
    placement: String,
    /// Only cells with all of these words in their description, as in `bbr,ssh`
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only list the cells
    #[arg(long)]
    list: bool,
    /// Write all results to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
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
    let report = report::Report::new(arguments, results);
    print!("{}", report.summary());
    if let Some(path) = &arguments.json {
        std::fs::write(path, format!("{:#}\n", report.json())).with_context(|| path.display().to_string())?;
    }
    Ok(report.all_passed())
}
