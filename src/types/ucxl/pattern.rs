//! Patterns over the addresses of decisions.
//!
//! An address has five segments, so a single `**` stands for a number of segments that is known:
//! it is written out as that many `*`. Only a pattern with two or more of them, such as
//! `**/review/**`, is matched by trying.

use std::fmt;
use std::str::FromStr;

use super::address::{SEGMENTS, check_segment};
use super::{DecisionAddress, Ucxl, UcxlError};

/// Segments that a pattern may be written with.
const WRITTEN_MAX: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// This very segment.
    Literal(String),
    /// `*`: any one segment.
    Any,
    /// `**`: any number of segments.
    Rest,
}

/// A pattern, in its canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
}

impl Pattern {
    /// Matches every address.
    pub fn all() -> Self {
        Self { parts: vec![Part::Any; SEGMENTS] }
    }

    pub(super) fn from_segments(segments: &[&str]) -> Result<Self, String> {
        if segments.len() > WRITTEN_MAX {
            return Err(format!("it has more than {WRITTEN_MAX} segments"));
        }
        let mut parts: Vec<Part> = Vec::with_capacity(segments.len());
        for segment in segments {
            match *segment {
                "*" => {
                    // Within a run of wildcards the order says nothing: `**/*` is `*/**`.
                    let at = parts.len() - usize::from(parts.last() == Some(&Part::Rest));
                    parts.insert(at, Part::Any);
                }
                "**" if parts.last() == Some(&Part::Rest) => {}
                "**" => parts.push(Part::Rest),
                literal => {
                    check_segment(literal)?;
                    parts.push(Part::Literal(literal.to_owned()));
                }
            }
        }
        let rests = parts.iter().filter(|part| **part == Part::Rest).count();
        let fixed = parts.len() - rests;
        let shape = "an address is agent/role/project/task/node";
        match (rests, fixed) {
            (0, SEGMENTS) => {}
            (0, 0..SEGMENTS) => {
                return Err(format!(
                    "it has {fixed} segments, and {shape}; end it in / or /** for all below"
                ));
            }
            (_, SEGMENTS) => parts.retain(|part| *part != Part::Rest),
            (_, found) if found > SEGMENTS => {
                return Err(format!("it has {found} segments, and {shape}"));
            }
            (1, _) => {
                let at = parts.iter().position(|part| *part == Part::Rest).unwrap_or_default();
                parts.splice(at..=at, vec![Part::Any; SEGMENTS - fixed]);
            }
            _ => {}
        }
        Ok(Self { parts })
    }

    /// The address, if it is a pattern for just one.
    pub fn as_address(&self) -> Option<DecisionAddress> {
        let literal = |part: &Part| match part {
            Part::Literal(text) => Some(text.clone()),
            _ => None,
        };
        let segments: Vec<String> = self.parts.iter().map(literal).collect::<Option<_>>()?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        DecisionAddress::new(segments.try_into().ok()?).ok()
    }

    /// True if the address matches.
    pub fn matches(&self, address: &DecisionAddress) -> bool {
        let segments: Vec<&str> = address.segments().collect();
        // reachable[i]: the parts so far can stand for the first i segments.
        let mut reachable = [false; SEGMENTS + 1];
        reachable[0] = true;
        for part in &self.parts {
            let mut next = [false; SEGMENTS + 1];
            let mut open = false;
            for at in 0..=SEGMENTS {
                match part {
                    Part::Rest => {
                        open |= reachable[at];
                        next[at] = open;
                    }
                    Part::Any => next[at] = at > 0 && reachable[at - 1],
                    Part::Literal(text) => {
                        next[at] = at > 0 && reachable[at - 1] && segments[at - 1] == text;
                    }
                }
            }
            reachable = next;
        }
        reachable[SEGMENTS]
    }

    /// What every address that matches begins with: whole segments, each with its slash; or the one
    /// address that matches.
    pub fn prefix(&self) -> String {
        if let Some(address) = self.as_address() {
            return address.as_str().to_owned();
        }
        let mut prefix = String::new();
        for part in &self.parts {
            let Part::Literal(text) = part else { break };
            prefix.push_str(text);
            prefix.push('/');
        }
        prefix
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_exact = !self.parts.contains(&Part::Rest);
        let any_at_end = self.parts.iter().rev().take_while(|part| **part == Part::Any).count();
        let shown = self.parts.len() - if is_exact && any_at_end > 1 { any_at_end } else { 0 };
        let mut parts: Vec<&str> = self.parts[..shown]
            .iter()
            .map(|part| match part {
                Part::Literal(text) => text.as_str(),
                Part::Any => "*",
                Part::Rest => "**",
            })
            .collect();
        if shown < self.parts.len() {
            parts.push("**");
        }
        f.write_str(&parts.join("/"))
    }
}

impl FromStr for Pattern {
    type Err = UcxlError;

    /// Reads a pattern or an address in any spelling, without a version.
    fn from_str(text: &str) -> Result<Self, UcxlError> {
        match text.parse()? {
            Ucxl::Pattern(pattern, None) => Ok(pattern),
            Ucxl::Decision(address, None) => {
                let parts = address.segments().map(|segment| Part::Literal(segment.to_owned()));
                Ok(Self { parts: parts.collect() })
            }
            Ucxl::Pattern(_, Some(_)) | Ucxl::Decision(_, Some(_)) => {
                Err(UcxlError::new(text, "it names a version"))
            }
            Ucxl::Content(_) | Ucxl::Config(_) => {
                Err(UcxlError::new(text, "it is no pattern over decisions"))
            }
        }
    }
}
