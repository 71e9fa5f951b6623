//! Which decisions are looked for, and where a listing goes on.

use crate::types::record::{DecisionKind, Version};
use crate::types::ucxl::{DecisionAddress, Pattern};
use crate::types::{ClusterId, Wall};

/// Which decisions are looked for. All that is asked for must hold, of the latest version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// What the address must match.
    pub pattern: Pattern,
    /// Of this type.
    pub kind: Option<DecisionKind>,
    /// By this agent.
    pub author: Option<String>,
    /// Published at this time or later.
    pub since: Option<Wall>,
    /// Published before this time.
    pub until: Option<Wall>,
}

impl Filter {
    /// Matches everything.
    pub fn all() -> Self {
        Self { pattern: Pattern::all(), kind: None, author: None, since: None, until: None }
    }

    /// True for what is looked for.
    pub fn matches(&self, address: &DecisionAddress, version: &Version) -> bool {
        let at = Wall(version.at.ms);
        self.kind.is_none_or(|kind| kind == version.kind)
            && self.since.is_none_or(|since| since <= at)
            && self.until.is_none_or(|until| at < until)
            && self.author.as_ref().is_none_or(|author| author == address.agent())
            && self.pattern.matches(address)
    }

    /// The same text for equal filters only.
    fn canonical(&self) -> String {
        format!(
            "{}\n{:?}\n{:?}\n{:?}\n{:?}",
            self.pattern, self.kind, self.author, self.since, self.until
        )
    }
}

/// A cursor is of no use here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cursor is damaged, or is that of another query or cluster; begin without one")]
pub struct CursorError;

/// Where a listing goes on: after this address. As text it is good for one query of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub DecisionAddress);

/// Bytes of the checksum in a cursor.
const CHECKSUM: usize = 8;

impl Cursor {
    fn checksum(&self, cluster: ClusterId, filter: &Filter) -> [u8; CHECKSUM] {
        let mut hasher = blake3::Hasher::new_derive_key("bzzz cursor of decisions v1");
        hasher.update(&cluster.0);
        hasher.update(self.0.as_str().as_bytes());
        hasher.update(b"\n");
        hasher.update(filter.canonical().as_bytes());
        let mut checksum = [0; CHECKSUM];
        hasher.finalize_xof().fill(&mut checksum);
        checksum
    }

    /// The cursor as text.
    pub fn encode(&self, cluster: ClusterId, filter: &Filter) -> String {
        let checksum = self.checksum(cluster, filter);
        let bytes = [checksum.as_slice(), self.0.as_str().as_bytes()].concat();
        data_encoding::BASE64URL_NOPAD.encode(&bytes)
    }

    /// Reads a cursor that this cluster made for this query.
    pub fn decode(text: &str, cluster: ClusterId, filter: &Filter) -> Result<Self, CursorError> {
        let read = || {
            if text.len() > crate::types::limits::UCXL_TEXT_MAX {
                return None;
            }
            let bytes = data_encoding::BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
            let (checksum, address) = bytes.split_first_chunk::<CHECKSUM>()?;
            let cursor = Self(std::str::from_utf8(address).ok()?.parse().ok()?);
            (cursor.checksum(cluster, filter) == *checksum).then_some(cursor)
        };
        read().ok_or(CursorError)
    }
}
