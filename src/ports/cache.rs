//! Contents that were read not long ago.

use std::sync::Arc;

use crate::core::records::Content;
use crate::types::ContentHash;

/// Keeps contents that were checked. They never change under their hash, so none is ever stale.
pub trait ContentCache: Send + Sync {
    /// A content, if it is here.
    fn get(&self, hash: &ContentHash) -> Option<Arc<Content>>;

    /// Keeps a content for a while.
    fn put(&self, hash: ContentHash, content: Arc<Content>);
}

/// Keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCache;

impl ContentCache for NoCache {
    fn get(&self, _: &ContentHash) -> Option<Arc<Content>> {
        None
    }

    fn put(&self, _: ContentHash, _: Arc<Content>) {}
}
