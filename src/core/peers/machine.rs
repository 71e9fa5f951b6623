//! The machine that keeps the peers.

mod answering;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::leaving::Leaving;
use super::link::{Contest, Link, PING_INTERVAL, PeerStatus};
use super::reach::Demand;
use crate::core::cluster_time::{Clocks, Middle};
use crate::core::consensus::Role;
use crate::core::control::View;
use crate::core::ctx::{Ctx, Halt, Outbox, ReplyTo};
use crate::core::gossip;
use crate::core::init::{Init, Run, Values, read};
use crate::core::join::{ROSTER_KEY, Roster};
use crate::core::machine::{Hears, Machine, Service};
use crate::core::news::{Host, Kind, News};
use crate::core::overlay::Shape;
use crate::messages::Lane;
use crate::messages::wire::{Announcement, Hello, Message, PeersMessage, Turned};
use crate::types::codec::{Durable, decode_durable, encode_durable};
use crate::types::metrics;
use crate::types::{Address, BootId, ClusterId, MemberId, Mono, PeerId};

/// How often what was measured is handed to the election.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// How often this node announces itself to the peers it knows.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(60);
/// A known run that says hello again is answered with a hello at most this often: each may cause
/// another, and the chain has to end.
const HELLO_AGAIN: Duration = Duration::from_secs(2);
/// For how long an announcement is worth something.
const ANNOUNCE_TTL: Duration = Duration::from_secs(180);

/// Who this node is, and which starts of others it has seen.
#[derive(Clone)]
pub struct Identity {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its member id.
    pub member: MemberId,
    /// Its key.
    pub peer: PeerId,
    /// How often its data directory was started.
    pub boot_counter: u64,
    /// This run.
    pub boot: BootId,
    /// Highest start seen of each peer.
    pub seen: BTreeMap<PeerId, SeenStart>,
    /// Members and their addresses as known before the first view arrives.
    pub roster: Roster,
}

/// What is stored of a peer: its highest start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenStart {
    /// As which member it started: a new membership of the same key counts from the beginning.
    pub member: MemberId,
    /// How many starts that made.
    pub counter: u64,
    /// The run that began with it.
    pub boot: BootId,
}

impl Durable for SeenStart {
    const NAME: &'static str = "seen start";
    const KIND: u8 = 2;
    const VERSION: u8 = 1;
}

/// Highest starts that were seen of peers.
fn seen_starts(values: &dyn Values) -> BTreeMap<PeerId, SeenStart> {
    let rows = values.scan("seen/").into_iter();
    rows.filter_map(|(key, bytes)| {
        let peer = key.strip_prefix("seen/")?.parse().ok()?;
        Some((peer, decode_durable::<SeenStart>(&bytes).ok()?))
    })
    .collect()
}

/// Key under which the highest start of a peer is stored.
pub(crate) fn seen_key(peer: PeerId) -> String {
    format!("seen/{peer}")
}

/// What the peers are told.
#[derive(Debug)]
pub enum Msg {
    /// A connection stands.
    Up(PeerId),
    /// The last connection is gone.
    Down(PeerId),
    /// A member refuses what it has acknowledged to this node, which leads.
    LogLost(MemberId),
    /// A peer wants no connection to this node.
    TurnedAway(PeerId, Turned),
    /// A message arrived.
    Message {
        /// Authenticated sender.
        from: PeerId,
        /// The message.
        message: PeersMessage,
    },
    /// What a member says about itself.
    Announced {
        /// Who.
        peer: PeerId,
        /// Its start, and the number within that; an older one is ignored.
        order: (u64, u64),
        /// What it says.
        announcement: Announcement,
    },
    /// The gossip was started and knows nothing yet.
    GossipStarted,
    /// A frame is to be sent to a member that is not connected, and is no neighbour.
    Unsent(PeerId, Lane, Vec<u8>),
    /// Members that are no neighbours to which something was sent since this was told last.
    Used(BTreeSet<PeerId>),
    /// Somebody has to know whether this member answers.
    Wanted(PeerId),
}

