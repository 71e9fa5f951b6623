//! The nemesis: faults, drawn from the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::network::Weather;
use crate::rng::Stream;
use crate::workload::{ADDRESSES, Workload, address};
use crate::world::World;

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $kind:ident, $name:literal, |$n:ident, $length:ident| $bring:expr;)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum FaultKind {
            $($(#[doc = $doc])+ $kind,)*
        }

        impl FaultKind {
            /// Every kind with the name that the command line uses.
            pub const ALL: &'static [(&'static str, FaultKind)] = &[$(($name, Self::$kind)),*];

            /// Brings it, and takes it away again; what takes time may take about this long.
            async fn bring(self, nemesis: &Nemesis, for_about: Duration) {
                match self {
                    $(Self::$kind => {
                        let ($n, $length) = (nemesis, for_about);
                        let _: Duration = $length;
                        $bring.await;
                    })*
                }
            }
        }
    };
}

// A kind of fault, its name, and how the nemesis brings it.
faults! {
    /// The leader loses power for a while.
    CrashLeader, "crash-leader", |n, length| n.crash(n.leader_or_some(), length);
    /// Some node does.
    Crash, "crash", |n, length| n.crash(n.some_node(), length);
    /// Many nodes do.
    CrashSeveral, "crash-several", |n, length| n.crash_several(length, 600);
    /// All nodes do.
    PowerCut, "power-cut", |n, length| n.crash_several(length, 1_000);
    /// The leader goes off and on again, twice.
    Bounce, "bounce", |n, length| n.bounce(n.leader_or_some());
    /// The nodes fall into two groups.
    Partition, "partition", |n, length| n.partition(length);
    /// The leader is cut off.
    IsolateLeader, "isolate-leader", |n, length| n.isolate(n.leader_or_some(), length, true, true);
    /// Some node hears nobody.
    Deafen, "deafen", |n, length| n.isolate(n.some_node(), length, false, true);
    /// Nobody hears some node.
    Silence, "silence", |n, length| n.isolate(n.some_node(), length, true, false);
    /// The leader dies while another node can only listen.
    Gag, "gag", |n, length| n.gag(length);
    /// A node that is being written through can suddenly only listen, on slow links; in a large cluster a member
    /// that does not vote, together with the one that passes its lease on to it.
    Mute, "mute", |n, length| n.mute();
    /// Leadership is handed over while a node is written through that hears the others late.
    Transfer, "transfer", |n, length| n.transfer();
    /// Voters forget whom they follow while the leader is cut off and another one runs.
    Usurp, "usurp", |n, length| n.usurp(length);
    /// Single actors of the leader, or of some node, fail.
    CrashActors, "crash-actors", |n, length| n.crash_actors();
    /// The disk of the leader, or of some node, is full for a while.
    FillDisk, "fill-disk", |n, length| n.fill_disk(length);
    /// An fsync fails on the leader, or on some node, which is then restarted by hand.
    BreakSync, "break-sync", |n, length| n.break_sync(length);
    /// A node loses its disk for good and joins again as a new member.
    LoseDisk, "lose-disk", |n, length| n.once_settled(n.lose_disk());
    /// A running member is removed, and joins again as a new one.
    Expel, "expel", |n, length| n.once_settled(n.expel());
    /// A part of a node's records is gone, which it notices when it starts.
    RotRecords, "rot-records", |n, length| n.once_settled(n.rot_records());
    /// A member becomes a replica while what is published reaches neither it nor one of the others.
    Straddle, "straddle", |n, length| n.once_settled(n.straddle());
    /// A node is cut off with a publication that nobody else has, below one that it has missed; later its client sends it
    /// again through another node.
    Strand, "strand", |n, length| n.strand();
    /// A publication that a single node holds is shown by others, which then have to do without that node.
    Outlive, "outlive", |n, length| n.outlive();
    /// A node with the older build is upgraded; before, a client wants what that does not understand.
    Upgrade, "upgrade", |n, length| n.upgrade(length);
}

