//! The joiner: a node that wants to become a member.
//!
//! States: dialling; asking (a peer that the token names is connected); ended.
//!
//! Flow: dial every address, and wherever somebody in the local network says that a peer is which the
//! token names; a peer that the token does not name is not spoken to; ask the others in turn, again
//! every second, until one accepts or refuses.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Roster;
use crate::core::ctx::{Ctx, Effect, ReplyTo};
use crate::core::machine::{Hears, Machine};
use crate::core::refusal::Refusal;
use crate::messages::command::{Candidate, Refused};
use crate::messages::wire::{JoinMessage, Message, Turned};
use crate::types::{Address, JoinTokenText, MemberId, Mono, PeerId};

/// How often a peer that did not answer is asked again.
const ASK_INTERVAL: Duration = Duration::from_millis(1_000);
/// How soon it is asked again after it said "not now".
const RETRY_INTERVAL: Duration = Duration::from_millis(150);
/// How often an address that did not answer is dialled again.
const DIAL_INTERVAL: Duration = Duration::from_millis(500);
/// Addresses found in the local network that are tried, the newest.
const FOUND_MAX: usize = 16;
/// How long all of it may take.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

/// What a joiner is told.
#[derive(Debug)]
pub enum Msg {
    /// A connection stands.
    Up {
        /// Who it is.
        peer: PeerId,
        /// What was dialled.
        dialled: Option<Address>,
    },
    /// A connection is gone.
    Down(PeerId),
    /// An address did not answer.
    DialFailed(Address, String),
    /// Somebody in the local network said that this peer is there.
    Found(PeerId, Address),
    /// A peer wants no connection to this node.
    TurnedAway(PeerId, Turned),
    /// A message arrived.
    Message(PeerId, JoinMessage),
}

/// What a joiner is asked: to tell when it has ended.
#[derive(Debug)]
pub enum Request {
    /// Answered once, with the end.
    Outcome,
}

/// A membership that was just given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The member id.
    pub member: MemberId,
    /// Name of the cluster.
    pub cluster_name: String,
    /// The other members.
    pub roster: Roster,
}

/// Why a node did not become a member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The cluster said no.
    #[error("the cluster refused: {0}")]
    Refused(Refused),
    /// The address belongs to a peer that the token does not name.
    #[error(
        "the node at {address} is {peer}, which the token does not name; check the address and the token"
    )]
    WrongPeer {
        /// What was dialled.
        address: Address,
        /// Who answered.
        peer: PeerId,
    },
    /// Nobody answered in time.
    #[error(
        "no member answered within {} s; last problem: {last}; pass the address of a member with --join",
        GIVE_UP_AFTER.as_secs()
    )]
    TimedOut {
        /// What went wrong last.
        last: String,
        /// True if the cluster may have decided without this node having heard how.
        is_open: bool,
    },
}

impl JoinError {
    /// True if this node may be a member without knowing it: it has to ask again with the same key.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::TimedOut { is_open: true, .. })
    }
}

/// A node that wants to become a member.
pub struct Joiner {
    token: JoinTokenText,
    candidate: Candidate,
    /// Where the user says that a member is.
    addresses: Vec<Address>,
    /// Where somebody in the local network says that a member is.
    found: Vec<Address>,
    connected: BTreeSet<PeerId>,
    /// Addresses of the user at which somebody else answered.
    strangers: BTreeSet<Address>,
    last: String,
    /// Those whose answer to the last request is missing.
    asked: BTreeSet<PeerId>,
    /// True once it can't be told any more what became of some request.
    is_unknown: bool,
    deadline: Mono,
    ask_at: Mono,
    dial_at: Mono,
    waiter: Option<ReplyTo>,
    ended: bool,
}