/// A member says this of itself, in its start and with the number within that.
pub fn announced<R>(
    out: &mut Outbox<R>,
    peer: PeerId,
    order: (u64, u64),
    announcement: Announcement,
) {
    out.cast(Msg::Announced { peer, order, announcement });
}

/// The gossip has started, and has told nobody yet what this node is.
pub fn gossip_started<R>(out: &mut Outbox<R>) {
    out.cast(Msg::GossipStarted);
}

/// A member refuses what it has acknowledged to this node, which leads.
pub fn log_lost<R>(out: &mut Outbox<R>, member: MemberId) {
    out.cast(Msg::LogLost(member));
}

/// Whether this member answers has to be known, although it is presumed to.
pub fn want<R>(out: &mut Outbox<R>, peer: PeerId) {
    out.cast(Msg::Wanted(peer));
}

/// What the peers are asked.
#[derive(Debug)]
pub enum Request {
    /// All members as this node sees them.
    Status,
}

/// What they answer.
#[derive(Clone, Debug)]
pub struct Reply(pub Vec<PeerStatus>);

pub(super) struct Announced {
    announcement: Announcement,
    /// Start of the node that announces, and the number of the announcement.
    order: (u64, u64),
    pub(super) until: Mono,
}

/// Keeps the peers of one node.
pub struct Peers {
    pub(super) id: Identity,
    pub(super) members: BTreeMap<MemberId, (PeerId, Vec<Address>)>,
    pub(super) by_peer: BTreeMap<PeerId, MemberId>,
    /// Member ids below this one were given out, as far as this node knows.
    next_member: u64,
    pub(super) voters: BTreeSet<MemberId>,
    pub(super) leader: Option<MemberId>,
    /// Members that were removed and still vote.
    pub(super) departing: BTreeMap<MemberId, (PeerId, Vec<Address>)>,
    /// Set once this node was removed itself.
    pub(super) leaving: Option<Leaving>,
    pub(super) links: BTreeMap<PeerId, Link>,
    pub(super) demand: Demand,
    /// True once there was a link. Before that, as after a restart of this machine, peers may be
    /// connected that it was not told of.
    pub(super) met: bool,
    pub(super) greeted: BTreeMap<PeerId, Mono>,
    answering: BTreeSet<MemberId>,
    /// Those of them that are connected.
    linked: BTreeSet<MemberId>,
    /// True while this node has announced itself to nobody.
    unheard: bool,
    turned_away_by: BTreeMap<MemberId, Turned>,
    /// What the clocks of the members say of each other.
    pub(super) clocks: Clocks,
    /// The middle that a majority of the clocks agreed on last.
    pub(super) agreed: Option<Middle>,
    /// By how many milliseconds the clock of a peer was ahead of this node's monotonic one, and when that was so.
    pub(super) seen_clocks: BTreeMap<PeerId, (i64, Mono)>,
    own: Announcement,
    pub(super) announced: BTreeMap<PeerId, Announced>,
    /// Pings sent; a later one has a higher nonce.
    pings: u64,
    ping_at: Mono,
    report_at: Mono,
    announce_at: Mono,
}

impl Peers {
    /// The peers of a node that has just started.
    pub fn new(id: Identity, own: Announcement, shape: Shape) -> Self {
        let members = id.roster.members.clone();
        let by_peer = members.iter().map(|(member, (peer, _))| (*peer, *member)).collect();
        Self {
            id,
            members,
            by_peer,
            next_member: 0,
            voters: BTreeSet::new(),
            leader: None,
            departing: BTreeMap::new(),
            leaving: None,
            links: BTreeMap::new(),
            demand: Demand::new(shape),
            met: false,
            greeted: BTreeMap::new(),
            answering: BTreeSet::new(),
            linked: BTreeSet::new(),
            unheard: false,
            turned_away_by: BTreeMap::new(),
            clocks: Clocks::default(),
            agreed: None,
            seen_clocks: BTreeMap::new(),
            own,
            announced: BTreeMap::new(),
            pings: 0,
            ping_at: Mono(0),
            report_at: Mono(0),
            announce_at: Mono(0),
        }
    }

