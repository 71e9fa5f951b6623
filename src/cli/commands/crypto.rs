//! `bzzz crypto`: age files on this machine, without a node.
//!
//! 1. A file that is being written appears whole or not at all; no existing file is touched.
//! 2. A private key is never an argument and never on the standard error.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use zeroize::Zeroizing;

use super::Session;
use crate::adapters::age::{AgeError, Opener, RECIPIENTS_PER_FILE_MAX, encrypt_stream, generate};
use crate::cli::args::CryptoCommand;
use crate::cli::error::{CliError, Exit};
use crate::crypto::{Identity, KeyError, Recipient};
use crate::types::Wall;

/// Bytes of a file with keys.
const KEY_FILE_MAX: u64 = 64 * 1024;
/// Identities that are tried at once.
const IDENTITIES_MAX: usize = 256;

/// Runs a command about age files.
pub fn crypto(session: &Session<'_>, command: CryptoCommand) -> Result<(), CliError> {
    match command {
        CryptoCommand::Keygen { file } => keygen(session, file.as_deref()),
        CryptoCommand::Encrypt { input, to, recipients, recipients_file, armor } => {
            let mut all = parse_recipients(&recipients)?;
            for file in &recipients_file {
                all.extend(keys_of::<Recipient>(file, "recipients")?);
            }
            if all.is_empty() {
                return Err(CliError::usage("there is nobody to encrypt to").hint(
                    "name a recipient with --recipient age1..., or a file of them with \
                     --recipients-file FILE",
                ));
            }
            let armor = armor || (to.is_none() && io::stdout().is_terminal());
            let (mut reader, output) = open_both(input.as_deref(), to.as_deref())?;
            let write = |writer: &mut dyn Write| encrypt_stream(&all, armor, &mut reader, writer);
            output.write(write)
        }
        CryptoCommand::Decrypt { input, to, identity } => {
            let mut identities = Vec::new();
            for file in &identity {
                identities.extend(keys_of::<Identity>(file, "identities")?);
            }
            let opener = Opener::new(&identities);
            let (mut reader, output) = open_both(input.as_deref(), to.as_deref())?;
            output
                .write(|mut writer: &mut dyn Write| opener.decrypt_stream(&mut reader, &mut writer))
        }
    }
}

impl From<AgeError> for CliError {
    fn from(error: AgeError) -> Self {
        let exit = match &error {
            AgeError::NoRecipient | AgeError::TooManyRecipients(_) => Exit::Usage,
            AgeError::UnusableRecipient(_) => Exit::Usage,
            AgeError::NoMatchingIdentity => Exit::Auth,
            _ => Exit::Failure,
        };
        match error {
            AgeError::NoMatchingIdentity => Self::new(exit, error.to_string())
                .hint("name the file with the right key with --identity FILE"),
            AgeError::Io(error) => Self::new(exit, format!("reading or writing failed: {error}")),
            error => Self::new(exit, error.to_string()),
        }
    }
}

// ---- Keys ------------------------------------------------------------------------------------------

fn keygen(session: &Session<'_>, file: Option<&Path>) -> Result<(), CliError> {
    let identity = generate();
    let recipient = Opener::new([&identity]).recipients()[0];
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let created = Wall(u64::try_from(since_1970.as_millis()).unwrap_or_default());
    let text = Zeroizing::new(format!(
        "# created: {created}\n# public key: {recipient}\n{}\n",
        identity.reveal().as_str()
    ));
    let Some(path) = file else {
        session.out.say(&format!("public key: {recipient}"));
        return session.out.bytes(text.as_bytes());
    };
    Output::File(path.to_owned()).write(|writer| {
        writer.write_all(text.as_bytes())?;
        Ok(())
    })?;
    if session.out.is_json() {
        return session.out.line(&serde_json::json!({
            "schema": 1,
            "recipient": recipient.to_string(),
            "file": path,
        }));
    }
    session.out.text(&format!("{recipient}\n"))
}

fn parse_recipients(texts: &[String]) -> Result<Vec<Recipient>, CliError> {
    let parse = |text: &String| {
        text.trim().parse::<Recipient>().map_err(|error| {
            // A private key in this place is in the shell's history now.
            match text.parse::<Identity>() {
                Ok(_) => CliError::usage("that is a private key; no command line should hold one")
                    .hint("name its public key, which begins with age1, and make a new pair"),
                Err(_) => CliError::usage(error.to_string()),
            }
        })
    };
    texts.iter().map(parse).collect()
}

/// The keys in a file, one a line; empty lines and lines that begin with `#` do not count.
fn keys_of<K: FromStr<Err = KeyError>>(path: &Path, kind: &str) -> Result<Vec<K>, CliError> {
    let shown = path.display();
    let failed = |error: io::Error| CliError::usage(format!("cannot read {shown}: {error}"));
    let mut text = Zeroizing::new(String::new());
    let source: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(path).map_err(failed)?),
    };
    source.take(KEY_FILE_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > KEY_FILE_MAX {
        return Err(CliError::usage(format!("{shown} is longer than {KEY_FILE_MAX} bytes")));
    }
    if text.starts_with("age-encryption.org/") || text.starts_with("-----BEGIN AGE") {
        let error = format!("{shown} is itself encrypted");
        return Err(CliError::usage(error).hint("decrypt it first, with the age tool"));
    }
    let mut keys = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = line.parse().map_err(|error: KeyError| {
            CliError::usage(format!("line {} of {shown} is {error}", number + 1))
        })?;
        keys.push(key);
        if keys.len() > IDENTITIES_MAX.min(RECIPIENTS_PER_FILE_MAX) {
            return Err(CliError::usage(format!(
                "{shown} holds more than {IDENTITIES_MAX} {kind}"
            )));
        }
    }
    if keys.is_empty() {
        return Err(CliError::usage(format!("{shown} holds no {kind}")));
    }
    Ok(keys)
}

