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

/// Everything that was measured: for each figure and each column the values of all repetitions, in their order.
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

    /// How one column compares with another in each figure that both have.
    pub fn ratios<'a>(&'a self, column: &str, to: &str) -> impl Iterator<Item = (&'a Figure, f64)> {
        let place = |name| self.columns.iter().position(|known| known == name);
        let places = place(column).zip(place(to));
        self.figures.iter().filter_map(move |(figure, columns)| {
            let (column, to) = places?;
            Some((figure, ratio(figure, columns.get(column)?, columns.get(to)?)?))
        })
    }

    /// For people: the machine, and the [`rows`](Self::rows).
    #[must_use]
    pub fn table(&self) -> String {
        let machine = machine();
        format!(
            "{} x {}, Linux {}; medians of {} with half of their range in percent; in brackets the ratio to the first \
             column, as the median of those of each repetition, more than 1 is better\n\n{}",
            machine["processors"],
            machine["processor"].as_str().unwrap_or("?"),
            machine["kernel"].as_str().unwrap_or("?"),
            self.repetitions,
            self.rows(),
        )
    }

    /// A row for each figure: medians, behind each its ratio to the first column (above 1 is better than it, whatever the
    /// unit; see [`ratio`]), and half of the range of its values in percent.
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
            let first = columns.iter().find(|values| !values.is_empty());
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

/// The median, its ratio to the first column, and the spread.
fn cell(figure: &Figure, values: &[f64], first: Option<&Vec<f64>>) -> String {
    let Some(Spread { least, median, most }) = spread(values) else { return "-".to_owned() };
    let mut text = short(median);
    if let Some(ratio) = first.and_then(|first| ratio(figure, values, first)) {
        let _ = write!(text, " ({ratio:.2})");
    }
    if values.len() > 1 && median > 0.0 {
        let _ = write!(text, " ±{:.0}%", (most - least) / median * 50.0);
    }
    text
}

/// How values compare with others of the same figure, more than 1 is better: the median of the ratios of each repetition, since a
/// virtual machine is twice as fast in one second as in the next. Where one of them lacks a repetition, the ratio of the medians.
#[must_use]
pub fn ratio(figure: &Figure, values: &[f64], to: &[f64]) -> Option<f64> {
    let one = |value: f64, to: f64| {
        let has_ratio = value > 0.0 && to > 0.0;
        has_ratio.then(|| if figure.less_is_better { to / value } else { value / to })
    };
    if values.len() != to.len() {
        return one(median(values)?, median(to)?);
    }
    let ratios: Option<Vec<f64>> = values.iter().zip(to).map(|(value, to)| one(*value, *to)).collect();
    median(&ratios?)
}

/// The median of values, in any order, and between what they lie.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Spread {
    /// The lowest.
    pub least: f64,
    /// The upper median.
    pub median: f64,
    /// The highest.
    pub most: f64,
}

/// Of values in any order; `None` where there are none.
#[must_use]
pub fn spread(values: &[f64]) -> Option<Spread> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = *sorted.get(sorted.len() / 2)?;
    Some(Spread { least: *sorted.first()?, median, most: *sorted.last()? })
}

/// The median of values, in any order.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    spread(values).map(|spread| spread.median)
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
