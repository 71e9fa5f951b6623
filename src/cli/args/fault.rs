//! The commands that break something on purpose.

use clap::Subcommand;

use crate::config::parse_duration;

/// Faults to try things out with.
#[derive(Debug, Subcommand)]
pub enum FaultCommand {
    /// Set the clock of a node wrong, or right again; the clock of its machine stays as it is.
    Clock {
        /// How far ahead it is to be, such as 1h; -30d for behind, 0 for right.
        #[arg(
            long,
            value_name = "TIME",
            allow_hyphen_values = true,
            value_parser = parse_ahead
        )]
        ahead: i64,
    },
}

/// Why a text does not say how far ahead a clock is to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected whole seconds, such as 90s, 1h, -30d or 0, and not more than a clock can show")]
pub struct AheadError;

/// Reads how far ahead a clock is to be, in seconds: a duration, perhaps with a minus before it.
fn parse_ahead(text: &str) -> Result<i64, AheadError> {
    if text == "0" {
        return Ok(0);
    }
    let (sign, length) = text.strip_prefix('-').map_or((1, text), |length| (-1, length));
    let length = parse_duration(length).map_err(|_| AheadError)?;
    if length.subsec_nanos() != 0 {
        return Err(AheadError);
    }
    i64::try_from(length.as_secs()).map(|seconds| sign * seconds).map_err(|_| AheadError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_go_ahead_and_behind_in_whole_seconds() {
        for (text, seconds) in
            [("0", 0), ("0s", 0), ("1h", 3_600), ("-1h", -3_600), ("-30d", -2_592_000), ("90s", 90)]
        {
            assert_eq!(parse_ahead(text), Ok(seconds), "{text}");
        }
        for text in ["", "-", "1", "-1", "--1h", "+1h", "1500ms", "213503982335d"] {
            assert_eq!(parse_ahead(text), Err(AheadError), "{text:?}");
        }
    }
}
