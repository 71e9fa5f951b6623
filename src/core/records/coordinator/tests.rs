//! Single rules of the coordinator, one message at a time. What they give together the simulator shows.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::core::cast::Cast;
use crate::core::control::Layout;
use crate::core::ctx::{Effect, Outbox, Rng};
use crate::core::gossip;
use crate::core::records::fixture::{here, peer};
use crate::core::records::store::tests::Memory;
use crate::core::records::store::{StoreAnswer, StoreOp};
use crate::core::records::{Content, Envelope, fixture};
use crate::crypto::keyed::KeyedVault;
use crate::types::Wall;
use crate::types::limits::CLOCK_AHEAD_MAX_MS;

mod guards;

/// A coordinator on member 1, and what it asked for last.
struct Bench {
    coordinator: Coordinator,
    rng: Rng,
    now: Mono,
    wall: Wall,
    replies: Vec<Reply>,
    /// What all members are told of.
    told: Vec<Version>,
    /// What it has counted.
    counts: BTreeMap<&'static str, u64>,
    /// When it wants to be woken.
    wake: Option<Mono>,
    /// Questions to replicas, with their ids.
    asked: Vec<(MemberId, u64, RecordsAsk)>,
}

fn view(members: u64, version: u64, current: &[u64], next: Option<&[u64]>) -> Arc<View> {
    let holders = |ids: &[u64]| ids.iter().map(|id| (MemberId(*id), Default::default())).collect();
    let members = fixture::members(members);
    let layout = Layout { version, current: holders(current), next: next.map(holders) };
    Arc::new(View { members, layout, ..View::default() })
}

/// The clocks were compared, and all of them are right.
fn settled() -> Clocks {
    Clocks { is_settled: true, ..Clocks::default() }
}

impl Bench {
    fn new(members: u64) -> Self {
        let all: Vec<u64> = (1..=members).collect();
        let coordinator = Coordinator::new(MemberId(1), peer(1), Arc::new(KeyedVault(peer(1))));
        let rng = Rng::from_seed([7; 32]);
        let mut bench = Self {
            coordinator,
            rng,
            now: Mono(0),
            wall: Wall(1_000),
            replies: Vec::new(),
            told: Vec::new(),
            counts: BTreeMap::new(),
            wake: None,
            asked: Vec::new(),
        };
        bench.tell(Msg::View(view(members, 3, &all, None)));
        bench.tell(Msg::Answering((1..=members).map(MemberId).collect()));
        let voters = (1..=members).map(MemberId).collect();
        bench.tell(Msg::Role(Role {
            term: 4,
            leader: Some(MemberId(2)),
            voters,
            ..Role::default()
        }));
        bench.tell(Msg::Clocks(settled()));
        bench
    }

