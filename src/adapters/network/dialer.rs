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

    /// Takes note of where somebody in the local network claims that a peer is; true if that is news
    /// of one that is kept.
    pub(super) fn claim(&mut self, peer: PeerId, mut addresses: Vec<Address>) -> bool {
        addresses.retain(can_be_dialled);
        let Some(kept) = self.kept.get_mut(&peer) else {
            for address in addresses {
                self.remember(peer).claim(address, |_| false);
            }
            return false;
        };
        let mut is_news = false;
        for address in addresses {
            let is_tried = |at: &Address| kept.trying.values().flatten().any(|tried| tried == at);
            is_news |= !kept.addresses.contains(&address) && kept.learned.claim(address, is_tried);
        }
        is_news
    }

    /// When a kept peer, of which something was claimed now, is to be dialled for that.
    pub(super) fn follow(&mut self, peer: PeerId, is_news: bool, now: Instant) -> Option<Follow> {
        let kept = self.kept.get_mut(&peer)?;
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

    /// Where a kept peer may be.
    pub(super) fn addresses(&self, peer: PeerId) -> impl Iterator<Item = &Address> + '_ {
        let kept = self.kept.get(&peer).into_iter();
        kept.flat_map(|kept| kept.addresses.iter().chain(kept.learned.addresses()))
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
pub(super) fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests;
