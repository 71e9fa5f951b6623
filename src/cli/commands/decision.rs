//! `bzzz decision` and `bzzz role`: publishing decisions, reading them and looking for them.

use std::path::Path;

use serde_json::Value;

use super::Session;
use super::event;
use crate::cli::args::{
    DecisionCommand, DraftFormat, PageArgs, PublishArgs, QueryArgs, RoleCommand,
};
use crate::cli::client::{Client, encode};
use crate::cli::error::{CliError, Exit};
use crate::cli::output::Format;
use crate::cli::table::{printable, printable_line, table, utc};
use crate::core::decision::Draft;
use crate::http::api::IDEMPOTENCY_HEADER;
use crate::http::routes::decisions::{
    DecisionHistory, DecisionInfo, DecisionPage, DecisionPublished, DecisionRead, RolePage,
};
use crate::types::ContentHash;
use crate::types::limits::{DRAFT_LEN_MAX, PAGE_ROWS_MAX};
use crate::types::record::DecisionKind;
use crate::types::ucxl::{DecisionAddress, Pattern, Temporal, Ucxl, UcxlError};

/// Where the API has decisions.
const DECISIONS: &str = "/api/v1/decisions";

/// Runs a command about decisions.
pub fn decision(session: &Session<'_>, command: DecisionCommand) -> Result<(), CliError> {
    match command {
        DecisionCommand::Publish(args) => publish(session, args),
        DecisionCommand::Get { what, role } => get(session, &what, role.as_deref()),
        DecisionCommand::Query(args) => query(session, &args),
        DecisionCommand::List { pattern, page } => {
            let args =
                QueryArgs { pattern, author: None, kind: None, since: None, until: None, page };
            query(session, &args)
        }
        DecisionCommand::Watch { pattern, since } => {
            let pattern = pattern.map(|text| self::pattern(&text)).transpose()?;
            event::watch_decisions(session, pattern.as_ref(), since)
        }
    }
}

/// Runs a command about roles.
pub fn role(session: &Session<'_>, RoleCommand::List: RoleCommand) -> Result<(), CliError> {
    let answer = session.client()?.get("/api/v1/roles")?;
    session.out.answer(&answer, |page: &RolePage| {
        let rows: Vec<_> = page
            .items
            .iter()
            .map(|role| [role.name.clone(), role.authority.clone(), role.recipient.clone()])
            .collect();
        table(["ROLE", "AUTHORITY", "RECIPIENT"], &rows)
    })
}

fn not_an_address(error: &UcxlError) -> CliError {
    CliError::usage(error.to_string()).hint("an address reads agent/role/project/task/node")
}

fn pattern(text: &str) -> Result<Pattern, CliError> {
    text.parse().map_err(|error: UcxlError| {
        CliError::usage(error.to_string())
            .hint("a pattern is an address with * for one part, or ** for any number of them")
    })
}

// ---- Publishing ---------------------------------------------------------------------------------

/// How a file is read if nobody says: by its name, else by how it begins.
fn format_of(file: Option<&Path>, text: &str) -> DraftFormat {
    let ending = file.and_then(Path::extension).and_then(|ending| ending.to_str());
    match ending {
        Some("json") => DraftFormat::Json,
        Some("md" | "markdown" | "txt") => DraftFormat::Markdown,
        _ if text.trim_start().starts_with('{') => DraftFormat::Json,
        _ => DraftFormat::Markdown,
    }
}

/// What the file and the arguments say together; the arguments count more.
fn draft_of(args: &PublishArgs, bytes: Vec<u8>, name: &str) -> Result<Draft, CliError> {
    let text = String::from_utf8(bytes)
        .map_err(|_| CliError::usage(format!("{name} is no text: it is not valid UTF-8")))?;
    let format = args.format.unwrap_or_else(|| format_of(args.file.as_deref(), &text));
    let mut draft = match format {
        DraftFormat::Markdown => Draft { decision: text, ..Draft::default() },
        DraftFormat::Json => serde_json::from_str::<Draft>(&text).map_err(|error| {
            CliError::usage(format!("{name} is no decision: {error}")).hint(
                "write an object with a field decision, or use --format markdown for plain text",
            )
        })?,
    };
    let kind = DecisionKind::from(args.kind);
    if draft.kind.is_some_and(|stated| stated != kind) {
        let stated = draft.kind.unwrap_or(kind).name();
        return Err(CliError::usage(format!(
            "{name} says that it is of type {stated}, and the command says {}",
            kind.name()
        )));
    }
    draft.kind = Some(kind);
    let address: DecisionAddress = args.address.parse().map_err(|e| not_an_address(&e))?;
    draft.address = Some(address.to_string());
    draft.task = args.task.clone().or(draft.task);
    draft.success = args.success.or(draft.success);
    draft.supersedes = args.supersedes.clone().or(draft.supersedes);
    draft.tags.extend(args.tags.iter().cloned());
    draft.parents.extend(args.parents.iter().cloned());
    draft.readers.extend(args.readers.iter().cloned());
    Ok(draft)
}

