//! Strangers, and peers that break the rules.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::AtomicBool;

use futures_util::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{Stream, StreamProtocol};

use super::*;
use crate::messages::wire::Turned;

/// A peer that speaks the protocols of streams but keeps no rules above them.
struct Raw {
    control: libp2p_stream::Control,
    node: libp2p::PeerId,
    closed: Receiver<()>,
}

fn raw_peer(runtime: &Runtime, key: ed25519::Keypair, node: &Node) -> Raw {
    let keypair = libp2p::identity::Keypair::from(key);
    let behaviour = libp2p_stream::Behaviour::new();
    let control = behaviour.new_control();
    let config = libp2p::swarm::Config::with_tokio_executor();
    let config = config.with_idle_connection_timeout(PATIENCE * 10);
    let (circuits, _) = libp2p::relay::client::new(keypair.public().to_peer_id());
    let transport = transport::transport(&keypair, circuits, Arc::default(), None).unwrap();
    let _entered = runtime.enter();
    let mut swarm = Swarm::new(transport, behaviour, keypair.public().to_peer_id(), config);
    let address = transport::multiaddr(&node.address()).unwrap();
    swarm.dial(address).unwrap();
    let ((up, is_up), (gone, closed)) = (channel(), channel());
    runtime.spawn(async move {
        loop {
            match swarm.select_next_some().await {
                libp2p::swarm::SwarmEvent::ConnectionEstablished { .. } => drop(up.send(())),
                libp2p::swarm::SwarmEvent::ConnectionClosed { .. } => drop(gone.send(())),
                _ => {}
            }
        }
    });
    is_up.recv_timeout(PATIENCE).unwrap();
    Raw { control, node: transport::to_libp2p(node.peer), closed }
}

impl Raw {
    async fn open(&mut self, lane: Lane) -> Stream {
        let name = transport::protocols(TAG)[stats::index(lane)].to_string();
        let name = StreamProtocol::try_from_owned(name).unwrap();
        self.control.open_stream(self.node, name).await.unwrap()
    }

    /// Opens a lane and reads the byte that says that it was taken.
    fn lane(&mut self, runtime: &Runtime, lane: Lane) -> Stream {
        runtime.block_on(async {
            let mut stream = self.open(lane).await;
            let mut byte = [0];
            stream.read_exact(&mut byte).await.unwrap();
            assert_eq!(byte, [1]);
            stream
        })
    }
}

#[test]
fn a_stranger_is_heard_on_the_join_lane_only_until_it_is_admitted() {
    let runtime = runtime();
    // The stranger has the smaller peer id: it is the one that opens lanes.
    let [stranger, host] = two_keys().map(|key| node(&runtime, &key));
    stranger.network.admit(BTreeSet::from([host.peer]));
    stranger.network.dial(host.address());
    assert_eq!(stranger.expect_up(host.peer), Some(host.address()));
    assert_eq!(host.expect_up(stranger.peer), None);
    stranger.send(host.peer, Lane::Control, b"too early");
    let refused = || get(&host.network.stats().refused_stranger) > 0;
    wait_until("a refusal of the control lane", refused);
    assert_eq!(
        host.network.send(stranger.peer, Lane::Control, vec![1]),
        Err(SendError::NotConnected)
    );
    stranger.send(host.peer, Lane::Join, b"let me in");
    host.expect_frame(stranger.peer, Lane::Join, b"let me in");
    host.send(stranger.peer, Lane::Join, b"welcome");
    stranger.expect_frame(host.peer, Lane::Join, b"welcome");
    // The control frame waited for its lane. No second `Up` comes before it.
    host.network.admit(BTreeSet::from([stranger.peer]));
    host.send(stranger.peer, Lane::Consensus, b"hello");
    host.expect_frame(stranger.peer, Lane::Control, b"too early");
    stranger.expect_frame(host.peer, Lane::Consensus, b"hello");
}