impl Joiner {
    /// A joiner that begins now.
    pub fn new(
        token: JoinTokenText,
        candidate: Candidate,
        addresses: Vec<Address>,
        now: Mono,
    ) -> Self {
        Self {
            token,
            candidate,
            addresses,
            found: Vec::new(),
            connected: BTreeSet::new(),
            strangers: BTreeSet::new(),
            last: "nobody in the local network is named by the token".into(),
            asked: BTreeSet::new(),
            is_unknown: false,
            deadline: now + GIVE_UP_AFTER,
            ask_at: now,
            dial_at: now,
            waiter: None,
            ended: false,
        }
    }

    fn end(
        &mut self,
        ctx: &mut Ctx<'_, Result<Joined, JoinError>>,
        result: Result<Joined, JoinError>,
    ) {
        if let Some(waiter) = self.waiter.take() {
            self.ended = true;
            ctx.out.reply(waiter, result);
        }
    }

    fn tend(&mut self, ctx: &mut Ctx<'_, Result<Joined, JoinError>>) {
        if self.ended {
            return;
        }
        if self.deadline <= ctx.now {
            let (last, is_open) = (self.last.clone(), self.is_open());
            self.end(ctx, Err(JoinError::TimedOut { last, is_open }));
            return;
        }
        if self.connected.is_empty() && self.dial_at <= ctx.now {
            self.dial_at = ctx.now + DIAL_INTERVAL;
            for address in self.addresses.iter().chain(&self.found) {
                ctx.out.effects.push(Effect::Dial(address.clone()));
            }
        }
        if !self.connected.is_empty() && self.ask_at <= ctx.now {
            self.ask_at = ctx.now + ASK_INTERVAL;
            for peer in &self.connected {
                // What became of the request before, nobody will say any more.
                self.is_unknown |= !self.asked.insert(*peer);
                let request = JoinMessage::Request {
                    cluster: self.token.cluster,
                    token: self.token.token,
                    secret: self.token.secret,
                    candidate: self.candidate.clone(),
                };
                ctx.out.send(*peer, Message::Join(request));
            }
        }
        let next = if self.connected.is_empty() { self.dial_at } else { self.ask_at };
        ctx.out.wake_at(next.min(self.deadline));
    }

    /// True if a request may have been decided without this node having heard how.
    fn is_open(&self) -> bool {
        self.is_unknown || !self.asked.is_empty()
    }

    fn on_up(
        &mut self,
        ctx: &mut Ctx<'_, Result<Joined, JoinError>>,
        peer: PeerId,
        dialled: Option<Address>,
    ) {
        if self.token.peers.contains(&peer) {
            self.connected.insert(peer);
            self.ask_at = ctx.now;
        } else if let Some(address) = dialled {
            ctx.out.effects.push(Effect::Release(peer));
            // Anybody may have said that a member is there.
            self.found.retain(|found| *found != address);
            if self.addresses.contains(&address) {
                self.strangers.insert(address.clone());
                let all = self.addresses.iter().all(|known| self.strangers.contains(known));
                if all && self.found.is_empty() && self.connected.is_empty() {
                    self.end(ctx, Err(JoinError::WrongPeer { address, peer }));
                }
            }
        }
    }

    fn on_found(&mut self, now: Mono, peer: PeerId, address: Address) {
        let known = self.addresses.contains(&address) || self.found.contains(&address);
        if known || !self.token.peers.contains(&peer) {
            return;
        }
        if self.found.len() == FOUND_MAX {
            self.found.remove(0);
        }
        self.found.push(address);
        self.dial_at = now;
    }

    /// Somebody with the key of this node is connected to a member, which is not to lose it.
    fn on_turned_away(
        &mut self,
        ctx: &mut Ctx<'_, Result<Joined, JoinError>>,
        from: PeerId,
        why: Turned,
    ) {
        if why == Turned::DuplicateIdentity && self.token.peers.contains(&from) {
            self.end(ctx, Err(JoinError::Refused(Refused::DuplicateIdentity)));
        }
    }

