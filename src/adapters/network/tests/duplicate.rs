//! Two processes with one key.

use super::*;
use crate::messages::wire::Turned;

/// A host, and two nodes that share a key; the host has the smaller peer id if `host_first`.
fn host_and_twins(runtime: &Runtime, host_first: bool) -> [Node; 3] {
    let [small, large] = two_keys();
    let (host, twins) = if host_first { (small, large) } else { (large, small) };
    let nodes = [node(runtime, &host), node(runtime, &twins), node(runtime, &twins)];
    let roster = BTreeSet::from([nodes[0].peer, nodes[1].peer]);
    for node in &nodes {
        node.network.admit(roster.clone());
    }
    nodes
}

/// Waits for an event while frames go on coming from `living`.
fn next_while_sending(node: &Node, living: &Node, to: PeerId) -> NetworkEvent {
    let start = Instant::now();
    loop {
        living.send(to, Lane::Control, b"alive");
        if let Ok(event) = node.events.recv_timeout(Duration::from_millis(20)) {
            return event;
        }
        assert!(start.elapsed() < PATIENCE, "no event within the deadline");
    }
}

#[test]
fn a_second_process_with_the_same_key_is_refused_while_the_first_one_lives() {
    for host_first in [true, false] {
        let runtime = runtime();
        let [host, first, second] = host_and_twins(&runtime, host_first);
        first.keep(&host);
        host.expect_up(first.peer);
        first.expect_up(host.peer);

        second.keep(&host);
        // Whether it was up in between depends on how far the first one had come.
        let refused = NetworkEvent::TurnedAway { peer: host.peer, why: Turned::DuplicateIdentity };
        while next_while_sending(&second, &first, host.peer) != refused {}
        second.network.release(host.peer);

        // The host never lost the first one, and hears nothing of the second.
        first.send(host.peer, Lane::Control, b"the last");
        loop {
            match host.next() {
                NetworkEvent::Frame { bytes, .. } if bytes == b"the last" => break,
                NetworkEvent::Frame { bytes, .. } => assert_eq!(bytes, b"alive"),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_process_takes_the_place_of_one_that_is_silent() {
    for host_first in [true, false] {
        let runtime = runtime();
        let [host, first, second] = host_and_twins(&runtime, host_first);
        // Dialled once: it does not come back, as a process that was stopped does not.
        first.network.dial(host.address());
        host.expect_up(first.peer);
        second.keep(&host);
        host.expect_down(first.peer);
        host.expect_up(second.peer);
        wait_until("a frame is taken", || {
            second.network.send(host.peer, Lane::Control, b"here".to_vec()).is_ok()
        });
        host.expect_frame(second.peer, Lane::Control, b"here");
    }
}

#[test]
fn a_node_that_joins_with_the_key_of_a_connected_member_is_told() {
    for host_first in [true, false] {
        let runtime = runtime();
        let [small, large] = two_keys();
        let (host, twins) = if host_first { (small, large) } else { (large, small) };
        let [host, first] = [node(&runtime, &host), node(&runtime, &twins)];
        let roster = BTreeSet::from([host.peer, first.peer]);
        host.network.admit(roster.clone());
        first.network.admit(roster);
        first.keep(&host);
        host.expect_up(first.peer);
        first.expect_up(host.peer);

        // It knows no member yet, and dials as a node does that joins.
        let copy = node(&runtime, &twins);
        copy.network.dial(host.address());
        let told = NetworkEvent::TurnedAway { peer: host.peer, why: Turned::DuplicateIdentity };
        let start = Instant::now();
        loop {
            match next_while_sending(&copy, &first, host.peer) {
                event if event == told => break,
                // The host may not have known yet that it is another process.
                NetworkEvent::Down { .. } => copy.network.dial(host.address()),
                _ => {}
            }
            assert!(start.elapsed() < PATIENCE, "it is not told");
        }
        host.expect_frame(first.peer, Lane::Control, b"alive");
    }
}

#[test]
fn a_node_that_only_asks_to_join_does_not_keep_the_member_with_its_key_out() {
    for host_first in [true, false] {
        let runtime = runtime();
        let [small, large] = two_keys();
        let (host, twins) = if host_first { (small, large) } else { (large, small) };
        let [host, copy] = [node(&runtime, &host), node(&runtime, &twins)];
        host.network.admit(BTreeSet::from([host.peer, copy.peer]));
        copy.network.dial(host.address());
        copy.expect_up(host.peer);
        let member = node(&runtime, &twins);
        member.network.admit(BTreeSet::from([host.peer, copy.peer]));
        member.keep(&host);
        let start = Instant::now();
        loop {
            // Whether it is connected at the moment does not matter.
            let _ = copy.network.send(host.peer, Lane::Join, b"let me in".to_vec());
            match member.events.recv_timeout(Duration::from_millis(20)) {
                Ok(NetworkEvent::Up { .. }) => break,
                Ok(other) => panic!("{other:?}"),
                Err(_) => assert!(start.elapsed() < PATIENCE, "the member is kept out"),
            }
        }
    }
}
