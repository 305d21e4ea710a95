//! The file that frames are written to.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use bulkhead::device::Device;
use bulkhead::device::pcap::{PcapWriter, Tap};

/// The file, while a tap writes to it.
#[derive(Clone, Debug)]
pub(super) struct Capture {
    // The device belongs to its driver, which may outlive the last word of the program: the file is flushed from here.
    file: Arc<Mutex<BufWriter<File>>>,
    name: Arc<str>,
}

/// Puts a tap on the device.
///
/// # Errors
/// Where the file cannot be written.
pub(super) fn tap(device: Box<dyn Device>, path: &Path) -> anyhow::Result<(Box<dyn Device>, Capture)> {
    let failed = || format!("{}: cannot write frames there; give --pcap another file", path.display());
    let file = Arc::new(Mutex::new(BufWriter::new(File::create(path).with_context(failed)?)));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let capture = Capture { file, name: path.display().to_string().into() };
    let writer =
        PcapWriter::new(capture.clone(), u64::try_from(now).unwrap_or_default()).with_context(failed)?;
    Ok((Box::new(Tap::new(device, writer)), capture))
}

impl Capture {
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
            tracing::warn!(file = %self.name, %error, "frames are not written any more");
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
