//! Which decisions are looked for, and where a listing goes on.

use crate::types::record::{DecisionKind, Version};
use crate::types::ucxl::{DecisionAddress, Pattern};
use crate::types::{ClusterId, CursorError, Listing, Wall};

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

/// Where a listing goes on: after this address. As text it is good for one query of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub DecisionAddress);

impl Cursor {
    fn listing(cluster: ClusterId, filter: &Filter) -> Listing {
        Listing { cluster, what: format!("decisions\n{}", filter.canonical()) }
    }

    /// The cursor as text.
    pub fn encode(&self, cluster: ClusterId, filter: &Filter) -> String {
        Self::listing(cluster, filter).after(self.0.as_str())
    }

    /// Reads a cursor that this cluster made for this query.
    pub fn decode(text: &str, cluster: ClusterId, filter: &Filter) -> Result<Self, CursorError> {
        let address = Self::listing(cluster, filter).read(text)?;
        address.parse().map(Self).map_err(|_| CursorError)
    }
}
