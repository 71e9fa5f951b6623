//! What a note may say, and how many of them one member may tell.

use crate::messages::wire::{Announcement, NoteBody};
use crate::types::limits::{
    ADDRESS_LEN_MAX, CLOCK_AHEAD_MAX_MS, EVENT_DATA_MAX, EVENT_NAME_MAX, GOSSIP_WINDOW,
    LINKS_ANNOUNCED_MAX, NODE_NAME_LEN_MAX, NOTES_BURST, NOTES_PER_SECOND, PUBLISHED_MAX,
};
use crate::types::{MemberId, Mono, Wall};

/// Bytes of a reason in words.
pub(super) const REASON_MAX: usize = 512;
/// Bytes of a code, or of the path of an actor.
const NAME_MAX: usize = 128;

/// How much a publisher may tell now, in thousandths of a note.
pub(super) struct Allowance {
    left: u64,
    share: u64,
    at: Mono,
}

impl Allowance {
    /// A publisher that has been silent, and may tell so many times the usual.
    pub fn full(at: Mono, share: u64) -> Self {
        Self { left: share * u64::from(NOTES_BURST) * 1_000, share, at }
    }

    /// Takes a note; false if it is too many.
    pub fn take(&mut self, now: Mono) -> bool {
        let gained =
            now.since(self.at).as_millis() * u128::from(self.share * u64::from(NOTES_PER_SECOND));
        let most = self.share * u64::from(NOTES_BURST) * 1_000;
        self.left = self.left.saturating_add(u64::try_from(gained).unwrap_or(most)).min(most);
        self.at = now;
        let enough = self.left >= 1_000;
        if enough {
            self.left -= 1_000;
        }
        enough
    }
}

/// True for a note that is too old, or from the future.
pub(super) fn is_stale(at: Wall, now: Wall) -> bool {
    let window = u64::try_from(GOSSIP_WINDOW.as_millis()).unwrap_or(u64::MAX);
    at.0.saturating_add(window) < now.0 || at.0 > now.0.saturating_add(CLOCK_AHEAD_MAX_MS)
}

/// True if a member may say this.
pub(super) fn is_sound(body: &NoteBody, member: MemberId) -> bool {
    match body {
        NoteBody::Announcement(announcement) => is_bounded(announcement),
        NoteBody::Leads { .. } => true,
        NoteBody::ReadOnly { reason, .. } => reason.len() <= NAME_MAX,
        NoteBody::ActorRestarted { actor, reason } => {
            actor.len() <= NAME_MAX && reason.len() <= REASON_MAX
        }
        NoteBody::Published(published) => {
            // Nobody can speak for the publications of others.
            published.len() <= PUBLISHED_MAX
                && published
                    .iter()
                    .all(|(at, version)| version.writer == member && version.is_of(at))
        }
        NoteBody::Event { name, data } => check_event(name, data).is_ok(),
    }
}

/// True for a publication that by this node's clock can't have happened yet.
pub(super) fn is_early(body: &NoteBody, wall: Wall) -> bool {
    match body {
        NoteBody::Published(published) => published.iter().any(|(_, v)| v.at.is_ahead_of(wall)),
        _ => false,
    }
}

fn is_bounded(announcement: &Announcement) -> bool {
    announcement.capabilities.is_bounded()
        && announcement.links.len() <= LINKS_ANNOUNCED_MAX
        && announcement.services.len() <= 16
        && announcement.services.keys().all(|name| name.len() <= 32)
        && announcement.ip_address.len() <= ADDRESS_LEN_MAX
        && announcement.node_id.len() <= NODE_NAME_LEN_MAX
}

/// Says which part of an event is not allowed, and why.
pub(super) fn check_event(name: &str, data: &str) -> Result<(), (&'static str, String)> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:/".contains(&byte);
    if !(1..=EVENT_NAME_MAX).contains(&name.len()) || !name.bytes().all(allowed) {
        let reason = format!(
            "expected 1 to {EVENT_NAME_MAX} letters, digits, dots, hyphens, underscores, colons and \
             slashes, such as deploy.finished"
        );
        return Err(("name", reason));
    }
    if data.len() > EVENT_DATA_MAX {
        let len = data.len();
        return Err((
            "data",
            format!("expected up to {EVENT_DATA_MAX} bytes of JSON, found {len}"),
        ));
    }
    match serde_json::from_str::<serde_json::Value>(data) {
        Ok(_) => Ok(()),
        Err(error) => Err(("data", format!("expected JSON: {error}"))),
    }
}
