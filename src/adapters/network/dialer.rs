//! Whom to dial, at which addresses, and when to try again.
//!
//! Flow of a kept peer: its addresses are those that the roster names and those that were heard of
//! it (`learned`) -> all are dialled at once, names apart from literal addresses, as they have to
//! be resolved first -> what is heard meanwhile is dialled beside that -> who does not answer is
//! dialled again with backoff, which news shorten.
//!
//! Invariants:
//! 1. For a kept peer at most `DIALS_PER_PEER_MAX` dials are under way, at most one of each
//!    address, and none are begun while it is connected directly and answers.
//! 2. An address where somebody else answered is left out of the next dials until the others were
//!    tried as well; one wrong address cannot keep a peer from being found at the right one.
//! 3. Every `dial` call ends in exactly one answer, at the latest when the network stops.
//! 4. A `dial` call of a name tries its addresses, each once, until one leads to a node; the next
//!    one once the one before has failed or `HEAD_START` has passed. A dial of a hint tries all of
//!    them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::error::Error;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;
use libp2p::TransportError;
use libp2p::swarm::{ConnectionId, DialError};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::time::{Instant, timeout};

use super::bounds::{
    DIALS_MAX, DIALS_PER_PEER_MAX, REDIAL_FIRST_MS, REDIAL_MAX, REDIAL_MIN, RESOLVE_TIMEOUT,
    WARNED_MAX,
};
use super::learned::{Follow, Learned};
use crate::types::address::Host;
use crate::types::limits::ADDRESSES_MAX;
use crate::types::{Address, PeerId};

/// Dials in a row that fail before this node takes itself for one that has to be reached through others.
const MISSED_AFTER: u32 = 3;
/// Peers that are not kept now and of which it is remembered what others have told.
const REMEMBERED_MAX: usize = 256;

/// What a dial is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A peer that is kept, and which dial of it.
    Kept(PeerId, u64),
    /// A `dial` call or a hint, by its number.
    Once(u64),
}

/// Addresses to dial that need no resolving, each with the address that it stands for.
pub(super) type Resolved = Vec<(Address, Address)>;

/// A dial under way.
pub(super) struct Attempt {
    pub(super) target: Target,
    /// Where it leads; for a `dial` call and a hint one address, which stands for itself.
    pub(super) resolved: Resolved,
}

impl Attempt {
    /// The address that a resolved one stands for.
    pub(super) fn named(&self, resolved: &Address) -> Option<Address> {
        self.resolved.iter().find(|(r, _)| r == resolved).map(|(_, address)| address.clone())
    }
}

struct Kept {
    /// Where the roster says that it is.
    addresses: Vec<Address>,
    /// What else was heard of it.
    learned: Learned,
    /// Dials in a row that failed.
    failures: u32,
    doubted: BTreeSet<Address>,
    backoff: Duration,
    generation: u64,
    /// The dials under way, each with the addresses that it is for.
    trying: BTreeMap<u64, Vec<Address>>,
    /// True if there are addresses that no dial could be begun for, as too many were under way.
    again: bool,
}

/// A `dial` call, or a dial of a hint.
struct Once {
    address: Address,
    is_hint: bool,
    /// What that stands for and was not tried yet, the next one first.
    left: VecDeque<Address>,
    /// Tries under way.
    trying: usize,
    /// Why those led nowhere that were tried, each reason once.
    failures: Vec<String>,
}

/// A `dial` call, or a dial of a hint, that has come to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Over {
    pub(super) address: Address,
    pub(super) is_hint: bool,
    /// Why its tries led nowhere.
    pub(super) reason: String,
}

/// See the module.
pub(super) struct Dialer {
    kept: BTreeMap<PeerId, Kept>,
    /// What was learned of peers that are not kept now, oldest first.
    remembered: VecDeque<(PeerId, Learned)>,
    once: HashMap<u64, Once>,
    tickets: u64,
    dials: u64,
    generations: u64,
    attempts: HashMap<ConnectionId, Attempt>,
    warned: HashSet<Address>,
    rng: ChaCha8Rng,
}

