//! 14: events of applications are told at most once by one run of a node, and everywhere as they were
//! published.

use std::collections::{BTreeMap, BTreeSet};

use bzzz::core::event::EventBody;

use super::{Invariant, Observation};

/// Remembers every event.
#[derive(Default)]
pub struct EventsToldOnce {
    data: BTreeMap<String, String>,
    told: BTreeSet<(usize, u64, String)>,
}

impl EventsToldOnce {
    fn compare(&mut self, id: &str, data: &str) -> Result<(), String> {
        let known = self.data.entry(id.to_owned()).or_insert_with(|| data.to_owned());
        if known == data {
            return Ok(());
        }
        Err(format!("the event {id} says {known} in one place and {data} in another"))
    }
}

impl Invariant for EventsToldOnce {
    fn number(&self) -> u32 {
        14
    }

    fn statement(&self) -> &'static str {
        "events of applications are told at most once by one run of a node, as they were published"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match observation {
            Observation::EventPublished { id, data } => self.compare(id, data),
            Observation::Event {
                node,
                incarnation,
                body: EventBody::Application { id, data, .. },
                ..
            } => {
                if !self.told.insert((*node, *incarnation, id.clone())) {
                    return Err(format!("node {node} tells the event {id} twice"));
                }
                self.compare(id, &data.0)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bzzz::core::event::JsonText;

    use super::*;

    fn told(invariant: &mut EventsToldOnce, incarnation: u64, data: &str) -> Result<(), String> {
        let body = EventBody::Application {
            id: "1".into(),
            name: "a".into(),
            data: JsonText(data.into()),
        };
        invariant.observe(&Observation::Event { at_us: 0, node: 0, incarnation, body: &body })
    }

    #[test]
    fn an_event_that_comes_twice_or_changed_is_seen() {
        let mut invariant = EventsToldOnce::default();
        assert!(told(&mut invariant, 1, "7").is_ok());
        assert!(told(&mut invariant, 1, "7").is_err());
        assert!(told(&mut invariant, 2, "7").is_ok(), "after a restart it is told again");
        assert!(told(&mut invariant, 3, "8").is_err());
        let published = Observation::EventPublished { id: "1", data: "9" };
        assert!(invariant.observe(&published).is_err());
    }
}