/// By how many milliseconds clocks are set wrong: an hour, 30 days and ten years, most of them either way.
pub const CLOCK_ERRORS_MS: [i64; 5] =
    [3_600_000, -3_600_000, 30 * 86_400_000, -30 * 86_400_000, 3_650 * 86_400_000];

/// Brings faults to a world.
pub struct Nemesis {
    world: World,
    rng: Stream,
    clients: Workload,
}

impl Nemesis {
    /// A nemesis that has not begun.
    pub fn new(world: World, clients: Workload) -> Self {
        let rng = world.stream("nemesis");
        Self { world, rng, clients }
    }

    /// Faults until `end_us`: crashes and cuts one after the other, and beside them changing
    /// weather and changing disks, so that they meet.
    pub async fn run(&self, end_us: u64) {
        let (weather, disks) = (self.beside("weather"), self.beside("disks"));
        let clocks = self.beside("clocks");
        let clocks = tokio::spawn(async move { clocks.change_clocks(end_us).await });
        let weather = tokio::spawn(async move { weather.change_weather(end_us).await });
        let disks = tokio::spawn(async move { disks.change_disks(end_us).await });
        while self.goes_on(end_us) {
            self.fault().await;
            tokio::time::sleep(self.rng.micros(200_000, 4_500_000)).await;
        }
        for beside in [weather, disks, clocks] {
            drop(beside.await);
        }
    }

    fn beside(&self, name: &str) -> Self {
        Self {
            world: self.world.clone(),
            rng: self.world.stream(name),
            clients: self.clients.clone(),
        }
    }

    fn goes_on(&self, end_us: u64) -> bool {
        self.world.heap.now_us() < end_us && self.world.book.violation().is_none()
    }

    /// Everything works from now on.
    pub fn heal(&self) {
        self.world.set_cut(BTreeSet::new());
        self.world.wires.set_weather(Weather::FAIR);
        self.world.slow_disks(0);
        for node in 0..self.world.settings.nodes {
            self.world.set_clocks(&[node], 0);
            // Also one that is no member now: the cluster does not take it in again with an older build.
            if self.world.has_old_build(node) {
                self.world.crash(node);
                self.world.upgrade(node);
            }
            self.world.restart(node);
        }
    }

    fn some_node(&self) -> usize {
        self.rng.pick(self.world.settings.nodes)
    }

    /// A node that leads, if there is one, so that faults hit where it hurts.
    fn leader_or_some(&self) -> usize {
        let leading = |node: &usize| {
            self.world.node(*node).is_some_and(|node| node.env().consensus.is_leading())
        };
        (0..self.world.settings.nodes).find(leading).unwrap_or_else(|| self.some_node())
    }

    async fn fault(&self) {
        let length = self.rng.micros(300_000, 4_000_000);
        let kind = match self.world.settings.only {
            Some(only) => only,
            None => FaultKind::ALL[self.rng.pick(FaultKind::ALL.len())].1,
        };
        kind.bring(self, length).await;
    }

    /// Until what was lost last has been copied, another loss may be one too many.
    async fn once_settled(&self, fault: impl Future<Output = ()>) {
        if self.world.is_settled().await {
            fault.await;
        }
    }

    async fn expel(&self) {
        self.world.expel(self.leader_or_some(), false).await;
    }

    async fn crash(&self, node: usize, length: Duration) {
        self.world.crash(node);
        tokio::time::sleep(length).await;
        self.world.restart(node);
    }

    async fn upgrade(&self, length: Duration) {
        let old = self.world.old_builds();
        if old.is_empty() {
            return;
        }
        self.clients.ask_for_too_much(self.some_node()).await;
        let node = old[self.rng.pick(old.len())];
        self.world.crash(node);
        self.world.upgrade(node);
        tokio::time::sleep(length / 8).await;
        self.world.restart(node);
    }

