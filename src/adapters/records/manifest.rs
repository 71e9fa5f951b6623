//! Looks at fjall's tables before fjall does.
//!
//! Problem: fjall takes what its directory does not lead to for the rest of an interrupted work. It
//! deletes a keyspace without `current`, or all of them if the one that names them has none; it
//! leaves out large values whose files are gone, and does not compare the checksums of whole files
//! at all.
//!
//! Every directory `keyspaces/N` has a file `current`: version u64, xxh3-128 of the file `vN` of
//! that version, `00`; all little-endian. That one ends with a list of its sections and where the
//! list begins; the section `tables` has for each level for each run the tables (count u32; number
//! u64, `00`, xxh3-128 of the file `tables/N`, u64), and `blob_files` the files of large values
//! (count u32; number u64, `00`, xxh3-128 of the file `blobs/N`). Read off lsm-tree 3.1; the crate
//! above it is pinned, and a test here reads what it writes.
//!
//! Invariants:
//! 1. Nothing is written here but for `lead_to`.
//! 2. What this lets pass leads to files that are there, and if there are few bytes of them, or it
//!    was asked for, to the bytes that were written.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::damage::{Damage, foreign};

/// The keyspace that names the others, and ours.
const KEYSPACES: usize = 3;
/// Bytes of a `current`.
const CURRENT_LEN: usize = 25;
/// Bytes behind the list of sections.
const TRAILER_LEN: usize = 38;
/// Bytes of a manifest at most; a table takes 33 of them.
const MANIFEST_LEN_MAX: u64 = 16 * 1024 * 1024;
/// Bytes of tables and large values that are read at every start: a blink of an eye.
const READ_ALWAYS: u64 = 64 * 1024 * 1024;

/// A file and what it was when it was written.
struct Listed {
    path: PathBuf,
    checksum: u128,
}

/// Reads numbers off bytes.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, bytes: usize) -> Option<u128> {
        let bytes = self.bytes(bytes)?;
        Some(bytes.iter().rev().fold(0, |value, byte| (value << 8) | u128::from(*byte)))
    }

    fn short(&mut self, bytes: usize) -> Option<u64> {
        self.number(bytes).and_then(|number| u64::try_from(number).ok())
    }
}

/// The names of the sections of a manifest, and what stands in them, in order.
fn sections(manifest: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let (body, trailer) = manifest.split_at_checked(manifest.len().checked_sub(TRAILER_LEN)?)?;
    let mut trailer = Cursor(trailer);
    if trailer.bytes(4)? != b"SFA!" {
        return None;
    }
    trailer.bytes(2 + 16)?;
    let mut list = Cursor(body.get(usize::try_from(trailer.short(8)?).ok()?..)?);
    if list.bytes(4)? != b"TOC!" {
        return None;
    }
    let mut found = Vec::new();
    for _ in 0..list.short(4)? {
        let (at, length, name_length) = (list.short(8)?, list.short(8)?, list.short(2)?);
        let name = list.bytes(usize::try_from(name_length).ok()?)?;
        let (at, length) = (usize::try_from(at).ok()?, usize::try_from(length).ok()?);
        found.push((name, body.get(at..at.checked_add(length)?)?));
    }
    Some(found)
}

/// The section of a manifest with this name.
fn section<'a>(manifest: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    sections(manifest)?.into_iter().find(|(found, _)| *found == name).map(|(_, bytes)| bytes)
}

/// A manifest like this one that leads to one table, or none, and to these files of large values.
/// What the library does not compare, such as the checksums of files, is left at zero.
fn leading_to(manifest: &[u8], table: Option<u64>, blobs: &BTreeSet<u64>) -> Option<Vec<u8>> {
    let levels = *section(manifest, b"tables")?.first()?;
    let mut tables = vec![levels];
    if let Some(number) = table {
        tables.extend([&[1][..], &1_u32.to_le_bytes(), &number.to_le_bytes(), &[0; 25]].concat());
    } else {
        tables.push(0);
    }
    tables.resize(tables.len() + usize::from(levels).checked_sub(1)?, 0);
    let mut files = u32::try_from(blobs.len()).ok()?.to_le_bytes().to_vec();
    blobs.iter().for_each(|number| files.extend([&number.to_le_bytes()[..], &[0; 17]].concat()));
    let (mut image, mut list, mut count) = (Vec::new(), Vec::new(), 0_u32);
    for (name, bytes) in sections(manifest)? {
        let bytes = match name {
            b"tables" => &tables,
            b"blob_files" => &files,
            _ => bytes,
        };
        list.extend((image.len() as u64).to_le_bytes());
        list.extend((bytes.len() as u64).to_le_bytes());
        list.extend(u16::try_from(name.len()).ok()?.to_le_bytes());
        list.extend(name);
        image.extend(bytes);
        count += 1;
    }
    let (at, list) = (image.len() as u64, [&b"TOC!"[..], &count.to_le_bytes(), &list].concat());
    image.extend(&list);
    image.extend([&b"SFA!\x01\0"[..], &xxh3_128(&list).to_le_bytes()].concat());
    image.extend([at.to_le_bytes(), (list.len() as u64).to_le_bytes()].concat());
    Some(image)
}

