//! `bzzz election`: who leads, and why.

use super::panel::{name_of, panel};
use super::{Session, member, pick};
use crate::cli::args::ElectionCommand;
use crate::cli::error::{CliError, Exit};
use crate::cli::output::Format;
use crate::cli::table::{duration, milliseconds, table};
use crate::core::fitness::Inputs;
use crate::http::api::Accepted;
use crate::http::routes::election::{Election, ScoreInfo, TransferRequest};
use crate::http::routes::nodes::{NodeInfo, Nodes};

const PATH: &str = "/api/v1/election";

/// Runs a command about the election.
pub fn election(session: &Session<'_>, command: ElectionCommand) -> Result<(), CliError> {
    match command {
        ElectionCommand::Status => show(session, |election, nodes| Ok(panel(election, nodes))),
        ElectionCommand::Scores => show(session, |election, nodes| Ok(scores(election, nodes))),
        ElectionCommand::Explain { node } => show(session, |election, nodes| {
            let member = match &node {
                Some(text) => pick(nodes, text)?.member.clone(),
                None => election.leader.clone().ok_or_else(|| {
                    CliError::new(Exit::NoQuorum, "there is no leader at the moment")
                        .hint("name a node: bzzz election explain NODE")
                })?,
            };
            explain(election, nodes, &member)
        }),
        ElectionCommand::Transfer { node } => {
            let client = session.client()?;
            let to = node.as_deref().map(|text| member(&client, text)).transpose()?;
            let answer = client.post(&format!("{PATH}/transfer"), &TransferRequest { to })?;
            session.out.answer(&answer, |_: &Accepted| {
                session.out.say("see it happen with `bzzz election status`");
                "the handover has begun\n".to_owned()
            })
        }
    }
}

/// Prints the election, for people together with the nodes.
fn show(
    session: &Session<'_>,
    render: impl FnOnce(&Election, &[NodeInfo]) -> Result<String, CliError>,
) -> Result<(), CliError> {
    let client = session.client()?;
    let answer = client.get(PATH)?;
    if session.out.format != Format::Table {
        return session.out.answer(&answer, |_: &Election| String::new());
    }
    let nodes: Nodes = client.read("/api/v1/nodes")?;
    session.out.text(&render(&answer.parse()?, &nodes.items)?)
}

/// Members by rank: overall score, the smaller id first among equals.
fn ranking(election: &Election) -> Vec<(&str, &ScoreInfo)> {
    let id = |member: &str| member.parse::<u64>().unwrap_or(u64::MAX);
    let mut ranked: Vec<(&str, &ScoreInfo)> =
        election.table.scores.iter().map(|(member, scores)| (member.as_str(), scores)).collect();
    ranked.sort_by(|(a, left), (b, right)| {
        right.overall.total_cmp(&left.overall).then_with(|| id(a).cmp(&id(b)))
    });
    ranked
}

fn scores(election: &Election, nodes: &[NodeInfo]) -> String {
    let row = |(index, (member, scores)): (usize, &(&str, &ScoreInfo))| {
        let leads = election.leader.as_deref() == Some(*member);
        [
            (index + 1).to_string(),
            name_of(nodes, member),
            if leads { "leader" } else { "" }.to_owned(),
            format!("{:.2}", scores.stability),
            format!("{:.2}", scores.hardware),
            format!("{:.2}", scores.position),
            format!("{:.2}", scores.geography),
            format!("{:.2}", scores.load),
            format!("{:.2}", scores.overall),
        ]
    };
    let rows: Vec<_> = ranking(election).iter().enumerate().map(row).collect();
    let head =
        ["RANK", "NODE", "", "STABILITY", "HARDWARE", "POSITION", "GEOGRAPHY", "LOAD", "OVERALL"];
    table(head, &rows)
}

