//! Peers that are not where they were.

use super::*;

#[test]
fn a_peer_that_has_moved_is_found_by_asking_another_one() {
    let runtime = runtime();
    let keys: [ed25519::Keypair; 3] = std::array::from_fn(|_| ed25519::Keypair::generate());
    let [a, b, old] = keys.clone().map(|key| node(&runtime, &key));
    let roster = BTreeSet::from([a.peer, b.peer, old.peer]);
    let (moved_peer, gone) = (old.peer, old.address());
    drop(old);
    // It comes back at another port, and finds the one that has not moved.
    let moved = node(&runtime, &keys[2]);
    assert_ne!(moved.address(), gone);
    for node in [&a, &b, &moved] {
        node.network.admit(roster.clone());
    }
    moved.keep(&b);
    moved.expect_up(b.peer);
    b.expect_up(moved_peer);
    a.keep(&b);
    a.expect_up(b.peer);
    a.network.keep(moved_peer, vec![gone.clone()]);
    assert_eq!(a.expect_up(moved_peer), Some(moved.address()));
    assert!(get(&a.network.stats().asked_where) > 0);
}

#[test]
fn who_is_found_in_the_local_network_is_dialled_if_it_is_looked_for() {
    let runtime = runtime();
    let [a, b] = two_nodes(&runtime);
    // Nothing is known of where it is.
    a.network.keep(b.peer, Vec::new());
    let found = |peer: PeerId, at: &Address| {
        let at = transport::multiaddr(at).unwrap();
        libp2p::mdns::Event::Discovered(vec![(transport::to_libp2p(peer), at)])
    };
    let stranger = PeerId(ed25519::Keypair::generate().public().to_bytes());
    a.network.command(Command::Found(found(stranger, &b.address())));
    match a.next() {
        NetworkEvent::Found { peer, address } => {
            assert_eq!((peer, address), (stranger, b.address()));
        }
        other => panic!("{other:?}"),
    }
    a.network.command(Command::Found(found(a.peer, &a.address())));
    a.network.command(Command::Found(found(b.peer, &b.address())));
    assert_eq!(a.expect_up(b.peer), Some(b.address()));
}

#[test]
fn nobody_but_the_event_loop_dials_a_peer_that_is_not_sought() {
    let runtime = runtime();
    let nodes: [Node; 3] = std::array::from_fn(|_| node(&runtime, &ed25519::Keypair::generate()));
    let roster: BTreeSet<PeerId> = nodes.iter().map(|node| node.peer).collect();
    for node in &nodes {
        node.network.admit(roster.clone());
    }
    let [a, b, c] = &nodes;
    c.keep(b);
    c.expect_up(b.peer);
    b.expect_up(c.peer);
    a.keep(b);
    a.expect_up(b.peer);
    // Kademlia fills its table, and would dial whom it hears of.
    let denied = |node: &Node| get(&node.network.stats().unasked_dials);
    wait_until("it tries", || denied(a) + denied(c) > 0);
    for (node, other) in [(a, c), (c, a)] {
        assert!(node.network.send(other.peer, Lane::Control, b"x".to_vec()).is_err());
    }
}
