//! `bzzz ucxl`: configuration values that the cluster keeps, and what else has an address.
//!
//! Addresses, sizes and preconditions are checked before anything is sent: a mistake in them is
//! one of the command, and the message can say how to write it instead.

use std::fs::File;
use std::io::{self, Read};

use data_encoding::BASE64;

use super::{Session, decision};
use crate::cli::args::{PageArgs, UcxlCommand};
use crate::cli::client::{Client, encode};
use crate::cli::error::{CliError, Exit};
use crate::cli::output::Format;
use crate::cli::table::{table, utc};
use crate::http::api::{AUTHOR_HEADER, IDEMPOTENCY_HEADER};
use crate::http::routes::values::{HeadInfo, UcxlEntry, UcxlPage, UcxlWritten};
use crate::types::limits::{HEAD_VALUE_MAX, NODE_NAME_LEN_MAX, PAGE_ROWS_MAX};
use crate::types::ucxl::{
    CONFIG_CATEGORIES, CONFIG_PREFIX, DecisionAddress, Ucxl, UcxlError, check_config_key,
};

/// Longest key of an idempotent write.
const IDEMPOTENCY_KEY_MAX: usize = 128;

/// Runs a command about configuration values.
pub fn ucxl(session: &Session<'_>, command: UcxlCommand) -> Result<(), CliError> {
    match command {
        UcxlCommand::Get { address, stale } => match address.parse::<Ucxl>() {
            Ok(Ucxl::Decision(..) | Ucxl::Content(_)) if stale => {
                Err(CliError::usage("--stale is for configuration values")
                    .hint("leave it out: a decision that may be old is marked as such"))
            }
            Ok(Ucxl::Decision(address, temporal)) => {
                decision::show(session, &decision::path_of(&address, temporal), None)
            }
            Ok(Ucxl::Content(hash)) => {
                decision::show(session, &format!("/api/v1/decisions/{hash}"), None)
            }
            _ => get(session, &address, stale),
        },
        UcxlCommand::History { address } => {
            let address: DecisionAddress = address.parse().map_err(|error: UcxlError| {
                CliError::usage(error.to_string())
                    .hint("decisions have versions; an address reads agent/role/project/task/node")
            })?;
            decision::history(session, &address)
        }
        UcxlCommand::Put { address, value, if_match, create, idempotency_key } => {
            let expect = expectation(if_match, create)?;
            let key = key(&address)?;
            let value = read_value(value.as_deref())?;
            put(session, &key, &value, &expect, idempotency_key.as_deref())
        }
        UcxlCommand::Parse { text } => parse(session, &text),
        UcxlCommand::Ls { prefix, limit, cursor } => {
            match listing(prefix.as_deref().unwrap_or_default())? {
                Listing::Values(prefix) => list(session, prefix, limit, cursor),
                Listing::Decisions(pattern) => {
                    decision::list(session, pattern.to_owned(), PageArgs { limit, cursor })
                }
            }
        }
    }
}

/// The parts of a name, for people and for programs.
fn parse(session: &Session<'_>, text: &str) -> Result<(), CliError> {
    let parsed: Ucxl = text.parse().map_err(|error: UcxlError| {
        CliError::usage(error.to_string())
            .hint("an address reads agent/role/project/task/node, with * or ** in a pattern")
    })?;
    let mut rows = vec![("canonical", parsed.to_string())];
    match &parsed {
        Ucxl::Decision(address, temporal) => {
            rows.push(("kind", "decision".into()));
            let names = ["agent", "role", "project", "task", "node"];
            let segments = address.segments().map(str::to_owned);
            rows.extend(names.into_iter().zip(segments));
            rows.extend(temporal.map(|temporal| ("version", temporal.to_string())));
        }
        Ucxl::Pattern(pattern, temporal) => {
            rows.push(("kind", "pattern".into()));
            rows.push(("prefix", pattern.prefix()));
            rows.extend(temporal.map(|temporal| ("version", temporal.to_string())));
        }
        Ucxl::Content(hash) => {
            rows.extend([("kind", "content".into()), ("hash", hash.to_string())]);
        }
        Ucxl::Config(key) => {
            rows.extend([("kind", "configuration".into()), ("key", key.clone())]);
        }
    }
    if session.out.is_json() {
        let fields = rows.into_iter().map(|(name, value)| (name.to_owned(), value.into()));
        let mut object: serde_json::Map<String, serde_json::Value> = fields.collect();
        object.insert("schema".into(), 1.into());
        return session.out.line(&object);
    }
    let lines = rows.iter().map(|(name, value)| format!("{name:<10} {value}\n"));
    session.out.text(&lines.collect::<String>())
}