    fn call(&mut self, call: impl FnOnce(&mut Coordinator, &mut Ctx<'_, Reply>)) {
        let mut out = Outbox::default();
        let mut ctx = Ctx { now: self.now, wall: self.wall, rng: &mut self.rng, out: &mut out };
        call(&mut self.coordinator, &mut ctx);
        self.wake = out.wake_at;
        for effect in out.effects {
            match effect {
                Effect::Reply(_, reply) => self.replies.push(reply),
                Effect::Cast(Cast::Gossip(gossip::Msg::Published(_, version))) => {
                    self.told.push(version);
                }
                Effect::Cast(Cast::Replica(replica::Msg::Ask { id, ask, .. })) => {
                    self.asked.push((MemberId(1), id, ask));
                }
                Effect::Send(to, Message::Records(RecordsMessage::Ask { id, ask, .. })) => {
                    self.asked.push((MemberId(u64::from(to.0[0])), id, ask));
                }
                Effect::Count(name, by) => *self.counts.entry(name).or_default() += by,
                _ => {}
            }
        }
    }

    fn tell(&mut self, msg: Msg) {
        self.call(|coordinator, ctx| coordinator.on_msg(ctx, msg));
    }

    fn request(&mut self, request: Request) {
        self.call(|coordinator, ctx| coordinator.on_request(ctx, request, ReplyTo(1)));
    }

    fn lease(&mut self) {
        let until = self.now + Duration::from_millis(200);
        self.tell(Msg::Lease(Some(Lease { term: 4, until, committed: 0 })));
    }

    fn publish(&mut self) {
        self.publish_at(here());
    }

    fn publish_at(&mut self, address: DecisionAddress) {
        let content = sealed_at(&address);
        self.request(Request::Publish {
            address,
            kind: DecisionKind::Code,
            request: RequestId([9; 16]),
            body: content.body(),
            content: Content::Sealed(content).encode(),
        });
    }

    /// What was asked since the last call: the replicas, the id, the question.
    fn round(&mut self) -> (Vec<u64>, u64, RecordsAsk) {
        let asked = std::mem::take(&mut self.asked);
        let (_, id, ask) = asked.last().expect("something was asked").clone();
        let members = asked.iter().filter(|(_, other, _)| *other == id).map(|(to, ..)| to.0);
        (members.collect(), id, ask)
    }

    fn answer(&mut self, from: u64, id: u64, answer: RecordsAnswer) {
        self.tell(Msg::Answer { from: MemberId(from), id, answer });
    }

    fn wait(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        self.call(|coordinator, ctx| coordinator.on_wake(ctx));
    }
}

/// A content that was published here.
fn sealed(number: u8, request: u8, kind: DecisionKind) -> Envelope {
    let envelope = Envelope {
        plain: [number; 32],
        place: PlaceHash::of(&here(), &RequestId([request; 16]), kind),
        generation: 1,
        roles: vec!["admin".into()],
        signer: peer(2),
        file: Bytes(vec![number]),
        signature: Bytes::default(),
    };
    envelope.sign(&KeyedVault(peer(2)))
}

/// What is published by `Bench::publish`.
fn mine() -> Content {
    Content::Sealed(sealed_at(&here()))
}

fn sealed_at(address: &DecisionAddress) -> Envelope {
    let place = PlaceHash::of(address, &RequestId([9; 16]), DecisionKind::Code);
    Envelope { place, ..sealed(1, 9, DecisionKind::Code) }.sign(&KeyedVault(peer(2)))
}

/// What member 2 published, and its version.
fn theirs(ms: u64) -> (Content, Version) {
    let content = sealed(2, 3, DecisionKind::Code);
    let version = Version { content: content.hash(), body: content.body(), ..version(ms) };
    (Content::Sealed(content), version)
}

fn version(ms: u64) -> Version {
    version_at(&here(), ms)
}

fn version_at(address: &DecisionAddress, ms: u64) -> Version {
    let stamp = (Hlc { ms, counter: 0 }, MemberId(3));
    let (request, body) = (RequestId([3; 16]), BodyHash([3; 32]));
    Version::new(stamp, address, request, DecisionKind::Code, body)
}

#[test]
fn a_publication_is_acknowledged_when_a_majority_has_content_and_version() {
    let mut bench = Bench::new(3);
    bench.publish();
    assert!(bench.asked.is_empty(), "nothing goes out without a lease");
    bench.lease();
    let (members, id, ask) = bench.round();
    assert_eq!(members, [1, 2, 3]);
    let RecordsAsk::Post { version, content, .. } = ask else { panic!("{ask:?}") };
    assert_eq!((version.at.ms, version.writer), (1_000, MemberId(1)));
    assert_eq!(content, mine().encode());
    bench.answer(1, id, RecordsAnswer::Stored);
    bench.answer(1, id, RecordsAnswer::Stored);
    assert!(bench.replies.is_empty(), "one replica is one, however often it answers");
    bench.answer(3, id, RecordsAnswer::Stored);
    let Some(Reply::Written(Ok(done))) = bench.replies.pop() else { panic!() };
    assert_eq!((done.version, done.lease_term), (Some(version), 4));
    assert_eq!(bench.told, [version]);
}

#[test]
fn where_others_hold_the_content_it_goes_first() {
    let mut bench = Bench::new(9);
    bench.lease();
    bench.publish();
    let (holders, id, ask) = bench.round();
    assert_eq!(holders.len(), 3);
    assert!(matches!(ask, RecordsAsk::Put { .. }));
    holders[..2].iter().for_each(|from| bench.answer(*from, id, RecordsAnswer::Stored));
    let (others, id, ask) = bench.round();
    assert_ne!(others, holders);
    let RecordsAsk::Add { version, .. } = ask else { panic!("{ask:?}") };
    assert_eq!((version.at.ms, version.writer), (1_000, MemberId(1)));
    bench.answer(others[1], id, RecordsAnswer::Stored);
    assert!(bench.replies.is_empty());
    bench.answer(others[2], id, RecordsAnswer::Stored);
    let Some(Reply::Written(Ok(done))) = bench.replies.pop() else { panic!() };
    assert_eq!(done.version, Some(version));
}

#[test]
fn where_few_hold_a_record_the_content_goes_first_even_to_the_same_few() {
    let mut bench = Bench::new(8);
    bench.lease();
    let of = |partition| sets(&bench.coordinator.standing.view.layout, partition);
    let mut numbered =
        (0..).map(|n| format!("a/b/c/task-{n}/e").parse::<DecisionAddress>().unwrap());
    let is_same = |address: &DecisionAddress| {
        let hash = sealed_at(address).hash();
        of(Partition::of_address(address)) == of(Partition::of_content(&hash))
    };
    let address = numbered.find(is_same).unwrap();
    bench.publish_at(address);
    assert!(matches!(bench.round().2, RecordsAsk::Put { .. }));
}

#[test]
fn a_version_that_was_posted_is_written_anew_once_content_and_version_part() {
    let mut bench = Bench::new(8);
    let seven = [1, 2, 3, 4, 5, 6, 7];
    bench.tell(Msg::View(view(8, 4, &seven, None)));
    bench.lease();
    bench.publish();
    let (_, id, ask) = bench.round();
    assert!(matches!(ask, RecordsAsk::Post { .. }));
    bench.answer(2, id, RecordsAnswer::Stored);
    bench.tell(Msg::View(view(8, 5, &seven, Some(&[1, 2, 3, 4, 5, 6, 7, 8]))));
    let (members, id, ask) = bench.round();
    assert!(matches!(ask, RecordsAsk::Put { .. }), "{ask:?}");
    members.iter().for_each(|from| bench.answer(*from, id, RecordsAnswer::Stored));
    let (members, id, ask) = bench.round();
    assert!(matches!(ask, RecordsAsk::Add { .. }), "{ask:?}");
    members.iter().for_each(|from| bench.answer(*from, id, RecordsAnswer::Stored));
    assert!(matches!(bench.replies.pop(), Some(Reply::Written(Ok(_)))));
}

#[test]
fn a_version_below_the_newest_is_stamped_above_it_and_asked_of_all_again() {
    let mut bench = Bench::new(3);
    bench.lease();
    bench.publish();
    let (_, first, _) = bench.round();
    bench.answer(1, first, RecordsAnswer::Stored);
    bench.answer(2, first, RecordsAnswer::NotGreater(version(9_000)));
    let (members, second, ask) = bench.round();
    assert_eq!(members, [1, 2, 3]);
    let RecordsAsk::Post { version: stamped, .. } = ask else { panic!("{ask:?}") };
    assert!(stamped.at > version(9_000).at);
    bench.answer(3, first, RecordsAnswer::Stored);
    assert!(bench.replies.is_empty(), "that was said of the version before");
    (2..=3).for_each(|from| bench.answer(from, second, RecordsAnswer::Stored));
    let Some(Reply::Written(Ok(done))) = bench.replies.pop() else { panic!() };
    assert_eq!(done.version, Some(stamped));
}

#[test]
fn what_all_replicas_turn_away_as_too_much_is_refused() {
    for stamped_anew in [false, true] {
        let mut bench = Bench::new(3);
        bench.lease();
        bench.publish();
        let (_, mut id, _) = bench.round();
        if stamped_anew {
            bench.answer(1, id, RecordsAnswer::NotGreater(version(9_000)));
            id = bench.round().1;
        }
        (1..=2).for_each(|from| bench.answer(from, id, RecordsAnswer::Full));
        assert!(bench.replies.is_empty(), "the third may have it");
        bench.answer(3, id, RecordsAnswer::Full);
        match bench.replies.pop() {
            Some(Reply::Written(Err(Refusal::AddressFull))) if !stamped_anew => {}
            None if stamped_anew => {}
            reply => panic!("{reply:?}"),
        }
    }
}

#[test]
fn who_turned_it_away_under_another_layout_says_nothing_of_who_kept_it() {
    let mut bench = Bench::new(3);
    bench.lease();
    bench.publish();
    let (_, id, _) = bench.round();
    (2..=3).for_each(|from| bench.answer(from, id, RecordsAnswer::Full));
    bench.tell(Msg::View(view(3, 4, &[2, 3], None)));
    bench.wait(110);
    bench.lease();
    let (members, id, _) = bench.round();
    members.iter().for_each(|from| bench.answer(*from, id, RecordsAnswer::Full));
    assert!(bench.replies.is_empty(), "1 may have it, and have handed it on");
}

#[test]
fn a_write_that_waits_for_a_lease_does_not_wake_all_the_time() {
    let mut bench = Bench::new(3);
    bench.lease();
    bench.publish();
    bench.now = bench.now + Duration::from_millis(250);
    let mut wakes = 0;
    let end = bench.now + Duration::from_millis(100);
    while bench.now < end {
        bench.wait(0);
        bench.now = bench.wake.expect("it is looked at again");
        wakes += 1;
    }
    assert!(wakes <= 21, "{wakes}");
}

#[test]
fn a_publication_that_was_made_before_is_made_again_with_the_content_of_then() {
    let first = sealed(2, 9, DecisionKind::Test);
    let stamp = (Hlc { ms: 5_000, counter: 0 }, MemberId(2));
    let request = RequestId([9; 16]);
    let then = Version::new(stamp, &here(), request, DecisionKind::Test, first.body());
    let first = Content::Sealed(first);
    for (members, holds_content) in [(3, true), (3, false), (9, true)] {
        let mut bench = Bench::new(members);
        bench.lease();
        bench.publish();
        let (mut holders, mut id, _) = bench.round();
        if members > 3 {
            holders.iter().for_each(|from| bench.answer(*from, id, RecordsAnswer::Stored));
            (holders, id, _) = bench.round();
        }
        let other = Some(Content::Raw(Bytes(vec![3])).encode());
        bench.answer(holders[2], id, RecordsAnswer::Repeated(then, other));
        assert!(bench.asked.is_empty(), "that was another content");
        let foreign = version_at(&"a/b/c/d/f".parse().unwrap(), 5_000);
        let foreign = Version { request, ..foreign };
        bench.answer(holders[2], id, RecordsAnswer::Repeated(foreign, None));
        assert!(bench.asked.is_empty(), "that is of another address");
        let content = holds_content.then(|| first.encode());
        bench.answer(holders[1], id, RecordsAnswer::Repeated(then, content.clone()));
        let mut ask;
        (holders, id, ask) = bench.round();
        if members > 3 {
            assert!(matches!(ask, RecordsAsk::Put { .. }), "{ask:?}");
            holders.iter().for_each(|from| bench.answer(*from, id, RecordsAnswer::Stored));
            (holders, id, ask) = bench.round();
        }
        let again = match ask {
            RecordsAsk::Post { version, content: sent, settled, .. } => {
                assert_eq!((Some(sent), settled), (content, true));
                version
            }
            RecordsAsk::Add { version, settled: true, .. } if !holds_content || members > 3 => {
                version
            }
            ask => panic!("{ask:?}"),
        };
        assert_eq!((again.content, again.kind), (then.content, then.kind));
        assert!(again > then && again.is_of(&here()));
        holders[..2].iter().for_each(|from| bench.answer(*from, id, RecordsAnswer::Stored));
        let Some(Reply::Written(Ok(done))) = bench.replies.pop() else { panic!() };
        assert_eq!(done.version, Some(again));
        assert_eq!(bench.told, [again]);
    }
}

#[test]
fn what_a_replica_has_instead_has_to_be_of_the_address_and_greater() {
    let mut bench = Bench::new(3);
    bench.lease();
    bench.publish();
    let (_, id, _) = bench.round();
    let elsewhere = version_at(&"a/b/c/d/f".parse().unwrap(), 9_000);
    for lie in [elsewhere, version(900)] {
        bench.answer(2, id, RecordsAnswer::NotGreater(lie));
        assert!(bench.asked.is_empty(), "nothing is stamped anew for it");
    }
    assert_eq!(bench.counts["records_answers_rejected"], 2);
    bench.answer(2, id, RecordsAnswer::NotGreater(version(9_000)));
    assert_eq!(bench.round().0, [1, 2, 3]);
}

#[test]
fn tries_of_which_two_replicas_have_different_contents_come_to_be_one() {
    let mut bench = Bench::new(2);
    bench.lease();
    let mut stores = [Memory::default(), Memory::default()];
    let keep = |ask: RecordsAsk| match ask {
        RecordsAsk::Post { address, version, content, settled } => {
            StoreOp::Post { address, version, generation: 1, content, settled, vouched: None }
        }
        RecordsAsk::Add { address, version, settled } => {
            StoreOp::Add { address, version, settled, vouched: None }
        }
        ask => panic!("{ask:?}"),
    };
    let earlier = sealed(2, 9, DecisionKind::Code);
    let stamp = (Hlc { ms: 900, counter: 0 }, MemberId(2));
    let version =
        Version::new(stamp, &here(), RequestId([9; 16]), DecisionKind::Code, earlier.body());
    let content = Content::Sealed(earlier).encode();
    let ask = RecordsAsk::Post { address: here(), version, content, settled: false };
    stores[1].one(keep(ask));
    bench.publish();
    for _ in 0..8 {
        for (to, id, ask) in std::mem::take(&mut bench.asked) {
            let store = &mut stores[usize::try_from(to.0).unwrap() - 1];
            let answer = match store.one(keep(ask)) {
                StoreAnswer::Stored => RecordsAnswer::Stored,
                StoreAnswer::NotGreater(newest) => RecordsAnswer::NotGreater(newest),
                StoreAnswer::Repeated(first, content) => RecordsAnswer::Repeated(first, content),
                answer => panic!("{answer:?}"),
            };
            bench.answer(to.0, id, answer);
        }
    }
    let Some(Reply::Written(Ok(done))) = bench.replies.pop() else { panic!("{:?}", bench.counts) };
    assert_eq!(
        done.version.map(|done| done.content),
        Some(version.content),
        "the first one counts"
    );
}

#[test]
fn a_publication_is_found_once_as_many_have_it_as_a_write_takes() {
    let (_, then) = theirs(5);
    let find = Request::Find { address: here(), request: then.request };
    let mut bench = Bench::new(3);
    bench.lease();
    bench.request(find);
    let (members, id, ask) = bench.round();
    assert!(matches!(ask, RecordsAsk::Find { .. }), "{ask:?}");
    let other = Version { request: RequestId([4; 16]), ..then };
    bench.answer(members[1], id, RecordsAnswer::Newest(Some(other)));
    assert_eq!(bench.round().0.len(), 3, "another publication is no answer");
    members.iter().for_each(|from| bench.answer(*from, id, RecordsAnswer::Newest(Some(then))));
    let Some(Reply::Found(Ok(Some(found)))) = bench.replies.pop() else { panic!() };
    assert_eq!((found.version, found.lease_term), (Some(then), 4));
    assert!(bench.asked.is_empty(), "it was acknowledged, so nothing is written");

    bench.request(Request::Find { address: here(), request: then.request });
    let (members, id, _) = bench.round();
    let third = 5 - members[1];
    bench.answer(1, id, RecordsAnswer::Newest(Some(then)));
    bench.answer(members[1], id, RecordsAnswer::Newest(None));
    bench.answer(third, id, RecordsAnswer::Newest(None));
    let found = bench.replies.pop();
    assert!(matches!(found, Some(Reply::Found(Ok(None)))), "it has to be made again: {found:?}");
    bench.asked.clear();

    bench.request(Request::Find { address: here(), request: then.request });
    let (_, id, _) = bench.round();
    bench.answer(1, id, RecordsAnswer::Newest(None));
    bench.wait(500);
    assert!(matches!(bench.replies.pop(), Some(Reply::Found(Err(_)))), "another one may know it");
}

#[test]
fn versions_of_another_address_count_for_nobody() {
    let mut bench = Bench::new(3);
    bench.lease();
    let foreign = version_at(&"a/b/c/d/f".parse().unwrap(), 9);
    bench.request(Request::Newest { address: here() });
    let (members, id, _) = bench.round();
    bench.answer(members[1], id, RecordsAnswer::Newest(Some(foreign)));
    let (all, id, _) = bench.round();
    assert_eq!(all.len(), 3, "the others are asked instead");
    let third = 5 - members[1];
    [1, third].iter().for_each(|from| bench.answer(*from, id, RecordsAnswer::Newest(None)));
    let Some(Reply::Newest(Ok(fresh))) = bench.replies.pop() else { panic!() };
    assert_eq!(fresh, Fresh { value: None, stale: false });

    bench.request(Request::Versions { address: here() });
    let (members, id, _) = bench.round();
    bench.answer(members[1], id, RecordsAnswer::Versions(vec![version(5), foreign]));
    bench.wait(500);
    assert!(matches!(bench.replies.pop(), Some(Reply::Versions(Err(_)))));
}

#[test]
fn what_a_clock_says_that_is_far_ahead_is_shown_as_stale_and_a_wrong_clock_publishes_nothing() {
    let mut bench = Bench::new(3);
    bench.lease();
    let future = version(1_000 + CLOCK_AHEAD_MAX_MS + 1);
    for answer in
        [RecordsAnswer::Newest(Some(future)), RecordsAnswer::Versions(vec![version(5), future])]
    {
        let request = match answer {
            RecordsAnswer::Newest(_) => Request::Newest { address: here() },
            _ => Request::Versions { address: here() },
        };
        bench.request(request);
        let (_, id, _) = bench.round();
        (1..=3).for_each(|from| bench.answer(from, id, answer.clone()));
        assert!(bench.replies.is_empty());
        bench.wait(500);
        match bench.replies.pop() {
            Some(Reply::Newest(Ok(found))) => {
                assert_eq!(found, Fresh { value: Some(future), stale: true });
            }
            Some(Reply::Versions(Ok(found))) => {
                assert_eq!(found, Fresh { value: vec![future], stale: true }, "stamped twice");
            }
            reply => panic!("{reply:?}"),
        }
        bench.lease();
        bench.asked.clear();
    }
    bench.tell(Msg::Clocks(Clocks { split_ms: Some(61_000), ..settled() }));
    bench.publish();
    let refused = bench.replies.pop();
    let Some(Reply::Written(Err(Refusal::ClockWrong { ahead_s: 61 }))) = refused else {
        panic!("{refused:?}")
    };
    assert!(bench.asked.is_empty());
    bench.tell(Msg::Clocks(settled()));
    bench.publish();
    assert!(!bench.asked.is_empty());
}

#[test]
fn a_clock_that_ran_ahead_comes_back_and_what_it_stamped_is_stamped_anew() {
    const HOUR: u64 = 3_600_000;
    let stamped = |bench: &mut Bench| {
        let (_, id, ask) = bench.round();
        let RecordsAsk::Post { version, .. } = ask else { panic!("{ask:?}") };
        (id, version.at.ms)
    };
    let mut bench = Bench::new(3);
    bench.lease();
    bench.wall = Wall(HOUR);
    bench.publish();
    let (id, ms) = stamped(&mut bench);
    assert_eq!(ms, HOUR);
    bench.wall = Wall(2_000);
    bench.answer(2, id, RecordsAnswer::ClockAhead);
    let (id, ms) = stamped(&mut bench);
    assert_eq!(ms, 2_000, "the one that is under way");
    [1, 2].into_iter().for_each(|from| bench.answer(from, id, RecordsAnswer::Stored));
    assert!(matches!(bench.replies.pop(), Some(Reply::Written(Ok(_)))));
    bench.publish();
    assert_eq!(stamped(&mut bench).1, 2_000, "the next one");
}

#[test]
fn nothing_is_stamped_before_the_clocks_were_compared() {
    let mut bench = Bench::new(3);
    bench.lease();
    bench.tell(Msg::Clocks(Clocks::default()));
    bench.publish();
    assert!(bench.asked.is_empty());
    // The clock turns out to be far behind.
    bench.wall = Wall(30 * 86_400_000);
    bench.tell(Msg::Clocks(settled()));
    let (_, _, ask) = bench.round();
    let RecordsAsk::Post { version, .. } = ask else { panic!("{ask:?}") };
    assert_eq!(version.at.ms, bench.wall.0);
}

/// Found by seed 44 of five nodes over 60 seconds: the acknowledgement waited for a lease when a
/// replica refused the version that the others had, and named one that nobody had.
#[test]
fn what_is_acknowledged_is_what_the_replicas_have() {
    let mut bench = Bench::new(3);
    bench.lease();
    bench.publish();
    let (_, id, ask) = bench.round();
    let RecordsAsk::Post { version: kept, .. } = ask else { panic!("{ask:?}") };
    bench.now = bench.now + Duration::from_millis(250);
    (1..=2).for_each(|from| bench.answer(from, id, RecordsAnswer::Stored));
    assert!(bench.replies.is_empty(), "the lease has run out");
    bench.answer(3, id, RecordsAnswer::NotGreater(version(9_000)));
    bench.lease();
    let Some(Reply::Written(Ok(done))) = bench.replies.pop() else { panic!() };
    assert_eq!(done.version, Some(kept));
}

#[test]
fn a_write_is_refused_before_and_unknown_after_it_was_sent() {
    let mut bench = Bench::new(3);
    bench.publish();
    bench.wait(700);
    assert!(matches!(bench.replies.pop(), Some(Reply::Written(Err(Refusal::NoLeader)))));
    bench.lease();
    bench.tell(Msg::Answering([MemberId(1)].into()));
    bench.publish();
    assert!(bench.asked.is_empty(), "two of three do not answer");
    bench.wait(700);
    let refused = bench.replies.pop();
    assert!(matches!(refused, Some(Reply::Written(Err(Refusal::Minority { .. })))), "{refused:?}");
    bench.tell(Msg::Answering([MemberId(2)].into()));
    bench.lease();
    bench.publish();
    let (_, id, _) = bench.round();
    bench.answer(1, id, RecordsAnswer::Stored);
    bench.wait(5_100);
    assert!(matches!(bench.replies.pop(), Some(Reply::Written(Err(Refusal::OutcomeUnknown)))));
}

#[test]
fn while_the_layout_changes_both_sets_have_to_have_it() {
    let mut bench = Bench::new(5);
    bench.tell(Msg::View(view(5, 4, &[1, 2, 3], Some(&[3, 4, 5]))));
    bench.lease();
    bench.publish();
    let (members, id, _) = bench.round();
    assert_eq!(members, [1, 2, 3, 4, 5]);
    (1..=3).for_each(|from| bench.answer(from, id, RecordsAnswer::Stored));
    assert!(bench.replies.is_empty(), "of the next set only one has it");
    bench.answer(5, id, RecordsAnswer::Stored);
    assert!(matches!(bench.replies.pop(), Some(Reply::Written(Ok(_)))));
}

#[test]
fn a_read_writes_back_what_not_enough_replicas_have_with_its_content() {
    let (theirs, newest) = theirs(5);
    let mut bench = Bench::new(3);
    bench.lease();
    bench.request(Request::Newest { address: here() });
    let (members, id, _) = bench.round();
    let &[1, other] = members.as_slice() else { panic!("{members:?} were asked") };
    let third = 5 - other;
    bench.answer(1, id, RecordsAnswer::Newest(None));
    bench.answer(other, id, RecordsAnswer::Newest(Some(newest)));
    assert_eq!(bench.round().0, [third], "it may be on its way there");
    bench.answer(third, id, RecordsAnswer::Newest(None));
    assert!(bench.replies.is_empty(), "whoever asks 1 and the third next would see nothing");
    let (members, fetch, ask) = bench.round();
    assert_eq!((members, ask), (vec![other], RecordsAsk::Content { hash: newest.content }));
    let false_one = Content::Raw(Bytes(vec![3])).encode();
    bench.answer(other, fetch, RecordsAnswer::Content(Some(false_one)));
    let (members, fetch, _) = bench.round();
    assert_eq!(members, [1, 2, 3], "another one may have it");
    bench.answer(other, fetch, RecordsAnswer::Content(Some(Content::Raw(Bytes(vec![3])).encode())));
    assert!(bench.asked.is_empty(), "a false one does not make everybody be asked again at once");
    bench.answer(other, fetch, RecordsAnswer::Content(Some(theirs.encode())));
    let (members, repair, ask) = bench.round();
    assert_eq!(members, [1, third]);
    let content = Some(theirs.encode());
    assert_eq!(ask, RecordsAsk::Merge { address: here(), version: newest, content });
    bench.answer(third, repair, RecordsAnswer::Stored);
    let Some(Reply::Newest(Ok(fresh))) = bench.replies.pop() else { panic!() };
    assert_eq!(fresh, Fresh { value: Some(newest), stale: false });
}

#[test]
fn while_content_and_version_part_a_repair_places_the_content_first() {
    let (theirs, newest) = theirs(5);
    let mut bench = Bench::new(8);
    let (seven, eight) = ([1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6, 7, 8]);
    bench.tell(Msg::View(view(8, 4, &seven, Some(&eight))));
    bench.lease();
    bench.request(Request::Newest { address: here() });
    let (_, id, _) = bench.round();
    bench.answer(1, id, RecordsAnswer::Newest(Some(newest)));
    eight[1..].iter().for_each(|from| bench.answer(*from, id, RecordsAnswer::Newest(None)));
    let (_, fetch, ask) = bench.round();
    assert_eq!(ask, RecordsAsk::Content { hash: newest.content });
    bench.answer(1, fetch, RecordsAnswer::Content(Some(theirs.encode())));
    let (members, put, ask) = bench.round();
    assert!(matches!(ask, RecordsAsk::Put { .. }), "{ask:?}");
    members.iter().for_each(|from| bench.answer(*from, put, RecordsAnswer::Stored));
    let (members, merge, ask) = bench.round();
    assert_eq!(ask, RecordsAsk::Merge { address: here(), version: newest, content: None });
    members.iter().for_each(|from| bench.answer(*from, merge, RecordsAnswer::Stored));
    let Some(Reply::Newest(Ok(fresh))) = bench.replies.pop() else { panic!() };
    assert_eq!(fresh, Fresh { value: Some(newest), stale: false });
}

#[test]
fn a_read_asks_as_few_as_may_do_and_the_others_if_one_of_those_is_silent() {
    let mut bench = Bench::new(4);
    bench.tell(Msg::View(view(4, 4, &[1, 2, 3, 4], None)));
    bench.lease();
    let mut first = BTreeSet::new();
    for _ in 0..20 {
        bench.request(Request::Newest { address: here() });
        let (members, id, _) = bench.round();
        assert_eq!(members.len(), 3, "a write is on three of four: {members:?}");
        assert_eq!(members[0], 1, "our own replica is the nearest");
        let value = RecordsAnswer::Newest(Some(version(5)));
        bench.answer(members[1], id, value.clone());
        bench.answer(1, id, value.clone());
        assert!(bench.replies.is_empty() && bench.asked.is_empty(), "the third may have it");
        first.insert(members[1..].to_vec());
        bench.wait(110);
        bench.lease();
        assert!(bench.round().0.contains(&members[2]), "one is silent, the others are asked");
        bench.answer(members[2], id, value);
        assert!(bench.replies.pop().is_some());
        bench.asked.clear();
    }
    assert_eq!(first.len(), 3, "each pair of the others has had its turn: {first:?}");
}

#[test]
fn without_a_lease_or_a_quorum_an_answer_is_stale() {
    for answers in [1, 2] {
        let mut bench = Bench::new(3);
        if answers == 1 {
            bench.lease();
        }
        bench.request(Request::Newest { address: here() });
        let (_, id, _) = bench.round();
        for from in 1..=answers {
            bench.answer(from, id, RecordsAnswer::Newest(Some(version(5))));
        }
        bench.wait(500);
        let Some(Reply::Newest(Ok(fresh))) = bench.replies.pop() else { panic!() };
        assert_eq!(fresh, Fresh { value: Some(version(5)), stale: true });
    }
}

#[test]
fn answers_from_before_a_change_of_the_layout_do_not_count() {
    let mut bench = Bench::new(3);
    bench.lease();
    bench.request(Request::Newest { address: here() });
    let (_, id, _) = bench.round();
    bench.answer(2, id, RecordsAnswer::Newest(None));
    bench.tell(Msg::View(view(3, 4, &[1, 2, 3], Some(&[1, 2]))));
    let (_, again, _) = bench.round();
    assert_ne!(again, id);
    bench.answer(3, id, RecordsAnswer::Newest(None));
    assert!(bench.replies.is_empty());
}

#[test]
fn a_content_comes_from_here_or_from_others_and_is_checked() {
    let content = Content::Raw(Bytes(vec![7; 10]));
    let hash = content.hash();
    let mut bench = Bench::new(3);
    bench.lease();
    bench.request(Request::Content { hash, named: false });
    let (members, id, _) = bench.round();
    assert_eq!(members, [1], "our own copy is the nearest");
    bench.answer(1, id, RecordsAnswer::Content(Some(Content::Raw(Bytes(vec![8])).encode())));
    let (members, id, _) = bench.round();
    assert_eq!(members, [1, 2, 3], "it was damaged");
    bench.answer(2, id, RecordsAnswer::Content(Some(content.encode())));
    let Some(Reply::Content(Ok(found))) = bench.replies.pop() else { panic!() };
    assert_eq!(found, Some(content.encode()));

    bench.request(Request::Content { hash, named: false });
    let (_, id, _) = bench.round();
    bench.answer(1, id, RecordsAnswer::Content(None));
    assert_eq!(bench.round().0, [2, 3]);
    bench.wait(500);
    bench.wait(5_010);
    let given_up = bench.replies.pop();
    assert!(matches!(given_up, Some(Reply::Content(Err(_)))), "one says that it has none");
    bench.lease();
    bench.request(Request::Content { hash, named: false });
    let (_, id, _) = bench.round();
    bench.wait(110);
    bench.lease();
    assert_eq!(bench.round().0, [1, 2, 3]);
    bench.wait(300);
    assert!(bench.replies.is_empty() && bench.asked.is_empty(), "it may be large");
    bench.lease();
    bench.answer(3, id, RecordsAnswer::Content(Some(content.encode())));
    assert!(matches!(bench.replies.pop(), Some(Reply::Content(Ok(Some(_))))));
    bench.request(Request::Content { hash, named: false });
    bench.wait(410);
    bench.lease();
    bench.wait(5_010);
    bench.lease();
    bench.asked.clear();
    assert!(matches!(bench.replies.pop(), Some(Reply::Content(Err(_)))), "not for ever");
    bench.request(Request::Content { hash, named: false });
    let (_, id_2, _) = bench.round();
    assert_ne!(id, id_2);
    bench.lease();
    (1..=3).for_each(|from| bench.answer(from, id_2, RecordsAnswer::Content(None)));
    assert!(matches!(bench.replies.pop(), Some(Reply::Content(Ok(None)))));
}

/// A content that two of three holders don't have: who asked for it, and the id of the question.
fn lacked_by_two(bench: &mut Bench, named: bool) -> (Content, u64) {
    let content = Content::Raw(Bytes(vec![7; 10]));
    bench.lease();
    bench.request(Request::Content { hash: content.hash(), named });
    let (_, id, _) = bench.round();
    (1..=2).for_each(|from| bench.answer(from, id, RecordsAnswer::Content(None)));
    (content, id)
}

#[test]
fn a_content_that_one_holder_alone_has_is_found() {
    for named in [true, false] {
        let mut bench = Bench::new(3);
        let (content, id) = lacked_by_two(&mut bench, named);
        assert!(bench.replies.is_empty(), "the third may have it");
        bench.answer(3, id, RecordsAnswer::Content(Some(content.encode())));
        assert!(matches!(bench.replies.pop(), Some(Reply::Content(Ok(Some(_))))));
        let (_, id) = lacked_by_two(&mut bench, named);
        bench.answer(3, id, RecordsAnswer::Content(None));
        assert!(matches!(bench.replies.pop(), Some(Reply::Content(Ok(None)))), "all say so");
    }
}

#[test]
fn a_content_that_a_version_names_is_not_gone_while_a_holder_has_not_said_so() {
    for (named, answers) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut bench = Bench::new(3);
        if !answers {
            bench.tell(Msg::Answering([MemberId(1), MemberId(2)].into()));
        }
        let (_, id) = lacked_by_two(&mut bench, named);
        if answers {
            // It failed, is busy, or may lack what it once had.
            bench.answer(3, id, RecordsAnswer::Unavailable);
        }
        assert_eq!(bench.replies.is_empty(), named || answers);
        bench.wait(390);
        bench.lease();
        bench.wait(20);
        if named && answers {
            assert!(bench.replies.is_empty(), "it may be on its way");
            bench.wait(4_990);
            bench.lease();
            bench.wait(20);
        }
        match bench.replies.pop() {
            Some(Reply::Content(Ok(None))) if !named => {}
            Some(Reply::Content(Err(refusal))) if named => {
                let expected =
                    Refusal::ReplicasUnavailable { reachable: 2, needed: 3, replicas: 3 };
                assert!(refusal == expected && refusal.is_retryable(), "{refusal:?}");
            }
            reply => panic!("named {named}, answers {answers}: {reply:?}"),
        }
    }
}