/// Has a keyspace of a database that is closed lead to one table, or none, and to these files of
/// large values. That it is not on disk by then does no harm: such a database is thrown away.
pub(super) fn lead_to(
    keyspace: &Path,
    table: Option<u64>,
    blobs: &BTreeSet<u64>,
) -> io::Result<()> {
    let malformed = || io::Error::other("the library writes its files in another way");
    let current = fs::read(keyspace.join("current"))?;
    let version = Cursor(&current).short(8).ok_or_else(malformed)?;
    let path = keyspace.join(format!("v{version}"));
    let image = leading_to(&fs::read(&path)?, table, blobs).ok_or_else(malformed)?;
    fs::write(&path, &image)?;
    let checksum = xxh3_128(&image).to_le_bytes();
    fs::write(keyspace.join("current"), [&version.to_le_bytes()[..], &checksum, &[0]].concat())
}

/// The files that a manifest leads to.
fn listed(keyspace: &Path, manifest: &[u8]) -> Option<Vec<Listed>> {
    let mut files = Vec::new();
    let mut tables = Cursor(section(manifest, b"tables")?);
    for _ in 0..tables.short(1)? {
        for _ in 0..tables.short(1)? {
            for _ in 0..tables.short(4)? {
                let (number, _) = (tables.short(8)?, tables.short(1)?);
                let path = keyspace.join("tables").join(number.to_string());
                files.push(Listed { path, checksum: tables.number(16)? });
                tables.short(8)?;
            }
        }
    }
    let mut blobs = Cursor(section(manifest, b"blob_files")?);
    for _ in 0..blobs.short(4)? {
        let (number, _) = (blobs.short(8)?, blobs.short(1)?);
        let path = keyspace.join("blobs").join(number.to_string());
        files.push(Listed { path, checksum: blobs.number(16)? });
    }
    Some(files)
}

/// A file of a store, as a message names it.
fn name(dir: &Path, path: &Path) -> String {
    path.strip_prefix(dir).unwrap_or(path).display().to_string()
}

/// A small file, none if it is not there.
fn small(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MANIFEST_LEN_MAX).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// The files that a keyspace consists of, or what is wrong with the way to them.
fn files(dir: &Path, keyspace: &Path) -> io::Result<Result<Vec<Listed>, Damage>> {
    let path = keyspace.join("current");
    let Some(current) = small(&path)? else { return Ok(Err(Damage::Missing(name(dir, &path)))) };
    let mut fields = Cursor(&current);
    let (version, checksum) = match (fields.short(8), fields.number(16), fields.short(1)) {
        (Some(version), Some(checksum), Some(0)) if current.len() == CURRENT_LEN => {
            (version, checksum)
        }
        _ => return Ok(Err(Damage::Directory(name(dir, &path)))),
    };
    // A damaged `current` may also name one that there never was.
    let manifest_path = keyspace.join(format!("v{version}"));
    let Some(manifest) = small(&manifest_path)? else {
        return Ok(Err(Damage::Missing(name(dir, &manifest_path))));
    };
    if xxh3_128(&manifest) != checksum {
        return Ok(Err(Damage::Directory(name(dir, &manifest_path))));
    }
    let files = listed(keyspace, &manifest);
    Ok(files.ok_or_else(|| Damage::Directory(name(dir, &manifest_path))))
}

fn checksum(path: &Path) -> io::Result<u128> {
    let (mut file, mut hash, mut buffer) = (File::open(path)?, Xxh3::new(), vec![0; 256 * 1024]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.digest128()),
            length => hash.update(&buffer[..length]),
        }
    }
}

/// The directories of the keyspaces of a database.
pub(super) fn keyspaces(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir.join("keyspaces")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        // The library passes over these.
        if entry.file_type()?.is_file() {
            continue;
        }
        let is_number = entry.file_name().to_str().is_some_and(|name| name.parse::<u64>().is_ok());
        if !is_number || !entry.file_type()?.is_dir() {
            return Err(foreign(&entry.path()));
        }
        found.push(entry.path());
    }
    found.sort();
    Ok(found)
}

/// What is wrong with the tables of a database. All of them are read if there are few bytes of
/// them, or `everything` is.
pub(super) fn check(dir: &Path, everything: bool) -> io::Result<Option<Damage>> {
    let keyspaces = keyspaces(dir)?;
    if keyspaces.len() < KEYSPACES {
        return Ok(Some(Damage::Missing("keyspaces".to_owned())));
    }
    let (mut all, mut bytes) = (Vec::new(), 0_u64);
    for keyspace in &keyspaces {
        match files(dir, keyspace)? {
            Ok(files) => all.extend(files),
            Err(damage) => return Ok(Some(damage)),
        }
    }
    for Listed { path, .. } in &all {
        match fs::metadata(path) {
            Ok(metadata) => bytes = bytes.saturating_add(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Some(Damage::Missing(name(dir, path))));
            }
            Err(error) => return Err(error),
        }
    }
    if everything && bytes > READ_ALWAYS {
        let (dir, mebibytes) = (dir.display(), bytes >> 20);
        tracing::info!(%dir, mebibytes, "reading all of the record store, which takes a while");
    }
    if everything || bytes <= READ_ALWAYS {
        for file in &all {
            let is_as_written = match checksum(&file.path) {
                Ok(checksum) => checksum == file.checksum,
                // The disk itself has noticed.
                Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => false,
                Err(error) => return Err(error),
            };
            if !is_as_written {
                return Ok(Some(Damage::Changed(name(dir, &file.path))));
            }
        }
    }
    Ok(None)
}
