//! Eight members, of which seven vote: a voter that stays away loses its vote, and may get one again.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the world runs on a runtime of its own")]

mod calm;

use std::collections::BTreeSet;
use std::time::Duration;

use bzzz::core::front::{Query, Reply, Request, Status};
use bzzz::messages::command::Expect;
use bzzz::types::MemberId;
use bzzz_sim::run::runtime;
use bzzz_sim::world::World;

use calm::formed;

async fn status(world: &World, node: usize) -> Option<Status> {
    let node = world.node(node)?;
    match node.env().directory.front.ask(Request::Status).await {
        Ok(Reply::Status(status)) => Some(*status),
        _ => None,
    }
}

async fn voters(world: &World, node: usize) -> BTreeSet<MemberId> {
    status(world, node).await.map(|status| status.role.voters).unwrap_or_default()
}

/// A node that does not lead and votes, or does not.
async fn some_node(world: &World, votes: bool) -> (usize, MemberId) {
    for index in 0..8 {
        let member = world.node(index).unwrap().member();
        let status = status(world, index).await.unwrap();
        if !status.role.leading && status.role.voters.contains(&member) == votes {
            return (index, member);
        }
    }
    panic!("there is none");
}

async fn reads(world: &World, node: usize, key: &str) -> bool {
    let query = Query::Key(key.to_owned());
    let request = Request::Read { query, stale_ok: false };
    match world.node(node).unwrap().env().directory.front.ask(request).await {
        Ok(Reply::Read(answer)) => !answer.staleness.stale && answer.page.entries.len() == 1,
        _ => false,
    }
}

#[test]
fn a_voter_that_was_away_for_long_follows_and_gets_its_vote_back_when_one_is_free() {
    runtime().block_on(async {
        let (world, clients) = formed(11, 8).await;
        let (away, lost) = some_node(&world, true).await;
        let (spare, heir) = some_node(&world, false).await;
        let writer = (0..8).find(|node| *node != away && *node != spare).unwrap();
        assert!(clients.write(writer, "monitoring/before".into(), Expect::Absent, 1).await);

        // Cut off, not off: it goes on believing that it votes.
        let cut = (0..8).flat_map(|other| [(away, other), (other, away)]).collect();
        world.set_cut(cut);
        tokio::time::sleep(Duration::from_secs(70)).await;
        let now = voters(&world, spare).await;
        assert!(now.len() == 7 && now.contains(&heir) && !now.contains(&lost), "{now:?}");
        assert!(voters(&world, away).await.contains(&lost));

        world.set_cut(BTreeSet::new());
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(voters(&world, away).await, now, "it has noticed");
        assert!(clients.write(writer, "monitoring/after".into(), Expect::Absent, 2).await);
        assert!(reads(&world, away, "monitoring/after").await);
        assert!(clients.write(away, "monitoring/through".into(), Expect::Absent, 3).await);

        // Started again, its log still says that it votes.
        world.crash(away);
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.restart(away);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(voters(&world, away).await, now, "it has noticed again");
        assert!(reads(&world, away, "monitoring/through").await);

        // Another voter stays away for good.
        let (gone, _) = some_node(&world, true).await;
        world.crash(gone);
        tokio::time::sleep(Duration::from_secs(75)).await;
        let last = voters(&world, away).await;
        assert!(last.len() == 7 && last.contains(&lost), "{last:?}");
        assert!(clients.write(away, "monitoring/again".into(), Expect::Absent, 4).await);
        assert_eq!(world.book.violation().map(|violation| violation.how), None);
    });
}

#[test]
fn halves_without_a_majority_do_not_flood_each_other() {
    runtime().block_on(async {
        let (world, _clients) = formed(12, 4).await;
        let side = |node: usize| node < 2;
        let all = (0..4).flat_map(|a| (0..4).map(move |b| (a, b)));
        world.set_cut(all.filter(|(a, b)| side(*a) != side(*b)).collect());
        tokio::time::sleep(Duration::from_secs(10)).await;
        let (_, before) = world.trace.hash();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let (_, after) = world.trace.hash();
        let steps = (after - before) / 10;
        assert!(steps < 750, "{steps} steps a second");
    });
}
