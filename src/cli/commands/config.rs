//! `bzzz config`: the configuration of this machine, read as the daemon reads it.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::Session;
use crate::cli::args::ConfigCommand;
use crate::cli::error::CliError;
use crate::cli::output::Format;
use crate::cli::table::table;
use crate::config::{Loaded, Sources, load, reference_markdown};

/// Runs a command about the configuration.
pub fn config(session: &Session<'_>, command: ConfigCommand) -> Result<(), CliError> {
    match command {
        ConfigCommand::Show { origin, config } => show(session, origin, config),
        ConfigCommand::Reference => session.out.text(&reference_markdown()),
    }
}

fn show(session: &Session<'_>, origin: bool, config: Option<PathBuf>) -> Result<(), CliError> {
    let loaded = Sources::of_process()
        .and_then(|sources| load(&Sources { config_flag: config, ..sources }))
        .map_err(|error| CliError::usage(error.to_string()))?;
    match (session.out.format, origin) {
        (Format::Table, false) => {
            let text = loaded.config.to_toml();
            session.out.text(&text.map_err(|error| CliError::failure(error.to_string()))?)
        }
        (Format::Table, true) => session.out.text(&origins(&loaded)),
        (Format::Json, _) => session.out.line(&json!({
            "schema": 1,
            "files": loaded.files,
            "config": loaded.config,
            "origins": loaded.origins,
        })),
        (Format::Ndjson, _) => rows(&loaded).iter().try_for_each(|row| session.out.line(row)),
    }
}

fn origins(loaded: &Loaded) -> String {
    let rows: Vec<_> = loaded.table().into_iter().map(|(k, v, from)| [k, v, from]).collect();
    table(["KEY", "VALUE", "FROM"], &rows)
}

fn rows(loaded: &Loaded) -> Vec<Value> {
    let row = |(key, value, _): (String, String, String)| {
        let mut row = Map::new();
        row.insert("origin".into(), json!(loaded.origins.get(&key)));
        row.insert("key".into(), json!(key));
        row.insert("value".into(), json!(value));
        Value::Object(row)
    };
    loaded.table().into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_shown_with_its_origin() {
        let env = vec![("BZZZ_NODE_ID".to_owned(), "here".to_owned())];
        let loaded = load(&Sources { env, etc: "/nonexistent".into(), ..Sources::default() });
        let loaded = loaded.unwrap();
        let text = origins(&loaded);
        assert!(text.starts_with("KEY "), "{text}");
        let line = text.lines().find(|line| line.starts_with("node.id")).unwrap();
        assert!(line.contains(" here ") && line.ends_with("environment BZZZ_NODE_ID"), "{line}");
        assert_eq!(rows(&loaded).len(), text.lines().count() - 1);
        assert_eq!(rows(&loaded)[0]["origin"]["name"], "BZZZ_NODE_ID");
    }
}
