//! Roles: whom contents are for, and who stands above whom.
//!
//! The technical report names five. A content for one role is encrypted to the roles above it, too:
//! those with more authority.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::types::Recipient;

/// How much a role may decide; the greater one stands above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authority {
    /// Reads.
    ReadOnly,
    /// Suggests.
    Suggestion,
    /// Decides.
    Decision,
    /// Everything.
    Master,
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadOnly => "read_only",
            Self::Suggestion => "suggestion",
            Self::Decision => "decision",
            Self::Master => "master",
        })
    }
}

/// The roles that every cluster has.
pub const BUILT_IN_ROLES: [(&str, Authority); 5] = [
    ("admin", Authority::Master),
    ("architect", Authority::Decision),
    ("backend_developer", Authority::Suggestion),
    ("observer", Authority::ReadOnly),
    ("qa_engineer", Authority::Suggestion),
];

/// What the cluster knows of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleKey {
    /// How much it may decide.
    pub authority: Authority,
    /// Public half of its key for contents.
    pub recipient: Recipient,
}

/// All roles by name.
pub type Roles = BTreeMap<String, RoleKey>;

/// The roles that can read what is for `readers`: these, and those above any of them. None if one
/// of them is not known.
pub fn audience<'a>(roles: &'a Roles, readers: &[&str]) -> Option<Vec<(&'a str, Recipient)>> {
    let named = readers.iter().map(|name| roles.get(*name)).collect::<Option<Vec<_>>>()?;
    let lowest = named.iter().map(|role| role.authority).min()?;
    let reads = |name: &str, role: &RoleKey| readers.contains(&name) || role.authority > lowest;
    let all = roles.iter().filter(|(name, role)| reads(name, role));
    Some(all.map(|(name, role)| (name.as_str(), role.recipient)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles() -> Roles {
        let key = |(number, (name, authority)): (usize, &(&str, Authority))| {
            let recipient = Recipient([number as u8; 32]);
            ((*name).to_owned(), RoleKey { authority: *authority, recipient })
        };
        BUILT_IN_ROLES.iter().enumerate().map(key).collect()
    }

    #[test]
    fn roles_above_read_along() {
        let names = |readers: &[&str]| -> Option<Vec<String>> {
            let roles = roles();
            let all = audience(&roles, readers)?;
            Some(all.into_iter().map(|(name, _)| name.to_owned()).collect())
        };
        let some = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(names(&["admin"]), some(&["admin"]));
        assert_eq!(names(&["architect"]), some(&["admin", "architect"]));
        assert_eq!(names(&["qa_engineer"]), some(&["admin", "architect", "qa_engineer"]));
        let all = ["admin", "architect", "backend_developer", "observer", "qa_engineer"];
        assert_eq!(names(&["observer"]), some(&all));
        assert_eq!(names(&["admin", "observer"]), some(&all));
        assert_eq!(names(&["admin", "nobody"]), None);
        assert_eq!(names(&[]), None);
    }
}
