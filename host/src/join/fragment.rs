//! IP fragmentation (RFC 791 3.2, RFC 8200 4.5), where the module allows it.

use std::io;

use crate::join::layout::{Layout, fill_v4_checksum, get_u16, put_u16, put_u32};
use crate::join::parts::{Cursor, PARTS, Parts};
use crate::join::segment::Emit;
use crate::split::network::{FRAGMENT, walk_v6};

/// Bytes of a fragment's header at most: fixed header, extensions, fragment header.
const HEADER: usize = 40 + bulkhead_wit::limits::EXTENSION_BYTES + 8;

/// A finished datagram to be cut: lengths, identification and checksums are those of the whole.
#[derive(Clone, Copy)]
pub(crate) struct Datagram<'a> {
    pub(crate) header: &'a [u8],
    pub(crate) layout: Layout,
    pub(crate) payload: &'a [&'a [u8]],
    /// Bytes of `payload` together.
    pub(crate) length: usize,
    /// IPv6 identification; IPv4's stands in the header.
    pub(crate) identification: u32,
}

/// Emits the fragments, each of at most `mtu` bytes. Returns how many there are and how many of them were taken.
///
/// # Errors
/// `InvalidInput` if the headers leave no room for eight bytes in a fragment.
pub(crate) fn fragment(datagram: Datagram<'_>, mtu: usize, emit: Emit<'_>) -> io::Result<(usize, usize)> {
    let mut first = [0; HEADER];
    let mut later = [0; HEADER];
    let (first_length, later_length, data_at) = if datagram.layout.is_v4 {
        headers_v4(datagram, &mut first, &mut later)
    } else {
        headers_v6(datagram, &mut first, &mut later)
    }
    .ok_or(io::ErrorKind::InvalidInput)?;
    let data = datagram.header.get(data_at..).unwrap_or_default();
    let total = data.len() + datagram.length;
    let mut cursor = Cursor::new(data, datagram.payload);
    let (mut at, mut frames, mut taken) = (0, 0, 0);
    let mut has_room = true;
    while at < total {
        let (header, length) = if at == 0 { (&mut first, first_length) } else { (&mut later, later_length) };
        let header = header.get_mut(..length).ok_or(io::ErrorKind::InvalidInput)?;
        let most = mtu.saturating_sub(length);
        let is_last = total - at <= most;
        let size = if is_last { total - at } else { most & !7 };
        if size == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if datagram.layout.is_v4 {
            let flags = get_u16(datagram.header, 6) & 0xc000;
            put_u16(header, 2, (length + size) as u16);
            put_u16(header, 6, flags | (at / 8) as u16 | if is_last { 0 } else { 0x2000 });
            fill_v4_checksum(header, length);
        } else {
            put_u16(header, 4, (length - 40 + size) as u16);
            put_u16(header, length - 6, at as u16 | u16::from(!is_last));
        }
        let mut parts = Parts::<PARTS>::new(header);
        if !cursor.take(size, &mut parts) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        has_room = has_room && emit(parts.as_slice())?;
        taken += usize::from(has_room);
        frames += 1;
        at += size;
    }
    Ok((frames, taken))
}

/// The first fragment has all options, later ones those that are marked to be copied (RFC 791 3.1). Returns the
/// lengths of both, and where the data begins that is cut.
fn headers_v4(
    datagram: Datagram<'_>,
    first: &mut [u8; HEADER],
    later: &mut [u8; HEADER],
) -> Option<(usize, usize, usize)> {
    let length = datagram.layout.transport;
    let header = datagram.header.get(..length)?;
    first.get_mut(..length)?.copy_from_slice(header);
    later.get_mut(..20)?.copy_from_slice(header.get(..20)?);
    let mut options = header.get(20..)?;
    let mut end = 20;
    while let Some((&kind, rest)) = options.split_first() {
        match kind {
            0 => break,
            1 => options = rest,
            _ => {
                let size = usize::from(*rest.first()?);
                let option = options.get(..size).filter(|_| size >= 2)?;
                if kind & 0x80 != 0 {
                    later.get_mut(end..end + size)?.copy_from_slice(option);
                    end += size;
                }
                options = options.get(size..)?;
            }
        }
    }
    // Zero is the end of the option list.
    let later_length = end.next_multiple_of(4);
    *later.first_mut()? = 0x40 | (later_length / 4) as u8;
    Some((length, later_length, length))
}

/// All fragments have the unfragmentable part and a fragment header.
fn headers_v6(
    datagram: Datagram<'_>,
    first: &mut [u8; HEADER],
    later: &mut [u8; HEADER],
) -> Option<(usize, usize, usize)> {
    let walked = walk_v6(datagram.header).ok()?;
    let end = walked.unfragmentable;
    first.get_mut(..end)?.copy_from_slice(datagram.header.get(..end)?);
    let next = std::mem::replace(first.get_mut(walked.next_field)?, FRAGMENT);
    *first.get_mut(end)? = next;
    put_u32(first, end + 4, datagram.identification);
    later.copy_from_slice(first);
    Some((end + 8, end + 8, end))
}
