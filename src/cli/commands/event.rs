//! `bzzz event`: tells all nodes of something, and prints what happens in the cluster, as it happens.
//!
//! The stream is server-sent events. When it breaks off, the command connects again and goes on
//! behind the last number that the node named, with an event or without one, so it loses no event
//! that the node still has, however few of them it wants.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::Session;
use crate::cli::args::EventCommand;
use crate::cli::client::encode;
use crate::cli::error::{CliError, Exit};
use crate::cli::table::printable;
use crate::core::event::{Event, EventBody};
use crate::http::routes::events::{EventPublish, EventPublished};
use crate::types::limits::HTTP_BODY_MAX;
use crate::types::ucxl::Pattern;

/// Longest line of a stream; longer ones are not from a bzzz.
const LINE_LEN_MAX: u64 = 1024 * 1024;
/// Pause before connecting again, so that a node that is gone is not asked all the time.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// Runs a command about events.
pub fn event(session: &Session<'_>, command: EventCommand) -> Result<(), CliError> {
    let (topics, name, since) = match command {
        EventCommand::Publish { name, data } => return publish(session, name, &data),
        EventCommand::Watch { topics, name, since } => (topics, name, since),
    };
    if let Some(unknown) = topics.iter().find(|topic| !EventBody::TOPICS.contains(&topic.as_str()))
    {
        return Err(CliError::usage(format!("there is no topic {unknown:?}"))
            .hint(format!("use one of {}", EventBody::TOPICS.join(", "))));
    }
    let Some(name) = name else { return watch(session, &topics, since, &|_| true) };
    if topics.iter().any(|topic| topic != "application") {
        return Err(CliError::usage("only events of the topic application have a name"));
    }
    let matches = |message: &Message| {
        let event = serde_json::from_str::<Event>(&message.data);
        matches!(event, Ok(Event { body: EventBody::Application { name: found, .. }, .. })
            if is_named(&found, &name))
    };
    watch(session, &["application".to_owned()], since, &matches)
}

fn is_named(found: &str, wanted: &str) -> bool {
    wanted.strip_suffix('*').map_or(found == wanted, |start| found.starts_with(start))
}

fn publish(session: &Session<'_>, name: String, data: &str) -> Result<(), CliError> {
    let (text, from) = match data.strip_prefix('@') {
        Some(file) => read_text(Some(Path::new(file)))?,
        None if data == "-" => read_text(None)?,
        None => (data.to_owned(), "the data".to_owned()),
    };
    let data = serde_json::from_str(&text).map_err(|error| {
        CliError::usage(format!("{from} is no JSON: {error}"))
            .hint("a text needs quotes of its own: '\"done\"'")
    })?;
    let answer = session.client()?.post("/api/v1/events", &EventPublish { name, data })?;
    session.out.answer(&answer, |published: &EventPublished| {
        if published.at_risk {
            session.out.warn(
                "no other node has confirmed the event yet; it gets there once one can be reached, \
                 unless this node stops before",
            );
        }
        let EventPublished { id, held_by, .. } = published;
        format!(
            "Event    {id}\nHeld by  {held_by} {}\n",
            if *held_by == 1 { "node" } else { "nodes" }
        )
    })
}

fn read_text(file: Option<&Path>) -> Result<(String, String), CliError> {
    let (bytes, name) = super::read_file(file, HTTP_BODY_MAX as usize)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| CliError::usage(format!("{name} is no text: it is not valid UTF-8")))?;
    Ok((text, name))
}

/// Prints decisions that match, as they are published.
pub fn watch_decisions(
    session: &Session<'_>,
    pattern: Option<&Pattern>,
    since: Option<u64>,
) -> Result<(), CliError> {
    let matches = |message: &Message| {
        let Some(pattern) = pattern else { return true };
        match serde_json::from_str::<Event>(&message.data).map(|event| event.body) {
            Ok(EventBody::Published { address, .. }) => pattern.matches(&address),
            // An event of a newer node.
            _ => true,
        }
    };
    watch(session, &["decision".to_owned()], since, &matches)
}

fn watch(
    session: &Session<'_>,
    topics: &[String],
    mut since: Option<u64>,
    matches: &dyn Fn(&Message) -> bool,
) -> Result<(), CliError> {
    let client = session.client()?;
    let mut connected = false;
    loop {
        match client.stream(&path(topics, since)) {
            Ok(stream) => {
                connected = true;
                follow(session, stream, topics, &mut since, matches)?;
                session.out.say("the stream ended, connecting again");
                if since.is_none() {
                    session
                        .out
                        .warn("events until then are missed: the node named no number before");
                }
            }
            // Before the first success the address is wrong rather than the node restarting.
            Err(error) if !connected || error.exit != Exit::Unreachable => return Err(error),
            Err(_) => {}
        }
        thread::sleep(RECONNECT_PAUSE);
    }
}

fn path(topics: &[String], since: Option<u64>) -> String {
    let mut query = Vec::new();
    query.extend(since.map(|seq| format!("since={seq}")));
    if !topics.is_empty() {
        let topics: Vec<String> = topics.iter().map(|topic| encode(topic)).collect();
        query.push(format!("topic={}", topics.join(",")));
    }
    format!("/api/v1/events?{}", query.join("&"))
}

