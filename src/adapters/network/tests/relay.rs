//! Members that nobody can dial.

use super::*;

/// A node that listens where `listen` says.
fn node_with(
    runtime: &Runtime,
    listen: Vec<Address>,
    change: impl FnOnce(&mut NetworkConfig),
) -> Node {
    let mut config = config(listen, Vec::new());
    change(&mut config);
    let vault = KeyVault::from_keypair(ed25519::Keypair::generate());
    let network = P2pNetwork::start(config, &vault, runtime.handle().clone()).unwrap();
    let (sender, events) = channel();
    network.attach(Arc::new(move |event| drop(sender.send(event))));
    Node { peer: network.local_peer(), network, events }
}

fn loopback() -> Vec<Address> {
    vec![Address::from_socket(([127, 0, 0, 1], 0).into())]
}

/// Where nobody listens.
fn nowhere() -> Address {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    Address::from_socket(free.local_addr().unwrap())
}

fn admit_all(nodes: &[&Node]) {
    let roster: BTreeSet<PeerId> = nodes.iter().map(|node| node.peer).collect();
    for node in nodes {
        node.network.admit(roster.clone());
    }
}

fn keep_at_hub(hub: &Node, nodes: [&Node; 2]) {
    for node in nodes {
        node.keep(hub);
        node.expect_up(hub.peer);
        hub.expect_up(node.peer);
    }
    let [a, b] = nodes;
    a.network.keep(b.peer, vec![nowhere()]);
    b.network.keep(a.peer, vec![nowhere()]);
}

#[test]
fn two_that_nobody_can_dial_meet_through_a_third() {
    let runtime = runtime();
    let hub = node_with(&runtime, loopback(), |_| {});
    let [a, b] = std::array::from_fn(|_| node_with(&runtime, Vec::new(), |_| {}));
    admit_all(&[&hub, &a, &b]);
    keep_at_hub(&hub, [&a, &b]);
    assert_eq!(a.expect_up(b.peer), None);
    b.expect_up(a.peer);
    for (from, to) in [(&a, &b), (&b, &a)] {
        wait_until("the lanes run", || {
            from.network.send(to.peer, Lane::Control, b"through".to_vec()).is_ok()
        });
        to.expect_frame(from.peer, Lane::Control, b"through");
    }
    assert!(get(&hub.network.stats().circuits_relayed) > 0);
    assert!(get(&a.network.stats().connections_relayed) > 0);
    // The hub has heard none of it.
    assert!(hub.events.try_recv().is_err());
}

#[test]
fn a_member_that_passes_nothing_on_is_no_relay() {
    let runtime = runtime();
    let hub = node_with(&runtime, loopback(), |config| config.relay = false);
    let [a, b] = std::array::from_fn(|_| node_with(&runtime, Vec::new(), |_| {}));
    admit_all(&[&hub, &a, &b]);
    keep_at_hub(&hub, [&a, &b]);
    wait_until("they have tried", || get(&a.network.stats().dial_failures) > 5);
    assert_eq!(get(&a.network.stats().places_reserved), 0);
    assert_eq!(get(&a.network.stats().circuits), 0);
}

#[test]
fn a_node_learns_whether_it_can_be_dialled_and_loses_no_connection_by_it() {
    for can_be_dialled in [true, false] {
        let runtime = runtime();
        let any = |config: &mut NetworkConfig| config.probing = Probing::Any;
        let hub = node_with(&runtime, loopback(), any);
        let listen = if can_be_dialled { loopback() } else { Vec::new() };
        let node = node_with(&runtime, listen, any);
        admit_all(&[&hub, &node]);
        node.keep(&hub);
        node.expect_up(hub.peer);
        hub.expect_up(node.peer);
        if can_be_dialled {
            wait_until("it is known", || get(&node.network.stats().reachability) == 1);
            wait_until("several times", || get(&hub.network.stats().probes) > 2);
        } else {
            // It has no address to be dialled at, and nobody is asked.
            wait_until("the other one knows", || get(&hub.network.stats().reachability) == 1);
            assert_eq!(get(&node.network.stats().reachability), 0);
        }
        for (from, to) in [(&hub, &node), (&node, &hub)] {
            from.send(to.peer, Lane::Control, b"still here");
            to.expect_frame(from.peer, Lane::Control, b"still here");
        }
    }
}

#[test]
fn a_peer_that_is_reached_through_others_is_dialled_at_its_new_address() {
    let runtime = runtime();
    let hub = node_with(&runtime, loopback(), |_| {});
    let [a, b] = std::array::from_fn(|_| node_with(&runtime, Vec::new(), |_| {}));
    admit_all(&[&hub, &a, &b]);
    keep_at_hub(&hub, [&a, &b]);
    a.expect_up(b.peer);
    b.expect_up(a.peer);
    let stats = a.network.stats();
    let before = (get(&stats.dials), get(&stats.dial_failures));
    a.network.keep(b.peer, vec![nowhere()]);
    wait_until("it is dialled there", || get(&stats.dials) > before.0);
    wait_until("in vain", || get(&stats.dial_failures) > before.1);
    wait_until("the lanes run", || {
        a.network.send(b.peer, Lane::Control, b"still through".to_vec()).is_ok()
    });
    b.expect_frame(a.peer, Lane::Control, b"still through");
    assert_eq!(get(&stats.connections_relayed), 1);
}

#[test]
fn whoever_uses_a_network_that_has_failed_is_told() {
    let runtime = runtime();
    let node = node_with(&runtime, loopback(), |_| {});
    node.network.command(Command::Fail);
    match node.next() {
        NetworkEvent::Failed { reason } => assert_eq!(reason, "this one is meant"),
        other => panic!("{other:?}"),
    }
    let (sender, later) = channel();
    node.network.attach(Arc::new(move |event| drop(sender.send(event))));
    assert!(matches!(later.recv(), Ok(NetworkEvent::Failed { .. })), "whoever comes later as well");
}
