//! Fault reports as files: what failed, over which input, with the module's backtrace, and a recording that does it again.
//!
//! Each is a text and a recording of the same name, for the owner alone. There is no byte of any application in either, since
//! modules see none; those with payload access do, and then the text says so. Writing is the work of a thread of its own: a fault is no reason to wait for a disk.

use super::Incident;
use crate::record::{Header, Snapshot};
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

/// Reports that a folder keeps, the newest.
pub const KEPT: usize = 32;
/// Bytes of all of them together; the oldest go.
pub const KEPT_BYTES: u64 = 256 << 20;
/// The longest recording that goes with a report, in bytes.
pub const RECORDING: usize = 32 << 20;
/// Reports that may wait for the disk; what comes beyond is told in the log alone.
const WAITING: usize = 4;
/// What the names of reports begin with.
const PREFIX: &str = "fault-";

/// Writes reports into a folder. When it is dropped, what waits is written first.
#[derive(Debug)]
pub struct Reporter {
    sender: Option<SyncSender<Report>>,
    written: Arc<AtomicU64>,
    writer: Option<JoinHandle<()>>,
}

/// One report, on its way.
struct Report {
    at: SystemTime,
    text: String,
    recording: Option<Snapshot>,
}

impl Reporter {
    /// Reports go into this folder, which is made if there is none.
    ///
    /// # Errors
    /// What the system says to the folder or to a thread.
    pub fn new(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let (sender, receiver) = sync_channel(WAITING);
        let folder = folder.to_owned();
        let written = Arc::<AtomicU64>::default();
        let count = Arc::clone(&written);
        let writer = std::thread::Builder::new()
            .name("bulkhead-reports".into())
            .spawn(move || write_all(&folder, &receiver, &count))?;
        Ok(Self { sender: Some(sender), written, writer: Some(writer) })
    }

    /// Counts the reports that were written, also after it is dropped.
    #[must_use]
    pub fn written(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.written)
    }

    pub(super) fn report(&self, incident: &Incident, header: &Header, recording: Option<Snapshot>) {
        let report = Report { at: SystemTime::now(), text: text(incident, header), recording };
        if self.sender.as_ref().is_none_or(|sender| sender.try_send(report).is_err()) {
            tracing::warn!("a fault is not reported: earlier reports are not written yet");
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(writer) = self.writer.take() {
            // A writer that has panicked has said so itself.
            let _ = writer.join();
        }
    }
}

fn write_all(folder: &Path, reports: &Receiver<Report>, written: &AtomicU64) {
    for (number, report) in (0_u32..).zip(reports) {
        let result = write_one(folder, number, report).and_then(|()| tidy(folder));
        match result {
            Ok(()) => _ = written.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                tracing::warn!(%error, folder = %folder.display(), "a fault's report cannot be written");
            }
        }
    }
}

/// The recording first: a text that is there has its recording beside it.
fn write_one(folder: &Path, number: u32, report: Report) -> io::Result<()> {
    let since = report.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = format!("{PREFIX}{:014}-{number:06}", since.as_millis());
    let mut text = report.text;
    let recording = report.recording.and_then(|snapshot| snapshot.encode());
    match recording {
        Some(bytes) if bytes.len() <= RECORDING => {
            let file = format!("{name}.rec");
            private(&folder.join(&file))?.write_all(&bytes)?;
            let _ = writeln!(text, "recording  {file}; `bulkhead replay {file}` does it again");
        }
        Some(bytes) => {
            let _ = writeln!(text, "recording  none: it has {} bytes, {RECORDING} are the most", bytes.len());
        }
        None => text.push_str("recording  none was kept\n"),
    }
    private(&folder.join(format!("{name}.txt")))?.write_all(text.as_bytes())
}

/// A new file for its owner alone.
fn private(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// The oldest reports go, until those that are left are few and small enough.
fn tidy(folder: &Path) -> io::Result<()> {
    let mut files: Vec<(String, PathBuf, u64)> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_ours = name.starts_with(PREFIX) && (name.ends_with(".txt") || name.ends_with(".rec"));
        if is_ours && entry.file_type()?.is_file() {
            let stem = name[..name.len() - 4].to_owned();
            files.push((stem, entry.path(), entry.metadata()?.len()));
        }
    }
    files.sort_unstable();
    let mut stems: Vec<&str> = files.iter().map(|(stem, ..)| stem.as_str()).collect();
    stems.dedup();
    let (mut reports, mut bytes) = (stems.len(), files.iter().map(|(_, _, size)| size).sum::<u64>());
    for stem in stems {
        if reports <= KEPT && bytes <= KEPT_BYTES {
            break;
        }
        for (_, path, size) in files.iter().filter(|(of, ..)| of == stem) {
            fs::remove_file(path)?;
            bytes -= size;
        }
        reports -= 1;
    }
    Ok(())
}

fn text(incident: &Incident, header: &Header) -> String {
    let mut text = String::new();
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let hash: String = match header.identity.hash {
        Some(hash) => hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        None => "no file".into(),
    };
    let shown = |name: &str| name.chars().filter(|letter| !letter.is_control()).take(80).collect::<String>();
    let _ = writeln!(
        text,
        "time       {}.{:03} s since 1970, {} ns of the stack's",
        at.as_secs(),
        at.subsec_millis(),
        incident.at
    );
    let _ = writeln!(
        text,
        "module     {} {}, {hash}, {}",
        shown(&header.description.name),
        shown(&header.description.version),
        header.identity.placement
    );
    let _ = writeln!(text, "program    bulkhead {}", header.program);
    if header.has_payload {
        text.push_str("payload    the module reads it, and the recording holds what it has read\n");
    }
    let _ = writeln!(text, "fault      {}", incident.fault.report());
    let _ = writeln!(
        text,
        "input      {}",
        if incident.left_out.is_empty() {
            "none that does it again".to_owned()
        } else {
            incident.left_out.join("; ")
        }
    );
    let outcome = match (incident.recovered, incident.restarted) {
        (true, _) => format!("recovered in {} us", incident.took.as_micros()),
        (false, true) => "the module was started afresh".to_owned(),
        (false, false) => "the module was given up".to_owned(),
    };
    let _ = writeln!(text, "outcome    {outcome}; {} connections lost", incident.streams);
    text
}
