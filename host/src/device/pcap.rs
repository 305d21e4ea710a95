//! A tap: every frame that passes a device, in a file that Wireshark reads.
//!
//! The format is pcap with nanoseconds, link type RAW (draft-ietf-opsawg-pcap): datagrams from the network header
//! on. Super-segments are written as they are, and so are checksums that were left to the device; Wireshark's checksum
//! validation has to be off for these.

use std::io::{self, IoSlice, Write};
use std::os::fd::BorrowedFd;

use bulkhead_wit::{Time, limits};

use crate::device::{Capabilities, Device, Offload};
use crate::frame::{Frame, FramePool};

/// "pcap with nanoseconds", in the byte order in which everything else is.
const MAGIC: u32 = 0xa1b2_3c4d;
/// `LINKTYPE_RAW`: the version nibble tells IPv4 from IPv6.
const LINK_TYPE: u32 = 101;
/// Frames are never longer.
const SNAP_LENGTH: u32 = 262_144;

/// Writes a pcap file. After the first error it only counts: half a record would make all that follows unreadable.
#[derive(Debug)]
pub struct PcapWriter<W> {
    to: W,
    /// What is added to the times that are given: the origin of the host's clock, in nanoseconds since 1970.
    origin: Time,
    record: Vec<u8>,
    error: Option<io::Error>,
    has_failed: bool,
    written: u64,
    missed: u64,
}