    fn on_message(
        &mut self,
        ctx: &mut Ctx<'_, Result<Joined, JoinError>>,
        from: PeerId,
        message: JoinMessage,
    ) {
        if !self.connected.contains(&from) {
            return;
        }
        match message {
            JoinMessage::Accepted { member, cluster_name, roster } => {
                if roster.len() <= crate::types::limits::MEMBERS_MAX {
                    let roster = Roster { members: roster, voted: false };
                    self.end(ctx, Ok(Joined { member, cluster_name, roster }));
                }
            }
            JoinMessage::Refused { reason } => self.end(ctx, Err(JoinError::Refused(reason))),
            JoinMessage::Retry { reason } => {
                // In these words a front says that it can't tell.
                self.is_unknown |= reason == Refusal::OutcomeUnknown.to_string();
                self.asked.remove(&from);
                self.last = reason.chars().take(200).collect();
                self.ask_at = ctx.now + RETRY_INTERVAL;
            }
            JoinMessage::Request { .. } => {}
        }
    }
}

impl Hears<JoinMessage> for Joiner {
    fn heard(from: PeerId, message: JoinMessage) -> Msg {
        Msg::Message(from, message)
    }
}

impl Machine for Joiner {
    const NAME: &'static str = "join";
    type Msg = Msg;
    type Request = Request;
    type Reply = Result<Joined, JoinError>;

    fn on_start(&mut self, ctx: &mut Ctx<'_, Self::Reply>) {
        self.tend(ctx);
    }

    fn on_msg(&mut self, ctx: &mut Ctx<'_, Self::Reply>, msg: Msg) {
        match msg {
            Msg::Up { peer, dialled } => self.on_up(ctx, peer, dialled),
            Msg::Down(peer) => {
                self.connected.remove(&peer);
                self.last = "the connection broke".into();
                self.dial_at = ctx.now + DIAL_INTERVAL;
            }
            Msg::DialFailed(address, reason) => self.last = format!("{address}: {reason}"),
            Msg::Found(peer, address) => self.on_found(ctx.now, peer, address),
            Msg::TurnedAway(from, why) => self.on_turned_away(ctx, from, why),
            Msg::Message(from, message) => self.on_message(ctx, from, message),
        }
        self.tend(ctx);
    }

    fn on_request(
        &mut self,
        _ctx: &mut Ctx<'_, Self::Reply>,
        Request::Outcome: Request,
        reply: ReplyTo,
    ) {
        self.waiter = Some(reply);
    }

    fn on_wake(&mut self, ctx: &mut Ctx<'_, Self::Reply>) {
        self.tend(ctx);
    }
}