    fn on_view(&mut self, ctx: &mut Ctx<'_, Reply>, view: &View) {
        // A view from before this member, or another one that is known here, was admitted is old news replayed from
        // the log: whoever is not in it may lead by now, and be the only one to get the rest from.
        let newest = self.members.keys().next_back().copied().max(Some(self.id.member));
        if view.roster.members.is_empty() || newest.is_some_and(|id| view.roster.next <= id.0) {
            return;
        }
        self.next_member = view.roster.next;
        let members: BTreeMap<_, _> =
            view.roster.members.values().map(|m| (m.id, (m.peer, m.addresses.clone()))).collect();
        if members != self.members {
            self.on_members(ctx, view, members);
        }
        // Also where nothing is new: what was stored last may have said so before this start.
        if self.is_removed() {
            self.begin_leaving(ctx);
        }
    }

    fn on_members(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        view: &View,
        members: BTreeMap<MemberId, (PeerId, Vec<Address>)>,
    ) {
        let is_gone = |peer: &PeerId| *peer != self.id.peer && view.member_of(*peer).is_none();
        let gone = self.members.iter().filter(|(_, (peer, _))| is_gone(peer));
        let gone = gone.map(|(member, (peer, at))| (*member, *peer, at.clone())).collect();
        self.members = members;
        let before = std::mem::take(&mut self.by_peer);
        self.by_peer = self.members.iter().map(|(member, (peer, _))| (*peer, *member)).collect();
        // What a key announced as another member is not what it is now.
        self.announced.retain(|peer, _| before.get(peer) == self.by_peer.get(peer));
        self.let_go(ctx, gone);
        self.connect(ctx);
        self.store_roster(ctx);
        self.update_answering(ctx);
        // The founder learns last that it is a member.
        self.settle_clocks(ctx);
    }

    fn store_roster(&mut self, ctx: &mut Ctx<'_, Reply>) {
        self.id.roster.members = self.members.clone();
        ctx.out.write(ROSTER_KEY, encode_durable(&self.id.roster));
    }

    fn on_role(&mut self, ctx: &mut Ctx<'_, Reply>, role: Role) {
        let same = self.voters == role.voters;
        (self.voters, self.leader) = (role.voters, role.leader);
        if !same {
            self.reconnect(ctx);
        }
        self.settle_clocks(ctx);
        if self.voters.contains(&self.id.member) && !self.id.roster.voted {
            self.id.roster.voted = true;
            self.store_roster(ctx);
        }
        self.tend_departing(ctx);
        self.tend_leaving(ctx);
    }

    fn on_up(&mut self, ctx: &mut Ctx<'_, Reply>, peer: PeerId) {
        self.links.insert(peer, Link::new(ctx.now));
        self.met = true;
        self.say_hello(ctx, peer);
        self.send_waiting(ctx, peer);
        ctx.out.wake_at(ctx.now);
    }

    fn say_hello(&mut self, ctx: &mut Ctx<'_, Reply>, peer: PeerId) {
        if self.by_peer.contains_key(&peer) {
            self.greeted.insert(peer, ctx.now);
        }
        let hello = Hello {
            cluster: self.id.cluster,
            member: self.id.member,
            boot_counter: self.id.boot_counter,
            boot: self.id.boot,
        };
        ctx.out.send(peer, Message::Peers(PeersMessage::Hello(hello)));
    }

