//! Real nodes on loopback. Nothing sleeps to be in step with something else: tests wait for events,
//! or for a counter to move, under a generous deadline.

use std::io::Read;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use libp2p::identity::ed25519;
use tokio::runtime::Runtime;

use super::*;

mod bulk;
mod discovery;
mod duplicate;
mod hostile;
mod mesh;
mod quic;
mod relay;

const PATIENCE: Duration = Duration::from_secs(30);
const TAG: &str = "c0ffee";

struct Node {
    network: Arc<P2pNetwork>,
    events: Receiver<NetworkEvent>,
    peer: PeerId,
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Two keys, the one with the smaller peer id first.
fn two_keys() -> [ed25519::Keypair; 2] {
    let mut keys = [ed25519::Keypair::generate(), ed25519::Keypair::generate()];
    keys.sort_by_key(|key| key.public().to_bytes());
    keys
}

fn config(listen: Vec<Address>, announce: Vec<Address>) -> NetworkConfig {
    let max_connections = crate::types::limits::CONNECTIONS_MAX;
    let mdns = false;
    let (cluster_tag, relay, probing) = (TAG.to_owned(), true, Probing::Public);
    let hints = Vec::new();
    NetworkConfig { cluster_tag, listen, announce, hints, max_connections, mdns, relay, probing }
}

fn start_at(
    runtime: &Runtime,
    key: &ed25519::Keypair,
    port: u16,
) -> Result<Arc<P2pNetwork>, NetworkError> {
    let listen = vec![Address::from_socket(([127, 0, 0, 1], port).into())];
    let config = config(listen, Vec::new());
    P2pNetwork::start(config, &KeyVault::from_keypair(key.clone()), runtime.handle().clone())
}

fn node_at(runtime: &Runtime, key: &ed25519::Keypair, port: u16) -> Node {
    let network = start_at(runtime, key, port).unwrap();
    let (sender, events) = channel();
    network.attach(Arc::new(move |event| drop(sender.send(event))));
    Node { peer: network.local_peer(), network, events }
}

fn node(runtime: &Runtime, key: &ed25519::Keypair) -> Node {
    node_at(runtime, key, 0)
}

/// Two nodes with each other in the roster, the one with the smaller peer id first.
fn two_nodes(runtime: &Runtime) -> [Node; 2] {
    let nodes = two_keys().map(|key| node(runtime, &key));
    let roster = BTreeSet::from([nodes[0].peer, nodes[1].peer]);
    for node in &nodes {
        node.network.admit(roster.clone());
    }
    nodes
}

impl Node {
    fn next(&self) -> NetworkEvent {
        self.events.recv_timeout(PATIENCE).expect("an event within the deadline")
    }

    fn address(&self) -> Address {
        self.network.listen_addresses().remove(0)
    }

    fn keep(&self, other: &Node) {
        self.network.keep(other.peer, vec![other.address()]);
    }

    fn expect_up(&self, from: PeerId) -> Option<Address> {
        match self.next() {
            NetworkEvent::Up { peer, dialled } if peer == from => dialled,
            other => panic!("expected {from:?} to be up, got {other:?}"),
        }
    }

    fn expect_down(&self, from: PeerId) {
        assert_eq!(self.next(), NetworkEvent::Down { peer: from });
    }

    fn expect_frame(&self, from: PeerId, lane: Lane, bytes: &[u8]) {
        assert_eq!(self.next(), NetworkEvent::Frame { from, lane, bytes: bytes.to_vec() });
    }

