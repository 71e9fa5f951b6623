//! Durations as people write them: a whole number and a unit, such as `300ms` or `24h`.

use std::time::Duration;

/// Units and their length in milliseconds, longest first.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// There is no number, or something other than a unit after it.
    #[error("expected a whole number and a unit (ms, s, m, h or d), such as 90s or 24h")]
    Form,
    /// The number is larger than a duration can hold.
    #[error("the duration is too long, use a smaller number")]
    TooLong,
}

/// Reads a duration such as `300ms`, `90s`, `15m`, `24h` or `7d`.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let length = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, length)| *length);
    let Some(length) = length.filter(|_| !number.is_empty()) else {
        return Err(DurationError::Form);
    };
    // Only digits are left, so a number that does not parse is one that does not fit.
    let number: u64 = number.parse().map_err(|_| DurationError::TooLong)?;
    number.checked_mul(length).map(Duration::from_millis).ok_or(DurationError::TooLong)
}

/// Writes a duration in the longest unit that divides it; what is below a millisecond is dropped.
/// One day is written `24h`, as the default of `election.interval` is.
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    let one_day = u128::from(UNITS[0].1);
    let fits = |&(name, length): &(&str, u64)| {
        millis.is_multiple_of(u128::from(length)) && !(name == "d" && millis == one_day)
    };
    let (name, length) = UNITS.into_iter().find(fits).unwrap_or(("ms", 1));
    format!("{}{name}", millis / u128::from(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_come_back_in_their_longest_unit() {
        for (given, millis, canonical) in [
            ("300ms", 300, "300ms"),
            ("90s", 90_000, "90s"),
            ("15m", 900_000, "15m"),
            ("24h", 86_400_000, "24h"),
            ("48h", 172_800_000, "2d"),
            ("7d", 604_800_000, "7d"),
            ("0m", 0, "0s"),
            ("1000ms", 1_000, "1s"),
        ] {
            let duration = parse_duration(given).unwrap();
            assert_eq!(duration, Duration::from_millis(millis), "{given}");
            assert_eq!(format_duration(duration), canonical);
            assert_eq!(parse_duration(canonical).unwrap(), duration);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "24", "h", "1.5h", "-1s", "+1s", " 1s", "1 s", "1h30m", "1w", "1H", "٣s"]
        {
            assert_eq!(parse_duration(text), Err(DurationError::Form), "{text:?}");
        }
        for text in ["99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(parse_duration(text), Err(DurationError::TooLong), "{text:?}");
        }
    }
}
