//! Keys of roles: how every member comes by the private halves.
//!
//! Problem: contents are encrypted to roles, so whoever reads them needs the private half of a
//! role's key. These are made by the node that makes the cluster, and may lie nowhere in the clear.
//!
//! States: *lacking* (the view names keys that this node does not hold) and *whole*.
//!
//! Flow: the public halves stand in the control state, with the founding command. A member that
//! lacks private halves asks the others in turn, twice a second, until one has sent them: an age
//! file encrypted to the asking member's own key, which the control state holds since its
//! admission. It is checked against the public halves, stored encrypted to the own key, and kept.
//!
//! Invariants:
//! 1. Private halves travel and lie on disk only in files encrypted to a member's own key, and only
//!    members are given any.
//! 2. A key is held only if its public half is the one that the cluster agreed on.
//! 3. Another member is answered twice a second at most: encrypting costs more than asking.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::control::View;
use crate::core::ctx::{Ctx, ReplyTo};
use crate::core::init::{Init, read};
use crate::core::machine::{Hears, Machine, Service};
use crate::core::news::{Kind, News};
use crate::crypto::Keyring;
use crate::messages::wire::{KeysMessage, Message};
use crate::types::codec::{Durable, encode_durable};
use crate::types::metrics;
use crate::types::role::{BUILT_IN_ROLES, RoleKey, Roles};
use crate::types::{Bytes, MemberId, Mono, PeerId, Recipient};

/// Key under which a node stores its keys of roles.
pub const ROLE_KEYS: &str = "role-keys";
/// How often another member is asked.
const ASK_INTERVAL: Duration = Duration::from_millis(500);
/// Questions that are open at once.
const ASKED_MAX: usize = 16;
/// Least time between two answers to one member.
const ANSWER_INTERVAL: Duration = Duration::from_millis(450);

/// The keys of all roles, as a node stores them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredKeys {
    /// The roles and the public halves.
    pub roles: Roles,
    /// The private halves, in a file encrypted to the node's own key.
    pub file: Bytes,
}

impl Durable for StoredKeys {
    const NAME: &'static str = "role keys";
    const KIND: u8 = 21;
    const VERSION: u8 = 1;
}

impl StoredKeys {
    /// New keys for the roles of a new cluster.
    pub fn make(keyring: &dyn Keyring) -> Self {
        let role = |(name, authority): (&str, _)| {
            (name.to_owned(), RoleKey { authority, recipient: keyring.make() })
        };
        let roles: Roles = BUILT_IN_ROLES.into_iter().map(role).collect();
        let file = keyring.share(&recipients(&roles), keyring.own());
        Self { roles, file: Bytes(file.expect("keys that were just made are held")) }
    }
}

/// The public halves of all roles.
pub fn recipients(roles: &Roles) -> Vec<Recipient> {
    roles.values().map(|role| role.recipient).collect()
}

/// What the keeper of keys is told.
#[derive(Debug)]
pub enum Msg {
    /// A message arrived.
    Message {
        /// Authenticated sender.
        from: PeerId,
        /// The message.
        message: KeysMessage,
    },
}

/// What it is asked.
#[derive(Debug)]
pub enum Request {
    /// The roles, and whether their private halves are here.
    Roles,
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The roles; none before this node has seen the founding command.
    pub roles: Arc<Roles>,
    /// True if the private halves of all are here.
    pub whole: bool,
}

/// The keeper of keys of one node.
pub struct Keys {
    own: MemberId,
    own_peer: PeerId,
    keyring: Arc<dyn Keyring>,
    view: Arc<View>,
    /// The last questions and whom they went to; answers may come late.
    asked: VecDeque<(u64, PeerId)>,
    /// When the next member is asked.
    ask_at: Mono,
    /// The member that was asked last.
    last: MemberId,
    answered: BTreeMap<MemberId, Mono>,
}

impl Keys {
    /// The keeper on a member that has just started, with what was stored.
    pub fn new(
        own: MemberId,
        own_peer: PeerId,
        keyring: Arc<dyn Keyring>,
        stored: Option<StoredKeys>,
    ) -> Self {
        if let Some(stored) = stored {
            let keys = recipients(&stored.roles);
            if let Err(error) = keyring.accept(&stored.file.0, &keys) {
                tracing::warn!(%error, "the stored keys of roles are of no use; asking others");
            }
        }
        Self {
            own,
            own_peer,
            keyring,
            view: Arc::default(),
            asked: VecDeque::new(),
            ask_at: Mono(0),
            last: own,
            answered: BTreeMap::new(),
        }
    }

    fn is_whole(&self) -> bool {
        let roles = &self.view.cluster.roles;
        !roles.is_empty() && roles.values().all(|role| self.keyring.holds(role.recipient))
    }

