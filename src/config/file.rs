//! Finding and reading configuration files.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Origin};
use super::keys::{find, hint, is_section};
use super::{Setting, Sources};

/// Bytes of a configuration file, and of a file that holds a single value.
pub const CONFIG_FILE_LEN_MAX: u64 = 64 * 1024;
/// Name of the configuration file wherever it is searched for.
const FILE_NAME: &str = "bzzz.toml";

/// A file to read, and who asked for it.
pub(super) type Found = (PathBuf, &'static str);

/// The files to read, those that win last. None at all is fine.
pub(super) fn search(sources: &Sources) -> Result<Vec<Found>, ConfigError> {
    let variable =
        sources.env.iter().find(|(name, text)| name == "BZZZ_CONFIG" && !text.is_empty());
    let variable = variable.map(|(_, text)| (PathBuf::from(text), " named by BZZZ_CONFIG"));
    let flag = sources.config_flag.clone().map(|path| (path, " named by --config"));
    let system = sources.etc.join(FILE_NAME);
    if let Some((path, purpose)) = flag.or(variable) {
        let path = sources.cwd.join(path);
        // The drop-ins belong to the system file, whichever way it was found.
        let drop_ins = if path == system { drop_ins(&sources.etc)? } else { Vec::new() };
        return Ok(std::iter::once((path, purpose)).chain(drop_ins).collect());
    }
    let local = sources.cwd.join(FILE_NAME);
    if exists(&local)? {
        return Ok(vec![(local, "")]);
    }
    let mut files = Vec::new();
    if exists(&system)? {
        files.push((system, ""));
    }
    files.extend(drop_ins(&sources.etc)?);
    if let Some(home) = sources.home.as_ref().filter(|_| files.is_empty()) {
        let path = home.join(".config/bzzz").join(FILE_NAME);
        // A home that this user may not look into is somebody else's, as after su.
        files.extend(exists(&path).unwrap_or(false).then_some((path, "")));
    }
    Ok(files)
}

/// The settings of one file, in the order of their lines.
pub(super) fn settings(path: &Path, purpose: &str) -> Result<Vec<Setting>, ConfigError> {
    let text = read(path, purpose)?;
    let mut walk = Walk { path, text: &text, settings: Vec::new() };
    let table = DeTable::parse(&text).map_err(|error| ConfigError::Syntax {
        origin: walk.origin(error.span().unwrap_or_default()),
        reason: error.message().replace('\n', ", "),
    })?;
    walk.table("", table.get_ref())?;
    Ok(walk.settings)
}

/// Reads a small text file; `purpose` says in an error who asked for it.
pub(super) fn read(path: &Path, purpose: &str) -> Result<String, ConfigError> {
    let fail = |reason: String| ConfigError::Read {
        path: path.to_owned(),
        purpose: purpose.to_owned(),
        reason,
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(CONFIG_FILE_LEN_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| fail(error.to_string()))?;
    if bytes.len() as u64 > CONFIG_FILE_LEN_MAX {
        return Err(fail(format!("it is larger than {CONFIG_FILE_LEN_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| fail("it is not valid UTF-8".to_owned()))
}

/// The files of `conf.d`, in the order of their names.
fn drop_ins(etc: &Path) -> Result<Vec<Found>, ConfigError> {
    let directory = etc.join("conf.d");
    if !exists(&directory)? {
        return Ok(Vec::new());
    }
    let list = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(&directory)?.map(|entry| Ok(entry?.path())).collect()
    };
    let mut files = list().map_err(|error| unreadable(&directory, &error))?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    Ok(files.into_iter().map(|path| (path, "")).collect())
}

fn exists(path: &Path) -> Result<bool, ConfigError> {
    match fs::metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(false)
        }
        // Running on defaults because the real file is hidden would be the worse surprise.
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> ConfigError {
    ConfigError::Read { path: path.to_owned(), purpose: String::new(), reason: error.to_string() }
}

/// A walk through the tables of one file.
struct Walk<'a> {
    path: &'a Path,
    text: &'a str,
    settings: Vec<Setting>,
}

impl Walk<'_> {
    fn table(&mut self, section: &str, table: &DeTable<'_>) -> Result<(), ConfigError> {
        let mut entries: Vec<_> = table.iter().collect();
        // The first error is then the topmost one.
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in entries {
            let key = join(section, name.get_ref());
            if is_section(&key) {
                self.section(&key, value)?;
            } else {
                self.key(key, name.span(), value)?;
            }
        }
        Ok(())
    }

    fn section(&mut self, name: &str, value: &Spanned<DeValue<'_>>) -> Result<(), ConfigError> {
        if let DeValue::Table(table) = value.get_ref() {
            return self.table(name, table);
        }
        Err(ConfigError::Value {
            key: name.to_owned(),
            origin: self.origin(value.span()),
            reason: format!("expected a table, write [{name}] and its keys below it"),
        })
    }

    fn key(
        &mut self,
        name: String,
        span: Range<usize>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), ConfigError> {
        let Some(key) = find(&name) else {
            let hint = hint(&name);
            return Err(ConfigError::UnknownKey { key: name, origin: self.origin(span), hint });
        };
        let value = key.kind.read_toml(value).map_err(|refusal| ConfigError::Value {
            key: name,
            origin: self.origin(refusal.span),
            reason: refusal.reason,
        })?;
        self.settings.push(Setting { key, value, origin: self.origin(span) });
        Ok(())
    }

    fn origin(&self, span: Range<usize>) -> Origin {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Origin::File { path: self.path.to_owned(), line }
    }
}

/// The dotted name of a key in a section. A key that needs quotes keeps them, so that
/// `"node.id"` is not taken for `id` of `[node]`.
fn join(section: &str, name: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    let name = if !name.is_empty() && name.bytes().all(bare) {
        name.to_owned()
    } else {
        format!("{:?}", name.chars().take(80).collect::<String>())
    };
    if section.is_empty() { name } else { format!("{section}.{name}") }
}
