//! A directory as a page.

use std::fmt::Write as _;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{AtFlags, Dir, FileType};

use crate::apps::limits;

struct Entry {
    name: Vec<u8>,
    is_directory: bool,
    size: u64,
    modified: u64,
}

/// The page of an open directory that is reached by these names.
pub(super) fn page(directory: &OwnedFd, names: &[Vec<u8>]) -> io::Result<String> {
    let (entries, more) = entries(directory)?;
    let title = format!("/{}", names.iter().map(|name| escape(name) + "/").collect::<String>());
    let mut page = format!(
        "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>{title}</title>\
         <style>body{{font-family:monospace}}td{{padding-right:2em}}.n{{text-align:right}}</style></head>\n\
         <body><h1>{title}</h1>\n<table>\n"
    );
    if !names.is_empty() {
        page.push_str("<tr><td><a href=\"../\">../</a></td><td></td><td></td></tr>\n");
    }
    for entry in &entries {
        let slash = if entry.is_directory { "/" } else { "" };
        let size = if entry.is_directory { "-".to_owned() } else { entry.size.to_string() };
        let modified = super::date(UNIX_EPOCH + Duration::from_secs(entry.modified));
        // A name may look like a scheme ("a:b") where it stands alone.
        let _ = writeln!(
            page,
            "<tr><td><a href=\"./{}{slash}\">{}{slash}</a></td><td class=\"n\">{size}</td><td>{modified}</td></tr>",
            encode(&entry.name),
            escape(&entry.name),
        );
    }
    page.push_str("</table>\n");
    if more {
        let _ = writeln!(page, "<p>There are more; {} are shown.</p>", limits::LISTED);
    }
    page.push_str("</body></html>\n");
    Ok(page)
}

/// What is in a directory, directories first; and whether there is more than is shown.
fn entries(directory: &OwnedFd) -> io::Result<(Vec<Entry>, bool)> {
    let mut entries = Vec::new();
    let mut more = false;
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if entries.len() == limits::LISTED {
            more = true;
            break;
        }
        // A link is shown as itself: nothing is told of what may lie outside.
        let Ok(about) = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        entries.push(Entry {
            name: name.to_bytes().to_vec(),
            is_directory: FileType::from_raw_mode(about.st_mode) == FileType::Directory,
            size: u64::try_from(about.st_size).unwrap_or_default(),
            modified: u64::try_from(about.st_mtime).unwrap_or_default().min(LAST_SECOND),
        });
    }
    entries.sort_by(|one, other| {
        other.is_directory.cmp(&one.is_directory).then_with(|| one.name.cmp(&other.name))
    });
    Ok((entries, more))
}

/// The end of the year 9999, after which HTTP has no dates.
const LAST_SECOND: u64 = 253_402_300_799;

/// The path of a directory, as a link.
pub(super) fn address(names: &[Vec<u8>]) -> String {
    let path: String = names.iter().map(|name| encode(name) + "/").collect();
    format!("/{path}")
}

/// Percent-encodes all but the unreserved characters of RFC 3986 2.3.
fn encode(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(*byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// A name as text within HTML.
fn escape(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len());
    for letter in String::from_utf8_lossy(name).chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            letter if letter.is_control() => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
    out
}
