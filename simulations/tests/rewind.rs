//! A data directory that was copied while its node ran, and put back when the node was off.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the world runs on a runtime of its own")]

mod calm;

use std::time::Duration;

use bzzz::core::ctx::Halt;
use bzzz::messages::command::Expect;
use bzzz::messages::wire::Turned;
use bzzz::node::{Ended, Origin};
use bzzz_sim::run::runtime;
use bzzz_sim::world::World;

use calm::formed;

/// The copy starts as often as the original would have, so nothing but its log betrays it.
async fn put_back(entries_meanwhile: u64) -> (World, Option<Ended>) {
    let (world, clients) = formed(5, 3).await;
    assert!(world.node(0).unwrap().env().consensus.is_leading());
    assert!(clients.write(0, "monitoring/before".into(), Expect::Absent, 0).await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let copy = world.disk(1).files();
    for number in 0..entries_meanwhile {
        assert!(clients.write(0, format!("monitoring/{number}"), Expect::Absent, number).await);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.crash(1);
    world.disk(1).put_files(copy);
    let node = world.start(1, Origin::Resume).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(5), node.ended()).await.ok();
    (world, ended)
}

#[test]
fn a_copy_that_lacks_what_its_node_has_acknowledged_is_turned_away_by_the_leader() {
    runtime().block_on(async {
        let (_world, ended) = put_back(3).await;
        assert_eq!(ended, Some(Ended::Halted(Halt::TurnedAway(Turned::LogLost))));
    });
}

#[test]
fn a_copy_that_lacks_nothing_is_as_good_as_the_original() {
    runtime().block_on(async {
        let (world, ended) = put_back(0).await;
        assert_eq!(ended, None);
        assert_eq!(world.book.violation().map(|violation| violation.how), None);
    });
}
