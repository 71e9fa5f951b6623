//! Drafts, seals and cursors.

use std::collections::BTreeSet;

use zeroize::Zeroizing;

use super::draft::*;
use super::query::*;
use super::seal::*;
use super::*;
use crate::core::records::{Content, Envelope};
use crate::crypto::keyed::KeyedVault;
use crate::crypto::{Keyring, OpenError, SealError};
use crate::types::limits::{CONTENT_LEN_MAX, TAGS_MAX};
use crate::types::record::{Hlc, Version};
use crate::types::role::{Authority, RoleKey, Roles};
use crate::types::ucxl::{Pattern, Temporal};
use crate::types::{
    BodyHash, ClusterId, CursorError, MemberId, PeerId, Recipient, RequestId, golden,
};

const SIGNER: PeerId = PeerId([7; 32]);

/// Holds these keys; a file begins with the first bytes of those that it is for.
#[derive(Default)]
struct TestKeyring(BTreeSet<Recipient>);

impl Keyring for TestKeyring {
    fn own(&self) -> Recipient {
        Recipient::default()
    }

    fn make(&self) -> Recipient {
        Recipient::default()
    }

    fn holds(&self, key: Recipient) -> bool {
        self.0.contains(&key)
    }

    fn share(&self, _: &[Recipient], _: Recipient) -> Option<Vec<u8>> {
        None
    }

    fn accept(&self, _: &[u8], _: &[Recipient]) -> Result<(), OpenError> {
        Ok(())
    }

    fn seal(&self, to: &[Recipient], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let keys: Vec<u8> = to.iter().map(|key| key.0[0]).collect();
        Ok([&[keys.len() as u8], keys.as_slice(), plain].concat())
    }

    fn open(&self, key: Recipient, file: &[u8], _: usize) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (keys, plain) = file[1..].split_at(usize::from(file[0]));
        let fits = keys.contains(&key.0[0]);
        if fits { Ok(Zeroizing::new(plain.to_vec())) } else { Err(OpenError::ForOthers) }
    }
}

fn roles() -> Roles {
    let role = |(name, authority, key): (&str, _, u8)| {
        (name.to_owned(), RoleKey { authority, recipient: Recipient([key; 32]) })
    };
    let all = [
        ("admin", Authority::Master, 1),
        ("architect", Authority::Decision, 2),
        ("observer", Authority::ReadOnly, 3),
    ];
    all.into_iter().map(role).collect()
}

fn all_keys() -> TestKeyring {
    TestKeyring(roles().values().map(|role| role.recipient).collect())
}

fn draft() -> Draft {
    Draft {
        kind: Some(DecisionKind::Code),
        address: Some("ada/architect/shop/create-user/here".into()),
        decision: "Created user: ann".into(),
        files_modified: Some(vec!["users.go".into()]),
        success: Some(true),
        ..Draft::default()
    }
}

fn compose(draft: Draft) -> Result<Decision, FieldProblem> {
    let address = draft.address("node-1")?;
    draft.references()?;
    draft.compose(address, vec![ContentHash([4; 32])], None, Wall(5), [9; 16])
}

const REQUEST: RequestId = RequestId([6; 16]);

fn sealed(readers: &[&str]) -> Envelope {
    let decision = compose(draft()).unwrap();
    seal((&decision, &REQUEST), readers, &roles(), SIGNER, &KeyedVault(SIGNER), &all_keys())
        .unwrap()
}

fn read(content: &Content, role: Option<&str>) -> Result<Opened, ReadError> {
    open((content, Trust::None), role, None, &roles(), &KeyedVault(SIGNER), &all_keys())
}

