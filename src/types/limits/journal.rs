//! Journals.

/// Bytes of one record of a journal.
pub const JOURNAL_RECORD_MAX: usize = 68 * 1024 * 1024;
/// A journal is rewritten when it is larger than this and mostly garbage.
pub const JOURNAL_REWRITE_ABOVE: u64 = 1024 * 1024;
