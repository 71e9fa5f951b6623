//! Whom the peers believe.

use super::*;
use crate::crypto::Signature;

struct NoVault;

impl Vault for NoVault {
    fn sign(&self, _: &'static str, _: &[u8]) -> Signature {
        [0; 64]
    }

    fn verify(&self, _: PeerId, _: &'static str, _: &[u8], _: &Signature) -> bool {
        false
    }
}

const OTHER: PeerId = PeerId([2; 32]);

fn peers() -> Peers {
    let members = [(MemberId(2), (OTHER, Vec::new()))].into();
    let id = Identity {
        cluster: ClusterId([1; 16]),
        member: MemberId(1),
        peer: PeerId([1; 32]),
        boot_counter: 1,
        boot: BootId(1),
        seen: [(OTHER, SeenStart { counter: 5, boot: BootId(50) })].into(),
        roster: Roster { members, voted: false },
    };
    let own = Announcement {
        node_id: "one".into(),
        capabilities: Default::default(),
        ip_address: String::new(),
        p2p_port: 1,
        services: BTreeMap::new(),
        joined_at: crate::types::Wall(0),
    };
    Peers::new(id, Arc::new(NoVault), own)
}

#[test]
fn a_hello_is_judged_by_cluster_membership_and_starts() {
    let peers = peers();
    let hello = |boot_counter, boot| Hello {
        cluster: ClusterId([1; 16]),
        member: MemberId(2),
        boot_counter,
        boot: BootId(boot),
    };
    assert_eq!(peers.judge(OTHER, &hello(5, 50)), Ok(()), "the run that is known");
    assert_eq!(peers.judge(OTHER, &hello(6, 60)), Ok(()), "a later start");
    let old = |ours| Err(Turned::OldCopy { seen: 5, ours });
    assert_eq!(peers.judge(OTHER, &hello(4, 40)), old(4), "a restored older copy");
    assert_eq!(peers.judge(OTHER, &hello(5, 51)), old(5), "a copy that went on by itself");
    let foreign = Hello { cluster: ClusterId([9; 16]), ..hello(6, 60) };
    assert_eq!(peers.judge(OTHER, &foreign), Err(Turned::OtherCluster));
    let another = Hello { member: MemberId(3), ..hello(6, 60) };
    assert_eq!(peers.judge(OTHER, &another), Err(Turned::NotAMember), "not its member id");
    assert_eq!(peers.judge(PeerId([7; 32]), &hello(6, 60)), Err(Turned::NotAMember));
}
