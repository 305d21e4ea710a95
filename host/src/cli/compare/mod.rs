//! `bulkhead compare`: what it costs to put the stack behind a wall, and which wall.
//!
//! - `variant`: the placements that are compared, and how an instance of each is made;
//! - `hops`: a call into the stack by itself, beside a system call, a thread and a process;
//! - `subject`: a stack that serves, in this process over a link in memory, or in a child over a TUN device;
//! - `workloads`: what is done to it, and what is measured then;
//! - `served`: the children;
//! - `model`: what the measured costs would mean on machines with more processors;
//! - `page`: the same as a page with charts;
//! - `faults`: what a defect does in each placement.
//!
//! All subjects of a link are up from the beginning and measured in turns, so that what disturbs the machine disturbs
//! all of them alike. Absolute figures do not carry over to another machine; ratios do.

mod faults;
mod hops;
mod model;
mod page;
mod served;
mod subject;
mod variant;
mod workloads;

use std::path::PathBuf;
use std::process::ExitCode;

use bulkhead::compare::{Results, machine, pin};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::report::print;
use subject::{Inside, Outside, Subject};
use variant::Variant;

pub(super) use served::{Serve, serve};

/// What `--help` says at its end.
pub(super) const COMPARE_EXAMPLES: &str = "\
Every figure is the median of the repetitions. Without root everything is measured over a link in memory; as root also \
over a TUN device, with the kernel's own TCP as the peer and, as the baseline, on both sides of the loopback.

Examples:
  bulkhead compare --quick                       a first look, within a minute
  sudo bulkhead compare --html compare.html      everything, and a page with charts
  bulkhead compare --json > compare.json         every single value
  cargo xtask faults                             what modules with defects cost in each placement";

/// What is compared.
#[derive(Debug, Args)]
pub(super) struct Compare {
    #[command(subcommand)]
    command: Option<Command>,

    /// Fewer and shorter repetitions: within a minute
    #[arg(long)]
    quick: bool,

    /// Repetitions, of which the median counts; 5, or 3 with --quick
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=101))]
    repetitions: Option<u32>,

    /// Only the link in memory, also where a TUN device could be had
    #[arg(long)]
    no_tun: bool,

    /// Print every single value as JSON instead of the table
    #[arg(long)]
    json: bool,

    /// Also write a self-contained page with charts
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// What else is compared.
#[derive(Debug, Subcommand)]
enum Command {
    /// What a defect of the module does in each placement: who dies, what is corrupted, what connections see
    Faults(faults::Faults),
}

/// Everything that was found out.
struct Findings {
    machine: Value,
    /// Not of a placement, but of the machine.
    hops: Results,
    calls: Results,
    inside: Results,
    outside: Option<Results>,
    model: Vec<model::Line>,
}

impl Compare {
    fn repetitions(&self) -> usize {
        self.repetitions.unwrap_or(if self.quick { 3 } else { 5 }) as usize
    }
}

/// Measures, and shows it.
///
/// # Errors
/// Where a subject cannot be set up, or a file not be written.
pub(super) fn compare(arguments: &Compare) -> anyhow::Result<ExitCode> {
    if let Some(Command::Faults(faults)) = &arguments.command {
        return faults::faults(faults);
    }
    let findings = measure(arguments)?;
    if arguments.json {
        print(&format!("{:#}\n", findings.json()))?;
    } else {
        print(&findings.text())?;
    }
    if let Some(path) = &arguments.html {
        std::fs::write(path, page::page(&findings)?)?;
        eprintln!("charts in {}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// What is going on, on one line of the terminal.
fn progress(text: &str) {
    eprint!("\r\x1b[K{text}");
}

fn measure(arguments: &Compare) -> anyhow::Result<Findings> {
    let repetitions = arguments.repetitions();
    // Of the machine before all this.
    let machine = machine();
    let variants = Variant::all();
    let names = |variants: &[Variant]| variants.iter().map(|one| one.name().to_owned()).collect();
    // All that is measured in this process has one processor; only a server on another one has that.
    pin(None, Some(0));
    let hops = hops::hops(variants.contains(&Variant::ProcessOther), repetitions)?;
    let stacks: Vec<Variant> = variants.iter().copied().filter(|one| *one != Variant::Kernel).collect();
    let mut calls = Results::new(names(&stacks), repetitions);
    hops::calls(&stacks, repetitions, &mut calls)?;

    let mut inside = Results::new(names(&variants), repetitions);
    {
        let subjects: Vec<Subject<Inside>> =
            variants.iter().map(|variant| Subject::inside(*variant)).collect::<Result<_, _>>()?;
        workloads::all(&subjects, arguments.quick, repetitions, &mut inside)?;
    }
    pin(None, None);
    let outside = if arguments.no_tun || !rustix::process::geteuid().is_root() {
        None
    } else {
        let mut outside = Results::new(names(&variants), repetitions);
        let subjects: Vec<Subject<Outside>> = (0..)
            .zip(&variants)
            .map(|(number, variant)| Subject::outside(*variant, number))
            .collect::<Result<_, _>>()?;
        workloads::all(&subjects, arguments.quick, repetitions, &mut outside)?;
        Some(outside)
    };
    progress("");
    let model = model::model(&calls, &inside);
    Ok(Findings { machine, hops, calls, inside, outside, model })
}

impl Findings {
    fn sections(&self) -> Vec<(&'static str, &Results)> {
        let mut sections = vec![
            ("The machine", &self.hops),
            ("One call into the stack", &self.calls),
            ("Two stacks in one process, a link in memory; kernel: its loopback", &self.inside),
        ];
        if let Some(outside) = &self.outside {
            sections.push((
                "A process of its own, the kernel as peer over a TUN device; kernel: its loopback",
                outside,
            ));
        }
        sections
    }

    fn header(&self) -> String {
        format!(
            "bulkhead {} ({} build), {} x {}, Linux {}, load before {}",
            self.machine["bulkhead"].as_str().unwrap_or("?"),
            self.machine["build"].as_str().unwrap_or("?"),
            self.machine["processors"],
            self.machine["processor"].as_str().unwrap_or("?"),
            self.machine["kernel"].as_str().unwrap_or("?"),
            self.machine["load"].as_str().unwrap_or("?"),
        )
    }

    fn text(&self) -> String {
        let mut text = self.header() + "\n";
        text.push_str(
            "Medians with half of their range in percent; in brackets the ratio to the first column, more than 1 is better\n",
        );
        for (title, results) in self.sections() {
            text.push_str(&format!("\n== {title}\n{}", results.rows()));
        }
        if self.outside.is_none() {
            text.push_str("\nNothing over a TUN device: that takes root, and no --no-tun.\n");
        }
        text.push_str(&format!("\n== {}\n{}", model::TITLE, model::text(&self.model)));
        text
    }

    fn json(&self) -> Value {
        let sections: Vec<Value> = self
            .sections()
            .into_iter()
            .map(|(title, results)| json!({ "title": title, "results": results.json() }))
            .collect();
        json!({ "machine": self.machine, "sections": sections, "model": model::json(&self.model) })
    }
}
