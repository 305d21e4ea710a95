//! `bulkhead`: serves applications on a TCP stack behind a wall.

mod apps;
mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