fn publish(session: &Session<'_>, args: PublishArgs) -> Result<(), CliError> {
    let (bytes, name) = super::read_file(args.file.as_deref(), DRAFT_LEN_MAX)?;
    let draft = draft_of(&args, bytes, &name)?;
    let body = serde_json::to_vec(&draft)
        .map_err(|error| CliError::failure(format!("the decision has no JSON: {error}")))?;
    let mut headers = vec![("content-type", "application/json")];
    if let Some(key) = &args.idempotency_key {
        super::ucxl::check_idempotency_key(key)?;
        headers.push((IDEMPOTENCY_HEADER, key));
    }
    if body.len() > DRAFT_LEN_MAX {
        return Err(CliError::usage(format!("{name} has {} bytes as JSON", body.len()))
            .hint("a decision may have 1 MiB; keep large files elsewhere and name them in it"));
    }
    let answer = session.client()?.send("POST", DECISIONS, &headers, Some(&body))?;
    session.out.answer(&answer, |published: &DecisionPublished| {
        format!(
            "Address  {}\nContent  {}\nVersion  {}\nReaders  {}\n",
            published.version.address,
            published.version.content,
            published.version.version,
            published.roles.join(" ")
        )
    })
}

// ---- Reading ------------------------------------------------------------------------------------

/// The path of the API for a decision, or none for something else.
pub fn path_of(address: &DecisionAddress, temporal: Option<Temporal>) -> String {
    match temporal {
        None | Some(Temporal::Latest) => format!("{DECISIONS}/{address}"),
        Some(temporal) => format!("{DECISIONS}/{address}/{}", encode(&temporal.to_string())),
    }
}

fn get(session: &Session<'_>, what: &str, role: Option<&str>) -> Result<(), CliError> {
    let path = match what.parse::<ContentHash>() {
        Ok(hash) => format!("{DECISIONS}/{hash}"),
        Err(_) => match what.parse().map_err(|error| not_an_address(&error))? {
            Ucxl::Decision(address, temporal) => path_of(&address, temporal),
            Ucxl::Content(hash) => format!("{DECISIONS}/{hash}"),
            Ucxl::Pattern(..) => {
                return Err(CliError::usage(format!("{what:?} may be more than one decision"))
                    .hint("`bzzz decision list PATTERN` shows which"));
            }
            Ucxl::Config(_) => {
                return Err(CliError::usage(format!("{what:?} is a configuration value"))
                    .hint(format!("use `bzzz ucxl get {what}`")));
            }
        },
    };
    show(session, &path, role)
}

/// Reads a decision and prints it.
pub fn show(session: &Session<'_>, path: &str, role: Option<&str>) -> Result<(), CliError> {
    let role = role.map(|role| format!("?role={}", encode(role))).unwrap_or_default();
    let answer = session.client()?.get(&format!("{path}{role}"))?;
    if session.out.format == Format::Table {
        let read: DecisionRead = answer.parse()?;
        if read.stale {
            session.out.say("warning: a later version may be missing, the node cannot check it");
        }
    }
    session.out.answer(&answer, render)
}

/// A value of a decision as one line.
fn line_of(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text),
        Value::Array(items) => items.iter().map(line_of).collect::<Vec<_>>().join(", "),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                format!("{} {}", printable(name), line_of(value))
            };
            fields.iter().map(field).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

