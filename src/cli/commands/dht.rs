//! `bzzz dht`: contents by their hash, and who holds records.

use data_encoding::BASE64;

use super::Session;
use crate::cli::args::DhtCommand;
use crate::cli::error::CliError;
use crate::cli::output::Format;
use crate::http::routes::contents::{ContentRead, ContentStored, Dht};
use crate::types::ContentHash;
use crate::types::limits::CONTENT_LEN_MAX;
use crate::types::ucxl::CONTENT_PREFIX;

/// Runs a command about contents.
pub fn dht(session: &Session<'_>, command: DhtCommand) -> Result<(), CliError> {
    match command {
        DhtCommand::Status => {
            let answer = session.client()?.get("/api/v1/dht")?;
            session.out.answer(&answer, render)
        }
        DhtCommand::Put { file } => {
            let (bytes, _) = super::read_file(file.as_deref(), CONTENT_LEN_MAX)?;
            let headers = [("content-type", "application/octet-stream")];
            let client = session.client()?;
            let answer = client.send("POST", "/api/v1/dht/contents", &headers, Some(&bytes))?;
            session.out.answer(&answer, |stored: &ContentStored| format!("{}\n", stored.hash))
        }
        DhtCommand::Get { hash } => {
            let hash = hash.strip_prefix(CONTENT_PREFIX).unwrap_or(&hash);
            let hash: ContentHash = hash.parse().map_err(|_| {
                CliError::usage(format!("{hash:?} is not the hash of a content"))
                    .hint("take the 64 hexadecimal digits that `bzzz dht put` printed")
            })?;
            let path = format!("/api/v1/dht/contents/{hash}");
            let headers = [("accept", "application/json")];
            let answer = session.client()?.send("GET", &path, &headers, None)?;
            if session.out.format != Format::Table {
                return session.out.answer(&answer, |_: &ContentRead| String::new());
            }
            let read: ContentRead = answer.parse()?;
            let bytes = BASE64.decode(read.content_base64.as_bytes());
            session.out.bytes(&bytes.map_err(|error| {
                CliError::failure(format!("the node sent a damaged content: {error}"))
            })?)
        }
    }
}

fn render(dht: &Dht) -> String {
    let next = match &dht.next_holders {
        Some(next) => format!("{}, once they have everything", next.join(" ")),
        None => "no change under way".into(),
    };
    format!(
        "Layout   {}\nHolders  {}\nNext     {next}\nReplicas {}, a write needs {}, a read {}\n",
        dht.layout_version,
        dht.holders.join(" "),
        dht.replicas,
        dht.write_quorum,
        dht.read_quorum
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_says_who_holds_and_who_will() {
        let dht = Dht {
            schema: 1,
            layout_version: 4,
            holders: vec!["1".into(), "2".into(), "3".into()],
            next_holders: Some(vec!["1".into(), "3".into(), "4".into()]),
            replicas: 3,
            write_quorum: 2,
            read_quorum: 2,
        };
        let expected = "\
Layout   4
Holders  1 2 3
Next     1 3 4, once they have everything
Replicas 3, a write needs 2, a read 2
";
        assert_eq!(render(&dht), expected);
    }
}
