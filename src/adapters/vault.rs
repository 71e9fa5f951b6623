//! The node's key: an Ed25519 key pair in a file that only its owner can read.
//!
//! Invariants:
//! 1. The key leaves this module only towards the network adapter, and is never printed.
//! 2. A key file exists whole or not at all, and is never written a second time.
//! 3. A key that others can read or that is damaged is refused, never replaced: a new key would be
//!    a new node. Whether one that is gone may be made anew is for those to say who know whether
//!    the node is a member of anything.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use libp2p::identity::{Keypair, ed25519};
use zeroize::Zeroizing;

use super::files;
use crate::crypto::Identity;
use crate::ports::Vault;
use crate::ports::vault::Signature;
use crate::types::{MemberId, PeerId};

/// Name of the key file in the data directory.
pub const KEY_FILE: &str = "node.key";
/// Bytes of a key file at most; an Ed25519 key pair takes 68.
const KEY_FILE_LEN_MAX: u64 = 256;

/// Keeps the key for contents apart from whatever else may be derived from the node's key.
const CONTENT_KEY_CONTEXT: &str = "bzzz node key for contents v1";

/// Why the key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The file cannot be read or written.
    #[error(
        "cannot {action} the key file {path}: {error}; check that the data directory exists and \
         belongs to the user that runs this node"
    )]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// Others than the owner have access to the file.
    #[error(
        "others can access the key file {path} (mode {mode:04o}); run `chmod 600 {path}`, and if \
         somebody may have copied it, remove this node from the cluster and join it with a new \
         data directory"
    )]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file does not hold a key.
    #[error(
        "the key file {path} is damaged: {reason}; restore it from a backup, or join the cluster \
         as a new node with an empty data directory"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is no file where a membership needs one.
    #[error(
        "the key file {path} is gone, and without it this node is not member {member} of cluster \
         {cluster} any more: restore the file from a backup; if there is none, start the node once \
         with --replace-key, beside the flags that found or join a cluster, which moves what is in \
         the data directory aside and makes a new key for a new member"
    )]
    Gone {
        /// The file.
        path: PathBuf,
        /// The member that the data directory belongs to.
        member: MemberId,
        /// Its cluster.
        cluster: String,
    },
}

/// Holds the key of this node.
pub struct KeyVault {
    peer: PeerId,
    signer: ed25519::Keypair,
    /// The same key, for signatures: in aws-lc they take half of the time.
    fast: Ed25519KeyPair,
    keypair: Keypair,
}

impl fmt::Debug for KeyVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyVault({:?})", self.peer)
    }
}

impl KeyVault {
    /// Reads the key in the file at `path`; none if the file does not exist.
    pub fn load(path: &Path) -> Result<Option<Self>, VaultError> {
        match File::open(path) {
            Ok(file) => load(path, file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("open", path)(error)),
        }
    }

    /// Makes a key in a file at `path`.
    pub fn create(path: &Path) -> Result<Self, VaultError> {
        create(path)
    }

    /// Reads the key in the file at `path`, or makes one there if the file does not exist.
    pub fn load_or_create(path: &Path) -> Result<Self, VaultError> {
        Self::load(path)?.map_or_else(|| create(path), Ok)
    }

    /// A key that is in no file.
    pub(crate) fn from_keypair(signer: ed25519::Keypair) -> Self {
        let peer = PeerId(signer.public().to_bytes());
        let secret = signer.secret();
        let fast = Ed25519KeyPair::from_seed_and_public_key(secret.as_ref(), &peer.0)
            .expect("both halves are of one key");
        Self { peer, keypair: Keypair::from(signer.clone()), signer, fast }
    }

    /// The identity that the key stands for.
    pub fn peer_id(&self) -> PeerId {
        self.peer
    }

    /// The node's key for contents, derived from this one.
    pub fn content_identity(&self) -> Identity {
        let secret = self.signer.secret();
        Identity::new(Zeroizing::new(blake3::derive_key(CONTENT_KEY_CONTEXT, secret.as_ref())))
    }

    /// The key, for the handshakes of the network adapter.
    pub(crate) fn keypair(&self) -> &Keypair {
        &self.keypair
    }
}

