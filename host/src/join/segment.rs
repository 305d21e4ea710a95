//! Segmentation in software, as a network card does it.
//!
//! Every frame has the super-segment's header, but for its own lengths and checksums, the next sequence number and
//! identification, PSH and FIN in the last frame only, and CWR in the first only (RFC 3168 6.1.2).

use std::io::{self, IoSlice};

use crate::join::layout::{CWR, FIN, Layout, PSH, TCP_FLAGS, URG, get_u16, get_u32, put_u16, put_u32};
use crate::join::parts::{Cursor, FEW, FEW_SLICES, PARTS, Parts};
use crate::split::network::{Network, TCP, UDP};

/// Takes the finished frames; `Ok(false)` when there is no room for more.
pub(crate) type Emit<'e> = &'e mut dyn FnMut(&[IoSlice<'_>]) -> io::Result<bool>;

/// A payload to be cut.
#[derive(Clone, Copy)]
pub(crate) struct Cut<'a> {
    pub(crate) payload: &'a [&'a [u8]],
    /// Bytes of `payload` together.
    pub(crate) length: usize,
    /// Payload bytes of each frame but the last; at least 1.
    pub(crate) mss: usize,
    /// IPv4 identification of the first frame.
    pub(crate) identification: u16,
}

impl Cut<'_> {
    /// How many frames it gives.
    pub(crate) const fn frames(&self) -> usize {
        self.length.div_ceil(if self.mss == 0 { 1 } else { self.mss })
    }
}

/// Emits the frames of a TCP or UDP super-segment and returns how many were taken. `header` is left as of the last one.
pub(crate) fn segment(header: &mut [u8], layout: Layout, cut: Cut<'_>, emit: Emit<'_>) -> io::Result<usize> {
    if cut.payload.len() <= FEW_SLICES {
        segment_into::<FEW>(header, layout, cut, emit)
    } else {
        segment_into::<PARTS>(header, layout, cut, emit)
    }
}

/// Frames of at most `N` pieces.
fn segment_into<const N: usize>(
    header: &mut [u8],
    layout: Layout,
    cut: Cut<'_>,
    emit: Emit<'_>,
) -> io::Result<usize> {
    let original = Original::of(header, layout);
    let mut cursor = Cursor::new(&[], cut.payload);
    let (mut at, mut frames) = (0, 0);
    while at < cut.length {
        let size = cut.mss.max(1).min(cut.length - at);
        layout.fill_network(header, size, cut.identification.wrapping_add(frames as u16));
        original.step(header, layout, at, at + size == cut.length);
        layout.fill_checksum(header, size, cursor.sum_ahead(size));
        let mut parts = Parts::<N>::new(header);
        if !cursor.take(size, &mut parts) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if !emit(parts.as_slice())? {
            break;
        }
        at += size;
        frames += 1;
    }
    Ok(frames)
}

/// Cuts a super-segment that lies in one piece, as a device does; its checksum and length fields are not looked at.
///
/// # Errors
/// `InvalidInput` if it is not what can be cut, and what `emit` fails with.
pub(crate) fn segment_frame(frame: &mut [u8], mss: u16, emit: Emit<'_>) -> io::Result<usize> {
    let invalid = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
    let Ok(network) = Network::parse(frame, true) else { return Err(invalid("no network header")) };
    let transport = network.transport;
    let length = match network.protocol {
        TCP => usize::from(frame.get(transport + 12).copied().unwrap_or_default() >> 4) * 4,
        UDP => 8,
        _ => return Err(invalid("only TCP and UDP can be segmented")),
    };
    let (header, payload) =
        frame.split_at_mut_checked(transport + length).ok_or_else(|| invalid("no transport header"))?;
    let layout = Layout::of(header, transport).map_err(invalid)?;
    let identification = get_u16(header, 4);
    let cut = Cut { payload: &[payload], length: payload.len(), mss: usize::from(mss), identification };
    segment(header, layout, cut, emit)
}

/// The fields of a super-segment's TCP header that differ from frame to frame.
struct Original {
    is_tcp: bool,
    seq: u32,
    flags: u8,
    urgent: u16,
}

impl Original {
    fn of(header: &[u8], layout: Layout) -> Self {
        let tcp = header.get(layout.transport..).unwrap_or_default();
        Self {
            is_tcp: layout.protocol == TCP,
            seq: get_u32(tcp, 4),
            flags: tcp.get(TCP_FLAGS).copied().unwrap_or_default(),
            urgent: get_u16(tcp, 18),
        }
    }

    /// Writes them for the frame whose payload begins at `at`.
    fn step(&self, header: &mut [u8], layout: Layout, at: usize, is_last: bool) {
        if !self.is_tcp {
            return;
        }
        let mut flags = self.flags;
        if at > 0 {
            flags &= !CWR;
        }
        if !is_last {
            flags &= !(FIN | PSH);
        }
        // The urgent pointer counts from the segment's own sequence number (RFC 9293 3.1).
        if flags & URG != 0 {
            let urgent = usize::from(self.urgent).saturating_sub(at);
            if urgent == 0 && at > 0 {
                flags &= !URG;
            }
            put_u16(header, layout.transport + 18, urgent as u16);
        }
        put_u32(header, layout.transport + 4, self.seq.wrapping_add(at as u32));
        if let Some(field) = header.get_mut(layout.transport + TCP_FLAGS) {
            *field = flags;
        }
    }
}
