//! Reads that are under way, and what they answer.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use crate::core::control::{Head, View};
use crate::core::ctx::ReplyTo;
use crate::types::Mono;
use crate::types::limits::{PAGE_ROWS_MAX, READ_TIMEOUT_MS};

/// How old an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staleness {
    /// True if a write that was acknowledged before the read may be missing.
    pub stale: bool,
    /// Index of the log that the answer reflects.
    pub index: u64,
    /// For how long this node has not known whether it is current.
    pub age: Duration,
}

/// One configuration value with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Key below `ucxl://bzzz.cluster.config/`.
    pub key: Arc<str>,
    /// The value and its version.
    pub head: Arc<Head>,
}

/// A page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Rows, by key.
    pub entries: Vec<Entry>,
    /// Key after which the next page begins, if there is more.
    pub next: Option<Arc<str>>,
}

/// The answer to a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadAnswer {
    /// What was found: one row or none for a key, a page for a prefix.
    pub page: Page,
    /// How old it may be.
    pub staleness: Staleness,
}

/// What is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// One key.
    Key(String),
    /// All keys with a prefix, after a cursor.
    Prefix {
        /// What they begin with.
        prefix: String,
        /// Last key of the page before.
        after: Option<String>,
        /// Rows wanted.
        limit: usize,
    },
}

impl Query {
    /// Answers from a view.
    pub fn run(&self, view: &View) -> Page {
        match self {
            Self::Key(key) => {
                let found = view.heads.get_key_value(key.as_str());
                let entries =
                    found.map(|(key, head)| Entry { key: key.clone(), head: head.clone() });
                Page { entries: entries.into_iter().collect(), next: None }
            }
            Self::Prefix { prefix, after, limit } => {
                let from = match after.as_deref().filter(|after| *after >= prefix.as_str()) {
                    Some(after) => Bound::Excluded(Arc::<str>::from(after)),
                    None => Bound::Included(Arc::from(prefix.as_str())),
                };
                let limit = (*limit).clamp(1, PAGE_ROWS_MAX);
                let mut rows = view
                    .heads
                    .range((from, Bound::Unbounded))
                    .take_while(|(key, _)| key.starts_with(prefix.as_str()))
                    .map(|(key, head)| Entry { key: key.clone(), head: head.clone() });
                let entries: Vec<Entry> = rows.by_ref().take(limit).collect();
                let next = rows.next().and(entries.last()).map(|entry| entry.key.clone());
                Page { entries, next }
            }
        }
    }
}

/// A read that is under way.
#[derive(Debug)]
pub struct PendingRead {
    /// Who waits.
    pub reply: ReplyTo,
    /// What is read.
    pub query: Query,
    /// When it is answered from what is here.
    pub deadline: Mono,
    /// When the leader is asked again.
    pub again_at: Mono,
    /// What the leader named.
    pub index: Option<u64>,
}

impl PendingRead {
    /// A read that has just been asked for.
    pub fn new(reply: ReplyTo, query: Query, now: Mono) -> Self {
        Self {
            reply,
            query,
            deadline: now + Duration::from_millis(READ_TIMEOUT_MS),
            again_at: now,
            index: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Bytes, LogId, Wall};

    #[test]
    fn listings_are_paged_in_the_order_of_keys() {
        let mut view = View::default();
        for key in ["ai_models/a", "ai_models/b", "ai_models/c", "monitoring/x"] {
            let head = Head {
                version: 1,
                value: Bytes::default(),
                author: String::new(),
                at: Wall(0),
                log_id: LogId::default(),
            };
            Arc::make_mut(&mut view.heads).insert(key.into(), Arc::new(head));
        }
        let page = |after: Option<&str>| {
            let after = after.map(str::to_owned);
            let page = Query::Prefix { prefix: "ai_models/".into(), after, limit: 2 }.run(&view);
            let keys: Vec<String> =
                page.entries.iter().map(|entry| entry.key.to_string()).collect();
            (keys, page.next.map(|next| next.to_string()))
        };
        assert_eq!(
            page(None),
            (vec!["ai_models/a".into(), "ai_models/b".into()], Some("ai_models/b".into()))
        );
        assert_eq!(page(Some("ai_models/b")), (vec!["ai_models/c".into()], None));
        assert_eq!(page(Some("monitoring/x")), (vec![], None));
    }
}
