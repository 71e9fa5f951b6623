//! Encrypting and decrypting whole files.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::Arc;

use age::armor::{ArmoredWriter, Format};
use age_core::format::{FileKey, Stanza};
use zeroize::Zeroizing;

use super::armor::Armor;
use super::error::{AgeError, Damage, refused, unreadable};
use super::exchange::{Pair, Unwrapper};
use super::foreign::{BEGIN_LEN, Form, form};
use super::{Pool, RECIPIENTS_PER_FILE_MAX, header};
use crate::crypto::{Identity, Recipient};

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

    fn reader<R: BufRead>(&self, file: R, header: &[u8]) -> Result<impl Read + use<R>, AgeError> {
        let refused = |error| refused(error, header);
        let decryptor = age::Decryptor::new_buffered(file).map_err(refused)?;
        let identities = self.unwrappers.iter().map(|unwrapper| unwrapper as &dyn age::Identity);
        decryptor.decrypt(identities).map_err(refused)
    }

    /// Decrypts what is in memory, in binary form. More than `limit` bytes are an error, found
    /// before they are kept, and so is a header for more than `RECIPIENTS_PER_FILE_MAX`: it takes
    /// long to parse and to try.
    pub fn open(&self, sealed: &[u8], limit: usize) -> Result<Vec<u8>, AgeError> {
        form(&sealed[..sealed.len().min(BEGIN_LEN)])?;
        let header = header::read(&mut &*sealed)?;
        let mut plain = Vec::with_capacity(sealed.len().min(limit));
        let mut reader = self.reader(sealed, &header)?.take(limit as u64 + 1);
        let read = reader.read_to_end(&mut plain);
        read.map_err(|error| unreadable(error, Damage::Payload(plain.len() as u64)))?;
        if plain.len() > limit { Err(AgeError::TooLong(limit)) } else { Ok(plain) }
    }

    /// Decrypts a stream to a stream, armoured or not; its header is bounded as that of a file in
    /// memory is. On an error `output` holds the beginning of the file, up to the damage.
    pub fn decrypt_stream(
        &self,
        mut input: impl Read,
        output: &mut impl Write,
    ) -> Result<(), AgeError> {
        // It may turn out to be a key.
        let mut begin = Zeroizing::new(Vec::with_capacity(BEGIN_LEN));
        input.by_ref().take(BEGIN_LEN as u64).read_to_end(&mut begin)?;
        let form = form(&begin)?;
        let input = BufReader::new(begin.as_slice().chain(input));
        match form {
            Form::Binary => self.decrypt(input, output),
            Form::Armored => self.decrypt(BufReader::new(Armor::new(input)), output),
        }
    }

    fn decrypt(&self, mut input: impl BufRead, output: &mut impl Write) -> Result<(), AgeError> {
        let header = header::read(&mut input)?;
        let mut reader = self.reader(header.as_slice().chain(input), &header)?;
        let (mut chunk, mut written) = (vec![0; 64 * 1024], 0);
        loop {
            // Only an error of reading can be damage.
            let count = match reader.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(error, Damage::Payload(written))),
            };
            output.write_all(&chunk[..count])?;
            written += count as u64;
        }
        output.flush()?;
        Ok(())
    }
}