/// Prints a stream until it ends.
fn follow(
    session: &Session<'_>,
    stream: impl Read,
    topics: &[String],
    since: &mut Option<u64>,
    matches: &dyn Fn(&Message) -> bool,
) -> Result<(), CliError> {
    let mut reader = BufReader::new(stream);
    let mut parser = Parser::default();
    let mut line = String::new();
    loop {
        line.clear();
        match (&mut reader).take(LINE_LEN_MAX).read_line(&mut line) {
            // A stream that breaks is one that ended.
            Ok(0) | Err(_) => return Ok(()),
            Ok(_) => {}
        }
        let Some(message) = parser.line(line.trim_end_matches(['\n', '\r'])) else { continue };
        if let Some(seq) = message.id.as_ref().and_then(|id| id.parse().ok()) {
            *since = Some(seq);
        }
        if message.kind == "resync" {
            session.out.warn("some events were missed, the node does not keep them any longer");
            continue;
        }
        if message.data.is_empty() {
            continue;
        }
        let topic = message.kind.split('.').next().unwrap_or_default();
        let wanted = topics.is_empty() || topics.iter().any(|wanted| wanted == topic);
        if wanted && matches(&message) {
            print(session, &message)?;
        }
    }
}

fn print(session: &Session<'_>, message: &Message) -> Result<(), CliError> {
    if session.out.is_json() {
        return session.out.text(&format!("{}\n", message.data));
    }
    let text = match serde_json::from_str::<Event>(&message.data) {
        Ok(event) => render(&event),
        // An event of a newer node, shown as it came.
        Err(_) => format!("{}  {}", printable(&message.kind), printable(&message.data)),
    };
    session.out.text(&format!("{text}\n"))
}

fn render(event: &Event) -> String {
    let node = event.node.map_or_else(|| "-".to_owned(), |member| member.to_string());
    let body = serde_json::to_value(&event.body).unwrap_or_default();
    let kind = body["type"].as_str().unwrap_or_default().to_owned();
    let fields: Vec<String> = match &body["data"] {
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| format!("{name}={}", short(value))).collect()
        }
        _ => Vec::new(),
    };
    printable(&format!("{}  node {node}  {kind:18}  {}", event.at, fields.join(" ")))
        .trim_end()
        .to_owned()
}

fn short(value: &Value) -> String {
    match value {
        Value::String(text) if !text.contains(' ') => text.clone(),
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    }
}

/// One message of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    id: Option<String>,
    kind: String,
    data: String,
}

/// Puts lines together to messages, by the rules of server-sent events.
#[derive(Default)]
struct Parser {
    message: Message,
}

impl Parser {
    /// Takes a line; an empty one ends a message. One with a number and no data is no event; it
    /// says how far the stream has come.
    fn line(&mut self, line: &str) -> Option<Message> {
        if line.is_empty() {
            let message = std::mem::take(&mut self.message);
            let says_something = !message.data.is_empty() || message.kind == "resync";
            return (says_something || message.id.is_some()).then_some(message);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.message.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.message.kind),
            "data" => {
                if !self.message.data.is_empty() {
                    self.message.data.push('\n');
                }
                self.message.data.push_str(value);
            }
            // Comments are heartbeats; other fields are of no concern.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::args::Cli;
    use crate::cli::output::{Format, Output};
    use crate::core::event::EventBody;
    use crate::types::{MemberId, Wall};

    #[test]
    fn messages_are_put_together_from_lines() {
        let mut parser = Parser::default();
        let text = ": beat\n\nid: 7\nevent: peer.up\ndata: {\ndata:}\n\nevent: resync\n\n";
        let messages: Vec<Message> = text.lines().filter_map(|line| parser.line(line)).collect();
        let first = Message { id: Some("7".into()), kind: "peer.up".into(), data: "{\n}".into() };
        assert_eq!(messages[0], first);
        assert_eq!(messages[1].kind, "resync");
        assert_eq!(messages.len(), 2);
    }

    #[test]
    fn a_stream_is_resumed_behind_the_last_number_that_was_named() {
        let global = Cli::try_parse_from(["bzzz", "--quiet", "status"]).unwrap().global;
        let out = Output { format: Format::Table, quiet: true, no_color: true };
        let session = Session { global: &global, out };
        let resumed = |text: &str, mut since: Option<u64>| {
            follow(&session, text.as_bytes(), &[], &mut since, &|_| false).unwrap();
            since
        };
        assert_eq!(resumed(":so far\nid:7\n\n", None), Some(7), "before the first event");
        let event = "event:peer.up\ndata:{}\nid:8\n\n";
        assert_eq!(resumed(&format!(":so far\nid:7\n\n{event}"), Some(2)), Some(8));
        assert_eq!(resumed(&format!("{event}:so far\nid:9\n\n"), None), Some(9));
        assert_eq!(resumed("event:resync\ndata:{\"schema\":1}\n\n", Some(2)), Some(2));
        assert_eq!(resumed(":so far\nid:70", Some(2)), Some(2), "it broke off within a line");
        assert_eq!(resumed(":\n\n", None), None);
    }

    #[test]
    fn events_are_one_line_each() {
        let body = EventBody::Leader { term: 3, leader: Some(MemberId(2)) };
        let event = Event { seq: 1, at: Wall(0), node: Some(MemberId(1)), body };
        let expected = "1970-01-01T00:00:00.000Z  node 1  election.leader     leader=2 term=3";
        assert_eq!(render(&event), expected);
    }

    #[test]
    fn topics_are_filtered_by_the_node() {
        assert_eq!(path(&["peer".into()], Some(4)), "/api/v1/events?since=4&topic=peer");
        let both = path(&["peer".into(), "a head".into()], None);
        assert_eq!(both, "/api/v1/events?topic=peer,a%20head");
        assert_eq!(path(&[], None), "/api/v1/events?");
    }
}
