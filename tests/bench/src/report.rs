//! Medians, ratios, the table.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::subject::Kind;

/// What a number means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Figure {
    name: String,
    unit: &'static str,
    less_is_better: bool,
}

impl Figure {
    pub(crate) fn new(name: &str, unit: &'static str) -> Self {
        Self { name: name.to_owned(), unit, less_is_better: false }
    }

    pub(crate) fn less(name: &str, unit: &'static str) -> Self {
        Self { less_is_better: true, ..Self::new(name, unit) }
    }
}

/// Everything that was measured.
pub(crate) struct Results {
    kinds: Vec<Kind>,
    repetitions: usize,
    figures: Vec<(Figure, Vec<Vec<f64>>)>,
}

impl Results {
    pub(crate) fn new(kinds: &[Kind], repetitions: usize) -> Self {
        Self { kinds: kinds.to_vec(), repetitions, figures: Vec::new() }
    }

    pub(crate) fn add(&mut self, figure: &Figure, kind: Kind, value: f64) {
        let Some(column) = self.kinds.iter().position(|known| *known == kind) else { return };
        let row = match self.figures.iter().position(|(known, _)| known == figure) {
            Some(row) => row,
            None => {
                self.figures.push((figure.clone(), vec![Vec::new(); self.kinds.len()]));
                self.figures.len() - 1
            }
        };
        if let Some(values) = self.figures.get_mut(row).and_then(|(_, columns)| columns.get_mut(column)) {
            values.push(value);
            values.sort_by(f64::total_cmp);
        }
    }
}

fn median(sorted: &[f64]) -> Option<f64> {
    sorted.get(sorted.len() / 2).copied()
}

fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let model = read("/proc/cpuinfo");
    let model = model
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map(|(_, name)| name);
    json!({
        "processor": model,
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "bulkhead": env!("CARGO_PKG_VERSION"),
        "load_before": read("/proc/loadavg").trim(),
    })
}

/// For people: medians, and behind each its ratio to the first column (above 1 is better than it, whatever the unit).
pub(crate) fn table(results: &Results) -> String {
    let mut out = String::new();
    let machine = machine();
    let _ = writeln!(
        out,
        "{} x {}, Linux {}; medians of {}; in brackets the ratio to the first column, more than 1 is better\n",
        machine["processors"],
        machine["processor"].as_str().unwrap_or("?"),
        machine["kernel"].as_str().unwrap_or("?"),
        results.repetitions,
    );
    let width = results
        .figures
        .iter()
        .map(|(figure, _)| figure.name.len() + figure.unit.len() + 2)
        .max()
        .unwrap_or(0);
    let _ = write!(out, "{:width$}", "");
    for kind in &results.kinds {
        let _ = write!(out, "{:>18}", kind.name());
    }
    let _ = writeln!(out);
    for (figure, columns) in &results.figures {
        let _ = write!(out, "{:width$}", format!("{}, {}", figure.name, figure.unit));
        let first = columns.first().and_then(|values| median(values));
        for values in columns {
            let cell = match (median(values), first) {
                (None, _) => "-".to_owned(),
                (Some(value), Some(first)) => {
                    let ratio = if figure.less_is_better { first / value } else { value / first };
                    format!("{} ({ratio:.2})", short(value))
                }
                (Some(value), None) => short(value),
            };
            let _ = write!(out, "{cell:>18}");
        }
        let _ = writeln!(out);
    }
    out
}

/// Three digits or all of them.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// For programs: every single value.
pub(crate) fn json(results: &Results) -> Value {
    let figures: Vec<Value> = results
        .figures
        .iter()
        .map(|(figure, columns)| {
            let values: serde_json::Map<String, Value> = results
                .kinds
                .iter()
                .zip(columns)
                .map(|(kind, values)| {
                    (kind.name().to_owned(), json!({ "median": median(values), "values": values }))
                })
                .collect();
            json!({ "name": figure.name, "unit": figure.unit, "less_is_better": figure.less_is_better, "stacks": values })
        })
        .collect();
    json!({ "machine": machine(), "repetitions": results.repetitions, "figures": figures })
}
