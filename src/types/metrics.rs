//! Every metric of a node, declared once: its name, kind, labels, help, and the bounds of its buckets.
//!
//! Names follow [the conventions of Prometheus](https://prometheus.io/docs/practices/naming/): the
//! unit is the last word of a name, before the `_total` of a counter (`seconds`, `bytes`; a name
//! without one counts things). What is not declared here can't be counted, and so not shown; the
//! table in docs/operations.md is compared with these declarations.
//!
//! Invariants:
//!
//! 1. Nobody but this file writes a name.
//! 2. A counter without labels is on the page from the start, at 0.

/// What a metric does over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, until the node ends.
    Counter,
    /// It rises and falls.
    Gauge,
    /// Durations, counted in buckets with these upper bounds, in microseconds; the page has them in seconds.
    Histogram(&'static [u64]),
}

impl Kind {
    /// Its word in the text format.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// Bounds of what takes as long as a disk or a network does.
const FAST_US: &[u64] =
    &[50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000];
/// Bounds of what clients wait for.
const REQUEST_US: &[u64] = &[
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000,
];

/// Samples of one name, which differ in the values of their labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// The whole name, as on the page.
    pub name: &'static str,
    /// What it does over time.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it is, in one line.
    pub help: &'static str,
}

macro_rules! families {
    (
        $(#[$doc:meta])* $list:ident:
        $($id:ident $kind:ident $(($bounds:ident))? $name:literal [$($label:literal),*] $help:literal;)*
    ) => {
        $(
            #[doc = $help]
            pub static $id: Family =
                Family { name: $name, kind: Kind::$kind $(($bounds))?, labels: &[$($label),*], help: $help };
        )*
        $(#[$doc])*
        pub static $list: &[&Family] = &[$(&$id),*];
    };
}

families! {
    /// What machines and actors count while they work.
    COUNTED:
    CONSENSUS_BUSY Counter "bzzz_consensus_busy_total" []
        "Operations that the consensus thread had no room for";
    SENDS_DROPPED Counter "bzzz_sends_dropped_total" []
        "Frames to members that found the queue of their lane full";
    CALLS_REFUSED Counter "bzzz_calls_refused_total" []
        "Requests to an actor that had too many unanswered ones";
    WORK_REFUSED Counter "bzzz_work_refused_total" []
        "Work off the reactor that was not begun, as too much was under way";
    FRAMES_DROPPED Counter "bzzz_frames_dropped_total" []
        "Frames of members that came faster than they were handled";
    FRAMES_MALFORMED Counter "bzzz_frames_malformed_total" []
        "Frames of members that do not decode";
    FRAMES_ON_THE_WRONG_LANE Counter "bzzz_frames_on_the_wrong_lane_total" []
        "Frames of members on a lane that is not theirs";
    PEERS_TURNED_AWAY Counter "bzzz_peers_turned_away_total" []
        "Greetings of members that were turned away: of another cluster, no member, or an old copy";
    PEERS_EARLY_HELLOS Counter "bzzz_peers_early_hellos_total" []
        "Greetings of members that are not known yet";
    PEERS_REACHED Counter "bzzz_peers_reached_total" []
        "Connections on demand that came about (above 48 members)";
    PEERS_NOT_REACHED Counter "bzzz_peers_not_reached_total" []
        "Connections on demand that did not come about in time";
    PEERS_MADE_ROOM Counter "bzzz_peers_made_room_total" []
        "Connections that were closed for others that were needed";
    PEERS_WITHOUT_ROOM Counter "bzzz_peers_without_room_total" []
        "Connections on demand that found no room";
    PEERS_UNSENT_DROPPED Counter "bzzz_peers_unsent_dropped_total" []
        "Frames that waited for a connection on demand and were dropped";
    FRONT_WRITES_UNKNOWN Counter "bzzz_front_writes_unknown_total" []
        "Writes whose outcome could not be told";
    FRONT_WRITES_REFUSED Counter "bzzz_front_writes_refused_total" []
        "Writes that were refused, for whatever reason";
    FRONT_BAD_PROPOSALS Counter "bzzz_front_bad_proposals_total" []
        "Proposals forwarded by members that do not check";
    FRONT_JOINS_REFUSED Counter "bzzz_front_joins_refused_total" []
        "Requests to join that were refused";
    ELECTION_TRANSFER_REFUSED Counter "bzzz_election_transfer_refused_total" []
        "Handovers of leadership that were not done";
    ROLE_KEYS_SHARED Counter "bzzz_role_keys_shared_total" []
        "Keys of roles that this node has handed on to other members";
    ROLE_KEYS_REJECTED Counter "bzzz_role_keys_rejected_total" []
        "Keys of roles from other members that do not check";
    GOSSIP_REJECTED Counter "bzzz_gossip_rejected_total" []
        "Notes that no member has signed, or that say what they may not";
    GOSSIP_STALE Counter "bzzz_gossip_stale_total" []
        "Notes too old or from the future (look at the clocks)";
    GOSSIP_OF_STRANGERS Counter "bzzz_gossip_of_strangers_total" []
        "Notes of nobody that is a member";
    GOSSIP_OVER_THE_RATE Counter "bzzz_gossip_over_the_rate_total" []
        "Notes of a member that tells too many";
    GOSSIP_REFUSED Counter "bzzz_gossip_refused_total" []
        "Messages of a member that sends too many, or too many notes in one";
    GOSSIP_NOT_SENT Counter "bzzz_gossip_not_sent_total" []
        "Messages that this node could not hand to the mesh";
    GOSSIP_TOO_LONG Counter "bzzz_gossip_too_long_total" []
        "Notes of this node that are longer than a note may be";
    GOSSIP_PUBLICATIONS_LEFT_OUT Counter "bzzz_gossip_publications_left_out_total" []
        "Publications that this node did not tell, as there were too many";
    RECORDS_WRITTEN Counter "bzzz_records_written_total" []
        "Records that this node has had written";
    RECORDS_WRITES_UNKNOWN Counter "bzzz_records_writes_unknown_total" []
        "Writes of records whose outcome could not be told";
    RECORDS_WRITES_REFUSED Counter "bzzz_records_writes_refused_total" []
        "Writes of records that were refused, for whatever reason";
    RECORDS_READS Counter "bzzz_records_reads_total" []
        "Records that this node has read with a quorum";
    RECORDS_READS_STALE Counter "bzzz_records_reads_stale_total" []
        "Records that this node has read from what it could reach";
    RECORDS_READ_REPAIRS Counter "bzzz_records_read_repairs_total" []
        "Holders that a read has brought up to date";
    RECORDS_ANSWERS_REJECTED Counter "bzzz_records_answers_rejected_total" []
        "Answers of holders that do not check: a damaged disk, or a member that lies";
    RECORDS_CLOCK_AHEAD Counter "bzzz_records_clock_ahead_total" []
        "Stamps from more than a minute ahead (look at the clocks)";
    RECORDS_STAMPED_ANEW Counter "bzzz_records_stamped_anew_total" []
        "Writes that were given a later stamp, as there was a later one already";
    RECORDS_ADDRESS_FULL Counter "bzzz_records_address_full_total" []
        "Writes to an address that holds as many versions as it may";
    RECORDS_REPLICA_REFUSED Counter "bzzz_records_replica_refused_total" []
        "Writes that a holder did not take for another reason";
    RECORDS_PUBLICATIONS_REPEATED Counter "bzzz_records_publications_repeated_total" []
        "Publications of records that were asked for again";
    REPLICA_RESTORED Counter "bzzz_replica_restored_total" []
        "Times that this node has got back all the records that it had lost";
    REPLICA_MISPLACED Counter "bzzz_replica_misplaced_total" []
        "Records that another member wanted kept here though they have no place here";
    REPLICA_REJECTED Counter "bzzz_replica_rejected_total" []
        "Records that another member wanted kept here that do not check";
    COPIES_COMPLETE Counter "bzzz_copies_complete_total" []
        "Comparisons with another holder that have ended";
    COPIES_WITH_NEWS Counter "bzzz_copies_with_news_total" []
        "Comparisons with another holder that have found something to copy";
    COPIES_TIMED_OUT Counter "bzzz_copies_timed_out_total" []
        "Comparisons with another holder that have ended in its silence";
    COPIES_REJECTED Counter "bzzz_copies_rejected_total" []
        "Records that another member gave to copy that do not check";
    CONTENTS_FROM_CACHE Counter "bzzz_contents_from_cache_total" []
        "Contents that were answered from what was opened already";
}

families! {
    /// What is read from where it is kept when somebody asks for the page.
    READ:
    BUILD_INFO Gauge "bzzz_build_info" ["version", "member"]
        "Always 1; the labels say what runs, and as which member";
    UPTIME_SECONDS Gauge "bzzz_uptime_seconds" []
        "Time since this run began";
    BOOTS Gauge "bzzz_boots" []
        "Starts of the data directory";
    TERM Gauge "bzzz_term" []
        "Term of the election";
    LEADER Gauge "bzzz_leader" []
        "Member id of the leader, 0 if there is none";
    IS_LEADER Gauge "bzzz_is_leader" []
        "1 on a leader that reaches a majority";
    LEASE_REMAINING_SECONDS Gauge "bzzz_lease_remaining_seconds" []
        "Rest of this node's lease";
    INDEX Gauge "bzzz_index" []
        "Last entry of the log that is applied";
    AGE_SECONDS Gauge "bzzz_age_seconds" []
        "Time for which this node has not known to be current";
    MEMBERS Gauge "bzzz_members" []
        "Members";
    VOTERS Gauge "bzzz_voters" []
        "Voters";
    VOTERS_REACHABLE Gauge "bzzz_voters_reachable" []
        "Voters that this node reaches, itself among them";
    VOTERS_NEEDED Gauge "bzzz_voters_needed" []
        "Voters that a majority needs";
    WRITABLE Gauge "bzzz_writable" []
        "1 if a write would be taken";
    HEADS Gauge "bzzz_heads" []
        "Heads of addresses in the control state";
    JOIN_TOKENS Gauge "bzzz_join_tokens" []
        "Join tokens that can be used";
    REQUESTS_OPEN Gauge "bzzz_requests_open" []
        "Writes and reads that are under way";
    WRITES_REFUSED_MINORITY Counter "bzzz_writes_refused_minority_total" []
        "Writes that were refused for lack of a majority";
    EVENTS Counter "bzzz_events_total" []
        "Events that this node has told in this run";
    API_REFUSED Counter "bzzz_api_refused_total" ["code"]
        "Requests of the API that ended in a problem";
    API_CONNECTIONS Gauge "bzzz_api_connections" ["way"]
        "Open now, at the port and at the socket";
    API_CONNECTIONS_CLOSED Counter "bzzz_api_connections_closed_total" ["reason"]
        "Connections of clients that the node has closed";
    ACTOR_RESTARTS Counter "bzzz_actor_restarts_total" ["actor"]
        "Restarts in this run, as in `bzzz actor tree`";
    ACTOR_MAILBOX Gauge "bzzz_actor_mailbox" ["actor"]
        "Messages that wait";
    NETWORK_FRAMES_IN Counter "bzzz_network_frames_in_total" ["lane"]
        "Frames that have arrived whole";
    NETWORK_FRAMES_OUT Counter "bzzz_network_frames_out_total" ["lane"]
        "Frames that were handed to a stream";
    NETWORK_BYTES_IN Counter "bzzz_network_bytes_in_total" ["lane"]
        "Bytes of frames that have arrived, with their lengths";
    NETWORK_BYTES_OUT Counter "bzzz_network_bytes_out_total" ["lane"]
        "Bytes of frames that were handed to a stream, with their lengths";
    BULK_CONNECTIONS Gauge "bzzz_bulk_connections" []
        "Connections for bulk bytes that stand now; they are not among the others";
    BULK_STREAMS Gauge "bzzz_bulk_streams" ["direction"]
        "Streams of bulk bytes that are open, by who has opened them: out, in";
    BULK_HELD_BYTES Gauge "bzzz_bulk_held_bytes" []
        "Bulk bytes that are on their way through the node now";
    BULK_BYTES_IN Counter "bzzz_bulk_bytes_in_total" []
        "Bulk bytes that were read";
    BULK_BYTES_OUT Counter "bzzz_bulk_bytes_out_total" []
        "Bulk bytes that were handed to a connection";
    BULK_REFUSED Counter "bzzz_bulk_refused_total" []
        "Streams and connections for bulk bytes that there was no room for, or that strangers wanted";
    BULK_DIAL_FAILURES Counter "bzzz_bulk_dial_failures_total" []
        "Connections for bulk bytes that did not come about";
    BULK_STALLED_STREAMS Counter "bzzz_bulk_stalled_total" []
        "Streams of bulk bytes that stood still for too long";
    NETWORK_DROPPED Counter "bzzz_network_dropped_total" ["reason"]
        "Frames that were not sent or, joins, not taken";
    NETWORK_REFUSED_STRANGERS Counter "bzzz_network_refused_strangers_total" []
        "Streams that a peer was not entitled to, and connections refused as too many";
    NETWORK_GAVE_WAY Counter "bzzz_network_gave_way_total" []
        "Connections that had to give way to others";
    NETWORK_UNPROVEN Counter "bzzz_network_unproven_total" []
        "Other connections, not from hosts of members, that ended before they had shown whose they are";
    NETWORK_DEAD Counter "bzzz_network_dead_total" []
        "Connections that were closed because nothing came on them";
    NETWORK_OVERSIZE Counter "bzzz_network_oversize_total" []
        "Frames announced as empty or too long";
    NETWORK_SLOW Counter "bzzz_network_slow_total" []
        "Frames that took too long to arrive";
    NETWORK_STALLED Counter "bzzz_network_stalled_total" []
        "Writers that made no progress";
    NETWORK_RATE_LIMITED Counter "bzzz_network_rate_limited_total" []
        "Times that a reader paused because frames came too fast";
    NETWORK_DIALS Counter "bzzz_network_dials_total" []
        "Dials begun";
    NETWORK_DIAL_FAILURES Counter "bzzz_network_dial_failures_total" []
        "Dials that failed";
    NETWORK_WRONG_PEER Counter "bzzz_network_wrong_peer_total" []
        "Dials that met somebody else";
    NETWORK_FOUND_LOCALLY Counter "bzzz_network_found_locally_total" []
        "Peers that were heard of in the local network";
    NETWORK_ASKED_WHERE Counter "bzzz_network_asked_where_total" []
        "Times that members were asked where one is";
    NETWORK_UNASKED_DIALS Counter "bzzz_network_unasked_dials_total" []
        "Dials of the network stack itself, to members not looked for or too many at once, that were denied";
    NETWORK_PLACES_RESERVED Counter "bzzz_network_places_reserved_total" []
        "Places at relays that this node was given";
    NETWORK_CIRCUITS Counter "bzzz_network_circuits_total" []
        "Connections through a relay that this node has opened or taken";
    NETWORK_CIRCUITS_RELAYED Counter "bzzz_network_circuits_relayed_total" []
        "Connections of others that this node has passed on";
    NETWORK_HOLES_PUNCHED Counter "bzzz_network_holes_punched_total" []
        "Connections through a relay that became direct";
    NETWORK_HOLES_NOT_PUNCHED Counter "bzzz_network_holes_not_punched_total" []
        "Times that this was tried in vain";
    NETWORK_PROBES Counter "bzzz_network_probes_total" []
        "Dials of others for them to know whether they can be dialled";
    NETWORK_GOSSIP_IN Counter "bzzz_network_gossip_in_total" []
        "Messages of the mesh that have arrived, each counted once";
    NETWORK_GOSSIP_OUT Counter "bzzz_network_gossip_out_total" []
        "Messages that this node has handed to the mesh";
    NETWORK_GOSSIP_DROPPED Counter "bzzz_network_gossip_dropped_total" []
        "Messages of the mesh that were dropped as too many";
    NETWORK_GOSSIP_REJECTED Counter "bzzz_network_gossip_rejected_total" []
        "Messages of the mesh that were refused";
    NETWORK_ARRIVALS Gauge "bzzz_network_arrivals" []
        "Connections that have come in and have not shown yet whose they are";
    NETWORK_CONNECTIONS Gauge "bzzz_network_connections" []
        "Connections that stand now";
    NETWORK_CONNECTIONS_RELAYED Gauge "bzzz_network_connections_relayed" []
        "How many of them lead through a relay";
    NETWORK_REACHABILITY Gauge "bzzz_network_reachability" []
        "Whether others can dial this node: 0 unknown, 1 yes, 2 no";
    JOURNAL_QUEUED Gauge "bzzz_journal_queued" ["journal"]
        "Requests that wait for the writer";
    JOURNAL_BATCHES Counter "bzzz_journal_batches_total" ["journal"]
        "Requests that were written together";
    JOURNAL_FSYNCS Counter "bzzz_journal_fsyncs_total" ["journal"]
        "Fsyncs";
    JOURNAL_BYTES Counter "bzzz_journal_bytes_total" ["journal"]
        "Bytes written";
    JOURNAL_REWRITES Counter "bzzz_journal_rewrites_total" ["journal"]
        "Times that the journal was written anew, shorter";
    JOURNAL_FULL_RETRIES Counter "bzzz_journal_full_retries_total" ["journal"]
        "Times that a full disk was tried again";
    JOURNAL_MARKS_MISSED Counter "bzzz_journal_marks_missed_total" ["journal"]
        "Marks of what is durable that could not be set";
    JOURNAL_DISK_FULL Gauge "bzzz_journal_disk_full" ["journal"]
        "1 while a write waits for room on the disk";
    JOURNAL_FAILED Gauge "bzzz_journal_failed" ["journal"]
        "1 once a write or an fsync was refused";
    JOURNAL_FSYNC_SECONDS Histogram(FAST_US) "bzzz_journal_fsync_duration_seconds" ["journal"]
        "Time that an fsync of a journal took";
    JOURNAL_WRITE_SECONDS Histogram(FAST_US) "bzzz_journal_write_duration_seconds" ["journal"]
        "Time until a write to a journal was durable, from when it was asked for";
    RECORDS_FSYNC_SECONDS Histogram(FAST_US) "bzzz_records_fsync_duration_seconds" []
        "Time that a commit of the record store took, with its fsync";
    RECORDS_WRITE_SECONDS Histogram(FAST_US) "bzzz_records_write_duration_seconds" []
        "Time until a write to the record store was durable, from when it was asked for";
    PROPOSAL_SECONDS Histogram(REQUEST_US) "bzzz_proposal_duration_seconds" []
        "Time until a command was decided that a client or an actor of this node has proposed";
    PEER_ROUND_TRIP_SECONDS Histogram(FAST_US) "bzzz_peer_round_trip_seconds" []
        "Time until a member has answered a ping";
    API_REQUESTS Counter "bzzz_api_requests_total" ["route", "method", "status"]
        "Requests to the API, by route and class of status; streams count once they begin";
    API_REQUEST_SECONDS Histogram(REQUEST_US) "bzzz_api_request_duration_seconds" ["route", "method"]
        "Time from the head of a request to its answer";
    RECORDS_GROUPS Counter "bzzz_records_groups_total" []
        "Operations on the record store that were handed over together";
    RECORDS_FSYNCS Counter "bzzz_records_fsyncs_total" []
        "Fsyncs of the record store";
    RECORDS_DISK_FULL Gauge "bzzz_records_disk_full" []
        "1 while the record store refuses writes for lack of room";
    RECORDS_FAILED Gauge "bzzz_records_failed" []
        "1 once the record store has failed for good";
    LOG_LINES_DROPPED Counter "bzzz_log_lines_dropped_total" []
        "Lines of the log that nobody took in time";
    PROCESS_CPU_SECONDS Counter "process_cpu_seconds_total" []
        "Processor time of the process, of user and system";
    PROCESS_START_TIME_SECONDS Gauge "process_start_time_seconds" []
        "When the process began, since 1970";
    PROCESS_RESIDENT_MEMORY_BYTES Gauge "process_resident_memory_bytes" []
        "Memory of the process that is resident";
    PROCESS_VIRTUAL_MEMORY_BYTES Gauge "process_virtual_memory_bytes" []
        "Address space of the process";
    PROCESS_OPEN_FDS Gauge "process_open_fds" []
        "File descriptors that are open";
    PROCESS_MAX_FDS Gauge "process_max_fds" []
        "File descriptors that may be open";
    PROCESS_THREADS Gauge "process_threads" []
        "Threads of the process";
}

/// All of them.
pub fn families() -> impl Iterator<Item = &'static Family> {
    COUNTED.iter().chain(READ).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_keep_the_conventions() {
        let mut names = BTreeSet::new();
        for Family { name, kind, labels, help } in families() {
            assert!(names.insert(name), "{name} is there twice");
            let is_plain = |c: u8| c.is_ascii_lowercase() || c == b'_';
            // Those of processes have their names from Prometheus' own libraries.
            assert!(name.starts_with("bzzz_") || name.starts_with("process_"), "{name}");
            assert!(name.bytes().all(is_plain), "{name}");
            assert!(!name.contains("__"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            let stem = name.trim_end_matches("_total");
            // What Prometheus itself appends, and units that are not its base units.
            for end in ["_count", "_sum", "_bucket", "_counter", "_gauge", "_ms", "_us", "_kib"] {
                assert!(!stem.ends_with(end), "{name}");
            }
            assert!(!help.is_empty() && !help.ends_with('.') && !help.contains('\\'), "{name}");
            for label in *labels {
                assert!(!["le", "quantile", "job", "instance"].contains(label), "{name}: {label}");
            }
        }
        for family in families() {
            let Kind::Histogram(bounds) = family.kind else { continue };
            assert!(family.name.ends_with("_seconds"), "{}", family.name);
            assert!(!bounds.is_empty() && bounds.is_sorted(), "{}", family.name);
        }
        assert!(COUNTED.iter().all(|family| family.kind == Kind::Counter));
        assert!(COUNTED.iter().all(|family| family.labels.is_empty()));
    }

    #[test]
    fn the_document_has_the_table_of_the_declarations() {
        let page = include_str!("../../docs/operations.md").replace("\r\n", "\n");
        let part = page.split("\n## ").find(|part| part.starts_with("Metrics\n")).unwrap();
        let rows: Vec<&str> = part.lines().filter(|line| line.starts_with("| `")).collect();
        let row = |family: &Family| {
            let labels: Vec<String> = family.labels.iter().map(|l| format!("`{l}`")).collect();
            let (labels, kind) = (labels.join(", "), family.kind.as_str());
            format!("| `{}` | {kind} | {labels} | {} |", family.name, family.help)
        };
        let wanted: Vec<String> = families().map(row).collect();
        assert!(rows == wanted, "write into docs/operations.md:\n{}", wanted.join("\n"));
    }
}
