//! Memory of the caller's: addresses, buffers, messages.

use crate::errno::{Errno, Outcome};
use crate::transfer::CALL;
use bulkhead_wit::{Address, Endpoint};
use libc::{c_int, c_uint, iovec, msghdr, sockaddr, socklen_t};
use std::ptr;

/// # Safety
/// `address` is null or valid for reading `length` bytes.
pub(super) unsafe fn endpoint(address: *const sockaddr, length: socklen_t) -> Outcome<(c_int, Endpoint)> {
    if address.is_null() {
        return Err(Errno::FAULT);
    }
    let length = (length as usize).min(size_of::<libc::sockaddr_in6>());
    // SAFETY: valid by this function's contract, and no longer than that.
    let bytes = unsafe { std::slice::from_raw_parts(address.cast::<u8>(), length) };
    let family = bytes.get(..2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let port = bytes.get(2..4).and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes);
    let (Some(family), Some(port)) = (family.map(c_int::from), port) else { return Err(Errno::INVALID) };
    let address = match family {
        libc::AF_INET => bytes.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(Address::from_v4),
        libc::AF_INET6 => bytes.get(8..24).and_then(|bytes| bytes.try_into().ok()).map(Address::from_v6),
        libc::AF_UNSPEC => Some(Address::UNSPECIFIED),
        _ => return Err(Errno(libc::EAFNOSUPPORT)),
    };
    Ok((family, Endpoint { address: address.ok_or(Errno::INVALID)?, port }))
}

/// # Safety
/// Both are null, or `length` is valid and `address` is valid for writing that many bytes.
pub(super) unsafe fn tell_endpoint(
    end: Endpoint,
    is_v6: bool,
    address: *mut sockaddr,
    length: *mut socklen_t,
) {
    if address.is_null() || length.is_null() {
        return;
    }
    let mut bytes = Vec::with_capacity(28);
    match end.address.v4().filter(|_| !is_v6) {
        Some(octets) => {
            bytes.extend_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            bytes.extend_from_slice(&end.port.to_be_bytes());
            bytes.extend_from_slice(&octets);
            bytes.resize(16, 0);
        }
        None => {
            bytes.extend_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            bytes.extend_from_slice(&end.port.to_be_bytes());
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(&end.address.octets());
            bytes.resize(28, 0);
        }
    }
    // SAFETY: valid for as many bytes as `length` says, by this function's contract.
    unsafe {
        let room = (*length as usize).min(bytes.len());
        ptr::copy_nonoverlapping(bytes.as_ptr(), address.cast(), room);
        *length = bytes.len() as socklen_t;
    }
}

/// A list of the caller's buffers. Those that point nowhere are found before anything is moved.
pub(super) struct Buffers<'a>(pub(super) &'a [iovec]);

impl<'a> Buffers<'a> {
    /// # Safety
    /// `vectors` is null or valid for `number` vectors, each null or valid for its length, as long as this lives.
    pub(super) unsafe fn new(vectors: *const iovec, number: usize) -> Outcome<Self> {
        if number > 1024 {
            return Err(Errno::INVALID);
        }
        if number == 0 {
            return Ok(Self(&[]));
        }
        if vectors.is_null() {
            return Err(Errno::FAULT);
        }
        // SAFETY: valid by this function's contract.
        Ok(Self(unsafe { std::slice::from_raw_parts(vectors, number) }))
    }

    pub(super) fn length(&self) -> usize {
        self.0.iter().fold(0usize, |sum, vector| sum.saturating_add(vector.iov_len)).min(CALL)
    }

    pub(super) fn is_nowhere(&self) -> bool {
        self.0.iter().any(|vector| vector.iov_base.is_null() && vector.iov_len > 0)
    }

    pub(super) fn gather(&self) -> Outcome<Vec<u8>> {
        if self.is_nowhere() {
            return Err(Errno::FAULT);
        }
        let mut bytes = Vec::with_capacity(self.length());
        for vector in self.0.iter().filter(|vector| vector.iov_len > 0) {
            let length = vector.iov_len.min(CALL.saturating_sub(bytes.len()));
            // SAFETY: not null, so valid for its length by the contract of `new`.
            bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(vector.iov_base.cast(), length) });
        }
        Ok(bytes)
    }

    pub(super) fn scatter(&self, mut bytes: &[u8]) {
        for vector in self.0.iter().filter(|vector| vector.iov_len > 0) {
            let (now, later) = bytes.split_at(bytes.len().min(vector.iov_len));
            // SAFETY: `receive` has refused null ones, so valid for its length by the contract of `new`.
            unsafe { ptr::copy_nonoverlapping(now.as_ptr(), vector.iov_base.cast(), now.len()) };
            bytes = later;
        }
    }
}

/// # Safety
/// The message's control buffer is null or valid for its length.
pub(super) unsafe fn tell_inq(message: &mut msghdr, inq: Option<c_int>) {
    // SAFETY: the macro only computes.
    let space = unsafe { libc::CMSG_SPACE(size_of::<c_int>() as c_uint) } as usize;
    let room = message.msg_controllen;
    let Some(inq) = inq else {
        message.msg_controllen = 0;
        return;
    };
    if message.msg_control.is_null() || room < space {
        message.msg_controllen = 0;
        message.msg_flags |= libc::MSG_CTRUNC;
        return;
    }
    // SAFETY: there is room for one header with one number.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(message);
        (*header).cmsg_level = libc::IPPROTO_TCP;
        (*header).cmsg_type = crate::options::TCP_INQ;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<c_int>() as c_uint) as _;
        libc::CMSG_DATA(header).cast::<c_int>().write_unaligned(inq);
    }
    message.msg_controllen = space as _;
}
