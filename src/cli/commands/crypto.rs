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
use crate::adapters::age::{
    AgeError, Foreign, Opener, RECIPIENTS_PER_FILE_MAX, encrypt_stream, generate,
};
use crate::cli::args::CryptoCommand;
use crate::cli::error::{CliError, Exit};
use crate::crypto::{Identity, KeyError, KeyKind, Recipient};
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
            refuse_stdin_twice(input.as_deref(), &recipients_file)?;
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
            refuse_stdin_twice(input.as_deref(), &identity)?;
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
            AgeError::NoMatchingIdentity(_) | AgeError::OtherKinds(_) => Exit::Auth,
            _ => Exit::Failure,
        };
        let hint = match &error {
            AgeError::NoMatchingIdentity(_) => {
                "name the file with the right key with --identity FILE"
            }
            AgeError::OtherKinds(_) => {
                "decrypt it with the age tool, which asks for a passphrase, or takes other keys \
                 with --identity FILE"
            }
            AgeError::Empty => "name the encrypted file, or pipe it in",
            AgeError::Foreign(foreign) => hint_for(foreign),
            AgeError::Version => "decrypt it with a newer version of the age tool",
            AgeError::Damaged(_) => "copy it again, byte by byte, from where it was encrypted",
            AgeError::Io(error) => {
                return Self::new(exit, format!("reading or writing failed: {error}"));
            }
            _ => return Self::new(exit, error.to_string()),
        };
        Self::new(exit, error.to_string()).hint(hint)
    }
}

/// What to do with a file that is no age file.
fn hint_for(foreign: &Foreign) -> &'static str {
    match foreign {
        Foreign::Compressed(_) => "decompress it first, if an age file is in it",
        Foreign::Pgp => "decrypt it with gpg --decrypt",
        Foreign::OpenSsl => "decrypt it with openssl enc -d",
        Foreign::Utf16 => {
            "encrypt again and name the output with --to FILE instead of redirecting it"
        }
        Foreign::Base64 => "decode it first, with base64 --decode",
        Foreign::Key(_) => {
            "name the key with --identity FILE, and the encrypted file without an option"
        }
        Foreign::Text | Foreign::Blank | Foreign::Unknown => {
            "name a file that was encrypted with bzzz crypto encrypt or the age tool"
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
        text.trim().parse::<Recipient>().map_err(|error| match KeyKind::of(text) {
            // It is in the shell's history now.
            Some(kind) if kind.is_private() => {
                CliError::usage(format!("that is {kind}; no command line should hold one"))
                    .hint("name its public key, which begins with age1, and make a new pair")
            }
            None if Path::new(text).is_file() => CliError::usage(error.to_string())
                .hint("that is a file; if keys are in it, name it with --recipients-file FILE"),
            _ => CliError::usage(error.to_string()).hint(hint_about(&error)),
        })
    };
    texts.iter().map(parse).collect()
}

/// What to do about a key that is none.
fn hint_about(error: &KeyError) -> &'static str {
    match error {
        KeyError::Recipient(_) => "name a public key as bzzz crypto keygen prints it, age1...",
        KeyError::Identity(_) => "name a file as bzzz crypto keygen writes it, unchanged",
        KeyError::OtherThanRecipient(KeyKind::Identity) => {
            "name its public key, age1..., which stands above it in the file of the pair"
        }
        KeyError::OtherThanRecipient(_) => {
            "name a public key as bzzz crypto keygen prints it, or encrypt with the age tool"
        }
        KeyError::OtherThanIdentity(KeyKind::Recipient) => {
            "decrypting takes its private key, which bzzz crypto keygen wrote to a file"
        }
        KeyError::OtherThanIdentity(_) => {
            "decrypt with the age tool, which takes keys of SSH and of plugins, or name a file as \
             bzzz crypto keygen writes it"
        }
    }
}

/// Refuses a key where the name of a file should be. It is not repeated, as it may be a secret.
fn refuse_key(path: &Path) -> Result<(), CliError> {
    let text = path.to_str().filter(|_| !path.exists()).unwrap_or_default();
    let Some(kind) = KeyKind::of(text) else { return Ok(()) };
    let error = CliError::usage(format!("that is {kind} where the name of a file should be"));
    if kind.is_private() {
        return Err(error.hint(
            "no command line should hold it: make a new pair, and name the file that it is in",
        ));
    }
    Err(error.hint("name a public key with --recipient KEY"))
}