    /// Off and on at once: the node has forgotten its promises before they have run out.
    async fn bounce(&self, node: usize) {
        for _ in 0..2 {
            self.world.crash(node);
            tokio::time::sleep(self.rng.micros(1_000, 40_000)).await;
            self.world.restart(node);
            tokio::time::sleep(self.rng.micros(5_000, 150_000)).await;
        }
        let others: Vec<usize> =
            (0..self.world.settings.nodes).filter(|other| *other != node).collect();
        let other = others.get(self.rng.pick(others.len().max(1))).copied().unwrap_or(node);
        self.world.crash(other);
        self.world.restart(other);
    }

    /// Many nodes at the same time, or all: the power is cut.
    async fn crash_several(&self, length: Duration, permille: u64) {
        let nodes = self.world.settings.nodes;
        let chosen: Vec<usize> = (0..nodes).filter(|_| self.rng.chance(permille)).collect();
        for node in &chosen {
            self.world.crash(*node);
        }
        tokio::time::sleep(length / 4).await;
        for node in chosen {
            self.world.restart(node);
        }
    }

    async fn partition(&self, length: Duration) {
        let nodes = self.world.settings.nodes;
        let side: Vec<bool> = (0..nodes).map(|_| self.rng.chance(500)).collect();
        let cut = (0..nodes)
            .flat_map(|a| (0..nodes).map(move |b| (a, b)))
            .filter(|(a, b)| side[*a] != side[*b])
            .collect();
        self.world.set_cut(cut);
        tokio::time::sleep(length).await;
        self.world.set_cut(BTreeSet::new());
    }

    async fn isolate(&self, node: usize, length: Duration, outbound: bool, inbound: bool) {
        self.isolate_all(&[node], length, outbound, inbound).await;
    }

    /// Cuts nodes off that go on reaching each other.
    async fn isolate_all(&self, group: &[usize], length: Duration, outbound: bool, inbound: bool) {
        let mut cut = BTreeSet::new();
        for other in (0..self.world.settings.nodes).filter(|other| !group.contains(other)) {
            for node in group {
                if outbound {
                    cut.insert((*node, other));
                }
                if inbound {
                    cut.insert((other, *node));
                }
            }
        }
        self.world.set_cut(cut);
        tokio::time::sleep(length).await;
        self.world.set_cut(BTreeSet::new());
    }

    /// The leader dies, and at the same moment another node can only listen: what it learns from
    /// the next leader it must not pass on as acknowledged.
    async fn gag(&self, length: Duration) {
        let leader = self.leader_or_some();
        let gagged = self.other_than(leader);
        self.world.crash(leader);
        self.isolate(gagged, length, true, false).await;
        self.world.restart(leader);
    }

    /// One node stops hearing the leader and campaigns in vain; then the leader is cut off and all
    /// the others are switched off and on again, so that they have forgotten whom they follow.
    async fn usurp(&self, length: Duration) {
        let leader = self.leader_or_some();
        let usurper = self.other_than(leader);
        // Nobody votes for a node whose log is behind, so nothing is written meanwhile.
        self.clients.be_silent(true);
        tokio::time::sleep(self.rng.micros(0, 100_000)).await;
        self.world.set_cut(BTreeSet::from([(leader, usurper)]));
        tokio::time::sleep(self.rng.micros(350_000, 600_000)).await;
        self.clients.be_silent(false);
        let others: Vec<usize> =
            (0..self.world.settings.nodes).filter(|node| *node != leader).collect();
        let cut = others.iter().flat_map(|other| [(leader, *other), (*other, leader)]).collect();
        self.world.set_cut(cut);
        for other in others.into_iter().filter(|other| *other != usurper) {
            self.world.crash(other);
            self.world.restart(other);
        }
        self.clients.race(leader, usurper, Duration::from_millis(400)).await;
        tokio::time::sleep(length).await;
        self.world.set_cut(BTreeSet::new());
    }

