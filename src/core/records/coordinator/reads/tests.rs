//! What the answers of many replicas are put together to.

use super::*;
use crate::types::record::{DecisionKind, Hlc};
use crate::types::{BodyHash, ContentHash, RequestId};

#[test]
fn a_publication_stands_in_a_history_once_as_it_was_stamped_last() {
    let version = |ms, content, request| Version {
        at: Hlc { ms, counter: 0 },
        writer: MemberId(1),
        content: ContentHash([content; 32]),
        request: RequestId([request; 16]),
        kind: DecisionKind::Code,
        body: BodyHash([content; 32]),
    };
    let (first, again) = (version(1, 1, 1), version(5, 1, 1));
    let (other, reused) = (version(2, 2, 2), version(3, 3, 1));
    let answer = |versions: &[Version]| RecordsAnswer::Versions(versions.to_vec());
    let answers = [
        (MemberId(1), answer(&[first, other])),
        (MemberId(2), answer(&[reused, again])),
        (MemberId(3), RecordsAnswer::Unavailable),
    ];
    assert_eq!(versions(answers.into()), [other, reused, again]);
}

fn at(task: u64) -> DecisionAddress {
    format!("a/b/c/t{task}/n").parse().unwrap()
}

fn row(task: u64) -> (DecisionAddress, Version) {
    let stamp = (Hlc { ms: 5, counter: 0 }, MemberId(1));
    let (request, body) = (RequestId([1; 16]), BodyHash([1; 32]));
    (at(task), Version::new(stamp, &at(task), request, DecisionKind::Code, body))
}

#[test]
fn the_rows_of_a_page_rise_from_where_it_is_to_begin_and_are_of_their_addresses() {
    let is_page = |rows: &[(DecisionAddress, Version)]| is_page("a/b/", Some(&at(1)), rows);
    assert!(is_page(&[]) && is_page(&[row(2), row(3)]));
    let elsewhere: DecisionAddress = "z/b/c/t/n".parse().unwrap();
    let version = row(2).1;
    for (what, rows) in [
        ("falling", [row(3), row(2)]),
        ("twice the same", [row(2), row(2)]),
        ("from the page before", [row(1), row(2)]),
        ("of another address", [row(2), (at(3), version)]),
    ] {
        assert!(!is_page(&rows), "{what}");
    }
    let stamp = (version.at, version.writer);
    let (request, kind, body) = (version.request, version.kind, version.body);
    let version = Version::new(stamp, &elsewhere, request, kind, body);
    assert!(!is_page(&[row(2), (elsewhere, version)]), "it begins with something else");
}

#[test]
fn a_page_ends_where_the_first_one_is_cut_and_says_that_there_is_more() {
    let merged = |pages: &[(&[u64], bool)], limit| {
        let answer = |(tasks, cut): &(&[u64], bool)| {
            RecordsAnswer::Page(tasks.iter().map(|task| row(*task)).collect(), *cut)
        };
        let answers = (1..).map(MemberId).zip(pages.iter().map(answer)).collect();
        let (rows, more) = rows(answers, limit);
        let tasks = rows.iter().map(|(address, _)| address.task()[1..].parse::<u64>().unwrap());
        (tasks.collect::<Vec<_>>(), more)
    };
    assert_eq!(merged(&[(&[1, 2, 4], true), (&[2, 3, 5], false)], 9), (vec![1, 2, 3, 4], true));
    assert_eq!(merged(&[(&[1, 5, 6], true), (&[1, 2, 3], true)], 9), (vec![1, 2, 3], true));
    assert_eq!(merged(&[(&[1], false), (&[2], false)], 2), (vec![1, 2], false));
    assert_eq!(merged(&[(&[1], false), (&[2], false)], 1), (vec![1], true));
    assert_eq!(merged(&[(&[1, 2, 3], true)], 2), (vec![1, 2], true));
    assert_eq!(merged(&[(&[1], false)], 0), (vec![1], false), "one at least");
}