#[test]
fn golden_bytes() {
    let mut decisions = vec![compose(draft()).unwrap()];
    let others = [
        r#"{"type": "architecture", "decision": "d", "rationale": "r", "alternatives": ["a"],
            "implications": ["i"], "next_steps": ["n"], "supersedes": null, "tags": ["t"]}"#,
        r#"{"type": "test", "decision": "d", "failures": ["f"], "coverage_percent": 80,
            "test_results": {"passed": 3, "failed": 1}}"#,
        r#"{"type": "system", "decision": "d", "component": "c", "operation": "o",
            "details": {"k": "v"}}"#,
        r#"{"decision": "d", "data": {"k": [1, 2.5, null, "x"]}}"#,
    ];
    for text in others {
        let other: Draft = serde_json::from_str(text).unwrap();
        decisions.push(compose(Draft { address: draft().address, ..other }).unwrap());
    }
    golden::durable::<Decision>(include_str!("../../types/golden/decision"), &decisions);
    let signed = Signed { body: Bytes(vec![1]), signer: SIGNER, signature: Bytes(vec![2]) };
    golden::durable::<Signed>(include_str!("../../types/golden/signed-decision"), &[signed]);
}

#[test]
fn what_was_sealed_is_read_with_a_role_that_it_is_for() {
    let envelope = sealed(&["architect"]);
    assert_eq!(envelope.roles, ["admin", "architect"], "those above read along");
    let content = Content::Sealed(envelope);
    let stored = content.encode();
    assert_eq!(Content::check(&stored, &content.hash(), &KeyedVault(SIGNER)), Ok(content.clone()));
    let opened = read(&content, None).unwrap();
    assert_eq!(opened, Opened { decision: compose(draft()).unwrap(), signer: SIGNER });
    assert_eq!(read(&content, Some("architect")), Ok(opened));
    let failure = read(&content, Some("observer")).unwrap_err();
    assert_eq!(
        failure.to_string(),
        "the role observer cannot decrypt it; these can: admin, architect"
    );
    let nothing = TestKeyring::default();
    let pending =
        open((&content, Trust::None), None, None, &roles(), &KeyedVault(SIGNER), &nothing);
    assert!(matches!(pending, Err(ReadError::KeysPending { .. })));
    let elsewhere = "ada/architect/shop/other/here".parse().unwrap();
    let moved = open(
        (&content, Trust::Proven),
        None,
        Some(&elsewhere),
        &roles(),
        &KeyedVault(SIGNER),
        &all_keys(),
    );
    assert!(matches!(moved, Err(ReadError::Damaged(_))), "{moved:?}");
    assert_eq!(read(&Content::Raw(Bytes(vec![1])), None), Err(ReadError::NotADecision));
}

#[test]
fn what_does_not_match_its_hash_or_signature_is_not_read() {
    let good = sealed(&["admin"]);
    let altered = |change: &dyn Fn(&mut Signed)| {
        // Whoever has the key of a role can encrypt what he likes.
        let plain = all_keys().open(Recipient([1; 32]), &good.file.0, CONTENT_LEN_MAX).unwrap();
        let mut signed: Signed = crate::types::codec::decode_durable(&plain).unwrap();
        change(&mut signed);
        let plain = crate::types::codec::encode_durable(&signed);
        let mut envelope = good.clone();
        envelope.plain = *blake3::hash(&plain).as_bytes();
        envelope.file = Bytes(all_keys().seal(&[Recipient([1; 32])], &plain).unwrap());
        read(&Content::Sealed(envelope), None)
    };
    assert!(altered(&|_| {}).is_ok());
    let damaged = |result: Result<Opened, ReadError>| matches!(result, Err(ReadError::Damaged(_)));
    assert!(damaged(altered(&|signed| signed.signature.0[0] ^= 1)));
    assert!(damaged(altered(&|signed| signed.signature.0.truncate(3))));
    assert!(damaged(altered(&|signed| signed.signer = PeerId([8; 32]))));
    assert!(damaged(altered(&|signed| signed.body.0.push(0))));
    let mut renamed = good.clone();
    renamed.plain = [1; 32];
    assert!(damaged(read(&Content::Sealed(renamed), None)));
    let mut claimed = good;
    claimed.roles = vec!["observer".into()];
    assert!(damaged(read(&Content::Sealed(claimed), None)), "it is not for whom it says");
}

