//! TCP options (RFC 9293 3.1, RFC 7323, RFC 2018): parsing that survives anything, and Linux's layout when building.

use super::{bytes, u32_at};
use crate::limits::WINDOW_SCALE_MAX;
use alloc::vec::Vec;

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;

/// SACK blocks that fit beside nothing else.
pub(crate) const SACK_BLOCKS: usize = 4;
/// Bytes that `nop,nop,TS` takes.
pub(crate) const TIMESTAMPS_LENGTH: u16 = 12;

/// A run of sequence numbers, right edge exclusive (RFC 2018 3).
pub(crate) type Block = (u32, u32);

/// The options of one segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Options {
    pub mss: Option<u16>,
    pub window_scale: Option<u8>,
    pub sack_permitted: bool,
    /// TSval and TSecr.
    pub timestamps: Option<(u32, u32)>,
    pub sack: [Block; SACK_BLOCKS],
    pub sack_count: u8,
}

impl Options {
    /// Reads options in place of those that were there; an option that is cut short or has an impossible length ends the
    /// list (RFC 9293 3.1, MUST-7), and what was read before it stands.
    #[inline]
    pub(crate) fn read(&mut self, options: &[u8]) {
        // Blocks are looked at as far as they are counted.
        self.sack_count = 0;
        (self.mss, self.window_scale, self.sack_permitted, self.timestamps) = (None, None, false, None);
        // What nearly every segment of nearly every peer has.
        match *options {
            [] => {}
            [NOP, NOP, TIMESTAMPS, 10, v0, v1, v2, v3, e0, e1, e2, e3] => {
                let number = u32::from_be_bytes;
                self.timestamps = Some((number([v0, v1, v2, v3]), number([e0, e1, e2, e3])));
            }
            _ => self.read_each(options),
        }
    }

    #[inline(never)]
    fn read_each(&mut self, mut rest: &[u8]) {
        while let Some((&kind, after)) = rest.split_first() {
            match kind {
                END => break,
                NOP => rest = after,
                _ => {
                    let Some(&length) = after.first() else { break };
                    let length = usize::from(length);
                    if length < 2 || length > rest.len() {
                        break;
                    }
                    let (option, next) = rest.split_at(length);
                    self.take(kind, option);
                    rest = next;
                }
            }
        }
    }

    /// Of a list by itself.
    #[cfg(test)]
    fn parse(list: &[u8]) -> Self {
        let mut options = Self::default();
        options.read(list);
        options
    }

    fn take(&mut self, kind: u8, option: &[u8]) {
        match (kind, option.len()) {
            (MSS, 4) => self.mss = bytes(option, 2).map(u16::from_be_bytes),
            // RFC 7323 2.3: a shift above 14 is taken for 14.
            (WINDOW_SCALE, 3) => {
                self.window_scale = option.get(2).map(|&shift| shift.min(WINDOW_SCALE_MAX));
            }
            (SACK_PERMITTED, 2) => self.sack_permitted = true,
            (TIMESTAMPS, 10) => self.timestamps = u32_at(option, 2).zip(u32_at(option, 6)),
            (SACK, length) if length >= 10 && (length - 2).is_multiple_of(8) => {
                self.sack_count = 0;
                for (slot, block) in self.sack.iter_mut().zip(option.get(2..).unwrap_or(&[]).chunks_exact(8))
                {
                    *slot = (u32_at(block, 0).unwrap_or(0), u32_at(block, 4).unwrap_or(0));
                    self.sack_count += 1;
                }
            }
            _ => {}
        }
    }

    /// The SACK blocks in the order in which they came.
    pub(crate) fn sack_blocks(&self) -> &[Block] {
        self.sack.get(..usize::from(self.sack_count)).unwrap_or(&[])
    }

