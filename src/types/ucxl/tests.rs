//! Spellings, versions, patterns, and properties of all three.

use proptest::prelude::*;

use super::*;
use crate::types::Wall;

fn parse(text: &str) -> Ucxl {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn reason(text: &str) -> String {
    text.parse::<Ucxl>().expect_err(text).to_string()
}

#[test]
fn all_spellings_of_a_decision_are_one_address() {
    let canonical = "dev-1/backend_developer/bzzz/create_user/node-10";
    for text in [
        canonical,
        "ucxl://dev-1/backend_developer/bzzz/create_user/node-10",
        "ucxl://dev-1:backend_developer@bzzz:create_user/node-10",
        "dev-1/backend_developer/bzzz/create_user/node-10/",
        "dev-1/backend_developer/bzzz/**/create_user/node-10",
    ] {
        assert_eq!(parse(text).to_string(), canonical, "{text}");
    }
    let address: DecisionAddress = canonical.parse().unwrap();
    assert_eq!(
        [address.agent(), address.role(), address.project(), address.task(), address.node()],
        ["dev-1", "backend_developer", "bzzz", "create_user", "node-10"]
    );
}

#[test]
fn versions_and_other_names_have_one_form_each() {
    for (text, canonical) in [
        ("a/b/c/d/e/~~2", "a/b/c/d/e/~~2"),
        ("a/b/c/d/e/~~0", "a/b/c/d/e/*^"),
        ("a/b/c/d/e/^^00", "a/b/c/d/e/*~"),
        ("ucxl://a:b@c:d/e/^^3", "a/b/c/d/e/^^3"),
        ("a/b/c/d/e/2025-08-10T18:22:20+02:00", "a/b/c/d/e/2025-08-10T16:22:20.000Z"),
        ("a/**/*^", "a/**/*^"),
        ("ucxl://*:architect@bzzz:*/", "*/architect/bzzz/**"),
        ("ucxl://a:b@c:d", "a/b/c/d/*"),
        ("**/*/e", "*/*/*/*/e"),
        ("**/x/**", "**/x/**"),
        ("**/**/x/*/**/**", "**/x/*/**"),
        ("**", "**"),
        (
            "ucxl://bzzz.cluster.config/ai_models/llama",
            "ucxl://bzzz.cluster.config/ai_models/llama",
        ),
    ] {
        assert_eq!(parse(text).to_string(), canonical, "{text}");
    }
    let hash = "/bzzz/ucxl/00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    assert!(matches!(parse(hash), Ucxl::Content(_)));
    assert_eq!(parse(hash).to_string(), hash);
}

#[test]
fn what_is_no_address_says_why() {
    for (text, part) in [
        ("", "write agent/role/project/task/node"),
        ("/a/b/c/d/e", "write agent/role/project/task/node"),
        ("a/b/c", "it has 3 segments"),
        ("a/b/c/d/e/f", "it has 6 segments"),
        ("a/b//d/e", "a segment of it is empty"),
        ("a/b/c/d/e f", "\"e f\" may hold ASCII letters"),
        ("a/b/c/d/ü", "may hold ASCII letters"),
        ("a/b/c/../e", "\"..\" may hold"),
        ("a/b/c/d/x*", "\"x*\" may hold"),
        ("ucxl://a:b@c/d/e", "must read agent:role@project:task"),
        ("ucxl://", "a segment of it is empty"),
        ("a/b/c/d/e/~~", "must end in a number"),
        ("a/b/c/d/e/~~-1", "must end in a number"),
        ("a/b/c/d/e/^^99999999999", "must end in a number"),
        ("a/b/c/d/e/12:30", "is not an RFC 3339"),
        ("ucxl://bzzz.cluster.config/models", "network_topology"),
        ("/bzzz/ucxl/00", "wrong length"),
    ] {
        let reason = reason(text);
        assert!(reason.contains(part), "{text}: {reason}");
    }
    assert!(reason(&"a".repeat(10_000)).contains("longer than"));
    assert!(reason(&["x"; 200].join("/")).contains("more than 16 segments"));
    assert!(reason(&format!("{}/b/c/d/e", "a".repeat(65))).contains("more than 64 bytes"));
    assert!("a/b/c/d/e/*^".parse::<DecisionAddress>().is_err());
    assert!("a/**".parse::<DecisionAddress>().is_err());
}

#[test]
fn patterns_match_whole_segments() {
    let address: DecisionAddress = "dev/qa_engineer/bzzz/review/n1".parse().unwrap();
    for (pattern, expected) in [
        ("**", true),
        ("dev/", true),
        ("dev/**", true),
        ("de/**", false),
        ("*/qa_engineer/**", true),
        ("**/review/**", true),
        ("**/review", false),
        ("**/n1", true),
        ("**/qa_engineer/**/n1", true),
        ("**/n1/**/dev/**", false),
        ("dev/*/bzzz/*/n1", true),
        ("*/*/*/*/*", true),
        ("dev/qa_engineer/bzzz/review/n1", true),
    ] {
        let parsed: Pattern = pattern.parse().unwrap();
        assert_eq!(parsed.matches(&address), expected, "{pattern}");
    }
    assert_eq!("dev/*/x/**".parse::<Pattern>().unwrap().prefix(), "dev/");
    assert_eq!("**/x/**".parse::<Pattern>().unwrap().prefix(), "");
    assert_eq!("a/b/c/d/e".parse::<Pattern>().unwrap().prefix(), "a/b/c/d/e");
}

#[test]
fn versions_are_counted_from_both_ends() {
    let at = |version: usize| Wall(1_000 * (version as u64 + 1));
    let pick = |text: &str| {
        let Ucxl::Decision(_, Some(temporal)) = parse(&format!("a/b/c/d/e/{text}")) else {
            panic!("{text}")
        };
        temporal.pick(3, at).map_err(|error| error.to_string())
    };
    assert_eq!([pick("*^"), pick("*~"), pick("~~2"), pick("^^1")], [Ok(2), Ok(0), Ok(0), Ok(1)]);
    assert_eq!(pick("1970-01-01T00:00:02.5Z"), Ok(1));
    assert_eq!(pick("2020-01-01T00:00:00Z"), Ok(2));
    assert_eq!(
        pick("~~3").unwrap_err(),
        "~~3 is out of range: there are 3 versions, ~~0 (the latest) to ~~2"
    );
    assert!(pick("^^7").unwrap_err().ends_with("^^0 (the first) to ^^2"));
    assert!(pick("1970-01-01T00:00:00Z").unwrap_err().contains("the first one is of 1970"));
}

/// Matches by trying every length for each `**`.
fn matches_slowly(parts: &[&str], segments: &[&str]) -> bool {
    match parts.split_first() {
        None => segments.is_empty(),
        Some((&"**", rest)) => {
            (0..=segments.len()).any(|skip| matches_slowly(rest, &segments[skip..]))
        }
        Some((part, rest)) => segments.split_first().is_some_and(|(first, others)| {
            (*part == "*" || part == first) && matches_slowly(rest, others)
        }),
    }
}

proptest! {
    #[test]
    fn every_spelling_of_an_address_is_the_same_address(
        segments in prop::collection::vec("[a-zA-Z0-9_-]{1,12}", 5),
    ) {
        let [a, b, c, d, e] = segments.as_slice() else { unreachable!() };
        let address = DecisionAddress::new([a, b, c, d, e]).unwrap();
        let spellings = [
            segments.join("/"),
            format!("ucxl://{}", segments.join("/")),
            format!("ucxl://{a}:{b}@{c}:{d}/{e}"),
            format!("{}/", segments.join("/")),
        ];
        for spelling in spellings {
            prop_assert_eq!(spelling.parse::<DecisionAddress>().unwrap(), address.clone());
        }
        prop_assert_eq!(address.to_string().parse::<DecisionAddress>().unwrap(), address);
    }

    #[test]
    fn what_parses_prints_as_what_parses_to_the_same(text in "[a-c*/~^:@.0-9TZ-]{0,40}") {
        if let Ok(parsed) = text.parse::<Ucxl>() {
            prop_assert_eq!(parsed.to_string().parse::<Ucxl>().unwrap(), parsed);
        }
    }

    #[test]
    fn patterns_match_what_they_say(
        parts in prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "**"]), 1..8),
        segments in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 5),
    ) {
        let address: DecisionAddress = segments.join("/").parse().unwrap();
        if let Ok(pattern) = parts.join("/").parse::<Pattern>() {
            let expected = matches_slowly(&parts, &segments);
            prop_assert_eq!(pattern.matches(&address), expected);
            let again: Pattern = pattern.to_string().parse().unwrap();
            prop_assert_eq!(again, pattern.clone());
            if expected {
                prop_assert!(address.as_str().starts_with(&pattern.prefix()));
            }
        }
    }

    #[test]
    fn any_text_is_refused_or_understood(text in "\\PC{0,600}") {
        let _ = text.parse::<Ucxl>();
    }
}
