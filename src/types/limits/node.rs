//! What one node keeps, and what it works on at once.

/// Calls that wait in one actor; further ones are refused as busy.
pub const MAILBOX_MAX: usize = 4_096;
/// Effects that one actor may hold back while a disk write is under way.
pub const PARKED_MAX: usize = 16_384;
/// Events that a node keeps for clients that reconnect.
pub const EVENTS_KEPT: usize = 10_000;
/// Bytes of the names and data of the events of applications among them.
pub const EVENTS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Duties of a leader.
pub const DUTIES_MAX: usize = 16;
/// Bytes of the name of a duty.
pub const DUTY_NAME_LEN_MAX: usize = 64;
/// Bytes of each text about a duty.
pub const DUTY_TEXT_MAX: usize = 400;
/// Pieces of work that one machine has under way.
pub const WORK_OPEN_MAX: usize = 8_192;
