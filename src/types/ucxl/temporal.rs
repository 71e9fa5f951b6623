//! Which version of a decision is meant.

use std::fmt;

use crate::types::Wall;

/// Which version of a decision is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temporal {
    /// `*^`: the newest.
    Latest,
    /// `*~`: the oldest.
    First,
    /// `~~N`: N before the newest; never 0.
    Back(u32),
    /// `^^N`: N after the oldest; never 0.
    Forward(u32),
    /// What was the newest at this instant.
    At(Wall),
}

/// The version that was named does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemporalError {
    /// Further back or forward than there are versions.
    #[error("{asked} is out of range: there are {count} versions, {range}")]
    OutOfRange {
        /// As it was written.
        asked: String,
        /// How many versions there are.
        count: usize,
        /// What can be asked for, in words.
        range: String,
    },
    /// Nothing had been decided then.
    #[error("there was no version at {asked} yet: the first one is of {first}")]
    NotYet {
        /// The instant.
        asked: Wall,
        /// When the first version was written.
        first: Wall,
    },
}

impl Temporal {
    /// Reads a segment. None if it does not look like this, an error if it does but is none.
    pub(super) fn parse(segment: &str) -> Option<Result<Self, String>> {
        match segment {
            "*^" => return Some(Ok(Self::Latest)),
            "*~" => return Some(Ok(Self::First)),
            _ => {}
        }
        let steps = |digits: &str| -> Result<u32, String> {
            let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            let steps = digits.parse().ok().filter(|_| is_number);
            steps.ok_or_else(|| format!("{segment:?} must end in a number of versions, such as 2"))
        };
        if let Some(digits) = segment.strip_prefix("~~") {
            return Some(steps(digits).map(|n| if n == 0 { Self::Latest } else { Self::Back(n) }));
        }
        if let Some(digits) = segment.strip_prefix("^^") {
            return Some(
                steps(digits).map(|n| if n == 0 { Self::First } else { Self::Forward(n) }),
            );
        }
        // No other segment may hold a colon.
        if segment.contains(':') {
            let instant = segment
                .parse()
                .map(Self::At)
                .map_err(|error: crate::types::time::WallError| error.to_string());
            return Some(instant);
        }
        None
    }

    /// Which of `count` versions, oldest first, is meant. `at` tells when each was written, never
    /// before the one in front of it. There must be at least one.
    pub fn pick(&self, count: usize, at: impl Fn(usize) -> Wall) -> Result<usize, TemporalError> {
        assert!(count > 0, "a version is picked from at least one");
        let newest = count - 1;
        let steps = |n: u32| usize::try_from(n).ok().filter(|n| *n <= newest);
        let out_of_range = || TemporalError::OutOfRange {
            asked: self.to_string(),
            count,
            range: match self {
                Self::Forward(_) => format!("^^0 (the first) to ^^{newest}"),
                _ => format!("~~0 (the latest) to ~~{newest}"),
            },
        };
        match self {
            Self::Latest => Ok(newest),
            Self::First => Ok(0),
            Self::Back(n) => steps(*n).map(|n| newest - n).ok_or_else(out_of_range),
            Self::Forward(n) => steps(*n).ok_or_else(out_of_range),
            Self::At(instant) => (0..count)
                .rev()
                .find(|version| at(*version) <= *instant)
                .ok_or_else(|| TemporalError::NotYet { asked: *instant, first: at(0) }),
        }
    }
}

impl fmt::Display for Temporal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("*^"),
            Self::First => f.write_str("*~"),
            Self::Back(n) => write!(f, "~~{n}"),
            Self::Forward(n) => write!(f, "^^{n}"),
            Self::At(instant) => write!(f, "{instant}"),
        }
    }
}
