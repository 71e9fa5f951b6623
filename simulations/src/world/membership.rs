//! Becoming a member: how the cluster forms, and how a machine that lost its disk comes back.

use bzzz::messages::command::{RosterCommand, TokensCommand};
use std::collections::BTreeSet;
use std::time::Duration;

use bzzz::core::control::Layout;
use bzzz::core::front;
use bzzz::core::refusal::Refusal;
use bzzz::messages::{Command, Refused};
use bzzz::node::{Node, Origin};
use bzzz::types::limits::VOTERS_MAX;
use bzzz::types::{JoinTokenText, MemberId, TokenId};

use super::World;
use crate::disk::SimDisk;
use crate::network::address_of;

/// For how long join tokens hold: longer than anything that is done with one takes.
const TOKEN_TTL: Duration = Duration::from_secs(600);

impl World {
    /// Makes the cluster: one founds, the others join. Fails after a minute.
    pub async fn form(&self) -> Result<(), String> {
        let founder =
            self.start(0, Origin::Found { name: "sim".into() }).await.map_err(|e| e.to_string())?;
        self.until(60, || founder.env().board.rows().len() > 4 && self.has_cluster(&founder))
            .await?;
        let joiners = self.settings.nodes - 1;
        if joiners > 0 {
            let token = self.make_token(&founder, joiners as u32).await?;
            for index in 1..self.settings.nodes {
                let (world, token) = (self.clone(), token.clone());
                tokio::spawn(async move {
                    let origin = Origin::Join { token, addresses: vec![address_of(0)] };
                    if let Err(error) = world.start(index, origin).await {
                        world.book.fail(
                            "a node with a token becomes a member",
                            format!("node {index}: {error}"),
                        );
                    }
                });
            }
        }
        let expected = self.expected_voters();
        for _ in 0..600 {
            let mut complete = true;
            for index in 0..self.settings.nodes {
                complete &= self.voters(index).await == expected;
            }
            if complete && self.is_settled().await {
                self.lock().formed = true;
                self.trace.note("the cluster is formed");
                self.note_reach();
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err("the cluster did not form within a minute".into())
    }

    fn has_cluster(&self, node: &Node) -> bool {
        node.env().consensus.digest().is_some_and(|(index, _)| index > 1)
    }

    async fn until(&self, seconds: u64, mut done: impl FnMut() -> bool) -> Result<(), String> {
        for _ in 0..seconds * 100 {
            if done() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(format!("nothing happened for {seconds} s"))
    }

    /// Voters that a node sees, 0 while it does not run or is not current.
    async fn voters(&self, index: usize) -> usize {
        let Some(node) = self.node(index) else { return 0 };
        match node.env().directory.front.ask(front::Request::Status).await {
            Ok(front::Reply::Status(status)) if status.mode.writable => status.role.voters.len(),
            _ => 0,
        }
    }

    /// True if just the nodes that there are hold records, as a node with a majority sees it.
    pub async fn is_settled(&self) -> bool {
        let (members, rotten) = {
            let inner = self.lock();
            let rotten = inner.machines.iter().any(|machine| machine.disk.is_rotten());
            (inner.machines.iter().map(|m| m.member).collect::<BTreeSet<MemberId>>(), rotten)
        };
        if rotten {
            return false;
        }
        let layout = self.layout().await;
        layout.is_some_and(|l| l.next.is_none() && l.current.keys().copied().eq(members))
    }

    /// True while a member becomes a replica, as a node with a majority sees it.
    pub async fn layout_grows(&self) -> bool {
        let layout = self.layout().await;
        layout.is_some_and(|l| l.next.is_some_and(|next| next.len() > l.current.len()))
    }

    async fn is_divided_without(&self, member: MemberId) -> bool {
        let layout = self.layout().await;
        layout.is_some_and(|l| l.next.is_none() && !l.current.contains_key(&member))
    }

    /// As a node with a majority sees it.
    async fn layout(&self) -> Option<Layout> {
        for index in self.alive() {
            let Some(node) = self.node(index) else { continue };
            let answer = node.env().directory.front.ask(front::Request::Status).await;
            if let Ok(front::Reply::Status(status)) = answer
                && status.mode.writable
            {
                return Some((*status.view.layout).clone());
            }
        }
        None
    }

    async fn make_token(&self, founder: &Node, uses: u32) -> Result<JoinTokenText, String> {
        let number = {
            let mut inner = self.lock();
            inner.tokens += 1;
            inner.tokens
        };
        let stream = self.stream(&format!("token {number}"));
        let text = JoinTokenText {
            cluster: founder.identity().cluster,
            token: TokenId(stream.bytes()),
            secret: stream.bytes(),
            peers: vec![founder.identity().peer],
        };
        let command = Command::Tokens(TokensCommand::Create {
            token: text.token,
            secret_hash: text.secret_hash(),
            expires_at: founder.env().wall().plus(TOKEN_TTL),
            uses,
        });
        let request = front::Request::Write { id: None, command };
        for _ in 0..20 {
            if let Ok(front::Reply::Written(Ok(_))) =
                founder.env().directory.front.ask(request_copy(&request)).await
            {
                return Ok(text);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err("no token could be made".into())
    }

    /// Makes a join token through a node.
    pub async fn token(&self, index: usize, uses: u32) -> Result<JoinTokenText, String> {
        let node = self.node(index).ok_or("the node is off")?;
        self.make_token(&node, uses).await
    }

    /// A machine loses its disk, gets an empty one, and joins again with this token at the node that made it.
    pub async fn lose_disk_with(&self, index: usize, token: JoinTokenText) -> Result<(), String> {
        self.empty_disk(index);
        let issuer = (0..self.settings.nodes)
            .find(|other| {
                self.node(*other).is_some_and(|n| token.peers.contains(&n.identity().peer))
            })
            .ok_or("who has made the token is off")?;
        let origin = Origin::Join { token, addresses: vec![address_of(issuer)] };
        self.start(index, origin).await.map_err(|error| error.to_string())?;
        self.lock().machines[index].homeless = false;
        Ok(())
    }

    /// A machine loses its disk, gets an empty one, and joins again with a new token: the cluster
    /// has to end its old membership and to bring the new member up to date.
    pub async fn lose_disk(&self, index: usize) {
        self.empty_disk(index);
        for _ in 0..20 {
            match self.rejoin(index).await {
                Ok(()) => return,
                Err(error) => self.trace.note(&format!("node {index} did not join: {error}")),
            }
            self.crash(index);
            // The others may have been upgraded meanwhile: then it is told to be, too.
            if self.old_builds().is_empty() {
                self.upgrade(index);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        self.book.fail("a node with a token becomes a member", format!("node {index} does not"));
    }

    fn empty_disk(&self, index: usize) {
        self.crash(index);
        {
            let mut inner = self.lock();
            let machine = &mut inner.machines[index];
            let history = format!("disk {index} after {}", machine.incarnation);
            let stream = self.stream(&history);
            machine.disk_id = stream.next_u64();
            machine.disk = SimDisk::new(self.heap.clone(), stream, self.trace.clone(), index);
            (machine.member, machine.homeless) = (MemberId::default(), true);
        }
        self.trace.note(&format!("node {index} has lost its disk"));
    }

    /// A running member is removed by an operator, and joins again with an empty disk once it has
    /// noticed, or, if it takes its time, once the others have divided its records among them.
    pub async fn expel(&self, index: usize, takes_its_time: bool) {
        let Some(node) = self.node(index) else { return };
        let Some(host) = self.alive().into_iter().find(|other| *other != index) else { return };
        let Some(asked) = self.node(host) else { return };
        self.trace.note(&format!("node {index} is removed"));
        self.lock().machines[index].homeless = true;
        let request = front::Request::Write {
            id: None,
            command: Command::Roster(RosterCommand::Remove { member: node.member(), lost: false }),
        };
        let mut removed = false;
        for _ in 0..20 {
            let answer = asked.env().directory.front.ask(request_copy(&request)).await;
            removed = match answer {
                Ok(front::Reply::Written(Ok(_))) => true,
                Ok(front::Reply::Written(Err(Refusal::Refused(why)))) => {
                    !matches!(why, Refused::RecordsAtRisk { .. })
                }
                _ => false,
            };
            if removed {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        for _ in 0..150 {
            let divided = !takes_its_time || self.is_divided_without(node.member()).await;
            if divided && !self.alive().contains(&index) {
                return self.lose_disk(index).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if removed {
            // Those who stop speaking to it tell it so, but not in this network.
            return self.lose_disk(index).await;
        }
        self.lock().machines[index].homeless = false;
    }

    async fn rejoin(&self, index: usize) -> Result<(), String> {
        let host = self.alive().into_iter().find(|other| *other != index);
        let host = host.ok_or("nobody is there")?;
        let member = self.node(host).ok_or("the host has just started")?;
        let token = self.make_token(&member, 1).await?;
        let origin = Origin::Join { token, addresses: vec![address_of(host)] };
        let node = self.start(index, origin).await.map_err(|error| error.to_string())?;
        self.lock().machines[index].homeless = false;
        // The next disk may be lost only when this one holds what the last one held.
        let own = node.member();
        for _ in 0..200 {
            let now = node.env().directory.front.ask(front::Request::Status).await;
            if let Ok(front::Reply::Status(status)) = now
                && status.mode.writable
                && status.role.voters.len() == self.expected_voters()
                && (status.role.voters.contains(&own) || self.settings.nodes > VOTERS_MAX)
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.trace.note(&format!("node {index} is a member, and does not vote after 20 s"));
        Ok(())
    }

    fn expected_voters(&self) -> usize {
        self.settings.nodes.min(VOTERS_MAX)
    }
}

fn request_copy(request: &front::Request) -> front::Request {
    match request {
        front::Request::Write { id, command } => {
            front::Request::Write { id: *id, command: command.clone() }
        }
        _ => front::Request::Status,
    }
}
