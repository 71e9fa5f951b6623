//! The mesh that gossip runs on: gossipsub (libp2p pubsub specification, version 1.1).
//!
//! What a message means is for `core::gossip` to say; it signs and checks. Here a message is bytes on
//! a topic, known by the hash of both, held back until there is a verdict on it.
//!
//! Invariants:
//! 1. Only members are in the mesh (`gate`), and only topics of this cluster are heard.
//! 2. At most `VERDICTS_MAX` messages wait for their verdict, and one peer has at most
//!    `GOSSIP_PER_SECOND_MAX` of its messages looked at in a second.
//! 3. A peer whose messages are rejected again and again, or that writes more than its share, is cut
//!    off from the mesh; its score recovers over minutes, whether it is connected or not (`charges`).

use std::collections::HashMap;
use std::time::Duration;

use libp2p::gossipsub::{
    self, IdentTopic, MaxCountSubscriptionFilter, MessageAcceptance, MessageId, PeerScoreParams,
    PeerScoreThresholds, PublishError, TopicHash, TopicScoreParams, ValidationMode,
    WhitelistSubscriptionFilter, score_parameter_decay,
};
use tokio::time::Instant;

use super::agenda::Alarm;
use super::charges::FORGIVE_INTERVAL;
use super::driver::Driver;
use super::stats::count;
use super::transport::{from_libp2p, protocol_name, to_libp2p};
use crate::messages::{GossipId, Topic, Verdict};
use crate::ports::NetworkEvent;
use crate::types::PeerId;
use crate::types::limits::{GOSSIP_LEN_MAX, MEMBERS_MAX};

/// Messages that wait for their verdict.
const VERDICTS_MAX: usize = 8_192;
/// What a message may be longer by than what is in it.
const OVERHEAD: usize = 512;
/// How long a message that was seen is not looked at again.
const SEEN: Duration = Duration::from_secs(120);
/// After how long a fault of a peer is forgiven.
const FORGIVEN: Duration = Duration::from_secs(600);
/// Messages that wait for one peer.
const QUEUE: usize = 1_024;

/// How long a message waits for its verdict: whoever was to give it may have been restarted.
const VERDICT_TIMEOUT: Duration = Duration::from_secs(10);

/// A mesh with the topics of one cluster and no others.
pub(super) type Mesh = gossipsub::Behaviour<
    gossipsub::IdentityTransform,
    MaxCountSubscriptionFilter<WhitelistSubscriptionFilter>,
>;

/// Messages that wait for their verdict: each with the peer that it came from, and since when.
#[derive(Default)]
pub(super) struct Waiting(HashMap<GossipId, (libp2p::PeerId, Instant)>);

impl Waiting {
    fn add(&mut self, id: GossipId, via: libp2p::PeerId) {
        if self.0.len() >= VERDICTS_MAX {
            self.0.retain(|_, (_, since)| since.elapsed() < VERDICT_TIMEOUT);
        }
        self.0.insert(id, (via, Instant::now()));
    }
}

/// The topics of a cluster.
pub(super) struct Topics([IdentTopic; 5]);

impl Topics {
    pub(super) fn new(cluster_tag: &str) -> Self {
        Self(Topic::ALL.map(|topic| {
            IdentTopic::new(protocol_name(cluster_tag, &format!("gossip/{}", topic.name())))
        }))
    }

    fn hash(&self, topic: Topic) -> TopicHash {
        self.0[topic as usize].hash()
    }

    fn of(&self, hash: &TopicHash) -> Option<Topic> {
        Topic::ALL.into_iter().find(|topic| self.0[*topic as usize].hash() == *hash)
    }
}

fn hash(topic: &str, bytes: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(topic.len() as u64).to_le_bytes()).update(topic.as_bytes()).update(bytes);
    *hasher.finalize().as_bytes()
}

/// A behaviour that has subscribed to the topics.
pub(super) fn behaviour(cluster_tag: &str, topics: &Topics) -> Mesh {
    let config = gossipsub::ConfigBuilder::default()
        .protocol_id_prefix(protocol_name(cluster_tag, "mesh"))
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|message| MessageId::new(&hash(message.topic.as_str(), &message.data)))
        .max_transmit_size(GOSSIP_LEN_MAX + OVERHEAD)
        .duplicate_cache_time(SEEN)
        .connection_handler_queue_len(QUEUE)
        .heartbeat_initial_delay(Duration::from_secs(1))
        // A member that comes back is to be in the mesh again soon.
        .prune_backoff(Duration::from_secs(10))
        .build()
        .expect("the settings of the mesh fit each other");
    let authenticity = gossipsub::MessageAuthenticity::Anonymous;
    let filter = MaxCountSubscriptionFilter {
        filter: WhitelistSubscriptionFilter(topics.0.iter().map(IdentTopic::hash).collect()),
        max_subscribed_topics: Topic::ALL.len(),
        max_subscriptions_per_request: 2 * Topic::ALL.len(),
    };
    let mut behaviour = Mesh::new_with_subscription_filter(authenticity, config, filter)
        .expect("notes carry signatures of their own");
    let (params, thresholds) = scoring(topics);
    behaviour.with_peer_score(params, thresholds).expect("the scores fit each other");
    for topic in &topics.0 {
        behaviour.subscribe(topic).expect("the filter lets these topics pass");
    }
    behaviour
}

