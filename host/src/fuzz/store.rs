//! The directory of a campaign: `corpus/` with a file for each case, and `findings/` with a folder for each finding.
//!
//! Cases are named by what is in them, so that directories of several machines are joined by copying files.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::campaign::Found;
use super::case::Case;
use super::check::Checker;
use super::trace::Trace;

/// A directory of a campaign. What cannot be written is remembered, and the campaign goes on.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    replay: String,
    trouble: Arc<Mutex<Option<String>>>,
}

/// Files that are read back at most.
const FILES: usize = 100_000;
/// The longest file that is taken for a case, in bytes.
const FILE_BYTES: u64 = 1 << 20;

impl Store {
    /// The campaign's directory, made where it is missing.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(folder: &Path) -> io::Result<Self> {
        for part in ["corpus", "findings"] {
            fs::create_dir_all(folder.join(part))?;
        }
        Ok(Self { folder: folder.to_owned(), replay: String::new(), trouble: Arc::default() })
    }

    /// With what a report tells to put behind `bulkhead fuzz replay CASE`, so that it is the same module with the same
    /// settings: nothing, or options with a space before each.
    #[must_use]
    pub fn replayed_with(self, replay: String) -> Self {
        Self { replay, ..self }
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The first thing that could not be written, if there was one.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn complain(&self, path: &Path, result: io::Result<()>) {
        if let Err(error) = result {
            let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
            trouble.get_or_insert_with(|| format!("{}: {error}", path.display()));
        }
    }

    /// The cases that were kept, ordered by name, and how many files are none.
    ///
    /// # Errors
    /// What the system says.
    pub fn corpus(&self) -> io::Result<(Vec<Case>, usize)> {
        read_cases(&self.folder.join("corpus"))
    }

    /// Keeps a case.
    pub fn keep(&self, case: &Case) {
        let text = case.to_string();
        let path = self.folder.join("corpus").join(name(&text));
        if !path.exists() {
            self.complain(&path, write(&path, text.as_bytes()));
        }
    }

    /// Replaces the corpus by these cases; returns how many files are gone.
    ///
    /// # Errors
    /// What the system says.
    pub fn replace(&self, cases: &[Case]) -> io::Result<usize> {
        let keep: Vec<String> = cases.iter().map(|case| name(&case.to_string())).collect();
        cases.iter().for_each(|case| self.keep(case));
        let mut gone = 0;
        for entry in fs::read_dir(self.folder.join("corpus"))? {
            let entry = entry?;
            if !keep.iter().any(|name| entry.file_name() == name.as_str()) {
                fs::remove_file(entry.path())?;
                gone += 1;
            }
        }
        Ok(gone)
    }

    /// Writes a finding down: the case, what it is with its backtrace and every frame, and the frames for Wireshark.
    pub fn report(&self, found: &Found, checker: &Checker) {
        let folder = self.folder.join("findings").join(&found.key);
        let mut trace = Trace::default();
        checker.plain(&found.case, Some(&mut trace));
        let text = format!(
            "{}\n\nmodule   {}\nfound    after {} runs\nreplay   bulkhead fuzz replay {}{}\n{}\n{}",
            found.finding,
            checker.target().name(),
            found.runs,
            folder.join("case.txt").display(),
            self.replay,
            super::trace::backtrace(&found.finding),
            trace.text(),
        );
        let written = fs::create_dir_all(&folder)
            .and_then(|()| write(&folder.join("case.txt"), found.case.to_string().as_bytes()))
            .and_then(|()| write(&folder.join("report.txt"), text.as_bytes()))
            .and_then(|()| write(&folder.join("wire.pcap"), &trace.pcap()));
        self.complain(&folder, written);
    }
}

/// A name for a case's text.
fn name(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("{:016x}.txt", hasher.finish())
}

/// Writes a file so that nobody ever reads half of it.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file = fs::File::create(&part)?;
    file.write_all(bytes)?;
    fs::rename(&part, path)
}

/// The cases in a file, or in the files of a folder, ordered by name; and how many files are none.
///
/// # Errors
/// What the system says.
pub fn read_cases(path: &Path) -> io::Result<(Vec<Case>, usize)> {
    let mut files = Vec::new();
    if path.is_dir() {
        for entry in fs::read_dir(path)?.take(FILES) {
            files.push(entry?.path());
        }
        files.sort();
    } else {
        files.push(path.to_owned());
    }
    let (mut cases, mut others) = (Vec::new(), 0);
    for file in files {
        let metadata = fs::metadata(&file)?;
        if metadata.is_dir() {
            continue;
        }
        let text = if metadata.len() > FILE_BYTES { None } else { fs::read_to_string(&file).ok() };
        match text.and_then(|text| text.parse().ok()) {
            Some(case) => cases.push(case),
            None => others += 1,
        }
    }
    Ok((cases, others))
}
