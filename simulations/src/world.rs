//! The world: nodes on simulated machines, links between them, and everything that happens.
//!
//! Flow of a run: one node makes the cluster, the others join with a token; then, for the time of
//! the safety phase, clients write and read while faults come; at last everything is healed, and
//! in the liveness phase every node has to take a write again and to hold all that was
//! acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bzzz::consensus::Retention;
use bzzz::core::election;
use bzzz::core::event::{Event, EventBody};
use bzzz::core::front;
use bzzz::core::overlay::{Overlay, Shape};
use bzzz::messages::command::Candidate;
use bzzz::messages::wire::{Announcement, Message, RecordsAnswer, RecordsMessage};
use bzzz::node::{self, Ended, Node, NodeConfig, Origin, Prepared};
use bzzz::ports::{NoCache, NoMeter, Ports};
use bzzz::types::host::Capabilities;
use bzzz::types::{ClusterId, Level, Lock, MemberId, PeerId, Wall};

use crate::book::Book;
use crate::bulk::BulkLinks;
use crate::clock::{SimClock, true_wall};
use crate::disk::SimDisk;
use crate::heap::Heap;
use crate::invariants::{Observation, isolated::DRIFT_PERMILLE};
use crate::keyring::SimKeyring;
use crate::machine::{SimEntropy, SimHost, SimVault, SimWorkers};
use crate::nemesis::FaultKind;
use crate::network::{Wires, address_of};
use crate::rng::Stream;
use crate::trace::Trace;

mod membership;

/// What a run is like.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Everything is drawn from it.
    pub seed: u64,
    /// Nodes of the cluster.
    pub nodes: usize,
    /// Length of the safety phase, in virtual seconds.
    pub seconds: u64,
    /// Whether faults come.
    pub faults: bool,
    /// The only kind of fault that comes, if one is named.
    pub only: Option<FaultKind>,
}

/// One machine: what outlives the incarnations of its node.
struct Machine {
    peer: PeerId,
    disk: SimDisk,
    disk_id: u64,
    drift_permille: i64,
    /// By how much its time of day is ahead when nobody has set it wrong.
    wall_offset_ms: i64,
    wall_error_ms: Arc<AtomicI64>,
    incarnation: u64,
    member: MemberId,
    alive: Arc<AtomicBool>,
    node: Option<Arc<Node>>,
    /// What the build understands that is installed on it.
    level: Level,
    /// True from the end of its membership until it is a member again.
    homeless: bool,
    /// True once an actor or the disk of this incarnation was made to fail: then it may give up.
    provoked: bool,
}

struct Inner {
    machines: Vec<Machine>,
    cut: BTreeSet<(usize, usize)>,
    cut_since_us: BTreeMap<usize, u64>,
    /// Who votes, as the newest leader sees it, and its term.
    voters: (u64, BTreeSet<MemberId>),
    /// Who led last.
    leader: usize,
    formed: bool,
    /// Join tokens made so far.
    tokens: u64,
}

/// The world; cheap to clone.
#[derive(Clone)]
pub struct World {
    /// What the run is like.
    pub settings: Settings,
    /// Time and what waits in it.
    pub heap: Heap,
    /// What happened.
    pub trace: Trace,
    /// What must hold.
    pub book: Book,
    /// The links.
    pub wires: Wires,
    /// Connections for bulk bytes.
    pub bulk: BulkLinks,
    retention: Retention,
    shape: Shape,
    inner: Arc<Mutex<Inner>>,
}

/// Short logs and many snapshots in one run, long logs and few in another.
fn draw_retention(rng: &Stream) -> Retention {
    let snapshot_every = 30 + rng.below(400);
    Retention {
        snapshot_every,
        behind_snapshot: rng.below(snapshot_every),
        rewrite_above: 4_096 + rng.below(64 * 1_024),
    }
}

