//! What every command has to keep, whatever the state: checked before it is proposed, so that the
//! log takes nothing oversize, and again by `apply`, because a log outlives its bugs.

use std::collections::BTreeMap;

use crate::messages::command::{Candidate, Command, Refused};
use crate::types::Address;
use crate::types::limits::{
    ADDRESS_LEN_MAX, ADDRESSES_MAX, HEAD_VALUE_MAX, HOLDER_WEIGHT_MAX, JOIN_TOKEN_USES_MAX,
    LABEL_LEN_MAX, LABELS_MAX, MEMBERS_MAX, NODE_NAME_LEN_MAX, ROLES_MAX, UCXL_SEGMENT_MAX,
};
use crate::types::ucxl::check_config_key;

/// An error if there is more of something than allowed.
pub(super) fn bounded(what: &str, count: usize, limit: usize) -> Result<(), Refused> {
    if count <= limit {
        Ok(())
    } else {
        Err(Refused::Limit { what: what.into(), limit: limit as u64 })
    }
}

/// An error if these labels are too many, too long, or without a name.
pub(super) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Refused> {
    bounded("labels", labels.len(), LABELS_MAX)?;
    for (key, value) in labels {
        bounded("bytes in a label", key.len().max(value.len()), LABEL_LEN_MAX)?;
        if key.is_empty() {
            return Err(Refused::Invalid("a label's key must not be empty".into()));
        }
    }
    Ok(())
}

fn check_addresses(addresses: &[Address]) -> Result<(), Refused> {
    bounded("addresses", addresses.len(), ADDRESSES_MAX)?;
    addresses
        .iter()
        .try_for_each(|a| bounded("bytes in an address", a.to_string().len(), ADDRESS_LEN_MAX))
}

fn check_candidate(candidate: &Candidate) -> Result<(), Refused> {
    check_addresses(&candidate.addresses)?;
    bounded("bytes in the name", candidate.name.len(), NODE_NAME_LEN_MAX)?;
    bounded("bytes in the role", candidate.role.len(), NODE_NAME_LEN_MAX)?;
    check_labels(&candidate.labels)
}

/// Checks what does not depend on the state.
pub fn check(command: &Command) -> Result<(), Refused> {
    match command {
        Command::Found { name, founder, roles, .. } => {
            bounded("bytes in the name of the cluster", name.len(), NODE_NAME_LEN_MAX)?;
            bounded("roles", roles.len(), ROLES_MAX)?;
            roles.keys().try_for_each(|role| {
                bounded("bytes in the name of a role", role.len(), UCXL_SEGMENT_MAX)
            })?;
            check_candidate(founder)
        }
        Command::Admit { candidate, .. } => check_candidate(candidate),
        Command::CreateToken { uses, .. } => {
            bounded("uses of a join token", *uses as usize, JOIN_TOKEN_USES_MAX as usize)
        }
        Command::Label { set, unset, .. } => {
            check_labels(set)?;
            bounded("labels to remove", unset.len(), LABELS_MAX)?;
            unset.iter().try_for_each(|key| bounded("bytes in a label", key.len(), LABEL_LEN_MAX))
        }
        Command::Moved { addresses, .. } => check_addresses(addresses),
        Command::SetHead { key, value, author, .. } => {
            check_config_key(key).map_err(Refused::Invalid)?;
            bounded("bytes in a value", value.0.len(), HEAD_VALUE_MAX)?;
            bounded("bytes in the author", author.len(), NODE_NAME_LEN_MAX)
        }
        Command::NextLayout { holders } => {
            bounded("members that hold records", holders.len(), MEMBERS_MAX)?;
            holders.values().try_for_each(|holder| {
                bounded("bytes in a zone", holder.zone.len(), LABEL_LEN_MAX)?;
                bounded("weight", usize::from(holder.weight), usize::from(HOLDER_WEIGHT_MAX))
            })
        }
        Command::RevokeToken { .. }
        | Command::Remove { .. }
        | Command::Evaluated
        | Command::CommitLayout { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::codec::encode_wire;
    use crate::types::limits::FRAME_LEN_MAX;
    use crate::types::role::{Authority, RoleKey};
    use crate::types::{ClusterId, MemberId, PeerId, Recipient, TokenId};

    fn candidate() -> Candidate {
        let address = format!("{}.example.org:4001", "a".repeat(60)).parse().unwrap();
        let label = |n: usize| (format!("{n:0>63}"), "v".repeat(LABEL_LEN_MAX));
        Candidate {
            peer: PeerId([1; 32]),
            name: "n".repeat(NODE_NAME_LEN_MAX),
            role: "r".repeat(NODE_NAME_LEN_MAX),
            addresses: vec![address; ADDRESSES_MAX],
            labels: (0..LABELS_MAX).map(label).collect(),
            content_key: Recipient([1; 32]),
        }
    }

    #[test]
    fn the_largest_commands_are_small_beside_a_frame() {
        let role = RoleKey { authority: Authority::Master, recipient: Recipient([255; 32]) };
        let commands = [
            Command::Found {
                cluster: ClusterId([1; 16]),
                name: "c".repeat(NODE_NAME_LEN_MAX),
                founder: candidate(),
                roles: (0..ROLES_MAX).map(|n| (format!("{n:0>64}"), role)).collect(),
            },
            Command::Admit { token: TokenId([1; 8]), secret_hash: [1; 32], candidate: candidate() },
            Command::Label {
                member: MemberId(1),
                set: candidate().labels,
                unset: vec!["u".repeat(LABEL_LEN_MAX); LABELS_MAX],
            },
        ];
        for command in commands {
            assert_eq!(check(&command), Ok(()));
            assert!(encode_wire(&command).unwrap().len() < FRAME_LEN_MAX / 32);
        }
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let limit = |command: &Command| matches!(check(command), Err(Refused::Limit { .. }));
        let admit = |change: fn(&mut Candidate)| {
            let mut candidate = candidate();
            change(&mut candidate);
            Command::Admit { token: TokenId([1; 8]), secret_hash: [1; 32], candidate }
        };
        assert!(limit(&admit(|c| c.name.push('n'))));
        assert!(limit(&admit(|c| c.role.push('r'))));
        assert!(limit(&admit(|c| c.addresses.push(c.addresses[0].clone()))));
        assert!(limit(&admit(|c| drop(c.labels.insert("one more".into(), String::new())))));
        let label = |unset: Vec<String>| Command::Label {
            member: MemberId(1),
            set: BTreeMap::new(),
            unset,
        };
        assert!(limit(&label(vec!["u".into(); LABELS_MAX + 1])));
        assert!(limit(&label(vec!["u".repeat(LABEL_LEN_MAX + 1)])));
    }
}
