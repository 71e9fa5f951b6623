//! The configuration of a node: where it is read from, and what wins.
//!
//! A wrong configuration has to be noticed before a node starts, by a message that says what to
//! change and where. A right one has to be explainable: why does this key have this value?
//!
//! 1. The table of keys is the only list of them: reading, suggestions, `config show` and the
//!    reference page all come from it.
//! 2. Nothing that was set is ignored. An unknown key, or a variable that looks like one, is an
//!    error, and a wrong value is an error even where a later source replaces it.
//! 3. What wins is fixed: default, file, `conf.d`, environment, flag; later ones over earlier.
//! 4. Every value has an origin, and every complaint about a value names it.
//! 5. Loading depends on nothing but [`Sources`] and the files that they lead to.

mod duration;
mod env;
mod error;
mod file;
mod filter;
mod keys;
mod reference;
mod schema;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use duration::{DurationError, format_duration, parse_duration};
pub use env::OTHER_VARIABLES;
pub use error::{ConfigError, Origin};
pub use file::CONFIG_FILE_LEN_MAX;
pub use keys::{KEYS, Key, find, is_section};
pub use reference::reference_markdown;
pub use schema::{
    Api, Cluster, Config, Election, Log, LogFormat, Node, NodeKind, P2p, Telemetry, Weights,
};
pub use value::{Kind, Value};

/// Where the configuration of the whole machine lives.
pub const ETC_DIR: &str = "/etc/bzzz";

/// Everything that the configuration is made from, so that tests need no process of their own.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Values from the command line: dotted key and text. The last one of a key wins.
    pub flags: Vec<(String, String)>,
    /// The flag that sets a key, such as `--role` for `node.role`; for other keys `--set KEY` is
    /// shown.
    pub flag_names: BTreeMap<String, String>,
    /// Environment variables, also those of no concern.
    pub env: Vec<(String, String)>,
    /// The file that `--config` names.
    pub config_flag: Option<PathBuf>,
    /// Working directory, to which relative paths refer.
    pub cwd: PathBuf,
    /// Home directory of the user, if there is one.
    pub home: Option<PathBuf>,
    /// Directory of the system's file and of `conf.d`; `/etc/bzzz` outside of tests.
    pub etc: PathBuf,
}

/// A configuration and where each part of it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Origin of each key, by its dotted name.
    pub origins: BTreeMap<String, Origin>,
    /// Files that were read, those that win last.
    pub files: Vec<PathBuf>,
    values: BTreeMap<&'static str, Value>,
}

/// One key with a value from one source.
struct Setting {
    key: &'static Key,
    value: Value,
    origin: Origin,
}

impl Setting {
    fn read(key: &'static Key, text: &str, origin: Origin) -> Result<Self, ConfigError> {
        match key.kind.read(text) {
            Ok(value) => Ok(Self { key, value, origin }),
            Err(reason) => Err(ConfigError::Value { key: key.name.to_owned(), origin, reason }),
        }
    }
}

impl Sources {
    /// The sources of this process; the caller adds what its command line says.
    pub fn of_process() -> Result<Self, ConfigError> {
        let mut env = Vec::new();
        for (name, text) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|name| name.starts_with("BZZZ_")) else {
                continue;
            };
            let name = name.to_owned();
            match text.into_string() {
                Ok(text) => env.push((name, text)),
                Err(_) => return Err(ConfigError::NotText { name }),
            }
        }
        // The order of the environment is accidental, that of errors should not be.
        env.sort();
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        // A working directory that was removed leaves relative paths to the system.
        let cwd = std::env::current_dir().unwrap_or_default();
        Ok(Self { env, cwd, home, etc: PathBuf::from(ETC_DIR), ..Self::default() })
    }

    /// The values of the command line.
    fn flag_settings(&self) -> Result<Vec<Setting>, ConfigError> {
        let read = |(name, text): &(String, String)| {
            let flag = self.flag_names.get(name).cloned();
            let origin = Origin::Flag { name: flag.unwrap_or_else(|| format!("--set {name}")) };
            match find(name) {
                Some(key) => Setting::read(key, text, origin),
                None => Err(ConfigError::UnknownKey {
                    key: name.clone(),
                    origin,
                    hint: keys::hint(name),
                }),
            }
        };
        self.flags.iter().map(read).collect()
    }
}

/// Reads the configuration from its sources.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut settings = Vec::new();
    for key in KEYS {
        settings.push(Setting::read(key, key.default, Origin::Default)?);
    }
    let found = file::search(sources)?;
    for (path, purpose) in &found {
        settings.extend(file::settings(path, purpose)?);
    }
    settings.extend(env::settings(sources)?);
    settings.extend(sources.flag_settings()?);

    let mut values = BTreeMap::new();
    let mut origins = BTreeMap::new();
    for Setting { key, value, origin } in settings {
        values.insert(key.name, value);
        origins.insert(key.name.to_owned(), origin);
    }
    check_weights(&values, &origins)?;
    let config = Config::build(values.iter().map(|(name, value)| (*name, value)))?;
    let files = found.into_iter().map(|(path, _)| path).collect();
    Ok(Loaded { config, origins, files, values })
}

impl Loaded {
    /// Each key in the order of the table, with the text of its value and that of its origin.
    pub fn table(&self) -> Vec<(String, String, String)> {
        let row = |key: &Key| {
            let value = self.values.get(key.name)?.text();
            Some((key.name.to_owned(), value, self.origins.get(key.name)?.to_string()))
        };
        KEYS.iter().filter_map(row).collect()
    }
}

/// The one rule that spans several keys, so no single place is to blame for breaking it.
fn check_weights(
    values: &BTreeMap<&'static str, Value>,
    origins: &BTreeMap<String, Origin>,
) -> Result<(), ConfigError> {
    let mut sum = 0;
    let mut parts = Vec::new();
    for (name, value) in values {
        let (Some(short), Value::Integer(weight)) = (name.strip_prefix("election.weights."), value)
        else {
            continue;
        };
        sum += weight;
        let origin = origins.get(*name).unwrap_or(&Origin::Default);
        parts.push(format!("{short} {weight} ({origin})"));
    }
    if sum == 100 {
        return Ok(());
    }
    Err(ConfigError::Weights { sum, parts: parts.join(", ") })
}
