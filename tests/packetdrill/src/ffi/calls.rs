//! The calls, one by one.
//!
//! SAFETY, of all of them: `userdata` came from `packetdrill_interface_init`, and pointers are as the system calls of
//! the same names ask for, or null. That is the loader's part of the interface.

use super::memory::{Buffers, endpoint, tell_endpoint, tell_inq};
use super::{Data, LATEST, count, limit, nothing, shared, status};
use crate::errno::{Errno, Outcome};
use crate::transfer::CALL;
use crate::wait::Shared;
use crate::world::World;
use bulkhead_wit::NEVER;
use bulkhead_wit::limits::MICROSECOND;
use libc::{
    c_int, c_long, c_longlong, c_uint, c_ulong, c_void, epoll_event, iovec, msghdr, nfds_t, pollfd, size_t,
    sockaddr, socklen_t, ssize_t, timeval,
};
use std::ptr;
use std::sync::atomic::Ordering;

fn receive(shared: &Shared, fd: c_int, buffers: &Buffers<'_>, flags: c_int) -> Outcome<usize> {
    let waits = shared.look(|world| world.patience_of(fd, flags));
    let length = buffers.length();
    let is_nowhere = buffers.is_nowhere();
    let look = if is_nowhere { flags | libc::MSG_PEEK } else { flags };
    let bytes = shared.block(if waits { NEVER } else { 0 }, |world| world.read(fd, length, look))?;
    if is_nowhere && !bytes.is_empty() {
        return Err(Errno::FAULT);
    }
    if flags & libc::MSG_TRUNC == 0 {
        buffers.scatter(&bytes);
    }
    Ok(bytes.len())
}

pub(super) fn transmit(shared: &Shared, fd: c_int, buffers: &Buffers<'_>, flags: c_int) -> Outcome<usize> {
    let bytes = buffers.gather()?;
    let waits = shared.look(|world| world.patience_of(fd, flags));
    if !waits {
        return shared.block(0, |world| world.write(fd, &bytes, flags));
    }
    let mut done = 0;
    let outcome = shared.block(NEVER, |world| world.write_on(fd, &bytes, &mut done, flags));
    // On the script's own thread, time may end before the write does.
    if done > 0 { Ok(done) } else { outcome }
}

pub(super) fn is_ours(shared: &Shared, fd: c_int) -> bool {
    shared.look(|world| world.sockets.contains_key(&fd))
}

pub(super) unsafe extern "C" fn free(data: Data) {
    let _ = LATEST.compare_exchange(data.cast(), ptr::null_mut(), Ordering::AcqRel, Ordering::Relaxed);
    // SAFETY: see above; nothing is called after `free`.
    let shared = unsafe { Box::from_raw(data.cast::<Shared>()) };
    // The loader has closed the descriptors itself: they may be somebody else's by now.
    shared.look(|world| {
        std::mem::take(&mut world.sockets).into_values().for_each(|socket| std::mem::forget(socket.fd));
        std::mem::take(&mut world.epolls).into_values().for_each(std::mem::forget);
    });
}

pub(super) unsafe extern "C" fn socket(data: Data, domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    // SAFETY: see above.
    let shared = unsafe { shared(data) };
    status(shared.enter(|world| world.new_socket(domain, kind, protocol)))
}

pub(super) unsafe extern "C" fn bind(
    data: Data,
    fd: c_int,
    address: *const sockaddr,
    length: socklen_t,
) -> c_int {
    // SAFETY: see above.
    let (shared, end) = unsafe { (shared(data), endpoint(address, length)) };
    nothing(end.and_then(|(_, local)| shared.enter(|world| world.bind(fd, local))))
}

pub(super) unsafe extern "C" fn listen(data: Data, fd: c_int, backlog: c_int) -> c_int {
    // SAFETY: see above.
    let shared = unsafe { shared(data) };
    nothing(shared.enter(|world| world.listen(fd, backlog)))
}

