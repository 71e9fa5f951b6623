//! Connections on demand, in a cluster that is too large for everybody to know everybody.
//!
//! Flow: a machine sends to a member that is no neighbour and not connected -> it is dialled, and what is to be
//! sent waits for up to `REACH_LIMIT` -> the connection stands, and it is sent. A connection that was made on
//! demand and has been idle for long is closed, as is the one that was idle for longest if there are too many.
//!
//! Whoever is not connected is taken for answering as long as its announcements come and no dial of it has
//! failed not long ago; a voter, as long as a leader is known: it takes a majority of them to have one.
//!
//! Invariants:
//! 1. A neighbour is never given up here.
//! 2. What waits is bounded, for each member and for all together.
//! 3. The network is left to keep neighbours and those that are reached, also when this machine is restarted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::machine::{Peers, Reply};
use crate::core::ctx::{Ctx, Effect};
use crate::core::overlay::{Overlay, Shape};
use crate::messages::Lane;
use crate::types::metrics;
use crate::types::{MemberId, Mono, PeerId};

/// How long what is to be sent waits for a connection.
const REACH_LIMIT: Duration = Duration::from_secs(3);
/// For how long a member that could not be reached is not taken for answering.
const MISSED_FOR: Duration = Duration::from_secs(30);
/// Frames that wait for one connection.
const WAITING_MAX: usize = 32;
/// Bytes that wait for all of them.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long nobody is dialled again who has closed a connection without having said who it is.
const REBUFFED_FOR: Duration = Duration::from_secs(1);
/// How long a connection has to be idle at least before it makes room for another one.
const SPARED: Duration = Duration::from_millis(250);

/// A member that is not a neighbour and is, or was, to be connected.
pub(super) struct Reached {
    since: Mono,
    waiting: Vec<(Lane, Vec<u8>)>,
}

/// What is kept of members that are no neighbours.
pub(super) struct Demand {
    shape: Shape,
    /// True while everybody knows everybody.
    is_full: bool,
    /// Whom a connection is kept to.
    neighbours: BTreeSet<PeerId>,
    reached: BTreeMap<PeerId, Reached>,
    /// Who could not be reached, and until when that counts.
    missed: BTreeMap<PeerId, Mono>,
    /// Who has closed a connection at once, and until when it is left alone.
    rebuffed: BTreeMap<PeerId, Mono>,
    waiting_bytes: usize,
    /// When connections are let go of that a machine before this one may have had made.
    let_go_at: Option<Mono>,
}

impl Demand {
    pub(super) fn new(shape: Shape) -> Self {
        Self {
            shape,
            is_full: true,
            neighbours: BTreeSet::new(),
            reached: BTreeMap::new(),
            missed: BTreeMap::new(),
            rebuffed: BTreeMap::new(),
            waiting_bytes: 0,
            let_go_at: None,
        }
    }

    pub(super) fn forget(&mut self, peer: PeerId) -> Option<Vec<(Lane, Vec<u8>)>> {
        let reached = self.reached.remove(&peer)?;
        self.waiting_bytes -= reached.waiting.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        Some(reached.waiting)
    }
}

