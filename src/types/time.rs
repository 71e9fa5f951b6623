//! Clocks.
//!
//! `Mono` never runs backwards and means nothing outside the node that read it. `Wall` is what
//! people read; it may jump and may be wrong. No safety argument rests on `Wall`.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A reading of one node's monotonic clock, in microseconds since an origin of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mono(pub u64);

impl Mono {
    /// Time since `earlier`, or zero if `earlier` is not in the past.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Mono;

    fn add(self, by: Duration) -> Mono {
        Mono(self.0.saturating_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Mono {
    type Output = Mono;

    fn sub(self, by: Duration) -> Mono {
        Mono(self.0.saturating_sub(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Wall(pub u64);

impl Wall {
    /// This instant moved forward.
    pub fn plus(self, by: Duration) -> Wall {
        Wall(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Year, month, day, hour, minute, second and millisecond in UTC.
    fn civil(self) -> (u64, u64, u64, u64, u64, u64, u64) {
        let (days, ms) = (self.0 / 86_400_000, self.0 % 86_400_000);
        // Howard Hinnant's civil_from_days, for days since 1970 that are never negative.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        (year, month, day, ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000)
    }

    /// The date as eight digits, as display names carry it.
    pub fn date_digits(self) -> String {
        let (year, month, day, ..) = self.civil();
        format!("{year:04}{month:02}{day:02}")
    }

    /// The instant to the second, as names of files carry it.
    pub fn stamp(self) -> String {
        let (.., hour, minute, second, _) = self.civil();
        format!("{}T{hour:02}{minute:02}{second:02}Z", self.date_digits())
    }
}

impl fmt::Display for Wall {
    /// RFC 3339 in UTC with milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day, hour, minute, second, ms) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }
}

/// Why a text is not an instant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an RFC 3339 instant, such as 2025-08-10T16:22:20Z")]
pub struct WallError {
    /// What was found, cut to a printable length.
    pub text: String,
}

impl FromStr for Wall {
    type Err = WallError;

    /// Reads an RFC 3339 instant with `T`, and `Z` or an offset, from 1970 on. What is finer than a
    /// millisecond is cut off.
    fn from_str(text: &str) -> Result<Self, WallError> {
        parse_rfc_3339(text).ok_or_else(|| WallError { text: text.chars().take(40).collect() })
    }
}

/// A number of exactly this many digits, and what comes behind it.
fn digits(text: &str, count: usize) -> Option<(u64, &str)> {
    let head = text.get(..count).filter(|head| head.bytes().all(|b| b.is_ascii_digit()))?;
    Some((head.parse().ok()?, &text[count..]))
}

/// Milliseconds behind the whole second, and what comes behind them.
fn fraction(text: &str) -> Option<(u64, &str)> {
    let Some(fraction) = text.strip_prefix('.') else { return Some((0, text)) };
    let end = fraction.find(|c: char| !c.is_ascii_digit()).filter(|end| (1..=9).contains(end))?;
    let (ms, _) = digits(&format!("{:0<3}", &fraction[..end]), 3)?;
    Some((ms, &fraction[end..]))
}

/// Minutes by which the time named is ahead of UTC.
fn offset(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let (hours, rest) = digits(text.strip_prefix(['+', '-'])?, 2)?;
    let (minutes, rest) = digits(rest.strip_prefix(':')?, 2)?;
    let is_one = hours <= 23 && minutes <= 59 && rest.is_empty();
    Some(sign * i64::try_from(hours * 60 + minutes).ok()?).filter(|_| is_one)
}

/// Days since 1970, none if there is no such day or it is before that.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = match month {
        2 => 28 + u64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year < 1970 || !(1..=length).contains(&day) {
        return None;
    }
    // Howard Hinnant's days_from_civil, for years that are never negative.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

fn parse_rfc_3339(text: &str) -> Option<Wall> {
    let mut rest = text;
    let mut field = |count, before: &str| {
        let (value, behind) = digits(rest.strip_prefix(before)?, count)?;
        rest = behind;
        Some(value)
    };
    let days = days(field(4, "")?, field(2, "-")?, field(2, "-")?)?;
    let (hour, minute, second) = (field(2, "T")?, field(2, ":")?, field(2, ":")?);
    let (ms, rest) = fraction(rest)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let local = days * 86_400_000 + hour * 3_600_000 + minute * 60_000 + second * 1_000 + ms;
    local.checked_add_signed(-offset(rest)? * 60_000).map(Wall)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_as_they_are_printed() {
        for wall in [0, 951_782_400_000, 1_754_842_940_007, 4_102_444_799_999, 68_169_599_999] {
            assert_eq!(Wall(wall).to_string().parse(), Ok(Wall(wall)));
        }
        let at = |text: &str| text.parse::<Wall>().map(|wall| wall.0).ok();
        assert_eq!(at("2025-08-10T18:22:20.0079+02:00"), Some(1_754_842_940_007));
        assert_eq!(at("2025-08-10T14:22:20.5-02:00"), Some(1_754_842_940_500));
        for bad in [
            "",
            "2025-08-10",
            "2025-08-10T16:22:20",
            "2025-02-29T00:00:00Z",
            "2025-13-01T00:00:00Z",
            "2025-00-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+01:00",
            "2025-08-10T24:00:00Z",
            "2025-08-10T16:22:60Z",
            "2025-08-10T16:22:20.Z",
            "2025-08-10T16:22:20.0123456789Z",
            "2025-08-10T16:22:20+2:00",
            "2025-08-10T16:22:20ZZ",
            "2025-08-1üT16:22:20Z",
            "+025-08-10T16:22:20Z",
        ] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }

    #[test]
    fn wall_times_print_as_rfc_3339() {
        assert_eq!(Wall(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Wall(1_754_842_940_007).to_string(), "2025-08-10T16:22:20.007Z");
        assert_eq!(Wall(951_782_400_000).to_string(), "2000-02-29T00:00:00.000Z");
        assert_eq!(Wall(1_754_842_940_007).date_digits(), "20250810");
        assert_eq!(Wall(1_754_842_940_007).stamp(), "20250810T162220Z");
    }

    #[test]
    fn monotonic_differences_never_go_below_zero() {
        assert_eq!(Mono(5).since(Mono(9)), Duration::ZERO);
        assert_eq!(Mono(9) - Duration::from_secs(1), Mono(0));
    }
}