    /// A node that is not the leader; in a large cluster, one whose lease is passed on, and who does that.
    fn holder(&self) -> Vec<usize> {
        let leader = self.leader_or_some();
        let mut branches = self.world.branches();
        branches.retain(|(source, _)| *source != leader);
        match branches.len() {
            0 => vec![self.other_than(leader)],
            count => {
                let (source, below) = branches[self.rng.pick(count)];
                vec![below, source]
            }
        }
    }

    /// On slow links a node that is being written through can suddenly only listen: it goes on
    /// learning what becomes of the writes, and must know when it may not pass it on any more.
    async fn mute(&self) {
        let muted = self.holder();
        let writing = self.write_on_slow_links(muted[0], 500 + self.rng.below(10_000));
        tokio::time::sleep(self.rng.micros(300_000, 550_000)).await;
        if muted.len() > 1 {
            self.clients.create_through(muted[0], self.rng.micros(20_000, 60_000)).await;
            // What was written is heard of late, when the lease that was passed on first is over.
            let slowness = self.rng.micros(180_000, 250_000);
            let others = (0..self.world.settings.nodes).filter(|node| !muted.contains(node));
            let links = others.flat_map(|other| muted.iter().map(move |node| (other, *node)));
            self.world.wires.set_slow(links.map(|link| (link, slowness)).collect());
        }
        self.isolate_all(&muted, Duration::from_millis(1_000), true, false).await;
        self.world.wires.set_slow(BTreeMap::new());
        drop(writing.await);
        if muted.len() > 1 {
            // It has turned to the leader meanwhile; the next time it asks its source again.
            self.world.crash(muted[0]);
            self.world.restart(muted[0]);
        }
        self.world.wires.set_weather(Weather::FAIR);
    }

    /// A node that is being written through learns late what was committed, and late that somebody else leads.
    async fn transfer(&self) {
        let leader = self.leader_or_some();
        let holder = self.holder();
        let writing = match holder[..] {
            [below, source] => {
                let slowness = self.rng.micros(20_000, 100_000);
                self.world.trace.note(&format!("node {below} hears node {source} late"));
                self.world.wires.set_slow([((source, below), slowness)].into());
                self.write_through(below)
            }
            _ => self.write_on_slow_links(holder[0], 500 + self.rng.below(10_000)),
        };
        tokio::time::sleep(self.rng.micros(300_000, 450_000)).await;
        self.world.hand_over(leader).await;
        drop(writing.await);
        self.world.wires.set_slow(BTreeMap::new());
        self.world.wires.set_weather(Weather::FAIR);
    }

    fn write_through(&self, node: usize) -> JoinHandle<()> {
        let clients = self.clients.clone();
        tokio::spawn(async move {
            clients.write_through(node, Duration::from_millis(600)).await;
        })
    }

    fn write_on_slow_links(&self, node: usize, latency_us: u64) -> JoinHandle<()> {
        self.world.trace.note("the links turn slow");
        self.world.wires.set_weather(Weather {
            // A leader needs round trips below three quarters of its heartbeat.
            latency_us,
            jitter_us: 500 + self.rng.below(3_000),
            stall_permille: 100,
            ..Weather::FAIR
        });
        self.write_through(node)
    }

    /// Now and then so many that a supervisor gives up.
    async fn crash_actors(&self) {
        let node = if self.rng.chance(500) { self.leader_or_some() } else { self.some_node() };
        let actors = bzzz::node::actor_names();
        let same = self.rng.chance(300).then(|| self.rng.pick(actors.len()));
        for _ in 0..1 + self.rng.below(7) {
            let actor = actors[same.unwrap_or_else(|| self.rng.pick(actors.len()))];
            self.world.fail_actor(node, actor);
            tokio::time::sleep(self.rng.micros(1_000, 300_000)).await;
        }
    }