#[cfg(test)]
mod guards;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::core::ctx::{Outbox, Rng};
    use crate::types::{ClusterId, Level, TokenId, Wall};

    /// With a token that names these members.
    pub(super) fn new(peers: Vec<PeerId>, addresses: &[&str]) -> Joiner {
        let token = JoinTokenText {
            cluster: ClusterId([1; 16]),
            token: TokenId([2; 8]),
            secret: [3; 32],
            peers,
        };
        let candidate = Candidate {
            peer: PeerId([5; 32]),
            name: "new".into(),
            role: "worker".into(),
            addresses: Vec::new(),
            labels: BTreeMap::new(),
            content_key: Default::default(),
            level: Level::FIRST,
        };
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Joiner::new(token, candidate, addresses, Mono(0))
    }

    fn joiner(addresses: &[&str]) -> (Joiner, PeerId) {
        let member = PeerId([9; 32]);
        let mut joiner = new(vec![member], addresses);
        joiner.waiter = Some(ReplyTo(1));
        (joiner, member)
    }

    fn told(joiner: &mut Joiner, msg: Msg) -> Vec<Effect<Result<Joined, JoinError>>> {
        let (mut rng, mut out) = (Rng::from_seed([1; 32]), Outbox::default());
        let mut ctx = Ctx { now: Mono(1), wall: Wall(1), rng: &mut rng, out: &mut out };
        joiner.on_msg(&mut ctx, msg);
        out.effects
    }

    #[test]
    fn whoever_lies_in_the_local_network_does_not_end_a_join() {
        let (mut joiner, member) = joiner(&[]);
        let (wrong, right): (Address, Address) =
            ("10.0.0.1:1".parse().unwrap(), "10.0.0.2:1".parse().unwrap());
        let liar = PeerId([7; 32]);
        let dials = told(&mut joiner, Msg::Found(member, wrong.clone()));
        assert!(matches!(&dials[..], [Effect::Dial(at)] if *at == wrong));
        assert!(told(&mut joiner, Msg::Found(liar, right.clone())).is_empty(), "not in the token");
        told(&mut joiner, Msg::Up { peer: liar, dialled: Some(wrong.clone()) });
        assert!(!joiner.ended && joiner.found.is_empty());
        for port in 2..100 {
            let at = format!("10.0.0.1:{port}").parse().unwrap();
            told(&mut joiner, Msg::Found(member, at));
        }
        told(&mut joiner, Msg::Found(member, right.clone()));
        assert!(joiner.found.len() == FOUND_MAX && joiner.found.contains(&right));
    }

    #[test]
    fn a_join_ends_once_somebody_else_is_at_every_address_of_the_user() {
        let (mut joiner, _) = joiner(&["10.0.0.1:1", "10.0.0.2:1"]);
        let stranger = PeerId([7; 32]);
        let up = |at: &str| Msg::Up { peer: stranger, dialled: Some(at.parse().unwrap()) };
        told(&mut joiner, up("10.0.0.1:1"));
        told(&mut joiner, up("10.0.0.1:1"));
        assert!(!joiner.ended, "one of them may still be right");
        told(&mut joiner, up("10.0.0.2:1"));
        assert!(joiner.ended);
    }

    #[test]
    fn a_copy_of_a_member_hears_it_from_a_peer_that_the_token_names() {
        let (mut joiner, member) = joiner(&["10.0.0.1:1"]);
        let duplicate = Turned::DuplicateIdentity;
        assert!(told(&mut joiner, Msg::TurnedAway(PeerId([7; 32]), duplicate)).iter().all(is_dial));
        assert!(told(&mut joiner, Msg::TurnedAway(member, Turned::NotAMember)).iter().all(is_dial));
        assert!(!joiner.ended);
        let effects = told(&mut joiner, Msg::TurnedAway(member, duplicate));
        let ended = effects.iter().find_map(|effect| match effect {
            Effect::Reply(_, Err(error)) => Some(error),
            _ => None,
        });
        assert_eq!(ended, Some(&JoinError::Refused(Refused::DuplicateIdentity)));
    }

    fn is_dial(effect: &Effect<Result<Joined, JoinError>>) -> bool {
        matches!(effect, Effect::Dial(_))
    }

    #[test]
    fn a_join_that_ends_without_an_answer_says_whether_it_may_have_been_decided() {
        let up = |peer| Msg::Up { peer, dialled: None };
        let retry = |reason: String| JoinMessage::Retry { reason };
        let (mut joiner, member) = joiner(&["10.0.0.1:1"]);
        assert!(!joiner.is_open(), "nobody was asked");
        told(&mut joiner, up(member));
        assert!(joiner.is_open(), "the answer may get lost");
        told(&mut joiner, Msg::Message(member, retry("there is no leader".into())));
        assert!(!joiner.is_open());
        told(&mut joiner, up(member));
        assert!(joiner.is_open(), "asked again");
        told(&mut joiner, Msg::Message(member, retry("there is no leader".into())));
        told(&mut joiner, Msg::Message(member, retry(Refusal::OutcomeUnknown.to_string())));
        told(&mut joiner, Msg::Message(member, retry("there is no leader".into())));
        assert!(joiner.is_open(), "what was unknown stays so");
    }
}