#[test]
fn what_is_too_large_or_for_nobody_is_not_sealed() {
    let decision = compose(draft()).unwrap();
    let seal_for = |decision: &Decision, readers: &[&str]| {
        seal((decision, &REQUEST), readers, &roles(), SIGNER, &KeyedVault(SIGNER), &all_keys())
    };
    let failure = seal_for(&decision, &["admin", "boss"]).unwrap_err().to_string();
    assert_eq!(failure, "there is no role \"boss\"; the roles are admin, architect, observer");
    let mut large = decision;
    large.body.decision = "x".repeat(CONTENT_LEN_MAX);
    assert!(matches!(seal_for(&large, &["admin"]), Err(SealFailure::TooLarge { .. })));
    large.body.decision = "x".repeat(CONTENT_LEN_MAX - 1_000);
    assert!(seal_for(&large, &["admin"]).is_ok());
}

/// The field that is wrong with a draft.
fn wrong(change: impl FnOnce(&mut Draft)) -> Option<&'static str> {
    let mut draft = draft();
    change(&mut draft);
    compose(draft).err().map(|problem| problem.field)
}

#[test]
fn drafts_are_checked_field_by_field() {
    assert_eq!(wrong(|_| {}), None);
    assert_eq!(wrong(|d| d.decision = " \n".into()), Some("decision"));
    assert_eq!(wrong(|d| d.rationale = Some("r".into())), Some("rationale"));
    assert_eq!(wrong(|d| d.data = Some(1.into())), Some("data"));
    assert_eq!(wrong(|d| d.kind = Some(DecisionKind::Generic)), Some("files_modified"));
    assert_eq!(wrong(|d| d.tags = vec!["t".into(); TAGS_MAX]), None);
    assert_eq!(wrong(|d| d.tags = vec!["t".into(); 10_000]), Some("tags"));
    assert_eq!(wrong(|d| d.tags = vec!["t".repeat(65)]), Some("tags"));
    assert_eq!(wrong(|d| d.tags = vec!["a\nb".into()]), Some("tags"));
    assert_eq!(wrong(|d| d.parents = vec!["a/**".into()]), Some("parents"));
    assert_eq!(wrong(|d| d.parents = vec!["a/b/c/d/e".into(); 65]), Some("parents"));
    assert_eq!(wrong(|d| d.supersedes = Some("nonsense".into())), Some("supersedes"));
    assert_eq!(wrong(|d| d.readers = vec!["x".into(); 65]), Some("readers"));
    assert_eq!(wrong(|d| d.address = Some("a/b/c".into())), Some("address"));
    assert_eq!(wrong(|d| d.agent = Some("a".into())), Some("agent"));
    let files = |count, len| Some(vec!["f".repeat(len); count]);
    assert_eq!(wrong(|d| d.files_modified = files(1_025, 1)), Some("files_modified"));
    assert_eq!(wrong(|d| d.files_modified = files(1, 4_097)), Some("files_modified"));
    let test = |d: &mut Draft, percent| {
        (d.kind, d.files_modified) = (Some(DecisionKind::Test), None);
        d.coverage_percent = Some(percent);
    };
    assert_eq!(wrong(|d| test(d, 100)), None);
    assert_eq!(wrong(|d| test(d, 101)), Some("coverage_percent"));
    let deep = |levels| (0..levels).fold(serde_json::Value::Null, |v, _| vec![v].into());
    let generic = |d: &mut Draft, levels| {
        (d.kind, d.files_modified, d.data) = (None, None, Some(deep(levels)));
    };
    assert_eq!(wrong(|d| generic(d, 32)), None);
    assert_eq!(wrong(|d| generic(d, 33)), Some("data"));
}

