//! The command line.
//!
//! What is wrong is said in one line on standard error, with what to do; the exit code is 2 where the command line
//! itself is wrong, and 1 for everything else. What people read goes to standard error, results to standard output.

mod address;
mod arguments;
mod capture;
mod check;
mod compare;
mod config;
mod configured;
mod control;
mod device;
mod failure;
mod fuzz;
mod fuzz_arguments;
mod fuzz_dictionary;
mod fuzz_many;
mod fuzz_seeds;
mod fuzz_tools;
mod gateway;
mod generate;
mod in_use;
mod inspect;
mod link;
mod link_arguments;
mod metrics;
mod module;
mod outside;
mod plan;
mod private_socket;
mod ready;
mod replay;
mod report;
mod run;
mod running;
mod signals;
mod stacks;
mod stat;
mod swap;
mod upgrade;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use bulkhead::placement::process::serve;
use clap::Parser as _;
use tracing_subscriber::filter::LevelFilter;

use arguments::{Arguments, Command};
use failure::one_line;

/// Does what the command line says.
pub(crate) fn main() -> ExitCode {
    let words = match config::with_file(gateway::by_name(std::env::args_os().collect())) {
        Ok(words) => words,
        Err(error) => {
            eprintln!("bulkhead: {}", one_line(&error));
            return failure::code(&error);
        }
    };
    let arguments = match Arguments::try_parse_from(&words) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors; a reader that has gone away is none of ours.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1));
        }
    };
    // A module that is being fuzzed fails all the time; what it was is told by the campaign.
    let quiet =
        if matches!(arguments.command, Command::Fuzz(_)) { LevelFilter::OFF } else { LevelFilter::WARN };
    watch(arguments.verbose, quiet);
    let result = match arguments.command {
        Command::Run(mut run) => {
            // Where the program's file is now: it may be replaced later.
            (run.words, run.program) = (words, std::env::current_exe().ok());
            run::run(*run)
        }
        Command::Stat(stat) => stat::stat(&stat),
        Command::Swap(swap) => swap::swap(&swap),
        Command::Upgrade(whom) => upgrade::upgrade(&whom),
        Command::Reseed(whom) => swap::reseed(&whom),
        Command::Gateway(arguments) => gateway::gateway(*arguments),
        Command::Slirp4netns(words) => words.into_gateway().and_then(gateway::gateway),
        Command::GatewayInside(inside) => gateway::inside(inside),
        Command::Generate(what) => generate::generate(&what),
        Command::Check(check) => check::check(&check),
        Command::Inspect(inspect) => inspect::inspect(&inspect),
        Command::Replay(replay) => replay::replay(&replay),
        Command::Fuzz(fuzz) => Ok(fuzz::fuzz(&fuzz)),
        Command::Link(run) => link::link(&run),
        Command::Compare(arguments) => compare::compare(&arguments),
        Command::CompareServe(arguments) => compare::serve(&arguments),
        Command::ServeModule => Ok(serve(Box::new(bulkhead_tcp::Tcp::new()))),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bulkhead: {}", one_line(&error));
            failure::code(&error)
        }
    }
}

/// Shows on standard error what the program says of itself: warnings, and more of it the more it is asked for.
fn watch(verbose: u8, quiet: LevelFilter) {
    let level = match verbose {
        0 => quiet,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(verbose > 0)
        .init();
}