fn render(read: &DecisionRead) -> String {
    let mut rows = vec![("address".to_owned(), read.address.clone())];
    if let Some(version) = &read.version {
        rows.push(("version".into(), format!("{}, by member {}", version.version, version.writer)));
    }
    rows.push(("content".into(), read.content_address.clone()));
    rows.push(("signed by".into(), read.signer.clone()));
    rows.push(("readers".into(), printable(&read.roles.join(" "))));
    let body = serde_json::to_value(&read.body).unwrap_or_default();
    for (name, value) in body.as_object().into_iter().flatten() {
        if name != "decision" {
            rows.push((name.replace('_', " "), line_of(value)));
        }
    }
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = rows.iter().map(|(name, value)| {
        let mut name = name.clone();
        name[..1].make_ascii_uppercase();
        format!("{name:<width$}  {value}\n")
    });
    // Line breaks and tabs are part of a decision; whatever else a terminal might act on is not.
    let text: Vec<String> = read.body.decision.lines().map(printable_line).collect();
    format!("{}\n{}\n", lines.collect::<String>(), text.join("\n").trim_end())
}

// ---- Looking for --------------------------------------------------------------------------------

fn query_path(args: &QueryArgs, cursor: Option<&str>) -> Result<String, CliError> {
    let limit = args.page.limit.unwrap_or(PAGE_ROWS_MAX);
    let mut path = format!("{DECISIONS}?limit={limit}");
    let pattern = args.pattern.as_deref().map(pattern).transpose()?.map(|p| p.to_string());
    let kind = args.kind.map(|kind| DecisionKind::from(kind).name().to_owned());
    let given = [
        ("pattern", pattern),
        ("author", args.author.clone()),
        ("type", kind),
        ("since", args.since.clone()),
        ("until", args.until.clone()),
        ("cursor", cursor.map(str::to_owned)),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", encode(&value)));
        }
    }
    Ok(path)
}

fn query(session: &Session<'_>, args: &QueryArgs) -> Result<(), CliError> {
    let PageArgs { limit, cursor } = &args.page;
    if limit.is_some_and(|limit| !(1..=PAGE_ROWS_MAX).contains(&limit)) {
        return Err(CliError::usage(format!("--limit takes 1 to {PAGE_ROWS_MAX}")));
    }
    let first = query_path(args, cursor.as_deref())?;
    let client = session.client()?;
    if session.out.format == Format::Json {
        let answer = client.get(&first)?;
        return session.out.answer(&answer, |_: &DecisionPage| String::new());
    }
    let (items, next, stale) = pages(&client, args, first)?;
    if stale {
        session.out.say("warning: the newest may be missing, the node cannot check it");
    }
    if let Some(next) = next {
        session.out.say(&format!("there may be more, go on with --cursor {next}"));
    }
    if session.out.format == Format::Ndjson {
        return items.iter().try_for_each(|item| session.out.line(item));
    }
    session.out.text(&render_rows(&items))
}

/// One page where a limit is given, else all of them.
fn pages(
    client: &Client,
    args: &QueryArgs,
    mut path: String,
) -> Result<(Vec<DecisionInfo>, Option<String>, bool), CliError> {
    let (mut items, mut stale) = (Vec::new(), false);
    let mut before = None;
    loop {
        let page: DecisionPage = client.read(&path)?;
        items.extend(page.items);
        stale |= page.stale;
        let Some(next) = page.next_cursor else { return Ok((items, None, stale)) };
        if args.page.limit.is_some() {
            return Ok((items, Some(next), stale));
        }
        // A cursor that does not move would keep us here for ever.
        if before.as_ref() == Some(&next) {
            return Err(CliError::new(Exit::Failure, "the node repeats a page of its list"));
        }
        path = query_path(args, Some(&next))?;
        before = Some(next);
    }
}

fn render_rows(items: &[DecisionInfo]) -> String {
    let row = |item: &DecisionInfo| {
        [
            item.address.clone(),
            item.kind.name().to_owned(),
            utc(&item.published_at),
            item.writer.clone(),
            item.content.chars().take(16).collect(),
        ]
    };
    let rows: Vec<_> = items.iter().map(row).collect();
    table(["ADDRESS", "TYPE", "PUBLISHED", "MEMBER", "CONTENT"], &rows)
}

/// Lists the decisions that match a pattern.
pub fn list(session: &Session<'_>, pattern: String, page: PageArgs) -> Result<(), CliError> {
    decision(session, DecisionCommand::List { pattern: Some(pattern), page })
}

