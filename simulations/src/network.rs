//! The network between the simulated nodes.
//!
//! A connection stands while both ends live, one of them wants it, and each knows the other. A cut
//! link is silence, not the end of the connection; a crash of one end is noticed by the other
//! after a while. Frames have a latency of their own each, so they overtake each other; they get
//! lost and doubled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use bzzz::messages::wire::Message;
use bzzz::messages::{GossipId, Lane, Topic, Verdict};
use bzzz::ports::network::SendError;
use bzzz::ports::{Network, NetworkEvent, Sink};
use bzzz::types::address::Host;
use bzzz::types::{Address, Level, Lock, PeerId};

use crate::heap::Heap;
use crate::rng::Stream;
use crate::trace::Trace;

/// How long a node waits before it dials again, at least: first after a loss, then after a dial in
/// vain. The real adapter waits as long.
const REDIAL_FIRST: Duration = Duration::from_millis(20);
const REDIAL: Duration = Duration::from_millis(200);

/// Connected peers that a message of the mesh is passed on to.
const PASSED_ON_TO: usize = 2;

/// How frames fare.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Frames lost, in a thousand.
    pub loss_permille: u64,
    /// Frames that arrive twice, in a thousand.
    pub duplicate_permille: u64,
    /// Least latency in microseconds.
    pub latency_us: u64,
    /// Mean of what comes on top, exponentially.
    pub jitter_us: u64,
    /// Frames that are delayed by up to a second, in a thousand.
    pub stall_permille: u64,
}

impl Weather {
    /// A quiet local network.
    pub const FAIR: Weather = Weather {
        loss_permille: 0,
        duplicate_permille: 1,
        latency_us: 200,
        jitter_us: 300,
        stall_permille: 0,
    };
}

struct Endpoint {
    node: usize,
    incarnation: u64,
    sink: Option<Sink<NetworkEvent>>,
    admitted: BTreeSet<PeerId>,
    kept: BTreeSet<PeerId>,
    /// Peers, and which incarnation of each.
    connected: BTreeMap<PeerId, u64>,
    /// Messages of the mesh that were seen.
    seen: BTreeSet<GossipId>,
    /// Those that wait for a verdict, and from whom they came.
    unjudged: BTreeMap<GossipId, (PeerId, Topic, Vec<u8>)>,
}

struct Inner {
    endpoints: BTreeMap<PeerId, Endpoint>,
    /// `(from, to)` pairs that carry nothing.
    cut: BTreeSet<(usize, usize)>,
    /// `(from, to)` pairs on which every frame takes so much longer.
    slow: BTreeMap<(usize, usize), Duration>,
    weather: Weather,
    incarnations: u64,
}

impl Inner {
    fn slowness(&self, from: usize, to: usize) -> Duration {
        self.slow.get(&(from, to)).copied().unwrap_or_default()
    }
}

/// All links and who is at their ends.
#[derive(Clone)]
pub struct Wires {
    heap: Heap,
    rng: Stream,
    trace: Trace,
    watch: Arc<OnceLock<Watch>>,
    admitted: Arc<OnceLock<Admitted>>,
    inner: Arc<Mutex<Inner>>,
}

/// Is shown what every node says on the control lane.
pub type Watch = Box<dyn Fn(usize, &Message) + Send + Sync>;

/// Is told of whom the roster has changed.
pub type Admitted = Box<dyn Fn(PeerId) + Send + Sync>;

/// One incarnation's network.
pub struct SimNetwork {
    wires: Wires,
    own: PeerId,
    incarnation: u64,
}

/// The address of a node: each has an IP of its own.
pub fn address_of(node: usize) -> Address {
    format!("10.0.0.{}:4001", node + 1).parse().expect("a well-formed address")
}

fn node_at(address: &Address) -> Option<usize> {
    match &address.host {
        Host::Ip(std::net::IpAddr::V4(ip)) => usize::from(ip.octets()[3]).checked_sub(1),
        _ => None,
    }
}

