//! From a path in a request to an open file within the served directory, and never to one outside.
//!
//! The kernel itself keeps us inside (`openat2` with `RESOLVE_BENEATH`), so that nobody who swaps a directory for a
//! symbolic link between a check and the opening gets us out.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::apps::limits;

/// A directory that is served.
#[derive(Debug)]
pub(super) struct Root {
    directory: OwnedFd,
}

/// What a path leads to.
#[derive(Debug)]
pub(super) enum Found {
    /// A regular file.
    File(File),
    /// A directory.
    Directory(OwnedFd),
}

/// Why a path leads to nothing.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is no path.
    Malformed,
    /// It leads out of the directory, to something that is no file, or to what we may not read.
    Forbidden,
    /// There is no such file.
    Missing,
    /// The system has no more files or memory to give now.
    Busy,
    /// Anything else.
    System(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => Self::Missing,
            Some(Errno::ACCESS | Errno::PERM | Errno::XDEV | Errno::LOOP | Errno::NXIO) => Self::Forbidden,
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => Self::Busy,
            _ => Self::System(error),
        }
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::from(io::Error::from(errno))
    }
}

/// The names that a path consists of, percent-decoded (RFC 3986 2.1). Empty names and `.` are left out.
pub(super) fn names(path: &str) -> Result<Vec<Vec<u8>>, Refusal> {
    let mut names = Vec::new();
    let mut bytes = 0;
    for part in path.split('/') {
        let name = decode(part)?;
        bytes += name.len() + 1;
        match name.as_slice() {
            b"" | b"." => {}
            b".." => return Err(Refusal::Forbidden),
            name if name.contains(&0) || name.contains(&b'/') => return Err(Refusal::Malformed),
            _ => names.push(name),
        }
        if bytes > limits::PATH_BYTES {
            return Err(Refusal::Missing);
        }
    }
    Ok(names)
}

fn decode(part: &str) -> Result<Vec<u8>, Refusal> {
    let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
    let mut out = Vec::with_capacity(part.len());
    let mut bytes = part.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
                return Err(Refusal::Malformed);
            };
            out.push((high * 16 + low) as u8);
        } else {
            out.push(byte);
        }
    }
    Ok(out)
}

/// Opening a pipe must not wait for its other end, nor a terminal become ours.
const OPEN: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);
/// Times that a lookup is tried again while others rename what it walks through.
const TRIES: u32 = 8;

impl Root {
    /// Opens the directory; what its path means is settled here, once.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { directory: rustix::fs::openat(CWD, path, flags, Mode::empty())? })
    }

    /// What is there under these names.
    pub(super) fn find(&self, names: &[Vec<u8>]) -> Result<Found, Refusal> {
        let file = self.open_beneath(names)?;
        match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
            FileType::RegularFile => Ok(Found::File(File::from(file))),
            FileType::Directory => Ok(Found::Directory(file)),
            _ => Err(Refusal::Forbidden),
        }
    }

    fn open_beneath(&self, names: &[Vec<u8>]) -> Result<OwnedFd, Refusal> {
        let path = if names.is_empty() { b".".to_vec() } else { names.join(&b'/') };
        let path = OsStr::from_bytes(&path);
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..TRIES {
            match rustix::fs::openat2(&self.directory, path, OPEN, Mode::empty(), beneath) {
                Ok(file) => return Ok(file),
                // Somebody renamed something on the way, and the kernel is not sure that we stayed inside.
                Err(Errno::AGAIN | Errno::INTR) => {}
                // Before Linux 5.6, or where a container's filter does not know the call.
                Err(Errno::NOSYS | Errno::PERM) => return self.walk(names),
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(Refusal::Busy)
    }

    /// Name by name, without following a single symbolic link.
    fn walk(&self, names: &[Vec<u8>]) -> Result<OwnedFd, Refusal> {
        let flags = OPEN | OFlags::NOFOLLOW;
        let mut at = rustix::fs::openat(&self.directory, ".", flags, Mode::empty())?;
        for name in names {
            at = rustix::fs::openat(&at, OsStr::from_bytes(name), flags, Mode::empty())?;
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_and_never_lead_up() {
        let names = |path| names(path).map_err(|refusal| format!("{refusal:?}"));
        assert_eq!(names("/a%20b//./c/").unwrap(), [b"a b".to_vec(), b"c".to_vec()]);
        assert_eq!(names("/").unwrap(), Vec::<Vec<u8>>::new());
        for path in ["/..", "/a/../b", "/%2e%2E/etc/passwd", "/.%2e/x"] {
            assert_eq!(names(path).unwrap_err(), "Forbidden", "{path}");
        }
        for path in ["/a%2fb", "/%00", "/%", "/%4", "/%zz"] {
            assert_eq!(names(path).unwrap_err(), "Malformed", "{path}");
        }
        assert_eq!(names(&"/a".repeat(3000)).unwrap_err(), "Missing");
    }

    #[test]
    fn the_walk_follows_no_link() {
        let folder = crate::apps::http::tests::Folder::new("walk");
        std::fs::create_dir(folder.path().join("in")).unwrap();
        std::fs::write(folder.path().join("in/file"), b"x").unwrap();
        std::os::unix::fs::symlink("in", folder.path().join("link")).unwrap();
        let root = Root::open(folder.path()).unwrap();
        let path = |names: &[&str]| names.iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>();
        assert!(root.walk(&path(&["in", "file"])).is_ok());
        assert!(root.walk(&path(&["link", "file"])).is_err());
        // A link that stays inside is followed where the kernel watches over it.
        assert!(matches!(root.find(&path(&["link", "file"])), Ok(Found::File(_))));
    }
}