    fn send(&self, to: PeerId, lane: Lane, bytes: &[u8]) {
        self.network.send(to, lane, bytes.to_vec()).unwrap();
    }
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what} did not happen");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

#[test]
fn ten_thousand_frames_on_two_lanes_arrive_in_order_both_ways() {
    const FRAMES: u32 = 10_000;
    const WINDOW: u32 = 500;
    let runtime = runtime();
    let mut nodes = two_nodes(&runtime);
    nodes[0].keep(&nodes[1]);
    assert_eq!(nodes[0].expect_up(nodes[1].peer), Some(nodes[1].address()));
    assert_eq!(nodes[1].expect_up(nodes[0].peer), None);
    let lanes = [Lane::Consensus, Lane::Control];
    std::thread::scope(|scope| {
        let [a, b] = &mut nodes;
        let (first, second) = (a.peer, b.peer);
        for (other, me) in [(second, a), (first, b)] {
            scope.spawn(move || {
                // The frames that came from the other side say how far it is, so that no queue
                // overflows.
                let (mut sent, mut got) = ([0u32; 2], [0u32; 2]);
                while got != [FRAMES; 2] {
                    for (i, lane) in lanes.into_iter().enumerate() {
                        while sent[i] < FRAMES.min(got[i] + WINDOW) {
                            me.send(other, lane, &sent[i].to_le_bytes().repeat(10));
                            sent[i] += 1;
                        }
                    }
                    let NetworkEvent::Frame { from, lane, bytes } = me.next() else {
                        panic!("something else than a frame")
                    };
                    let i = usize::from(lane == Lane::Control);
                    assert_eq!((from, lane), (other, lanes[i]));
                    assert_eq!(bytes, got[i].to_le_bytes().repeat(10));
                    got[i] += 1;
                }
            });
        }
    });
    for node in &nodes {
        for lane in lanes {
            let stats = node.network.stats();
            assert_eq!(get(&stats.lane(lane).frames_in), u64::from(FRAMES));
            assert_eq!(get(&stats.lane(lane).frames_out), u64::from(FRAMES));
        }
    }
}

#[test]
fn the_largest_frames_pass_and_others_are_not_sent() {
    let runtime = runtime();
    let [a, b] = two_nodes(&runtime);
    b.keep(&a);
    a.expect_up(b.peer);
    b.expect_up(a.peer);
    let big = vec![9; crate::types::limits::FRAME_LEN_MAX];
    for lane in [Lane::Bulk, Lane::Consensus, Lane::Bulk] {
        a.send(b.peer, lane, &big);
        b.expect_frame(a.peer, lane, &big);
    }
    assert!(a.network.send(b.peer, Lane::Bulk, Vec::new()).is_err());
    assert!(a.network.send(b.peer, Lane::Join, big).is_err());
    assert_eq!(get(&a.network.stats().dropped_unsendable), 2);
}

#[test]
fn somebody_else_at_the_address_of_a_peer_is_not_taken_for_it() {
    let runtime = runtime();
    let [a, b] = two_nodes(&runtime);
    let sought = PeerId(ed25519::Keypair::generate().public().to_bytes());
    a.network.keep(sought, vec![b.address()]);
    let NetworkEvent::DialFailed { address, reason } = a.next() else { panic!("no failure") };
    assert_eq!(address, b.address());
    assert!(reason.contains(&b.peer.to_string()), "{reason}");
    assert!(get(&a.network.stats().wrong_peer) > 0);
    assert_eq!(a.network.send(sought, Lane::Join, vec![1]), Err(SendError::NotConnected));
}

#[test]
fn a_wrong_address_does_not_hide_the_right_one() {
    let runtime = runtime();
    let [a, b] = two_nodes(&runtime);
    let other = node(&runtime, &ed25519::Keypair::generate());
    a.network.keep(b.peer, vec![other.address(), b.address()]);
    loop {
        match a.next() {
            NetworkEvent::Up { peer, dialled } => {
                assert_eq!((peer, dialled), (b.peer, Some(b.address())));
                break;
            }
            NetworkEvent::DialFailed { address, .. } => assert_eq!(address, other.address()),
            event => panic!("{event:?}"),
        }
    }
}

#[test]
fn dials_that_lead_nowhere_say_why() {
    let runtime = runtime();
    let [a, b] = two_nodes(&runtime);
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Address::from_socket(listener.local_addr().unwrap())
    };
    let expect = |address: &Address, part: &str| {
        a.network.dial(address.clone());
        let NetworkEvent::DialFailed { address: failed, reason } = a.next() else { panic!() };
        assert_eq!(&failed, address);
        assert!(reason.contains(part), "{reason}");
    };
    expect(&closed, "refused");
    expect(&a.address(), "own");
    expect(&"no-such-host.invalid:1".parse().unwrap(), "not resolved");
    a.keep(&b);
    a.expect_up(b.peer);
    expect(&b.address(), "already connected");
}