impl Dialer {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self {
            kept: BTreeMap::new(),
            remembered: VecDeque::new(),
            once: HashMap::new(),
            tickets: 0,
            dials: 0,
            generations: 0,
            attempts: HashMap::new(),
            warned: HashSet::new(),
            rng: ChaCha8Rng::from_seed(seed),
        }
    }

    /// Keeps a peer at these addresses; true if that is news and it should be dialled at once.
    pub(super) fn keep(&mut self, peer: PeerId, addresses: Vec<Address>) -> bool {
        if self.kept.get(&peer).is_some_and(|kept| kept.addresses == addresses) {
            return false;
        }
        let (learned, trying) = match self.kept.remove(&peer) {
            Some(kept) => (kept.learned, kept.trying),
            None => (self.recall(peer).unwrap_or_default(), BTreeMap::new()),
        };
        self.generations += 1;
        let kept = Kept {
            addresses,
            learned,
            failures: 0,
            doubted: BTreeSet::new(),
            backoff: REDIAL_MIN,
            generation: self.generations,
            trying,
            again: false,
        };
        self.kept.insert(peer, kept);
        true
    }

    /// Takes note of another address of a peer; true if it is news of one that is kept, which
    /// should then be dialled there at once.
    pub(super) fn learn(&mut self, peer: PeerId, address: Address) -> bool {
        if !can_be_dialled(&address) {
            return false;
        }
        match self.kept.get_mut(&peer) {
            Some(kept) if kept.addresses.contains(&address) => false,
            Some(kept) => {
                let is_news = kept.learned.learn(address);
                if is_news {
                    kept.backoff = REDIAL_MIN;
                }
                is_news
            }
            None => {
                self.remember(peer).learn(address);
                false
            }
        }
    }

    /// Takes note of where somebody in the local network claims that a peer is. Says when one that
    /// is kept should be dialled for it.
    pub(super) fn claim(
        &mut self,
        peer: PeerId,
        mut addresses: Vec<Address>,
        now: Instant,
    ) -> Option<Follow> {
        addresses.retain(can_be_dialled);
        let Some(kept) = self.kept.get_mut(&peer) else {
            for address in addresses {
                self.remember(peer).claim(address, |_| false);
            }
            return None;
        };
        let mut is_news = false;
        for address in addresses {
            let is_tried = |at: &Address| kept.trying.values().flatten().any(|tried| tried == at);
            is_news |= !kept.addresses.contains(&address) && kept.learned.claim(address, is_tried);
        }
        let follow = kept.learned.follow(now);
        if is_news && follow == Follow::Now {
            kept.backoff = REDIAL_MIN;
        }
        Some(follow)
    }

    /// A dial of a kept peer has led nowhere.
    pub(super) fn disprove(&mut self, peer: PeerId, attempt: &Attempt) {
        if let Some(kept) = self.kept.get_mut(&peer) {
            kept.learned.disprove(attempt.resolved.iter().map(|(_, address)| address));
        }
    }

    /// True for an address that the roster names for a kept peer.
    pub(super) fn is_of_roster(&self, peer: PeerId, address: &Address) -> bool {
        self.kept.get(&peer).is_some_and(|kept| kept.addresses.contains(address))
    }

    /// Takes note of who holds a place for a peer; true if it is news of one that is kept.
    pub(super) fn learn_relay(&mut self, peer: PeerId, relay: PeerId) -> bool {
        match self.kept.get_mut(&peer) {
            Some(kept) => kept.learned.learn_relay(relay),
            None => {
                self.remember(peer).learn_relay(relay);
                false
            }
        }
    }

    /// What is remembered of a peer that is not kept now, to be added to. Those are forgotten first
    /// of whom no member has told anything, then those that were looked for longest ago.
    fn remember(&mut self, peer: PeerId) -> &mut Learned {
        let learned = self.recall(peer).unwrap_or_default();
        if self.remembered.len() == REMEMBERED_MAX {
            let is_only_claimed = |(_, known): &(PeerId, Learned)| known.is_only_claimed();
            let least = self.remembered.iter().position(is_only_claimed).unwrap_or(0);
            self.remembered.remove(least);
        }
        self.remembered.push_back((peer, learned));
        let last = self.remembered.back_mut().expect("it was added just now");
        &mut last.1
    }

    fn recall(&mut self, peer: PeerId) -> Option<Learned> {
        let at = self.remembered.iter().position(|(known, _)| *known == peer)?;
        self.remembered.remove(at).map(|(_, learned)| learned)
    }

    /// Who holds a place for a kept peer.
    pub(super) fn relays(&self, peer: PeerId) -> impl Iterator<Item = PeerId> + '_ {
        self.kept.get(&peer).into_iter().flat_map(|kept| kept.learned.relays().iter().copied())
    }

    /// Kept peers that could not be dialled several times in a row.
    pub(super) fn missed(&self) -> impl Iterator<Item = PeerId> + '_ {
        let missed = self.kept.iter().filter(|(_, kept)| kept.failures >= MISSED_AFTER);
        missed.map(|(peer, _)| *peer)
    }

    /// All kept peers.
    pub(super) fn kept(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.kept.keys().copied()
    }

    /// The addresses of this machine have changed: whom it could not reach it may reach now.
    pub(super) fn hurry(&mut self) {
        for kept in self.kept.values_mut() {
            kept.backoff = REDIAL_MIN;
        }
    }

    pub(super) fn rng(&mut self) -> &mut ChaCha8Rng {
        &mut self.rng
    }

    /// Keeps a peer no longer. What was learned of it is good when it is wanted again: it may take longer to find out
    /// than anybody waits.
    pub(super) fn release(&mut self, peer: PeerId) {
        let Some(Kept { learned, .. }) = self.kept.remove(&peer) else { return };
        if !learned.is_empty() {
            *self.remember(peer) = learned;
        }
    }

    pub(super) fn keeps(&self, peer: PeerId) -> bool {
        self.kept.contains_key(&peer)
    }

    /// Begins to dial a kept peer wherever it is not being dialled; returns each dial with the
    /// addresses to try. A peer that is only reached through others has a dial without addresses.
    pub(super) fn begin_kept(&mut self, peer: PeerId) -> Vec<(u64, Vec<Address>)> {
        let Some(kept) = self.kept.get_mut(&peer) else { return Vec::new() };
        let is_first = kept.trying.is_empty();
        let all = || kept.addresses.iter().chain(kept.learned.addresses());
        if is_first && all().all(|address| kept.doubted.contains(address)) {
            kept.doubted.clear();
        }
        let is_tried = |address: &Address| kept.trying.values().flatten().any(|at| at == address);
        let wanted = |address: &&Address| !kept.doubted.contains(*address) && !is_tried(address);
        // Literal addresses need not wait until names are resolved.
        let (names, literals): (Vec<Address>, Vec<Address>) = (all().filter(wanted).cloned())
            .partition(|address| matches!(address.host, Host::Dns(_)));
        let mut begun = Vec::new();
        for addresses in [literals, names].into_iter().filter(|addresses| !addresses.is_empty()) {
            if kept.trying.len() >= DIALS_PER_PEER_MAX {
                kept.again = true;
                continue;
            }
            self.dials += 1;
            kept.trying.insert(self.dials, addresses.clone());
            begun.push((self.dials, addresses));
        }
        if is_first && begun.is_empty() && !kept.learned.relays().is_empty() {
            self.dials += 1;
            kept.trying.insert(self.dials, Vec::new());
            begun.push((self.dials, Vec::new()));
        }
        begun
    }

    /// True for the dial of a kept peer that was begun first of those under way.
    pub(super) fn is_first(&self, peer: PeerId, dial: u64) -> bool {
        let kept = self.kept.get(&peer);
        kept.and_then(|kept| kept.trying.keys().next()).is_some_and(|first| *first == dial)
    }

    /// True while a kept peer is being dialled.
    pub(super) fn is_dialling(&self, peer: PeerId) -> bool {
        self.kept.get(&peer).is_some_and(|kept| !kept.trying.is_empty())
    }

    /// Begins a `dial` call, or a dial of a hint; none if too many are under way.
    pub(super) fn begin_once(&mut self, address: Address, is_hint: bool) -> Option<u64> {
        if self.once.len() >= DIALS_MAX {
            return None;
        }
        self.tickets += 1;
        let (left, failures) = (VecDeque::new(), Vec::new());
        let once = Once { address, is_hint, left, trying: 0, failures };
        self.once.insert(self.tickets, once);
        Some(self.tickets)
    }

    /// Takes note of what the address of a `dial` call stands for, in the order in which that is to be tried.
    pub(super) fn resolve_once(&mut self, ticket: u64, resolved: &[(Address, Address)]) {
        let Some(once) = self.once.get_mut(&ticket) else { return };
        for (literal, _) in resolved {
            if !once.left.contains(literal) {
                once.left.push_back(literal.clone());
            }
        }
    }

    /// Where a `dial` call is to be tried next.
    pub(super) fn next_once(&mut self, ticket: u64) -> Option<Address> {
        self.once.get_mut(&ticket)?.left.pop_front()
    }

    /// True if there is another address to try for a `dial` call.
    pub(super) fn has_more(&self, ticket: u64) -> bool {
        self.once.get(&ticket).is_some_and(|once| !once.left.is_empty())
    }

    /// True while a try of a `dial` call is under way.
    pub(super) fn is_trying(&self, ticket: u64) -> bool {
        self.once.get(&ticket).is_some_and(|once| once.trying > 0)
    }

    /// Takes note of why one try of a `dial` call led nowhere.
    pub(super) fn fail_once(&mut self, ticket: u64, reason: String) {
        if let Some(once) = self.once.get_mut(&ticket)
            && !once.failures.contains(&reason)
        {
            once.failures.push(reason);
        }
    }

    /// True for a dial of a hint.
    pub(super) fn is_hint(&self, ticket: u64) -> bool {
        self.once.get(&ticket).is_some_and(|once| once.is_hint)
    }

    /// Ends a `dial` call of which every try has failed, or a dial of a hint; returns it the first
    /// time.
    pub(super) fn give_up_once(&mut self, ticket: u64) -> Option<Over> {
        let Once { address, is_hint, failures, .. } = self.once.remove(&ticket)?;
        Some(Over { address, is_hint, reason: failures.join("; ") })
    }

    /// Ends a `dial` call; returns its address the first time.
    pub(super) fn end_once(&mut self, ticket: u64) -> Option<Address> {
        self.once.remove(&ticket).map(|once| once.address)
    }

    /// Ends all `dial` calls, and all dials of hints; returns the addresses of the calls.
    pub(super) fn end_all(&mut self) -> Vec<Address> {
        let calls = self.once.drain().filter(|(_, once)| !once.is_hint);
        calls.map(|(_, once)| once.address).collect()
    }

    /// Notes a dial under way.
    pub(super) fn begin(&mut self, connection: ConnectionId, attempt: Attempt) {
        if let Target::Once(ticket) = attempt.target
            && let Some(once) = self.once.get_mut(&ticket)
        {
            once.trying += 1;
        }
        self.attempts.insert(connection, attempt);
    }

    /// Takes the dial that became, or failed to become, this connection.
    pub(super) fn end(&mut self, connection: ConnectionId) -> Option<Attempt> {
        let attempt = self.attempts.remove(&connection)?;
        self.end_kept(&attempt.target);
        if let Target::Once(ticket) = attempt.target
            && let Some(once) = self.once.get_mut(&ticket)
        {
            once.trying = once.trying.saturating_sub(1);
        }
        Some(attempt)
    }

    /// Notes that this dial of a kept peer is over.
    pub(super) fn end_kept(&mut self, target: &Target) {
        if let Target::Kept(peer, dial) = target
            && let Some(kept) = self.kept.get_mut(peer)
        {
            kept.trying.remove(dial);
        }
    }

    /// Leaves an address out of the next dials of a peer.
    pub(super) fn doubt(&mut self, peer: PeerId, address: Address) {
        if let Some(Kept { addresses, learned, doubted, .. }) = self.kept.get_mut(&peer) {
            doubted.insert(address);
            // What is forgotten meanwhile need not be doubted any more, and would pile up.
            doubted.retain(|at| addresses.contains(at) || learned.addresses().any(|l| l == at));
        }
    }

    /// When to dial a kept peer next, and the generation of that dial; `stable` says that the last
    /// connection was a good one.
    pub(super) fn again(&mut self, peer: PeerId, stable: bool) -> Option<(Duration, u64)> {
        let kept = self.kept.get_mut(&peer)?;
        self.generations += 1;
        kept.generation = self.generations;
        kept.failures = if stable { 0 } else { kept.failures.saturating_add(1) };
        let delay = if stable {
            kept.backoff = REDIAL_MIN;
            Duration::from_millis(self.rng.random_range(REDIAL_FIRST_MS))
        } else {
            // Jitter over the upper half, so that two nodes that lost each other do not stay in step.
            let step = kept.backoff;
            kept.backoff = (step * 2).min(REDIAL_MAX);
            step.mul_f64(self.rng.random_range(0.5..1.0))
        };
        Some((delay, kept.generation))
    }

    /// True, once, if there were addresses that no dial could be begun for.
    pub(super) fn take_again(&mut self, peer: PeerId) -> bool {
        self.kept.get_mut(&peer).is_some_and(|kept| std::mem::take(&mut kept.again))
    }

    /// The generation of a dial that nothing has failed for.
    pub(super) fn later(&mut self, peer: PeerId) -> Option<u64> {
        let kept = self.kept.get_mut(&peer)?;
        self.generations += 1;
        kept.generation = self.generations;
        Some(kept.generation)
    }

    /// True if the dial of this generation is still the one that is waited for.
    pub(super) fn is_current(&self, peer: PeerId, generation: u64) -> bool {
        self.kept.get(&peer).is_some_and(|kept| kept.generation == generation)
    }

    /// True the first time for each address.
    pub(super) fn warn_once(&mut self, address: &Address) -> bool {
        if self.warned.len() >= WARNED_MAX {
            self.warned.clear();
        }
        self.warned.insert(address.clone())
    }
}

