//! Records while members come, go and come back, with nothing else going wrong.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the world runs on a runtime of its own")]

mod calm;

use std::time::Duration;

use bzzz_sim::run::runtime;
use bzzz_sim::workload::{Workload, address};
use bzzz_sim::world::World;

use calm::formed;

/// Waits until just the members that there are hold records.
async fn settled(world: &World) {
    for _ in 0..300 {
        if world.is_settled().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("after 30 s the layout is not that of the members");
}

async fn publish(clients: &Workload, node: usize, numbers: std::ops::Range<u64>) {
    for number in numbers {
        assert!(clients.publish(node, &address(number % 50), number).await, "{number}");
    }
}

fn no_violation(world: &World) {
    assert_eq!(world.book.violation().map(|violation| violation.how), None);
}

#[test]
fn a_newcomer_gets_everything_and_whoever_left_is_not_needed() {
    runtime().block_on(async {
        let (world, clients) = formed(2, 5).await;
        publish(&clients, 2, 0..120).await;
        world.expel(1, false).await;
        settled(&world).await;
        publish(&clients, 1, 200..230).await;
        clients.read_all_versions().await;
        clients.replicas_converge().await;
        no_violation(&world);
    });
}