#[test]
fn names_are_resolved() {
    let runtime = runtime();
    let [a, b] = two_nodes(&runtime);
    let address: Address = format!("localhost:{}", b.address().port).parse().unwrap();
    a.network.keep(b.peer, vec![address.clone()]);
    assert_eq!(a.expect_up(b.peer), Some(address));
}

#[test]
fn a_name_is_dialled_until_one_of_its_addresses_answers() {
    let runtime = runtime();
    let [a, b] = two_nodes(&runtime);
    // It may stand for ::1 first, where nobody listens.
    let address: Address = format!("localhost:{}", b.address().port).parse().unwrap();
    a.network.dial(address.clone());
    assert_eq!(a.expect_up(b.peer), Some(address));
}

#[test]
fn an_address_of_a_name_that_says_nothing_does_not_hold_up_the_next() {
    let runtime = runtime();
    let [a, b] = two_nodes(&runtime);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = vec![Address::from_socket(silent.local_addr().unwrap()), b.address()];
    let name: Address = "name.example:1".parse().unwrap();
    a.network.command(Command::DialAs(name.clone(), addresses));
    let (mut waiting, _) = silent.accept().unwrap();
    assert_eq!(a.expect_up(b.peer), Some(name));
    // Nobody has given that one up yet.
    waiting.set_nonblocking(true).unwrap();
    let mut greeting = Vec::new();
    let error = waiting.read_to_end(&mut greeting).expect_err("it was given up first");
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn whoever_is_not_dialled_any_more_keeps_its_places() {
    let runtime = runtime();
    let [a, b] = two_nodes(&runtime);
    let unproven_after_one_that_ends = || {
        let [local, remote] = ["/ip4/10.0.0.2/udp/1/quic-v1", "/ip4/10.0.0.1/udp/1/quic-v1"];
        let sockets = &a.network.shared.sockets;
        sockets.end(sockets.begin(
            &local.parse().unwrap(),
            &remote.parse().unwrap(),
            Arc::default(),
        ));
        get(&a.network.stats().unproven)
    };
    a.network.shared.sockets.keep_named(b.peer, std::iter::once([10, 0, 0, 1].into()));
    a.keep(&b);
    a.expect_up(b.peer);
    a.network.release(b.peer);
    a.expect_down(b.peer);
    assert_eq!(unproven_after_one_that_ends(), 0, "it may dial this node");
    a.network.admit(BTreeSet::new());
    wait_until("no member is there", || unproven_after_one_that_ends() > 0);
}

#[test]
fn a_node_that_restarts_on_its_port_is_found_again() {
    let runtime = runtime();
    let [small, large] = two_keys();
    for (keeper, restarted) in [(&small, &large), (&large, &small)] {
        let a = node(&runtime, keeper);
        let mut b = node(&runtime, restarted);
        let (roster, port) = (BTreeSet::from([a.peer, b.peer]), b.address().port);
        a.network.admit(roster.clone());
        b.network.admit(roster.clone());
        a.keep(&b);
        a.expect_up(b.peer);
        for i in 0..3 {
            b.expect_up(a.peer);
            a.send(b.peer, Lane::Consensus, &[i]);
            b.expect_frame(a.peer, Lane::Consensus, &[i]);
            let start = Instant::now();
            runtime.block_on(b.network.shutdown());
            b.expect_down(a.peer);
            a.expect_down(b.peer);
            assert!(start.elapsed() < Duration::from_secs(5), "the peer did not notice at once");
            b = node_at(&runtime, restarted, port);
            b.network.admit(roster.clone());
            a.expect_up(b.peer);
        }
    }
}

#[test]
fn a_dropped_network_is_gone() {
    let runtime = runtime();
    let [a, b] = two_nodes(&runtime);
    a.keep(&b);
    a.expect_up(b.peer);
    drop(b);
    assert!(matches!(a.next(), NetworkEvent::Down { .. }));
}

#[test]
fn a_taken_port_is_an_error_that_says_so() {
    let runtime = runtime();
    let [small, large] = two_keys();
    let node = node(&runtime, &small);
    let Err(error) = start_at(&runtime, &large, node.address().port) else {
        panic!("two nodes on one port")
    };
    assert!(matches!(error, NetworkError::PortTaken { .. }));
    assert!(error.to_string().contains("is taken by another program"), "{error}");
    let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = foreign.local_addr().unwrap().port();
    assert!(matches!(start_at(&runtime, &large, port), Err(NetworkError::PortTaken { .. })));
}

#[test]
fn listening_everywhere_tells_addresses_with_the_port() {
    let runtime = runtime();
    let listen = vec!["0.0.0.0:0".parse().unwrap()];
    let vault = KeyVault::from_keypair(ed25519::Keypair::generate());
    let start = |announce| {
        let config = config(listen.clone(), announce);
        P2pNetwork::start(config, &vault, runtime.handle().clone()).unwrap()
    };
    let addresses = start(Vec::new()).listen_addresses();
    assert!(!addresses.is_empty());
    assert!(addresses.iter().all(|a| a.port != 0 && !a.is_unspecified()), "{addresses:?}");
    let announced = start(vec!["boot.example:0".parse().unwrap()]).listen_addresses();
    assert!(announced[0].to_string().starts_with("/dns/boot.example/tcp/"));
    assert_ne!(announced[0].port, 0);
}

#[test]
fn nodes_that_dial_each_other_end_up_with_one_connection_and_one_up() {
    let runtime = runtime();
    for round in 0..10 {
        let [a, b] = two_nodes(&runtime);
        a.keep(&b);
        b.keep(&a);
        a.expect_up(b.peer);
        b.expect_up(a.peer);
        let both = [&a, &b];
        wait_until("one connection", || {
            both.iter().all(|node| get(&node.network.stats().connections) == 1)
        });
        // Frames on a connection that was one too many may be lost, but the lanes go on.
        for (me, other) in [(&a, &b), (&b, &a)] {
            let start = Instant::now();
            loop {
                assert!(start.elapsed() < PATIENCE, "round {round}: no frame arrived");
                me.send(other.peer, Lane::Consensus, &[round]);
                match other.events.recv_timeout(Duration::from_millis(100)) {
                    Ok(NetworkEvent::Frame { bytes, .. }) if bytes == [round] => break,
                    Ok(event) => panic!("round {round}: {event:?}"),
                    Err(_) => {}
                }
            }
            while other.events.try_recv().is_ok() {}
        }
    }
}

#[test]
fn a_new_sink_learns_who_is_there() {
    let runtime = runtime();
    let [a, b] = two_nodes(&runtime);
    a.keep(&b);
    a.expect_up(b.peer);
    let (sender, events) = channel();
    a.network.attach(Arc::new(move |event| drop(sender.send(event))));
    let up = NetworkEvent::Up { peer: b.peer, dialled: Some(b.address()) };
    assert_eq!(events.recv_timeout(PATIENCE), Ok(up));
    a.network.release(b.peer);
    assert_eq!(events.recv_timeout(PATIENCE), Ok(NetworkEvent::Down { peer: b.peer }));
}
