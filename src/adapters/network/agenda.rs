//! What the event loop has to do later.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::swarm::ConnectionId;
use tokio::time::Instant;

use crate::ports::Lane;
use crate::types::PeerId;

/// A thing to do. Alarms are not cancelled: whoever is woken looks at whether it is still needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    /// Dial a kept peer, unless this dial was superseded by a later generation.
    Redial(PeerId, u64),
    /// Dial a kept peer where it is claimed to be.
    FollowClaims(PeerId),
    /// Dial the next address of a `dial` call or a hint, if it has led nowhere yet.
    DialNext(u64),
    /// Tell a connection that still belongs to a stranger that it will be closed.
    Stranger(PeerId, ConnectionId),
    /// Close it, whether that was heard or not.
    Farewell(PeerId, ConnectionId),
    /// Decide between an established connection and this one, which came later.
    Contest(PeerId, ConnectionId),
    /// Close a connection that still has to stand back.
    Overdue(PeerId, ConnectionId),
    /// Look after the places at relays.
    Reserve,
    /// Give up a place for another one, if those there are have brought nothing.
    Redraw,
    /// Forget a part of what members wrote too much.
    Forgive,
    /// Tell the sink again who is in the local network.
    Nearby,
    /// Look which connections are silent, and who is missed.
    Look,
    /// Open a lane that broke.
    Reopen(PeerId, Lane),
}

/// Alarms in the order in which they are due.
#[derive(Default)]
pub(super) struct Agenda {
    alarms: BTreeMap<(Instant, u64), Alarm>,
    set: u64,
}

impl Agenda {
    /// Sets an alarm.
    pub(super) fn set(&mut self, after: Duration, alarm: Alarm) {
        self.set += 1;
        self.alarms.insert((Instant::now() + after, self.set), alarm);
    }

    /// When the next alarm is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.alarms.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the next alarm if it is due.
    pub(super) fn pop(&mut self) -> Option<Alarm> {
        let next = self.alarms.first_entry()?;
        (next.key().0 <= Instant::now()).then(|| next.remove())
    }
}
