//! Encrypting and decrypting whole files.

use std::collections::HashSet;
use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age_core::format::{FileKey, Stanza};

use super::Pool;
use super::exchange::{Pair, Unwrapper};
use crate::crypto::{Identity, Recipient};

/// Recipients of one file at most.
pub const RECIPIENTS_PER_FILE_MAX: usize = 256;

/// The first line of a file of the one version that is read.
const FIRST_LINE: &[u8] = b"age-encryption.org/v1\n";
/// How the last line of a header begins.
const LAST_LINE: &[u8] = b"--- ";
/// Bytes of the last line of a header: its beginning, 32 bytes in base64, and its end.
const LAST_LINE_LEN: usize = LAST_LINE.len() + 43 + 1;
/// How a stanza begins.
const STANZA: &[u8] = b"-> ";
/// Stanzas of one file at most: one for each recipient, and one that means nothing, which libraries
/// add so that readers get used to stanzas that they do not know.
const STANZAS_MAX: usize = RECIPIENTS_PER_FILE_MAX + 1;
/// Bytes of a header: an X25519 stanza takes 98.
const HEADER_LEN_MAX: usize = 512 + 128 * RECIPIENTS_PER_FILE_MAX;
/// Bytes of one line of an armoured file. Its own have 64; white space may follow the last one.
const ARMOR_LINE_MAX: usize = 4 * 1024;

/// Why something was not encrypted or decrypted.
#[derive(Debug, thiserror::Error)]
pub enum AgeError {
    /// There is nobody to encrypt to.
    #[error("there is no recipient; name at least one")]
    NoRecipient,
    /// More recipients than a file may have.
    #[error("{0} recipients are more than the {RECIPIENTS_PER_FILE_MAX} that a file may have")]
    TooManyRecipients(usize),
    /// A recipient that nothing can be encrypted to.
    #[error("nothing can be encrypted to {0}: it is no valid public key")]
    UnusableRecipient(Recipient),
    /// None of the identities is for this file.
    #[error("none of the identities fits: the file was encrypted to others")]
    NoMatchingIdentity,
    /// The file is not what it should be.
    #[error("this is not an age file, or it is damaged: {0}")]
    Damaged(String),
    /// The file is encrypted with a passphrase.
    #[error("the file is encrypted with a passphrase; decrypt it with the age tool")]
    Passphrase,
    /// It is longer than whoever asked would take.
    #[error("what is in the file is longer than the {0} bytes allowed")]
    TooLong(usize),
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<age::EncryptError> for AgeError {
    fn from(error: age::EncryptError) -> Self {
        match error {
            age::EncryptError::Io(error) => Self::Io(error),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<age::DecryptError> for AgeError {
    fn from(error: age::DecryptError) -> Self {
        match error {
            age::DecryptError::NoMatchingKeys => Self::NoMatchingIdentity,
            age::DecryptError::InvalidHeader => Self::Damaged("its header is malformed".into()),
            age::DecryptError::InvalidMac => Self::Damaged("its header was altered".into()),
            age::DecryptError::Io(error) => damage_in(error),
            other => Self::Damaged(other.to_string()),
        }
    }
}

/// The library reports what is wrong with a file as errors of reading it.
fn damage_in(error: io::Error) -> AgeError {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            AgeError::Damaged(error.to_string())
        }
        _ => AgeError::Io(error),
    }
}

/// One recipient of one file, with the pair that wraps for it.
struct Wrapper(std::cell::RefCell<Option<Pair>>);

impl age::Recipient for Wrapper {
    fn wrap_file_key(
        &self,
        file_key: &FileKey,
    ) -> Result<(Vec<Stanza>, HashSet<String>), age::EncryptError> {
        let pair = self.0.borrow_mut().take();
        let spent = || io::Error::other("a pair wraps one file key only");
        pair.map(|pair| pair.wrap(file_key)).ok_or_else(|| spent().into())
    }
}

fn encryptor(
    recipients: &[Recipient],
    take: impl Fn(Recipient) -> Option<Pair>,
) -> Result<age::Encryptor, AgeError> {
    if recipients.is_empty() {
        return Err(AgeError::NoRecipient);
    }
    if recipients.len() > RECIPIENTS_PER_FILE_MAX {
        return Err(AgeError::TooManyRecipients(recipients.len()));
    }
    let wrappers: Vec<Wrapper> = recipients
        .iter()
        .map(|recipient| {
            let pair = take(*recipient).or_else(|| Pair::make(*recipient));
            let pair = pair.ok_or(AgeError::UnusableRecipient(*recipient))?;
            Ok(Wrapper(std::cell::RefCell::new(Some(pair))))
        })
        .collect::<Result<_, AgeError>>()?;
    let wrappers = wrappers.iter().map(|wrapper| wrapper as &dyn age::Recipient);
    Ok(age::Encryptor::with_recipients(wrappers)?)
}

/// Encrypts what is in memory, with pairs out of a pool.
#[derive(Clone, Debug)]
pub struct Sealer {
    pool: Arc<Pool>,
}

impl Sealer {
    /// Takes its pairs from this pool.
    pub fn new(pool: Arc<Pool>) -> Self {
        Self { pool }
    }

    /// An age file that each of the recipients can read.
    pub fn seal(&self, recipients: &[Recipient], plain: &[u8]) -> Result<Vec<u8>, AgeError> {
        let encryptor = encryptor(recipients, |recipient| self.pool.take(recipient))?;
        // Header, nonce, and a tag for each chunk of 64 KiB.
        let room = 200 + 112 * recipients.len() + plain.len() + plain.len() / 4_096;
        let mut writer = encryptor.wrap_output(Vec::with_capacity(room))?;
        writer.write_all(plain)?;
        Ok(writer.finish()?)
    }
}

/// Encrypts a stream to a stream, as text if `armor`. Takes as much memory as a chunk.
pub fn encrypt_stream(
    recipients: &[Recipient],
    armor: bool,
    input: &mut impl Read,
    output: impl Write,
) -> Result<(), AgeError> {
    let encryptor = encryptor(recipients, |_| None)?;
    let format = if armor { Format::AsciiArmor } else { Format::Binary };
    let mut writer = encryptor.wrap_output(ArmoredWriter::wrap_output(output, format)?)?;
    io::copy(input, &mut writer)?;
    writer.finish()?.finish()?.flush()?;
    Ok(())
}

/// An input that may be armoured. The library keeps a line of armour until it ends; here the input
/// fails where one is too long.
struct Lines<R> {
    input: R,
    /// Whether it is armoured, which the first byte tells: files that are not begin with an `a`.
    is_armored: Option<bool>,
    /// Bytes of the line that has not ended yet.
    length: usize,
}

impl<R: Read> Read for Lines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        let bytes = &buffer[..count];
        self.is_armored = self.is_armored.or(bytes.first().map(|first| *first == b'-'));
        if self.is_armored != Some(true) {
            return Ok(count);
        }
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.length += line.len();
            if self.length > ARMOR_LINE_MAX {
                let reason = format!("a line of its armour is over {ARMOR_LINE_MAX} bytes long");
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
            if line.ends_with(b"\n") {
                self.length = 0;
            }
        }
        Ok(count)
    }
}