impl<W: Write> PcapWriter<W> {
    /// Begins a file. `origin` is when the host's clock was 0, in nanoseconds since 1970.
    ///
    /// # Errors
    /// What writing the file's header fails with.
    pub fn new(mut to: W, origin: Time) -> io::Result<Self> {
        let mut header = Vec::with_capacity(24);
        header.extend_from_slice(&MAGIC.to_le_bytes());
        header.extend_from_slice(&[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        header.extend_from_slice(&SNAP_LENGTH.to_le_bytes());
        header.extend_from_slice(&LINK_TYPE.to_le_bytes());
        to.write_all(&header)?;
        Ok(Self::behind(to, origin))
    }

    /// Goes on with a file that has been begun, with the same `origin`.
    pub fn behind(to: W, origin: Time) -> Self {
        let record = Vec::with_capacity(16 + limits::DATAGRAM);
        Self { to, origin, record, error: None, has_failed: false, written: 0, missed: 0 }
    }

    /// Writes a frame that passed at `now`, in nanoseconds.
    pub fn write(&mut self, now: Time, parts: &[IoSlice<'_>]) {
        self.record(now, parts, 0);
    }

    /// A frame of these parts and of so many bytes that are not there.
    fn record(&mut self, now: Time, parts: &[IoSlice<'_>], missing: u32) {
        if self.has_failed {
            self.missed += 1;
            return;
        }
        let length = parts.iter().map(|part| part.len()).sum::<usize>() as u32;
        let time = self.origin.saturating_add(now);
        self.record.clear();
        for number in [
            (time / limits::SECOND) as u32,
            (time % limits::SECOND) as u32,
            length.min(SNAP_LENGTH),
            length.saturating_add(missing),
        ] {
            self.record.extend_from_slice(&number.to_le_bytes());
        }
        parts.iter().for_each(|part| self.record.extend_from_slice(part));
        self.record.truncate(16 + SNAP_LENGTH as usize);
        match self.to.write_all(&self.record) {
            Ok(()) => self.written += 1,
            Err(error) => self.fail(error),
        }
    }

    /// Writes a frame that passed at `now` and of which only the header is known, with so many bytes behind it.
    pub fn write_header(&mut self, now: Time, header: &[u8], payload: u32) {
        self.record(now, &[IoSlice::new(header)], payload);
    }

    /// Writes out what a buffered writer holds back.
    pub fn flush(&mut self) {
        if let Err(error) = self.to.flush()
            && !self.has_failed
        {
            self.fail(error);
        }
    }

    /// The error that ended the capture, once: for people.
    pub fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    /// Frames written, and frames that an error kept from being written.
    #[must_use]
    pub const fn counts(&self) -> (u64, u64) {
        (self.written, self.missed)
    }

    fn fail(&mut self, error: io::Error) {
        self.error = Some(error);
        self.has_failed = true;
        self.missed += 1;
    }
}

/// A device whose frames are written to a pcap file as they pass. A full disk ends the capture, never the traffic.
#[derive(Debug)]
pub struct Tap<D, W> {
    device: D,
    writer: PcapWriter<W>,
    now: Time,
}

impl<D: Device, W: Write + Send> Tap<D, W> {
    /// Puts a tap on a device.
    pub const fn new(device: D, writer: PcapWriter<W>) -> Self {
        Self { device, writer, now: 0 }
    }

    /// The device behind it.
    pub const fn device(&mut self) -> &mut D {
        &mut self.device
    }

    /// The file's writer: errors and counts.
    pub const fn writer(&mut self) -> &mut PcapWriter<W> {
        &mut self.writer
    }
}

impl<D: Device, W: Write + Send> Device for Tap<D, W> {
    fn capabilities(&self) -> Capabilities {
        self.device.capabilities()
    }

    fn receive(&mut self, pool: &mut FramePool) -> io::Result<Option<Frame>> {
        let frame = self.device.receive(pool)?;
        if let Some(frame) = &frame {
            self.writer.write(self.now, &[IoSlice::new(&frame.bytes)]);
        }
        Ok(frame)
    }

    fn transmit(&mut self, parts: &[IoSlice<'_>], offload: Offload) -> io::Result<bool> {
        let taken = self.device.transmit(parts, offload)?;
        if taken {
            self.writer.write(self.now, parts);
        }
        Ok(taken)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.device.as_fd()
    }

    fn set_now(&mut self, now: Time) {
        self.now = now;
        self.device.set_now(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::queue::QueueDevice;

    #[test]
    fn both_directions_are_written_with_their_times() {
        let queue = QueueDevice::new(Capabilities::plain(1500));
        let mut tap = Tap::new(queue, PcapWriter::new(Vec::new(), 1_700_000_000 * limits::SECOND).unwrap());
        tap.device().inject(b"in", Offload::default());
        tap.set_now(5);
        tap.receive(&mut FramePool::new(1)).unwrap().unwrap();
        tap.set_now(2 * limits::SECOND + 7);
        let parts = [IoSlice::new(b"o"), IoSlice::new(b"ut")];
        assert!(tap.transmit(&parts, Offload::default()).unwrap());
        tap.writer().flush();
        assert_eq!(tap.writer().counts(), (2, 0));
        let file = &tap.writer.to;
        let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
        assert_eq!((number(0), number(16), number(20)), (MAGIC, SNAP_LENGTH, 101));
        assert_eq!((number(24), number(28), number(32), number(36)), (1_700_000_000, 5, 2, 2));
        assert_eq!(&file[40..42], b"in");
        assert_eq!((number(42), number(46), number(50), number(54)), (1_700_000_002, 7, 3, 3));
        assert_eq!(&file[58..], b"out");
    }

    /// A disk with room for so many bytes.
    struct Disk(usize);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_ends_the_capture_and_nothing_else() {
        let queue = QueueDevice::new(Capabilities::plain(1500));
        let mut tap = Tap::new(queue, PcapWriter::new(Disk(100), 0).unwrap());
        for _ in 0..5 {
            assert!(tap.transmit(&[IoSlice::new(&[0; 40])], Offload::default()).unwrap());
        }
        assert_eq!(tap.device().leaving(), 5);
        assert_eq!(tap.writer().counts(), (1, 4));
        assert_eq!(tap.writer().take_error().unwrap().kind(), io::ErrorKind::StorageFull);
        assert!(tap.writer().take_error().is_none());
        assert!(PcapWriter::new(Disk(3), 0).is_err());
    }
}
