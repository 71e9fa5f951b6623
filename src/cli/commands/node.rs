//! `bzzz node`: the members of the cluster.

use super::{Session, member};
use crate::cli::args::NodeCommand;
use crate::cli::error::CliError;
use crate::cli::table::{duration, milliseconds, pairs, table, utc};
use crate::http::api::{Done, LabelChange, Node, NodeInfo, Nodes};

/// Runs a command about members.
pub fn node(session: &Session<'_>, command: NodeCommand) -> Result<(), CliError> {
    match command {
        // Taken before, as it is the daemon.
        NodeCommand::Run(_) => Ok(()),
        NodeCommand::List => {
            let answer = session.client()?.get("/api/v1/nodes")?;
            session.out.list(&answer, |nodes: &Nodes| &nodes.items, |nodes| list(&nodes.items))
        }
        NodeCommand::Show { node } => {
            let client = session.client()?;
            let answer = client.get(&path(&member(&client, &node)?))?;
            session.out.answer(&answer, |node: &Node| show(&node.node))
        }
        NodeCommand::Remove { node } => {
            let client = session.client()?;
            let member = member(&client, &node)?;
            session.confirm(&format!("removing member {member} for good"))?;
            let answer = client.delete(&path(&member))?;
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

fn path(member: &str) -> String {
    format!("/api/v1/nodes/{member}")
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
    match (node.is_self, node.answers) {
        (true, _) => "this node",
        (false, true) => "answers",
        (false, false) => "silent",
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

fn show(node: &NodeInfo) -> String {
    let labels: Vec<String> =
        node.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut rows = vec![
        ("Member", node.member.clone()),
        ("Name", node.name.clone()),
        ("Peer", node.peer.clone()),
        ("Role", node.role.clone()),
        ("Part", part(node).to_owned()),
        ("State", state(node).to_owned()),
        ("Addresses", node.addresses.join(", ")),
        ("Labels", labels.join(", ")),
        ("Joined", utc(&node.joined_at)),
    ];
    rows.extend(node.rtt_us.map(|us| ("Round trip", milliseconds(us))));
    rows.extend(node.up_s.map(|s| ("Answers for", duration(s))));
    if let Some(machine) = &node.capabilities {
        let gpus = machine.gpu_memory_mb.len();
        let vram = machine.gpu_memory_total_mb() / 1_024;
        let gpu = match gpus {
            0 => "none".to_owned(),
            _ => format!("{gpus}x {}, {vram} GB together", machine.gpu_type),
        };
        let ollama = match machine.ollama_type.as_str() {
            "" => "none",
            kind => kind,
        };
        rows.extend([
            ("GPUs", gpu),
            ("Processors", machine.cpu_cores.to_string()),
            ("Memory", format!("{} GB", machine.memory_gb)),
            ("Storage", format!("{} GB", machine.storage_gb)),
            ("Ollama", ollama.to_owned()),
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
        assert_eq!(list(&[node("1", "node-1"), node("2", "node-2"), silent]), expected);
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
GPUs         4x nvidia, 96 GB together
Processors   32
Memory       128 GB
Storage      2048 GB
Ollama       parallama
";
        assert_eq!(show(&node("2", "node-2")), expected);
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
