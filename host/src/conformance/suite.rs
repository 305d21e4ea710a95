//! A folder of scripts: all of them, as a table.

use super::report::Failure;
use crate::placement::Instance;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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
    /// It cannot be read, or there is no instance to run it against.
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
        let text = fs::read_to_string(&file)?;
        let verdict = match (super::parse(&name, &text), factory()) {
            (Err(error), _) => Verdict::Broken(error.to_string()),
            (_, Err(error)) => Verdict::Broken(error),
            (Ok(script), Ok(instance)) => match super::run(&script, instance) {
                Ok(()) => Verdict::Passed,
                Err(failure) => Verdict::Failed(failure),
            },
        };
        suite.scripts.push(Ran { name, verdict });
    }
    Ok(suite)
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
        let mut folders: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
        for ran in &self.scripts {
            let folder = ran.name.rsplit_once('/').map_or("", |(folder, _)| folder);
            let counts = folders.entry(folder).or_default();
            if matches!(ran.verdict, Verdict::Passed) { counts.0 += 1 } else { counts.1 += 1 }
        }
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
            Verdict::Broken(what) => write!(f, "{}: {what}", self.name),
        }
    }
}
