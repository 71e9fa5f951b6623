//! Files against the library's own keys, damage, and the life of the pool.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use age::armor::{ArmoredWriter, Format};

use super::*;
use crate::crypto::{Identity, Recipient};

mod inflate;
mod vectors;

const CHUNK: usize = 64 * 1024;
const LENGTHS: [usize; 6] = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 200_000];

fn identities(count: usize) -> (Vec<Identity>, Vec<Recipient>) {
    let identities: Vec<Identity> = (0..count).map(|_| generate()).collect();
    let recipients = Opener::new(&identities).recipients();
    (identities, recipients)
}

fn plain(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

fn sealer() -> Sealer {
    Sealer::new(Arc::new(Pool::start().unwrap()))
}

/// Gives the same bytes over and over, as a device or somebody at the other end of a pipe could.
struct Endless {
    bytes: Vec<u8>,
    at: usize,
}

impl std::io::Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        for byte in buffer.iter_mut() {
            *byte = self.bytes[self.at];
            self.at = (self.at + 1) % self.bytes.len();
        }
        Ok(buffer.len())
    }
}

/// Bytes that an endless input may give before it is refused.
const PATIENCE: u64 = 256 * 1024;

#[test]
fn a_header_that_never_ends_or_has_too_many_parts_is_refused_at_once() {
    let opener = Opener::new([&generate()]);
    let first = "age-encryption.org/v1\n";
    let line = "A".repeat(64) + "\n";
    for (begin, again, reason) in [
        (first.to_owned(), "-> X25519 AAAA\nAAAA\n", "more than 256 recipients"),
        (format!("{first}-> X "), "A", "does not end within 33280 bytes"),
        (format!("{first}-> X\n"), &line, "does not end within 33280 bytes"),
        (first.to_owned(), "\n", "its header is malformed"),
        (format!("{first}-> X\n\n--- "), "A", "does not end within 33280 bytes"),
        (format!("{first}-> X\n\n--- AAAA\n"), "A", "its header is malformed"),
        ("age-encryption.org/v".to_owned(), "1", "its header is malformed"),
    ] {
        let endless = Endless { bytes: again.as_bytes().to_vec(), at: 0 };
        let mut input = begin.as_bytes().chain(endless).take(PATIENCE);
        let error = opener.decrypt_stream(&mut input, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        assert!(input.limit() > PATIENCE / 2, "{error}: it was read for long");

        let mut file = begin.into_bytes();
        file.extend(again.bytes().cycle().take(1 << 20));
        let error = opener.open(&file, 1 << 20).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");

        let mut armor = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor).unwrap();
        armor.write_all(&file).unwrap();
        let armored = armor.finish().unwrap();
        let mut input = armored.as_slice();
        let error = opener.decrypt_stream(&mut input, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains(reason), "armoured: {error}");
        assert!(input.len() > armored.len() / 2, "{error}: it was read for long");
    }
}

#[test]
fn a_line_of_armour_that_never_ends_is_refused_at_once() {
    let opener = Opener::new([&generate()]);
    let begin = b"-----BEGIN AGE ENCRYPTED FILE-----\n";
    let endless = Endless { bytes: b"A".to_vec(), at: 0 };
    let mut input = begin.as_slice().chain(endless).take(PATIENCE);
    let error = opener.decrypt_stream(&mut input, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, AgeError::Damaged(_)), "{error}");
    assert!(error.to_string().contains("a line of its armour"), "{error}");
    assert!(input.limit() > PATIENCE / 2);
}

#[test]
fn as_many_recipients_as_a_file_may_have_can_read_it() {
    let (mine, recipients) = identities(RECIPIENTS_PER_FILE_MAX);
    let opener = Opener::new(&mine[RECIPIENTS_PER_FILE_MAX - 1..]);
    let sealed = sealer().seal(&recipients, b"for all").unwrap();
    assert_eq!(opener.open(&sealed, 100).unwrap(), b"for all");
    for armor in [false, true] {
        let (mut sealed, mut opened) = (Vec::new(), Vec::new());
        encrypt_stream(&recipients, armor, &mut &b"for all"[..], &mut sealed).unwrap();
        opener.decrypt_stream(sealed.as_slice(), &mut opened).unwrap();
        assert_eq!(opened, b"for all");
    }
}

#[test]
fn each_recipient_reads_what_was_sealed_and_nobody_else_does() {
    let (mine, recipients) = identities(5);
    let (others, _) = identities(1);
    let sealer = sealer();
    for length in LENGTHS {
        let sealed = sealer.seal(&recipients, &plain(length)).unwrap();
        for identity in &mine {
            assert_eq!(Opener::new([identity]).open(&sealed, length).unwrap(), plain(length));
        }
        let refused = Opener::new(&others).open(&sealed, length).unwrap_err();
        assert!(matches!(refused, AgeError::NoMatchingIdentity(_)), "{refused}");
    }
}

#[test]
fn the_library_s_own_keys_read_our_files_and_ours_read_theirs() {
    let theirs = age::x25519::Identity::generate();
    let ours = generate();
    let recipient: Recipient = theirs.to_public().to_string().parse().unwrap();
    let sealed = sealer().seal(&[recipient], b"for them").unwrap();
    assert_eq!(age::decrypt(&theirs, &sealed).unwrap(), b"for them");

    let recipient = Opener::new([&ours]).recipients()[0].to_string();
    let recipient: age::x25519::Recipient = recipient.parse().unwrap();
    let sealed = age::encrypt(&recipient, b"for us").unwrap();
    assert_eq!(Opener::new([&ours]).open(&sealed, 100).unwrap(), b"for us");
    use age_core::secrecy::ExposeSecret as _;
    let same: Identity = theirs.to_string().expose_secret().parse().unwrap();
    assert_eq!(Opener::new([&same]).recipients()[0].to_string(), theirs.to_public().to_string());
}