#[test]
fn a_stranger_may_be_the_side_that_does_not_open_lanes() {
    let runtime = runtime();
    let [host, stranger] = two_keys().map(|key| node(&runtime, &key));
    stranger.network.dial(host.address());
    stranger.expect_up(host.peer);
    host.expect_up(stranger.peer);
    stranger.send(host.peer, Lane::Join, b"let me in");
    host.expect_frame(stranger.peer, Lane::Join, b"let me in");
    host.network.admit(BTreeSet::from([stranger.peer]));
    host.send(stranger.peer, Lane::Consensus, b"hello");
    stranger.network.admit(BTreeSet::from([host.peer]));
    stranger.expect_frame(host.peer, Lane::Consensus, b"hello");
    // Out of the roster, out of the door.
    host.network.admit(BTreeSet::new());
    host.expect_down(stranger.peer);
    stranger.expect_down(host.peer);
}

#[test]
fn a_stranger_that_does_not_join_is_sent_away() {
    let runtime = runtime();
    let [stranger, host] = two_keys().map(|key| node(&runtime, &key));
    let start = Instant::now();
    // It takes itself for a member.
    stranger.network.admit(BTreeSet::from([host.peer]));
    stranger.network.dial(host.address());
    host.expect_up(stranger.peer);
    stranger.expect_up(host.peer);
    host.expect_down(stranger.peer);
    let turned = NetworkEvent::TurnedAway { peer: host.peer, why: Turned::NotAMember };
    assert_eq!(stranger.next(), turned);
    let limit = Duration::from_millis(crate::types::limits::STRANGER_TIMEOUT_MS);
    assert!(start.elapsed() >= limit);
}

#[test]
fn join_frames_of_strangers_are_counted_out() {
    let runtime = runtime();
    let [stranger, host] = two_keys().map(|key| node(&runtime, &key));
    stranger.network.dial(host.address());
    stranger.expect_up(host.peer);
    host.expect_up(stranger.peer);
    for i in 0..100 {
        stranger.send(host.peer, Lane::Join, &[i]);
    }
    let stats = host.network.stats();
    wait_until("100 join frames", || get(&stats.lane(Lane::Join).frames_in) == 100);
    // Ten at once and ten per second of whatever time the hundred took.
    wait_until("a join frame being dropped", || get(&stats.joins_dropped) > 0);
    host.expect_frame(stranger.peer, Lane::Join, &[0]);
}

#[test]
fn an_oversize_length_costs_the_connection() {
    let runtime = runtime();
    let [small, large] = two_keys();
    let node = node(&runtime, &large);
    let peer = PeerId(small.public().to_bytes());
    node.network.admit(BTreeSet::from([peer]));
    let mut raw = raw_peer(&runtime, small, &node);
    let _consensus = raw.lane(&runtime, Lane::Consensus);
    let mut control = raw.lane(&runtime, Lane::Control);
    node.expect_up(peer);
    runtime.block_on(async {
        control.write_all(&[2, 0, 0, 0, 7, 7]).await.unwrap();
        control.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
        control.flush().await.unwrap();
    });
    node.expect_frame(peer, Lane::Control, &[7, 7]);
    node.expect_down(peer);
    raw.closed.recv_timeout(PATIENCE).unwrap();
    assert_eq!(get(&node.network.stats().oversize), 1);
}

#[test]
fn a_peer_that_does_not_read_fills_its_queue_and_then_loses_its_connection() {
    let runtime = runtime();
    let [small, large] = two_keys();
    let node = node(&runtime, &large);
    let peer = PeerId(small.public().to_bytes());
    node.network.admit(BTreeSet::from([peer]));
    let mut raw = raw_peer(&runtime, small, &node);
    let _lanes = [Lane::Consensus, Lane::Control].map(|lane| raw.lane(&runtime, lane));
    node.expect_up(peer);
    let mut taken = 0;
    while node.network.send(peer, Lane::Control, vec![1; 64 * 1024]).is_ok() {
        taken += 1;
        assert!(taken < 10_000, "the queue has no end");
    }
    let full = node.network.send(peer, Lane::Control, vec![1; 64 * 1024]);
    assert_eq!(full, Err(SendError::QueueFull));
    assert!(get(&node.network.stats().dropped_queue_full) >= 2);
    // A full queue on one lane is no trouble on another.
    node.send(peer, Lane::Consensus, b"heartbeat");
    node.expect_down(peer);
    assert_eq!(get(&node.network.stats().stalled), 1);
    let gone = node.network.send(peer, Lane::Control, vec![1]);
    assert_eq!(gone, Err(SendError::NotConnected));
}