    /// Appends the options of a SYN in Linux's layout: `mss,nop,nop,sackOK,nop,wscale`, and with timestamps
    /// `mss,sackOK,TS,nop,wscale`.
    pub(crate) fn build_syn(&self, to: &mut Vec<u8>) {
        if let Some(mss) = self.mss {
            let [high, low] = mss.to_be_bytes();
            to.extend_from_slice(&[MSS, 4, high, low]);
        }
        match (self.timestamps, self.sack_permitted) {
            (Some(_), true) => to.extend_from_slice(&[SACK_PERMITTED, 2]),
            (Some(_), false) => to.extend_from_slice(&[NOP, NOP]),
            (None, true) => to.extend_from_slice(&[NOP, NOP, SACK_PERMITTED, 2]),
            (None, false) => {}
        }
        if let Some(timestamps) = self.timestamps {
            let (value, echo) = timestamps;
            to.extend_from_slice(&[TIMESTAMPS, 10]);
            to.extend_from_slice(&value.to_be_bytes());
            to.extend_from_slice(&echo.to_be_bytes());
        }
        if let Some(shift) = self.window_scale {
            to.extend_from_slice(&[NOP, WINDOW_SCALE, 3, shift]);
        }
    }

    /// Appends the options of any other segment: `nop,nop,TS` and `nop,nop,sack`.
    pub(crate) fn build(&self, to: &mut Vec<u8>) {
        if let Some((value, echo)) = self.timestamps {
            let ([v0, v1, v2, v3], [e0, e1, e2, e3]) = (value.to_be_bytes(), echo.to_be_bytes());
            to.extend_from_slice(&[NOP, NOP, TIMESTAMPS, 10, v0, v1, v2, v3, e0, e1, e2, e3]);
        }
        let blocks = self.sack_blocks();
        if !blocks.is_empty() {
            to.extend_from_slice(&[NOP, NOP, SACK, 2 + 8 * self.sack_count]);
            for &(left, right) in blocks {
                to.extend_from_slice(&left.to_be_bytes());
                to.extend_from_slice(&right.to_be_bytes());
            }
        }
    }
}

/// Bytes that `nop,nop,sack` takes with this many blocks.
pub(crate) fn sack_length(blocks: u8) -> u16 {
    if blocks == 0 { 0 } else { 4 + 8 * u16::from(blocks) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syn(timestamps: Option<(u32, u32)>) -> Vec<u8> {
        let mut to = Vec::new();
        Options {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps,
            ..Options::default()
        }
        .build_syn(&mut to);
        to
    }

    #[test]
    fn a_syn_looks_like_linux() {
        assert_eq!(syn(None), [2, 4, 5, 180, 1, 1, 4, 2, 1, 3, 3, 7]);
        let with = syn(Some((1, 2)));
        assert_eq!(with, [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 7]);
        let read = Options::parse(&with);
        assert_eq!(read.mss, Some(1460));
        assert_eq!(read.window_scale, Some(7));
        assert!(read.sack_permitted);
        assert_eq!(read.timestamps, Some((1, 2)));
    }

    #[test]
    fn every_malformed_list_is_survived() {
        for list in [&[2_u8][..], &[2, 0], &[2, 1], &[2, 4, 5], &[5, 10, 0], &[8, 255, 1], &[5, 2], &[5, 11]]
        {
            assert_eq!(Options::parse(list), Options::default(), "{list:?}");
        }
        // What stands before the broken one counts; unknown options are skipped by their length.
        let read = Options::parse(&[1, 254, 4, 9, 9, 3, 3, 99, 2, 0]);
        assert_eq!(read.window_scale, Some(14));
    }

    #[test]
    fn sack_blocks_are_read_back() {
        let mut to = Vec::new();
        let options = Options {
            timestamps: Some((7, 8)),
            sack: [(1, 2), (3, 4), (5, 6), (0, 0)],
            sack_count: 3,
            ..Options::default()
        };
        options.build(&mut to);
        assert_eq!(to.len(), usize::from(TIMESTAMPS_LENGTH + sack_length(3)));
        assert_eq!(Options::parse(&to), options);
    }
}
