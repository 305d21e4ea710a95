//! A folder of scripts: all of them, as a table.

use super::report::Failure;
use crate::placement::Instance;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Scripts of the repository by their names in `tests/conformance`, and what is in them.
macro_rules! scripts {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../tests/conformance/", $name)))),*]
    };
}

/// What [`run_basic`] runs.
const BASIC: &[(&str, &str)] = scripts![
    "rfc1191/smaller-path.pkt",
    "rfc5961/rst-in-window.pkt",
    "rfc5961/syn-in-established.pkt",
    "rfc6298/first-timeout.pkt",
    "rfc6582/fast-retransmit.pkt",
    "rfc7323/paws.pkt",
    "rfc7323/window-scale.pkt",
    "rfc792/echo.pkt",
    "rfc8985/three-sacks.pkt",
    "rfc9293-3.10.7.1-closed/syn-is-reset.pkt",
    "rfc9293-3.10.7.2-listen/handshake.pkt",
    "rfc9293-3.10.7.2-listen/syn-ack-retransmission.pkt",
    "rfc9293-3.10.7.3-syn-sent/handshake.pkt",
    "rfc9293-3.10.7.3-syn-sent/simultaneous-open.pkt",
    "rfc9293-3.10.7.4-fin/active-close.pkt",
    "rfc9293-3.10.7.4-fin/half-close.pkt",
    "rfc9293-3.10.7.4-fin/passive-close.pkt",
    "rfc9293-3.10.7.4-sequence/beyond-the-window.pkt",
    "rfc9293-3.10.7.4-text/out-of-order.pkt",
    "rfc9293-3.7.4-nagle/one-small-segment.pkt",
    "rfc9293-3.8.6-windows/zero-window-probe.pkt",
];

/// Scripts of one suite, at most.
const SCRIPTS: usize = 10_000;

/// Gives fresh instances of the module under test.
pub type Factory<'a> = dyn Fn() -> Result<Box<dyn Instance>, String> + 'a;

/// What became of a script.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It holds.
    Passed,
    /// It does not.
    Failed(Box<Failure>),
    /// It cannot be read, or there is no instance to run it against: which, and why.
    Broken(String),
}

/// One script of a suite.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Folder and file, as in `rfc7323/paws.pkt`.
    pub name: String,
    /// What became of it.
    pub verdict: Verdict,
}

/// All scripts of a folder.
#[derive(Clone, Debug, Default)]
pub struct Suite {
    /// In the order of their names.
    pub scripts: Vec<Ran>,
}

/// Runs every `.pkt` file below `folder`, each against a fresh instance.
///
/// # Errors
/// What the file system says.
pub fn run_suite(folder: &Path, factory: &Factory<'_>) -> io::Result<Suite> {
    let mut files = Vec::new();
    find(folder, &mut files)?;
    files.sort();
    let mut suite = Suite::default();
    for file in files {
        let name = file.strip_prefix(folder).unwrap_or(&file).to_string_lossy().into_owned();
        suite.add(&name, &fs::read_to_string(&file)?, factory);
    }
    Ok(suite)
}

/// Runs the scripts that the library carries inside it: a few for each part of the protocol, for a first look.
#[must_use]
pub fn run_basic(factory: &Factory<'_>) -> Suite {
    let mut suite = Suite::default();
    BASIC.iter().for_each(|(name, text)| suite.add(name, text, factory));
    suite
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "pkt") && files.len() < SCRIPTS {
            files.push(path);
        }
    }
    Ok(())
}

impl Suite {
    fn add(&mut self, name: &str, text: &str, factory: &Factory<'_>) {
        let verdict = match (super::parse(name, text), factory()) {
            (Err(error), _) => Verdict::Broken(error.to_string()),
            (_, Err(error)) => Verdict::Broken(format!("{name}: {error}")),
            (Ok(script), Ok(instance)) => match super::run(&script, instance) {
                Ok(()) => Verdict::Passed,
                Err(failure) => Verdict::Failed(failure),
            },
        };
        self.scripts.push(Ran { name: name.to_owned(), verdict });
    }

    /// Scripts passed and failed, folder by folder.
    #[must_use]
    pub fn folders(&self) -> BTreeMap<&str, (u32, u32)> {
        let mut folders: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
        for ran in &self.scripts {
            let folder = ran.name.rsplit_once('/').map_or("", |(folder, _)| folder);
            let counts = folders.entry(folder).or_default();
            if matches!(ran.verdict, Verdict::Passed) { counts.0 += 1 } else { counts.1 += 1 }
        }
        folders
    }

    /// Scripts that do not hold.
    pub fn failed(&self) -> impl Iterator<Item = &Ran> {
        self.scripts.iter().filter(|ran| !matches!(ran.verdict, Verdict::Passed))
    }

    /// Writes the frames of each failed script to `folder`, as a capture that Wireshark reads.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write_captures(&self, folder: &Path) -> io::Result<()> {
        for ran in &self.scripts {
            if let Verdict::Failed(failure) = &ran.verdict {
                fs::create_dir_all(folder)?;
                let name = ran.name.replace(['/', '\\'], "-").replace(".pkt", ".pcap");
                failure.trace.write_pcap(&mut io::BufWriter::new(fs::File::create(folder.join(name))?))?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Suite {
    /// A table: scripts passed and failed, folder by folder.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folders = self.folders();
        let width = folders.keys().map(|folder| folder.len()).max().unwrap_or(0).max(6);
        writeln!(f, "{:width$}  passed  failed", "folder")?;
        for (folder, (passed, failed)) in &folders {
            writeln!(f, "{folder:width$}  {passed:>6}  {failed:>6}")?;
        }
        let sum = folders.values().fold((0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1));
        writeln!(f, "{:width$}  {:>6}  {:>6}", "all", sum.0, sum.1)
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verdict {
            Verdict::Passed => write!(f, "{}: passed", self.name),
            Verdict::Failed(failure) => write!(f, "{failure}"),
            Verdict::Broken(what) => writeln!(f, "{what}"),
        }
    }
}