// ---- Streams ---------------------------------------------------------------------------------------

/// Where to write.
enum Output {
    Stdout,
    File(PathBuf),
}

/// Opens the input and looks at the output; nothing is created yet.
fn open_both(input: Option<&Path>, to: Option<&Path>) -> Result<(Box<dyn Read>, Output), CliError> {
    let reader: Box<dyn Read> = match input {
        None => Box::new(io::stdin().lock()),
        Some(path) if path.as_os_str() == "-" => Box::new(io::stdin().lock()),
        Some(path) => {
            let failed =
                |error| CliError::usage(format!("cannot read {}: {error}", path.display()));
            let file = File::open(path).map_err(failed)?;
            if file.metadata().map_err(failed)?.is_dir() {
                return Err(CliError::usage(format!("{} is a directory", path.display())));
            }
            Box::new(file)
        }
    };
    let output = match to {
        Some(path) if path.as_os_str() != "-" => Output::File(path.to_owned()),
        _ => Output::Stdout,
    };
    if let Output::File(path) = &output
        && path.exists()
    {
        return Err(exists(path));
    }
    Ok((reader, output))
}

fn exists(path: &Path) -> CliError {
    CliError::new(Exit::Conflict, format!("{} exists already", path.display()))
        .hint("name another file, or move that one away")
}

impl Output {
    /// Hands a writer to `produce`. What goes to a file is kept under another name until all of it
    /// is there; such a file can be read by its owner only.
    fn write(
        &self,
        produce: impl FnOnce(&mut dyn Write) -> Result<(), AgeError>,
    ) -> Result<(), CliError> {
        let path = match self {
            Self::Stdout => {
                let mut writer = BufWriter::new(io::stdout().lock());
                let result = produce(&mut writer).and_then(|()| Ok(writer.flush()?));
                return match result {
                    // Whoever reads has seen enough.
                    Err(AgeError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                    result => Ok(result?),
                };
            }
            Self::File(path) => path,
        };
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let part = path.with_file_name(name);
        let failed = |error: io::Error| {
            CliError::failure(format!("cannot write {}: {error}", path.display()))
        };
        let file = File::options().write(true).create_new(true).mode(0o600).open(&part);
        let mut writer = BufWriter::new(file.map_err(failed)?);
        let result = produce(&mut writer).map_err(CliError::from).and_then(|()| {
            let file = writer.into_inner().map_err(|error| failed(error.into_error()))?;
            file.sync_all().map_err(failed)?;
            // Does not replace what somebody else has put there meanwhile.
            renameat_with(CWD, &part, CWD, path, RenameFlags::NOREPLACE).map_err(|error| {
                match io::Error::from(error) {
                    error if error.kind() == io::ErrorKind::AlreadyExists => exists(path),
                    error => failed(error),
                }
            })
        });
        if result.is_err() {
            // What is there of it is of no use to anybody.
            drop(std::fs::remove_file(&part));
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_line_by_line() {
        let directory = tempfile::tempdir().unwrap();
        let file = |text: &str| {
            let path = directory.path().join("keys");
            std::fs::write(&path, text).unwrap();
            path
        };
        let (one, two) = (generate(), generate());
        let recipients = Opener::new([&one, &two]).recipients();
        let text = format!("# mine\n\n{}\n  {}\n", one.reveal().as_str(), two.reveal().as_str());
        let read = keys_of::<Identity>(&file(&text), "identities").unwrap();
        assert_eq!(Opener::new(&read).recipients(), recipients);
        for (text, reason) in [
            ("", "holds no identities"),
            ("# nothing\n", "holds no identities"),
            ("age1qqqq\n", "line 1 of"),
            ("age-encryption.org/v1\n", "is itself encrypted"),
            (&"#".repeat(70_000), "is longer than"),
        ] {
            let error = keys_of::<Identity>(&file(text), "identities").unwrap_err();
            assert_eq!(error.exit, Exit::Usage);
            assert!(error.message.contains(reason), "{}", error.message);
        }
        let secret = one.reveal().to_string();
        let error = parse_recipients(std::slice::from_ref(&secret)).unwrap_err();
        assert!(error.message.contains("private key") && !error.message.contains(&secret));
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let output = Output::File(path.clone());
        let broken = output.write(|writer| {
            writer.write_all(b"half")?;
            Err(AgeError::NoMatchingIdentity)
        });
        assert_eq!(broken.unwrap_err().exit, Exit::Auth);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        let whole = |writer: &mut dyn Write| Ok(writer.write_all(b"whole")?);
        output.write(whole).unwrap();
        let error = output.write(|writer| Ok(writer.write_all(b"other")?)).unwrap_err();
        assert_eq!(error.exit, Exit::Conflict);
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
