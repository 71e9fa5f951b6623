//! Bytes in bulk, beside the lanes.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::AtomicBool;
use std::sync::{Condvar, Mutex};

use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::core::Endpoint;
use libp2p::core::transport::{DialOpts, PortUse, Transport as _};

use self::contract::{Pair, begin, begin_finish, begin_read, begin_write, open, serve};
use super::super::bulk::doors;
use super::*;
use crate::ports::bulk::{
    BulkError, BulkReader, BulkStream, BulkWriter, Read as BulkRead, Refusal,
};
use crate::types::Lock;
use crate::types::limits::{
    BULK_CHUNK_MAX, BULK_CONNECTIONS_PER_PEER_MAX, BULK_STREAMS_PER_PEER_MAX,
};

#[path = "../../../../tests/bulk/contract.rs"]
mod contract;

/// What the contract speaks of.
mod port {
    pub use crate::ports::bulk;
    pub use crate::types::limits::{BULK_CHUNK_MAX, BULK_HEADER_MAX, BULK_STREAMS_PER_PEER_MAX};
    pub use crate::types::{Address, PeerId};
}

/// Two nodes whose lanes need not run.
struct Two {
    nodes: [Node; 2],
    _runtime: Runtime,
}

impl Two {
    fn new() -> Self {
        let runtime = runtime();
        Self { nodes: two_nodes(&runtime), _runtime: runtime }
    }

    /// Two whose lanes run.
    fn connected() -> Self {
        let two = Self::new();
        let [a, b] = &two.nodes;
        a.keep(b);
        a.expect_up(b.peer);
        b.expect_up(a.peer);
        two
    }
}

impl Pair for [Node; 2] {
    fn bulk(&self, side: usize) -> Arc<dyn Bulk> {
        self[side].network.bulk()
    }

    fn peer(&self, side: usize) -> PeerId {
        self[side].peer
    }

    fn at(&self, side: usize) -> Vec<Address> {
        vec![self[side].address()]
    }

    fn remove(&self, side: usize) {
        self[side].network.admit(BTreeSet::from([self[side].peer]));
    }

    fn wait<T>(&self, from: &Receiver<T>) -> T {
        from.recv_timeout(PATIENCE).expect("it is answered within the deadline")
    }
}

#[test]
fn chunks_arrive_as_they_were_written_until_the_end_is_said() {
    contract::chunks_arrive_as_they_were_written_until_the_end_is_said(&Two::new().nodes);
}

#[test]
fn an_end_that_nobody_has_said_is_none() {
    contract::an_end_that_nobody_has_said_is_none(&Two::new().nodes);
}

#[test]
fn who_has_enough_says_so_also_after_its_own_end() {
    contract::who_has_enough_says_so_also_after_its_own_end(&Two::new().nodes);
}

#[test]
fn whoever_hears_that_a_stream_is_over_finds_its_place_free() {
    contract::whoever_hears_that_a_stream_is_over_finds_its_place_free(&Two::new().nodes);
}

#[test]
fn who_cannot_be_dialled_is_not_waited_for() {
    let two = Two::new();
    let [a, b] = &two.nodes;
    for (at, to) in [("127.0.0.1:0", b.peer), ("127.0.0.1:4001", a.peer)] {
        let (sender, opened) = channel();
        let then = Box::new(move |result: Result<BulkStream, _>| drop(sender.send(result.err())));
        a.network.bulk().open(to, vec![at.parse().unwrap()], Vec::new(), then);
        let why = two.nodes.wait(&opened);
        assert!(matches!(why, Some(BulkError::NoWay { .. })), "{why:?}");
    }
}

#[test]
fn a_start_that_fails_says_why_also_within_a_runtime() {
    let (runtime, [key, other]) = (runtime(), two_keys());
    let taken = node(&runtime, &key);
    let port = taken.address().port;
    let error = runtime.block_on(async { start_at(&runtime, &other, port).err() });
    assert!(matches!(error, Some(NetworkError::PortTaken { .. })), "{error:?}");
}

#[test]
fn a_reader_that_does_not_read_stops_the_writer() {
    let two = Two::new();
    // What a window grows to on this machine, and one at each end.
    contract::a_reader_that_does_not_read_stops_the_writer(&two.nodes, 14 + 2);
    for node in &two.nodes {
        let most = get(&node.network.stats().bulk.held_most);
        assert!(most <= 2 * BULK_CHUNK_MAX as u64, "{most} bytes were held");
        assert_eq!(get(&node.network.stats().bulk.held), 0);
    }
}

