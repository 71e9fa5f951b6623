//! Encrypting and decrypting whole files.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::sync::Arc;

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age_core::format::{FileKey, Stanza};

use super::Pool;
use super::exchange::{Pair, Unwrapper};
use crate::crypto::{Identity, Recipient};

/// Recipients of one file at most.
pub const RECIPIENTS_PER_FILE_MAX: usize = 256;

/// How the last line of a header begins.
const HEADER_END: &[u8] = b"\n--- ";
/// How a stanza begins.
const STANZA: &[u8] = b"\n-> ";
/// Bytes of a header of a file in memory: an X25519 stanza takes 98.
const HEADER_LEN_MAX: usize = 512 + 128 * RECIPIENTS_PER_FILE_MAX;

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
        let head = &sealed[..sealed.len().min(HEADER_LEN_MAX)];
        let end = head.windows(HEADER_END.len()).position(|bytes| bytes == HEADER_END);
        let stanzas =
            |end: usize| head[..end].windows(STANZA.len()).filter(|bytes| *bytes == STANZA).count();
        if end.is_none_or(|end| stanzas(end) > RECIPIENTS_PER_FILE_MAX) {
            return Err(AgeError::Damaged("its header does not end, or has too many parts".into()));
        }
        let mut plain = Vec::with_capacity(sealed.len().min(limit));
        let reader = self.reader(age::Decryptor::new_buffered(sealed)?)?;
        reader.take(limit as u64 + 1).read_to_end(&mut plain).map_err(damage_in)?;
        if plain.len() > limit { Err(AgeError::TooLong(limit)) } else { Ok(plain) }
    }

    /// Decrypts a stream to a stream, armoured or not. On an error `output` holds the beginning of
    /// the file, up to the damage.
    pub fn decrypt_stream(
        &self,
        input: impl Read,
        output: &mut impl Write,
    ) -> Result<(), AgeError> {
        let input = ArmoredReader::new(io::BufReader::new(input));
        let mut reader = self.reader(age::Decryptor::new(input)?)?;
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
