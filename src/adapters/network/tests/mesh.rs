//! Gossip over real connections.

use super::*;

/// Nodes that all are members, each connected with the one before it.
fn chain(runtime: &Runtime, len: usize) -> Vec<Node> {
    let nodes: Vec<Node> = (0..len).map(|_| node(runtime, &ed25519::Keypair::generate())).collect();
    let roster: BTreeSet<PeerId> = nodes.iter().map(|node| node.peer).collect();
    for node in &nodes {
        node.network.admit(roster.clone());
    }
    for pair in nodes.windows(2) {
        pair[0].keep(&pair[1]);
        pair[0].expect_up(pair[1].peer);
        pair[1].expect_up(pair[0].peer);
    }
    nodes
}

/// The next message of the mesh, if one comes soon.
fn heard(node: &Node) -> Option<(GossipId, PeerId, Vec<u8>)> {
    match node.events.recv_timeout(Duration::from_millis(200)) {
        Ok(NetworkEvent::Gossip { id, via, bytes, topic }) => {
            assert_eq!(topic, Topic::Events);
            Some((id, via, bytes))
        }
        Ok(other) => panic!("unexpected: {other:?}"),
        Err(_) => None,
    }
}

/// Publishes numbered messages at `from` until one gets to `to`: the mesh takes a moment to form.
fn publish_until_heard(from: &Node, to: &Node, tag: u8) -> (GossipId, PeerId, Vec<u8>) {
    let start = Instant::now();
    for n in 0u32.. {
        assert!(start.elapsed() < PATIENCE, "nothing gets through");
        let bytes = [&[tag][..], &n.to_le_bytes()].concat();
        from.network.gossip(Topic::Events, bytes).unwrap();
        if let Some(heard) = heard(to) {
            return heard;
        }
    }
    unreachable!("the loop above ends or fails");
}

#[test]
fn a_message_is_passed_on_only_after_it_was_accepted() {
    let runtime = runtime();
    let nodes = chain(&runtime, 3);
    let (id, via, _) = publish_until_heard(&nodes[0], &nodes[1], 1);
    assert_eq!(via, nodes[0].peer);
    nodes[1].network.judge(id, Verdict::Ignore);
    assert_eq!(heard(&nodes[2]), None, "it was not accepted");
    // Each message is accepted, until the mesh behind the middle has formed as well.
    let start = Instant::now();
    let arrived = loop {
        assert!(start.elapsed() < PATIENCE, "nothing gets through the middle");
        let (id, _, bytes) = publish_until_heard(&nodes[0], &nodes[1], 2);
        nodes[1].network.judge(id, Verdict::Accept);
        if let Some((_, via, passed_on)) = heard(&nodes[2]) {
            assert_eq!(via, nodes[1].peer);
            break (bytes, passed_on);
        }
    };
    assert_eq!(arrived.0[0], arrived.1[0]);
    let count = |node: &Node| get(&node.network.stats().gossip_in);
    assert!(count(&nodes[2]) < count(&nodes[1]));
}

#[test]
fn a_stranger_hears_nothing_until_it_is_admitted() {
    let runtime = runtime();
    let [a, b] = two_keys().map(|key| node(&runtime, &key));
    // A dials B, and B answers as if to somebody who wants to join.
    a.network.admit([b.peer].into());
    b.network.keep(a.peer, vec![a.address()]);
    b.expect_up(a.peer);
    for n in 0..20u8 {
        b.network.gossip(Topic::Events, vec![n]).unwrap();
        a.network.gossip(Topic::Events, vec![100 + n]).unwrap();
    }
    assert_eq!(b.events.recv_timeout(Duration::from_millis(300)).ok(), None);
    b.network.admit([a.peer].into());
    a.expect_up(b.peer);
    // The gates open on the connection that stands.
    publish_until_heard(&a, &b, 1);
    publish_until_heard(&b, &a, 2);
}

#[test]
fn whoever_sends_what_is_rejected_is_listened_to_no_more() {
    let runtime = runtime();
    let nodes = chain(&runtime, 2);
    let start = Instant::now();
    let mut rejected = 0;
    let mut silent = 0;
    for n in 0u32.. {
        assert!(start.elapsed() < PATIENCE, "still listened to after {rejected} rejections");
        nodes[0].network.gossip(Topic::Events, n.to_le_bytes().to_vec()).unwrap();
        match heard(&nodes[1]) {
            Some((id, ..)) => {
                nodes[1].network.judge(id, Verdict::Reject);
                (rejected, silent) = (rejected + 1, 0);
            }
            None if rejected > 0 => silent += 1,
            None => {}
        }
        if silent == 5 {
            break;
        }
    }
    assert!((4..=12).contains(&rejected), "{rejected} rejections");
    assert_eq!(get(&nodes[1].network.stats().gossip_rejected), rejected);
    nodes[1].send(nodes[0].peer, Lane::Control, b"still connected");
    nodes[0].expect_frame(nodes[1].peer, Lane::Control, b"still connected");
}

#[test]
fn whoever_writes_too_much_is_cut_off_and_whoever_passes_it_on_is_not() {
    let runtime = runtime();
    let nodes = chain(&runtime, 2);
    let start = Instant::now();
    let (mut charged, mut silent) = (0, 0);
    for n in 0u32.. {
        assert!(start.elapsed() < PATIENCE, "still listened to after {charged} messages");
        nodes[0].network.gossip(Topic::Events, n.to_le_bytes().to_vec()).unwrap();
        match heard(&nodes[1]) {
            Some((id, ..)) => {
                nodes[1].network.judge(id, Verdict::Excess);
                (charged, silent) = (charged + 1, 0);
            }
            None if charged > 0 => silent += 1,
            None => {}
        }
        if silent == 5 {
            break;
        }
    }
    assert!(charged >= 60, "a few are forgiven, not {charged}");
    assert_eq!(get(&nodes[1].network.stats().gossip_rejected), 0);
}

#[test]
fn what_is_too_long_for_the_mesh_is_refused_at_the_door() {
    let runtime = runtime();
    let nodes = chain(&runtime, 2);
    let longest = vec![7; GOSSIP_LEN_MAX];
    let long = [longest.clone(), vec![7]].concat();
    assert!(nodes[0].network.gossip(Topic::Events, long).is_err());
    publish_until_heard(&nodes[0], &nodes[1], 1);
    nodes[0].network.gossip(Topic::Events, longest.clone()).unwrap();
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < PATIENCE);
        if let Some((_, _, bytes)) = heard(&nodes[1])
            && bytes == longest
        {
            return;
        }
    }
}
