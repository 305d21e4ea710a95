//! Unix sockets in the file system, for their owner alone.

use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use rustix::fs::Mode;

/// Binds a socket, in the place of one behind which nobody is any more, as `connect` finds out.
///
/// # Errors
/// What the system says; [`io::ErrorKind::AddrInUse`] if there is anything else, or somebody behind it.
pub(super) fn bind<'a, S, T>(
    path: &'a Path,
    connect: impl FnOnce(&'a Path) -> io::Result<S>,
    bind: impl FnOnce(&'a Path) -> io::Result<T>,
) -> io::Result<T> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|old| old.file_type().is_socket());
    if is_socket && connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    // Never open to others, not even for a moment.
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = bind(path);
    rustix::process::umask(before);
    bound
}