/// Addresses that need no resolving; none if one of them does.
pub(super) fn literals(addresses: &[Address]) -> Option<Resolved> {
    let literal = |address: &Address| address.socket().map(|_| (address.clone(), address.clone()));
    addresses.iter().map(literal).collect()
}

/// Resolves addresses, all at the same time; fails if nothing comes of any of them.
pub(super) async fn resolve(addresses: Vec<Address>) -> Result<Resolved, String> {
    let mut resolved = Resolved::new();
    let mut failure = "there is no address to dial".to_owned();
    for outcome in join_all(addresses.into_iter().map(resolve_one)).await {
        match outcome {
            Ok(found) => resolved.extend(found),
            Err(reason) => failure = reason,
        }
    }
    if resolved.is_empty() { Err(failure) } else { Ok(resolved) }
}

async fn resolve_one(address: Address) -> Result<Resolved, String> {
    let Host::Dns(name) = &address.host else {
        return Ok(vec![(address.clone(), address)]);
    };
    match timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((name.as_str(), address.port))).await {
        Ok(Ok(found)) => {
            let literal = |socket| Address::new(socket, address.transport);
            Ok(found.take(ADDRESSES_MAX).map(|s| (literal(s), address.clone())).collect())
        }
        Ok(Err(error)) => Err(format!("the name {name} was not resolved: {error}")),
        Err(_) => Err(format!("the name {name} was not resolved in time")),
    }
}

