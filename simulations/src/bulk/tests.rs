//! What the port for bulk bytes promises holds in the simulator as well, and what only happens there.

use std::collections::BTreeSet;
use std::sync::mpsc::Receiver;

use bzzz::ports::Network;
use bzzz::types::limits::BULK_STALLED;
use tokio::runtime::Runtime;

use self::contract::{Pair, begin, begin_read, begin_write, open, serve};
use super::*;
use crate::network::{SimNetwork, Weather, address_of};

#[path = "../../../tests/bulk/contract.rs"]
mod contract;

/// What the contract speaks of.
mod port {
    pub use bzzz::ports::bulk;
    pub use bzzz::types::limits::{BULK_CHUNK_MAX, BULK_HEADER_MAX, BULK_STREAMS_PER_PEER_MAX};
    pub use bzzz::types::{Address, PeerId};
}

/// Two nodes with each other in the roster, and a runtime in which their time passes.
struct Two {
    runtime: Runtime,
    heap: Heap,
    trace: Trace,
    wires: Wires,
    links: BulkLinks,
    networks: [Arc<SimNetwork>; 2],
    ports: [Arc<SimBulk>; 2],
}

impl Two {
    fn new(seed: u64) -> Self {
        let runtime = crate::run::runtime();
        let entered = runtime.enter();
        let heap = Heap::default();
        let trace = Trace::new(heap.clone(), None);
        let wires = Wires::new(heap.clone(), Stream::new(seed, "wires"), trace.clone());
        let rng = Stream::new(seed, "bulk");
        let links = BulkLinks::new(heap.clone(), rng, trace.clone(), wires.clone());
        let peers = [PeerId([1; 32]), PeerId([2; 32])];
        let networks = [0, 1].map(|side| wires.plug(side, peers[side]));
        for network in &networks {
            network.admit(BTreeSet::from(peers));
        }
        let ports = peers.map(|peer| links.plug(peer));
        runtime.spawn(heap.clone().run());
        drop(entered);
        Self { runtime, heap, trace, wires, links, networks, ports }
    }

    fn pass(&self, time: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }

    fn crash(&self, side: usize) {
        let peer = self.networks[side].local_peer();
        self.wires.unplug(peer);
        self.links.unplug(peer);
    }

    fn cut(&self, links: impl IntoIterator<Item = (usize, usize)>) {
        self.wires.set_cut(links.into_iter().collect());
    }
}

impl Pair for Two {
    fn bulk(&self, side: usize) -> Arc<dyn Bulk> {
        self.ports[side].clone()
    }

    fn peer(&self, side: usize) -> PeerId {
        self.networks[side].local_peer()
    }

    fn at(&self, side: usize) -> Vec<Address> {
        vec![address_of(side)]
    }

    fn remove(&self, side: usize) {
        self.networks[side].admit(BTreeSet::from([self.peer(side)]));
    }

    fn wait<T>(&self, from: &Receiver<T>) -> T {
        let begun = self.heap.now_us();
        loop {
            if let Ok(result) = from.try_recv() {
                return result;
            }
            assert!(self.heap.now_us() < begun + 300_000_000, "it is never answered");
            self.pass(Duration::from_millis(1));
        }
    }
}

/// Two nodes, in whose time everything happens.
fn with<T>(seed: u64, test: impl FnOnce(&Two) -> T) -> T {
    let two = Two::new(seed);
    let _entered = two.runtime.enter();
    test(&two)
}

/// In all weathers.
fn each(contract: impl Fn(&Two)) {
    for seed in 0..8 {
        with(seed, |two| {
            let loss_permille = if seed < 4 { 0 } else { 200 };
            two.wires.set_weather(Weather { loss_permille, ..Weather::FAIR });
            contract(two);
        });
    }
}

#[test]
fn chunks_arrive_as_they_were_written_until_the_end_is_said() {
    each(contract::chunks_arrive_as_they_were_written_until_the_end_is_said);
}

#[test]
fn an_end_that_nobody_has_said_is_none() {
    each(contract::an_end_that_nobody_has_said_is_none);
}

#[test]
fn who_has_enough_says_so_also_after_its_own_end() {
    each(contract::who_has_enough_says_so_also_after_its_own_end);
}

#[test]
fn whoever_hears_that_a_stream_is_over_finds_its_place_free() {
    each(contract::whoever_hears_that_a_stream_is_over_finds_its_place_free);
}

#[test]
fn who_waits_for_an_answer_while_it_writes_does_not_stall() {
    with(1, |two| {
        let incoming = serve(two, 1);
        let [own, taken] = open(two, 0, &incoming);
        let answer = begin_read(own.reader);
        let (mut writer, mut reader) = (own.writer, taken.reader);
        for _ in 0..5 {
            two.pass(BULK_STALLED / 2);
            let written = begin_write(writer, vec![1]);
            let read = two.wait(&begin_read(reader));
            let Ok(Read::Chunk(_, next)) = read else { panic!("{read:?}") };
            reader = next;
            writer = two.wait(&written).unwrap_or_else(|why| panic!("{why}"));
        }
        assert!(answer.try_recv().is_err());
        two.pass(2 * BULK_STALLED);
        assert_eq!(answer.try_recv().unwrap().err(), Some(BulkError::Stalled));
    });
}

