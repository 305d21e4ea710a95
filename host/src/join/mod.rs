//! Header and byte range in; frames out, as a network card makes them.
//!
//! Join fills what the contract leaves to it: lengths, IPv4 identification, checksums. What the device can do is left
//! to the device (the checksum of the payload, cutting a super-segment); what it cannot, join does. It chooses nothing:
//! whatever the module asked for is sent, or refused as a whole.

use std::fmt;
use std::io::{self, IoSlice};

use bulkhead_wit::{How, Send, limits};

use crate::device::{Capabilities, ChecksumState, Device, Gso, Offload};
use crate::split::network::{TCP, UDP};

mod fragment;
pub(crate) mod layout;
pub(crate) mod parts;
pub(crate) mod segment;
#[cfg(test)]
mod tests;

use fragment::Datagram;
pub(crate) use layout::complete_checksum;
use layout::{CWR, Layout, TCP_FLAGS, URG};
pub(crate) use parts::PARTS;
use parts::{Cursor, FEW, FEW_SLICES, Parts};
use segment::Cut;
pub(crate) use segment::segment_frame;

/// What became of a send.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Joined {
    /// Frames that the device took; a super-segment that it cuts counts once.
    pub frames: u32,
    /// Frames that it had no room for. They are lost as on a congested link, and the peer's stack or ours repairs it.
    pub dropped: u32,
    /// Bytes that the device took, headers included.
    pub bytes: u32,
}

/// Why a send could not be made into frames. Nothing of it was sent, but for [`JoinError::Device`], where frames may
/// have gone before the error.
#[derive(Debug)]
pub enum JoinError {
    /// The header, or the payload given for it, is not what it is said to be. Inspect lets no such send pass.
    Malformed(&'static str),
    /// Longer than the link takes, and neither segmentation nor fragmentation is allowed.
    TooLong {
        /// Bytes of the frame.
        length: usize,
        /// Bytes that the link takes.
        mtu: usize,
    },
    /// The device failed.
    Device(io::Error),
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "a send that cannot be made into a frame: {why}"),
            Self::TooLong { length, mtu } => {
                write!(f, "a frame of {length} bytes on a link that takes {mtu}")
            }
            Self::Device(error) => write!(f, "the device failed to send: {error}"),
        }
    }
}

impl std::error::Error for JoinError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if let Self::Device(error) = self { Some(error) } else { None }
    }
}

impl From<io::Error> for JoinError {
    fn from(error: io::Error) -> Self {
        Self::Device(error)
    }
}

/// What join did so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct JoinCounters {
    /// Frames that devices took.
    pub frames: u64,
    /// Bytes that devices took, headers included.
    pub bytes: u64,
    /// Super-segments that were left to the device.
    pub offloaded: u64,
    /// Super-segments that were cut in software.
    pub segmented: u64,
    /// Datagrams that were cut into IP fragments.
    pub fragmented: u64,
    /// Frames that devices had no room for.
    pub dropped: u64,
    /// Sends refused for their header or payload.
    pub malformed: u64,
    /// Sends refused for their length.
    pub too_long: u64,
    /// Sends that ended with an error of the device.
    pub failed: u64,
}

/// Joins headers and payloads. One for a host: it counts the identifications of IPv4 datagrams.
#[derive(Clone, Debug)]
pub struct Join {
    /// Identification of the next IPv4 datagram (RFC 6864).
    identification: u16,
    /// Identification of the next fragmented IPv6 datagram.
    identification_v6: u32,
    header: Box<[u8]>,
    /// Where long lists of payload slices are copied together.
    gather: Vec<u8>,
    counters: JoinCounters,
}

