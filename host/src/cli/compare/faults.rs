//! What a defect of the module does in each placement. Each case is a program of its own, under live traffic: without a
//! wall there may be nobody left to say what happened.
//!
//! The modules with defects are none of this program's. A program of the tests has them linked in and as a component,
//! is the application as well as the server process, and tells line by line what becomes of it; `cargo xtask faults`
//! builds it. So no defect can be switched on in what people run.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::super::module::shown;
use super::super::report::print;
use super::progress;

/// The placements, in the order of the table.
const PLACEMENTS: [&str; 3] = ["native", "process", "wasm"];
/// A case that says nothing more for this long is ended.
const PATIENCE: Duration = Duration::from_secs(15);
/// Characters of a report that the table shows.
const REPORT: usize = 150;

const ABOUT: &str = "\
An application serves four connections over a link in memory when the defect fires. It has 16 bytes that nobody else should read or change.
The server process here serves one application, so its death is felt by one; that of the letter serves all of them.
kernel: not simulated. A wild write or an endless loop in the kernel's TCP is the whole machine's: what is known of its defects ends as
an oops or a panic, a silent corruption of any process, or a privilege for whoever knows how; restarting is a reboot.";

/// Whom to ask.
#[derive(Debug, Args)]
pub(super) struct Faults {
    /// The program with the defects; `cargo xtask faults` builds it and gives it
    #[arg(long, value_name = "PROGRAM")]
    program: PathBuf,

    /// The same defects as a component
    #[arg(long, value_name = "FILE.wasm")]
    module: PathBuf,

    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// What one case said, and how it ended.
#[derive(Default)]
struct Case {
    defect: String,
    placement: &'static str,
    lines: Vec<(String, String)>,
    ending: String,
    lives: bool,
}

impl Case {
    fn said(&self, what: &str) -> Option<&str> {
        self.lines.iter().find(|(name, _)| name == what).map(|(_, text)| text.as_str())
    }

    fn memory(&self) -> &str {
        match (self.said("leak"), self.said("memory")) {
            (Some(_), _) => "LEAKED",
            (None, Some(memory)) => memory,
            (None, None) => "gone",
        }
    }

    fn connections(&self) -> &str {
        self.said("connections").unwrap_or("lost with the application")
    }

    fn back(&self) -> &str {
        match (self.said("back"), self.lives) {
            (Some(back), _) => back,
            (None, true) => "never",
            (None, false) => "when somebody starts it again",
        }
    }

    fn report(&self) -> &str {
        self.said("fault").unwrap_or("none")
    }
}

/// Runs every case and shows the table.
///
/// # Errors
/// Where the program is not to be had.
pub(super) fn faults(arguments: &Faults) -> anyhow::Result<ExitCode> {
    ensure!(arguments.module.is_file(), "{}: no such file", arguments.module.display());
    let program = &arguments.program;
    let listed = Command::new(program).arg("list").output();
    let listed = listed.with_context(|| format!("{}: cannot be run", program.display()))?;
    let mut cases = Vec::new();
    for defect in String::from_utf8_lossy(&listed.stdout).lines().filter_map(|l| l.strip_prefix("defect ")) {
        for placement in PLACEMENTS {
            progress(&format!("{defect}, {placement}"));
            cases.push(case(program, &arguments.module, defect, placement)?);
        }
    }
    progress("");
    if arguments.json {
        let cases: Vec<Value> = cases.iter().map(json_of).collect();
        print(&format!("{:#}\n", json!({ "about": ABOUT, "cases": cases })))?;
    } else {
        print(&table(&cases))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn json_of(case: &Case) -> Value {
    json!({
        "defect": case.defect, "placement": case.placement, "application": case.ending, "lives": case.lives,
        "memory": case.memory(), "connections": case.connections(), "back": case.back(), "report": case.report(),
    })
}

/// One case, from its start to its end, however that comes about.
fn case(program: &Path, module: &Path, defect: &str, placement: &'static str) -> anyhow::Result<Case> {
    let mut child = Command::new(program)
        .args([placement, defect])
        .arg(module)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let output = child.stdout.take().context("its output")?;
    let (tell, told) = channel();
    std::thread::spawn(move || {
        // Lines are cut where somebody may say too much.
        for line in BufReader::new(output).lines().map_while(Result::ok).take(100) {
            let _ = tell.send(line.chars().take(4096).collect::<String>());
        }
    });
    let mut case = Case { defect: defect.to_owned(), placement, ..Case::default() };
    let begun = Instant::now();
    let in_time = loop {
        match told.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())) {
            Ok(line) => {
                let (name, text) = line.split_once(' ').unwrap_or((&line, ""));
                case.lines.push((name.to_owned(), text.to_owned()));
            }
            Err(RecvTimeoutError::Disconnected) => break true,
            Err(RecvTimeoutError::Timeout) => break false,
        }
    };
    if !in_time {
        let _ = child.kill();
    }
    let status = child.wait()?;
    case.lives = status.success();
    case.ending = ending(status, in_time);
    if case.lives && case.connections().contains("4 silent") {
        "lives, its TCP hangs".clone_into(&mut case.ending);
    }
    Ok(case)
}

fn ending(status: ExitStatus, in_time: bool) -> String {
    match (in_time, status.signal(), status.code()) {
        (false, ..) => "hangs".to_owned(),
        (true, Some(signal), _) => format!("DIED: signal {signal}"),
        (true, None, Some(0)) => "lives".to_owned(),
        (true, None, code) => format!("DIED: code {}", code.unwrap_or(0)),
    }
}

fn table(cases: &[Case]) -> String {
    let mut out = format!("{ABOUT}\n\n");
    let head = ["defect", "placement", "application", "memory", "open connections", "back after", "report"];
    let rows: Vec<[String; 7]> = cases
        .iter()
        .map(|case| {
            let report: String = shown_long(case.report());
            [
                case.defect.clone(),
                case.placement.to_owned(),
                case.ending.clone(),
                case.memory().to_owned(),
                case.connections().to_owned(),
                case.back().to_owned(),
                report,
            ]
        })
        .collect();
    let head = head.map(str::to_owned);
    let widths: Vec<usize> = (0..6)
        .map(|column| {
            let all = rows.iter().chain([&head]).filter_map(|row| row.get(column));
            all.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    for row in [&head].into_iter().chain(&rows) {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = widths.get(column).copied().unwrap_or(0);
            format!("{cell:width$}")
        });
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// A report's beginning, fit for a terminal.
fn shown_long(text: &str) -> String {
    let parts: Vec<String> = text
        .chars()
        .collect::<Vec<_>>()
        .chunks(80)
        .take(REPORT / 80 + 1)
        .map(|part| shown(&part.iter().collect::<String>()))
        .collect();
    parts.concat().chars().take(REPORT).collect()
}
