//! Calls that pass the interface by: in effect only where this library is preloaded.

use super::calls::{get_option, is_ours, transmit};
use super::memory::Buffers;
use super::{LATEST, count};
use crate::transfer::CALL;
use crate::wait::Shared;
use libc::{c_int, c_void, iovec, off_t, size_t, socklen_t, ssize_t};
use std::ptr;
use std::sync::atomic::Ordering;

/// The world that was made last, if the descriptor is one of its sockets.
fn latest<'a>(fd: c_int) -> Option<&'a Shared> {
    let data = LATEST.load(Ordering::Acquire);
    // SAFETY: set to a living world, and cleared before that is dropped; the loader frees it at its very end.
    let shared = unsafe { data.as_ref() }?;
    is_ours(shared, fd).then_some(shared)
}

/// `getsockopt`, for our sockets and all others.
///
/// # Safety
/// As the system call of this name.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn getsockopt(
    fd: c_int,
    level: c_int,
    option: c_int,
    value: *mut c_void,
    length: *mut socklen_t,
) -> c_int {
    match latest(fd) {
        // SAFETY: the world is alive, the rest is the caller's part.
        Some(shared) => unsafe {
            get_option(ptr::from_ref(shared).cast_mut().cast(), fd, level, option, value, length)
        },
        // SAFETY: the kernel checks what it is given.
        None => unsafe { libc::syscall(libc::SYS_getsockopt, fd, level, option, value, length) as c_int },
    }
}

/// `sendfile`, for our sockets and all others.
///
/// # Safety
/// As the system call of this name.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn sendfile(
    to: c_int,
    from: c_int,
    offset: *mut off_t,
    length: size_t,
) -> ssize_t {
    let Some(shared) = latest(to) else {
        // SAFETY: the kernel checks what it is given.
        return unsafe { libc::syscall(libc::SYS_sendfile, to, from, offset, length) as ssize_t };
    };
    let mut bytes = vec![0; length.min(CALL)];
    // SAFETY: the buffer has that many bytes, and `offset` is null or a number's place.
    let got = unsafe {
        match offset.as_ref() {
            Some(offset) => libc::pread(from, bytes.as_mut_ptr().cast(), bytes.len(), *offset),
            None => libc::read(from, bytes.as_mut_ptr().cast(), bytes.len()),
        }
    };
    let Ok(got) = usize::try_from(got) else { return got };
    let vector = [iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: got }];
    let sent = count(transmit(shared, to, &Buffers(&vector), 0));
    if sent > 0 && !offset.is_null() {
        // SAFETY: not null, so a number's place.
        unsafe { *offset += sent as off_t };
    }
    sent
}
