//! When and where peers are dialled.

use std::net::SocketAddr;

use super::super::bounds::{CLAIM_HURRIES_MAX, CLAIM_INTERVAL, CLAIMED_MAX, LEARNED_MAX};
use super::*;

fn address(port: u16) -> Address {
    Address::from_socket(SocketAddr::from(([127, 0, 0, 1], port)))
}

fn only(mut begun: Vec<(u64, Vec<Address>)>) -> (u64, Vec<Address>) {
    assert_eq!(begun.len(), 1, "{begun:?}");
    begun.remove(0)
}

#[test]
fn the_backoff_grows_to_its_limit_and_starts_again_after_a_good_connection() {
    let (mut dialer, peer) = (Dialer::new([1; 32]), PeerId([1; 32]));
    assert!(dialer.keep(peer, vec![address(1)]));
    assert!(!dialer.keep(peer, vec![address(1)]));
    let mut step = REDIAL_MIN;
    for _ in 0..12 {
        let (delay, generation) = dialer.again(peer, false).unwrap();
        assert!(delay >= step / 2 && delay <= step, "{delay:?} for {step:?}");
        assert!(dialer.is_current(peer, generation));
        step = (step * 2).min(REDIAL_MAX);
    }
    assert!(dialer.again(peer, true).unwrap().0 < Duration::from_millis(50));
    assert!(dialer.again(peer, false).unwrap().0 <= REDIAL_MIN);
}

#[test]
fn a_name_is_tried_at_each_of_its_addresses_and_fails_once() {
    let mut dialer = Dialer::new([1; 32]);
    let name: Address = "boot.example:4001".parse().unwrap();
    let ticket = dialer.begin_once(name.clone(), false).unwrap();
    assert_eq!(dialer.next_once(ticket), None, "it is not resolved yet");
    let resolved = [3, 1, 3, 2].map(|port| (address(port), name.clone()));
    dialer.resolve_once(ticket, &resolved);
    for port in [3, 1, 2] {
        assert_eq!(dialer.next_once(ticket), Some(address(port)), "in the order given");
        let reason = if port == 1 { "no route" } else { "connection refused" };
        dialer.fail_once(ticket, reason.to_owned());
    }
    assert_eq!(dialer.next_once(ticket), None);
    let reason = "connection refused; no route".to_owned();
    let over = Over { address: name.clone(), is_hint: false, reason };
    assert_eq!(dialer.give_up_once(ticket), Some(over));
    assert_eq!(dialer.give_up_once(ticket), None, "there is one answer");
    // One that has led to a node is not tried further.
    let ticket = dialer.begin_once(name.clone(), false).unwrap();
    dialer.resolve_once(ticket, &resolved);
    assert_eq!(dialer.next_once(ticket), Some(address(3)));
    assert_eq!(dialer.end_once(ticket), Some(name.clone()));
    assert_eq!(dialer.next_once(ticket), None);
    assert!(dialer.end_all().is_empty());
    // Several may be under way: it ends with the last one.
    let ticket = dialer.begin_once(name.clone(), false).unwrap();
    dialer.resolve_once(ticket, &resolved[..2]);
    for (id, port) in [(1, 3), (2, 1)] {
        assert!(dialer.has_more(ticket));
        assert_eq!(dialer.next_once(ticket), Some(address(port)));
        let resolved = vec![(address(port), address(port))];
        let attempt = Attempt { target: Target::Once(ticket), resolved };
        dialer.begin(ConnectionId::new_unchecked(id), attempt);
    }
    assert!(!dialer.has_more(ticket) && dialer.is_trying(ticket));
    assert!(dialer.end(ConnectionId::new_unchecked(1)).is_some());
    assert!(dialer.is_trying(ticket), "the other one may lead somewhere");
    assert!(dialer.end(ConnectionId::new_unchecked(2)).is_some());
    assert!(!dialer.is_trying(ticket));
    assert!(dialer.give_up_once(ticket).is_some());
    // Nobody waits for what becomes of a hint.
    let ticket = dialer.begin_once(address(1), true).unwrap();
    assert!(dialer.is_hint(ticket));
    assert!(dialer.end_all().is_empty());
}

