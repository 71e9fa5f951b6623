//! Cursors: where a listing goes on, as text for its reader.
//!
//! A cursor is good for one listing of one cluster, on every node of that. It is no secret and proves nothing; its
//! checksum keeps one that was altered, or belongs to something else, from giving a page that looks right.

use crate::types::ClusterId;
use crate::types::limits::UCXL_TEXT_MAX;

/// Bytes of the checksum in a cursor.
const CHECKSUM: usize = 8;

/// A cursor is of no use here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cursor is damaged, or is that of another query or cluster; begin without one")]
pub struct CursorError;

/// A listing that comes in pages.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Whose it is.
    pub cluster: ClusterId,
    /// What is listed: the same text for equal listings only.
    pub what: String,
}

impl Listing {
    fn checksum(&self, last: &str) -> [u8; CHECKSUM] {
        let mut hasher = blake3::Hasher::new_derive_key("bzzz cursor v1");
        hasher.update(&self.cluster.0);
        hasher.update(&(self.what.len() as u64).to_be_bytes()).update(self.what.as_bytes());
        hasher.update(last.as_bytes());
        let mut checksum = [0; CHECKSUM];
        hasher.finalize_xof().fill(&mut checksum);
        checksum
    }

    /// The cursor of the page after this row.
    pub fn after(&self, last: &str) -> String {
        let bytes = [self.checksum(last).as_slice(), last.as_bytes()].concat();
        data_encoding::BASE64URL_NOPAD.encode(&bytes)
    }

    /// The row that a page begins after, from a cursor that was made for this listing.
    pub fn read(&self, cursor: &str) -> Result<String, CursorError> {
        let read = || {
            if cursor.len() > UCXL_TEXT_MAX {
                return None;
            }
            let bytes = data_encoding::BASE64URL_NOPAD.decode(cursor.as_bytes()).ok()?;
            let (checksum, last) = bytes.split_first_chunk::<CHECKSUM>()?;
            let last = std::str::from_utf8(last).ok()?;
            (self.checksum(last) == *checksum).then(|| last.to_owned())
        };
        read().ok_or(CursorError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_good_for_one_listing_of_one_cluster() {
        let listing = |cluster: u8, what: &str| Listing {
            cluster: ClusterId([cluster; 16]),
            what: what.to_owned(),
        };
        let ours = listing(1, "decisions");
        let cursor = ours.after("a/b/c/d/e");
        assert_eq!(ours.read(&cursor), Ok("a/b/c/d/e".to_owned()));
        for other in [listing(2, "decisions"), listing(1, "decision"), listing(1, "decisionsa")] {
            assert_eq!(other.read(&cursor), Err(CursorError));
        }
        for at in 0..cursor.len() {
            let mut altered = cursor.clone();
            altered.replace_range(at..=at, if cursor[at..].starts_with('A') { "B" } else { "A" });
            assert_eq!(ours.read(&altered), Err(CursorError), "{altered}");
        }
        for bad in ["", "A", "%%%", "a/b/c/d/e", &"A".repeat(5_000)] {
            assert_eq!(ours.read(bad), Err(CursorError), "{bad}");
        }
    }
}
