//! What can still be read of a table of which parts are missing.

use super::keys::{CONTENT_KEYS, address_of, content_key, end_of, version_of};
use super::{StoreOp, Table, TableError};
use crate::core::records::content::Content;
use crate::types::codec::decode_durable;
use crate::types::limits::UCXL_TEXT_MAX;
use crate::types::{Bytes, ContentHash};

/// Finds everything that can still be read in a table of which parts are missing, as operations
/// that put it into another one, and counts the places that can't be read. What is derived
/// (digests, newest versions, generations) may contradict what is left, so nothing of it is taken
/// over; nor is a version without its content, which would be handed on as if that were kept
/// somewhere.
pub fn salvage(
    table: &dyn Table,
    emit: &mut dyn FnMut(StoreOp) -> Result<(), TableError>,
) -> Result<u64, TableError> {
    let mut unreadable = 0;
    for prefix in [&[CONTENT_KEYS][..], b"v"] {
        let (mut from, to, mut limit) = (prefix.to_vec(), end_of(prefix), SALVAGE_ROWS);
        while from < to {
            let rows = match table.range(&from, &to, limit) {
                Ok(rows) => rows,
                // Up to the place that can't be read row by row, then behind it.
                Err(_) if limit > 1 => {
                    limit = 1;
                    continue;
                }
                Err(_) => {
                    (unreadable, limit) = (unreadable + 1, SALVAGE_ROWS);
                    from = behind(&from);
                    continue;
                }
            };
            let Some((last, _)) = rows.last() else { break };
            from.clone_from(last);
            from.push(0);
            for (key, value) in rows {
                let Some(op) = salvaged(&key, value) else { continue };
                if let StoreOp::Merge { version, .. } = &op {
                    let Some(content) = content_of(table, &version.content) else { continue };
                    if unreadable > 0 {
                        // It may be among those that were passed over.
                        emit(content)?;
                    }
                }
                emit(op)?;
            }
        }
    }
    Ok(unreadable)
}

/// Rows that are looked at together.
const SALVAGE_ROWS: usize = 64;

/// Where to go on behind a place that can't be read: at the next value of the second byte of keys.
fn behind(from: &[u8]) -> Vec<u8> {
    let first = from.first().copied().unwrap_or_default();
    match from.get(1).copied().unwrap_or_default().checked_add(1) {
        Some(next) => vec![first, next],
        None => vec![first.saturating_add(1)],
    }
}

/// A content, if it can still be read.
fn content_of(table: &dyn Table, hash: &ContentHash) -> Option<StoreOp> {
    let key = content_key(hash);
    salvaged(&key, table.get(&key).ok()??)
}

fn salvaged(key: &[u8], value: Vec<u8>) -> Option<StoreOp> {
    if let Some(hash) = key.strip_prefix(&[CONTENT_KEYS]) {
        let hash = ContentHash(hash.try_into().ok()?);
        let content: Content = decode_durable(&value).ok()?;
        let generation = content.generation();
        return (content.hash() == hash).then_some(StoreOp::Put {
            hash,
            generation,
            content: Bytes(value),
        });
    }
    let rest = key.get(3..)?;
    let end = rest.iter().take(UCXL_TEXT_MAX).position(|byte| *byte == 0)?;
    let version = version_of(&rest[end + 1..], &value).ok()?;
    let address = address_of(&rest[..end]).ok()?;
    // Something that it has to be above may be gone.
    let vouched = None;
    version.is_of(&address).then_some(StoreOp::Merge { address, version, vouched })
}
