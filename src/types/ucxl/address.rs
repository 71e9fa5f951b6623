//! The address of a decision.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Ucxl, UcxlError};
use crate::types::limits::UCXL_SEGMENT_MAX;

/// Segments of a decision's address.
pub(super) const SEGMENTS: usize = 5;
/// What the segments are called, in order.
const NAMES: [&str; SEGMENTS] = ["agent", "role", "project", "task", "node"];

/// Checks one segment of an address.
pub(super) fn check_segment(segment: &str) -> Result<(), String> {
    if segment.is_empty() {
        return Err("a segment of it is empty".into());
    }
    if segment.len() > UCXL_SEGMENT_MAX {
        return Err(format!("a segment of it has more than {UCXL_SEGMENT_MAX} bytes"));
    }
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if segment == "." || segment == ".." || !segment.bytes().all(fits) {
        let shown: String = segment.chars().take(40).collect();
        return Err(format!(
            "the segment {shown:?} may hold ASCII letters, digits, '.', '_' and '-' only"
        ));
    }
    Ok(())
}

/// Where a decision stands: who decided, in which role, for which project and task, and on which
/// node it was published. All versions of a decision share its address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DecisionAddress(Arc<str>);

impl DecisionAddress {
    /// An address of these five segments.
    pub fn new(segments: [&str; SEGMENTS]) -> Result<Self, UcxlError> {
        for (segment, name) in segments.iter().zip(NAMES) {
            check_segment(segment)
                .map_err(|reason| UcxlError::new(segment, format!("as the {name}, {reason}")))?;
        }
        Ok(Self(segments.join("/").into()))
    }

    /// The canonical form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The five segments.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    fn segment(&self, index: usize) -> &str {
        self.segments().nth(index).expect("an address has five segments")
    }

    /// Who decided.
    pub fn agent(&self) -> &str {
        self.segment(0)
    }

    /// In which role.
    pub fn role(&self) -> &str {
        self.segment(1)
    }

    /// For which project.
    pub fn project(&self) -> &str {
        self.segment(2)
    }

    /// In which task.
    pub fn task(&self) -> &str {
        self.segment(3)
    }

    /// On which node.
    pub fn node(&self) -> &str {
        self.segment(4)
    }
}

impl fmt::Display for DecisionAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DecisionAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DecisionAddress({self})")
    }
}

impl FromStr for DecisionAddress {
    type Err = UcxlError;

    /// Reads an address in any spelling, without a version.
    fn from_str(text: &str) -> Result<Self, UcxlError> {
        match text.parse()? {
            Ucxl::Decision(address, None) => Ok(address),
            Ucxl::Decision(_, Some(_)) => Err(UcxlError::new(text, "it names a version")),
            _ => Err(UcxlError::new(text, "it does not name one decision")),
        }
    }
}

impl Serialize for DecisionAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for DecisionAddress {
    /// Takes the canonical form only: what nodes exchange and sign has one spelling.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let address: Self = text.parse().map_err(serde::de::Error::custom)?;
        if address.as_str() == text {
            Ok(address)
        } else {
            Err(serde::de::Error::custom("the address is not in its canonical form"))
        }
    }
}
