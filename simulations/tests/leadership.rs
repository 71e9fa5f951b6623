//! Who leads after a handover, after a handover that nobody takes up, and on slow disks.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the world runs on a runtime of its own")]

mod calm;

use std::collections::BTreeSet;
use std::time::Duration;

use bzzz::actors::Mail;
use bzzz::core::election;
use bzzz::messages::command::Expect;
use bzzz_sim::run::runtime;

use calm::formed;

#[test]
fn leadership_goes_to_whom_it_is_given() {
    runtime().block_on(async {
        let (world, clients) = formed(4, 5).await;
        let mut leading = 0;
        // Also to the least fit: openraft tells every voter of a transfer, and one may run.
        for target in [1, 2, 3, 4, 0] {
            assert!(clients.write(target, format!("monitoring/{target}"), Expect::Absent, 1).await);
            tokio::time::sleep(Duration::from_millis(200)).await;
            let to = Some(world.node(target).unwrap().member());
            let leader = world.node(leading).unwrap();
            leader.env().directory.election.mail(Mail::Msg(election::Msg::Transfer { to }));
            tokio::time::sleep(Duration::from_millis(500)).await;
            let leads = |node: &usize| world.node(*node).unwrap().env().consensus.is_leading();
            assert_eq!((0..5).filter(leads).collect::<Vec<_>>(), [target]);
            leading = target;
        }
        assert_eq!(world.book.violation().map(|violation| violation.how), None);
    });
}

/// The target dies when it is asked, and the log of the only other voter is too short for an
/// election: the leader, which has given its leadership away, still has to bring it up to date.
#[test]
fn a_handover_whose_target_dies_is_ended_by_the_others() {
    runtime().block_on(async {
        let (world, clients) = formed(3, 3).await;
        let (leader, other) = (world.node(0).unwrap(), world.node(2).unwrap());
        assert!(leader.env().consensus.is_leading());
        let target = world.node(1).unwrap().member();
        assert!(clients.write(0, "monitoring/one".into(), Expect::Absent, 1).await);

        world.set_cut(BTreeSet::from([(0, 2), (2, 0)]));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(clients.write(0, "monitoring/two".into(), Expect::Absent, 2).await);
        world.crash(1);
        let transfer = election::Msg::Transfer { to: Some(target) };
        leader.env().directory.election.mail(Mail::Msg(transfer));
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!clients.write(0, "monitoring/three".into(), Expect::Absent, 3).await);
        world.set_cut(BTreeSet::new());

        let mut attempt = 0;
        while !clients.write(0, format!("monitoring/later/{attempt}"), Expect::Absent, 4).await {
            attempt += 1;
            assert!(attempt < 20, "nobody leads");
        }
        assert!(other.env().consensus.is_leading());
        assert_eq!(world.book.violation().map(|violation| violation.how), None);
    });
}

/// Seven voters whose disks take longer for a vote than candidates wait for each other.
#[test]
fn slow_disks_do_not_keep_seven_voters_from_electing_one() {
    for seed in 0..10 {
        runtime().block_on(async {
            let (world, _clients) = formed(seed, 7).await;
            world.slow_disks(35_000);
            tokio::time::sleep(Duration::from_secs(1)).await;
            let leads = |node: &usize| {
                world.node(*node).is_some_and(|node| node.env().consensus.is_leading())
            };
            let leader = (0..7).find(leads).unwrap();
            world.crash(leader);
            // Candidates may depose each other for a while; what counts is that one stays.
            let (mut leader, mut since) = (None, 0);
            for half_second in 0..20 {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let now = (0..7).find(leads);
                if now.is_none() || now != leader {
                    (leader, since) = (now, half_second);
                }
            }
            assert!(leader.is_some() && since < 10, "seed {seed}: nobody leads for 5 s");
        });
    }
}
