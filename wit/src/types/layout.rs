//! The records of a step's long lists lie in memory exactly as the component model lays them out (Canonical ABI,
//! "alignment" and "element size"), on machines of either width: a module takes such a list as it comes and gives its own as
//! it is. What that asks of each type is held against it here, at compile time.

use super::{Address, Endpoint, Mark, Message, Place, Position, Segment, Send};
use core::mem::offset_of;

/// A record's size and alignment, and where each field begins.
macro_rules! laid_out {
    ($($record:ident: $size:literal / $align:literal { $($field:ident $at:literal),* })*) => {
        const _: () = {
            $(
                assert!(size_of::<$record>() == $size && align_of::<$record>() == $align);
                $(assert!(offset_of!($record, $field) == $at);)*
            )*
        };
    };
}

laid_out! {
    Address: 16 / 8 { high 0, low 8 }
    Endpoint: 24 / 8 { address 0, port 16 }
    Segment: 20 / 4 {
        header 0, payload 4, header_length 8, transport 10, mss 12, count 14, protocol 16, kind 17, evidence 18, device 19
    }
    Position: 40 / 8 { connection 0, written 8, consumed 16, limit 24, marks 32 }
    Message: 64 / 8 { socket 0, length 8, hop_limit 12, traffic_class 13, source 16, to 40 }
    Send: 32 / 8 { of 0, at 8, header 16, length 20, header_length 24, transport 26, mss 28, source 30, how 31 }
    Place: 32 / 8 { of 0, at 8, segment 16, skip 20, length 24, source 28, target 29 }
    Mark: 40 / 8 { connection 0, exposed 8, acknowledged 16, by 24, want_receive 28, want_send 32 }
}