    /// Says hello to every member that this machine knows no run of. It may be connected without
    /// this machine having been told, when this machine was restarted.
    fn greet_unknown(&mut self, ctx: &mut Ctx<'_, Reply>) {
        let known = |peer: &PeerId| self.links.get(peer).is_some_and(|link| link.boot.is_some());
        let unknown: Vec<PeerId> = self
            .by_peer
            .keys()
            .copied()
            .filter(|peer| *peer != self.id.peer && !known(peer) && self.is_greeted(peer))
            .collect();
        for peer in unknown {
            self.say_hello(ctx, peer);
        }
    }

    /// Whether a hello is to be believed. None if this node does not know enough yet to say so.
    fn judge(&self, from: PeerId, hello: &Hello) -> Option<Result<(), Turned>> {
        if hello.cluster != self.id.cluster {
            return Some(Err(Turned::OtherCluster));
        }
        // A removed voter that is turned away would stop, and take the vote with it that ends its own.
        let departing = self.departing.get(&hello.member).is_some_and(|(peer, _)| *peer == from);
        if !departing && self.by_peer.get(&from) != Some(&hello.member) {
            // A membership may have been given that this node has not applied; hellos are repeated.
            let is_over = hello.member.0 < self.next_member;
            return is_over.then_some(Err(Turned::NotAMember));
        }
        Some(self.judge_start(from, hello))
    }

    fn judge_start(&self, from: PeerId, hello: &Hello) -> Result<(), Turned> {
        match self.id.seen.get(&from).filter(|seen| seen.member == hello.member) {
            // As many starts, but another run: two directories have gone on from one.
            Some(seen)
                if hello.boot_counter < seen.counter
                    || hello.boot_counter == seen.counter && hello.boot != seen.boot =>
            {
                Err(Turned::OldCopy { seen: seen.counter, ours: hello.boot_counter })
            }
            _ => Ok(()),
        }
    }

    fn turn_away(ctx: &mut Ctx<'_, Reply>, peer: PeerId, boot: BootId, why: Turned) {
        ctx.out.count(&metrics::PEERS_TURNED_AWAY);
        ctx.out.send(peer, Message::Peers(PeersMessage::Turned { boot, why }));
    }

    fn on_hello(&mut self, ctx: &mut Ctx<'_, Reply>, from: PeerId, hello: &Hello) {
        match self.judge(from, hello) {
            None => return ctx.out.count(&metrics::PEERS_EARLY_HELLOS),
            Some(Err(turned)) => return Self::turn_away(ctx, from, hello.boot, turned),
            Some(Ok(())) => {}
        }
        self.met = true;
        let link = self.links.entry(from).or_insert_with(|| Link::new(ctx.now));
        if link.boot != Some(hello.boot) {
            match link.contend(ctx.now, hello.boot) {
                Contest::Accept => {}
                Contest::Wait => return,
                Contest::Refuse => {
                    return Self::turn_away(ctx, from, hello.boot, Turned::DuplicateIdentity);
                }
            }
        }
        let known = self.id.seen.get(&from).filter(|seen| seen.member == hello.member);
        if known.is_none_or(|seen| seen.counter < hello.boot_counter) {
            let Hello { member, boot_counter: counter, boot, .. } = *hello;
            let seen = SeenStart { member, counter, boot };
            self.id.seen.insert(from, seen);
            ctx.out.write(seen_key(from), encode_durable(&seen));
        }
        let link = self.links.entry(from).or_insert_with(|| Link::new(ctx.now));
        let new_run = link.boot != Some(hello.boot);
        if new_run {
            link.accept(ctx.now, hello.boot);
            link.welcomed = false;
            self.say_hello(ctx, from);
        } else if self.greeted.get(&from).is_none_or(|at| ctx.now.since(*at) >= HELLO_AGAIN) {
            // It has known this node and says hello again: it may have forgotten.
            self.say_hello(ctx, from);
        }
        ctx.out.send(from, Message::Peers(PeersMessage::Welcome { boot: hello.boot }));
        gossip::greet(ctx.out, from);
        self.update_answering(ctx);
        ctx.out.wake_at(ctx.now);
    }