    /// Asks the next member, if anything is lacking.
    fn tend(&mut self, ctx: &mut Ctx<'_, Reply>) {
        if self.view.cluster.roles.is_empty() || self.is_whole() {
            self.asked.clear();
            return;
        }
        if self.ask_at <= ctx.now {
            let others =
                || self.view.roster.members.values().filter(|member| member.id != self.own);
            let next = others().find(|member| member.id > self.last).or_else(|| others().next());
            if let Some(next) = next {
                let (peer, nonce) = (next.peer, ctx.rng.next_u64());
                self.last = next.id;
                self.asked.push_back((nonce, peer));
                if self.asked.len() > ASKED_MAX {
                    self.asked.pop_front();
                }
                ctx.out.send(peer, Message::Keys(KeysMessage::Ask { nonce }));
            }
            self.ask_at = ctx.now + ASK_INTERVAL;
        }
        ctx.out.wake_at(self.ask_at);
    }

    fn on_ask(&mut self, ctx: &mut Ctx<'_, Reply>, from: PeerId, nonce: u64) {
        let Some(member) = self.view.member_of(from).cloned() else { return };
        // Whoever is in an old view may not be a member any more.
        if self.view.roster.next <= self.own.0 {
            return;
        }
        let early = |at: &Mono| ctx.now.since(*at) < ANSWER_INTERVAL;
        if !self.is_whole() || self.answered.get(&member.id).is_some_and(early) {
            return;
        }
        self.answered.insert(member.id, ctx.now);
        let keys = recipients(&self.view.cluster.roles);
        if let Some(file) = self.keyring.share(&keys, member.content_key) {
            let file = Bytes(file);
            ctx.out.send(from, Message::Keys(KeysMessage::Shared { nonce, file }));
            ctx.out.count(&metrics::ROLE_KEYS_SHARED);
        }
    }

    fn on_shared(&mut self, ctx: &mut Ctx<'_, Reply>, from: PeerId, nonce: u64, file: &Bytes) {
        if !self.asked.contains(&(nonce, from)) {
            return;
        }
        // One answer to each question.
        self.asked.retain(|asked| *asked != (nonce, from));
        let roles = &self.view.cluster.roles;
        let keys = recipients(roles);
        if let Err(error) = self.keyring.accept(&file.0, &keys) {
            tracing::warn!(peer = %from, %error, "a member has sent unusable keys of roles");
            return ctx.out.count(&metrics::ROLE_KEYS_REJECTED);
        }
        if let Some(file) = self.keyring.share(&keys, self.keyring.own()) {
            let stored = StoredKeys { roles: (**roles).clone(), file: Bytes(file) };
            ctx.out.write(ROLE_KEYS, encode_durable(&stored));
        }
    }
}

impl Service for Keys {
    fn init(init: &Init<'_>) -> Result<Self, String> {
        // What can't be read can be had again.
        let stored = read(init.values, ROLE_KEYS).unwrap_or_default();
        Ok(Self::new(init.run.member, init.run.peer, init.keyring.clone(), stored))
    }
}

impl Hears<KeysMessage> for Keys {
    fn heard(from: PeerId, message: KeysMessage) -> Msg {
        Msg::Message { from, message }
    }
}

impl Machine for Keys {
    const NAME: &'static str = "keys";
    const NEWS: &'static [Kind] = &[Kind::View];
    type Msg = Msg;
    type Request = Request;
    type Reply = Reply;

    fn on_start(&mut self, _ctx: &mut Ctx<'_, Reply>) {}

    fn on_news(&mut self, ctx: &mut Ctx<'_, Reply>, news: News) {
        let News::View(view) = news else { return };
        self.view = view;
        let members = &self.view.roster.members;
        self.answered.retain(|member, _| members.contains_key(member));
        self.tend(ctx);
    }

    fn on_msg(&mut self, ctx: &mut Ctx<'_, Reply>, msg: Msg) {
        match msg {
            Msg::Message { from, .. }
                if from == self.own_peer || self.view.member_of(from).is_none() => {}
            Msg::Message { from, message: KeysMessage::Ask { nonce } } => {
                self.on_ask(ctx, from, nonce);
            }
            Msg::Message { from, message: KeysMessage::Shared { nonce, file } } => {
                self.on_shared(ctx, from, nonce, &file);
            }
        }
        self.tend(ctx);
    }

    fn on_request(&mut self, ctx: &mut Ctx<'_, Reply>, Request::Roles: Request, reply: ReplyTo) {
        let answer = Reply { roles: self.view.cluster.roles.clone(), whole: self.is_whole() };
        ctx.out.reply(reply, answer);
    }

    fn on_wake(&mut self, ctx: &mut Ctx<'_, Reply>) {
        self.tend(ctx);
    }
}

#[cfg(test)]
mod tests;
