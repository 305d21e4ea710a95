//! The file that frames are written to.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use bulkhead::device::Device;
use bulkhead::device::pcap::{PcapWriter, Tap};

/// Puts a tap on the device.
///
/// # Errors
/// Where the file cannot be written.
pub(super) fn tap(device: Box<dyn Device>, path: &Path) -> anyhow::Result<Box<dyn Device>> {
    let failed = || format!("{}: cannot write frames there; give --pcap another file", path.display());
    let file = File::create(path).with_context(failed)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let writer = PcapWriter::new(
        Told { file: BufWriter::new(file), name: path.display().to_string() },
        u64::try_from(now).unwrap_or_default(),
    )
    .with_context(failed)?;
    Ok(Box::new(Tap::new(device, writer)))
}

/// A file whose errors are told when they happen: the tap itself goes on without a word.
#[derive(Debug)]
struct Told {
    file: BufWriter<File>,
    name: String,
}

impl Told {
    fn tell<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result
            .inspect_err(|error| tracing::warn!(file = self.name, %error, "frames are not written any more"))
    }
}

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.file.write(bytes);
        self.tell(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.file.flush();
        self.tell(result)
    }
}