/// The key that an address names, checked.
pub fn key(address: &str) -> Result<String, CliError> {
    let hint = format!("write an address such as {CONFIG_PREFIX}ai_models/llama");
    let Some(key) = address.strip_prefix(CONFIG_PREFIX) else {
        let reason = match address.strip_prefix("ucxl://").map(|rest| rest.split('/').next()) {
            Some(host) => format!(
                "{:?} is not known here, only bzzz.cluster.config is",
                host.unwrap_or_default()
            ),
            None => format!("it does not begin with {CONFIG_PREFIX}"),
        };
        return Err(CliError::usage(format!("{address:?} is not an address: {reason}")).hint(hint));
    };
    match check_config_key(key) {
        Ok(_) => Ok(key.to_owned()),
        Err(reason) => {
            Err(CliError::usage(format!("{address:?} is not an address: {reason}")).hint(hint))
        }
    }
}

/// An error for what the API does not take as an idempotency key.
pub fn check_idempotency_key(key: &str) -> Result<(), CliError> {
    let fits =
        (1..=IDEMPOTENCY_KEY_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
    if fits {
        return Ok(());
    }
    let hint = format!("use 1 to {IDEMPOTENCY_KEY_MAX} visible characters without spaces");
    Err(CliError::usage("this is not an idempotency key").hint(hint))
}

/// What a user wants to see listed.
#[derive(Debug, PartialEq, Eq)]
enum Listing<'a> {
    /// The values whose keys begin with this.
    Values(&'a str),
    /// The decisions that match this.
    Decisions(&'a str),
}

/// Tells the beginning of a key, with or without the address before it, from a pattern over
/// decisions. What is neither would list nothing, as if there were nothing.
fn listing(text: &str) -> Result<Listing<'_>, CliError> {
    let key = text.strip_prefix(CONFIG_PREFIX);
    let prefix = key.unwrap_or(text);
    if begins_keys(prefix) {
        return Ok(Listing::Values(prefix));
    }
    let refuse = |reason: &str| {
        CliError::usage(format!("nothing can be listed by {text:?}: {reason}")).hint(
            "write the beginning of a configuration key, such as ai_models/, or a pattern over \
             decisions, such as ada/ or */architect/**",
        )
    };
    if key.is_some() {
        return Err(refuse(&format!("keys begin with one of {}", CONFIG_CATEGORIES.join(", "))));
    }
    match text.parse::<Ucxl>() {
        Ok(Ucxl::Decision(..) | Ucxl::Pattern(..)) => Ok(Listing::Decisions(text)),
        Ok(Ucxl::Content(_) | Ucxl::Config(_)) => {
            Err(refuse("it names one thing, which `bzzz ucxl get` reads"))
        }
        Err(error) => Err(refuse(&error.reason)),
    }
}

/// True if keys of configuration values can begin with this: the beginning of a category, or a
/// category and something below it.
fn begins_keys(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
    let below =
        |category: &str| text.strip_prefix(category).is_some_and(|rest| rest.starts_with('/'));
    text.bytes().all(fits)
        && CONFIG_CATEGORIES
            .into_iter()
            .any(|category| category.starts_with(text) || below(category))
}

/// The header that says what has to be there for the write to happen.
fn expectation(if_match: Option<u64>, create: bool) -> Result<(&'static str, String), CliError> {
    match (if_match, create) {
        (None, true) | (Some(0), false) => Ok(("if-none-match", "*".to_owned())),
        (Some(version), false) => Ok(("if-match", format!("\"{version}\""))),
        _ => Err(CliError::usage("say what you expect to be there, so that no write is lost")
            .hint(
                "use --create for a new value, or --if-match VERSION with the version that \
             `bzzz ucxl get -o json` shows",
            )),
    }
}

/// The value that an argument stands for: itself, `@FILE`, or `-` for the standard input.
fn read_value(argument: Option<&str>) -> Result<Vec<u8>, CliError> {
    let value = match argument {
        None | Some("-") => read_bounded(&mut io::stdin().lock(), "the standard input")?,
        Some(text) => match text.strip_prefix('@') {
            Some(path) => {
                let mut file = File::open(path)
                    .map_err(|error| CliError::usage(format!("cannot open {path}: {error}")))?;
                read_bounded(&mut file, path)?
            }
            None => text.as_bytes().to_vec(),
        },
    };
    if value.len() > HEAD_VALUE_MAX {
        return Err(CliError::usage(format!("the value is longer than {HEAD_VALUE_MAX} bytes"))
            .hint("store where the data is, and its SHA-256, in place of the data"));
    }
    Ok(value)
}

fn read_bounded(from: &mut impl Read, name: &str) -> Result<Vec<u8>, CliError> {
    let mut value = Vec::new();
    // One byte more than allowed is enough to know that it is too long.
    from.take(HEAD_VALUE_MAX as u64 + 1)
        .read_to_end(&mut value)
        .map_err(|error| CliError::failure(format!("cannot read {name}: {error}")))?;
    Ok(value)
}

fn get(session: &Session<'_>, address: &str, stale: bool) -> Result<(), CliError> {
    let query = if stale { "?stale=true" } else { "" };
    let path = format!("/api/v1/ucxl/{}{query}", key(address)?);
    let answer = session.client()?.get(&path)?;
    if session.out.format != Format::Table {
        return session.out.answer(&answer, |_: &UcxlEntry| String::new());
    }
    let entry: UcxlEntry = answer.parse()?;
    if entry.stale {
        session.out.say("warning: the newest write may be missing, the node cannot check it");
    }
    session.out.bytes(&value_of(&entry.head)?)
}

/// The bytes of a value.
pub fn value_of(head: &HeadInfo) -> Result<Vec<u8>, CliError> {
    BASE64
        .decode(head.value_base64.as_bytes())
        .map_err(|error| CliError::failure(format!("the node sent a damaged value: {error}")))
}

/// True for a user name that the API takes as an author; without one it puts its own.
fn is_author(name: &str) -> bool {
    (1..=NODE_NAME_LEN_MAX).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
}

fn put(
    session: &Session<'_>,
    key: &str,
    value: &[u8],
    (expect, version): &(&str, String),
    idempotency_key: Option<&str>,
) -> Result<(), CliError> {
    let mut headers = vec![("content-type", "application/octet-stream"), (*expect, version)];
    if let Some(key) = idempotency_key {
        check_idempotency_key(key)?;
        headers.push((IDEMPOTENCY_HEADER, key));
    }
    let author = std::env::var("USER").unwrap_or_default();
    if is_author(&author) {
        headers.push((AUTHOR_HEADER, &author));
    }
    let client = session.client()?;
    let answer = client.send("PUT", &format!("/api/v1/ucxl/{key}"), &headers, Some(value));
    let answer = answer.map_err(|error| match &error.problem {
        Some(problem) if problem.code == "VERSION_MISMATCH" && error.hint.is_none() => {
            let hint = match problem.current_version {
                None | Some(0) => "there is no such value; use --create".to_owned(),
                Some(now) => {
                    format!("it stands at version {now}; read it and use --if-match {now}")
                }
            };
            error.hint(hint)
        }
        _ => error,
    })?;
    session.out.answer(&answer, |written: &UcxlWritten| {
        format!("{} stands at version {}\n", written.address, written.version)
    })
}

fn list(
    session: &Session<'_>,
    prefix: &str,
    limit: Option<usize>,
    cursor: Option<String>,
) -> Result<(), CliError> {
    if limit.is_some_and(|limit| !(1..=PAGE_ROWS_MAX).contains(&limit)) {
        return Err(CliError::usage(format!("--limit takes 1 to {PAGE_ROWS_MAX}")));
    }
    let client = session.client()?;
    if session.out.format == Format::Json {
        let answer = client.get(&page_path(prefix, limit, cursor.as_deref()))?;
        return session.out.answer(&answer, |_: &UcxlPage| String::new());
    }
    let (heads, next, stale) = pages(&client, prefix, limit, cursor)?;
    if stale {
        session.out.say("warning: the newest writes may be missing, the node cannot check it");
    }
    if session.out.format == Format::Ndjson {
        return heads.iter().try_for_each(|head| session.out.line(head));
    }
    if let Some(next) = next {
        session.out.say(&format!("there is more, go on with --cursor {next}"));
    }
    session.out.text(&render(&heads))
}

/// One page where a limit is given, else all of them.
fn pages(
    client: &Client,
    prefix: &str,
    limit: Option<usize>,
    mut cursor: Option<String>,
) -> Result<(Vec<HeadInfo>, Option<String>, bool), CliError> {
    let (mut heads, mut stale) = (Vec::new(), false);
    loop {
        let page: UcxlPage = client.read(&page_path(prefix, limit, cursor.as_deref()))?;
        // A cursor that does not move would keep us here for ever.
        let stuck = page.next_cursor.is_some() && page.next_cursor == cursor;
        if stuck {
            return Err(CliError::new(Exit::Failure, "the node repeats a page of its list"));
        }
        heads.extend(page.items);
        stale |= page.stale;
        cursor = page.next_cursor;
        if cursor.is_none() || limit.is_some() {
            return Ok((heads, cursor, stale));
        }
    }
}

fn page_path(prefix: &str, limit: Option<usize>, cursor: Option<&str>) -> String {
    let limit = limit.unwrap_or(PAGE_ROWS_MAX);
    let cursor = cursor.map(|key| format!("&cursor={}", encode(key))).unwrap_or_default();
    format!("/api/v1/ucxl?prefix={}&limit={limit}{cursor}", encode(prefix))
}

fn render(heads: &[HeadInfo]) -> String {
    let row = |head: &HeadInfo| {
        let bytes = BASE64.decode(head.value_base64.as_bytes()).map_or(0, |value| value.len());
        [
            head.address.clone(),
            head.version.to_string(),
            bytes.to_string(),
            utc(&head.at),
            head.author.clone(),
        ]
    };
    let rows: Vec<_> = heads.iter().map(row).collect();
    table(["ADDRESS", "VERSION", "BYTES", "WRITTEN", "AUTHOR"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_they_are_sent() {
        let good = "ucxl://bzzz.cluster.config/ai_models/llama";
        assert_eq!(key(good).unwrap(), "ai_models/llama");
        for (bad, reason) in [
            ("ai_models/llama", "does not begin with ucxl://bzzz.cluster.config/"),
            ("ucxl://other/ai_models", "\"other\" is not known here"),
            ("ucxl://bzzz.cluster.config/models", "network_topology, resource_allocation"),
            ("ucxl://bzzz.cluster.config/ai_models/a b", "letters, digits"),
        ] {
            let error = key(bad).unwrap_err();
            assert_eq!(error.exit, Exit::Usage);
            assert!(error.message.contains(reason), "{}", error.message);
            assert!(error.hint.unwrap().contains(CONFIG_PREFIX));
        }
    }

    #[test]
    fn a_listing_is_of_values_or_of_decisions_and_never_of_nothing() {
        for (text, prefix) in [
            ("", ""),
            ("ai", "ai"),
            ("ai_models", "ai_models"),
            ("ai_models/", "ai_models/"),
            ("monitoring/full/1", "monitoring/full/1"),
            ("ucxl://bzzz.cluster.config/", ""),
            ("ucxl://bzzz.cluster.config/ai_models/", "ai_models/"),
        ] {
            assert_eq!(listing(text).unwrap(), Listing::Values(prefix), "{text}");
        }
        for text in [
            "ada/",
            "ai/",
            "ai_models2/",
            "ada/**",
            "*/architect/**",
            "ada/architect/shop/storage/node-1",
            "ucxl://ada:architect@shop:storage/node-1",
            "ucxl://monitoring/",
            "monitoring/**",
        ] {
            assert_eq!(listing(text).unwrap(), Listing::Decisions(text), "{text}");
        }
        let hash = format!("/bzzz/ucxl/{}", "0".repeat(64));
        for (text, reason) in [
            ("ada", "it has 1 segments"),
            ("ada/architect", "it has 2 segments"),
            ("a b", "may hold"),
            (&hash, "it names one thing"),
            ("ucxl://bzzz.cluster.config/models", "cost_management"),
            ("ucxl://bzzz.cluster.config/ada/**", "cost_management"),
        ] {
            let error = listing(text).unwrap_err();
            assert_eq!(error.exit, Exit::Usage);
            assert!(error.message.contains(reason), "{}", error.message);
            let hint = error.hint.unwrap();
            assert!(hint.contains("ai_models/") && hint.contains("*/architect/**"), "{hint}");
        }
    }

    #[test]
    fn a_write_says_what_it_expects() {
        let absent = ("if-none-match", "*".to_owned());
        assert_eq!(expectation(None, true).unwrap(), absent);
        assert_eq!(expectation(Some(0), false).unwrap(), absent);
        assert_eq!(expectation(Some(7), false).unwrap(), ("if-match", "\"7\"".to_owned()));
        assert!(expectation(None, false).unwrap_err().hint.unwrap().contains("--create"));
    }

    #[test]
    fn values_are_bounded_wherever_they_come_from() {
        assert_eq!(read_value(Some("text")).unwrap(), b"text");
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, length: usize| {
            let path = directory.path().join(name);
            std::fs::write(&path, vec![b'x'; length]).unwrap();
            format!("@{}", path.display())
        };
        let fits = read_value(Some(&file("fits", HEAD_VALUE_MAX))).unwrap();
        assert_eq!(fits.len(), HEAD_VALUE_MAX);
        let error = read_value(Some(&file("long", HEAD_VALUE_MAX + 1))).unwrap_err();
        assert_eq!(error.exit, Exit::Usage);
        assert!(error.message.contains("4096"));
        assert!(read_value(Some("@/nonexistent")).is_err());
    }

    #[test]
    fn values_are_listed_with_their_size() {
        let head = HeadInfo {
            address: "ucxl://bzzz.cluster.config/ai_models/llama".into(),
            key: "ai_models/llama".into(),
            version: 3,
            value: Some("abcd".into()),
            value_base64: "YWJjZA==".into(),
            author: "me".into(),
            at: "2025-08-10T16:22:20.000Z".into(),
            term: 2,
            log_index: 40,
        };
        assert_eq!(value_of(&head).unwrap(), b"abcd");
        let expected = "\
ADDRESS                                     VERSION  BYTES  WRITTEN                  AUTHOR
ucxl://bzzz.cluster.config/ai_models/llama  3        4      2025-08-10 16:22:20 UTC  me
";
        assert_eq!(render(&[head]), expected);
    }

    #[test]
    fn pages_are_asked_for_with_their_cursor() {
        assert_eq!(page_path("ai_models/", None, None), "/api/v1/ucxl?prefix=ai_models/&limit=500");
        let path = page_path("", Some(2), Some("ai_models/a&b"));
        assert_eq!(path, "/api/v1/ucxl?prefix=&limit=2&cursor=ai_models/a%26b");
    }
}
