//! What a data directory holds that must not be replaced by accident: its key, and the records.
//!
//! Problem: a key that is gone looks like a first start. With a new key the node would be nobody
//! that the cluster knows, and the old one could not be put back any more without a doubt which is
//! right.
//!
//! Flow: lock -> membership -> key. A key that is gone or damaged is made anew only where there is
//! no membership, or where somebody says so: with a flag, or on a terminal. Whatever belongs to the
//! member that is given up then goes into a directory of its own. A start that has made a key and
//! fails removes it again: an image of a machine that was never a member must not carry a key,
//! which all that are made from it would have. One that was found is never removed.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Handle;

use super::RunError;
use super::args::RunArgs;
use super::data_dir::DataDir;
use super::origin::OriginError;
use crate::adapters::clock::SystemClock;
use crate::adapters::journal::FileJournals;
use crate::adapters::records::FjallStores;
use crate::adapters::vault::{KeyVault, VaultError};
use crate::node::{self, Membership, Origin};
use crate::ports::Clock;

/// A data directory that this process has locked.
pub struct Held {
    /// Its journals.
    pub journals: FileJournals,
    /// Its key.
    pub vault: KeyVault,
    /// The membership in it.
    pub membership: Option<Membership>,
    /// Its key, if that is new.
    pub fresh_key: FreshKey,
}

/// A key that this start has made, if it has. It is removed with this value.
pub struct FreshKey(Option<PathBuf>);

impl FreshKey {
    /// The same, unless the key has to stay: something is about to depend on it.
    pub fn unless(mut self, stays: bool) -> Self {
        self.0 = self.0.take().filter(|_| !stays);
        self
    }

    /// Leaves it to others to remove the key.
    pub fn release(mut self) -> Option<PathBuf> {
        self.0.take()
    }
}

impl Drop for FreshKey {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            remove_key(&path);
        }
    }
}

/// Removes a key that this start has made and that nobody knows.
pub fn remove_key(path: &Path) {
    let key = path.display();
    match fs::remove_file(path) {
        Ok(()) => tracing::info!(%key, "removed the key that this start has made"),
        Err(error) => tracing::warn!(
            %key, %error, "cannot remove the key that this start has made; remove it before this machine is copied"
        ),
    }
}

/// Takes the directory, and finds its key or makes one.
pub fn take(
    dir: &DataDir,
    args: &RunArgs,
    wanted: &Result<Origin, OriginError>,
) -> Result<Held, RunError> {
    let journals = FileJournals::open(dir.path())?;
    let membership = node::membership(&journals)?;
    let path = dir.key();
    let problem = match KeyVault::load(&path) {
        Ok(Some(vault)) => {
            return Ok(Held { journals, vault, membership, fresh_key: FreshKey(None) });
        }
        Ok(None) => match &membership {
            Some(Membership { identity, .. }) => {
                let (member, cluster) = (identity.member, identity.cluster_name.clone());
                VaultError::Gone { path: path.clone(), member, cluster }
            }
            None => {
                let vault = KeyVault::create(&path)?;
                let fresh_key = FreshKey(Some(path));
                return Ok(Held { journals, vault, membership: None, fresh_key });
            }
        },
        Err(error @ VaultError::Malformed { .. }) => error,
        Err(error) => return Err(error.into()),
    };
    // Without a way to a new membership there is nothing to be gained.
    let finds_another = matches!(wanted, Ok(Origin::Found { .. } | Origin::Join { .. }));
    if !finds_another || !(args.replace_key || is_agreed_to(&problem)) {
        return Err(problem.into());
    }
    drop(journals);
    let former = dir.set_aside(SystemClock::start(Handle::current()).wall())?;
    tracing::warn!(
        former = %former.display(),
        "made a new key; what belongs to the former member was moved into a directory of its own"
    );
    let journals = FileJournals::open(dir.path())?;
    let vault = KeyVault::create(&path)?;
    Ok(Held { journals, vault, membership: None, fresh_key: FreshKey(Some(path)) })
}

/// Asks whether the key is to be replaced, where somebody can answer.
fn is_agreed_to(problem: &VaultError) -> bool {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return false;
    }
    let question = "move what is there aside, and make a new key for a new member? [y/N] ";
    let asked = write!(io::stderr(), "bzzz: {problem}\n{question}");
    let mut line = String::new();
    asked.is_ok()
        && io::stdin().read_line(&mut line).is_ok()
        && matches!(line.trim(), "y" | "Y" | "yes")
}

/// Opens the record store of the directory. Where there is no other member, what is missing in it
/// can be had from nobody, and has to be given up by somebody. To look at a large one, or to save
/// what can be read of a damaged one, takes minutes; whoever does not wait for the end leaves
/// nothing behind that the next start could not go on from.
pub async fn records(
    dir: &DataDir,
    journals: &Arc<FileJournals>,
    membership: Option<&Membership>,
    given_up: bool,
) -> Result<FjallStores, RunError> {
    let stores = FjallStores::new(&dir.path().join("records"), membership.is_some());
    let stores = stores.giving_up(given_up);
    let has_others = membership.is_some_and(|membership| membership.others > 0);
    let stores = if has_others { stores } else { stores.without_copies(given_up) };
    // Nobody else may take the directory while this goes on, also if nobody waits for it any more.
    let locked = journals.clone();
    let prepared = tokio::task::spawn_blocking(move || {
        let prepared = stores.prepare().map(|()| stores);
        drop(locked);
        prepared
    });
    let prepared = prepared.await.map_err(io::Error::other);
    Ok(prepared.map_err(|error| RunError::System("open the record store", error))??)
}