#[test]
fn there_are_so_many_streams_and_places_come_back() {
    contract::there_are_so_many_streams_and_places_come_back(&Two::new().nodes);
}

#[test]
fn what_is_cancelled_says_so_once() {
    contract::what_is_cancelled_says_so_once(&Two::new().nodes);
}

#[test]
fn what_is_too_long_is_not_sent() {
    contract::what_is_too_long_is_not_sent(&Two::new().nodes);
}

#[test]
fn who_does_not_want_a_stream_says_why() {
    contract::who_does_not_want_a_stream_says_why(&Two::new().nodes);
}

#[test]
fn who_is_no_member_any_more_gets_nothing() {
    contract::who_is_no_member_any_more_gets_nothing(&Two::new().nodes);
}

/// Dials a node as for bulk bytes; none if it has opened no door.
fn knock(runtime: &Runtime, key: &ed25519::Keypair, node: &Node) -> Option<doors::Io> {
    let keypair = libp2p::identity::Keypair::from(key.clone());
    let mut dialling = doors::dialling(&keypair, doors::name(TAG), Arc::default()).unwrap();
    let at = transport::multiaddr(&node.address()).unwrap();
    let _entered = runtime.enter();
    let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let dial = dialling.dial(at, options).unwrap();
    let dialled = runtime.block_on(async { tokio::time::timeout(PATIENCE, dial).await.unwrap() });
    dialled.ok().map(|(_, io)| io)
}

#[test]
fn a_stranger_finds_no_door_and_a_member_one_beside_the_lanes() {
    let runtime = runtime();
    let [a, b] = two_keys();
    let node = node(&runtime, &a);
    let stats = node.network.stats();
    assert!(knock(&runtime, &b, &node).is_none());
    assert_eq!((get(&stats.connections), get(&stats.bulk.connections)), (0, 0));
    let member = PeerId(b.public().to_bytes());
    node.network.admit(BTreeSet::from([node.peer, member]));
    let mut io = knock(&runtime, &b, &node).expect("it is a member");
    // It has shown whose it is, and takes no place of those that have not.
    wait_until("it is let in", || get(&stats.arrivals) == 0);
    assert_eq!((get(&stats.connections), get(&stats.gave_way)), (0, 0));
    wait_until("it is counted", || get(&stats.bulk.connections) == 1);
    // Who breaks the rules there loses the connection.
    runtime.block_on(async {
        io.write_all(&[255; 64]).await.unwrap();
        io.flush().await.unwrap();
        // Whatever is said last, it ends.
        let mut said = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, io.read_to_end(&mut said)).await;
        assert!(ended.is_ok());
    });
    wait_until("it is gone", || get(&stats.bulk.connections) == 0);
}

#[test]
fn one_member_has_so_many_connections_and_no_more() {
    let (runtime, [a, b]) = (runtime(), two_keys());
    let node = node(&runtime, &a);
    let stats = node.network.stats();
    node.network.admit(BTreeSet::from([node.peer, PeerId(b.public().to_bytes())]));
    let mut all = Vec::new();
    for _ in 0..4 * BULK_CONNECTIONS_PER_PEER_MAX {
        all.extend(knock(&runtime, &b, &node));
    }
    assert_eq!(all.len(), 4 * BULK_CONNECTIONS_PER_PEER_MAX);
    // All but the last ones are closed, although nobody reads what they say.
    let mut ended = 0;
    let last = all.split_off(3 * BULK_CONNECTIONS_PER_PEER_MAX);
    for mut io in all {
        runtime.block_on(async {
            let mut said = Vec::new();
            let end = tokio::time::timeout(PATIENCE, io.read_to_end(&mut said)).await;
            ended += usize::from(end.is_ok());
        });
    }
    assert_eq!(ended, 3 * BULK_CONNECTIONS_PER_PEER_MAX);
    assert!(get(&stats.bulk.connections) <= BULK_CONNECTIONS_PER_PEER_MAX as u64);
    drop(last);
}

