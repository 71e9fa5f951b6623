//! A node whose files were damaged while it was off: every start is complete or refused, and never
//! shorter than what was acknowledged.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the world runs on a runtime of its own")]

mod calm;

use std::time::Duration;

use bzzz::core::front::{Query, Reply, Request};
use bzzz::messages::command::Expect;
use bzzz::node::{Node, Origin};
use bzzz_sim::rng::Stream;
use bzzz_sim::run::runtime;

use calm::formed;

const WRITES: u64 = 120;
const DAMAGES: u64 = 400;

/// What a fresh read says of a key, asked again until the node is current.
async fn read(node: &Node, key: &str) -> Option<(u64, Vec<u8>)> {
    for _ in 0..100 {
        let request = Request::Read { query: Query::Key(key.to_owned()), stale_ok: false };
        if let Ok(Reply::Read(answer)) = node.env().directory.front.ask(request).await
            && !answer.staleness.stale
        {
            let entry = answer.page.entries.first();
            return entry.map(|entry| (entry.head.version, entry.head.value.0.clone()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the node started, and is not current after five seconds");
}

fn key(number: u64) -> String {
    format!("monitoring/kept/{number}")
}

#[test]
fn a_damaged_node_starts_complete_or_not_at_all() {
    runtime().block_on(async {
        let (world, clients) = formed(7, 1).await;
        for number in 0..WRITES {
            assert!(clients.write(0, key(number), Expect::Absent, number).await);
        }
        world.crash(0);
        let disk = world.disk(0);
        let whole = disk.files();
        let names: Vec<&'static str> = whole.keys().copied().collect();
        assert!(names.contains(&"store") && names.contains(&"consensus-log"), "{names:?}");

        let rng = Stream::new(7, "damage");
        let (mut complete, mut refused) = (0, 0);
        for damage in 0..DAMAGES {
            let mut files = whole.clone();
            let name = ["store", "consensus-log", "consensus-snapshot"][rng.pick(3)];
            let bytes = files.get_mut(name).unwrap();
            let at = rng.pick(bytes.len());
            if damage % 2 == 0 {
                bytes[at] ^= 1 << rng.below(8);
            } else {
                bytes.truncate(at);
            }
            disk.put_files(files);
            match world.start(0, Origin::Resume).await {
                Ok(node) => {
                    for number in 0..WRITES {
                        let found = read(&node, &key(number)).await;
                        let value = number.to_le_bytes().to_vec();
                        assert_eq!(found, Some((1, value)), "{name} at {at}, damage {damage}");
                    }
                    complete += 1;
                }
                Err(error) => {
                    let said = error.to_string();
                    assert!(said.contains("join again with a token"), "{name} at {at}: {said}");
                    refused += 1;
                }
            }
            world.crash(0);
        }
        assert!(complete > 0 && refused > 0, "{complete} complete, {refused} refused");
    });
}

#[test]
fn a_node_that_lost_a_file_is_refused_or_loses_nothing() {
    runtime().block_on(async {
        let (world, clients) = formed(9, 1).await;
        // More than the longest log of any simulation, so that a snapshot is all there is of some.
        let writes = 900;
        for number in 0..writes {
            assert!(clients.write(0, key(number), Expect::Absent, number).await);
        }
        world.crash(0);
        let whole = world.disk(0).files();
        for name in ["store", "consensus-log", "consensus-snapshot"] {
            world.disk(0).remove_file(name);
            for origin in [Origin::Resume, Origin::Found { name: "another".into() }] {
                let resumes = matches!(origin, Origin::Resume);
                let Err(error) = world.start(0, origin).await else { panic!("{name} is gone") };
                let said = error.to_string();
                assert!(said.contains("join again with a token"), "{name}, {resumes}: {said}");
                world.crash(0);
            }
            // A start has made a new file in its place.
            world.disk(0).put_files(whole.clone());
        }
        world.disk(0).remove_file("follower-state");
        let node = world.start(0, Origin::Resume).await.unwrap();
        assert!(read(&node, &key(writes - 1)).await.is_some());
    });
}
