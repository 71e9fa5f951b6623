//! Commands about the cluster itself.

use serde::{Deserialize, Serialize};

use super::PartCommand;
use super::roster::Candidate;
use crate::types::ClusterId;
use crate::types::role::Roles;

/// A change of the state of this part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterCommand {
    /// Makes the cluster; only the first one does anything.
    Found {
        /// The new cluster's id.
        cluster: ClusterId,
        /// Its name.
        name: String,
        /// Its first member.
        founder: Candidate,
        /// Its roles.
        roles: Roles,
    },
}

impl PartCommand for ClusterCommand {
    fn name(&self) -> &'static str {
        match self {
            Self::Found { .. } => "cluster.found",
        }
    }
}