impl Wires {
    /// Links in fair weather, with nobody at their ends.
    pub fn new(heap: Heap, rng: Stream, trace: Trace) -> Self {
        let inner = Inner {
            endpoints: BTreeMap::new(),
            cut: BTreeSet::new(),
            slow: BTreeMap::new(),
            weather: Weather::FAIR,
            incarnations: 0,
        };
        Self {
            heap,
            rng,
            trace,
            watch: Arc::default(),
            admitted: Arc::default(),
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.locked()
    }

    /// From now on `watch` sees what nodes say, whether or not it arrives.
    pub fn watch(&self, watch: Watch) {
        // The world does so once, when it is made.
        let _ = self.watch.set(watch);
    }

    /// From now on `admitted` is told of changes of rosters.
    pub fn on_admitted(&self, admitted: Admitted) {
        // The world does so once, when it is made.
        let _ = self.admitted.set(admitted);
    }

    /// Which node a peer is, and which incarnation, while it is plugged in.
    pub fn end_of(&self, peer: PeerId) -> Option<(usize, u64)> {
        self.lock().endpoints.get(&peer).map(|endpoint| (endpoint.node, endpoint.incarnation))
    }

    /// True if one peer has another one in its roster.
    pub fn admits(&self, at: PeerId, peer: PeerId) -> bool {
        self.lock().endpoints.get(&at).is_some_and(|endpoint| endpoint.admitted.contains(&peer))
    }

    /// How packets fare from one node to another, and how much longer each takes.
    pub fn delay(&self, from: usize, to: usize) -> (Weather, Duration) {
        let inner = self.lock();
        (inner.weather, inner.slowness(from, to))
    }

    /// Plugs in an incarnation of a node.
    pub fn plug(&self, node: usize, own: PeerId) -> Arc<SimNetwork> {
        let mut inner = self.lock();
        inner.incarnations += 1;
        let incarnation = inner.incarnations;
        let endpoint = Endpoint {
            node,
            incarnation,
            sink: None,
            admitted: BTreeSet::new(),
            kept: BTreeSet::new(),
            connected: BTreeMap::new(),
            seen: BTreeSet::new(),
            unjudged: BTreeMap::new(),
        };
        inner.endpoints.insert(own, endpoint);
        drop(inner);
        Arc::new(SimNetwork { wires: self.clone(), own, incarnation })
    }

    /// A node is gone; the others notice by and by.
    pub fn unplug(&self, own: PeerId) {
        let Some(gone) = self.lock().endpoints.remove(&own) else { return };
        for peer in gone.connected.into_keys() {
            let wires = self.clone();
            let wait = self.rng.micros(200, 20_000);
            self.heap.schedule(wait, move || wires.disconnect(peer, own, gone.incarnation));
        }
    }

    /// Nobody is at any end any more.
    pub fn clear(&self) {
        let endpoints = std::mem::take(&mut self.lock().endpoints);
        drop(endpoints);
    }

    /// Cuts and mends links; `cut` names the `(from, to)` pairs that carry nothing.
    pub fn set_cut(&self, cut: BTreeSet<(usize, usize)>) {
        self.lock().cut = cut;
    }

    /// Makes links slow, and all others as good as the weather.
    pub fn set_slow(&self, slow: BTreeMap<(usize, usize), Duration>) {
        self.lock().slow = slow;
    }

    /// Changes how frames fare.
    pub fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
    }

    /// True if frames pass from one node to the other.
    pub fn carries(&self, from: usize, to: usize) -> bool {
        !self.lock().cut.contains(&(from, to))
    }

    /// Connections of the node that has the most.
    pub fn most_connections(&self) -> usize {
        self.lock().endpoints.values().map(|endpoint| endpoint.connected.len()).max().unwrap_or(0)
    }

    /// Ends the connection at one end, if it still is the one to this incarnation.
    fn disconnect(&self, at: PeerId, from: PeerId, incarnation: u64) {
        let mut inner = self.lock();
        let Some(endpoint) = inner.endpoints.get_mut(&at) else { return };
        if endpoint.connected.get(&from) == Some(&incarnation) {
            endpoint.connected.remove(&from);
            let sink = endpoint.sink.clone();
            let wanted = endpoint.kept.contains(&from);
            drop(inner);
            if let Some(sink) = sink {
                sink(NetworkEvent::Down { peer: from });
            }
            if wanted {
                self.connect_later(at, from, REDIAL_FIRST);
            }
        }
    }

    fn connect_later(&self, at: PeerId, to: PeerId, least: Duration) {
        let wires = self.clone();
        let wait = least + self.rng.micros(0, least.as_micros() as u64);
        self.heap.schedule(wait, move || wires.connect(at, to, None));
    }

    /// Tries to connect. Succeeds if both live and frames pass both ways.
    fn connect(&self, from: PeerId, to: PeerId, dialled: Option<Address>) {
        let mut inner = self.lock();
        let Some(dialler) = inner.endpoints.get(&from) else { return };
        let wanted = dialler.kept.contains(&to) || dialled.is_some();
        let a = dialler.node;
        if !wanted || dialler.connected.contains_key(&to) {
            return;
        }
        let b =
            inner.endpoints.get(&to).filter(|other| other.sink.is_some()).map(|other| other.node);
        let passes =
            b.is_some_and(|b| !inner.cut.contains(&(a, b)) && !inner.cut.contains(&(b, a)));
        if !passes {
            drop(inner);
            if dialled.is_none() {
                self.connect_later(from, to, REDIAL);
            }
            return;
        }
        let mut news = Vec::new();
        for (own, peer, dialled) in [(from, to, dialled), (to, from, None)] {
            let incarnation = inner.endpoints.get(&peer).map(|other| other.incarnation);
            let Some((incarnation, endpoint)) = incarnation.zip(inner.endpoints.get_mut(&own))
            else {
                continue;
            };
            let before = endpoint.connected.insert(peer, incarnation);
            let Some(sink) = endpoint.sink.clone().filter(|_| before != Some(incarnation)) else {
                continue;
            };
            // A peer that was off and is on again takes the place of what it was before.
            if before.is_some() {
                news.push((sink.clone(), NetworkEvent::Down { peer }));
            }
            news.push((sink, NetworkEvent::Up { peer, dialled }));
        }
        drop(inner);
        for (sink, event) in news {
            sink(event);
        }
    }

