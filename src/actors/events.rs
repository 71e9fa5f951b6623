//! The events of one node: numbered, kept for a while, handed to whoever listens.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard};

use crate::core::event::{Event, EventBody};
use crate::ports::Sink;
use crate::types::limits::{EVENTS_BYTES_MAX, EVENTS_KEPT};
use crate::types::{Lock, MemberId, Wall};

#[derive(Default)]
struct Inner {
    next: u64,
    /// What it began with.
    first: u64,
    kept: VecDeque<Event>,
    /// Bytes of them beyond what every event takes up.
    bytes: usize,
    /// Ids of the events of applications among them.
    ids: BTreeSet<String>,
    listeners: Vec<(u64, Sink<Event>)>,
    next_listener: u64,
}

/// The log of events of one node.
#[derive(Default)]
pub struct EventLog(Mutex<Inner>);

/// A listener; dropping it is the end of listening.
pub struct Listening<'a> {
    log: &'a EventLog,
    id: u64,
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.log.lock().listeners.retain(|(id, _)| *id != self.id);
    }
}

impl EventLog {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.locked()
    }

    /// The log of one start of a node. Its numbers begin beyond those of the starts before it, so
    /// that a client that resumes after a restart notices that it has missed something.
    pub fn of_start(boot_counter: u64) -> Self {
        let first = boot_counter << 32;
        Self(Mutex::new(Inner { next: first, first, ..Inner::default() }))
    }

    /// Tells an event. One of an application that is kept already is not told again: the actor that
    /// knows what it has told may have been restarted.
    pub fn tell(&self, at: Wall, node: Option<MemberId>, body: EventBody) {
        let mut inner = self.lock();
        if let EventBody::Application { id, .. } = &body
            && !inner.ids.insert(id.clone())
        {
            return;
        }
        inner.next += 1;
        let event = Event { seq: inner.next, at, node, body };
        for (_, listener) in &inner.listeners {
            listener(event.clone());
        }
        inner.bytes += event.body.extra_len();
        while inner.kept.len() == EVENTS_KEPT || inner.bytes > EVENTS_BYTES_MAX {
            let Some(gone) = inner.kept.pop_front() else { break };
            inner.bytes -= gone.body.extra_len();
            if let EventBody::Application { id, .. } = &gone.body {
                inner.ids.remove(id);
            }
        }
        inner.kept.push_back(event);
    }

    /// Events after `seq`, oldest first, and whether some before them are not kept any more. New
    /// ones go to `listener`, without a gap and without a repetition.
    pub fn listen(&self, seq: u64, listener: Sink<Event>) -> (Listening<'_>, Vec<Event>, bool) {
        let mut inner = self.lock();
        inner.next_listener += 1;
        let id = inner.next_listener;
        inner.listeners.push((id, listener));
        let missed: Vec<Event> =
            inner.kept.iter().filter(|event| event.seq > seq).cloned().collect();
        let gap = inner.kept.front().is_some_and(|first| first.seq > seq + 1);
        (Listening { log: self, id }, missed, gap)
    }

    /// Number of the last event that was told, 0 before the first.
    pub fn last(&self) -> u64 {
        self.lock().next
    }

    /// How many events were told since the start.
    pub fn told(&self) -> u64 {
        let inner = self.lock();
        inner.next - inner.first
    }

    /// Events after `seq`, at most `limit`.
    pub fn after(&self, seq: u64, limit: usize) -> Vec<Event> {
        self.lock().kept.iter().filter(|event| event.seq > seq).take(limit).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::event::JsonText;

    #[test]
    fn large_events_make_room_before_they_are_many() {
        let log = EventLog::default();
        let large = EVENTS_BYTES_MAX / 10;
        for n in 0..20 {
            let data = JsonText(format!("{:?}", "x".repeat(large)).into());
            let body = EventBody::Application { id: n.to_string(), name: "a".into(), data };
            log.tell(Wall(0), None, body);
        }
        let kept = log.after(0, 100);
        assert_eq!((kept.len(), kept.last().map(|event| event.seq)), (9, Some(20)));
        let inner = log.lock();
        assert!(inner.bytes <= EVENTS_BYTES_MAX && inner.ids.len() == 9);
    }

    #[test]
    fn an_event_of_an_application_is_told_once_as_long_as_it_is_kept() {
        let log = EventLog::default();
        let event = |id: &str| EventBody::Application {
            id: id.into(),
            name: "a".into(),
            data: JsonText("null".into()),
        };
        for id in ["1", "2", "1"] {
            log.tell(Wall(0), None, event(id));
        }
        assert_eq!(log.after(0, 9).len(), 2);
        for n in 0..EVENTS_KEPT {
            log.tell(Wall(0), None, event(&format!("x{n}")));
        }
        assert_eq!(log.lock().ids.len(), EVENTS_KEPT);
        log.tell(Wall(0), None, event("1"));
        assert_eq!(log.last(), EVENTS_KEPT as u64 + 3);
    }

    #[test]
    fn what_is_told_is_counted_from_the_start_on() {
        let log = EventLog::of_start(3);
        assert_eq!((log.told(), log.last()), (0, 3 << 32));
        for told in 1..=2 {
            log.tell(Wall(0), None, EventBody::PeerUp { member: MemberId(1) });
            assert_eq!((log.told(), log.last()), (told, (3 << 32) + told));
        }
    }

    #[test]
    fn a_listener_gets_every_event_once_and_learns_of_gaps() {
        let log = EventLog::default();
        let tell =
            |log: &EventLog| log.tell(Wall(0), None, EventBody::PeerUp { member: MemberId(1) });
        for _ in 0..EVENTS_KEPT + 5 {
            tell(&log);
        }
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        let (listening, missed, gap) = log.listen(
            EVENTS_KEPT as u64 + 3,
            Arc::new(move |event: Event| sink.lock().unwrap().push(event.seq)),
        );
        assert_eq!(missed.iter().map(|event| event.seq).collect::<Vec<_>>(), [10_004, 10_005]);
        assert!(!gap);
        tell(&log);
        assert_eq!(*seen.lock().unwrap(), [10_006]);
        drop(listening);
        tell(&log);
        assert_eq!(seen.lock().unwrap().len(), 1);
        assert!(log.listen(1, Arc::new(|_| {})).2);
    }
}