impl Vault for KeyVault {
    fn sign(&self, domain: &'static str, bytes: &[u8]) -> Signature {
        let signature = self.fast.sign(&message(domain, bytes));
        signature.as_ref().try_into().expect("an ed25519 signature has 64 bytes")
    }

    fn verify(
        &self,
        signer: PeerId,
        domain: &'static str,
        bytes: &[u8],
        signature: &Signature,
    ) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, signer.0);
        key.verify(&message(domain, bytes), signature).is_ok()
    }
}

/// What is signed. The length of the domain keeps `ab` + `c` apart from `a` + `bc`.
fn message(domain: &str, bytes: &[u8]) -> Vec<u8> {
    [&(domain.len() as u32).to_le_bytes(), domain.as_bytes(), bytes].concat()
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> VaultError {
    move |error| VaultError::Io { action, path: path.to_owned(), error }
}

fn load(path: &Path, file: File) -> Result<KeyVault, VaultError> {
    // Asked of the open file, so that it is the one that is read.
    let metadata = file.metadata().map_err(failed("read", path))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(VaultError::Permissions { path: path.to_owned(), mode });
    }
    let malformed = |reason| VaultError::Malformed { path: path.to_owned(), reason };
    let mut bytes = Vec::new();
    file.take(KEY_FILE_LEN_MAX + 1).read_to_end(&mut bytes).map_err(failed("read", path))?;
    if bytes.is_empty() {
        return Err(malformed("it is empty"));
    }
    if bytes.len() as u64 > KEY_FILE_LEN_MAX {
        return Err(malformed("it is too long"));
    }
    let keypair = Keypair::from_protobuf_encoding(&bytes)
        .map_err(|_| malformed("it does not hold a key pair"))?;
    let signer = keypair.try_into_ed25519().map_err(|_| malformed("its key is not ed25519"))?;
    Ok(KeyVault::from_keypair(signer))
}

fn create(path: &Path) -> Result<KeyVault, VaultError> {
    let vault = KeyVault::from_keypair(ed25519::Keypair::generate());
    let bytes = vault.keypair.to_protobuf_encoding().expect("an ed25519 key pair has an encoding");
    files::replace(path, &bytes).map_err(failed("create", path))?;
    Ok(vault)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(KEY_FILE);
        let made = KeyVault::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let found = KeyVault::load_or_create(&path).unwrap();
        assert_eq!(made.peer_id(), found.peer_id());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert_eq!(made.keypair().public().to_peer_id().to_string(), made.peer_id().to_string());
    }

    #[test]
    fn errors_say_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(KEY_FILE);
        KeyVault::load_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = KeyVault::load_or_create(&path).unwrap_err().to_string();
        assert!(error.contains("mode 0640") && error.contains("chmod 600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let whole = fs::read(&path).unwrap();
        let mut damages = vec![Vec::new(), vec![1, 2, 3], vec![8; 1000]];
        damages.push(whole[..whole.len() / 2].to_vec());
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            damages.push(flipped);
        }
        for damage in damages {
            fs::write(&path, &damage).unwrap();
            let error = KeyVault::load_or_create(&path).unwrap_err().to_string();
            assert!(error.contains("is damaged") && error.contains("backup"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), damage, "it is left as it is");
        }
        fs::remove_file(&path).unwrap();
        assert!(KeyVault::load(&path).unwrap().is_none());
        assert!(!path.exists());
        let error = KeyVault::load_or_create(&directory.path().join("no/key")).unwrap_err();
        assert!(error.to_string().contains("data directory"), "{error}");
    }

    #[test]
    fn a_signature_holds_for_its_signer_domain_and_bytes_only() {
        let vault = KeyVault::from_keypair(ed25519::Keypair::generate());
        let other = KeyVault::from_keypair(ed25519::Keypair::generate());
        let signature = vault.sign("ab", b"c");
        assert!(other.verify(vault.peer_id(), "ab", b"c", &signature));
        assert_eq!(vault.signer.sign(&message("ab", b"c")), signature, "RFC 8032 leaves no choice");
        assert!(!other.verify(vault.peer_id(), "a", b"bc", &signature));
        assert!(!other.verify(vault.peer_id(), "ab", b"d", &signature));
        assert!(!other.verify(other.peer_id(), "ab", b"c", &signature));
        assert!(!other.verify(PeerId([255; 32]), "ab", b"c", &signature));
    }
}