    async fn fill_disk(&self, length: Duration) {
        let node = if self.rng.chance(500) { self.leader_or_some() } else { self.some_node() };
        self.world.trace.note(&format!("the disk of node {node} is full"));
        self.world.disk(node).fill(true);
        tokio::time::sleep(length).await;
        self.world.trace.note(&format!("the disk of node {node} has room"));
        self.world.disk(node).fill(false);
    }

    async fn break_sync(&self, length: Duration) {
        let node = if self.rng.chance(500) { self.leader_or_some() } else { self.some_node() };
        self.world.break_sync(node);
        tokio::time::sleep(length).await;
        self.world.crash(node);
        self.world.restart(node);
    }

    async fn lose_disk(&self) {
        if self.may_lose_a_disk() {
            self.world.lose_disk(self.some_node()).await;
        }
    }

    /// Two nodes can't do without one of them, and all the others have to be there.
    fn may_lose_a_disk(&self) -> bool {
        self.world.settings.nodes > 2 && self.world.alive().len() == self.world.settings.nodes
    }

    /// While a member becomes a replica, what is published reaches neither it nor one of the others: it must not
    /// be acknowledged by those alone who are a majority only as long as the member is none.
    async fn straddle(&self) {
        if !self.may_lose_a_disk() {
            return;
        }
        let (world, newcomer) = (self.world.clone(), self.some_node());
        let joining = tokio::spawn(async move { world.expel(newcomer, true).await });
        while !joining.is_finished() && !self.world.layout_grows().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let leader = self.leader_or_some();
        let nodes = 0..self.world.settings.nodes;
        let mut others: Vec<usize> =
            nodes.filter(|node| *node != newcomer && *node != leader).collect();
        if others.len() > 1 {
            let missed = others.swap_remove(self.rng.pick(others.len()));
            let writer = others[self.rng.pick(others.len())];
            self.world.set_cut(BTreeSet::from([(writer, newcomer), (writer, missed)]));
            let end_us = self.world.heap.now_us() + 5_000_000;
            while self.goes_on(end_us) && self.world.layout_grows().await {
                self.clients.publish_through(writer, Duration::from_millis(40)).await;
            }
            self.world.set_cut(BTreeSet::new());
            for reader in [newcomer, missed] {
                self.clients.read_through(reader).await;
            }
        }
        drop(joining.await);
    }

    /// What is copied from the node that was cut off is on all replicas then, and not above what it had missed.
    async fn strand(&self) {
        let (leader, stranded) = (self.leader_or_some(), self.some_node());
        if stranded == leader {
            return;
        }
        let address = address(self.rng.below(ADDRESSES));
        let clients = self.clients.clone();
        // It has a lease for a moment, and the others know how its clock stands.
        clients.publish(stranded, &address, clients.repeatable()).await;
        let others = || (0..self.world.settings.nodes).filter(|node| *node != stranded);
        self.world.set_cut(others().map(|other| (other, stranded)).collect());
        let missed = clients.publish(leader, &address, clients.repeatable()).await;
        self.world.set_cut(BTreeSet::new());
        let number = clients.repeatable();
        if missed {
            let (clients, address) = (clients.clone(), address.clone());
            let publishing =
                tokio::spawn(async move { clients.publish(stranded, &address, number).await });
            // Just long enough to find that it was not published before.
            tokio::time::sleep(self.rng.micros(500, 6_000)).await;
            let both = |other| [(stranded, other), (other, stranded)];
            self.world.set_cut(others().flat_map(both).collect());
            tokio::time::sleep(self.rng.micros(50_000, 400_000)).await;
            // It must not go on with it, only have it.
            self.world.crash(stranded);
            self.world.set_cut(BTreeSet::new());
            self.world.restart(stranded);
            drop(publishing.await);
            tokio::time::sleep(self.rng.micros(500_000, 3_000_000)).await;
        }
        clients.publish(self.other_than(stranded), &address, number).await;
    }