    fn on_log_lost(&mut self, ctx: &mut Ctx<'_, Reply>, member: MemberId) {
        let peer = self.members.get(&member).map(|(peer, _)| *peer);
        let boot = peer.and_then(|peer| self.links.get(&peer)).and_then(|link| link.boot);
        if let Some((peer, boot)) = peer.zip(boot) {
            Self::turn_away(ctx, peer, boot, Turned::LogLost);
        }
    }

    fn on_turned(&mut self, ctx: &mut Ctx<'_, Reply>, from: PeerId, turned: Turned) {
        let Some(member) = self.by_peer.get(&from).copied() else { return };
        self.turned_away_by.insert(member, turned);
        // Those have to say it who are to judge.
        let judges: Vec<PeerId> = self
            .voters
            .iter()
            .filter_map(|voter| self.members.get(voter).map(|(peer, _)| *peer))
            .collect();
        for judge in judges {
            self.reach(ctx, judge);
        }
        let others =
            |set: &BTreeSet<MemberId>| set.iter().filter(|m| **m != self.id.member).count();
        let known: BTreeSet<MemberId> = self.members.keys().copied().collect();
        let judges = if self.voters.is_empty() { &known } else { &self.voters };
        // What a node has acknowledged to the leader, only the leader knows.
        if turned == Turned::LogLost && self.leader == Some(member) {
            return ctx.out.halt(Halt::TurnedAway(turned));
        }
        let against = self.turned_away_by.keys().filter(|member| judges.contains(member)).count();
        if against * 2 > others(judges) {
            ctx.out.halt(Halt::TurnedAway(turned));
        }
    }

    fn on_announced(
        &mut self,
        now: Mono,
        peer: PeerId,
        order: (u64, u64),
        announcement: Announcement,
    ) {
        let known = self.announced.get(&peer).map(|announced| announced.order);
        if self.by_peer.contains_key(&peer) && known.is_none_or(|known| known < order) {
            let until = now + ANNOUNCE_TTL;
            self.announced.insert(peer, Announced { announcement, order, until });
        }
    }

    fn on_message(&mut self, ctx: &mut Ctx<'_, Reply>, from: PeerId, message: PeersMessage) {
        match message {
            PeersMessage::Hello(hello) => self.on_hello(ctx, from, &hello),
            PeersMessage::Welcome { boot } if boot == self.id.boot => {
                if let Some(link) = self.links.get_mut(&from) {
                    link.welcomed = true;
                }
                if let Some(member) = self.by_peer.get(&from) {
                    self.turned_away_by.remove(member);
                }
            }
            PeersMessage::Welcome { .. } => {}
            PeersMessage::Turned { boot, why } if boot == self.id.boot => {
                self.on_turned(ctx, from, why);
            }
            PeersMessage::Turned { .. } => {}
            PeersMessage::Ping { nonce } => {
                let pong = PeersMessage::Pong { nonce, boot: self.id.boot, wall: ctx.wall };
                ctx.out.send(from, Message::Peers(pong));
            }
            PeersMessage::Pong { nonce, boot, wall } => {
                let link = self.links.get_mut(&from);
                let took = link.as_ref().and_then(|link| link.round_trip(nonce, boot, ctx.now));
                if let Some(took) = took {
                    ctx.out.took(&metrics::PEER_ROUND_TRIP_SECONDS, took);
                }
                let again = link.is_some_and(|link| link.ponged(nonce, (boot, wall), ctx.now));
                if again {
                    self.update_answering(ctx);
                }
                self.settle_clocks(ctx);
            }
        }
    }
}

impl Service for Peers {
    fn init(init: &Init<'_>) -> Result<Self, String> {
        let mut announcement = init.settings.announcement.clone();
        announcement.capabilities = (init.capabilities)();
        let Run { cluster, member, peer, boot_counter, boot } = init.run;
        let seen = seen_starts(init.values);
        let roster = read(init.values, ROSTER_KEY).map_err(|error| error.to_string())?;
        let roster = roster.unwrap_or_default();
        let id = Identity { cluster, member, peer, boot_counter, boot, seen, roster };
        Ok(Self::new(id, announcement, init.settings.shape))
    }
}

