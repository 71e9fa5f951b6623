//! Peers that are not where they were.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::AtomicBool;

use super::*;

/// Where nobody listens.
fn nowhere() -> Address {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    Address::from_socket(free.local_addr().unwrap())
}

/// Somebody in the local network says where a peer is.
fn found(peer: PeerId, at: &Address) -> Command {
    let at = transport::multiaddr(at).unwrap();
    Command::Found(libp2p::mdns::Event::Discovered(vec![(transport::to_libp2p(peer), at)]))
}

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
    let stranger = PeerId(ed25519::Keypair::generate().public().to_bytes());
    a.network.command(found(stranger, &b.address()));
    match a.next() {
        NetworkEvent::Found { peer, address } => {
            assert_eq!((peer, address), (stranger, b.address()));
        }
        other => panic!("{other:?}"),
    }
    a.network.command(found(a.peer, &a.address()));
    a.network.command(found(b.peer, &b.address()));
    assert_eq!(a.expect_up(b.peer), Some(b.address()));
}

#[test]
fn what_is_heard_of_a_member_before_it_is_known_as_one_is_tried_later() {
    let runtime = runtime();
    let [a, b] = two_keys().map(|key| node(&runtime, &key));
    a.network.command(found(b.peer, &b.address()));
    let heard = NetworkEvent::Found { peer: b.peer, address: b.address() };
    assert_eq!(a.next(), heard);
    // It is not said again.
    let roster = BTreeSet::from([a.peer, b.peer]);
    a.network.admit(roster.clone());
    b.network.admit(roster);
    a.network.keep(b.peer, vec![nowhere()]);
    loop {
        match a.next() {
            NetworkEvent::Up { peer, dialled } => {
                assert_eq!((peer, dialled), (b.peer, Some(b.address())));
                break;
            }
            // Whoever may want to join is told again by this side until there is a roster.
            event => assert_eq!(event, heard),
        }
    }
}

#[test]
fn hints_lead_to_members_and_to_nobody_else() {
    let runtime = runtime();
    let keys: [ed25519::Keypair; 3] = std::array::from_fn(|_| ed25519::Keypair::generate());
    let [member, stranger] = [&keys[0], &keys[1]].map(|key| node(&runtime, key));
    let listen = vec![Address::from_socket(([127, 0, 0, 1], 0).into())];
    let mut config = config(listen, Vec::new());
    config.hints = vec![nowhere(), stranger.address(), member.address()];
    let vault = KeyVault::from_keypair(keys[2].clone());
    let network = P2pNetwork::start(config, &vault, runtime.handle().clone()).unwrap();
    let (sender, events) = channel();
    network.attach(Arc::new(move |event| drop(sender.send(event))));
    let resumed = Node { peer: network.local_peer(), network, events };
    assert_eq!(get(&resumed.network.stats().dials), 0, "there is no roster yet");
    let roster = BTreeSet::from([member.peer, resumed.peer]);
    member.network.admit(roster.clone());
    resumed.network.admit(roster);
    // Nobody is where the roster says.
    resumed.network.keep(member.peer, vec![nowhere()]);
    assert_eq!(resumed.expect_up(member.peer), Some(member.address()));
    member.expect_up(resumed.peer);
    wait_until("the stranger is left alone", || get(&resumed.network.stats().connections) == 1);
    resumed.send(member.peer, Lane::Control, b"found");
    member.expect_frame(resumed.peer, Lane::Control, b"found");
}

#[test]
fn connections_from_an_address_that_the_machine_has_lost_are_made_anew_at_once() {
    let runtime = runtime();
    let [a, b] = two_nodes(&runtime);
    a.keep(&b);
    a.expect_up(b.peer);
    b.expect_up(a.peer);
    a.network.command(Command::Lose([10, 0, 0, 1].into()));
    a.send(b.peer, Lane::Control, b"still here");
    b.expect_frame(a.peer, Lane::Control, b"still here");
    a.network.command(Command::Lose([127, 0, 0, 1].into()));
    a.expect_down(b.peer);
    a.expect_up(b.peer);
}

/// Passes one connection on, and swallows what comes once it is told to.
fn pass_on(to: &Address) -> (Address, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::from_socket(listener.local_addr().unwrap());
    let (to, is_stuck) = (to.socket().unwrap(), Arc::<AtomicBool>::default());
    let stuck = is_stuck.clone();
    std::thread::spawn(move || {
        let (near, _) = listener.accept().unwrap();
        let far = TcpStream::connect(to).unwrap();
        let back = (far.try_clone().unwrap(), near.try_clone().unwrap());
        for (mut from, mut to) in [(near, far), back] {
            let stuck = stuck.clone();
            std::thread::spawn(move || {
                let mut bytes = [0; 16 * 1024];
                while let Ok(len @ 1..) = from.read(&mut bytes) {
                    if !stuck.load(Ordering::Acquire) && to.write_all(&bytes[..len]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, is_stuck)
}

#[test]
fn a_peer_whose_connection_has_gone_silent_is_dialled_beside_it() {
    let runtime = runtime();
    let [a, b] = two_nodes(&runtime);
    let (way, is_stuck) = pass_on(&b.address());
    a.network.keep(b.peer, vec![way]);
    a.expect_up(b.peer);
    b.expect_up(a.peer);
    b.keep(&a);
    a.send(b.peer, Lane::Control, b"before");
    b.expect_frame(a.peer, Lane::Control, b"before");
    is_stuck.store(true, Ordering::Release);
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < PATIENCE, "nothing gets through any more");
        // There may be no connection at all for a moment.
        let _ = a.network.send(b.peer, Lane::Control, b"after".to_vec());
        match b.events.recv_timeout(Duration::from_millis(100)) {
            Ok(NetworkEvent::Frame { bytes, .. }) if bytes == b"after" => break,
            Ok(NetworkEvent::Up { .. } | NetworkEvent::Down { .. }) | Err(_) => {}
            Ok(event) => panic!("{event:?}"),
        }
    }
    // It did not take until the connection was given up.
    assert_eq!([&a, &b].map(|node| get(&node.network.stats().dead)), [0, 0]);
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
