//! The part of the control state that holds configuration values.

use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::bounds::bounded;
use super::{Change, Decided, Moment, PartChange, View};
use crate::core::event::EventBody;
use crate::messages::command::{Expect, HeadsCommand, Outcome, Refused};
use crate::types::limits::{HEAD_VALUE_MAX, HEADS_MAX, NODE_NAME_LEN_MAX};
use crate::types::ucxl::check_config_key;
use crate::types::{Bytes, LogId, Wall};

/// A configuration value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Counts the writes of this key, from 1.
    pub version: u64,
    /// The value.
    pub value: Bytes,
    /// Who wrote it.
    pub author: String,
    /// When it was written, as stamped by the leader.
    pub at: Wall,
    /// Where the write stands in the log.
    pub log_id: LogId,
}

/// Configuration values by key. Views share what is equal: a write copies one path of the tree.
pub type State = OrdMap<Arc<str>, Arc<Head>>;

/// What has changed about configuration values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadsChange {
    /// A value was written, and is of this version now.
    Set(Arc<str>, u64),
}

impl PartChange for HeadsChange {
    fn is_routine(&self) -> bool {
        true
    }

    fn event(&self, _view: &View) -> Option<EventBody> {
        let Self::Set(key, version) = self;
        Some(EventBody::HeadSet { key: key.to_string(), version: *version })
    }
}

pub(super) fn check(command: &HeadsCommand) -> Result<(), Refused> {
    let HeadsCommand::Set { key, value, author, .. } = command;
    check_config_key(key).map_err(Refused::Invalid)?;
    bounded("bytes in a value", value.0.len(), HEAD_VALUE_MAX)?;
    bounded("bytes in the author", author.len(), NODE_NAME_LEN_MAX)
}

pub(super) fn apply(
    view: &mut View,
    moment: Moment,
    command: &HeadsCommand,
    changes: &mut Vec<Change>,
) -> Decided {
    let HeadsCommand::Set { key, expect, value, author } = command;
    let current = view.heads.get(key.as_str()).map_or(0, |head| head.version);
    let expected = match *expect {
        Expect::Absent => 0,
        Expect::Version(version) => version,
    };
    if expected != current {
        return Err(Refused::VersionMismatch { current });
    }
    if current == 0 {
        bounded("configuration values", view.heads.len() + 1, HEADS_MAX)?;
    }
    let version = current + 1;
    let head = Head {
        version,
        value: value.clone(),
        author: author.clone(),
        at: moment.at,
        log_id: moment.log_id,
    };
    let key: Arc<str> = Arc::from(key.as_str());
    Arc::make_mut(&mut view.heads).insert(key.clone(), Arc::new(head));
    changes.push(HeadsChange::Set(key, version).into());
    Ok(Outcome::HeadSet { version })
}