impl Peers {
    /// Keeps connections to the neighbours as they are now.
    pub(super) fn connect(&mut self, ctx: &mut Ctx<'_, Reply>) {
        let others = || self.members.values().chain(self.departing.values());
        let is_other = |peer: &PeerId| *peer != self.id.peer;
        let admitted: BTreeSet<PeerId> = others().map(|(peer, _)| *peer).filter(is_other).collect();
        let keys = self.members.iter().map(|(member, (peer, _))| (*member, *peer)).collect();
        let overlay = Overlay::new(self.demand.shape, &keys, &self.voters);
        let is_removed = self.is_removed();
        let near = if is_removed { self.remaining() } else { overlay.neighbours(self.id.member) };
        // Its key may have a new membership.
        let mut neighbours: BTreeSet<PeerId> = (near.into_iter())
            .filter_map(|member| keys.get(&member).copied())
            .filter(is_other)
            .collect();
        neighbours.extend(self.departing.values().map(|(peer, _)| *peer).filter(is_other));
        let on_demand: BTreeSet<PeerId> = admitted.difference(&neighbours).copied().collect();
        let keeps: Vec<Effect<Reply>> = others()
            .filter(|(peer, _)| neighbours.contains(peer))
            .map(|(peer, addresses)| Effect::Keep(*peer, addresses.clone()))
            .collect();
        ctx.out.effects.push(Effect::AdmitPeers(admitted));
        ctx.out.effects.extend(keeps);
        self.demand.is_full = overlay.is_full();
        for peer in &neighbours {
            // Kept for good now. Nothing waits for a neighbour.
            self.demand.forget(*peer);
            self.demand.missed.remove(peer);
        }
        let before = std::mem::replace(&mut self.demand.neighbours, neighbours);
        for peer in before.iter().filter(|peer| on_demand.contains(peer)) {
            // Closed when it has been idle for long, as any other.
            self.demand
                .reached
                .entry(*peer)
                .or_insert(Reached { since: ctx.now, waiting: Vec::new() });
        }
        self.demand.missed.retain(|peer, _| on_demand.contains(peer));
        self.demand.rebuffed.retain(|peer, _| on_demand.contains(peer));
        ctx.out.effects.push(Effect::OnDemand(on_demand));
    }

    /// Begins to keep connections.
    pub(super) fn connect_anew(&mut self, ctx: &mut Ctx<'_, Reply>) {
        self.demand.let_go_at = Some(ctx.now + self.demand.shape.idle);
        self.connect(ctx);
    }

    /// A machine before this one may have had connections made on demand: nobody would count those or close them when
    /// they are idle, and the network would dial them for good. So they are let go of, once by now they would be idle.
    fn release_unknown(&mut self, ctx: &mut Ctx<'_, Reply>) {
        if self.demand.let_go_at.is_none_or(|at| at > ctx.now) {
            return;
        }
        self.demand.let_go_at = None;
        // One that is on its way out knows few, but all the others may still need its vote.
        if self.members.contains_key(&self.id.member) {
            let is_unknown = |peer: &PeerId| {
                *peer != self.id.peer && !self.is_greeted(peer) && !self.links.contains_key(peer)
            };
            let unknown = self.by_peer.keys().copied().filter(is_unknown);
            ctx.out.effects.extend(unknown.map(Effect::Release));
        }
    }

    /// The voters have changed, and with them who is a neighbour of whom.
    pub(super) fn reconnect(&mut self, ctx: &mut Ctx<'_, Reply>) {
        if !self.demand.is_full {
            self.connect(ctx);
        }
    }

    /// Something is to be sent to a member that is not connected.
    pub(super) fn on_unsent(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        to: PeerId,
        lane: Lane,
        bytes: Vec<u8>,
    ) {
        if self.links.contains_key(&to) {
            return ctx.out.effects.push(Effect::SendFrame(to, lane, bytes));
        }
        let room = self.demand.waiting_bytes + bytes.len() <= WAITING_BYTES_MAX;
        if !self.reach(ctx, to) || !room {
            return ctx.out.count(&metrics::PEERS_UNSENT_DROPPED);
        }
        let reached = self.demand.reached.get_mut(&to);
        let Some(reached) = reached.filter(|reached| reached.waiting.len() < WAITING_MAX) else {
            return ctx.out.count(&metrics::PEERS_UNSENT_DROPPED);
        };
        self.demand.waiting_bytes += bytes.len();
        reached.waiting.push((lane, bytes));
    }

