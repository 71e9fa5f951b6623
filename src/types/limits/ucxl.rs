//! Addresses of decisions.

/// Bytes of one segment of a decision's address.
pub const UCXL_SEGMENT_MAX: usize = 64;
/// Bytes of an address in any spelling.
pub const UCXL_TEXT_MAX: usize = 512;