#[test]
fn what_others_tell_is_tried_too_and_bounded() {
    let (mut dialer, peer) = (Dialer::new([1; 32]), PeerId([1; 32]));
    assert!(!dialer.learn(PeerId([9; 32]), address(9)), "nobody looks for it");
    dialer.keep(peer, vec![address(1)]);
    assert!(!dialer.learn(peer, address(1)), "it is known");
    for port in 2..20 {
        assert!(dialer.learn(peer, address(port)));
    }
    let (dial, tried) = only(dialer.begin_kept(peer));
    assert_eq!(tried.len(), 1 + LEARNED_MAX);
    assert!(tried.contains(&address(1)) && tried.contains(&address(19)));
    dialer.end_kept(&Target::Kept(peer, dial));
    dialer.keep(peer, vec![address(30)]);
    assert_eq!(only(dialer.begin_kept(peer)).1.len(), 1 + LEARNED_MAX, "also kept anew");
    for _ in 0..MISSED_AFTER {
        assert_eq!(dialer.missed().next(), None);
        dialer.again(peer, false);
    }
    assert_eq!(dialer.missed().next(), Some(peer));
    dialer.again(peer, true);
    assert_eq!(dialer.missed().next(), None);
}

#[test]
fn who_holds_a_place_for_a_peer_is_remembered_and_bounded() {
    let (mut dialer, peer) = (Dialer::new([1; 32]), PeerId([1; 32]));
    assert!(!dialer.learn_relay(PeerId([3; 32]), PeerId([9; 32])), "nobody looks for it");
    dialer.keep(peer, Vec::new());
    assert!(dialer.begin_kept(peer).is_empty(), "there is no way to it");
    assert!((2..9).all(|relay| dialer.learn_relay(peer, PeerId([relay; 32]))));
    assert!(!dialer.learn_relay(peer, PeerId([8; 32])), "it is known");
    let last: Vec<PeerId> = (5..9).map(|relay| PeerId([relay; 32])).collect();
    assert_eq!(dialer.relays(peer).collect::<Vec<_>>(), last);
    assert!(only(dialer.begin_kept(peer)).1.is_empty(), "but there are circuits");
    assert!(dialer.begin_kept(peer).is_empty(), "which are being opened");
}

#[test]
fn what_was_learned_of_a_peer_is_good_when_it_is_wanted_again() {
    let mut dialer = Dialer::new([1; 32]);
    let (peer, relay) = (PeerId([1; 32]), PeerId([2; 32]));
    dialer.keep(peer, vec![address(1)]);
    assert!(dialer.learn_relay(peer, relay));
    dialer.release(peer);
    assert!(!dialer.learn(peer, address(2)), "nobody waits for it now");
    dialer.keep(peer, vec![address(1)]);
    assert_eq!(dialer.relays(peer).collect::<Vec<_>>(), [relay]);
    assert_eq!(only(dialer.begin_kept(peer)).1, [address(1), address(2)]);
    for other in 0..2 * u16::try_from(REMEMBERED_MAX).unwrap() {
        let mut key = [9; 32];
        key[..2].copy_from_slice(&other.to_be_bytes());
        dialer.learn_relay(PeerId(key), relay);
    }
    assert_eq!(dialer.remembered.len(), REMEMBERED_MAX);
}

#[test]
fn a_doubted_address_is_left_out_until_all_are_doubted() {
    let (mut dialer, peer) = (Dialer::new([1; 32]), PeerId([1; 32]));
    dialer.keep(peer, vec![address(1), address(2)]);
    dialer.doubt(peer, address(1));
    let (dial, addresses) = only(dialer.begin_kept(peer));
    assert_eq!(addresses, [address(2)]);
    assert!(dialer.begin_kept(peer).is_empty());
    dialer.end_kept(&Target::Kept(peer, dial));
    dialer.doubt(peer, address(2));
    assert_eq!(only(dialer.begin_kept(peer)).1, [address(1), address(2)]);
}

#[test]
fn what_is_heard_while_a_peer_is_dialled_is_dialled_beside_that() {
    let (mut dialer, peer) = (Dialer::new([1; 32]), PeerId([1; 32]));
    let name: Address = "moved.example:4001".parse().unwrap();
    dialer.keep(peer, vec![address(1), name.clone()]);
    let begun = dialer.begin_kept(peer);
    let [(first, literals), (_, names)] = &begun[..] else { panic!("{begun:?}") };
    assert_eq!((&literals[..], &names[..]), (&[address(1)][..], &[name][..]));
    assert!(dialer.is_first(peer, *first));
    assert!(dialer.learn(peer, address(2)));
    assert_eq!(only(dialer.begin_kept(peer)).1, [address(2)]);
    // Its place in the roster, too.
    dialer.keep(peer, vec![address(3)]);
    assert_eq!(only(dialer.begin_kept(peer)).1, [address(3)]);
    assert!(dialer.learn(peer, address(4)));
    assert!(dialer.begin_kept(peer).is_empty(), "too many are under way");
    dialer.end_kept(&Target::Kept(peer, *first));
    assert!(!dialer.is_first(peer, *first) && dialer.is_dialling(peer));
    assert!(dialer.take_again(peer) && !dialer.take_again(peer));
    assert_eq!(only(dialer.begin_kept(peer)).1, [address(4)]);
}

