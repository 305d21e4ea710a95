//! What a corpus reaches of a module: by function, and by source line where the module has line tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use bulkhead_wit::Setting;

use super::case::Case;
use super::execute::{Executor, World};
use super::target::Target;
use crate::fault::Fault;
use crate::placement::wasm::Tables;

/// What was reached.
#[derive(Clone, Debug, Default)]
pub struct Cover {
    /// For each edge in how many cases it was passed.
    pub edges: Vec<u32>,
    /// Functions with at least one edge.
    pub functions: Vec<Function>,
    /// Source lines by file; empty where the module has no line tables.
    pub files: BTreeMap<String, BTreeMap<u32, u32>>,
}

/// A function and how much of it was reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Function {
    /// Its name, or its number.
    pub name: String,
    /// Its edges.
    pub edges: u32,
    /// Those that were passed.
    pub passed: u32,
}

impl Cover {
    /// Runs these cases, each in a fresh instance.
    ///
    /// # Errors
    /// How the module fails to be instantiated.
    pub fn of(target: &Target, seed: u64, settings: &[Setting], cases: &[Case]) -> Result<Self, Fault> {
        let probes = &target.instrumented().probes;
        let mut edges = vec![0u32; probes.len()];
        let world = World::new(seed, settings);
        let mut executor = Executor::default();
        for case in cases {
            let kept = target.kept()?;
            executor.run(kept.again(), &world, case, None);
            // A case that ends in a fault shows nothing.
            let _ = kept.counters(|now| {
                edges.iter_mut().zip(now).for_each(|(edge, count)| *edge += u32::from(*count > 0));
            });
        }
        let functions = functions(target, &edges);
        let files = lines(target, &edges);
        Ok(Self { edges, functions, files })
    }

    /// A table for people: functions, those with the most edges that nobody has reached first.
    #[must_use]
    pub fn table(&self, most: usize) -> String {
        let mut text = String::new();
        let passed = self.edges.iter().filter(|count| **count > 0).count();
        let _ = writeln!(
            text,
            "edges      {passed} of {} ({})",
            self.edges.len(),
            percent(passed, self.edges.len())
        );
        let reached = self.functions.iter().filter(|function| function.passed > 0).count();
        let _ = writeln!(text, "functions  {reached} of {}", self.functions.len());
        if !self.files.is_empty() {
            let (hit, all) = self.files.values().fold((0, 0), |(hit, all), lines| {
                (hit + lines.values().filter(|count| **count > 0).count(), all + lines.len())
            });
            let _ = writeln!(text, "lines      {hit} of {all} ({})", percent(hit, all));
        }
        let mut order: Vec<&Function> = self.functions.iter().collect();
        order.sort_by_key(|function| std::cmp::Reverse(function.edges - function.passed));
        let _ = writeln!(text, "\nmissed  of     function");
        for function in order.into_iter().take(most).filter(|function| function.passed < function.edges) {
            let Function { name, edges, passed } = function;
            let _ = writeln!(text, "{:>6}  {edges:<5}  {name}", edges - passed);
        }
        text
    }

    /// For genhtml and everything else that reads lcov's format.
    #[must_use]
    pub fn lcov(&self) -> String {
        let mut text = String::from("TN:bulkhead-fuzz\n");
        for (file, lines) in &self.files {
            let _ = writeln!(text, "SF:{file}");
            for (line, count) in lines {
                let _ = writeln!(text, "DA:{line},{count}");
            }
            let hit = lines.values().filter(|count| **count > 0).count();
            let _ = writeln!(text, "LF:{}\nLH:{hit}\nend_of_record", lines.len());
        }
        text
    }

    /// One page: files, and their lines where the sources are found below `sources`.
    #[must_use]
    pub fn html(&self, title: &str, sources: &Path) -> String {
        let mut page = format!(
            "<!doctype html><meta charset=utf-8><title>{0}</title><style>body{{font:14px sans-serif}}pre{{margin:0}}\
             .hit{{background:#dfd}}.miss{{background:#fdd}}summary{{cursor:pointer}}</style><h1>{0}</h1>\n",
            escaped(title)
        );
        let _ = writeln!(page, "<pre>{}</pre>", escaped(&self.table(0)));
        for (file, lines) in &self.files {
            let hit = lines.values().filter(|count| **count > 0).count();
            let share = percent(hit, lines.len());
            let _ = writeln!(page, "<details><summary>{share} {}</summary><pre>", escaped(file));
            let source =
                std::fs::read_to_string(sources.join(file.trim_start_matches('/'))).unwrap_or_default();
            if source.is_empty() {
                lines.iter().for_each(|(line, count)| page.push_str(&html_line(*line, Some(*count), "")));
            }
            for (number, text) in (1..).zip(source.lines()) {
                page.push_str(&html_line(number, lines.get(&number).copied(), text));
            }
            page.push_str("</pre></details>\n");
        }
        page
    }
}

fn html_line(number: u32, count: Option<u32>, text: &str) -> String {
    let class = match count {
        Some(0) => " class=miss",
        Some(_) => " class=hit",
        None => "",
    };
    let count = count.map(|count| count.to_string()).unwrap_or_default();
    format!("<span{class}>{number:>5} {count:>7}  {}</span>\n", escaped(text))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn percent(part: usize, whole: usize) -> String {
    if whole == 0 { "-".into() } else { format!("{:.1} %", 100.0 * part as f64 / whole as f64) }
}

fn functions(target: &Target, edges: &[u32]) -> Vec<Function> {
    let names: BTreeMap<u32, &str> =
        target.instrumented().names.iter().map(|(index, name)| (*index, name.as_str())).collect();
    let mut counts: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
    for (probe, count) in target.instrumented().probes.iter().zip(edges) {
        let function = counts.entry(probe.function).or_default();
        function.0 += 1;
        function.1 += u32::from(*count > 0);
    }
    counts
        .into_iter()
        .map(|(index, (edges, passed))| {
            let name = names.get(&index).map(|name| format!("{:#}", rustc_demangle::demangle(name)));
            Function { name: name.unwrap_or_else(|| format!("function {index}")), edges, passed }
        })
        .collect()
}

/// Lines in which an edge begins, with the number of cases that pass it.
fn lines(target: &Target, edges: &[u32]) -> BTreeMap<String, BTreeMap<u32, u32>> {
    let mut files: BTreeMap<String, BTreeMap<u32, u32>> = BTreeMap::new();
    let Some(tables) = Tables::of(target.core()) else { return files };
    for (probe, count) in target.instrumented().probes.iter().zip(edges) {
        if let Some((file, line)) = tables.line(u64::from(probe.offset)) {
            let hits = files.entry(file.to_owned()).or_default().entry(line).or_default();
            *hits = (*hits).max(*count);
        }
    }
    files
}