pub(super) unsafe extern "C" fn accept(
    data: Data,
    fd: c_int,
    address: *mut sockaddr,
    length: *mut socklen_t,
) -> c_int {
    // SAFETY: see above.
    let shared = unsafe { shared(data) };
    let waits = shared.look(|world| world.patience_of(fd, 0));
    let outcome = shared.block(if waits { NEVER } else { 0 }, |world| world.accept(fd));
    status(outcome.map(|(accepted, remote, is_v6)| {
        // SAFETY: see above.
        unsafe { tell_endpoint(remote, is_v6, address, length) };
        accepted
    }))
}

pub(super) unsafe extern "C" fn connect(
    data: Data,
    fd: c_int,
    address: *const sockaddr,
    length: socklen_t,
) -> c_int {
    // SAFETY: see above.
    let (shared, end) = unsafe { (shared(data), endpoint(address, length)) };
    let (family, remote) = match end {
        Ok(end) => end,
        Err(error) => return status(Err(error)),
    };
    if family == libc::AF_UNSPEC {
        return nothing(shared.enter(|world| world.disconnect(fd)));
    }
    let (waits, was_connecting) = shared.look(|world| (world.patience_of(fd, 0), world.is_connecting(fd)));
    let outcome = shared.block(if waits { NEVER } else { 0 }, |world| world.connect(fd, remote));
    nothing(match outcome {
        Err(Errno::AGAIN) if was_connecting => Err(Errno(libc::EALREADY)),
        Err(Errno::AGAIN) => Err(Errno(libc::EINPROGRESS)),
        other => other,
    })
}