    /// Sees to it that a member gets connected. False for one that is a neighbour, or is none.
    pub(super) fn reach(&mut self, ctx: &mut Ctx<'_, Reply>, peer: PeerId) -> bool {
        let address = self.by_peer.get(&peer).and_then(|member| self.members.get(member));
        let Some((_, addresses)) = address.filter(|_| peer != self.id.peer).cloned() else {
            return false;
        };
        if self.demand.neighbours.contains(&peer) {
            return false;
        }
        if !self.demand.reached.contains_key(&peer) {
            if self.demand.rebuffed.get(&peer).is_some_and(|until| *until > ctx.now) {
                return false;
            }
            if self.demand.reached.len() >= self.demand.shape.links_max {
                return false;
            }
            ctx.out.count(&metrics::PEERS_REACHED);
            ctx.out.effects.push(Effect::Keep(peer, addresses));
            let reached = Reached { since: ctx.now, waiting: Vec::new() };
            self.demand.reached.insert(peer, reached);
            ctx.out.wake_at(ctx.now + REACH_LIMIT);
        }
        true
    }

    /// A member is connected: what waits for it can go. One that there is no room for is turned away: it will try
    /// again if it has to.
    pub(super) fn send_waiting(&mut self, ctx: &mut Ctx<'_, Reply>, peer: PeerId) {
        self.demand.missed.remove(&peer);
        if let Some(reached) = self.demand.reached.get_mut(&peer) {
            for (lane, bytes) in std::mem::take(&mut reached.waiting) {
                self.demand.waiting_bytes -= bytes.len();
                ctx.out.effects.push(Effect::SendFrame(peer, lane, bytes));
            }
            // This node wants it more than any other one.
            self.make_room(ctx, Duration::ZERO);
        } else if !self.make_room(ctx, SPARED) && !self.demand.neighbours.contains(&peer) {
            ctx.out.count(&metrics::PEERS_WITHOUT_ROOM);
            self.give_up(ctx, peer);
        }
    }

    /// A connection is gone. One that was made on demand is not made again without a demand, and
    /// not at once where the other end was of no use.
    pub(super) fn end_reaching(&mut self, ctx: &mut Ctx<'_, Reply>, peer: PeerId, was_known: bool) {
        if self.demand.forget(peer).is_some() && !self.demand.neighbours.contains(&peer) {
            if !was_known {
                self.demand.rebuffed.insert(peer, ctx.now + REBUFFED_FOR);
            }
            ctx.out.effects.push(Effect::Release(peer));
        }
    }

    /// Connections to members; those of joiners are bounded elsewhere.
    fn linked_members(&self) -> usize {
        self.links.keys().filter(|peer| self.by_peer.contains_key(peer)).count()
    }

    /// Gives up the connection that was idle for longest, and for as long as `spared`, if there are too many.
    /// True if there is room.
    fn make_room(&mut self, ctx: &mut Ctx<'_, Reply>, spared: Duration) -> bool {
        while !self.demand.is_full && self.linked_members() > self.demand.shape.links_max {
            let idle = self.links.iter().filter(|(peer, link)| {
                self.by_peer.contains_key(peer)
                    && !self.demand.neighbours.contains(peer)
                    && ctx.now.since(link.used) >= spared
            });
            let Some(peer) = idle.min_by_key(|(_, link)| link.used).map(|(peer, _)| *peer) else {
                return false;
            };
            ctx.out.count(&metrics::PEERS_MADE_ROOM);
            self.give_up(ctx, peer);
        }
        true
    }

    fn give_up(&mut self, ctx: &mut Ctx<'_, Reply>, peer: PeerId) {
        self.demand.forget(peer);
        self.links.remove(&peer);
        ctx.out.effects.push(Effect::Release(peer));
    }