#[test]
fn a_full_disk_is_no_reason_not_to_read() {
    let mut bench = Bench::new(3);
    bench.tell(Msg::Disk(DiskState::Full));
    bench.lease();
    bench.request(Request::Newest { address: here() });
    let (members, id, _) = bench.round();
    members.iter().for_each(|from| bench.answer(*from, id, RecordsAnswer::Newest(None)));
    let read = bench.replies.pop();
    assert!(matches!(read, Some(Reply::Newest(Ok(Fresh { value: None, stale: false })))));
    bench.request(Request::Newest { address: here() });
    bench.wait(390);
    bench.lease();
    bench.wait(20);
    let read = bench.replies.pop();
    assert!(matches!(read, Some(Reply::Newest(Err(Refusal::TimedOut)))), "{read:?}");
    bench.publish();
    let written = bench.replies.pop();
    assert!(matches!(written, Some(Reply::Written(Err(Refusal::DiskFull)))), "{written:?}");
}

#[test]
fn a_content_that_its_signer_has_not_signed_is_no_answer() {
    let good = sealed(1, 9, DecisionKind::Code);
    let hash = good.hash();
    let altered = |change: &dyn Fn(&mut Envelope)| {
        let mut envelope = good.clone();
        change(&mut envelope);
        Content::Sealed(envelope).encode()
    };
    let lies = [
        altered(&|e| e.file.0[0] ^= 1),
        altered(&|e| e.signature = Bytes(vec![0; 64])),
        altered(&|e| *e = e.clone().sign(&KeyedVault(peer(3)))),
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let mut bench = Bench::new(3);
        bench.lease();
        bench.request(Request::Content { hash, named: false });
        let (_, id, _) = bench.round();
        bench.answer(1, id, RecordsAnswer::Content(Some(lie)));
        assert!(bench.replies.is_empty(), "{number}");
        assert_eq!(bench.counts["records_answers_rejected"], 1, "{number}");
        bench.answer(2, id, RecordsAnswer::Content(Some(Content::Sealed(good.clone()).encode())));
        assert!(matches!(bench.replies.pop(), Some(Reply::Content(Ok(Some(_))))), "{number}");
    }
}

