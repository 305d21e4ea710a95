//! Headers: parsing what arrived and building what leaves. Everything is bounds-checked; a malformed header is `None`,
//! never a panic.

pub(crate) mod icmp;
pub(crate) mod ip;
pub(crate) mod options;
pub(crate) mod tcp;

pub(crate) use bulkhead_wit::ip::{bytes, u16_at, u32_at};
