//! The reference page of the configuration, written from the table of keys.

use std::fmt::Write;

use super::env::OTHER_VARIABLES;
use super::keys::{KEYS, Key};
use super::value::Kind;

const INTRO: &str = "\
# Configuration

<!-- Generated from the table of keys in src/cli/config; do not edit. -->

One file is read, the first that is found:

1. the one that `--config FILE` names
2. the one that `BZZZ_CONFIG` names
3. `./bzzz.toml`
4. `/etc/bzzz/bzzz.toml`, followed by `/etc/bzzz/conf.d/*.toml` in the order of their names
5. `~/.config/bzzz/bzzz.toml`

None is needed. `conf.d` belongs to `/etc/bzzz/bzzz.toml` and is not read with any other file.

Defaults are replaced by the file, then by `conf.d`, then by the environment, then by flags. A
value replaces the one before it as a whole, lists and labels included.

Every key has an environment variable. With `_FILE` behind its name, the variable names a file
with the value instead. In variables and flags, lists are written with commas and labels as
`name=text,name=text`. An empty variable counts as not set.
";

/// The reference page of the configuration in Markdown.
pub fn reference_markdown() -> String {
    let mut page = INTRO.to_owned();
    let mut section = "";
    for key in KEYS {
        let of_key = key.name.split('.').next().unwrap_or_default();
        if of_key != section {
            section = of_key;
            page.push_str(&format!(
                "\n## [{section}]\n\n| Key | Values | Default | Environment | Meaning |\n\
                 | --- | --- | --- | --- | --- |\n"
            ));
        }
        page.push_str(&row(key));
    }
    page.push_str("\n## Other variables\n\nThese are read elsewhere and set no key:");
    let names: Vec<String> = OTHER_VARIABLES.iter().map(|name| format!(" `{name}`")).collect();
    // Writing to a string cannot fail.
    let _ = writeln!(page, "{}.", names.join(","));
    page
}

fn row(key: &Key) -> String {
    let default = match (key.default, key.kind) {
        ("", Kind::Labels) => "none".to_owned(),
        ("", _) => "empty".to_owned(),
        (text, _) => format!("`{text}`"),
    };
    let mut variables = format!("`{}`", key.env_name());
    if let Some(alias) = key.alias {
        let _ = write!(variables, " or `{alias}`");
    }
    let (name, values, doc) = (key.name, key.kind.expected(), key.doc);
    format!("| `{name}` | {values} | {default} | {variables} | {doc} |\n")
}
