//! Every bound that both sides of the wall must keep. A module that exceeds one has broken the contract.

use crate::types::Time;

/// One nanosecond is the unit of time; these name the others.
pub const MICROSECOND: Time = 1_000;
/// A millisecond in nanoseconds.
pub const MILLISECOND: Time = 1_000_000;
/// A second in nanoseconds.
pub const SECOND: Time = 1_000_000_000;

// ---- what a step takes

/// Segments in one step.
pub const SEGMENTS: usize = 256;
/// Bytes of `headers`, in each direction of one step.
pub const HEADER_BYTES: usize = 128 * 1024;
/// Positions in one step.
pub const POSITIONS: usize = 1024;
/// Messages (datagrams of the application's) in one step.
pub const MESSAGES: usize = 256;
/// Calls in one step.
pub const CALLS: usize = 256;

// ---- what a step gives

/// Sends in one step, whatever `room.sends` says.
pub const SENDS: usize = 1024;
/// Places in one step.
pub const PLACES: usize = 1024;
/// Places of bytes of one segment.
pub const PLACES_PER_SEGMENT: usize = 4;
/// Marks in one step.
pub const MARKS: usize = 2048;
/// Events in one step.
pub const EVENTS: usize = 1024;
/// Notes in one step.
pub const NOTES: usize = 16;
/// Bytes of one note's text.
pub const NOTE_BYTES: usize = 256;
/// Fields of one `info`.
pub const INFO_FIELDS: usize = 64;

// ---- what a step reads and stages, in the world with payload access

/// Segments in one step, those made of fragments apart: few enough that all of their bytes can be read.
pub const ARRIVING: usize = 16;
/// Bytes that one step reads.
pub const READ_BYTES: usize = 2 << 20;
/// Reads in one step, at most.
pub const READS: usize = 4096;
/// Bytes that one step stages.
pub const STAGED_BYTES: usize = 2 << 20;
/// Runs of bytes that one step stages.
pub const STAGES: usize = 1024;

// ---- segments and frames

/// Bytes of one header: network header, its extensions, the transport header and its options.
pub const HEADER: usize = 512;
/// The shortest header that can arrive, in bytes: IPv4 without options, of a fragment.
pub const HEADER_MIN: usize = 20;
/// A datagram with all its headers, in bytes.
pub const DATAGRAM: usize = 65_535;
/// Frames that one send may be cut into.
pub const FRAMES_PER_SEND: usize = 1024;
/// Extension headers that split walks.
pub const EXTENSION_HEADERS: usize = 8;
/// Bytes of extension headers that split walks.
pub const EXTENSION_BYTES: usize = 256;

// ---- connections and streams

/// Slots for connections: a handle has 24 bits for one, and this many are used.
pub const CONNECTIONS: u32 = 1 << 20;
/// Listeners of one instance.
pub const LISTENERS: usize = 1024;
/// Runs of placed bytes that a connection may have beyond `exposed`.
pub const ISLANDS: usize = 64;
/// `limit - exposed` never exceeds this many bytes, so that a place is unique modulo 2^32.
pub const WINDOW: u64 = 1 << 30;
/// Connections offered and not yet decided: the default of `config.offers`.
pub const OFFERS: u32 = 256;
/// The most connections that `config.offers` may be.
pub const OFFERS_MAX: u32 = 4096;
/// Half-open connections before cookies begin: the default of `config.embryos`.
pub const EMBRYOS: u32 = 1024;
/// Hold slots for fragments.
pub const HOLDS: usize = 64;
/// Bytes of one hold slot.
pub const HOLD_BYTES: usize = 65_535;
/// Bytes of all hold slots together.
pub const HOLDS_BYTES: usize = 1 << 20;
/// How long a hold slot lives, in nanoseconds.
pub const HOLD_TIME: Time = 30 * SECOND;

// ---- what a configuration and a description list

/// Addresses of an instance.
pub const ADDRESSES: usize = 64;
/// Settings in one list, and in a description.
pub const SETTINGS: usize = 64;
/// Services that a module lists, in each direction.
pub const SERVICES: usize = 64;
/// Bytes of a module's name, and of its version.
pub const NAME_BYTES: usize = 256;

// ---- the instance

/// Linear memory of an instance, in bytes.
pub const MEMORY: usize = 256 << 20;
/// The longest saved state, in bytes.
pub const SAVE: usize = 64 << 20;
/// CPU time of one step, in nanoseconds.
pub const STEP_CPU: Time = 20 * MILLISECOND;
/// CPU time in nanoseconds of one `describe`, `start`, `save` or `load`: a state can hold every connection, and traffic waits meanwhile.
pub const LIFE_CPU: Time = 2 * SECOND;
/// The nearest deadline that a step may ask for, in nanoseconds from its `now`; nearer ones are `unfinished`.
pub const DEADLINE_MIN: Time = 50 * MICROSECOND;
/// Share of a core that an instance may use over a second without traffic, in percent.
pub const IDLE_CPU_PERCENT: u32 = 50;
