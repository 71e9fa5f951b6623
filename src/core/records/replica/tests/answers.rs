//! What is said of what the store said, and what needs a lease: each of these fails where its rule is gone.

use super::*;
use crate::core::machines::Cast;
use crate::core::work::Done;

#[test]
fn what_the_store_says_is_answered_as_what_it_is() {
    let (_, version) = publication();
    let content = Some(Bytes(vec![1]));
    let rows = vec![(here(), version)];
    for (said, answered) in [
        (StoreAnswer::Stored, RecordsAnswer::Stored),
        (StoreAnswer::NotGreater(version), RecordsAnswer::NotGreater(version)),
        (
            StoreAnswer::Repeated(version, content.clone()),
            RecordsAnswer::Repeated(version, content.clone()),
        ),
        (StoreAnswer::Full, RecordsAnswer::Full),
        (StoreAnswer::Content(content.clone()), RecordsAnswer::Content(content)),
        (StoreAnswer::Newest(Some(version)), RecordsAnswer::Newest(Some(version))),
        (StoreAnswer::Versions(vec![version]), RecordsAnswer::Versions(vec![version])),
        (StoreAnswer::Page(rows.clone(), true), RecordsAnswer::Page(rows, true)),
        (StoreAnswer::Digests(vec![]), RecordsAnswer::Unavailable),
    ] {
        let mut bench = Bench::new(3, true);
        bench.ask(RecordsAsk::Newest { address: here() });
        let token = *bench.replica.open.first_key_value().expect("it is in work").0;
        let fate =
            bench.call(|replica, ctx| replica.on_done(ctx, token, Done::Records(Ok(vec![said]))));
        assert_eq!(fate, Fate::Answered(answered));
    }
}

#[test]
fn every_write_needs_the_lease_and_no_read_does() {
    let (envelope, version) = publication();
    let (address, content, hash) = (here(), stored(envelope), version.content);
    let settled = false;
    let post =
        RecordsAsk::Post { address: address.clone(), version, content: content.clone(), settled };
    for write in [
        RecordsAsk::Put { hash, content: content.clone() },
        RecordsAsk::Add { address: address.clone(), version, settled },
        post,
        RecordsAsk::Merge { address: address.clone(), version, content: None },
    ] {
        let mut bench = Bench::new(3, true);
        let other = bench.ask_by(2, (TERM + 1, LAYOUT), write.clone());
        assert_eq!(other, Fate::Answered(RecordsAnswer::OtherTerm(TERM)), "{write:?}");
    }
    for read in [
        RecordsAsk::Content { hash },
        RecordsAsk::Newest { address: address.clone() },
        RecordsAsk::Versions { address },
    ] {
        let mut bench = Bench::new(3, true);
        let fate = bench.ask_by(2, (TERM + 1, LAYOUT), read);
        assert!(matches!(fate, Fate::Kept(_)), "{fate:?}");
    }
}

#[test]
fn a_store_that_may_have_lost_something_is_restored_from_the_start() {
    for whole in [false, true] {
        let mut out = Outbox::default();
        let mut rng = Rng::from_seed([7; 32]);
        let mut ctx = Ctx { now: Mono(0), wall: WALL, rng: &mut rng, out: &mut out };
        let kept = if whole { Kept::Whole } else { Kept::Unsure };
        Replica::new(MemberId(1), peer(1), Arc::new(KeyedVault(peer(1))), kept).on_start(&mut ctx);
        let restores = |effect: &Effect<Status>| {
            matches!(effect, Effect::Cast(Cast::Copier(copier::Msg::Restore { .. })))
        };
        assert_eq!(out.effects.iter().any(restores), !whole);
    }
}