    /// Whoever shows what one node alone has must have seen to it that it can be read without that node.
    async fn outlive(&self) {
        let holder = self.some_node();
        let others: Vec<usize> =
            (0..self.world.settings.nodes).filter(|other| *other != holder).collect();
        if others.is_empty() {
            return;
        }
        let address = address(self.rng.below(ADDRESSES));
        let clients = self.clients.clone();
        // It has a lease for a moment.
        if !clients.publish(holder, &address, clients.repeatable()).await {
            return;
        }
        let both = |other: &usize| [(holder, *other), (*other, holder)];
        self.world.set_cut(others.iter().flat_map(both).collect());
        let publishing = {
            let (clients, number) = (clients.clone(), clients.unrepeatable());
            tokio::spawn(async move { clients.publish(holder, &address, number).await })
        };
        tokio::time::sleep(self.rng.micros(2_000, 60_000)).await;
        // It must not go on with it, only have it.
        self.world.crash(holder);
        self.world.set_cut(BTreeSet::new());
        self.world.restart(holder);
        drop(publishing.await);
        tokio::time::sleep(self.rng.micros(500_000, 2_000_000)).await;
        for other in &others {
            clients.read_through(*other).await;
        }
        self.world.crash(holder);
        tokio::time::sleep(self.rng.micros(1_000_000, 3_000_000)).await;
        for other in &others {
            clients.read_shown(*other).await;
        }
        self.world.restart(holder);
    }

    async fn rot_records(&self) {
        // What a single node loses is nowhere else.
        if self.world.settings.nodes > 1 {
            let node = self.leader_or_some();
            self.world.crash(node);
            self.world.disk(node).rot_records();
            tokio::time::sleep(self.rng.micros(100_000, 2_000_000)).await;
            self.world.restart(node);
        }
    }

    fn other_than(&self, node: usize) -> usize {
        let nodes = self.world.settings.nodes;
        if nodes == 1 { node } else { (node + 1 + self.rng.pick(nodes - 1)) % nodes }
    }

    async fn change_weather(&self, end_us: u64) {
        while self.goes_on(end_us) {
            tokio::time::sleep(self.rng.micros(500_000, 6_000_000)).await;
            self.world.trace.note("the weather turns bad");
            self.world.wires.set_weather(Weather {
                loss_permille: self.rng.below(200),
                duplicate_permille: self.rng.below(100),
                latency_us: 200 + self.rng.below(30_000),
                jitter_us: 300 + self.rng.below(20_000),
                stall_permille: self.rng.below(100),
            });
            tokio::time::sleep(self.rng.micros(500_000, 4_000_000)).await;
            self.world.trace.note("the weather turns fair");
            self.world.wires.set_weather(Weather::FAIR);
        }
    }

    /// Clocks are set wrong for a while: one, or of five and more two by as much, which are no majority also of those that
    /// are left while others crash.
    async fn change_clocks(&self, end_us: u64) {
        while self.goes_on(end_us) {
            tokio::time::sleep(self.rng.micros(1_000_000, 12_000_000)).await;
            let node = if self.rng.chance(500) { self.leader_or_some() } else { self.some_node() };
            let error_ms = CLOCK_ERRORS_MS[self.rng.pick(CLOCK_ERRORS_MS.len())];
            let mut wrong = vec![node];
            if self.world.settings.nodes > 4 && self.rng.chance(500) {
                wrong.push(self.other_than(node));
            }
            if self.world.settings.nodes > 2 {
                self.world.set_clocks(&wrong, error_ms);
                tokio::time::sleep(self.rng.micros(100_000, 8_000_000)).await;
                self.world.set_clocks(&wrong, 0);
            }
        }
    }

    async fn change_disks(&self, end_us: u64) {
        while self.goes_on(end_us) {
            tokio::time::sleep(self.rng.micros(1_000_000, 8_000_000)).await;
            self.world.slow_disks(2_000 + self.rng.below(80_000));
            tokio::time::sleep(self.rng.micros(500_000, 4_000_000)).await;
            self.world.slow_disks(0);
        }
    }
}
