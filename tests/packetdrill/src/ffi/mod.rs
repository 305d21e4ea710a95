//! The interface in C: pointers become slices and addresses, and outcomes become results and `errno`.
#![expect(unsafe_code, reason = "the interface is C's: raw pointers in, raw pointers out")]

mod bypass;
mod calls;
mod memory;

use crate::errno::{Errno, Outcome};
use crate::setup::Setup;
use crate::wait::Shared;
use crate::world::World;
use bulkhead_wit::limits::MILLISECOND;
use bulkhead_wit::{NEVER, Time};
use calls::{
    accept, bind, close, connect, epoll_create, epoll_ctl, epoll_wait, fcntl, free, get_option, gettimeofday,
    ioctl, listen, netdev_receive, netdev_send, pipe, poll, read, readv, recv, recvfrom, recvmsg, send,
    sendmsg, sendto, set_option, shutdown, socket, splice, usleep, write, writev,
};
use libc::{
    c_char, c_int, c_long, c_longlong, c_uint, c_ulong, c_void, epoll_event, iovec, msghdr, nfds_t, pollfd,
    size_t, sockaddr, socklen_t, ssize_t, timeval,
};
use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

type Data = *mut c_void;

/// What the loader has filled in, in this order. `userdata` comes first in every call.
#[repr(C)]
#[expect(missing_docs, reason = "each member is the system call of its name")]
pub struct Interface {
    pub userdata: Data,
    pub free: unsafe extern "C" fn(Data),
    pub socket: unsafe extern "C" fn(Data, c_int, c_int, c_int) -> c_int,
    pub bind: unsafe extern "C" fn(Data, c_int, *const sockaddr, socklen_t) -> c_int,
    pub listen: unsafe extern "C" fn(Data, c_int, c_int) -> c_int,
    pub accept: unsafe extern "C" fn(Data, c_int, *mut sockaddr, *mut socklen_t) -> c_int,
    pub connect: unsafe extern "C" fn(Data, c_int, *const sockaddr, socklen_t) -> c_int,
    pub read: unsafe extern "C" fn(Data, c_int, *mut c_void, size_t) -> ssize_t,
    pub readv: unsafe extern "C" fn(Data, c_int, *const iovec, c_int) -> ssize_t,
    pub recv: unsafe extern "C" fn(Data, c_int, *mut c_void, size_t, c_int) -> ssize_t,
    pub recvfrom: unsafe extern "C" fn(
        Data,
        c_int,
        *mut c_void,
        size_t,
        c_int,
        *mut sockaddr,
        *mut socklen_t,
    ) -> ssize_t,
    pub recvmsg: unsafe extern "C" fn(Data, c_int, *mut msghdr, c_int) -> ssize_t,
    pub write: unsafe extern "C" fn(Data, c_int, *const c_void, size_t) -> ssize_t,
    pub writev: unsafe extern "C" fn(Data, c_int, *const iovec, c_int) -> ssize_t,
    pub send: unsafe extern "C" fn(Data, c_int, *const c_void, size_t, c_int) -> ssize_t,
    pub sendto: unsafe extern "C" fn(
        Data,
        c_int,
        *const c_void,
        size_t,
        c_int,
        *const sockaddr,
        socklen_t,
    ) -> ssize_t,
    pub sendmsg: unsafe extern "C" fn(Data, c_int, *const msghdr, c_int) -> ssize_t,
    pub fcntl: unsafe extern "C" fn(Data, c_int, c_int, c_long) -> c_int,
    pub ioctl: unsafe extern "C" fn(Data, c_int, c_ulong, *mut c_int) -> c_int,
    pub close: unsafe extern "C" fn(Data, c_int) -> c_int,
    pub shutdown: unsafe extern "C" fn(Data, c_int, c_int) -> c_int,
    pub getsockopt: unsafe extern "C" fn(Data, c_int, c_int, c_int, *mut c_void, *mut socklen_t) -> c_int,
    pub setsockopt: unsafe extern "C" fn(Data, c_int, c_int, c_int, *const c_void, socklen_t) -> c_int,
    pub poll: unsafe extern "C" fn(Data, *mut pollfd, nfds_t, c_int) -> c_int,
    pub netdev_send: unsafe extern "C" fn(Data, *const c_void, size_t) -> c_int,
    pub netdev_receive: unsafe extern "C" fn(Data, *mut c_void, *mut size_t, *mut c_longlong) -> c_int,
    pub usleep: unsafe extern "C" fn(Data, c_uint) -> c_int,
    pub gettimeofday: unsafe extern "C" fn(Data, *mut timeval, *mut c_void) -> c_int,
    pub epoll_create: unsafe extern "C" fn(Data, c_int) -> c_int,
    pub epoll_ctl: unsafe extern "C" fn(Data, c_int, c_int, c_int, *mut epoll_event) -> c_int,
    pub epoll_wait: unsafe extern "C" fn(Data, c_int, *mut epoll_event, c_int, c_int) -> c_int,
    pub pipe: unsafe extern "C" fn(Data, *mut c_int) -> c_int,
    pub splice: unsafe extern "C" fn(Data, c_int, *mut i64, c_int, *mut i64, size_t, c_uint) -> ssize_t,
}