#[test]
fn lanes_count_no_connections_for_bulk_bytes() {
    let two = Two::connected();
    let [a, b] = &two.nodes;
    let incoming = serve(&two.nodes, 1);
    let streams = open(&two.nodes, 0, &incoming);
    for node in [a, b] {
        let stats = node.network.stats();
        assert_eq!((get(&stats.connections), get(&stats.bulk.connections)), (1, 1));
    }
    assert_eq!(get(&a.network.stats().bulk.streams_out), 1);
    assert_eq!(get(&b.network.stats().bulk.streams_in), 1);
    drop(streams);
    wait_until("the stream is gone", || {
        get(&a.network.stats().bulk.streams_out) + get(&b.network.stats().bulk.streams_in) == 0
    });
    assert!(a.events.try_recv().is_err() && b.events.try_recv().is_err());
}

#[test]
fn of_two_connections_that_were_dialled_at_once_one_stays() {
    let two = Two::new();
    let incoming = [serve(&two.nodes, 0), serve(&two.nodes, 1)];
    let begun = [0, 1].map(|side| begin(&two.nodes, side, b"").1);
    let streams: Vec<BulkStream> = (0..2)
        .flat_map(|side| {
            let taken = two.nodes.wait(&incoming[1 - side]).accept();
            [taken, two.nodes.wait(&begun[side]).unwrap_or_else(|why| panic!("{why}"))]
        })
        .collect();
    drop(streams);
    wait_until("one is left", || {
        two.nodes.iter().all(|node| get(&node.network.stats().bulk.connections) == 1)
    });
    // It serves both.
    for side in [0, 1] {
        open(&two.nodes, side, &incoming[1 - side]);
    }
    assert!(two.nodes.iter().all(|node| get(&node.network.stats().bulk.connections) == 1));
}

#[test]
fn a_second_process_with_the_same_key_gets_nothing() {
    let runtime = runtime();
    let [host, key] = two_keys();
    let nodes = [node(&runtime, &key), node(&runtime, &host)];
    let copy = [node(&runtime, &key), node(&runtime, &host)];
    let [first, host] = &nodes;
    let roster = BTreeSet::from([first.peer, host.peer]);
    for node in nodes.iter().chain(&copy) {
        node.network.admit(roster.clone());
    }
    first.keep(host);
    host.expect_up(first.peer);
    wait_until("it says which run it is", || host.network.shared.run_of(first.peer).is_some());
    let incoming = serve(&nodes, 1);
    let [own, taken] = open(&nodes, 0, &incoming);
    let (sender, opened) = channel();
    let then =
        Box::new(move |result: Result<BulkStream, BulkError>| drop(sender.send(result.err())));
    copy[0].network.bulk().open(host.peer, vec![host.address()], Vec::new(), then);
    assert_eq!(nodes.wait(&opened), Some(BulkError::Refused(Refusal::OtherRun)));
    // Nor does it notice anything of a stream that is open.
    let written = begin_write(own.writer, vec![7]);
    let read = nodes.wait(&begin_read(taken.reader));
    assert!(matches!(read, Ok(BulkRead::Chunk(bytes, _)) if bytes == [7]));
    assert!(nodes.wait(&written).is_ok());
}

/// Sends frames to and fro, one after the other.
fn echo(two: &[Node; 2], frames: u32) {
    let [a, b] = two;
    (0..frames).for_each(|number| beat(a, b, number));
}

/// One frame to and fro.
fn beat(a: &Node, b: &Node, number: u32) {
    let bytes = number.to_le_bytes().repeat(50);
    a.send(b.peer, Lane::Consensus, &bytes);
    b.expect_frame(a.peer, Lane::Consensus, &bytes);
    b.send(a.peer, Lane::Consensus, &bytes);
    a.expect_frame(b.peer, Lane::Consensus, &bytes);
}

#[test]
fn a_callback_that_blocks_keeps_no_lane_waiting() {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build().unwrap();
    let nodes = two_nodes(&runtime);
    let [a, b] = &nodes;
    a.keep(b);
    a.expect_up(b.peer);
    b.expect_up(a.peer);
    let incoming = serve(&nodes, 1);
    let [own, taken] = open(&nodes, 0, &incoming);
    let (gate, (reached, is_reached)) = (Arc::new((Mutex::new(false), Condvar::new())), channel());
    let held = gate.clone();
    taken.reader.read(Box::new(move |_| {
        reached.send(()).unwrap();
        let mut is_open = held.0.locked();
        while !*is_open {
            is_open = held.1.wait(is_open).unwrap();
        }
    }));
    let written = begin_write(own.writer, vec![1]);
    nodes.wait(&is_reached);
    echo(&nodes, 1_000);
    *gate.0.locked() = true;
    gate.1.notify_all();
    assert!(nodes.wait(&written).is_ok());
}