impl Join {
    /// Begins counting identifications at numbers taken from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            identification: seed as u16,
            identification_v6: (seed >> 32) as u32,
            header: vec![0; limits::HEADER].into(),
            gather: Vec::with_capacity(limits::DATAGRAM),
            counters: JoinCounters::default(),
        }
    }

    /// What was done so far.
    #[must_use]
    pub const fn counters(&self) -> &JoinCounters {
        &self.counters
    }

    /// Sends `send`, whose header lies in `headers` (the step's outputs), with the bytes of `payload`, which must be
    /// `send.length` together. Nothing is kept; nothing is allocated.
    ///
    /// # Errors
    /// See [`JoinError`]; counted already.
    pub fn join(
        &mut self,
        send: &Send,
        headers: &[u8],
        payload: &[&[u8]],
        device: &mut dyn Device,
    ) -> Result<Joined, JoinError> {
        let result = self.try_join(send, headers, payload, device);
        match &result {
            Ok(joined) => {
                self.counters.frames += u64::from(joined.frames);
                self.counters.bytes += u64::from(joined.bytes);
                self.counters.dropped += u64::from(joined.dropped);
            }
            Err(JoinError::Malformed(_)) => self.counters.malformed += 1,
            Err(JoinError::TooLong { .. }) => self.counters.too_long += 1,
            Err(JoinError::Device(_)) => self.counters.failed += 1,
        }
        result
    }

    fn try_join(
        &mut self,
        send: &Send,
        headers: &[u8],
        payload: &[&[u8]],
        device: &mut dyn Device,
    ) -> Result<Joined, JoinError> {
        let job = Job::new(send, headers, payload, device.capabilities())?;
        // Both scratch buffers leave `self` for the time of this call; taking them costs nothing.
        let mut scratch = std::mem::take(&mut self.header);
        let mut gather = std::mem::take(&mut self.gather);
        let result = match scratch.get_mut(..job.header.len()) {
            Some(header) if payload.len() + 2 > PARTS => {
                header.copy_from_slice(job.header);
                gather.clear();
                payload.iter().for_each(|slice| gather.extend_from_slice(slice));
                self.emit(job, header, &[&gather], device)
            }
            Some(header) => {
                header.copy_from_slice(job.header);
                self.emit(job, header, payload, device)
            }
            None => Err(JoinError::Malformed("a header of more than 512 bytes")),
        };
        (self.header, self.gather) = (scratch, gather);
        result
    }

    fn emit(
        &mut self,
        job: Job<'_>,
        header: &mut [u8],
        payload: &[&[u8]],
        device: &mut dyn Device,
    ) -> Result<Joined, JoinError> {
        match job.way {
            Way::Cut => self.cut_here(job, header, payload, device),
            Way::Fragment => self.fragment_here(job, header, payload, device),
            Way::Whole | Way::CutByDevice(_) => self.whole(job, header, payload, device),
        }
    }

    /// One frame for the device: really one, or a super-segment that it cuts.
    fn whole(
        &mut self,
        job: Job<'_>,
        header: &mut [u8],
        payload: &[&[u8]],
        device: &mut dyn Device,
    ) -> Result<Joined, JoinError> {
        let Job { layout, length, mss, is_checksum_offloaded, .. } = job;
        let mut offload = Offload { header_length: layout.length as u16, ..Offload::default() };
        let mut frames = 1;
        if let Way::CutByDevice(gso) = job.way {
            offload.gso = gso;
            offload.gso_size = mss as u16;
            offload.cwr = job.tcp_flags() & CWR != 0;
            frames = length.div_ceil(mss);
            self.counters.offloaded += 1;
        }
        layout.fill_network(header, length, self.take_identifications(layout, frames));
        if is_checksum_offloaded {
            layout.fill_partial(header, length);
            let offset = layout.checksum_offset().unwrap_or_default() as u16;
            offload.checksum = ChecksumState::Needs { start: layout.transport as u16, offset };
        } else {
            layout.fill_checksum(header, length, Cursor::new(&[], payload).sum_ahead(length));
        }
        let taken = if payload.len() <= FEW_SLICES {
            transmit::<FEW>(header, payload, offload, device)?
        } else {
            transmit::<PARTS>(header, payload, offload, device)?
        };
        let bytes = (layout.length + length) as u32;
        let (frames, dropped) = (u32::from(taken), u32::from(!taken));
        Ok(Joined { frames, dropped, bytes: bytes * frames })
    }

    /// Segmentation in software.
    fn cut_here(
        &mut self,
        job: Job<'_>,
        header: &mut [u8],
        payload: &[&[u8]],
        device: &mut dyn Device,
    ) -> Result<Joined, JoinError> {
        let Job { layout, length, mss, .. } = job;
        let mut cut = Cut { payload, length, mss, identification: 0 };
        let frames = cut.frames();
        cut.identification = self.take_identifications(layout, frames);
        self.counters.segmented += 1;
        let mut bytes = 0;
        let taken = segment::segment(header, layout, cut, &mut counting(device, &mut bytes))?;
        Ok(Joined { frames: taken as u32, dropped: frames.saturating_sub(taken) as u32, bytes })
    }

    /// Fragmentation; the transport checksum covers the whole datagram, so that no device can do it.
    fn fragment_here(
        &mut self,
        job: Job<'_>,
        header: &mut [u8],
        payload: &[&[u8]],
        device: &mut dyn Device,
    ) -> Result<Joined, JoinError> {
        let Job { layout, length, mtu, .. } = job;
        layout.fill_network(header, length, self.take_identifications(layout, 1));
        layout.fill_checksum(header, length, Cursor::new(&[], payload).sum_ahead(length));
        self.identification_v6 = self.identification_v6.wrapping_add(1);
        self.counters.fragmented += 1;
        let datagram = Datagram { header, layout, payload, length, identification: self.identification_v6 };
        let mut bytes = 0;
        let (frames, taken) = fragment::fragment(datagram, mtu, &mut counting(device, &mut bytes)).map_err(
            |error| match error.kind() {
                // Headers alone fill the link's frames.
                io::ErrorKind::InvalidInput => JoinError::TooLong { length: layout.length + length, mtu },
                _ => error.into(),
            },
        )?;
        Ok(Joined { frames: taken as u32, dropped: (frames - taken) as u32, bytes })
    }

    /// The identification of the first of `frames` IPv4 datagrams.
    fn take_identifications(&mut self, layout: Layout, frames: usize) -> u16 {
        let first = self.identification;
        if layout.is_v4 {
            self.identification = first.wrapping_add(frames as u16);
        }
        first
    }
}