/// False for an address that is of no use elsewhere: one of IPv6 that needs the name of an
/// interface beside it.
pub(super) fn can_be_dialled(address: &Address) -> bool {
    let is_local = matches!(&address.host, Host::Ip(IpAddr::V6(ip)) if ip.is_unicast_link_local());
    !is_local && !address.is_unspecified()
}

/// Says in words why a dial failed.
pub(super) fn explain(error: &DialError) -> String {
    match error {
        DialError::LocalPeerId { .. } | DialError::NoAddresses => {
            "the address is this node's own".to_owned()
        }
        DialError::WrongPeerId { obtained, .. } => {
            format!("another node answers at this address: {obtained}")
        }
        DialError::Denied { cause } => innermost(cause),
        DialError::Transport(errors) => match errors.first() {
            Some((_, TransportError::Other(error))) => innermost(error),
            Some((_, TransportError::MultiaddrNotSupported(_))) => {
                "the address cannot be dialled".to_owned()
            }
            None => "nobody answered".to_owned(),
        },
        DialError::DialPeerConditionFalse(_) | DialError::Aborted => {
            "the dial was given up".to_owned()
        }
    }
}

/// The text of the innermost cause: what wraps it only repeats it.
fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::bounds::{CLAIM_HURRIES_MAX, CLAIM_INTERVAL, CLAIMED_MAX, LEARNED_MAX};
    use super::*;

    fn address(port: u16) -> Address {
        Address::from_socket(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    fn only(mut begun: Vec<(u64, Vec<Address>)>) -> (u64, Vec<Address>) {
        assert_eq!(begun.len(), 1, "{begun:?}");
        begun.remove(0)
    }

    #[test]
    fn the_backoff_grows_to_its_limit_and_starts_again_after_a_good_connection() {
        let (mut dialer, peer) = (Dialer::new([1; 32]), PeerId([1; 32]));
        assert!(dialer.keep(peer, vec![address(1)]));
        assert!(!dialer.keep(peer, vec![address(1)]));
        let mut step = REDIAL_MIN;
        for _ in 0..12 {
            let (delay, generation) = dialer.again(peer, false).unwrap();
            assert!(delay >= step / 2 && delay <= step, "{delay:?} for {step:?}");
            assert!(dialer.is_current(peer, generation));
            step = (step * 2).min(REDIAL_MAX);
        }
        assert!(dialer.again(peer, true).unwrap().0 < Duration::from_millis(50));
        assert!(dialer.again(peer, false).unwrap().0 <= REDIAL_MIN);
    }

    #[test]
    fn a_name_is_tried_at_each_of_its_addresses_and_fails_once() {
        let mut dialer = Dialer::new([1; 32]);
        let name: Address = "boot.example:4001".parse().unwrap();
        let ticket = dialer.begin_once(name.clone(), false).unwrap();
        assert_eq!(dialer.next_once(ticket), None, "it is not resolved yet");
        let resolved = [3, 1, 3, 2].map(|port| (address(port), name.clone()));
        dialer.resolve_once(ticket, &resolved);
        for port in [3, 1, 2] {
            assert_eq!(dialer.next_once(ticket), Some(address(port)), "in the order given");
            let reason = if port == 1 { "no route" } else { "connection refused" };
            dialer.fail_once(ticket, reason.to_owned());
        }
        assert_eq!(dialer.next_once(ticket), None);
        let reason = "connection refused; no route".to_owned();
        let over = Over { address: name.clone(), is_hint: false, reason };
        assert_eq!(dialer.give_up_once(ticket), Some(over));
        assert_eq!(dialer.give_up_once(ticket), None, "there is one answer");
        // One that has led to a node is not tried further.
        let ticket = dialer.begin_once(name.clone(), false).unwrap();
        dialer.resolve_once(ticket, &resolved);
        assert_eq!(dialer.next_once(ticket), Some(address(3)));
        assert_eq!(dialer.end_once(ticket), Some(name.clone()));
        assert_eq!(dialer.next_once(ticket), None);
        assert!(dialer.end_all().is_empty());
        // Several may be under way: it ends with the last one.
        let ticket = dialer.begin_once(name.clone(), false).unwrap();
        dialer.resolve_once(ticket, &resolved[..2]);
        for (id, port) in [(1, 3), (2, 1)] {
            assert!(dialer.has_more(ticket));
            assert_eq!(dialer.next_once(ticket), Some(address(port)));
            let resolved = vec![(address(port), address(port))];
            let attempt = Attempt { target: Target::Once(ticket), resolved };
            dialer.begin(ConnectionId::new_unchecked(id), attempt);
        }
        assert!(!dialer.has_more(ticket) && dialer.is_trying(ticket));
        assert!(dialer.end(ConnectionId::new_unchecked(1)).is_some());
        assert!(dialer.is_trying(ticket), "the other one may lead somewhere");
        assert!(dialer.end(ConnectionId::new_unchecked(2)).is_some());
        assert!(!dialer.is_trying(ticket));
        assert!(dialer.give_up_once(ticket).is_some());
        // Nobody waits for what becomes of a hint.
        let ticket = dialer.begin_once(address(1), true).unwrap();
        assert!(dialer.is_hint(ticket));
        assert!(dialer.end_all().is_empty());
    }

    #[test]
    fn what_others_tell_is_tried_too_and_bounded() {
        let (mut dialer, peer) = (Dialer::new([1; 32]), PeerId([1; 32]));
        assert!(!dialer.learn(PeerId([9; 32]), address(9)), "nobody looks for it");
        dialer.keep(peer, vec![address(1)]);
        assert!(!dialer.learn(peer, address(1)), "it is known");
        for port in 2..20 {
            assert!(dialer.learn(peer, address(port)));
        }
        let (dial, tried) = only(dialer.begin_kept(peer));
        assert_eq!(tried.len(), 1 + LEARNED_MAX);
        assert!(tried.contains(&address(1)) && tried.contains(&address(19)));
        dialer.end_kept(&Target::Kept(peer, dial));
        dialer.keep(peer, vec![address(30)]);
        assert_eq!(only(dialer.begin_kept(peer)).1.len(), 1 + LEARNED_MAX, "also kept anew");
        for _ in 0..MISSED_AFTER {
            assert_eq!(dialer.missed().next(), None);
            dialer.again(peer, false);
        }
        assert_eq!(dialer.missed().next(), Some(peer));
        dialer.again(peer, true);
        assert_eq!(dialer.missed().next(), None);
    }

    #[test]
    fn who_holds_a_place_for_a_peer_is_remembered_and_bounded() {
        let (mut dialer, peer) = (Dialer::new([1; 32]), PeerId([1; 32]));
        assert!(!dialer.learn_relay(PeerId([3; 32]), PeerId([9; 32])), "nobody looks for it");
        dialer.keep(peer, Vec::new());
        assert!(dialer.begin_kept(peer).is_empty(), "there is no way to it");
        assert!((2..9).all(|relay| dialer.learn_relay(peer, PeerId([relay; 32]))));
        assert!(!dialer.learn_relay(peer, PeerId([8; 32])), "it is known");
        let last: Vec<PeerId> = (5..9).map(|relay| PeerId([relay; 32])).collect();
        assert_eq!(dialer.relays(peer).collect::<Vec<_>>(), last);
        assert!(only(dialer.begin_kept(peer)).1.is_empty(), "but there are circuits");
        assert!(dialer.begin_kept(peer).is_empty(), "which are being opened");
    }

    #[test]
    fn what_was_learned_of_a_peer_is_good_when_it_is_wanted_again() {
        let mut dialer = Dialer::new([1; 32]);
        let (peer, relay) = (PeerId([1; 32]), PeerId([2; 32]));
        dialer.keep(peer, vec![address(1)]);
        assert!(dialer.learn_relay(peer, relay));
        dialer.release(peer);
        assert!(!dialer.learn(peer, address(2)), "nobody waits for it now");
        dialer.keep(peer, vec![address(1)]);
        assert_eq!(dialer.relays(peer).collect::<Vec<_>>(), [relay]);
        assert_eq!(only(dialer.begin_kept(peer)).1, [address(1), address(2)]);
        for other in 0..2 * u16::try_from(REMEMBERED_MAX).unwrap() {
            let mut key = [9; 32];
            key[..2].copy_from_slice(&other.to_be_bytes());
            dialer.learn_relay(PeerId(key), relay);
        }
        assert_eq!(dialer.remembered.len(), REMEMBERED_MAX);
    }

    #[test]
    fn a_doubted_address_is_left_out_until_all_are_doubted() {
        let (mut dialer, peer) = (Dialer::new([1; 32]), PeerId([1; 32]));
        dialer.keep(peer, vec![address(1), address(2)]);
        dialer.doubt(peer, address(1));
        let (dial, addresses) = only(dialer.begin_kept(peer));
        assert_eq!(addresses, [address(2)]);
        assert!(dialer.begin_kept(peer).is_empty());
        dialer.end_kept(&Target::Kept(peer, dial));
        dialer.doubt(peer, address(2));
        assert_eq!(only(dialer.begin_kept(peer)).1, [address(1), address(2)]);
    }

    #[test]
    fn what_is_heard_while_a_peer_is_dialled_is_dialled_beside_that() {
        let (mut dialer, peer) = (Dialer::new([1; 32]), PeerId([1; 32]));
        let name: Address = "moved.example:4001".parse().unwrap();
        dialer.keep(peer, vec![address(1), name.clone()]);
        let begun = dialer.begin_kept(peer);
        let [(first, literals), (_, names)] = &begun[..] else { panic!("{begun:?}") };
        assert_eq!((&literals[..], &names[..]), (&[address(1)][..], &[name][..]));
        assert!(dialer.is_first(peer, *first));
        assert!(dialer.learn(peer, address(2)));
        assert_eq!(only(dialer.begin_kept(peer)).1, [address(2)]);
        // Its place in the roster, too.
        dialer.keep(peer, vec![address(3)]);
        assert_eq!(only(dialer.begin_kept(peer)).1, [address(3)]);
        assert!(dialer.learn(peer, address(4)));
        assert!(dialer.begin_kept(peer).is_empty(), "too many are under way");
        dialer.end_kept(&Target::Kept(peer, *first));
        assert!(!dialer.is_first(peer, *first) && dialer.is_dialling(peer));
        assert!(dialer.take_again(peer) && !dialer.take_again(peer));
        assert_eq!(only(dialer.begin_kept(peer)).1, [address(4)]);
    }

    #[test]
    fn news_shorten_the_backoff() {
        let (mut dialer, peer) = (Dialer::new([1; 32]), PeerId([1; 32]));
        dialer.keep(peer, vec![address(1)]);
        let fail_often = |dialer: &mut Dialer| {
            for _ in 0..8 {
                dialer.again(peer, false);
            }
        };
        fail_often(&mut dialer);
        assert!(dialer.learn(peer, address(2)));
        assert!(dialer.again(peer, false).unwrap().0 <= REDIAL_MIN);
        fail_often(&mut dialer);
        assert!(!dialer.learn(peer, address(2)), "it is known");
        assert!(dialer.again(peer, false).unwrap().0 > REDIAL_MIN);
        dialer.hurry();
        assert!(dialer.again(peer, false).unwrap().0 <= REDIAL_MIN);
    }

    #[tokio::test(start_paused = true)]
    async fn claims_push_out_nothing_that_is_true_and_shorten_the_backoff_only_so_often() {
        let (mut dialer, peer) = (Dialer::new([1; 32]), PeerId([1; 32]));
        let mut now = Instant::now();
        dialer.keep(peer, vec![address(1)]);
        assert!(dialer.learn(peer, address(2)), "it says so itself");
        assert_eq!(dialer.claim(peer, vec![address(3)], now), Some(Follow::Now));
        dialer.learn(peer, address(3));
        let mut at_once = 1;
        for port in 100..100 + 2 * CLAIMED_MAX as u16 {
            let follow = dialer.claim(peer, vec![address(port)], now);
            at_once += usize::from(follow == Some(Follow::Now));
            dialer.again(peer, false);
        }
        assert_eq!(at_once, CLAIM_HURRIES_MAX);
        assert!(dialer.again(peer, false).unwrap().0 > REDIAL_MIN);
        for port in 0..1_000 {
            dialer.doubt(peer, address(port));
        }
        assert_eq!(dialer.kept[&peer].doubted.len(), 3 + CLAIMED_MAX, "no others are remembered");
        let (_, tried) = only(dialer.begin_kept(peer));
        assert!([1, 2, 3].iter().all(|port| tried.contains(&address(*port))));
        assert_eq!(tried.len(), 3 + CLAIMED_MAX);
        assert!([1, 2].map(|port| dialer.is_of_roster(peer, &address(port))) == [true, false]);
        now += CLAIM_INTERVAL;
        assert_eq!(dialer.claim(peer, vec![address(4)], now), Some(Follow::Now));
        assert!(dialer.again(peer, false).unwrap().0 <= REDIAL_MIN);
    }

    #[test]
    fn claims_of_many_peers_push_out_nothing_that_members_have_told() {
        let (mut dialer, peer) = (Dialer::new([1; 32]), PeerId([1; 32]));
        assert!(!dialer.learn(peer, address(2)), "nobody looks for it now");
        for other in 0..2 * u16::try_from(REMEMBERED_MAX).unwrap() {
            let mut key = [9; 32];
            key[..2].copy_from_slice(&other.to_be_bytes());
            assert_eq!(dialer.claim(PeerId(key), vec![address(1)], Instant::now()), None);
        }
        assert_eq!(dialer.remembered.len(), REMEMBERED_MAX);
        dialer.keep(peer, Vec::new());
        assert_eq!(only(dialer.begin_kept(peer)).1, [address(2)]);
    }

    #[test]
    fn addresses_that_are_good_on_one_interface_alone_are_not_taken() {
        let (mut dialer, peer) = (Dialer::new([1; 32]), PeerId([1; 32]));
        dialer.keep(peer, Vec::new());
        assert!(!dialer.learn(peer, "[fe80::1]:4001".parse().unwrap()));
        assert!(!dialer.learn(peer, "[::]:4001".parse().unwrap()));
        assert!(dialer.learn(peer, "[fd00::1]:4001".parse().unwrap()));
    }
}