#[test]
fn news_shorten_the_backoff() {
    let (mut dialer, peer) = (Dialer::new([1; 32]), PeerId([1; 32]));
    dialer.keep(peer, vec![address(1)]);
    let fail_often = |dialer: &mut Dialer| {
        for _ in 0..8 {
            dialer.again(peer, false);
        }
    };
    fail_often(&mut dialer);
    assert!(dialer.learn(peer, address(2)));
    assert!(dialer.again(peer, false).unwrap().0 <= REDIAL_MIN);
    fail_often(&mut dialer);
    assert!(!dialer.learn(peer, address(2)), "it is known");
    assert!(dialer.again(peer, false).unwrap().0 > REDIAL_MIN);
    dialer.hurry();
    assert!(dialer.again(peer, false).unwrap().0 <= REDIAL_MIN);
}

/// Somebody claims that the first peer is at an address: when it is dialled for that.
fn claim(dialer: &mut Dialer, address: Address, now: Instant) -> Option<Follow> {
    let peer = PeerId([1; 32]);
    let is_news = dialer.claim(peer, vec![address]);
    dialer.follow(peer, is_news, now)
}

#[tokio::test(start_paused = true)]
async fn claims_push_out_nothing_that_is_true_and_shorten_the_backoff_only_so_often() {
    let (mut dialer, peer) = (Dialer::new([1; 32]), PeerId([1; 32]));
    let mut now = Instant::now();
    dialer.keep(peer, vec![address(1)]);
    assert!(dialer.learn(peer, address(2)), "it says so itself");
    assert_eq!(claim(&mut dialer, address(3), now), Some(Follow::Now));
    dialer.learn(peer, address(3));
    let mut at_once = 1;
    for port in 100..100 + 2 * CLAIMED_MAX as u16 {
        let follow = claim(&mut dialer, address(port), now);
        at_once += usize::from(follow == Some(Follow::Now));
        dialer.again(peer, false);
    }
    assert_eq!(at_once, CLAIM_HURRIES_MAX);
    assert!(dialer.again(peer, false).unwrap().0 > REDIAL_MIN);
    for port in 0..1_000 {
        dialer.doubt(peer, address(port));
    }
    assert_eq!(dialer.kept[&peer].doubted.len(), 3 + CLAIMED_MAX, "no others are remembered");
    let (_, tried) = only(dialer.begin_kept(peer));
    assert!([1, 2, 3].iter().all(|port| tried.contains(&address(*port))));
    assert_eq!(tried.len(), 3 + CLAIMED_MAX);
    assert!([1, 2].map(|port| dialer.is_of_roster(peer, &address(port))) == [true, false]);
    now += CLAIM_INTERVAL;
    assert_eq!(claim(&mut dialer, address(4), now), Some(Follow::Now));
    assert!(dialer.again(peer, false).unwrap().0 <= REDIAL_MIN);
}

#[test]
fn claims_of_many_peers_push_out_nothing_that_members_have_told() {
    let (mut dialer, peer) = (Dialer::new([1; 32]), PeerId([1; 32]));
    assert!(!dialer.learn(peer, address(2)), "nobody looks for it now");
    for other in 0..2 * u16::try_from(REMEMBERED_MAX).unwrap() {
        let mut key = [9; 32];
        key[..2].copy_from_slice(&other.to_be_bytes());
        assert!(!dialer.claim(PeerId(key), vec![address(1)]));
        assert_eq!(dialer.follow(PeerId(key), false, Instant::now()), None);
    }
    assert_eq!(dialer.remembered.len(), REMEMBERED_MAX);
    dialer.keep(peer, Vec::new());
    assert_eq!(only(dialer.begin_kept(peer)).1, [address(2)]);
}

#[test]
fn addresses_that_are_good_on_one_interface_alone_are_not_taken() {
    let (mut dialer, peer) = (Dialer::new([1; 32]), PeerId([1; 32]));
    dialer.keep(peer, Vec::new());
    assert!(!dialer.learn(peer, "[fe80::1]:4001".parse().unwrap()));
    assert!(!dialer.learn(peer, "[::]:4001".parse().unwrap()));
    assert!(dialer.learn(peer, "[fd00::1]:4001".parse().unwrap()));
}