/// Gives the device header and payload as one frame.
fn transmit<const N: usize>(
    header: &[u8],
    payload: &[&[u8]],
    offload: Offload,
    device: &mut dyn Device,
) -> io::Result<bool> {
    let mut parts = Parts::<N>::new(header);
    // Longer lists were gathered before.
    if !payload.iter().all(|slice| parts.push(slice)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    device.transmit(parts.as_slice(), offload)
}

/// Sends frames as they are, and counts the bytes of those that were taken.
fn counting(device: &mut dyn Device, bytes: &mut u32) -> impl FnMut(&[IoSlice<'_>]) -> io::Result<bool> {
    move |parts| {
        let taken = device.transmit(parts, Offload::default())?;
        *bytes += u32::from(taken) * parts.iter().map(|part| part.len() as u32).sum::<u32>();
        Ok(taken)
    }
}

/// How a send becomes frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Whole,
    CutByDevice(Gso),
    Cut,
    Fragment,
}

/// A send, understood.
#[derive(Clone, Copy)]
struct Job<'a> {
    header: &'a [u8],
    layout: Layout,
    length: usize,
    mss: usize,
    mtu: usize,
    way: Way,
    is_checksum_offloaded: bool,
}

impl<'a> Job<'a> {
    fn new(
        send: &Send,
        headers: &'a [u8],
        payload: &[&[u8]],
        device: Capabilities,
    ) -> Result<Self, JoinError> {
        let start = send.header as usize;
        let header = headers
            .get(start..start.saturating_add(usize::from(send.header_length)))
            .ok_or(JoinError::Malformed("the header lies outside the headers"))?;
        let layout = Layout::of(header, usize::from(send.transport)).map_err(JoinError::Malformed)?;
        let length = send.length as usize;
        if payload.iter().map(|slice| slice.len()).sum::<usize>() != length {
            return Err(JoinError::Malformed("the payload has another length"));
        }
        if length + header.len() > limits::DATAGRAM {
            return Err(JoinError::TooLong { length: length + header.len(), mtu: limits::DATAGRAM });
        }
        let (mss, mtu) = (usize::from(send.mss), device.mtu as usize);
        let is_checksum_offloaded = device.checksum_transmit && matches!(layout.protocol, TCP | UDP);
        let mut job = Self { header, layout, length, mss, mtu, way: Way::Whole, is_checksum_offloaded };
        job.way = job.choose_way(send.how, device)?;
        Ok(job)
    }

    fn choose_way(&self, how: How, device: Capabilities) -> Result<Way, JoinError> {
        let total = self.layout.length + self.length;
        let is_cut = self.mss > 0 && self.length > self.mss;
        let frame = if is_cut { self.layout.length + self.mss } else { total };
        if is_cut && !matches!(self.layout.protocol, TCP | UDP) {
            return Err(JoinError::Malformed("only TCP and UDP can be segmented"));
        }
        if is_cut && self.length.div_ceil(self.mss) > limits::FRAMES_PER_SEND {
            return Err(JoinError::Malformed("more than 1,024 frames"));
        }
        if frame > self.mtu {
            // DF forbids it (RFC 791 3.1); IPv6 knows no DF.
            let has_df = self.layout.is_v4 && self.header.get(6).is_some_and(|flags| flags & 0x40 != 0);
            if is_cut || has_df || !how.contains(How::MAY_FRAGMENT) {
                return Err(JoinError::TooLong { length: frame, mtu: self.mtu });
            }
            return Ok(Way::Fragment);
        }
        if !is_cut {
            return Ok(Way::Whole);
        }
        let (gso, longest) = match (self.layout.protocol, self.layout.is_v4) {
            (TCP, true) => (Gso::Tcp4, device.tso4),
            (TCP, false) => (Gso::Tcp6, device.tso6),
            _ => (Gso::Udp, device.uso),
        };
        // Devices leave the urgent pointer as it is in every frame.
        let is_for_device =
            self.is_checksum_offloaded && total <= longest as usize && self.tcp_flags() & URG == 0;
        Ok(if is_for_device { Way::CutByDevice(gso) } else { Way::Cut })
    }

    fn tcp_flags(&self) -> u8 {
        if self.layout.protocol != TCP {
            return 0;
        }
        self.header.get(self.layout.transport + TCP_FLAGS).copied().unwrap_or_default()
    }
}
