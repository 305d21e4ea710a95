//! `bulkhead swap`: another module in a running instance, between two steps; what it asks, and what is answered.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bulkhead::swap::{ShadowReport, SwapError, Swapped};
use clap::ValueEnum as _;
use serde_json::{Value, json};

use super::arguments::{Placement, Swap, Whom};
use super::control::ask;
use super::module::{Module, shown};
use super::report::{bytes, print};
use super::stacks::Asked;

/// How long a shadow is waited for: an idle stack takes no steps.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a shadow is asked how it does.
const LOOK: Duration = Duration::from_millis(50);

// ---- in the running instance

/// What the running instance answers: `swap`, `shadow`, `shadow-report`.
pub(super) fn answer(stacks: &Asked, command: &str, question: &Value) -> Value {
    let result = match command {
        "swap" => swapped(stacks, question),
        "shadow" => shadow(stacks, question),
        _ => Ok(json!({ "shadows": stacks.nets().filter_map(|net| net.shadow_report()).map(|report| {
            shadow_json(&report)
        }).collect::<Vec<_>>() })),
    };
    result.unwrap_or_else(|error| json!({ "error": format!("{error:#}") }))
}

fn module(question: &Value) -> anyhow::Result<Module> {
    let placement = question["placement"].as_str().unwrap_or("wasm");
    let placement = Placement::from_str(placement, true).map_err(anyhow::Error::msg)?;
    Module::of(placement, question["file"].as_str().map(Path::new))
}

fn swapped(stacks: &Asked, question: &Value) -> anyhow::Result<Value> {
    let module = module(question)?;
    let is_cold = question["cold"].as_bool().unwrap_or(false);
    let mut done = Vec::new();
    for net in stacks.nets() {
        let newcomer = module.newcomer()?;
        let result = if is_cold { net.swap_cold(newcomer) } else { net.swap(newcomer) };
        match result {
            Ok(swapped) => done.push(swapped_json(&swapped)),
            Err(error) if done.is_empty() => return Err(advised(error)),
            Err(error) => {
                return Err(
                    advised(error).context(format!("{} shards are swapped, the next is not", done.len()))
                );
            }
        }
    }
    Ok(json!({ "swapped": done }))
}

fn shadow(stacks: &Asked, question: &Value) -> anyhow::Result<Value> {
    let steps = question["steps"].as_u64().and_then(|steps| u32::try_from(steps).ok()).context("no steps")?;
    let module = module(question)?;
    for net in stacks.nets() {
        net.shadow(module.newcomer()?, steps).map_err(advised)?;
    }
    Ok(json!({}))
}

/// What to do about it, where something can be done.
fn advised(error: SwapError) -> anyhow::Error {
    let advice = match &error {
        SwapError::Refused(_) | SwapError::Stateless(_) | SwapError::TooLarge(_) => {
            "; nothing has changed. With --cold it starts empty, and every connection is reset"
        }
        SwapError::Failed(_) => "",
        _ => "; nothing has changed",
    };
    anyhow::anyhow!("{}{advice}", shown(&error.to_string()))
}

fn swapped_json(swapped: &Swapped) -> Value {
    json!({
        "from": swapped.from, "to": swapped.to, "connections": swapped.connections,
        "state_bytes": swapped.state, "pause_ns": nanoseconds(swapped.pause), "cpu_ns": nanoseconds(swapped.cpu),
    })
}

fn shadow_json(report: &ShadowReport) -> Value {
    json!({
        "same": report.same, "left": report.left, "over": report.is_over(), "differs": report.differs,
        "fault": report.fault.as_ref().map(ToString::to_string),
    })
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

// ---- beside it

/// Asks a running instance for other secrets.
///
/// # Errors
/// A line that says what to do.
pub(super) fn reseed(whom: &Whom) -> anyhow::Result<ExitCode> {
    let said = ask(&whom.path(), &json!({ "command": "reseed" }))?;
    print(&if whom.json {
        format!("{said:#}\n")
    } else {
        "connections to come have other secrets; those that are open keep theirs\n".to_owned()
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Asks a running instance to swap.
///
/// # Errors
/// A line that says what to do.
pub(super) fn swap(swap: &Swap) -> anyhow::Result<ExitCode> {
    let path = swap.whom.path();
    let mut question =
        json!({ "placement": swap.placement.to_possible_value().map(|name| name.get_name().to_owned()) });
    if let Some(file) = &swap.file {
        question["file"] = json!(absolute(file)?);
    }
    if let Some(steps) = swap.shadow {
        question["command"] = json!("shadow");
        question["steps"] = json!(steps);
        ask(&path, &question)?;
        let shadows = watched(&path, swap)?;
        let bad = shadows.iter().find(|shadow| !shadow["fault"].is_null() || !shadow["differs"].is_null());
        if let Some(bad) = bad {
            let what = bad["fault"].as_str().or(bad["differs"].as_str()).unwrap_or_default();
            anyhow::bail!(
                "not swapped: after {} equal steps the shadow said something else: {}; without --shadow it is not asked",
                bad["same"],
                shown(what)
            );
        }
    }
    question["command"] = json!("swap");
    question["cold"] = json!(swap.cold);
    let said = ask(&path, &question)?;
    print(&if swap.whom.json { format!("{said}\n") } else { table(&said) })?;
    Ok(ExitCode::SUCCESS)
}

/// The instance may have another working directory.
fn absolute(file: &Path) -> anyhow::Result<PathBuf> {
    file.canonicalize().with_context(|| format!("cannot read {}", file.display()))
}

/// Waits until the shadows are over.
fn watched(path: &Path, swap: &Swap) -> anyhow::Result<Vec<Value>> {
    let is_watched = io::stderr().is_terminal();
    let begun = Instant::now();
    loop {
        let said = ask(path, &json!({ "command": "shadow-report" }))?;
        let shadows = said["shadows"].as_array().cloned().unwrap_or_default();
        if is_watched {
            let left: u64 = shadows.iter().filter_map(|shadow| shadow["left"].as_u64()).sum();
            eprint!("\r\x1b[K{left} steps left of {} in the shadow", swap.shadow.unwrap_or(0));
        }
        let is_over = shadows.iter().all(|shadow| shadow["over"] == true);
        if is_watched && (is_over || begun.elapsed() > PATIENCE) {
            eprintln!();
        }
        if is_over {
            return Ok(shadows);
        }
        if begun.elapsed() > PATIENCE {
            let same: u64 = shadows.iter().filter_map(|shadow| shadow["same"].as_u64()).sum();
            eprintln!(
                "bulkhead: only {same} steps in {} s, equal all of them: not waiting for more",
                PATIENCE.as_secs()
            );
            return Ok(shadows);
        }
        std::thread::sleep(LOOK);
    }
}

/// For people.
fn table(said: &Value) -> String {
    let mut out = String::new();
    for one in said["swapped"].as_array().into_iter().flatten() {
        let text = |key: &str| shown(one[key].as_str().unwrap_or("?"));
        let ms = |key: &str| one[key].as_u64().unwrap_or(0) as f64 / 1e6;
        let what = match one["state_bytes"].as_u64() {
            Some(state) => format!("{} connections, {} of state", one["connections"], bytes(state)),
            None => format!("{} connections reset", one["connections"]),
        };
        out.push_str(&format!(
            "{} -> {}: {what}, pause {:.2} ms ({:.2} ms CPU)\n",
            text("from"),
            text("to"),
            ms("pause_ns"),
            ms("cpu_ns")
        ));
    }
    out
}