    /// Something was sent to these since the last time.
    pub(super) fn on_used(&mut self, ctx: &mut Ctx<'_, Reply>, used: &BTreeSet<PeerId>) {
        for peer in used {
            if let Some(link) = self.links.get_mut(peer) {
                link.used = ctx.now;
            }
        }
        let idle = self.demand.shape.idle;
        let over: Vec<PeerId> = (self.demand.reached.keys().copied())
            .filter(|peer| !self.demand.neighbours.contains(peer))
            .filter(|peer| self.links.get(peer).is_some_and(|l| ctx.now.since(l.used) >= idle))
            .collect();
        for peer in over {
            self.give_up(ctx, peer);
        }
        self.make_room(ctx, SPARED);
    }

    /// Gives up on those that could not be connected in time.
    pub(super) fn tend_reaching(&mut self, ctx: &mut Ctx<'_, Reply>) {
        self.release_unknown(ctx);
        let is_late = |(peer, reached): &(&PeerId, &Reached)| {
            !self.links.contains_key(*peer)
                && !self.demand.neighbours.contains(*peer)
                && ctx.now.since(reached.since) >= REACH_LIMIT
        };
        let late: Vec<PeerId> =
            self.demand.reached.iter().filter(is_late).map(|(peer, _)| *peer).collect();
        for peer in &late {
            ctx.out.count(&metrics::PEERS_NOT_REACHED);
            self.demand.forget(*peer);
            self.demand.missed.insert(*peer, ctx.now + MISSED_FOR);
            ctx.out.effects.push(Effect::Release(*peer));
        }
        let before = self.demand.missed.len();
        self.demand.missed.retain(|_, until| *until > ctx.now);
        self.demand.rebuffed.retain(|_, until| *until > ctx.now);
        if !late.is_empty() || self.demand.missed.len() < before {
            self.update_answering(ctx);
        }
        let waiting =
            self.demand.reached.iter().filter(|(peer, _)| !self.links.contains_key(*peer));
        if let Some(next) = waiting.map(|(_, reached)| reached.since + REACH_LIMIT).min() {
            ctx.out.wake_at(next.max(ctx.now + Duration::from_millis(1)));
        }
    }

    /// True for a member that is taken for answering although it is not connected.
    pub(super) fn is_presumed(&self, now: Mono, member: MemberId, peer: PeerId) -> bool {
        let unknown = !self.demand.is_full
            && !self.demand.neighbours.contains(&peer)
            && !self.links.contains_key(&peer)
            && !self.demand.missed.contains_key(&peer);
        let announced = || self.announced.get(&peer).is_some_and(|heard| heard.until > now);
        let votes = || self.voters.contains(&member) && self.leader.is_some();
        unknown && (votes() || announced())
    }

    /// True for a member that may be connected without this machine having been told.
    pub(super) fn is_greeted(&self, peer: &PeerId) -> bool {
        self.demand.neighbours.contains(peer) || self.demand.reached.contains_key(peer)
    }

    /// Who is presumed to answer changes with time.
    pub(super) fn presume_again(&mut self, ctx: &mut Ctx<'_, Reply>) {
        if !self.demand.is_full {
            self.update_answering(ctx);
        }
    }

