//! Clients that list what there is, page by page, each page through another node.

use std::sync::atomic::Ordering;

use bzzz::core::decision::Filter;
use bzzz::core::front;
use bzzz::core::records::{Fresh, Reply, Request};
use bzzz::services::Decisions;
use bzzz::types::record::Version;
use bzzz::types::ucxl::DecisionAddress;

use super::Workload;
use crate::invariants::{Observation, Sight};

/// Rows of a page at most: few, so that listings have many borders.
const PAGE_MAX: u64 = 3;
/// Pages of a listing at most, far beyond what clients publish.
const PAGES_MAX: usize = 200;

/// Values of a page.
const VALUES_PAGE: usize = 100;

/// Where a listing goes on.
enum Place {
    Begin,
    /// As clients of the API name it.
    Cursor(String),
    /// As nodes name it to each other.
    After(DecisionAddress),
}

/// How a listing is asked for.
#[derive(Clone, Copy)]
struct Pages {
    /// True if as a client of the API does.
    as_query: bool,
    limit: u64,
}

/// A page, and where the next one begins if there is one.
struct Page {
    rows: Vec<(DecisionAddress, Version)>,
    next: Option<Place>,
    stale: bool,
}

impl Workload {
    /// Lists all addresses, beginning at one node.
    pub(super) async fn list(&self, node: usize) {
        let pages = Pages { as_query: self.rng.chance(500), limit: 1 + self.rng.below(PAGE_MAX) };
        let token = self.world.book.next();
        self.world.book.observe(&Observation::ListingBegins { token });
        let mut rows: Vec<(DecisionAddress, Version)> = Vec::new();
        let (mut place, mut index) = (Place::Begin, node);
        for _ in 0..PAGES_MAX {
            let Some(page) = self.page(index, pages, place).await else { return };
            for (_, version) in &page.rows {
                let sight = Sight::Publication(version.request);
                self.world.book.observe(&Observation::Seen { node: index, sight });
            }
            if page.stale {
                self.counts.stale.fetch_add(1, Ordering::Relaxed);
                return;
            }
            rows.extend(page.rows);
            let Some(next) = page.next else {
                self.counts.reads.fetch_add(1, Ordering::Relaxed);
                self.world.trace.step("listing", node, token as usize, rows.len() as u64);
                self.world.book.observe(&Observation::ListingEnds { token, rows: &rows });
                return;
            };
            let alive = self.world.alive();
            if alive.is_empty() {
                return;
            }
            (place, index) = (next, alive[self.rng.pick(alive.len())]);
        }
        let how = format!("a listing that began at node {node} has no end");
        self.world.book.fail("listings end", how);
    }

    async fn page(&self, index: usize, pages: Pages, place: Place) -> Option<Page> {
        let node = self.world.node(index)?;
        if pages.as_query {
            let cursor = match &place {
                Place::Cursor(cursor) => Some(cursor.as_str()),
                _ => None,
            };
            let limit = pages.limit as usize;
            let found = Decisions::of(&node).query(&Filter::all(), cursor, limit).await.ok()?;
            let next = found.next.map(Place::Cursor);
            return Some(Page { rows: found.rows, next, stale: found.stale });
        }
        let after = match place {
            Place::After(address) => Some(address),
            _ => None,
        };
        let request = Request::Scan { prefix: String::new(), after, limit: pages.limit as u32 };
        match node.env().directory.records.ask(request).await {
            Ok(Reply::Page(Ok(Fresh { value: (rows, more), stale }))) => {
                let last = rows.last().map(|(address, _)| Place::After(address.clone()));
                Some(Page { next: last.filter(|_| more), rows, stale })
            }
            _ => None,
        }
    }

    /// Shows the book what every node lists in the end: all addresses, and all values.
    pub async fn list_everything(&self) {
        for index in 0..self.world.settings.nodes {
            self.list(index).await;
            self.list_values(index).await;
        }
    }

    async fn list_values(&self, index: usize) {
        let mut after = None;
        for _ in 0..PAGES_MAX {
            let Some(node) = self.world.node(index) else { return };
            let query = front::Query::Prefix { prefix: String::new(), after, limit: VALUES_PAGE };
            let request = front::Request::Read { query, stale_ok: false };
            let Ok(front::Reply::Read(answer)) = node.env().directory.front.ask(request).await
            else {
                return;
            };
            for entry in &answer.page.entries {
                let sight = Sight::Value { key: &entry.key, value: &entry.head.value.0 };
                self.world.book.observe(&Observation::Seen { node: index, sight });
            }
            let Some(next) = answer.page.next else { return };
            after = Some(next.to_string());
        }
    }
}