#[test]
fn a_pair_is_used_once_and_the_pool_fills_up_again() {
    let (_, recipients) = identities(2);
    let pool = Pool::start().unwrap();
    pool.keep(recipients.clone());
    let mut seen = std::collections::BTreeSet::new();
    let mut taken = 0;
    while taken < 2_000 {
        if let Some(pair) = pool.take(recipients[0]) {
            let file_key = age_core::format::FileKey::new(Box::new([3; 16]));
            let (stanzas, _) = pair.wrap(&file_key);
            assert!(seen.insert(stanzas[0].args[0].clone()), "a pair came twice");
            taken += 1;
        } else {
            std::thread::yield_now();
        }
    }
    assert!(pool.take(Recipient([9; 32])).is_none(), "nobody told it of this one");
    assert!(pool.ready(recipients[1]) <= 512);
    pool.keep([recipients[1]]);
    assert!(pool.take(recipients[0]).is_none(), "it was told to forget it");
}

#[test]
fn a_recipient_that_nothing_can_be_encrypted_to_is_an_error() {
    let pool = Pool::start().unwrap();
    // Of small order: every exchange with it gives zero.
    let zero = Recipient([0; 32]);
    pool.keep([zero]);
    let sealer = Sealer::new(Arc::new(pool));
    let error = sealer.seal(&[zero], b"x").unwrap_err();
    assert!(matches!(error, AgeError::UnusableRecipient(_)), "{error}");
    assert!(matches!(sealer.seal(&[], b"x").unwrap_err(), AgeError::NoRecipient));
    let many = vec![Recipient([7; 32]); 257];
    assert!(matches!(sealer.seal(&many, b"x").unwrap_err(), AgeError::TooManyRecipients(257)));
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let (mine, recipients) = identities(2);
    let sealed = sealer().seal(&recipients, &plain(300)).unwrap();
    let opener = Opener::new(&mine);
    for at in 0..sealed.len() {
        let mut damaged = sealed.clone();
        damaged[at] ^= 1;
        assert!(opener.open(&damaged, 1_000).is_err(), "byte {at}");
        assert!(opener.open(&sealed[..at], 1_000).is_err(), "cut at {at}");
    }
    let long = opener.open(&sealed, 299).unwrap_err();
    assert!(matches!(long, AgeError::TooLong(299)), "{long}");
}

#[test]
fn streams_pass_in_both_forms() {
    let (mine, recipients) = identities(20);
    for (length, armor) in LENGTHS.into_iter().flat_map(|length| [(length, false), (length, true)])
    {
        let mut sealed = Vec::new();
        encrypt_stream(&recipients, armor, &mut plain(length).as_slice(), &mut sealed).unwrap();
        assert_eq!(sealed.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----"), armor);
        let mut opened = Vec::new();
        Opener::new(&mine[19..]).decrypt_stream(sealed.as_slice(), &mut opened).unwrap();
        assert_eq!(opened, plain(length));

        let cut = &sealed[..sealed.len() - 2];
        let mut opened = Vec::new();
        let error = Opener::new(&mine).decrypt_stream(cut, &mut opened).unwrap_err();
        assert!(matches!(error, AgeError::Damaged(_)), "{error}");
        assert!(plain(length).starts_with(&opened), "only what was authenticated comes out");
        let says =
            if armor { "its armour".to_owned() } else { format!("first {} bytes", opened.len()) };
        assert!(error.to_string().contains(&says), "{error}");
    }
}

#[test]
fn what_is_no_age_file_is_an_error() {
    let (mine, _) = identities(1);
    let opener = Opener::new(&mine);
    let armor = "-----BEGIN AGE ENCRYPTED FILE-----\n";
    for (input, says) in [
        ("", "the input is empty"),
        ("hello", "this is not an age file: it is plain text"),
        ("age-encryption.org/v1\n", "its header is cut short in line 2"),
        ("age-encryption.org/v9\n-> X\n", "of another version of the format than v1"),
        ("age-encryption.org/v1\r\n-> X\r\n", "line 1 has a carriage return"),
        (&format!("{armor}~~~~\n"), "line 2 of its armour is not"),
        (&format!("{armor}aGVsbG8K\n-----END AGE ENCRYPTED FILE-----\n"), "line 1 is not age-enc"),
    ] {
        let error = opener.decrypt_stream(input.as_bytes(), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        let error = opener.open(input.as_bytes(), 1_000).unwrap_err();
        assert!(input.starts_with(armor) || error.to_string().contains(says), "{error}");
    }
    let mut endless = std::io::repeat(b'x').take(3_000_000);
    let error = opener.decrypt_stream(&mut endless, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, AgeError::Foreign(Foreign::Text)), "{error}");
    assert!(endless.limit() > 2_000_000, "it was read for long");
    let passphrase = age::Encryptor::with_user_passphrase("secret".to_owned().into());
    let sealed = passphrase.wrap_output(Vec::new()).unwrap().finish().unwrap();
    let error = opener.open(&sealed, 10).unwrap_err();
    assert!(matches!(error, AgeError::OtherKinds(_)), "{error}");
    assert!(error.to_string().contains("encrypted to a passphrase (scrypt) only"), "{error}");
}
