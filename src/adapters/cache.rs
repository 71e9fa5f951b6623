//! Contents that were read not long ago, in memory: least recently used out first, none longer than
//! its time to live.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::ports::ContentCache;
use crate::ports::records::Content;
use crate::types::ContentHash;

/// What an entry takes up besides its content, in bytes.
const ENTRY_OVERHEAD: usize = 512;

/// A cache of contents, bounded in bytes and in time.
#[derive(Clone)]
pub struct MemoryCache(Cache<ContentHash, Arc<Content>>);

impl fmt::Debug for MemoryCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryCache({} entries)", self.0.entry_count())
    }
}

fn weight(content: &Content) -> u32 {
    let length = match content {
        Content::Raw(bytes) => bytes.0.len(),
        Content::Sealed(envelope) => envelope.file.0.len(),
    };
    u32::try_from(length + ENTRY_OVERHEAD).unwrap_or(u32::MAX)
}

impl MemoryCache {
    /// An empty cache for so many bytes.
    pub fn new(bytes: u64, time_to_live: Duration) -> Self {
        let cache = Cache::builder()
            .max_capacity(bytes)
            .weigher(|_, content: &Arc<Content>| weight(content))
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(time_to_live)
            .build();
        Self(cache)
    }
}

impl ContentCache for MemoryCache {
    fn get(&self, hash: &ContentHash) -> Option<Arc<Content>> {
        self.0.get(hash)
    }

    fn put(&self, hash: ContentHash, content: Arc<Content>) {
        self.0.insert(hash, content);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Bytes;

    #[test]
    fn it_holds_what_fits_and_no_more() {
        let cache = MemoryCache::new(10 * 1_024, Duration::from_secs(600));
        let put = |number: u8, length: usize| {
            let content = Content::Raw(Bytes(vec![number; length]));
            let hash = content.hash();
            cache.put(hash, Arc::new(content));
            hash
        };
        let first = put(0, 1);
        assert!(cache.get(&first).is_some());
        let hashes: Vec<ContentHash> = (1..=200).map(|number| put(number, 100)).collect();
        cache.0.run_pending_tasks();
        let kept = hashes.iter().filter(|hash| cache.get(hash).is_some()).count();
        assert!((1..=16).contains(&kept), "{kept} of 612 bytes in 10 KiB");
        let large = put(201, 20 * 1_024);
        cache.0.run_pending_tasks();
        assert!(cache.get(&large).is_none());
    }
}
