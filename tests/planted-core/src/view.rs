//! An arrived header as careless code sees it: bytes at places.

use bulkhead_wit::{Kind, Segment};

/// A header and what the host has measured of it.
#[derive(Debug)]
pub(crate) struct View<'a> {
    /// The transport header, or the network header of a fragment.
    pub(crate) bytes: &'a mut [u8],
    pub(crate) segment: &'a mut Segment,
}

impl<'a> View<'a> {
    /// Of TCP segments and of IPv4 fragments.
    pub(crate) fn new(header: &'a mut [u8], segment: &'a mut Segment) -> Option<Self> {
        let is_tcp = segment.kind == Kind::Whole && segment.protocol == 6;
        let is_fragment = segment.kind == Kind::Fragment && header.first()? >> 4 == 4;
        let from = if is_tcp { usize::from(segment.transport) } else { 0 };
        let bytes = header.get_mut(from..)?;
        (is_tcp || is_fragment).then_some(Self { bytes, segment })
    }

    pub(crate) fn is_fragment(&self) -> bool {
        self.segment.kind == Kind::Fragment
    }

    pub(crate) fn half(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    pub(crate) fn word(&self, at: usize) -> u32 {
        u32::from(self.half(at)) << 16 | u32::from(self.half(at + 2))
    }

    /// Whether all of these flags are set.
    pub(crate) fn has(&self, flags: u8) -> bool {
        self.bytes[13] & flags == flags
    }

    pub(crate) fn port(&self) -> u16 {
        self.half(0)
    }

    pub(crate) fn options(&self) -> &[u8] {
        &self.bytes[20..]
    }

    /// The value of an option, found by an honest walk.
    pub(crate) fn option(&self, kind: u8) -> Option<&[u8]> {
        let mut rest = self.options();
        while let Some((&found, tail)) = rest.split_first() {
            match found {
                0 => return None,
                1 => rest = tail,
                _ => {
                    let length = usize::from(*tail.first()?);
                    if length < 2 {
                        return None;
                    }
                    if found == kind {
                        return rest.get(2..length);
                    }
                    rest = rest.get(length..)?;
                }
            }
        }
        None
    }
}
