//! `bulkhead`: serves applications on a TCP stack behind a wall.

mod apps;
mod cli;
mod gateway;

fn main() -> std::process::ExitCode {
    cli::main()
}
