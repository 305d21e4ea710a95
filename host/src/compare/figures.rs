//! Medians with their spread, ratios, the table, JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// What a number means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// In what.
    pub unit: &'static str,
    /// Whether less of it is better.
    pub less_is_better: bool,
}

impl Figure {
    /// A figure of which more is better.
    #[must_use]
    pub fn new(name: &str, unit: &'static str) -> Self {
        Self { name: name.to_owned(), unit, less_is_better: false }
    }

    /// A figure of which less is better.
    #[must_use]
    pub fn less(name: &str, unit: &'static str) -> Self {
        Self { less_is_better: true, ..Self::new(name, unit) }
    }
}

/// Everything that was measured: for each figure and each column the values of all repetitions, sorted.
#[derive(Clone, Debug)]
pub struct Results {
    columns: Vec<String>,
    repetitions: usize,
    figures: Vec<(Figure, Vec<Vec<f64>>)>,
}

impl Results {
    /// Nothing yet, of these columns.
    #[must_use]
    pub fn new(columns: Vec<String>, repetitions: usize) -> Self {
        Self { columns, repetitions, figures: Vec::new() }
    }

    /// One more value. What is not measured has none.
    pub fn add(&mut self, figure: &Figure, column: usize, value: Option<f64>) {
        let Some(value) = value else { return };
        let row = match self.figures.iter().position(|(known, _)| known == figure) {
            Some(row) => row,
            None => {
                self.figures.push((figure.clone(), vec![Vec::new(); self.columns.len()]));
                self.figures.len() - 1
            }
        };
        let row = self.figures.get_mut(row);
        if let Some(values) = row.and_then(|(_, columns)| columns.get_mut(column)) {
            values.push(value);
            values.sort_by(f64::total_cmp);
        }
    }

    /// Names of the columns.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Each figure with the values of each column.
    pub fn figures(&self) -> impl Iterator<Item = (&Figure, &[Vec<f64>])> {
        self.figures.iter().map(|(figure, values)| (figure, values.as_slice()))
    }

    /// The median of a figure in a column, by their names.
    #[must_use]
    pub fn median(&self, figure: &str, column: &str) -> Option<f64> {
        let column = self.columns.iter().position(|name| name == column)?;
        let (_, values) = self.figures.iter().find(|(known, _)| known.name == figure)?;
        median(values.get(column)?)
    }

    /// For people: the machine, and the [`rows`](Self::rows).
    #[must_use]
    pub fn table(&self) -> String {
        let machine = machine();
        format!(
            "{} x {}, Linux {}; medians of {} with half of their range in percent; in brackets the ratio to the first \
             column, more than 1 is better\n\n{}",
            machine["processors"],
            machine["processor"].as_str().unwrap_or("?"),
            machine["kernel"].as_str().unwrap_or("?"),
            self.repetitions,
            self.rows(),
        )
    }

    /// A row for each figure: medians, behind each its ratio to the first column (above 1 is better than it, whatever the
    /// unit), and half of the range of its values in percent.
    #[must_use]
    pub fn rows(&self) -> String {
        const CELL: usize = 23;
        let mut out = String::new();
        let labels = self.figures.iter().map(|(figure, _)| figure.name.len() + figure.unit.len() + 2);
        let width = labels.max().unwrap_or(0);
        let _ = write!(out, "{:width$}", "");
        for name in &self.columns {
            let _ = write!(out, "{name:>CELL$}");
        }
        let _ = writeln!(out);
        for (figure, columns) in &self.figures {
            let label = if figure.unit.is_empty() {
                figure.name.clone()
            } else {
                format!("{}, {}", figure.name, figure.unit)
            };
            let _ = write!(out, "{label:width$}");
            let first = columns.iter().find_map(|values| median(values));
            for values in columns {
                let _ = write!(out, "{:>CELL$}", cell(figure, values, first));
            }
            let _ = writeln!(out);
        }
        out
    }

    /// For programs: every single value.
    #[must_use]
    pub fn json(&self) -> Value {
        let of = |(figure, columns): &(Figure, Vec<Vec<f64>>)| {
            let values: serde_json::Map<String, Value> = self
                .columns
                .iter()
                .zip(columns)
                .map(|(name, values)| (name.clone(), json!({ "median": median(values), "values": values })))
                .collect();
            json!({ "name": figure.name, "unit": figure.unit, "less_is_better": figure.less_is_better, "stacks": values })
        };
        let figures: Vec<Value> = self.figures.iter().map(of).collect();
        json!({ "machine": machine(), "repetitions": self.repetitions, "figures": figures })
    }
}

/// The median, its ratio to that of the first column, and the spread.
fn cell(figure: &Figure, values: &[f64], first: Option<f64>) -> String {
    let Some(value) = median(values) else { return "-".to_owned() };
    let mut text = short(value);
    if let Some(first) = first.filter(|first| *first > 0.0 && value > 0.0) {
        let ratio = if figure.less_is_better { first / value } else { value / first };
        let _ = write!(text, " ({ratio:.2})");
    }
    if let [least, .., most] = values
        && value > 0.0
    {
        let _ = write!(text, " ±{:.0}%", (most - least) / value * 50.0);
    }
    text
}

/// The median of sorted values.
pub(super) fn median(sorted: &[f64]) -> Option<f64> {
    sorted.get(sorted.len() / 2).copied()
}

/// The machine, the kernel and this program.
#[must_use]
pub fn machine() -> Value {
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
        "build": if cfg!(debug_assertions) { "debug" } else { "release" },
        "load": read("/proc/loadavg").trim(),
    })
}

/// Three digits or all of them.
#[must_use]
pub fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