    /// Asks what was used, if connections are made on demand.
    pub(super) fn look_at_use(&self, ctx: &mut Ctx<'_, Reply>) {
        if !self.demand.is_full {
            ctx.out.effects.push(Effect::ProbeUse);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::Msg;
    use super::super::machine::tests::{at, peers};
    use super::*;
    use crate::core::machine::Machine;

    const MS: u64 = 1_000;

    fn peer(id: u64) -> PeerId {
        PeerId([id as u8; 32])
    }

    /// The first of twelve members, in a cluster where few know each other, and those that are no neighbours.
    fn one_of_twelve(links_max: usize) -> (Peers, Vec<PeerId>) {
        let mut peers = peers();
        for id in 2..=12 {
            peers.members.insert(MemberId(id), (peer(id), Vec::new()));
            peers.by_peer.insert(peer(id), MemberId(id));
        }
        peers.members.insert(MemberId(1), (peer(1), Vec::new()));
        peers.by_peer.insert(peer(1), MemberId(1));
        peers.demand.shape =
            Shape { full_max: 4, fanout: 2, links_max, idle: Duration::from_secs(1) };
        let effects = at(&mut peers, Mono(0), |peers, ctx| peers.connect(ctx));
        let on_demand = effects.into_iter().find_map(|effect| match effect {
            Effect::OnDemand(on_demand) => Some(on_demand.into_iter().collect()),
            _ => None,
        });
        (peers, on_demand.unwrap())
    }

    fn unsent(peers: &mut Peers, now: Mono, to: PeerId, bytes: Vec<u8>) -> Vec<Effect<Reply>> {
        at(peers, now, |peers, ctx| peers.on_msg(ctx, Msg::Unsent(to, Lane::Control, bytes)))
    }

    fn up(peers: &mut Peers, now: Mono, other: PeerId) -> Vec<Effect<Reply>> {
        at(peers, now, |peers, ctx| peers.on_msg(ctx, Msg::Up(other)))
    }

    fn sent(effects: &[Effect<Reply>]) -> usize {
        effects.iter().filter(|effect| matches!(effect, Effect::SendFrame(..))).count()
    }

    fn released(effects: &[Effect<Reply>]) -> Vec<PeerId> {
        let released = effects.iter().filter_map(|effect| match effect {
            Effect::Release(peer) => Some(*peer),
            _ => None,
        });
        released.collect()
    }

    #[test]
    fn a_frame_waits_for_the_connection_that_it_causes() {
        let (mut peers, far) = one_of_twelve(8);
        let effects = unsent(&mut peers, Mono(0), far[0], vec![1]);
        assert!(effects.iter().any(|e| matches!(e, Effect::Keep(to, _) if *to == far[0])));
        let effects = unsent(&mut peers, Mono(MS), far[0], vec![2]);
        assert!(!effects.iter().any(|e| matches!(e, Effect::Keep(..))), "it is on its way");
        let effects = up(&mut peers, Mono(2 * MS), far[0]);
        assert_eq!(sent(&effects), 2);
        assert_eq!(peers.demand.waiting_bytes, 0);
        assert_eq!(sent(&unsent(&mut peers, Mono(3 * MS), far[0], vec![3])), 1, "at once");
    }

    #[test]
    fn a_machine_that_begins_anew_lets_go_of_all_but_its_neighbours() {
        let wait = |peers: &mut Peers, idle: Duration| {
            at(peers, Mono(0), |peers, ctx| peers.on_start(ctx));
            at(peers, Mono(0) + idle, |peers, ctx| peers.tend_reaching(ctx))
        };
        let idle = Shape::default().idle;
        assert!(released(&wait(&mut peers(), idle)).is_empty(), "its vote may be needed");
        let mut few = peers();
        few.members.insert(MemberId(1), (peer(1), Vec::new()));
        few.by_peer.insert(peer(1), MemberId(1));
        assert!(released(&wait(&mut few, idle)).is_empty(), "everybody knows everybody");
        let (mut many, far) = one_of_twelve(8);
        let idle = many.demand.shape.idle;
        assert!(released(&wait(&mut many, idle - Duration::from_millis(1))).is_empty());
        unsent(&mut many, Mono(MS), far[0], vec![1]);
        up(&mut many, Mono(2 * MS), far[0]);
        assert_eq!(
            released(&wait(&mut many, idle)),
            far[1..],
            "this one had the first made itself"
        );
    }

    #[test]
    fn whoever_closes_a_connection_at_once_is_left_alone_for_a_while() {
        let (mut peers, far) = one_of_twelve(8);
        let other = far[0];
        let is_dialled = |effects: Vec<Effect<Reply>>| {
            effects.iter().any(|effect| matches!(effect, Effect::Keep(..)))
        };
        assert!(is_dialled(unsent(&mut peers, Mono(0), other, vec![1])));
        up(&mut peers, Mono(MS), other);
        at(&mut peers, Mono(2 * MS), |peers, ctx| peers.on_msg(ctx, Msg::Down(other)));
        assert!(!is_dialled(unsent(&mut peers, Mono(3 * MS), other, vec![1])));
        let later = Mono(2 * MS) + REBUFFED_FOR;
        assert!(is_dialled(unsent(&mut peers, later, other, vec![1])));
    }

    #[test]
    fn what_waits_is_bounded_and_given_up_with_the_connection() {
        let (mut peers, far) = one_of_twelve(8);
        for _ in 0..2 * WAITING_MAX {
            unsent(&mut peers, Mono(0), far[0], vec![0; 10]);
        }
        assert_eq!(peers.demand.waiting_bytes, WAITING_MAX * 10);
        unsent(&mut peers, Mono(0), far[1], vec![0; WAITING_BYTES_MAX]);
        assert_eq!(peers.demand.waiting_bytes, WAITING_MAX * 10, "too much for all together");
        let tend = |peers: &mut Peers, now| at(peers, now, |peers, ctx| peers.tend_reaching(ctx));
        let limit = Mono(0) + REACH_LIMIT;
        assert!(released(&tend(&mut peers, Mono(limit.0 - 1))).is_empty());
        let given_up = released(&tend(&mut peers, limit));
        assert!(given_up.contains(&far[0]), "{given_up:?}");
        assert_eq!(peers.demand.waiting_bytes, 0);
        assert!(peers.demand.missed.contains_key(&far[0]));
        tend(&mut peers, limit + MISSED_FOR);
        assert!(peers.demand.missed.is_empty(), "it may be back");
    }

    #[test]
    fn whoever_was_idle_for_longest_makes_room_and_never_a_neighbour() {
        let (mut peers, far) = one_of_twelve(0);
        let neighbours: Vec<PeerId> = peers.demand.neighbours.iter().copied().collect();
        for neighbour in &neighbours {
            up(&mut peers, Mono(0), *neighbour);
        }
        peers.demand.shape.links_max = neighbours.len() + 1;
        for (number, other) in (0..).zip(&far[..2]) {
            unsent(&mut peers, Mono(MS * number), *other, vec![1]);
            let effects = up(&mut peers, Mono(MS * number), *other);
            let expected: &[PeerId] = if number == 0 { &[] } else { &far[..1] };
            assert_eq!(released(&effects), expected, "for {number}");
        }
        assert!(neighbours.iter().all(|neighbour| peers.links.contains_key(neighbour)));
        // One that comes by itself is turned away while all the others are in use.
        assert_eq!(released(&up(&mut peers, Mono(2 * MS), far[2])), [far[2]]);
        let used = [far[1]].into();
        let idle = at(&mut peers, Mono(500 * MS), |peers, ctx| peers.on_used(ctx, &used));
        assert!(released(&idle).is_empty());
        let none = BTreeSet::new();
        let idle = at(&mut peers, Mono(1_500 * MS), |peers, ctx| peers.on_used(ctx, &none));
        assert_eq!(released(&idle), [far[1]], "idle for a second");
    }

    #[test]
    fn who_is_not_connected_is_presumed_to_answer_until_it_was_missed() {
        let (mut peers, far) = one_of_twelve(8);
        let voter = peers.by_peer[&far[0]];
        assert!(!peers.is_presumed(Mono(0), voter, far[0]), "nothing was heard of it");
        (peers.voters, peers.leader) = ([voter].into(), Some(voter));
        assert!(peers.is_presumed(Mono(0), voter, far[0]), "there is a leader");
        peers.leader = None;
        assert!(!peers.is_presumed(Mono(0), voter, far[0]));
        peers.leader = Some(voter);
        peers.demand.missed.insert(far[0], Mono(MS));
        assert!(!peers.is_presumed(Mono(0), voter, far[0]));
    }
}
