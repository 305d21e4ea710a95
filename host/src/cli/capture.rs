//! The files that frames and recordings are written to.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use bulkhead::device::Device;
use bulkhead::device::pcap::{PcapWriter, Tap};

/// The file, while a tap or a recorder writes to it.
#[derive(Clone, Debug)]
pub(super) struct Capture {
    // The writer belongs to a driver, which may outlive the last word of the program: the file is flushed from here.
    file: Arc<Mutex<BufWriter<File>>>,
    name: Arc<str>,
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
    Ok(Capture::new(file, path))
}

/// Puts a tap on the device.
///
/// # Errors
/// Where the file cannot be written.
pub(super) fn tap(device: Box<dyn Device>, path: &Path) -> anyhow::Result<(Box<dyn Device>, Capture)> {
    let failed = || format!("{}: cannot write frames there; give --pcap another file", path.display());
    let capture = Capture::new(File::create(path).with_context(failed)?, path);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let writer =
        PcapWriter::new(capture.clone(), u64::try_from(now).unwrap_or_default()).with_context(failed)?;
    Ok((Box::new(Tap::new(device, writer)), capture))
}

impl Capture {
    fn new(file: File, path: &Path) -> Self {
        let file = Arc::new(Mutex::new(BufWriter::with_capacity(BUFFER, file)));
        Self { file, name: path.display().to_string().into() }
    }

    /// Writes out what is held back; an error is told.
    pub(super) fn end(mut self) {
        // Told by `flush` itself.
        let _ = self.flush();
    }

    /// The tap goes on without a word after an error, so it is told here.
    fn with<T>(&self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>) -> io::Result<T> {
        // A panic while it was locked leaves a file that is cut off somewhere, which is what a capture may be.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let tell = |error: &io::Error| {
            tracing::warn!(file = %self.name, %error, "this file is not written any more");
        };
        write(&mut file).inspect_err(tell)
    }
}

impl Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.with(BufWriter::flush)
    }
}
