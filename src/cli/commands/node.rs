//! `bzzz node`: the members of the cluster.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Session, member};
use crate::cli::args::NodeCommand;
use crate::cli::client::{Answer, Client, encode};
use crate::cli::error::CliError;
use crate::cli::table::{duration, milliseconds, pairs, table, utc};
use crate::http::api::{Done, Problem};
use crate::http::routes::nodes::{LabelChange, Node, NodeInfo, Nodes};
use crate::types::host::Capabilities;

/// How long a removal waits for what the one before it has left to do.
const MOVING_MAX: Duration = Duration::from_secs(60);

/// Runs a command about members.
pub fn node(session: &Session<'_>, command: NodeCommand) -> Result<(), CliError> {
    match command {
        // Taken before, as it is the daemon.
        NodeCommand::Run(_) => Ok(()),
        NodeCommand::List { labels } => {
            let answer = session.client()?.get(&list_path(&labels)?)?;
            session.out.list(&answer, |nodes: &Nodes| &nodes.items, |nodes| list(&nodes.items))
        }
        NodeCommand::Capabilities { node: Some(node), .. } => {
            let client = session.client()?;
            let answer = client.get(&path(&member(&client, &node)?))?;
            session.out.answer(&answer, |node: &Node| show(&node.node))
        }
        NodeCommand::Capabilities { node: None, rtt } => {
            let answer = session.client()?.get("/api/v1/nodes")?;
            let render = if rtt { distances } else { capabilities };
            session.out.list(&answer, |nodes: &Nodes| &nodes.items, |nodes| render(&nodes.items))
        }
        NodeCommand::Show { node } => {
            let client = session.client()?;
            let answer = client.get(&path(&member(&client, &node)?))?;
            session.out.answer(&answer, |node: &Node| show(&node.node))
        }
        NodeCommand::Remove { node, lost } => {
            let client = session.client()?;
            let member = member(&client, &node)?;
            let what = if lost { ", and the records that too few others have," } else { "" };
            session.confirm(&format!("removing member {member}{what} for good"))?;
            let answer = remove(&client, &member, lost)?;
            session.out.answer(&answer, |_: &Done| format!("member {member} is removed\n"))
        }
        NodeCommand::Label { node, changes } => {
            let change = labels(&changes)?;
            let client = session.client()?;
            let member = member(&client, &node)?;
            let answer = client.put(&format!("{}/labels", path(&member)), &change)?;
            session.out.answer(&answer, |_: &Done| format!("member {member} is labelled\n"))
        }
    }
}