/// Everybody knows everybody in one run, few know each other in another.
fn draw_shape(rng: &Stream) -> Shape {
    if rng.chance(500) {
        return Shape::default();
    }
    Shape {
        full_max: 4,
        fanout: 1 + rng.below(3) as usize,
        links_max: 14 + rng.below(4) as usize,
        idle: Duration::from_secs(2 + rng.below(20)),
    }
}

impl World {
    /// Machines that are switched off.
    pub fn new(settings: Settings, trace_file: Option<std::fs::File>) -> Self {
        let heap = Heap::default();
        let trace = Trace::new(heap.clone(), trace_file);
        let stream = |name: &str| Stream::new(settings.seed, name);
        let layout = stream("machines");
        // In one run of three an older build is installed everywhere, and upgraded machine by machine.
        let is_old = settings.faults && stream("builds").chance(333);
        let build = if is_old { Level::NEWEST.oldest_spoken() } else { Level::NEWEST };
        let machines: Vec<Machine> = (0..settings.nodes)
            .map(|node| Machine {
                wall_error_ms: Arc::default(),
                peer: PeerId(layout.bytes()),
                disk: SimDisk::new(
                    heap.clone(),
                    stream(&format!("disk {node}")),
                    trace.clone(),
                    node,
                ),
                disk_id: layout.next_u64(),
                drift_permille: layout.below(2 * DRIFT_PERMILLE + 1) as i64 - DRIFT_PERMILLE as i64,
                wall_offset_ms: layout.below(400) as i64 - 200,
                incarnation: 0,
                member: MemberId::default(),
                alive: Arc::new(AtomicBool::new(false)),
                node: None,
                level: build,
                homeless: false,
                provoked: false,
            })
            .collect();
        for machine in &machines {
            machine.wall_error_ms.store(machine.wall_offset_ms, Ordering::Relaxed);
        }
        let inner = Inner {
            machines,
            cut: BTreeSet::new(),
            cut_since_us: BTreeMap::new(),
            voters: Default::default(),
            leader: Default::default(),
            formed: false,
            tokens: 0,
        };
        let wires = Wires::new(heap.clone(), stream("wires"), trace.clone());
        let bulk = BulkLinks::new(heap.clone(), stream("bulk"), trace.clone(), wires.clone());
        let book = Book::new(trace.clone());
        let (judge, time) = (book.clone(), heap.clone());
        wires.watch(Box::new(move |node, message| {
            let stored = RecordsAnswer::Stored;
            if matches!(message, Message::Records(RecordsMessage::Answer { answer, .. }) if *answer == stored)
            {
                judge.observe(&Observation::ReplicaStored { at_us: time.now_us(), node });
            }
        }));
        Self {
            wires,
            bulk,
            book,
            heap,
            trace,
            retention: draw_retention(&stream("retention")),
            shape: draw_shape(&stream("shape")),
            settings,
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.locked()
    }

    /// A stream of randomness.
    pub fn stream(&self, name: &str) -> Stream {
        Stream::new(self.settings.seed, name)
    }

    /// The node that runs on a machine now.
    pub fn node(&self, index: usize) -> Option<Arc<Node>> {
        self.lock().machines[index].node.clone()
    }

    /// The disk of a machine.
    pub fn disk(&self, index: usize) -> SimDisk {
        self.lock().machines[index].disk.clone()
    }

    /// Id of the disk of a machine.
    pub fn disk_id(&self, index: usize) -> u64 {
        self.lock().machines[index].disk_id
    }

    /// Members with the older build installed.
    pub fn old_builds(&self) -> Vec<usize> {
        let inner = self.lock();
        let machines = inner.machines.iter().enumerate();
        let is_old = |machine: &Machine| {
            machine.level < Level::NEWEST && machine.member.0 > 0 && !machine.homeless
        };
        machines.filter(|(_, machine)| is_old(machine)).map(|(index, _)| index).collect()
    }

    /// True if this machine has the older build installed.
    pub fn has_old_build(&self, index: usize) -> bool {
        self.lock().machines[index].level < Level::NEWEST
    }

    /// Installs the newest build on a machine that is switched off; true if it had an older one.
    pub fn upgrade(&self, index: usize) -> bool {
        let mut inner = self.lock();
        let machine = &mut inner.machines[index];
        std::mem::replace(&mut machine.level, Level::NEWEST) < Level::NEWEST
    }

    /// Machines that are switched on.
    pub fn alive(&self) -> Vec<usize> {
        let inner = self.lock();
        let on = |machine: &Machine| machine.alive.load(Ordering::Relaxed);
        inner.machines.iter().enumerate().filter(|(_, m)| on(m)).map(|(index, _)| index).collect()
    }

    // ---- Switching on and off --------------------------------------------------------------------

    fn ports(&self, index: usize) -> (Ports, Arc<SimClock>) {
        let mut inner = self.lock();
        let machine = &mut inner.machines[index];
        machine.incarnation += 1;
        machine.provoked = false;
        machine.alive = Arc::new(AtomicBool::new(true));
        let seeds = self.stream(&format!("node {index} start {}", machine.incarnation));
        let clock = Arc::new(SimClock::new(
            self.heap.clone(),
            machine.drift_permille,
            machine.wall_error_ms.clone(),
            machine.alive.clone(),
            seeds.clone(),
        ));
        let network = self.wires.plug(index, machine.peer);
        let ports = Ports {
            bulk: self.bulk.plug(machine.peer),
            cache: Arc::new(NoCache),
            clock: clock.clone(),
            entropy: Arc::new(SimEntropy(seeds)),
            host: Arc::new(SimHost::of(index)),
            journals: Arc::new(machine.disk.clone()),
            meter: Arc::new(NoMeter),
            network,
            records: Arc::new(machine.disk.clone()),
            keyring: Arc::new(SimKeyring::new(
                machine.peer,
                self.stream(&format!("keys {index} {}", machine.incarnation)),
            )),
            vault: Arc::new(SimVault(machine.peer)),
            workers: Arc::new(SimWorkers {
                clock: clock.clone(),
                rng: self.stream(&format!("work {index} {}", machine.incarnation)),
            }),
        };
        (ports, clock)
    }

    fn config(
        &self,
        index: usize,
        ports: &Ports,
        scope: Arc<SimClock>,
        incarnation: u64,
    ) -> NodeConfig {
        let name = format!("node-{index}");
        let world = self.clone();
        let observer: node::Observer = Arc::new(move |event| {
            world.observe_consensus(index, incarnation, event);
        });
        let level = self.lock().machines[index].level;
        NodeConfig {
            candidate: Candidate {
                peer: ports.network.local_peer(),
                name: name.clone(),
                role: "worker".into(),
                addresses: vec![address_of(index)],
                labels: BTreeMap::new(),
                content_key: ports.keyring.own(),
                level,
            },
            announcement: Announcement {
                node_id: name,
                capabilities: Capabilities::default(),
                ip_address: format!("10.0.0.{}", index + 1),
                p2p_port: 4001,
                services: BTreeMap::new(),
                joined_at: Wall(0),
                links: BTreeMap::new(),
            },
            election: election::Settings::default(),
            retention: self.retention,
            shape: self.shape,
            scope,
            observer: Some(observer),
        }
    }

    fn observe_consensus(
        &self,
        index: usize,
        incarnation: u64,
        event: &bzzz::core::consensus::ConsensusEvent,
    ) {
        use bzzz::core::consensus::ConsensusEvent;
        let (current, member) = {
            let inner = self.lock();
            (inner.machines[index].incarnation, inner.machines[index].member)
        };
        if current != incarnation || member.0 == 0 {
            return;
        }
        match event {
            ConsensusEvent::Role(role) => {
                if role.leading {
                    self.note_leader(index, role.term, &role.voters);
                }
                self.trace.note(&format!(
                    "node {index} sees term {} leader {:?} leading {} voters {}",
                    role.term,
                    role.leader.map(|leader| leader.0),
                    role.leading,
                    role.voters.len()
                ));
            }
            ConsensusEvent::Applied { log_id, view, .. } => {
                self.trace.step("applied", index, 0, log_id.index);
                let (at, now) = (view.stamp, true_wall(&self.heap));
                let (build, level) = (self.lock().machines[index].level, view.level.level);
                self.book.observe(&Observation::Spoken { node: index, build, level });
                let index = log_id.index;
                self.book.observe(&Observation::ControlStamp { index, at, now });
            }
            _ => {}
        }
        self.book.observe(&Observation::Consensus { node: index, member, event });
    }

    fn note_leader(&self, index: usize, term: u64, voters: &BTreeSet<MemberId>) {
        let mut inner = self.lock();
        let is_old = *voters == inner.voters.1 && index == inner.leader;
        if term < inner.voters.0 || is_old {
            return;
        }
        inner.voters = (term, voters.clone());
        inner.leader = index;
        drop(inner);
        self.note_reach();
    }

    /// Switches a machine on.
    pub async fn start(&self, index: usize, origin: Origin) -> Result<Arc<Node>, node::StartError> {
        let (ports, clock) = self.ports(index);
        let incarnation = self.lock().machines[index].incarnation;
        let peer = ports.network.local_peer();
        self.trace.note(&format!("node {index} starts"));
        let prepared: Prepared =
            node::prepare(ports.journals.as_ref(), ports.entropy.as_ref(), peer, origin).await?;
        let config = self.config(index, &ports, clock, incarnation);
        let started = node::start(prepared, ports, config).await?;
        let mut inner = self.lock();
        let machine = &mut inner.machines[index];
        if machine.incarnation == incarnation && machine.alive.load(Ordering::Relaxed) {
            machine.node = Some(started.clone());
            machine.member = started.member();
            drop(inner);
            self.follow(index, incarnation, &started);
        }
        self.note_reach();
        Ok(started)
    }

    /// Listens to a node's events, and notices if it ends by itself.
    fn follow(&self, index: usize, incarnation: u64, started: &Arc<Node>) {
        let (world, own) = (self.clone(), started.member());
        let (listening, missed, _) = started.env().events.listen(
            0,
            Arc::new(move |event: Event| world.observe_event((index, incarnation, own), &event)),
        );
        // Listening goes on for as long as the node lives.
        std::mem::forget(listening);
        for event in missed {
            self.observe_event((index, incarnation, own), &event);
        }
        let (world, node) = (self.clone(), started.clone());
        tokio::spawn(async move {
            let ended = node.ended().await;
            let (machine_on, provoked) = {
                let inner = world.lock();
                let machine = &inner.machines[index];
                let on = machine.alive.load(Ordering::Relaxed);
                (machine.incarnation == incarnation && on, machine.provoked)
            };
            let expelled = world.lock().machines[index].homeless;
            if machine_on && expelled {
                world.trace.note(&format!("node {index} ended: {ended:?}"));
                world.crash(index);
            } else if machine_on && provoked && ended == Ended::GaveUp {
                // Whatever watches over the process starts it again.
                world.crash(index);
                tokio::time::sleep(Duration::from_millis(500)).await;
                world.restart(index);
            } else if machine_on && ended != Ended::Stopped {
                world
                    .book
                    .fail("a node never ends by itself", format!("node {index} ended: {ended:?}"));
            }
        });
    }

    fn observe_event(&self, (index, incarnation, own): (usize, u64, MemberId), event: &Event) {
        let (at_us, body) = (self.heap.now_us(), &event.body);
        self.trace.step(body.topic(), index, 0, incarnation);
        let is_application = matches!(body, EventBody::Application { .. });
        if event.node != Some(own) && !is_application {
            // What others tell is observed where it happens.
            return;
        }
        if let EventBody::ReadOnly { .. }
        | EventBody::Handover { .. }
        | EventBody::Layout { .. }
        | EventBody::RecordsLost { .. }
        | EventBody::ActorRestarted { .. } = body
        {
            self.trace.note(&format!("node {index}: {body:?}"));
        }
        self.book.observe(&Observation::Event { at_us, node: index, incarnation, body });
    }

    /// Cuts a machine's power.
    pub fn crash(&self, index: usize) {
        let mut inner = self.lock();
        let machine = &mut inner.machines[index];
        if !machine.alive.swap(false, Ordering::Relaxed) {
            return;
        }
        machine.incarnation += 1;
        let (node, peer, disk) = (machine.node.take(), machine.peer, machine.disk.clone());
        drop(inner);
        self.trace.note(&format!("node {index} crashes"));
        // Links and disk first: a dying node must not say or write anything more.
        self.wires.unplug(peer);
        self.bulk.unplug(peer);
        disk.crash();
        if let Some(node) = node {
            node.kill();
        }
        self.note_reach();
    }

    /// Makes an actor of a node fail.
    pub fn fail_actor(&self, index: usize, actor: &str) {
        let node = {
            let mut inner = self.lock();
            let machine = &mut inner.machines[index];
            machine.provoked = true;
            machine.node.clone()
        };
        if let Some(node) = node {
            self.trace.note(&format!("{actor} of node {index} fails"));
            node.crash(actor);
        }
    }

    /// The next fsync of a node fails.
    pub fn break_sync(&self, index: usize) {
        let disk = {
            let mut inner = self.lock();
            let machine = &mut inner.machines[index];
            machine.provoked = true;
            machine.disk.clone()
        };
        disk.break_sync();
    }

    /// Switches a machine on again, and tries again if that fails while faults go on.
    pub fn restart(&self, index: usize) {
        if self.alive().contains(&index) || self.lock().machines[index].homeless {
            return;
        }
        let world = self.clone();
        tokio::spawn(async move {
            if let Err(error) = world.start(index, Origin::Resume).await {
                let still_on = world.alive().contains(&index) && world.node(index).is_none();
                if still_on {
                    world.book.fail(
                        "a node starts again after a crash",
                        format!("node {index}: {error}"),
                    );
                }
            }
        });
    }

    /// Sets the clocks of machines wrong by so many milliseconds, or with 0 right again.
    pub fn set_clocks(&self, machines: &[usize], error_ms: i64) {
        self.trace.note(&format!("the clocks of {machines:?} are off by {error_ms} ms"));
        let inner = self.lock();
        for machine in machines.iter().filter_map(|index| inner.machines.get(*index)) {
            let error_ms = machine.wall_offset_ms.saturating_add(error_ms);
            machine.wall_error_ms.store(error_ms, Ordering::Relaxed);
        }
    }

    /// True while nobody has set the clock of a machine wrong.
    pub fn has_right_clock(&self, index: usize) -> bool {
        let inner = self.lock();
        let machine = &inner.machines[index];
        machine.wall_error_ms.load(Ordering::Relaxed) == machine.wall_offset_ms
    }

    /// Shows the book a stamp, which may be one that was just made.
    pub fn judge_stamp(&self, what: &str, at: Wall, is_new: bool) {
        let now = true_wall(&self.heap);
        self.book.observe(&Observation::Stamp { what, at, now, is_new });
    }

    /// Makes all disks slow, or good again.
    pub fn slow_disks(&self, slow_us: u64) {
        self.trace.note(&format!("an fsync takes up to {slow_us} us more"));
        for machine in &self.lock().machines {
            machine.disk.slow_down(slow_us);
        }
    }

    /// Members that do not vote in a cluster where few know each other, each behind the voter or member that it gets
    /// its lease from.
    pub fn branches(&self) -> Vec<(usize, usize)> {
        let inner = self.lock();
        let members = inner.machines.iter().filter(|machine| machine.member != MemberId::default());
        let peers = members.map(|machine| (machine.member, machine.peer)).collect();
        let overlay = Overlay::new(self.shape, &peers, &inner.voters.1);
        if overlay.is_full() {
            return Vec::new();
        }
        let place = |member| inner.machines.iter().position(|machine| machine.member == member);
        let machines = inner.machines.iter().enumerate();
        let below = machines
            .filter_map(|(index, machine)| Some((place(overlay.source(machine.member)?)?, index)));
        below.collect()
    }

    /// Asks the leader to hand leadership over to whoever is fittest.
    pub async fn hand_over(&self, leader: usize) {
        let Some(node) = self.node(leader) else { return };
        self.trace.note(&format!("node {leader} is asked to hand over"));
        let answer = node.env().directory.front.ask(front::Request::Transfer { to: None }).await;
        self.trace.note(&format!("node {leader} answers: {answer:?}"));
    }

    /// Cuts and mends links.
    pub fn set_cut(&self, cut: BTreeSet<(usize, usize)>) {
        self.trace.note(&format!("links cut: {cut:?}"));
        self.lock().cut = cut.clone();
        self.wires.set_cut(cut);
        self.note_reach();
    }

    /// Works out who can reach a majority, or the leader, if that can: it grants leases and commits for others.
    fn note_reach(&self) {
        let now = self.heap.now_us();
        let mut inner = self.lock();
        if !inner.formed {
            return;
        }
        let count = inner.machines.len();
        let on: Vec<bool> =
            inner.machines.iter().map(|m| m.alive.load(Ordering::Relaxed)).collect();
        let votes: Vec<bool> =
            inner.machines.iter().map(|m| inner.voters.1.contains(&m.member)).collect();
        let voters = votes.iter().filter(|votes| **votes).count();
        let meet = |node: usize, other: usize| {
            let open = |from, to| !inner.cut.contains(&(from, to));
            other == node || (on[other] && open(node, other) && open(other, node))
        };
        let has_majority = |node: &usize| {
            let met = (0..count).filter(|other| votes[*other] && meet(*node, *other)).count();
            met > voters / 2
        };
        let leader = Some(inner.leader).filter(|leader| on[*leader] && has_majority(leader));
        let reaches =
            |node: usize| has_majority(&node) || leader.is_some_and(|leader| meet(node, leader));
        let cut: Vec<bool> = (0..count).map(|node| !reaches(node)).collect();
        let mut news = Vec::new();
        for (node, is_cut) in cut.into_iter().enumerate() {
            let since = inner.cut_since_us.get(&node).copied();
            let cut_since_us = is_cut.then(|| since.unwrap_or(now));
            match cut_since_us {
                Some(since) => inner.cut_since_us.insert(node, since),
                None => inner.cut_since_us.remove(&node),
            };
            news.push((node, cut_since_us));
        }
        drop(inner);
        for (node, cut_since_us) in news {
            self.book.observe(&Observation::Reach { node, cut_since_us });
        }
    }

    /// In a cluster where few know each other, nobody comes to keep more connections than it may.
    pub async fn connections_become_few(&self) {
        let mut most = 0;
        for _ in 0..300 {
            most = self.wires.most_connections();
            if most <= self.shape.links_max {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let how = format!("a minute after healing a node keeps {most} connections");
        self.book.fail("connections stay few", how);
    }

    /// The run is over: lets go of everything that holds the world in turn.
    pub fn end(&self) {
        let nodes: Vec<_> = self.lock().machines.iter_mut().map(|m| m.node.take()).collect();
        drop(nodes);
        self.bulk.clear();
        self.wires.clear();
        self.heap.clear();
    }

    /// The cluster that a node belongs to.
    pub fn cluster(&self, index: usize) -> Option<ClusterId> {
        self.node(index).map(|node| node.identity().cluster)
    }
}
