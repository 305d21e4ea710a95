//! The server process of tests: serves the TCP core, honest (`tcp`) or with defects (`hostile`), to the test that
//! started it.

use bulkhead::placement::process::serve;
use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("tcp") => serve(Box::new(bulkhead_tcp::Tcp::new())),
        Some("hostile") => serve(Box::new(hostile_core::Tcp::new())),
        _ => {
            eprintln!("module-server tcp | hostile");
            ExitCode::from(2)
        }
    }
}