    fn send(
        &self,
        from: PeerId,
        incarnation: u64,
        to: PeerId,
        lane: Lane,
        bytes: Vec<u8>,
    ) -> Result<(), SendError> {
        let inner = self.lock();
        let sender = inner.endpoints.get(&from).filter(|sender| sender.incarnation == incarnation);
        let sender = sender
            .filter(|sender| sender.connected.contains_key(&to))
            .ok_or(SendError::NotConnected)?;
        let a = sender.node;
        let receiver = inner.endpoints.get(&to);
        let Some((b, target)) = receiver.map(|receiver| (receiver.node, receiver.incarnation))
        else {
            return Ok(());
        };
        let (weather, slowness) = (inner.weather, inner.slowness(a, b));
        let cut = inner.cut.contains(&(a, b));
        drop(inner);
        if let (Lane::Control, Some(watch)) = (lane, self.watch.get())
            && let Ok(message) = Message::decode(&bytes, Level::NEWEST)
        {
            watch(a, &message);
        }
        let copies = if cut || self.rng.chance(weather.loss_permille) {
            0
        } else {
            1 + u64::from(self.rng.chance(weather.duplicate_permille))
        };
        self.trace.step(lane.name(), a, b, bytes.len() as u64 | copies << 32);
        for _ in 0..copies {
            let mut latency =
                Duration::from_micros(weather.latency_us) + self.rng.exponential(weather.jitter_us);
            latency += slowness;
            if self.rng.chance(weather.stall_permille) {
                latency += self.rng.micros(50_000, 1_000_000);
            }
            let (wires, bytes) = (self.clone(), bytes.clone());
            self.heap.schedule(latency, move || wires.deliver(from, (to, target), lane, bytes));
        }
        Ok(())
    }

    fn deliver(&self, from: PeerId, (to, incarnation): (PeerId, u64), lane: Lane, bytes: Vec<u8>) {
        // What had left before the link was cut still arrives.
        let inner = self.lock();
        let receiver =
            inner.endpoints.get(&to).filter(|receiver| receiver.incarnation == incarnation);
        let Some(receiver) = receiver else { return };
        let welcome = lane == Lane::Join || receiver.admitted.contains(&from);
        let sink =
            receiver.sink.clone().filter(|_| welcome && receiver.connected.contains_key(&from));
        drop(inner);
        if let Some(sink) = sink {
            sink(NetworkEvent::Frame { from, lane, bytes });
        }
    }
}

/// Gossip: whoever publishes tells all it is connected with, whoever accepts tells some of them again.
impl Wires {
    fn gossip(&self, from: PeerId, except: Option<PeerId>, topic: Topic, bytes: &[u8]) {
        let id = GossipId(*blake3::hash(bytes).as_bytes());
        let inner = self.lock();
        let (weather, Some(sender)) = (inner.weather, inner.endpoints.get(&from)) else { return };
        let a = sender.node;
        let mut to: Vec<PeerId> =
            sender.connected.keys().copied().filter(|peer| Some(*peer) != except).collect();
        if except.is_some() {
            while to.len() > PASSED_ON_TO {
                to.swap_remove(self.rng.pick(to.len()));
            }
        }
        let targets: Vec<(PeerId, usize, u64, bool)> = to
            .iter()
            .filter_map(|peer| inner.endpoints.get(peer).map(|endpoint| (peer, endpoint)))
            .map(|(peer, e)| (*peer, e.node, e.incarnation, inner.cut.contains(&(a, e.node))))
            .collect();
        drop(inner);
        for (to, b, incarnation, cut) in targets {
            if cut || self.rng.chance(weather.loss_permille) {
                continue;
            }
            self.trace.step("gossip", a, b, bytes.len() as u64);
            let latency =
                Duration::from_micros(weather.latency_us) + self.rng.exponential(weather.jitter_us);
            let (wires, bytes) = (self.clone(), bytes.to_vec());
            self.heap
                .schedule(latency, move || wires.hear(from, (to, incarnation), id, topic, bytes));
        }
    }