/// Reads the header of a file and nothing behind it. The library parses a header anew for each line
/// of it, however many there are, so it gets none that is longer than a header may be. What ends
/// early, or is of another version, is left to the library: it needs no more to say what is wrong.
fn read_header(input: &mut impl BufRead) -> Result<Vec<u8>, AgeError> {
    let malformed = || AgeError::Damaged("its header is malformed".into());
    let (mut header, mut stanzas) = (Vec::new(), 0);
    let mut bounded = input.take(HEADER_LEN_MAX as u64);
    loop {
        let begin = header.len();
        bounded.read_until(b'\n', &mut header).map_err(damage_in)?;
        let line = &header[begin..];
        if !line.ends_with(b"\n") {
            if bounded.limit() > 0 {
                return Ok(header);
            }
            let reason = format!("its header does not end within {HEADER_LEN_MAX} bytes");
            let is_header = header.starts_with(FIRST_LINE);
            return Err(if is_header { AgeError::Damaged(reason) } else { malformed() });
        }
        if begin == 0 && line != FIRST_LINE {
            return Ok(header);
        }
        if line.starts_with(LAST_LINE) {
            return if line.len() == LAST_LINE_LEN { Ok(header) } else { Err(malformed()) };
        }
        stanzas += usize::from(line.starts_with(STANZA));
        if stanzas > STANZAS_MAX {
            let reason =
                format!("its header is for more than {RECIPIENTS_PER_FILE_MAX} recipients");
            return Err(AgeError::Damaged(reason));
        }
    }
}

/// Decrypts with a set of identities.
pub struct Opener {
    unwrappers: Vec<Unwrapper>,
}

impl Opener {
    /// Tries these identities, in this order.
    pub fn new<'a>(identities: impl IntoIterator<Item = &'a Identity>) -> Self {
        Self { unwrappers: identities.into_iter().map(Unwrapper::new).collect() }
    }

    /// The public halves of the identities.
    pub fn recipients(&self) -> Vec<Recipient> {
        self.unwrappers.iter().map(Unwrapper::recipient).collect()
    }

    fn reader<R: Read>(
        &self,
        decryptor: age::Decryptor<R>,
    ) -> Result<impl Read + use<R>, AgeError> {
        if decryptor.is_scrypt() {
            return Err(AgeError::Passphrase);
        }
        let identities = self.unwrappers.iter().map(|unwrapper| unwrapper as &dyn age::Identity);
        Ok(decryptor.decrypt(identities)?)
    }

    /// Decrypts what is in memory. More than `limit` bytes are an error, found before they are
    /// kept, and so is a header for more than `RECIPIENTS_PER_FILE_MAX`: it takes long to parse and
    /// to try.
    pub fn open(&self, sealed: &[u8], limit: usize) -> Result<Vec<u8>, AgeError> {
        let mut input = sealed;
        read_header(&mut input)?;
        let mut plain = Vec::with_capacity(sealed.len().min(limit));
        let reader = self.reader(age::Decryptor::new_buffered(sealed)?)?;
        reader.take(limit as u64 + 1).read_to_end(&mut plain).map_err(damage_in)?;
        if plain.len() > limit { Err(AgeError::TooLong(limit)) } else { Ok(plain) }
    }

    /// Decrypts a stream to a stream, armoured or not; its header is bounded as that of a file in
    /// memory is. On an error `output` holds the beginning of the file, up to the damage.
    pub fn decrypt_stream(
        &self,
        input: impl Read,
        output: &mut impl Write,
    ) -> Result<(), AgeError> {
        let mut input = ArmoredReader::new(Lines { input, is_armored: None, length: 0 });
        let header = read_header(&mut input)?;
        let input = io::Cursor::new(header).chain(input);
        let mut reader = self.reader(age::Decryptor::new_buffered(input)?)?;
        let mut chunk = vec![0; 64 * 1024];
        loop {
            // Only an error of reading can be damage.
            let count = match reader.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(damage_in(error)),
            };
            output.write_all(&chunk[..count])?;
        }
        output.flush()?;
        Ok(())
    }
}
