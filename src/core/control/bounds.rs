//! What every command has to keep, whatever the state: checked before it is proposed, so that the
//! log takes nothing oversize, and again by `apply`, because a log outlives its bugs.

use crate::messages::Refused;

/// An error if there is more of something than allowed.
pub(super) fn bounded(what: &str, count: usize, limit: usize) -> Result<(), Refused> {
    if count <= limit {
        Ok(())
    } else {
        Err(Refused::Limit { what: what.into(), limit: limit as u64 })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::check;
    use super::*;
    use crate::messages::Command;
    use crate::messages::command::{Candidate, ClusterCommand, RosterCommand, TokensCommand};
    use crate::types::codec::encode_wire;
    use crate::types::limits::{
        ADDRESSES_MAX, FRAME_LEN_MAX, LABEL_LEN_MAX, LABELS_MAX, NODE_NAME_LEN_MAX, ROLES_MAX,
    };
    use crate::types::role::{Authority, RoleKey};
    use crate::types::{ClusterId, Level, MemberId, PeerId, Recipient, TokenId};

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
            level: Level::FIRST,
        }
    }

    #[test]
    fn the_largest_commands_are_small_beside_a_frame() {
        let role = RoleKey { authority: Authority::Master, recipient: Recipient([255; 32]) };
        let commands = [
            Command::Cluster(ClusterCommand::Found {
                cluster: ClusterId([1; 16]),
                name: "c".repeat(NODE_NAME_LEN_MAX),
                founder: candidate(),
                roles: (0..ROLES_MAX).map(|n| (format!("{n:0>64}"), role)).collect(),
            }),
            Command::Tokens(TokensCommand::Admit {
                token: TokenId([1; 8]),
                secret_hash: [1; 32],
                candidate: candidate(),
            }),
            Command::Roster(RosterCommand::Label {
                member: MemberId(1),
                set: candidate().labels,
                unset: vec!["u".repeat(LABEL_LEN_MAX); LABELS_MAX],
            }),
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
            Command::Tokens(TokensCommand::Admit {
                token: TokenId([1; 8]),
                secret_hash: [1; 32],
                candidate,
            })
        };
        assert!(limit(&admit(|c| c.name.push('n'))));
        assert!(limit(&admit(|c| c.role.push('r'))));
        assert!(limit(&admit(|c| c.addresses.push(c.addresses[0].clone()))));
        assert!(limit(&admit(|c| drop(c.labels.insert("one more".into(), String::new())))));
        let label = |unset: Vec<String>| {
            Command::Roster(RosterCommand::Label {
                member: MemberId(1),
                set: BTreeMap::new(),
                unset,
            })
        };
        assert!(limit(&label(vec!["u".into(); LABELS_MAX + 1])));
        assert!(limit(&label(vec!["u".repeat(LABEL_LEN_MAX + 1)])));
    }
}