#[test]
fn an_address_can_be_given_in_parts() {
    let parts = |d: &mut Draft| {
        d.address = None;
        (d.agent, d.role) = (Some("ada".into()), Some("admin".into()));
        (d.project, d.task) = (Some("shop".into()), Some("create_user".into()));
    };
    let mut in_parts = draft();
    parts(&mut in_parts);
    let decision = compose(in_parts).unwrap();
    assert_eq!(decision.address.as_str(), "ada/admin/shop/create_user/node-1");
    assert_eq!(decision.body.task, "create_user");
    assert_eq!(compose(draft()).unwrap().body.task, "create-user", "the address says it");
    let without = |drop: fn(&mut Draft)| {
        wrong(|d| {
            parts(d);
            drop(d);
        })
    };
    assert_eq!(without(|d| d.agent = None), Some("agent"));
    assert_eq!(without(|d| d.task = None), Some("task"));
    assert_eq!(without(|d| d.task = Some("create a user".into())), Some("address"));
}

#[test]
fn what_is_referred_to_has_many_spellings() {
    let hash = ContentHash([0xab; 32]);
    let address: DecisionAddress = "a/b/c/d/e".parse().unwrap();
    let of = |text: String| {
        let draft = Draft { parents: vec![text], ..Draft::default() };
        draft.references().unwrap().0.remove(0)
    };
    assert_eq!(of(hash.to_string()), Reference::Content(hash));
    assert_eq!(of(format!("/bzzz/ucxl/{hash}")), Reference::Content(hash));
    assert_eq!(of(address.to_string()), Reference::Decision(address.clone(), Temporal::Latest));
    assert_eq!(of(format!("{address}/~~1")), Reference::Decision(address, Temporal::Back(1)));
}

#[test]
fn fields_that_are_not_known_are_refused() {
    let error = serde_json::from_str::<Draft>(r#"{"decision": "x", "decison": 1}"#).unwrap_err();
    assert!(error.to_string().contains("unknown field `decison`"), "{error}");
    let nested = r#"{"decision": "x", "test_results": {"passed": 1, "failed": 0, "odd": 1}}"#;
    assert!(serde_json::from_str::<Draft>(nested).is_err());
}

#[test]
fn a_filter_asks_for_everything_at_once() {
    let address: DecisionAddress = "ada/architect/shop/storage/here".parse().unwrap();
    let version = Version {
        at: Hlc { ms: 1_000, counter: 0 },
        writer: MemberId(1),
        content: ContentHash([1; 32]),
        request: RequestId([1; 16]),
        kind: DecisionKind::Code,
        body: BodyHash([1; 32]),
    };
    let matches = |change: fn(&mut Filter)| {
        let mut filter = Filter::all();
        change(&mut filter);
        filter.matches(&address, &version)
    };
    assert!(matches(|_| {}));
    assert!(matches(|f| f.pattern = "*/architect/**".parse().unwrap()));
    assert!(!matches(|f| f.pattern = "bob/**".parse().unwrap()));
    assert!(matches(|f| f.kind = Some(DecisionKind::Code)));
    assert!(!matches(|f| f.kind = Some(DecisionKind::Test)));
    assert!(matches(|f| f.author = Some("ada".into())));
    assert!(!matches(|f| f.author = Some("ad".into())));
    assert!(matches(|f| f.since = Some(Wall(1_000))));
    assert!(!matches(|f| f.since = Some(Wall(1_001))));
    assert!(matches(|f| f.until = Some(Wall(1_001))));
    assert!(!matches(|f| f.until = Some(Wall(1_000))));
}

#[test]
fn a_cursor_is_good_for_one_query_of_one_cluster() {
    let cluster = ClusterId([1; 16]);
    let filter = Filter::all();
    let cursor = Cursor("a/b/c/d/e".parse().unwrap());
    let text = cursor.encode(cluster, &filter);
    assert_eq!(Cursor::decode(&text, cluster, &filter), Ok(cursor));
    assert_eq!(Cursor::decode(&text, ClusterId([2; 16]), &filter), Err(CursorError));
    let other = Filter { pattern: "a/**".parse::<Pattern>().unwrap(), ..Filter::all() };
    assert_eq!(Cursor::decode(&text, cluster, &other), Err(CursorError));
}