    fn hear(
        &self,
        via: PeerId,
        (to, incarnation): (PeerId, u64),
        id: GossipId,
        topic: Topic,
        bytes: Vec<u8>,
    ) {
        let mut inner = self.lock();
        let receiver = inner.endpoints.get_mut(&to).filter(|r| r.incarnation == incarnation);
        let Some(receiver) = receiver else { return };
        let welcome = receiver.admitted.contains(&via) && receiver.connected.contains_key(&via);
        if !welcome || !receiver.seen.insert(id) {
            return;
        }
        receiver.unjudged.insert(id, (via, topic, bytes.clone()));
        let sink = receiver.sink.clone();
        drop(inner);
        if let Some(sink) = sink {
            sink(NetworkEvent::Gossip { id, topic, via, bytes });
        }
    }
}

impl Network for SimNetwork {
    fn gossip(&self, topic: Topic, bytes: Vec<u8>) -> Result<(), SendError> {
        let id = GossipId(*blake3::hash(&bytes).as_bytes());
        let mut inner = self.wires.lock();
        let own = inner.endpoints.get_mut(&self.own).filter(|o| o.incarnation == self.incarnation);
        own.ok_or(SendError::NotConnected)?.seen.insert(id);
        drop(inner);
        self.wires.gossip(self.own, None, topic, &bytes);
        Ok(())
    }

    fn judge(&self, id: GossipId, verdict: Verdict) {
        let mut inner = self.wires.lock();
        let own = inner.endpoints.get_mut(&self.own).filter(|o| o.incarnation == self.incarnation);
        let waiting = own.and_then(|own| own.unjudged.remove(&id));
        drop(inner);
        if let Some((via, topic, bytes)) = waiting.filter(|_| verdict == Verdict::Accept) {
            self.wires.gossip(self.own, Some(via), topic, &bytes);
        }
    }

    fn attach(&self, sink: Sink<NetworkEvent>) {
        let mut inner = self.wires.lock();
        let Some(endpoint) = inner.endpoints.get_mut(&self.own) else { return };
        endpoint.sink = Some(sink.clone());
        let connected = endpoint.connected.clone();
        drop(inner);
        for peer in connected.into_keys() {
            sink(NetworkEvent::Up { peer, dialled: None });
        }
    }

    fn local_peer(&self) -> PeerId {
        self.own
    }

    fn listen_addresses(&self) -> Vec<Address> {
        let inner = self.wires.lock();
        inner
            .endpoints
            .get(&self.own)
            .map(|endpoint| address_of(endpoint.node))
            .into_iter()
            .collect()
    }

    fn dial(&self, address: Address) {
        let target = node_at(&address).and_then(|node| {
            let inner = self.wires.lock();
            inner
                .endpoints
                .iter()
                .find(|(_, endpoint)| endpoint.node == node)
                .map(|(peer, _)| *peer)
        });
        let (wires, own) = (self.wires.clone(), self.own);
        if let Some(target) = target {
            let wait = wires.rng.micros(500, 2_000);
            self.wires.heap.schedule(wait, move || wires.connect(own, target, Some(address)));
        }
    }

    fn keep(&self, peer: PeerId, _addresses: Vec<Address>) {
        let mut inner = self.wires.lock();
        let Some(endpoint) = inner.endpoints.get_mut(&self.own) else { return };
        let fresh = endpoint.kept.insert(peer) && !endpoint.connected.contains_key(&peer);
        drop(inner);
        if fresh {
            let (wires, own) = (self.wires.clone(), self.own);
            let wait = wires.rng.micros(500, 2_000);
            self.wires.heap.schedule(wait, move || wires.connect(own, peer, None));
        }
    }

    fn release(&self, peer: PeerId) {
        let mut inner = self.wires.lock();
        let Some(endpoint) = inner.endpoints.get_mut(&self.own) else { return };
        endpoint.kept.remove(&peer);
        let Some(incarnation) = endpoint.connected.get(&peer).copied() else { return };
        drop(inner);
        let (wires, own) = (self.wires.clone(), self.own);
        let own_incarnation = self.incarnation;
        self.wires.heap.schedule(Duration::ZERO, move || {
            wires.disconnect(own, peer, incarnation);
            wires.disconnect(peer, own, own_incarnation);
        });
    }

    fn admit(&self, roster: BTreeSet<PeerId>) {
        if let Some(endpoint) = self.wires.lock().endpoints.get_mut(&self.own) {
            endpoint.admitted = roster;
        }
        if let Some(admitted) = self.wires.admitted.get() {
            admitted(self.own);
        }
    }

    fn send(&self, to: PeerId, lane: Lane, bytes: Vec<u8>) -> Result<(), SendError> {
        self.wires.send(self.own, self.incarnation, to, lane, bytes)
    }
}