#[test]
fn a_reader_that_does_not_read_stops_the_writer() {
    each(|two| {
        contract::a_reader_that_does_not_read_stops_the_writer(two, WINDOW / BULK_CHUNK_MAX)
    });
}

#[test]
fn there_are_so_many_streams_and_places_come_back() {
    each(contract::there_are_so_many_streams_and_places_come_back);
}

#[test]
fn what_is_cancelled_says_so_once() {
    each(contract::what_is_cancelled_says_so_once);
}

#[test]
fn what_is_too_long_is_not_sent() {
    each(contract::what_is_too_long_is_not_sent);
}

#[test]
fn who_does_not_want_a_stream_says_why() {
    each(contract::who_does_not_want_a_stream_says_why);
}

#[test]
fn who_is_no_member_any_more_gets_nothing() {
    each(contract::who_is_no_member_any_more_gets_nothing);
}

/// Moves one chunk; returns when it came, and the trace until then.
fn one_chunk(seed: u64) -> (u64, String) {
    with(seed, |two| {
        let incoming = serve(two, 1);
        let [own, taken] = open(two, 0, &incoming);
        let _written = begin_write(own.writer, vec![7; BULK_CHUNK_MAX]);
        assert!(matches!(two.wait(&begin_read(taken.reader)), Ok(Read::Chunk(..))));
        (two.heap.now_us(), two.trace.hash().0)
    })
}

#[test]
fn a_seed_gives_one_run_and_another_seed_another_one() {
    assert_eq!(one_chunk(1), one_chunk(1));
    assert_ne!(one_chunk(1), one_chunk(2));
}

#[test]
fn what_is_cut_stalls_unless_it_is_mended_in_time() {
    for (mended_after, is_mended) in [(BULK_STALLED / 2, true), (BULK_STALLED * 2, false)] {
        for cut in [vec![(0, 1)], vec![(1, 0)], vec![(0, 1), (1, 0)]] {
            with(3, |two| {
                let incoming = serve(two, 1);
                let [own, taken] = open(two, 0, &incoming);
                let read = begin_read(taken.reader);
                two.cut(cut.clone());
                // More than the window holds, so that it takes both ways.
                let mut written = begin_write(own.writer, vec![1; BULK_CHUNK_MAX]);
                for _ in 0..2 {
                    let Ok(writer) = two.wait(&written) else { panic!("there was room") };
                    written = begin_write(writer, vec![1; BULK_CHUNK_MAX]);
                }
                two.pass(mended_after);
                let is_told = written.try_recv().ok();
                assert_eq!(is_told.is_none(), is_mended, "{cut:?}");
                if let Some(result) = is_told {
                    assert_eq!(result.err(), Some(BulkError::Stalled));
                    return;
                }
                two.cut([]);
                let Ok(Read::Chunk(_, reader)) = two.wait(&read) else { panic!("no chunk") };
                assert!(matches!(two.wait(&begin_read(reader)), Ok(Read::Chunk(..))));
                assert!(two.wait(&written).is_ok(), "nothing was lost");
            });
        }
    }
}

#[test]
fn of_a_crash_the_other_end_hears_or_it_stalls_and_the_dead_hear_nothing() {
    let mut heard = BTreeSet::new();
    for seed in 0..64 {
        with(seed, |two| {
            let incoming = serve(two, 1);
            let dead = seed as usize % 2;
            let streams = open(two, 0, &incoming);
            let reads = streams.map(|half| (begin_read(half.reader), half.writer));
            two.crash(dead);
            let why = two.wait(&reads[1 - dead].0).expect_err("nothing can come");
            assert!(reads[dead].0.try_recv().is_err(), "somebody without power is told");
            assert!(matches!(why, BulkError::Broken { .. } | BulkError::Stalled), "{why:?}");
            heard.insert(why == BulkError::Stalled);
            // While it is off, nobody answers.
            let (_, opened) = begin(two, 1 - dead, b"");
            assert!(matches!(two.wait(&opened), Err(BulkError::NoWay { .. })));
        });
    }
    assert_eq!(heard.len(), 2, "both happen");
}

#[test]
fn streams_of_one_link_share_what_it_carries() {
    let time = |streams: usize| {
        with(5, |two| {
            let incoming = serve(two, 1);
            let open: Vec<_> = (0..streams).map(|_| open(two, 0, &incoming)).collect();
            let begun = two.heap.now_us();
            let mut reads = Vec::new();
            for [own, taken] in open {
                let written = begin_write(own.writer, vec![1; BULK_CHUNK_MAX]);
                reads.push((begin_read(taken.reader), written, own.reader, taken.writer));
            }
            for (read, ..) in &reads {
                assert!(matches!(two.wait(read), Ok(Read::Chunk(..))));
            }
            two.heap.now_us() - begun
        })
    };
    let (one, four) = (time(1), time(4));
    assert!(four > 2 * one, "four took {four} us, one {one} us");
}