/// Only faults count: nobody is worse for being slow or quiet, or for sharing an address.
fn scoring(topics: &Topics) -> (PeerScoreParams, PeerScoreThresholds) {
    let of_topic = TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.0,
        first_message_deliveries_weight: 0.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: -1.0,
        invalid_message_deliveries_decay: score_parameter_decay(FORGIVEN),
        ..TopicScoreParams::default()
    };
    let params = PeerScoreParams {
        topics: Topic::ALL.map(|topic| (topics.hash(topic), of_topic.clone())).into(),
        topic_score_cap: 0.0,
        app_specific_weight: 1.0,
        ip_colocation_factor_weight: 0.0,
        // A late answer under load is no fault; many in a row are.
        behaviour_penalty_threshold: 20.0,
        slow_peer_weight: 0.0,
        ..PeerScoreParams::default()
    };
    // The penalty is the square of the number of faults on a topic: one costs the place in the mesh, ten
    // that anything is listened to.
    let thresholds = PeerScoreThresholds {
        gossip_threshold: -15.0,
        publish_threshold: -50.0,
        graylist_threshold: -90.0,
        ..PeerScoreThresholds::default()
    };
    (params, thresholds)
}

impl Driver {
    /// Hands a message of this node to the mesh.
    pub(super) fn gossip(&mut self, topic: Topic, bytes: Vec<u8>) {
        let hash = self.topics.hash(topic);
        count(&self.shared.stats.gossip_out);
        match self.swarm.behaviour_mut().mesh.inner.publish(hash, bytes) {
            // Nobody is there to hear it. What has to get through is handed on in other ways, too.
            Ok(_) | Err(PublishError::NoPeersSubscribedToTopic | PublishError::Duplicate) => {}
            Err(error) => {
                tracing::debug!(topic = topic.name(), %error, "the mesh did not take a message");
                count(&self.shared.stats.gossip_dropped);
            }
        }
    }

    pub(super) fn on_gossip(&mut self, event: gossipsub::Event) {
        let gossipsub::Event::Message { propagation_source: via, message_id, message } = event
        else {
            return;
        };
        count(&self.shared.stats.gossip_in);
        let id = GossipId(hash(message.topic.as_str(), &message.data));
        self.waiting.add(id, via);
        debug_assert_eq!(message_id.0, id.0);
        let Some(peer) = from_libp2p(&via).filter(|peer| self.shared.is_admitted(*peer)) else {
            return self.judge(id, Verdict::Reject);
        };
        let Some(topic) = self.topics.of(&message.topic) else {
            return self.judge(id, Verdict::Reject);
        };
        let in_time = self.peers.get_mut(&peer).is_some_and(|known| known.gossip.try_take());
        if !in_time {
            // Whoever wrote them may be many others.
            count(&self.shared.stats.gossip_dropped);
            return self.judge(id, Verdict::Ignore);
        }
        let bytes = message.data;
        match self.shared.sink() {
            Some(sink) if self.waiting.0.len() <= VERDICTS_MAX => {
                sink(NetworkEvent::Gossip { id, topic, via: peer, bytes });
            }
            _ => {
                count(&self.shared.stats.gossip_dropped);
                self.judge(id, Verdict::Ignore);
            }
        }
    }

    /// Trusts a member less that writes more than its share.
    fn charge(&mut self, via: libp2p::PeerId) {
        let Some(peer) = from_libp2p(&via).filter(|peer| self.shared.is_admitted(*peer)) else {
            return;
        };
        if self.charges.charge(peer) {
            self.agenda.set(FORGIVE_INTERVAL, Alarm::Forgive);
        }
        self.score(peer);
    }

    /// Forgets a part of what members wrote too much.
    pub(super) fn forgive(&mut self) {
        for peer in self.charges.forgive() {
            self.score(peer);
        }
        if self.charges.is_forgiving() {
            self.agenda.set(FORGIVE_INTERVAL, Alarm::Forgive);
        }
    }

    /// Tells the mesh what a peer is charged with. One that it knows nothing of is told of when it connects.
    pub(super) fn score(&mut self, peer: PeerId) {
        let score = -f64::from(self.charges.of(peer));
        self.swarm.behaviour_mut().mesh.inner.set_application_score(&to_libp2p(peer), score);
    }

    pub(super) fn judge(&mut self, id: GossipId, verdict: Verdict) {
        let Some((via, _)) = self.waiting.0.remove(&id) else { return };
        let acceptance = match verdict {
            Verdict::Accept => MessageAcceptance::Accept,
            Verdict::Ignore => MessageAcceptance::Ignore,
            // A rejection would count against everybody who passes the message on.
            Verdict::Excess => {
                self.charge(via);
                MessageAcceptance::Ignore
            }
            Verdict::Reject => {
                count(&self.shared.stats.gossip_rejected);
                MessageAcceptance::Reject
            }
        };
        let mesh = &mut self.swarm.behaviour_mut().mesh.inner;
        mesh.report_message_validation_result(&MessageId::new(&id.0), &via, acceptance);
    }
}

const _: () = assert!(VERDICTS_MAX > MEMBERS_MAX);