#[test]
fn garbage_and_half_open_connections_do_no_harm() {
    let runtime = runtime();
    let [a, b] = two_nodes(&runtime);
    let port = a.address().port;
    let connect = || TcpStream::connect(("127.0.0.1", port)).unwrap();
    let _half_open: Vec<TcpStream> = (0..50).map(|_| connect()).collect();
    let mut talkers: Vec<TcpStream> = (0..50).map(|_| connect()).collect();
    for (i, talker) in talkers.iter_mut().enumerate() {
        let garbage: Vec<u8> = (0..i * 100).map(|n| (n * 31 + i) as u8).collect();
        // The node may have hung up already.
        let _ = talker.write_all(b"\x13/multistream/1.0.0\n").and(talker.write_all(&garbage));
    }
    b.keep(&a);
    b.expect_up(a.peer);
    a.expect_up(b.peer);
    b.send(a.peer, Lane::Control, b"still there");
    a.expect_frame(b.peer, Lane::Control, b"still there");
    assert_eq!(get(&a.network.stats().connections), 1);
}

/// Connections on which nothing is ever said, each made anew as soon as it is closed.
struct Silent {
    is_over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Silent {
    fn at(port: u16, count: usize) -> Self {
        let is_over = Arc::<AtomicBool>::default();
        let over = is_over.clone();
        let connect = move || {
            let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
            stream.set_nonblocking(true).ok().map(|()| stream)
        };
        let is_open = |stream: &Option<TcpStream>| {
            let seen = stream.as_ref().map(|stream| stream.peek(&mut [0]));
            matches!(seen, Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock)
        };
        let thread = std::thread::spawn(move || {
            let mut streams: Vec<_> = (0..count).map(|_| connect()).collect();
            while !over.load(Ordering::Acquire) {
                for stream in &mut streams {
                    if !is_open(stream) {
                        *stream = connect();
                    }
                }
                std::thread::park_timeout(Duration::from_millis(10));
            }
        });
        Self { is_over, thread: Some(thread) }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

#[test]
fn silent_connections_keep_neither_a_member_nor_a_joiner_out() {
    let runtime = runtime();
    let [a, b] = two_nodes(&runtime);
    let stats = a.network.stats();
    let _silent = Silent::at(a.address().port, bounds::ARRIVALS_PER_SOURCE_MAX + 20);
    wait_until("the longest silent give way", || get(&stats.gave_way) > 0);
    b.keep(&a);
    b.expect_up(a.peer);
    a.expect_up(b.peer);
    let joiner = node(&runtime, &ed25519::Keypair::generate());
    joiner.network.dial(a.address());
    joiner.expect_up(a.peer);
    a.expect_up(joiner.peer);
    joiner.send(a.peer, Lane::Join, b"let me in");
    a.expect_frame(joiner.peer, Lane::Join, b"let me in");
    assert!(get(&stats.arrivals) <= bounds::ARRIVALS_PER_SOURCE_MAX as u64);
}

#[test]
fn strangers_that_do_nothing_give_way_to_one_that_joins() {
    let runtime = runtime();
    let host = node(&runtime, &ed25519::Keypair::generate());
    let stats = host.network.stats();
    let _idle: Vec<Raw> = (0..crate::types::limits::STRANGERS_MAX)
        .map(|_| raw_peer(&runtime, ed25519::Keypair::generate(), &host))
        .collect();
    let joiner = node(&runtime, &ed25519::Keypair::generate());
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < PATIENCE, "it is not heard");
        joiner.network.dial(host.address());
        // While all the others have only just come it is turned away, and dials again.
        let _ = joiner.events.recv_timeout(Duration::from_millis(200));
        let _ = joiner.network.send(host.peer, Lane::Join, b"let me in".to_vec());
        let frames = host.events.try_iter().filter_map(|event| match event {
            NetworkEvent::Frame { from, .. } => Some(from),
            _ => None,
        });
        if frames.collect::<Vec<PeerId>>().contains(&joiner.peer) {
            break;
        }
    }
    assert!(get(&stats.gave_way) > 0, "one of the others had to go");
}