/// A call on one buffer.
///
/// # Safety
/// As for all calls.
unsafe fn with_one(
    data: Data,
    (at, length): (*mut c_void, size_t),
    call: impl FnOnce(&Shared, &Buffers<'_>) -> Outcome<usize>,
) -> ssize_t {
    let vector = [iovec { iov_base: at, iov_len: length }];
    // SAFETY: see above.
    count(call(unsafe { shared(data) }, &Buffers(&vector)))
}

/// A call on several buffers.
///
/// # Safety
/// As for all calls.
unsafe fn with_several(
    data: Data,
    (vectors, number): (*const iovec, c_int),
    call: impl FnOnce(&Shared, &Buffers<'_>) -> Outcome<usize>,
) -> ssize_t {
    let number = usize::try_from(number).unwrap_or(1025);
    // SAFETY: see above.
    let (shared, buffers) = unsafe { (shared(data), Buffers::new(vectors, number)) };
    count(buffers.and_then(|buffers| call(shared, &buffers)))
}

pub(super) unsafe extern "C" fn read(data: Data, fd: c_int, into: *mut c_void, length: size_t) -> ssize_t {
    // SAFETY: see above.
    unsafe {
        if !is_ours(shared(data), fd) {
            return libc::read(fd, into, length);
        }
        recv(data, fd, into, length, 0)
    }
}

pub(super) unsafe extern "C" fn readv(
    data: Data,
    fd: c_int,
    vectors: *const iovec,
    number: c_int,
) -> ssize_t {
    // SAFETY: see above.
    unsafe { with_several(data, (vectors, number), |shared, buffers| receive(shared, fd, buffers, 0)) }
}

pub(super) unsafe extern "C" fn recv(
    data: Data,
    fd: c_int,
    into: *mut c_void,
    length: size_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: see above.
    unsafe { with_one(data, (into, length), |shared, buffers| receive(shared, fd, buffers, flags)) }
}

pub(super) unsafe extern "C" fn recvfrom(
    data: Data,
    fd: c_int,
    into: *mut c_void,
    length: size_t,
    flags: c_int,
    _: *mut sockaddr,
    address_length: *mut socklen_t,
) -> ssize_t {
    // A connected stream tells no address.
    if !address_length.is_null() {
        // SAFETY: see above.
        unsafe { *address_length = 0 };
    }
    // SAFETY: see above.
    unsafe { recv(data, fd, into, length, flags) }
}

pub(super) unsafe extern "C" fn recvmsg(
    data: Data,
    fd: c_int,
    message: *mut msghdr,
    flags: c_int,
) -> ssize_t {
    if message.is_null() {
        return count(Err(Errno::FAULT));
    }
    // SAFETY: see above.
    let (shared, message) = unsafe { (shared(data), &mut *message) };
    // SAFETY: see above.
    let buffers = unsafe { Buffers::new(message.msg_iov, message.msg_iovlen) };
    let outcome = buffers.and_then(|buffers| receive(shared, fd, &buffers, flags));
    if outcome.is_ok() {
        message.msg_flags = 0;
        message.msg_namelen = 0;
        let inq = shared.look(|world| world.inq(fd));
        // SAFETY: see above.
        unsafe { tell_inq(message, inq) };
    }
    count(outcome)
}

pub(super) unsafe extern "C" fn write(data: Data, fd: c_int, from: *const c_void, length: size_t) -> ssize_t {
    // SAFETY: see above.
    unsafe {
        if !is_ours(shared(data), fd) {
            return libc::write(fd, from, length);
        }
        send(data, fd, from, length, 0)
    }
}

pub(super) unsafe extern "C" fn writev(
    data: Data,
    fd: c_int,
    vectors: *const iovec,
    number: c_int,
) -> ssize_t {
    // SAFETY: see above.
    unsafe { with_several(data, (vectors, number), |shared, buffers| transmit(shared, fd, buffers, 0)) }
}

pub(super) unsafe extern "C" fn send(
    data: Data,
    fd: c_int,
    from: *const c_void,
    length: size_t,
    flags: c_int,
) -> ssize_t {
    let at = from.cast_mut();
    // SAFETY: see above.
    unsafe { with_one(data, (at, length), |shared, buffers| transmit(shared, fd, buffers, flags)) }
}

pub(super) unsafe extern "C" fn sendto(
    data: Data,
    fd: c_int,
    from: *const c_void,
    length: size_t,
    flags: c_int,
    _: *const sockaddr,
    _: socklen_t,
) -> ssize_t {
    if flags & libc::MSG_FASTOPEN != 0 {
        return count(Err(Errno(libc::EOPNOTSUPP)));
    }
    // A stream's destination is its peer, whatever is said here. SAFETY: see above.
    unsafe { send(data, fd, from, length, flags) }
}

pub(super) unsafe extern "C" fn sendmsg(
    data: Data,
    fd: c_int,
    message: *const msghdr,
    flags: c_int,
) -> ssize_t {
    if message.is_null() {
        return count(Err(Errno::FAULT));
    }
    if flags & libc::MSG_FASTOPEN != 0 {
        return count(Err(Errno(libc::EOPNOTSUPP)));
    }
    // SAFETY: see above.
    let (shared, buffers) =
        unsafe { (shared(data), Buffers::new((*message).msg_iov, (*message).msg_iovlen)) };
    count(buffers.and_then(|buffers| transmit(shared, fd, &buffers, flags)))
}

/// Variadic in C. On the systems that this is built for, an integer behind the dots arrives as one before them does;
/// where the caller passes none, it is noise, and not looked at.
pub(super) unsafe extern "C" fn fcntl(data: Data, fd: c_int, command: c_int, argument: c_long) -> c_int {
    // SAFETY: see above.
    let shared = unsafe { shared(data) };
    if !is_ours(shared, fd) {
        // SAFETY: the kernel checks what it is given.
        return unsafe { libc::fcntl(fd, command, argument) };
    }
    status(shared.enter(|world| {
        let socket = world.socket_mut(fd)?;
        match command {
            libc::F_GETFL => Ok(libc::O_RDWR | if socket.nonblocking { libc::O_NONBLOCK } else { 0 }),
            libc::F_SETFL => {
                socket.nonblocking = argument & c_long::from(libc::O_NONBLOCK) != 0;
                Ok(0)
            }
            libc::F_GETFD | libc::F_SETFD => Ok(0),
            _ => Err(Errno::INVALID),
        }
    }))
}

/// Variadic in C: see [`fcntl`].
pub(super) unsafe extern "C" fn ioctl(
    data: Data,
    fd: c_int,
    request: c_ulong,
    argument: *mut c_int,
) -> c_int {
    const SIOCOUTQNSD: c_ulong = 0x894b;
    // SAFETY: see above.
    let shared = unsafe { shared(data) };
    let outcome = shared.look(|world| world.queued(fd));
    let value = match (request, outcome) {
        (_, Err(error)) => return status(Err(error)),
        (libc::FIONREAD, Ok((readable, _, _))) => readable,
        (libc::TIOCOUTQ, Ok((_, unacknowledged, _))) => unacknowledged,
        (SIOCOUTQNSD, Ok((_, _, unsent))) => unsent,
        (_, Ok(_)) => return status(Err(Errno::INVALID)),
    };
    if argument.is_null() {
        return status(Err(Errno::FAULT));
    }
    // SAFETY: these requests pass a number's place; see above.
    unsafe { *argument = c_int::try_from(value).unwrap_or(c_int::MAX) };
    0
}

pub(super) unsafe extern "C" fn close(data: Data, fd: c_int) -> c_int {
    // SAFETY: see above.
    let shared = unsafe { shared(data) };
    match shared.enter(|world| world.close(fd)) {
        // SAFETY: the kernel checks what it is given.
        Err(Errno::BADF) => unsafe { libc::close(fd) },
        outcome => nothing(outcome),
    }
}

pub(super) unsafe extern "C" fn shutdown(data: Data, fd: c_int, how: c_int) -> c_int {
    // SAFETY: see above.
    let shared = unsafe { shared(data) };
    nothing(shared.enter(|world| world.shutdown(fd, how)))
}

pub(super) unsafe extern "C" fn get_option(
    data: Data,
    fd: c_int,
    level: c_int,
    option: c_int,
    value: *mut c_void,
    length: *mut socklen_t,
) -> c_int {
    if value.is_null() || length.is_null() {
        return status(Err(Errno::FAULT));
    }
    // SAFETY: see above.
    let (shared, room) = unsafe { (shared(data), (*length as usize).min(4096)) };
    nothing(shared.enter(|world| world.option(fd, level, option, room)).map(|bytes| {
        let told = bytes.len().min(room);
        // SAFETY: `value` is valid for `room` bytes; see above.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), value.cast(), told);
            *length = told as socklen_t;
        }
    }))
}

pub(super) unsafe extern "C" fn set_option(
    data: Data,
    fd: c_int,
    level: c_int,
    option: c_int,
    value: *const c_void,
    length: socklen_t,
) -> c_int {
    if value.is_null() {
        return status(Err(Errno::FAULT));
    }
    // SAFETY: see above.
    let (shared, value) = unsafe {
        (shared(data), std::slice::from_raw_parts(value.cast::<u8>(), (length as usize).min(4096)))
    };
    nothing(shared.enter(|world| world.set_option(fd, level, option, value)))
}

pub(super) unsafe extern "C" fn poll(data: Data, fds: *mut pollfd, number: nfds_t, timeout: c_int) -> c_int {
    if fds.is_null() || number > 1024 {
        return status(Err(Errno::INVALID));
    }
    // SAFETY: see above.
    let (shared, fds) = unsafe { (shared(data), std::slice::from_raw_parts_mut(fds, number as usize)) };
    status(match shared.block(limit(timeout), |world| world.poll(fds)) {
        Err(Errno::AGAIN) => Ok(0),
        outcome => outcome,
    })
}

pub(super) unsafe extern "C" fn netdev_send(data: Data, packet: *const c_void, length: size_t) -> c_int {
    // SAFETY: see above.
    let (shared, packet) = unsafe { (shared(data), std::slice::from_raw_parts(packet.cast::<u8>(), length)) };
    nothing(shared.enter(|world| world.inject(packet)))
}

pub(super) unsafe extern "C" fn netdev_receive(
    data: Data,
    into: *mut c_void,
    length: *mut size_t,
    time_us: *mut c_longlong,
) -> c_int {
    // SAFETY: see above.
    let (shared, room) = unsafe { (shared(data), *length) };
    // The loader would wait for ever for a packet that never comes: it gets one that it cannot read.
    let (packet, time) = shared.next_packet().unwrap_or_else(|| {
        eprintln!("bulkhead: the stack sends nothing any more");
        (vec![0], shared.time())
    });
    let told = packet.len().min(room);
    // SAFETY: `into` is valid for `room` bytes; see above.
    unsafe {
        ptr::copy_nonoverlapping(packet.as_ptr(), into.cast(), told);
        *length = told;
        *time_us = time;
    }
    0
}

pub(super) unsafe extern "C" fn usleep(data: Data, duration_us: c_uint) -> c_int {
    // SAFETY: see above.
    unsafe { shared(data) }.nap(u64::from(duration_us) * MICROSECOND);
    0
}

pub(super) unsafe extern "C" fn gettimeofday(data: Data, time: *mut timeval, _: *mut c_void) -> c_int {
    // SAFETY: see above.
    let now = unsafe { shared(data) }.time();
    // SAFETY: see above.
    unsafe { *time = timeval { tv_sec: now / 1_000_000, tv_usec: now % 1_000_000 } };
    0
}

pub(super) unsafe extern "C" fn epoll_create(data: Data, _: c_int) -> c_int {
    // SAFETY: see above.
    let shared = unsafe { shared(data) };
    status(shared.enter(World::epoll_create))
}

pub(super) unsafe extern "C" fn epoll_ctl(
    data: Data,
    epoll: c_int,
    operation: c_int,
    fd: c_int,
    event: *mut epoll_event,
) -> c_int {
    // SAFETY: see above.
    let (shared, event) = unsafe { (shared(data), if event.is_null() { None } else { Some(*event) }) };
    nothing(shared.enter(|world| world.epoll_ctl(epoll, operation, fd, event)))
}

pub(super) unsafe extern "C" fn epoll_wait(
    data: Data,
    epoll: c_int,
    into: *mut epoll_event,
    most: c_int,
    timeout: c_int,
) -> c_int {
    let Some(most) = usize::try_from(most).ok().filter(|most| *most > 0) else {
        return status(Err(Errno::INVALID));
    };
    // SAFETY: see above.
    let shared = unsafe { shared(data) };
    status(match shared.block(limit(timeout), |world| world.epoll_wait(epoll, most)) {
        Ok(events) => {
            // SAFETY: `into` is valid for `most` events, and there are no more; see above.
            unsafe { ptr::copy_nonoverlapping(events.as_ptr(), into, events.len()) };
            Ok(events.len() as c_int)
        }
        Err(Errno::AGAIN) => Ok(0),
        Err(error) => Err(error),
    })
}

pub(super) unsafe extern "C" fn pipe(_: Data, ends: *mut c_int) -> c_int {
    // SAFETY: two numbers' places; see above.
    unsafe { libc::pipe(ends) }
}

pub(super) unsafe extern "C" fn splice(
    data: Data,
    from: c_int,
    _: *mut i64,
    to: c_int,
    _: *mut i64,
    length: size_t,
    flags: c_uint,
) -> ssize_t {
    // SAFETY: see above.
    let shared = unsafe { shared(data) };
    let mut bytes = vec![0; length.min(CALL)];
    let message_flags = if flags & libc::SPLICE_F_NONBLOCK != 0 { libc::MSG_DONTWAIT } else { 0 };
    let vector = |bytes: &mut [u8]| [iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }];
    if is_ours(shared, from) {
        match receive(shared, from, &Buffers(&vector(&mut bytes)), message_flags) {
            // SAFETY: the buffer has at least as many bytes.
            Ok(got) => unsafe { libc::write(to, bytes.as_ptr().cast(), got) },
            Err(error) => count(Err(error)),
        }
    } else {
        // SAFETY: the buffer has that many bytes.
        let got = unsafe { libc::read(from, bytes.as_mut_ptr().cast(), bytes.len()) };
        let Ok(got) = usize::try_from(got) else { return got };
        count(transmit(shared, to, &Buffers(&vector(&mut bytes[..got])), message_flags))
    }
}