/// Prints all versions of a decision.
pub fn history(session: &Session<'_>, address: &DecisionAddress) -> Result<(), CliError> {
    let answer = session.client()?.get(&format!("{DECISIONS}/{address}/history"))?;
    session.out.answer(&answer, |history: &DecisionHistory| {
        let newest = history.items.len().saturating_sub(1);
        let row = |(number, item): (usize, &DecisionInfo)| {
            [
                format!("~~{}", newest - number),
                item.version.clone(),
                item.kind.name().to_owned(),
                item.writer.clone(),
                item.content.chars().take(16).collect(),
            ]
        };
        let rows: Vec<_> = history.items.iter().enumerate().map(row).collect();
        table(["BACK", "VERSION", "TYPE", "MEMBER", "CONTENT"], &rows)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::decision::DecisionType;

    fn args() -> PublishArgs {
        PublishArgs {
            kind: DecisionType::Code,
            address: "ada/architect/shop/storage/here".into(),
            file: None,
            format: None,
            task: None,
            success: None,
            tags: vec!["two".into()],
            parents: Vec::new(),
            supersedes: None,
            readers: Vec::new(),
            idempotency_key: None,
        }
    }

    #[test]
    fn a_file_is_read_as_what_it_looks_like() {
        let json = Some(Path::new("a.json"));
        assert_eq!(format_of(json, "text"), DraftFormat::Json);
        assert_eq!(format_of(Some(Path::new("a.md")), "{"), DraftFormat::Markdown);
        assert_eq!(format_of(None, "\n {\"decision\":"), DraftFormat::Json);
        assert_eq!(format_of(None, "We use B-trees."), DraftFormat::Markdown);
    }

    #[test]
    fn arguments_and_file_are_put_together() {
        let file = br#"{"decision": "x", "tags": ["one"], "files_modified": ["a.rs"]}"#;
        let draft = draft_of(&args(), file.to_vec(), "f").unwrap();
        assert_eq!(draft.tags, ["one", "two"]);
        assert_eq!(draft.kind, Some(DecisionKind::Code));
        assert_eq!(draft.address.as_deref(), Some("ada/architect/shop/storage/here"));
        let text = draft_of(&args(), b"We use B-trees.".to_vec(), "f").unwrap();
        assert_eq!(text.decision, "We use B-trees.");
        for (bad, says) in [
            (b"{\"decison\": 1}".to_vec(), "unknown field `decison`"),
            (vec![0xff, 0xfe], "not valid UTF-8"),
            (br#"{"decision": "x", "type": "test"}"#.to_vec(), "of type test"),
        ] {
            let error = draft_of(&args(), bad, "f").unwrap_err();
            assert_eq!(error.exit, Exit::Usage);
            assert!(error.message.contains(says), "{}", error.message);
        }
    }

    #[test]
    fn a_decision_is_shown_with_its_lines_and_tabs() {
        let read: DecisionRead = serde_json::from_value(serde_json::json!({
            "schema": 1,
            "address": "ada/architect/shop/storage/here",
            "at": "2026-11-26T10:00:00.000Z",
            "signer": "12D3",
            "content": "00",
            "content_address": "/bzzz/ucxl/00",
            "roles": ["admin"],
            "version": null,
            "stale": false,
            "type": "architecture",
            "task": "a\ttask",
            "decision": "all:\n\tmake\x1b[2J\r\n\n",
        }))
        .unwrap();
        let shown = render(&read);
        assert!(shown.ends_with("\n\nall:\n\tmake?[2J\n"), "{shown:?}");
        assert!(shown.contains("a?task"), "a value in a row is one line without tabs: {shown:?}");
    }

    #[test]
    fn versions_have_paths_that_urls_can_hold() {
        let address: DecisionAddress = "a/b/c/d/e".parse().unwrap();
        assert_eq!(path_of(&address, None), "/api/v1/decisions/a/b/c/d/e");
        let instant = "2026-11-26T10:00:00+02:00".parse().unwrap();
        let path = path_of(&address, Some(Temporal::At(instant)));
        assert!(path.starts_with("/api/v1/decisions/a/b/c/d/e/2026-11-26T08%3A00%3A00"), "{path}");
    }
}