impl Hears<PeersMessage> for Peers {
    fn heard(from: PeerId, message: PeersMessage) -> Msg {
        Msg::Message { from, message }
    }
}

impl Machine for Peers {
    const NAME: &'static str = "peers";
    const SEES_OWN_CLOCK: bool = true;
    const NEWS: &'static [Kind] = &[Kind::View, Kind::Role, Kind::Host];
    type Msg = Msg;
    type Request = Request;
    type Reply = Reply;

    fn on_start(&mut self, ctx: &mut Ctx<'_, Reply>) {
        self.connect_anew(ctx);
        self.greet_unknown(ctx);
        if self.is_removed() {
            self.begin_leaving(ctx);
        }
        ctx.out.tell(News::Answering(self.answering.clone()));
        ctx.out.tell(News::Linked(self.linked.clone()));
        self.report_at = ctx.now + REPORT_INTERVAL;
        self.announce_at = ctx.now + ANNOUNCE_INTERVAL;
        ctx.out.wake_at(self.report_at);
    }

    fn on_news(&mut self, ctx: &mut Ctx<'_, Reply>, news: News) {
        match news {
            News::View(view) => self.on_view(ctx, &view),
            News::Role(role) => self.on_role(ctx, role),
            News::Host(Host { capabilities, .. }) if self.own.capabilities != capabilities => {
                self.own.capabilities = capabilities;
                self.announce(ctx);
            }
            _ => {}
        }
    }

    fn on_msg(&mut self, ctx: &mut Ctx<'_, Reply>, msg: Msg) {
        match msg {
            Msg::Up(peer) => self.on_up(ctx, peer),
            Msg::Down(peer) => {
                // One that was given up here may be on its way again.
                if let Some(link) = self.links.remove(&peer) {
                    self.end_reaching(ctx, peer, link.boot.is_some());
                }
                self.update_answering(ctx);
                self.tend_leaving(ctx);
            }
            Msg::LogLost(member) => self.on_log_lost(ctx, member),
            Msg::TurnedAway(from, why) => self.on_turned(ctx, from, why),
            Msg::Message { from, message } => self.on_message(ctx, from, message),
            Msg::Announced { peer, order, announcement } => {
                self.on_announced(ctx.now, peer, order, announcement);
            }
            Msg::GossipStarted => self.announce(ctx),
            Msg::Unsent(to, lane, bytes) => self.on_unsent(ctx, to, lane, bytes),
            Msg::Used(used) => self.on_used(ctx, &used),
            Msg::Wanted(peer) => {
                self.reach(ctx, peer);
            }
        }
    }

    fn on_request(&mut self, ctx: &mut Ctx<'_, Reply>, Request::Status: Request, reply: ReplyTo) {
        ctx.out.reply(reply, Reply(self.status(ctx.now)));
    }

    fn on_wake(&mut self, ctx: &mut Ctx<'_, Reply>) {
        self.tend_leaving(ctx);
        self.tend_reaching(ctx);
        if !self.links.is_empty() {
            if self.ping_at <= ctx.now {
                self.ping_at = ctx.now + PING_INTERVAL;
                self.ping_all(ctx);
                self.look_at_use(ctx);
            }
            ctx.out.wake_at(self.ping_at);
            self.suspect(ctx);
        }
        if self.report_at <= ctx.now {
            self.report_at = ctx.now + REPORT_INTERVAL;
            self.report(ctx);
        }
        if self.announce_at <= ctx.now {
            self.announce_at = ctx.now + ANNOUNCE_INTERVAL;
            self.announce(ctx);
        }
        ctx.out.wake_at(self.report_at.min(self.announce_at));
    }
}

#[cfg(test)]
pub(super) mod tests;
