//! The replicated control state: configuration values, outcomes, the log.

/// Bytes of a configuration value that stands in the control state itself.
pub const HEAD_VALUE_MAX: usize = 4 * 1024;
/// Bytes of a configuration key, all segments together.
pub const HEAD_KEY_MAX: usize = 256;
/// Heads in the control state.
pub const HEADS_MAX: usize = 4_096;
/// Outcomes of proposals that are remembered, so that a repeated proposal is answered alike.
pub const OUTCOMES_MAX: usize = 4_096;
