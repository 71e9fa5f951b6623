//! QUIC, alone and beside TCP.

use std::net::TcpListener;

use libp2p::core::Endpoint;
use libp2p::core::Transport as _;
use libp2p::core::transport::{DialOpts, PortUse};

use super::*;

fn loopback(transport: Transport, port: u16) -> Address {
    Address::new(([127, 0, 0, 1], port).into(), transport)
}

/// A node that listens on free ports of these transports.
fn node_on(runtime: &Runtime, key: &ed25519::Keypair, transports: &[Transport]) -> Node {
    let listen = transports.iter().map(|transport| loopback(*transport, 0)).collect();
    let vault = KeyVault::from_keypair(key.clone());
    let network =
        P2pNetwork::start(config(listen, Vec::new()), &vault, runtime.handle().clone()).unwrap();
    let (sender, events) = channel();
    network.attach(Arc::new(move |event| drop(sender.send(event))));
    Node { peer: network.local_peer(), network, events }
}

fn two_nodes_on(runtime: &Runtime, transports: &[Transport]) -> [Node; 2] {
    let nodes = two_keys().map(|key| node_on(runtime, &key, transports));
    let roster = BTreeSet::from([nodes[0].peer, nodes[1].peer]);
    for node in &nodes {
        node.network.admit(roster.clone());
    }
    nodes
}

fn quic_of(node: &Node) -> Address {
    let mut addresses = node.network.listen_addresses();
    addresses.retain(|address| address.transport == Transport::Quic);
    addresses.remove(0)
}

#[test]
fn lanes_run_over_quic_and_end_with_it() {
    let runtime = runtime();
    let [a, b] = two_nodes_on(&runtime, &[Transport::Quic]);
    a.network.keep(b.peer, vec![quic_of(&b)]);
    assert_eq!(a.expect_up(b.peer), Some(quic_of(&b)));
    assert_eq!(b.expect_up(a.peer), None);
    let large = vec![7; crate::types::limits::FRAME_LEN_MAX];
    for lane in [Lane::Consensus, Lane::Control, Lane::Bulk] {
        a.send(b.peer, lane, b"there");
        b.expect_frame(a.peer, lane, b"there");
        b.send(a.peer, lane, &large);
        a.expect_frame(b.peer, lane, &large);
    }
    runtime.block_on(b.network.shutdown());
    a.expect_down(b.peer);
}

#[test]
fn tcp_is_taken_where_both_work_and_quic_where_tcp_does_not() {
    let runtime = runtime();
    let both = [Transport::Quic, Transport::Tcp];
    let [a, b] = two_nodes_on(&runtime, &both);
    assert_eq!(b.network.listen_addresses().len(), 2);
    a.network.keep(b.peer, b.network.listen_addresses());
    let dialled = a.expect_up(b.peer).unwrap();
    assert_eq!(dialled.transport, Transport::Tcp);

    let [a, b] = two_nodes_on(&runtime, &both);
    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = Address::from_socket(silent.local_addr().unwrap());
    a.network.keep(b.peer, vec![nowhere, quic_of(&b)]);
    assert_eq!(a.expect_up(b.peer), Some(quic_of(&b)));
}

#[test]
fn a_taken_udp_port_is_a_plain_error() {
    let runtime = runtime();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = loopback(Transport::Quic, taken.local_addr().unwrap().port());
    let vault = KeyVault::from_keypair(ed25519::Keypair::generate());
    let Err(error) =
        P2pNetwork::start(config(vec![at], Vec::new()), &vault, runtime.handle().clone())
    else {
        panic!("it started on a taken port");
    };
    assert!(matches!(error, NetworkError::PortTaken { .. }), "{error}");
}

/// Passes on what comes for a node, and none of its answers.
fn one_way(to: &Address) -> Address {
    let [near, far] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let address = Address::new(near.local_addr().unwrap(), Transport::Quic);
    let to = to.socket().unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 64 * 1024];
        while let Ok(len) = near.recv(&mut bytes) {
            if far.send_to(&bytes[..len], to).is_err() {
                return;
            }
        }
    });
    address
}

#[test]
fn handshakes_over_quic_that_do_not_go_on_keep_nobody_out() {
    let runtime = runtime();
    let [a, b] = two_nodes_on(&runtime, &[Transport::Quic]);
    let stats = a.network.stats();
    let mut config = libp2p::quic::Config::new(&libp2p::identity::Keypair::generate_ed25519());
    config.handshake_timeout = PATIENCE;
    let way = transport::multiaddr(&one_way(&quic_of(&a))).unwrap();
    let entered = runtime.enter();
    let mut deaf = libp2p::quic::tokio::Transport::new(config);
    for _ in 0..=bounds::QUIC_ARRIVALS_PER_SOURCE_MAX {
        let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        runtime.spawn(deaf.dial(way.clone(), options).unwrap());
    }
    drop(entered);
    wait_until("the longest under way give way", || get(&stats.gave_way) > 0);
    b.network.keep(a.peer, vec![quic_of(&a)]);
    b.expect_up(a.peer);
    a.expect_up(b.peer);
    assert!(get(&stats.arrivals) <= bounds::QUIC_ARRIVALS_PER_SOURCE_MAX as u64);
}
