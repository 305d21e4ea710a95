//! What a campaign begins with beside its own corpus: cases, captures of tcpdump and Wireshark, recordings of instances.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bulkhead::fuzz::{Case, seeds};
use bulkhead::record::{ReadError, Reader, Replay};

use super::replay::{header_of, instances};

/// The longest file that is taken for a case or a capture, in bytes.
const FILE_BYTES: u64 = 256 << 20;

/// Reads a file, or the files of a folder in the order of their names; says on standard error what became of those that are no
/// text. `module` is what recordings are replayed with, the recorded one where it is `None`.
///
/// # Errors
/// What the system says, and what is wrong with a file that was named itself.
pub(super) fn read(path: &Path, module: Option<&Path>) -> anyhow::Result<Vec<Case>> {
    let is_folder = path.is_dir();
    let mut files: Vec<PathBuf> = Vec::new();
    if is_folder {
        for entry in fs::read_dir(path).with_context(|| path.display().to_string())? {
            files.push(entry?.path());
        }
        files.retain(|file| file.is_file());
        files.sort();
    } else {
        files.push(path.to_owned());
    }
    let (mut cases, mut others) = (Vec::new(), 0);
    for file in files {
        match one(&file, module) {
            Ok(found) => cases.extend(found),
            Err(_) if is_folder => others += 1,
            Err(error) => return Err(error).with_context(|| file.display().to_string()),
        }
    }
    if others > 0 {
        eprintln!("{}: {others} files are no cases, captures or recordings, and left out", path.display());
    }
    Ok(cases)
}

fn one(file: &Path, module: Option<&Path>) -> anyhow::Result<Vec<Case>> {
    match Reader::new(BufReader::new(File::open(file)?)) {
        Ok(reader) => return recording(file, reader, module),
        Err(ReadError::Io(error)) => return Err(error.into()),
        Err(_) => {}
    }
    let length = fs::metadata(file)?.len();
    anyhow::ensure!(length <= FILE_BYTES, "{length} bytes are too many for seeds, at most {FILE_BYTES}");
    let bytes = fs::read(file)?;
    let mut traffic = seeds::Traffic::default();
    match (std::str::from_utf8(&bytes), seeds::capture(&bytes, &mut traffic)) {
        (_, Ok(())) => Ok(told(file, traffic)),
        (Ok(text), Err(_)) => Ok(vec![text.parse::<Case>().map_err(|error| anyhow::anyhow!("{error}"))?]),
        (Err(_), Err(error)) => Err(error.into()),
    }
}

/// The segments of a recording, as the module that made it answers them again.
fn recording(
    file: &Path,
    mut reader: Reader<BufReader<File>>,
    module: Option<&Path>,
) -> anyhow::Result<Vec<Case>> {
    let header = reader.header().clone();
    let (mut make, _) = instances(None, module, &header)?;
    let mut traffic = seeds::Traffic::default();
    Replay::new(&mut *make, false).run(&mut reader, None, u64::MAX, &mut |_, inputs, result| {
        for one in inputs.segments {
            let header = header_of(inputs.headers, one.header, one.header_length);
            traffic.packet(inputs.now, seeds::From::Peer, header, header.len() + one.payload as usize);
        }
        for one in result.iter().flat_map(|outputs| &outputs.sends) {
            let Ok(outputs) = result else { continue };
            let header = header_of(&outputs.headers, one.header, one.header_length);
            traffic.packet(inputs.now, seeds::From::Module, header, header.len() + one.length as usize);
        }
    })?;
    Ok(told(file, traffic))
}

fn told(file: &Path, traffic: seeds::Traffic) -> Vec<Case> {
    let (cases, left_out) = traffic.cases();
    let rest = match left_out {
        0 => String::new(),
        count => format!("; {count} packets belong to no TCP connection that begins in it"),
    };
    eprintln!("seeds     {}: {} connections{rest}", file.display(), cases.len());
    cases
}
