//! Reading the environment.
//!
//! Every key has a variable, a few have a second, shorter one, and each of these has a companion
//! with `_FILE` behind it that names a file with the value. An empty variable counts as not set,
//! because that is what `${NAME:-}` in a compose file makes of a missing one.

use std::collections::BTreeMap;

use super::error::{ConfigError, Origin};
use super::file::read;
use super::keys::{KEYS, Key, hint, nearest};
use super::{Setting, Sources};

/// Variables that belong to the client or to the search for files.
pub const OTHER_VARIABLES: [&str; 11] = [
    "BZZZ_ADDR",
    "BZZZ_TOKEN",
    "BZZZ_TOKEN_FILE",
    "BZZZ_CONTEXT",
    "BZZZ_CACERT",
    "BZZZ_OUTPUT",
    "BZZZ_LOG",
    "BZZZ_NO_COLOR",
    "BZZZ_CONFIG",
    "BZZZ_VERSION",
    "BZZZ_JOIN_TOKEN_FILE",
];

/// A variable that sets a key.
struct Variable {
    name: String,
    key: &'static Key,
    /// The value stands in a file that the variable names.
    indirect: bool,
}

/// The settings of the environment.
pub(super) fn settings(sources: &Sources) -> Result<Vec<Setting>, ConfigError> {
    let variables = variables();
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    let mut settings = Vec::new();
    for (name, text) in &sources.env {
        let other = !name.starts_with("BZZZ_") || OTHER_VARIABLES.contains(&name.as_str());
        if other || text.is_empty() {
            continue;
        }
        let Some(variable) = variables.iter().find(|variable| variable.name == *name) else {
            check_unknown(name, &variables)?;
            continue;
        };
        let key = variable.key;
        if let Some(first) = seen.insert(key.name, name) {
            return Err(ConfigError::Twice {
                key: key.name.to_owned(),
                first: first.to_owned(),
                second: name.clone(),
            });
        }
        let text = if variable.indirect {
            read(&sources.cwd.join(text), &format!(" named by {name}"))?
        } else {
            text.clone()
        };
        let origin = Origin::Env { name: name.clone() };
        settings.push(Setting::read(key, text.trim(), origin)?);
    }
    Ok(settings)
}

fn variables() -> Vec<Variable> {
    let names = |key: &'static Key| {
        let own = [Some(key.env_name()), key.alias.map(str::to_owned)];
        own.into_iter().flatten().map(move |name| (name, key))
    };
    KEYS.iter()
        .flat_map(names)
        .flat_map(|(name, key)| {
            let file = format!("{name}_FILE");
            [Variable { name, key, indirect: false }, Variable { name: file, key, indirect: true }]
        })
        .collect()
}

/// Refuses a variable that was meant to set a key. Others pass: for a service named bzzz,
/// Kubernetes sets a dozen such as `BZZZ_SERVICE_HOST` in every container.
fn check_unknown(name: &str, variables: &[Variable]) -> Result<(), ConfigError> {
    let fail = |hint| Err(ConfigError::UnknownVariable { name: name.to_owned(), hint });
    let names = || variables.iter().map(|variable| variable.name.as_str());
    if !name.contains("__") {
        // One slip away from a name that sets something is no coincidence.
        let slip = names().find(|known| strsim::osa_distance(known, name) == 1);
        return slip.map_or(Ok(()), |known| fail(format!("did you mean {known}?")));
    }
    if let Some(near) = nearest(name, names()) {
        return fail(format!("did you mean {near}?"));
    }
    let dotted = name.trim_start_matches("BZZZ_").to_ascii_lowercase().replace("__", ".");
    fail(hint(&dotted))
}
