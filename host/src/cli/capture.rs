//! The files that frames and recordings are written to.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use bulkhead::device::Device;
use bulkhead::device::pcap::{PcapWriter, Tap};
use bulkhead_wit::Time;

/// The file, while a tap or a recorder writes to it.
#[derive(Clone, Debug)]
pub(super) struct Capture {
    // The writer belongs to a driver, which may outlive the last word of the program: the file is flushed from here.
    to: Arc<Mutex<Shared>>,
    name: Arc<str>,
}

/// A file that two processes have open, of which one writes at a time: each goes on where the other has stopped, since they
/// share the place in it.
#[derive(Debug)]
struct Shared {
    file: BufWriter<File>,
    turn: Turn,
}

#[derive(Debug)]
enum Turn {
    /// What is written goes to the file.
    Ours,
    /// It waits here: the predecessor may yet go on.
    Theirs(Vec<u8>),
    /// A successor writes to it.
    Over,
}

impl Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.turn {
            Turn::Ours => self.file.write(bytes),
            Turn::Theirs(held) => held.write(bytes),
            Turn::Over => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if matches!(self.turn, Turn::Ours) { self.file.flush() } else { Ok(()) }
    }

    fn begin(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.turn, Turn::Ours) {
            Turn::Theirs(held) => self.file.write_all(&held),
            _ => Ok(()),
        }
    }
}

/// The files that the frames of each queue are written to.
#[derive(Debug, Default)]
pub(super) struct Frames {
    pub(super) files: Vec<Capture>,
    /// When the stacks' time was 0, in nanoseconds since 1970.
    pub(super) origin: Time,
}

/// Bytes that are written at a time.
const BUFFER: usize = 256 << 10;
/// A recording holds seed, addresses and ports: it is for its owner alone.
const PRIVATE: u32 = 0o600;

/// The file of a recording, for its owner alone, whoever could read what was there before.
///
/// # Errors
/// Where it cannot be written.
pub(super) fn recording(path: &Path) -> anyhow::Result<Capture> {
    let failed = || format!("{}: cannot record there; give --record another file", path.display());
    let file = File::options().write(true).create(true).truncate(true).mode(PRIVATE).open(path);
    let file = file.with_context(failed)?;
    file.set_permissions(Permissions::from_mode(PRIVATE)).with_context(failed)?;
    Ok(Capture::new(file, path, Turn::Ours))
}

/// Queues of a device.
pub(super) type Queues = Vec<Box<dyn Device>>;

/// The file of this shard: the first has the name that was asked for, the others a number behind it.
pub(super) fn numbered(path: &Path, index: usize) -> PathBuf {
    if index == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{index}"));
    name.into()
}

impl Frames {
    /// Puts a tap on each queue, if there is a file for it.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub(super) fn tap(queues: Queues, path: Option<&Path>) -> anyhow::Result<(Queues, Self)> {
        let Some(path) = path else { return Ok((queues, Self::default())) };
        let failed = || format!("{}: cannot write frames there; give --pcap another file", path.display());
        let origin = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let mut frames = Self { files: Vec::new(), origin: Time::try_from(origin).unwrap_or_default() };
        let mut tapped: Queues = Vec::new();
        for (index, queue) in queues.into_iter().enumerate() {
            let path = numbered(path, index);
            let file = Capture::new(File::create(&path).with_context(failed)?, &path, Turn::Ours);
            let writer = PcapWriter::new(file.clone(), frames.origin).with_context(failed)?;
            tapped.push(Box::new(Tap::new(queue, writer)));
            frames.files.push(file);
        }
        Ok((tapped, frames))
    }

    /// Puts taps on queues that a predecessor had on them; its files go on.
    pub(super) fn go_on(self, queues: Queues) -> (Queues, Self) {
        let mut files = self.files.iter();
        let tapped = queues.into_iter().map(|queue| match files.next() {
            Some(file) => Box::new(Tap::new(queue, PcapWriter::behind(file.clone(), self.origin))),
            None => queue,
        });
        (tapped.collect(), self)
    }
}

impl Capture {
    fn new(file: File, path: &Path, turn: Turn) -> Self {
        let shared = Shared { file: BufWriter::with_capacity(BUFFER, file), turn };
        Self { to: Arc::new(Mutex::new(shared)), name: path.display().to_string().into() }
    }

    /// A file of a predecessor's: what is written waits until it is [ours](Self::begin).
    pub(super) fn inherited(file: OwnedFd, path: &Path) -> Self {
        Self::new(file.into(), path, Turn::Theirs(Vec::new()))
    }

    /// A second name of its descriptor.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.with(|to| to.file.get_ref().try_clone()).map(Into::into)
    }

    /// The predecessor has let go.
    pub(super) fn begin(&self) {
        // An error is told by `with`.
        let _ = self.with(Shared::begin);
    }

    /// A successor writes to the file from here on, behind what is written out.
    pub(super) fn leave(&self) {
        let _ = self.with(|to| {
            to.turn = Turn::Over;
            Ok(())
        });
    }

    /// Writes out what is held back; an error is told.
    pub(super) fn write_out(&self) {
        let _ = self.with(Shared::flush);
    }

    /// The tap goes on without a word after an error, so it is told here.
    fn with<T>(&self, write: impl FnOnce(&mut Shared) -> io::Result<T>) -> io::Result<T> {
        // A panic while it was locked leaves a file that is cut off somewhere, which is what a capture may be.
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        let tell = |error: &io::Error| {
            tracing::warn!(file = %self.name, %error, "this file is not written any more");
        };
        write(&mut to).inspect_err(tell)
    }
}

impl Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|to| to.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.with(Shared::flush)
    }
}
