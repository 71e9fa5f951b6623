//! Answers of those that hold records.

use serde::{Deserialize, Serialize};

use super::Component;
use crate::messages::Lane;
use crate::types::record::Version;
use crate::types::ucxl::DecisionAddress;
use crate::types::{Bytes, Level, Term};

/// To a coordinator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RecordsMessage {
    /// The replica answers.
    Answer {
        /// From the question.
        id: u64,
        /// What it says.
        answer: RecordsAnswer,
    },
}

/// What a replica answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RecordsAnswer {
    /// It is on disk.
    Stored,
    /// The address has this version, and the one that was to be kept is not greater.
    NotGreater(Version),
    /// The publication was made already, with this version; and its content, if it is there.
    Repeated(Version, Option<Bytes>),
    /// The address has as many versions as it may have.
    Full,
    /// The replica's lease is of this term; 0 if it has none.
    OtherTerm(Term),
    /// The replica goes by this version of the layout.
    OtherLayout(u64),
    /// The stamp is too far ahead of the replica's time of day.
    ClockAhead,
    /// The replica can't do it now.
    Unavailable,
    /// The replica won't do it: something about the question is wrong.
    Rejected,
    /// To `Content`.
    Content(Option<Bytes>),
    /// To `Newest` and `Find`.
    Newest(Option<Version>),
    /// To `Versions`: oldest first.
    Versions(Vec<Version>),
    /// To `Scan`: rows in order, and whether there are more.
    Page(Vec<(DecisionAddress, Version)>, bool),
}

impl Component for RecordsMessage {
    const NAME: &'static str = "records";
    const LANE: Lane = Lane::Control;
    const VERSIONS: &'static [(Level, u8)] = &[(Level(1), 1)];

    fn name(&self) -> &'static str {
        match self {
            Self::Answer { .. } => "records.answer",
        }
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        super::samples::records()
    }
}