/// The world that was made last: for the calls that pass the interface by.
static LATEST: AtomicPtr<Shared> = AtomicPtr::new(ptr::null_mut());

/// Makes a world and fills in the interface. Says on standard error what is wrong with the flags, and ends the program:
/// the interface has no other way to refuse.
///
/// # Safety
/// `flags` is null or a C string, `out` is valid for writing an [`Interface`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn packetdrill_interface_init(flags: *const c_char, out: *mut Interface) {
    let flags = if flags.is_null() {
        String::new()
    } else {
        // SAFETY: not null, so a C string by this function's contract.
        unsafe { CStr::from_ptr(flags) }.to_string_lossy().into_owned()
    };
    let setup = Setup::read(&flags).unwrap_or_else(|error| {
        eprintln!("bulkhead: {error}");
        std::process::exit(1)
    });
    let shared = Box::into_raw(Box::new(Shared::new(World::new(setup))));
    LATEST.store(shared, Ordering::Release);
    // SAFETY: valid for writing by this function's contract.
    unsafe { out.write(interface(shared.cast())) };
}

fn interface(userdata: Data) -> Interface {
    Interface {
        userdata,
        free,
        socket,
        bind,
        listen,
        accept,
        connect,
        read,
        readv,
        recv,
        recvfrom,
        recvmsg,
        write,
        writev,
        send,
        sendto,
        sendmsg,
        fcntl,
        ioctl,
        close,
        shutdown,
        getsockopt: get_option,
        setsockopt: set_option,
        poll,
        netdev_send,
        netdev_receive,
        usleep,
        gettimeofday,
        epoll_create,
        epoll_ctl,
        epoll_wait,
        pipe,
        splice,
    }
}

// ---- how all calls begin and end

/// The world behind `userdata`.
///
/// # Safety
/// `data` came from [`packetdrill_interface_init`] and was not given to `free`.
unsafe fn shared<'a>(data: Data) -> &'a Shared {
    // SAFETY: a leaked box, alive until `free`, by this function's contract.
    unsafe { &*data.cast::<Shared>() }
}

fn set_errno(error: Errno) {
    // SAFETY: the C library gives each thread its own valid location.
    unsafe { *libc::__errno_location() = error.0 };
}

fn status(outcome: Outcome<c_int>) -> c_int {
    outcome.unwrap_or_else(|error| {
        set_errno(error);
        -1
    })
}

fn count(outcome: Outcome<usize>) -> ssize_t {
    match outcome {
        Ok(count) => ssize_t::try_from(count).unwrap_or(ssize_t::MAX),
        Err(error) => {
            set_errno(error);
            -1
        }
    }
}

fn nothing(outcome: Outcome<()>) -> c_int {
    status(outcome.map(|()| 0))
}

/// Milliseconds as `poll` takes them: below 0 is for ever.
fn limit(timeout: c_int) -> Time {
    u64::try_from(timeout).map_or(NEVER, |timeout| timeout * MILLISECOND)
}