fn explain(election: &Election, nodes: &[NodeInfo], member: &str) -> Result<String, CliError> {
    let name = name_of(nodes, member);
    let ranked = ranking(election);
    let Some(rank) = ranked.iter().position(|(other, _)| *other == member) else {
        return Err(CliError::new(Exit::NotFound, format!("{name} has no scores yet"))
            .hint("scores are made for voters, a few seconds after a leader was elected"));
    };
    let scores = ranked[rank].1;
    let weights = &election.weights;
    let inputs = election.inputs.get(member);
    let from = sources(inputs);
    let rows: Vec<[String; 5]> = [
        ("stability", scores.stability, weights.stability),
        ("hardware", scores.hardware, weights.resources),
        ("position", scores.position, weights.position),
        ("geography", scores.geography, weights.geography),
        ("load", scores.load, weights.load),
    ]
    .into_iter()
    .zip(from)
    .map(|((criterion, score, weight), from)| {
        let points = score * f64::from(weight) / 100.0;
        [
            criterion.to_owned(),
            format!("{score:.2}"),
            format!("{weight}%"),
            format!("{points:.2}"),
            from,
        ]
    })
    .collect();
    let mut text = format!(
        "{name}: {:.2} of 100 points, rank {} of {}\n\n",
        scores.overall,
        rank + 1,
        ranked.len()
    );
    text.push_str(&table(["CRITERION", "SCORE", "WEIGHT", "POINTS", "FROM"], &rows));
    text.push_str(&format!("\n{}\n", standing(election, nodes, member, scores)));
    if let (None, Some(leader)) = (inputs, &election.leader) {
        let leader = name_of(nodes, leader);
        text.push_str(&format!("The figures behind the scores are kept by {leader}: ask it.\n"));
    }
    Ok(text)
}

/// How a node stands to the one that leads.
fn standing(election: &Election, nodes: &[NodeInfo], member: &str, scores: &ScoreInfo) -> String {
    let Some(leader) = election.leader.as_deref() else {
        return "There is no leader at the moment.".to_owned();
    };
    if leader == member {
        return format!("It leads in term {}.", election.term);
    }
    let name = name_of(nodes, leader);
    match election.table.scores.get(leader) {
        None => format!("The leader is {name}, which has no scores yet."),
        Some(other) if other.overall >= scores.overall => {
            let behind = other.overall - scores.overall;
            format!("The leader is {name}, {behind:.2} points fitter.")
        }
        Some(other) => {
            let ahead = scores.overall - other.overall;
            format!(
                "The leader is {name}, {ahead:.2} points less fit; leadership moves once the \
                 lead is large enough for long enough."
            )
        }
    }
}

/// What each score was computed from, where this node knows it.
fn sources(inputs: Option<&Inputs>) -> [String; 5] {
    let Some(inputs) = inputs else {
        return std::array::from_fn(|_| "-".to_owned());
    };
    let (machine, load) = (&inputs.capabilities, &inputs.load);
    let per_cent = |permille: u16| f64::from(permille) / 10.0;
    [
        format!(
            "{:.1}% of pings answered, up {}",
            per_cent(inputs.availability_permille),
            duration(u64::from(inputs.up_s))
        ),
        format!(
            "{} MB VRAM, {} cores, {} GB RAM, {} GB disk",
            machine.gpu_memory_total_mb(),
            machine.cpu_cores,
            machine.memory_gb,
            machine.storage_gb
        ),
        format!("heard by {} of {} voters", inputs.heard_by, inputs.others),
        format!("{} round trip", milliseconds(u64::from(inputs.rtt_us))),
        format!(
            "{:.1}% processor, {:.1}% memory, {} MB disk free",
            per_cent(load.cpu_permille),
            per_cent(load.memory_permille),
            load.disk_free_mb
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::panel::tests::election;
    use super::super::tests::node;
    use super::*;

    #[test]
    fn scores_are_listed_by_rank() {
        let nodes = [node("1", "node-1"), node("2", "node-2")];
        let expected = "\
RANK  NODE            STABILITY  HARDWARE  POSITION  GEOGRAPHY  LOAD   OVERALL
1     node-1  leader  96.04      95.00     100.00    74.50      88.00  93.24
2     node-2          96.04      95.00     100.00    74.50      88.00  80.00
";
        assert_eq!(scores(&election(), &nodes), expected);
    }

    #[test]
    fn a_score_is_explained_in_the_figures_it_came_from() {
        let nodes = [node("1", "node-1"), node("2", "node-2")];
        let expected = "\
node-1: 93.24 of 100 points, rank 1 of 2

CRITERION  SCORE   WEIGHT  POINTS  FROM
stability  96.04   30%     28.81   99.8% of pings answered, up 1d1h
hardware   95.00   25%     23.75   98304 MB VRAM, 32 cores, 128 GB RAM, 2048 GB disk
position   100.00  20%     20.00   heard by 4 of 4 voters
geography  74.50   15%     11.18   2.3ms round trip
load       88.00   10%     8.80    12.0% processor, 30.0% memory, 1024 MB disk free

It leads in term 3.
";
        assert_eq!(explain(&election(), &nodes, "1").unwrap(), expected);
        let other = explain(&election(), &nodes, "2").unwrap();
        let end = "The leader is node-1, 13.24 points fitter.\n\
                   The figures behind the scores are kept by node-1: ask it.\n";
        assert!(other.ends_with(end), "{other}");
        assert_eq!(explain(&election(), &nodes, "9").unwrap_err().exit, Exit::NotFound);
    }
}