/// Removes a member. While the voters still change after the last removal, or the records of the one that went
/// are being copied, it waits.
fn remove(client: &Client, member: &str, lost: bool) -> Result<Answer, CliError> {
    let path = if lost { format!("{}?lost=true", path(member)) } else { path(member) };
    let until = Instant::now() + MOVING_MAX;
    loop {
        let error = match client.delete(&path) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let moving = |problem: &Problem| {
            problem.retryable && ["VOTERS_CHANGING", "RECORDS_AT_RISK"].contains(&&*problem.code)
        };
        if !error.problem.as_deref().is_some_and(moving) || Instant::now() >= until {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn path(member: &str) -> String {
    format!("/api/v1/nodes/{member}")
}

fn list_path(labels: &[String]) -> Result<String, CliError> {
    let wrong = |label: &&String| {
        label.contains(',') || label.split_once('=').is_none_or(|(name, _)| name.is_empty())
    };
    if let Some(label) = labels.iter().find(wrong) {
        return Err(CliError::usage(format!("{label:?} is no label"))
            .hint("write NAME=VALUE, such as gpu=nvidia"));
    }
    let query: Vec<String> = labels.iter().map(|label| encode(label)).collect();
    let query =
        if query.is_empty() { String::new() } else { format!("?label={}", query.join(",")) };
    Ok(format!("/api/v1/nodes{query}"))
}

/// Reads changes such as `zone=rack-a` and `zone-`.
fn labels(changes: &[String]) -> Result<LabelChange, CliError> {
    let mut change = LabelChange::default();
    for text in changes {
        if let Some((name, value)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) {
            change.set.insert(name.to_owned(), value.to_owned());
        } else if let Some(name) = text.strip_suffix('-').filter(|name| !name.is_empty()) {
            change.unset.push(name.to_owned());
        } else {
            return Err(CliError::usage(format!("{text:?} is no change of a label"))
                .hint("write zone=rack-a to set a label and zone- to remove it"));
        }
    }
    Ok(change)
}

/// Where a node stands, in one word.
fn part(node: &NodeInfo) -> &'static str {
    match (node.leader, node.voter) {
        (true, _) => "leader",
        (false, true) => "voter",
        (false, false) => "member",
    }
}

fn state(node: &NodeInfo) -> &'static str {
    match (node.is_self, node.answers, node.presumed) {
        (true, _, _) => "this node",
        (false, true, _) => "answers",
        (false, false, true) => "on demand",
        (false, false, false) => "silent",
    }
}

fn list(nodes: &[NodeInfo]) -> String {
    let optional = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let row = |node: &NodeInfo| {
        [
            node.member.clone(),
            node.name.clone(),
            node.role.clone(),
            part(node).to_owned(),
            state(node).to_owned(),
            optional(node.rtt_us.map(milliseconds)),
            optional(node.up_s.map(duration)),
            node.addresses.first().cloned().unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = nodes.iter().map(row).collect();
    table(["MEMBER", "NAME", "ROLE", "PART", "STATE", "RTT", "UP", "ADDRESS"], &rows)
}

fn spelled(labels: &BTreeMap<String, String>) -> Vec<String> {
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// What the machines are.
fn capabilities(nodes: &[NodeInfo]) -> String {
    let row = |node: &NodeInfo| {
        let unknown = || "-".to_owned();
        let machine = node.capabilities.as_ref();
        let tell = |what: fn(&Capabilities) -> String| machine.map_or_else(unknown, what);
        [
            node.member.clone(),
            node.name.clone(),
            tell(gpus),
            tell(|machine| machine.cpu_cores.to_string()),
            tell(|machine| format!("{} GB", machine.memory_gb)),
            tell(|machine| format!("{} GB", machine.storage_gb)),
            tell(backend),
            node.label("pool").map_or_else(unknown, str::to_owned),
        ]
    };
    let rows: Vec<_> = nodes.iter().map(row).collect();
    table(["MEMBER", "NAME", "GPUS", "CPUS", "MEMORY", "STORAGE", "OLLAMA", "POOL"], &rows)
}

/// Round-trip times: from the member of the row to that of the column.
fn distances(nodes: &[NodeInfo]) -> String {
    let ids: Vec<&String> = nodes.iter().map(|node| &node.member).collect();
    let mut text = String::new();
    let cell = |text: &str| format!("{text:<10}");
    let mut line = |cells: Vec<String>| {
        text.push_str(cells.concat().trim_end());
        text.push('\n');
    };
    let head = std::iter::once(cell("FROM/TO")).chain(ids.iter().map(|id| cell(id)));
    line(head.collect());
    for node in nodes {
        let to = ids.iter().map(|id| match node.links_us.get(*id) {
            Some(us) => cell(&milliseconds(*us)),
            None => cell("-"),
        });
        line(std::iter::once(cell(&node.member)).chain(to).collect());
    }
    text
}

fn gpus(machine: &Capabilities) -> String {
    let model = if machine.gpu_model.is_empty() { &machine.gpu_type } else { &machine.gpu_model };
    match (machine.gpu_memory_mb.len(), machine.gpu_memory_total_mb() / 1_024) {
        (0, _) => "none".to_owned(),
        (count, 0) => format!("{count}x {model}"),
        (count, gb) => format!("{count}x {model}, {gb} GB together"),
    }
}

fn backend(machine: &Capabilities) -> String {
    match machine.ollama_type.as_str() {
        "" => "none".to_owned(),
        kind => kind.to_owned(),
    }
}

fn show(node: &NodeInfo) -> String {
    let mut rows = vec![
        ("Member", node.member.clone()),
        ("Name", node.name.clone()),
        ("Peer", node.peer.clone()),
        ("Role", node.role.clone()),
        ("Part", part(node).to_owned()),
        ("State", state(node).to_owned()),
        ("Addresses", node.addresses.join(", ")),
        ("Labels", spelled(&node.labels).join(", ")),
        ("Joined", utc(&node.joined_at)),
    ];
    rows.extend(node.rtt_us.map(|us| ("Round trip", milliseconds(us))));
    rows.extend(node.up_s.map(|s| ("Answers for", duration(s))));
    if let Some(machine) = &node.capabilities {
        rows.extend([
            ("GPUs", gpus(machine)),
            ("Processors", machine.cpu_cores.to_string()),
            ("Memory", format!("{} GB", machine.memory_gb)),
            ("Storage", format!("{} GB", machine.storage_gb)),
            ("Ollama", backend(machine)),
            ("Computed", spelled(&node.computed_labels).join(", ")),
        ]);
    }
    pairs(&rows)
}

#[cfg(test)]
mod tests {
    use super::super::tests::node;
    use super::*;

    #[test]
    fn members_are_listed() {
        let mut silent = node("3", "node-3");
        (silent.answers, silent.rtt_us, silent.up_s, silent.voter) = (false, None, None, false);
        let expected = "\
MEMBER  NAME    ROLE    PART    STATE      RTT    UP    ADDRESS
1       node-1  worker  leader  this node  -      -     /ip4/10.0.0.1/tcp/4001
2       node-2  worker  voter   answers    2.3ms  1h2m  /ip4/10.0.0.2/tcp/4001
3       node-3  worker  member  silent     -      -     /ip4/10.0.0.3/tcp/4001
";
        assert_eq!(list(&[node("1", "node-1"), node("2", "node-2"), silent.clone()]), expected);
        silent.presumed = true;
        assert_eq!(state(&silent), "on demand");
    }

    #[test]
    fn a_member_is_shown_with_its_machine() {
        let expected = "\
Member       2
Name         node-2
Peer         peer2
Role         worker
Part         voter
State        answers
Addresses    /ip4/10.0.0.2/tcp/4001
Labels       zone=a
Joined       2025-08-10 16:22:20 UTC
Round trip   2.3ms
Answers for  1h2m
GPUs         4x NVIDIA RTX A5000, 96 GB together
Processors   32
Memory       128 GB
Storage      2048 GB
Ollama       parallama
Computed     gpu=nvidia
";
        assert_eq!(show(&node("2", "node-2")), expected);
    }

    #[test]
    fn machines_and_distances_are_shown() {
        let mut silent = node("3", "node-3");
        silent.capabilities = None;
        let nodes = [node("1", "node-1"), node("2", "node-2"), silent];
        let expected = "\
MEMBER  NAME    GPUS                                 CPUS  MEMORY  STORAGE  OLLAMA     POOL
1       node-1  4x NVIDIA RTX A5000, 96 GB together  32    128 GB  2048 GB  parallama  -
2       node-2  4x NVIDIA RTX A5000, 96 GB together  32    128 GB  2048 GB  parallama  -
3       node-3  -                                    -     -       -        -          -
";
        assert_eq!(capabilities(&nodes), expected);
        let expected = "\
FROM/TO   1         2         3
1         -         2.1ms     -
2         -         -         -
3         -         -         -
";
        assert_eq!(distances(&nodes), expected);
    }

    #[test]
    fn labels_to_look_for_are_checked_and_encoded() {
        let path = |labels: &[&str]| {
            list_path(&labels.iter().map(|label| (*label).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(path(&[]).unwrap(), "/api/v1/nodes");
        assert_eq!(path(&["a=b c", "d="]).unwrap(), "/api/v1/nodes?label=a%3Db%20c,d%3D");
        for bad in ["a", "=a", "a=b,c=d"] {
            assert!(path(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn label_changes_are_read() {
        let texts =
            |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let change = labels(&texts(&["zone=rack-a", "disk-", "empty="])).unwrap();
        assert_eq!(
            change.set.into_iter().collect::<Vec<_>>(),
            [("empty".to_owned(), String::new()), ("zone".to_owned(), "rack-a".to_owned())]
        );
        assert_eq!(change.unset, ["disk"]);
        for bad in ["zone", "=x", "-"] {
            assert!(labels(&texts(&[bad])).is_err(), "{bad}");
        }
    }
}
