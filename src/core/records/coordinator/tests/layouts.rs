//! The leader's duty to change the layout, as far as messages tell of it.

use super::*;
use crate::core::consensus::Role;
use crate::messages::command::LayoutCommand;
use crate::types::limits::{HEARTBEAT_MS, LEASE_MS};

#[test]
fn a_layout_is_committed_once_all_have_said_that_they_have_it() {
    for (of, is_committed) in [(4, true), (3, false), (5, false)] {
        let mut bench = Bench::new(3);
        let voters = [1, 2, 3].map(MemberId).into();
        let leader = Some(MemberId(1));
        bench.tell(News::Role(Role { term: 4, leader, voters, leading: true, joint: false }));
        bench.tell(applied(view(3, 4, &[1, 2], Some(&[1, 2, 3])), &[]));
        bench.tell(Msg::Gained { layout: of });
        let message = || RecordsMessage::Gained { layout: of };
        bench.tell(Msg::Message { from: peer(2), message: message() });
        bench.wait(LEASE_MS + 4 * HEARTBEAT_MS);
        assert!(bench.proposed.is_empty(), "3 has said nothing");
        bench.tell(Msg::Message { from: peer(3), message: message() });
        let commit = Command::Layout(LayoutCommand::Commit { version: 4 });
        assert_eq!(bench.proposed == [commit], is_committed, "{of}: {:?}", bench.proposed);
    }
}