/// Passes connections on, and stops doing that for all but the first when it is told so.
struct Proxy {
    at: Address,
    is_frozen: Arc<AtomicBool>,
    /// Both ends of each.
    passed: Arc<Mutex<Vec<[TcpStream; 2]>>>,
}

impl Proxy {
    fn to(node: &Node) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = Address::from_socket(listener.local_addr().unwrap());
        let to = node.address().socket().unwrap();
        let (is_frozen, passed) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (frozen, all) = (is_frozen.clone(), passed.clone());
        std::thread::spawn(move || {
            for from in listener.incoming() {
                let from = from.unwrap();
                let Ok(to) = TcpStream::connect(to) else { return };
                for end in [&from, &to] {
                    end.set_nodelay(true).unwrap();
                }
                let clone = |stream: &TcpStream| stream.try_clone().unwrap();
                let mut all = all.locked();
                let is_first = all.is_empty();
                all.push([clone(&from), clone(&to)]);
                for (mut source, mut sink) in [(clone(&from), clone(&to)), (to, from)] {
                    let frozen = frozen.clone();
                    std::thread::spawn(move || {
                        let mut buffer = vec![0; 64 * 1024];
                        while let Ok(len @ 1..) = source.read(&mut buffer) {
                            while !is_first && frozen.load(Ordering::SeqCst) {
                                std::thread::park_timeout(Duration::from_millis(2));
                            }
                            if sink.write_all(&buffer[..len]).is_err() {
                                return;
                            }
                        }
                        // The other end may be gone.
                        let _ = sink.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Self { at, is_frozen, passed }
    }
}

#[test]
fn lanes_go_on_where_bulk_bytes_stand_still_or_break() {
    let two = Two::new();
    let [a, b] = &two.nodes;
    let proxy = Proxy::to(b);
    a.network.keep(b.peer, vec![proxy.at.clone()]);
    a.expect_up(b.peer);
    b.expect_up(a.peer);
    let incoming = serve(&two.nodes, 1);
    let (sender, opened) = channel();
    let then = Box::new(move |result| drop(sender.send(result)));
    a.network.bulk().open(b.peer, vec![proxy.at.clone()], Vec::new(), then);
    let taken = two.nodes.wait(&incoming).accept();
    let own = two.nodes.wait(&opened).unwrap_or_else(|why: BulkError| panic!("{why}"));
    assert_eq!(proxy.passed.locked().len(), 2, "a connection of its own");

    proxy.is_frozen.store(true, Ordering::SeqCst);
    fn fill(writer: Box<dyn BulkWriter>, ended: std::sync::mpsc::Sender<BulkError>) {
        let next = ended.clone();
        let then = move |result: Result<Box<dyn BulkWriter>, BulkError>| match result {
            Ok(writer) => fill(writer, next),
            Err(why) => drop(next.send(why)),
        };
        drop(ended);
        writer.write(vec![0; BULK_CHUNK_MAX], Box::new(then));
    }
    let (sender, ended) = channel();
    fill(own.writer, sender);
    echo(&two.nodes, 2_000);
    assert!(ended.try_recv().is_err());

    let second = proxy.passed.locked()[1].each_ref().map(|end| end.shutdown(Shutdown::Both));
    drop(second);
    let why = two.nodes.wait(&ended);
    assert!(matches!(why, BulkError::Broken { .. }), "{why:?}");
    let read = two.nodes.wait(&begin_read(taken.reader));
    assert!(matches!(read, Err(BulkError::Broken { .. })), "{read:?}");
    proxy.is_frozen.store(false, Ordering::SeqCst);
    echo(&two.nodes, 100);
    assert!(a.events.try_recv().is_err() && b.events.try_recv().is_err());
}

#[test]
fn whoever_waits_when_a_node_stops_is_told() {
    let two = Two::connected();
    let incoming = serve(&two.nodes, 1);
    let [own, taken] = open(&two.nodes, 0, &incoming);
    let (read, theirs) = (begin_read(own.reader), begin_read(taken.reader));
    let (_, opened) = begin(&two.nodes, 0, b"");
    let _waiting = two.nodes.wait(&incoming);
    two._runtime.block_on(two.nodes[0].network.shutdown());
    assert!(matches!(read.try_recv(), Ok(Err(BulkError::Stopped))));
    assert!(matches!(opened.try_recv(), Ok(Err(BulkError::Stopped))));
    assert!(matches!(two.nodes.wait(&begin(&two.nodes, 0, b"").1), Err(BulkError::Stopped)));
    let theirs = two.nodes.wait(&theirs);
    assert!(matches!(theirs, Err(BulkError::Broken { .. })), "{theirs:?}");
    let finished = two.nodes.wait(&begin_finish(own.writer));
    assert_eq!(finished, Err(BulkError::Stopped));
}

/// Writes chunks that all have their number in front, and says the end.
fn write_all(writer: Box<dyn BulkWriter>, number: u64, chunks: u64, pattern: Arc<Vec<u8>>) {
    if number == chunks {
        return writer.finish(Box::new(|finished| finished.unwrap()));
    }
    let mut chunk = pattern.to_vec();
    chunk[..8].copy_from_slice(&number.to_le_bytes());
    let then = move |written: Result<Box<dyn BulkWriter>, BulkError>| {
        write_all(written.unwrap_or_else(|why| panic!("{why}")), number + 1, chunks, pattern);
    };
    writer.write(chunk, Box::new(then));
}

/// Reads as many, and looks at each.
fn read_all(
    reader: Box<dyn BulkReader>,
    number: u64,
    pattern: Arc<Vec<u8>>,
    done: std::sync::mpsc::Sender<u64>,
) {
    reader.read(Box::new(move |read| match read {
        Ok(BulkRead::Chunk(chunk, reader)) => {
            assert_eq!(chunk[..8], number.to_le_bytes());
            assert!(chunk[8..] == pattern[8..], "chunk {number}");
            read_all(reader, number + 1, pattern, done);
        }
        Ok(BulkRead::End) => drop(done.send(number)),
        Err(why) => panic!("{why}"),
    }));
}

#[test]
fn a_gibibyte_passes_beside_heartbeats() {
    const CHUNKS: u64 = 512;
    let two = Two::connected();
    let incoming = [serve(&two.nodes, 0), serve(&two.nodes, 1)];
    let pattern: Arc<Vec<u8>> = Arc::new((0..BULK_CHUNK_MAX).map(|at| (at * 7) as u8).collect());
    let (sender, done) = channel();
    let begun = Instant::now();
    // 128 MiB each way on each.
    for stream in 0..BULK_STREAMS_PER_PEER_MAX {
        let side = stream % 2;
        for half in open(&two.nodes, side, &incoming[1 - side]) {
            read_all(half.reader, 0, pattern.clone(), sender.clone());
            write_all(half.writer, 0, CHUNKS, pattern.clone());
        }
    }
    drop(sender);
    // One beat after the other, as many as there can be while the bytes pass.
    let [a, b] = &two.nodes;
    let (mut beats, mut ended) = (0, 0);
    while ended < 2 * BULK_STREAMS_PER_PEER_MAX {
        beat(a, b, beats);
        beats += 1;
        while let Ok(chunks) = done.try_recv() {
            assert_eq!(chunks, CHUNKS);
            ended += 1;
        }
        assert!(begun.elapsed() < 4 * PATIENCE, "{ended} halves have ended");
    }
    let mib = get(&a.network.stats().bulk.bytes_in) + get(&b.network.stats().bulk.bytes_in);
    assert_eq!(mib, 1 << 30);
    // Behind all that there would be a handful.
    assert!(beats >= 200, "{beats} beats passed beside them");
    for node in [a, b] {
        let stats = node.network.stats();
        let lost = [&stats.dropped_queue_full, &stats.dead, &stats.stalled, &stats.slow];
        assert_eq!(lost.map(get), [0; 4]);
        assert_eq!(get(&stats.connections), 1, "the lanes are where they were");
        // Of each half at most one chunk.
        let most = get(&stats.bulk.held_most);
        assert!(most <= (2 * BULK_STREAMS_PER_PEER_MAX * BULK_CHUNK_MAX) as u64, "{most}");
        assert!(node.events.try_recv().is_err(), "nobody was lost");
    }
}