#[test]
fn pages_are_merged_up_to_where_all_of_them_are_known() {
    let at = |task: u64| -> DecisionAddress { format!("a/b/c/t{task}/n").parse().unwrap() };
    let mut bench = Bench::new(3);
    bench.lease();
    bench.request(Request::Scan { prefix: "a/".into(), after: None, limit: 3 });
    let (_, id, _) = bench.round();
    let row = |task: u64, ms| (at(task), version_at(&at(task), ms));
    let rows = |tasks: &[u64], ms| tasks.iter().map(|task| row(*task, ms)).collect();
    bench.answer(1, id, RecordsAnswer::Page(rows(&[1, 2, 4], 5), true));
    let foreign = vec![("z/b/c/d/e".parse().unwrap(), version(5))];
    bench.answer(3, id, RecordsAnswer::Page(foreign, false));
    let swapped = vec![(at(1), version_at(&at(2), 5))];
    bench.answer(3, id, RecordsAnswer::Page(swapped, false));
    assert!(bench.replies.is_empty(), "that was not what was asked");
    bench.answer(2, id, RecordsAnswer::Page(rows(&[2, 3, 5], 6), false));
    let Some(Reply::Page(Ok(page))) = bench.replies.pop() else { panic!() };
    let (rows, more) = page.value;
    let tasks: Vec<&str> = rows.iter().map(|(address, _)| address.task()).collect();
    assert_eq!((tasks, more), (vec!["t1", "t2", "t3"], true));
    assert_eq!(rows[1], row(2, 6), "the newest of all");
}
