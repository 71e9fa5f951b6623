//! What can still be read of a table of which parts are missing.

use super::keys::{CONTENT_KEYS, address_of, content_key, end_of, version_of};
use super::{StoreOp, Table, TableError};
use crate::core::records::content::Content;
use crate::types::codec::decode_durable;
use crate::types::limits::UCXL_TEXT_MAX;
use crate::types::{Bytes, ContentHash};

/// Finds everything that can still be read in a table of which parts are missing, as operations that
/// put it into another one. What is derived (digests, newest versions, generations) may contradict what is left,
/// so nothing of it is taken over; nor is a version without its content, which would be handed on as
/// if that were kept somewhere.
pub fn salvage(
    table: &dyn Table,
    emit: &mut dyn FnMut(StoreOp) -> Result<(), TableError>,
) -> Result<(), TableError> {
    for prefix in [&[CONTENT_KEYS][..], b"v"] {
        let (mut from, to) = (prefix.to_vec(), end_of(prefix));
        loop {
            let rows = table.range(&from, &to, SALVAGE_ROWS)?;
            let Some((last, _)) = rows.last() else { break };
            from.clone_from(last);
            from.push(0);
            for (key, value) in rows {
                match salvaged(&key, value) {
                    Some(StoreOp::Merge { version, .. }) if !is_whole(table, &version.content)? => {
                    }
                    Some(op) => emit(op)?,
                    None => {}
                }
            }
        }
    }
    Ok(())
}

/// Rows that are looked at together.
const SALVAGE_ROWS: usize = 64;

/// True if a content can still be read.
fn is_whole(table: &dyn Table, hash: &ContentHash) -> Result<bool, TableError> {
    let key = content_key(hash);
    Ok(table.get(&key)?.is_some_and(|value| salvaged(&key, value).is_some()))
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