/// Keys that are read from the standard input leave nothing in it for whoever reads it next.
fn refuse_stdin_twice(input: Option<&Path>, keys: &[PathBuf]) -> Result<(), CliError> {
    let is_stdin = |path: &Path| path.as_os_str() == "-";
    let count = keys.iter().filter(|path| is_stdin(path)).count();
    if count + usize::from(count > 0 && input.is_none_or(is_stdin)) > 1 {
        let error = "the standard input is to be read twice, for keys and for something else";
        return Err(CliError::usage(error).hint("name a file for one of them"));
    }
    Ok(())
}

/// What a file with keys holds. It is wiped when it is dropped.
fn read_keys(path: &Path, shown: &str, kind: &str) -> Result<Zeroizing<String>, CliError> {
    let failed = |error: io::Error| CliError::usage(format!("cannot read {shown}: {error}"));
    let mut bytes = Zeroizing::new(Vec::new());
    let source: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(path).map_err(failed)?),
    };
    source.take(KEY_FILE_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.is_empty() {
        return Err(CliError::usage(format!("{shown} is empty, and should hold {kind}"))
            .hint("keys are one a line; bzzz crypto keygen FILE makes a pair"));
    }
    if bytes.len() as u64 > KEY_FILE_MAX {
        return Err(CliError::usage(format!("{shown} is longer than {KEY_FILE_MAX} bytes"))
            .hint("a file with keys is short text, one key a line"));
    }
    if bytes.starts_with(b"age-encryption.org/") || bytes.starts_with(b"-----BEGIN AGE") {
        let error = format!("{shown} is itself encrypted");
        return Err(CliError::usage(error).hint("decrypt it first, with the age tool"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| {
        CliError::usage(format!("{shown} is not text in UTF-8, so it holds no {kind}"))
            .hint("a file with keys is text, one key a line, as bzzz crypto keygen writes it")
    })?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// The keys in a file, one a line; empty lines and lines that begin with `#` do not count.
fn keys_of<K: FromStr<Err = KeyError>>(path: &Path, kind: &str) -> Result<Vec<K>, CliError> {
    refuse_key(path)?;
    let shown = match path.as_os_str() == "-" {
        true => "the standard input".to_owned(),
        false => path.display().to_string(),
    };
    let text = read_keys(path, &shown, kind)?;
    let mut keys = Vec::new();
    // Some editors write a mark of the encoding first.
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = line.parse().map_err(|error: KeyError| {
            CliError::usage(format!("line {} of {shown} is {error}", number + 1))
                .hint(hint_about(&error))
        })?;
        keys.push(key);
        if keys.len() > IDENTITIES_MAX.min(RECIPIENTS_PER_FILE_MAX) {
            return Err(CliError::usage(format!(
                "{shown} holds more than {IDENTITIES_MAX} {kind}"
            )));
        }
    }
    if keys.is_empty() {
        return Err(CliError::usage(format!("{shown} holds no {kind}, only comments"))
            .hint("keys are one a line; bzzz crypto keygen FILE makes a pair"));
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
            refuse_key(path)?;
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
            ("", "is empty, and should hold identities"),
            ("# nothing\n\n", "holds no identities, only comments"),
            ("age1qqqq\n", "line 1 of"),
            ("age-encryption.org/v1\n", "is itself encrypted"),
            (&"#".repeat(70_000), "is longer than"),
        ] {
            let error = keys_of::<Identity>(&file(text), "identities").unwrap_err();
            assert_eq!(error.exit, Exit::Usage);
            assert!(error.message.contains(reason), "{}", error.message);
            assert!(error.hint.is_some(), "{}", error.message);
        }
        let marked = format!("\u{feff}{text}");
        assert_eq!(keys_of::<Identity>(&file(&marked), "identities").unwrap().len(), 2);
        let secret = one.reveal().to_string();
        let error = parse_recipients(std::slice::from_ref(&secret)).unwrap_err();
        assert!(error.message.contains("private key") && !error.message.contains(&secret));
    }

    #[test]
    fn other_keys_are_called_what_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let fails = |error: CliError, message: &str, hint: &str| {
            assert_eq!(error.exit, Exit::Usage, "{}", error.message);
            assert!(error.message.contains(message), "{}", error.message);
            let given = error.hint.unwrap_or_default();
            assert!(given.contains(hint), "{}: {given}", error.message);
            assert!(!format!("{}{given}", error.message).contains("QPZRY"), "a secret is repeated");
        };
        let public = Opener::new([&generate()]).recipients()[0].to_string();
        for (text, message, hint) in [
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nQPZRY\n", "an SSH private key", "the age tool"),
            ("-----BEGIN RSA PRIVATE KEY-----\nQPZRY\n", "key in PEM form", "the age tool"),
            ("AGE-PLUGIN-YUBIKEY-1QPZRY", "private key of the age plugin yubikey", "the age tool"),
            ("AGE-SECRET-KEY-PQ-1QPZRY", "hybrid (post-quantum) private key", "the age tool"),
            (&public, "not an age identity but an age public key", "takes its private key"),
            ("ssh-ed25519 AAAA", "an SSH public key", "the age tool"),
            ("AGE-SECRET-KEY-1QPZRY", "a character of it is missing or wrong", "unchanged"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = keys_of::<Identity>(&path, "identities").unwrap_err();
            assert!(error.message.contains("line 1 of "), "{}", error.message);
            fails(error, message, hint);
        }
        std::fs::write(&path, b"\xff\xfeA\0G\0E\0").unwrap();
        let error = keys_of::<Identity>(&path, "identities").unwrap_err();
        fails(error, "is not text in UTF-8", "one key a line");
        std::fs::write(&path, "AGE-SECRET-KEY-1QPZRY").unwrap();
        let error = keys_of::<Recipient>(&path, "recipients").unwrap_err();
        fails(error, "not an age recipient but an age private key", "stands above it");
        for (text, message, hint) in [
            ("", "it is empty", "age1..."),
            ("age1qqqq", "is missing or wrong", "age1..."),
            ("ssh-rsa AAAA", "but an SSH public key", "the age tool"),
            ("age1pq1qqqq", "but a hybrid (post-quantum) public key", "the age tool"),
            ("AGE-SECRET-KEY-1QPZRY", "that is an age private key; no", "make a new pair"),
            ("AGE-PLUGIN-X-1QPZRY", "private key of the age plugin x; no", "make a new pair"),
            (path.to_str().unwrap(), "not an age recipient", "--recipients-file"),
        ] {
            fails(parse_recipients(&[text.to_owned()]).unwrap_err(), message, hint);
        }
    }

    #[test]
    fn the_standard_input_is_read_once() {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        for (input, keys, is_refused) in [
            (None, &["-"][..], true),
            (Some("-"), &["key", "-"], true),
            (Some("notes"), &["-", "-"], true),
            (Some("notes"), &["key", "-"], false),
            (None, &["key"], false),
            (Some("-"), &[], false),
        ] {
            let refused = refuse_stdin_twice(input.map(Path::new), &paths(keys));
            assert_eq!(refused.is_err(), is_refused, "{input:?} {keys:?}");
        }
    }

    #[test]
    fn a_key_in_place_of_a_file_is_not_repeated() {
        let secret = generate().reveal().to_string();
        let error = keys_of::<Identity>(Path::new(&secret), "identities").unwrap_err();
        assert!(error.message.contains("an age private key where the name of a file should be"));
        assert!(error.exit == Exit::Usage && !error.message.contains(&secret));
        assert!(error.hint.unwrap().contains("make a new pair"));
        let Err(error) = open_both(Some(Path::new(&secret)), None) else { panic!("it was opened") };
        assert!(error.exit == Exit::Usage && !error.message.contains(&secret));
        let public = Opener::new([&generate()]).recipients()[0].to_string();
        let error = keys_of::<Recipient>(Path::new(&public), "recipients").unwrap_err();
        assert!(error.hint.unwrap().contains("--recipient KEY"));
        let error = keys_of::<Recipient>(Path::new("age1.txt"), "recipients").unwrap_err();
        assert!(error.message.contains("cannot read age1.txt"), "{}", error.message);
    }

    #[test]
    fn what_is_no_age_file_or_for_others_says_so_and_what_to_do() {
        let opener = Opener::new([&generate()]);
        let mac = "--- WyJp9F/9FOZh7gJdheq2V0IJcwHgYc8NIVh3ddwhrcM\n0123456789abcdef";
        let of = |recipients: &str| format!("age-encryption.org/v1\n{recipients}{mac}");
        let armored = "-----BEGIN AGE ENCRYPTED FILE-----\n~~~~\n";
        let share = "TEiF0ypqr+bpvcqXNyCVJpL7OuwPdVwPL7KQEbFDOCc";
        let ours = format!("-> X25519 {share}\nhjabGXwSLQ9c3S6Lw2i+S2Tu2fiwQHHslbBN6B41FLE\n");
        for (input, exit, message, hint) in [
            ("", Exit::Failure, "the input is empty", "name the encrypted file"),
            ("hello", Exit::Failure, "not an age file: it is plain text", "name a file"),
            ("\x1f\u{8}", Exit::Failure, "not an age file: it begins with", "name a file"),
            ("BZh9", Exit::Failure, "compressed with bzip2", "decompress it first"),
            ("-----BEGIN PGP MESSAGE-----", Exit::Failure, "an OpenPGP message", "gpg"),
            ("AGE-SECRET-KEY-1QPZRY", Exit::Failure, "it is an age private key", "--identity FILE"),
            (armored, Exit::Failure, "damaged: line 2 of its armour", "copy it again"),
            ("age-encryption.org/v1\r\n", Exit::Failure, "a carriage return", "copy it again"),
            ("age-encryption.org/v2\n", Exit::Failure, "another version", "a newer version"),
            (
                &of("-> ssh-ed25519 a b\nAAAA\n"),
                Exit::Auth,
                "to an SSH key (ssh-ed25519) only",
                "age tool",
            ),
            (&of("-> ssh-rsa a\nAAAA\n"), Exit::Auth, "to an SSH key (ssh-rsa) only", "age tool"),
            (
                &of("-> scrypt a 18\nAAAA\n"),
                Exit::Auth,
                "to a passphrase (scrypt) only",
                "age tool",
            ),
            (
                &of("-> mlkem768x25519 a\nAAAA\n"),
                Exit::Auth,
                "a hybrid (post-quantum) age key",
                "age tool",
            ),
            (&of("-> piv-p256 a b\nAAAA\n"), Exit::Auth, "a YubiKey or another PIV", "age tool"),
            (&of("-> tpm-ecc a b\nAAAA\n"), Exit::Auth, "a TPM (tpm-ecc) only", "age tool"),
            (&of("-> new a b\nAAAA\n"), Exit::Auth, "something unknown here (new)", "age tool"),
            (
                &of(&format!("{ours}-> ssh-rsa a\nAAAA\n")),
                Exit::Auth,
                "encrypted to others (age keys (X25519), an SSH key (ssh-rsa))",
                "--identity FILE",
            ),
        ] {
            let mut plain = Vec::new();
            let error = opener.decrypt_stream(input.as_bytes(), &mut plain).unwrap_err();
            let error = CliError::from(error);
            assert_eq!(error.exit, exit, "{}", error.message);
            assert!(error.message.contains(message), "{}", error.message);
            assert!(!error.message.contains("QPZRY") && plain.is_empty());
            assert!(error.hint.as_deref().unwrap_or_default().contains(hint), "{}", error.message);
        }
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let output = Output::File(path.clone());
        let broken = output.write(|writer| {
            writer.write_all(b"half")?;
            Err(AgeError::Empty)
        });
        assert_eq!(broken.unwrap_err().exit, Exit::Failure);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        let whole = |writer: &mut dyn Write| Ok(writer.write_all(b"whole")?);
        output.write(whole).unwrap();
        let error = output.write(|writer| Ok(writer.write_all(b"other")?)).unwrap_err();
        assert_eq!(error.exit, Exit::Conflict);
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
