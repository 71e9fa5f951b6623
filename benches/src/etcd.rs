//! Three members of etcd, over their gRPC API.

use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Fallible;
use crate::connection::{Grpc, Http1};
use crate::load::{Client, Spent, Target, VALUE_LEN, Work, sum_of, until_next_term};
use crate::process::{Running, free_ports};
use crate::protobuf::{self, number};
use http_body_util::Full;
use hyper::Request;

const MEMBERS: usize = 3;
/// What counts fsyncs on the metrics page of a member: of its log, and of its database.
const FSYNCS: [&str; 2] = [
    "etcd_disk_wal_fsync_duration_seconds_count",
    "etcd_disk_backend_commit_duration_seconds_count",
];
/// How long a cluster may take to take its first write.
const START_LIMIT: Duration = Duration::from_secs(30);

const PUT: &str = "etcdserverpb.KV/Put";
const RANGE: &str = "etcdserverpb.KV/Range";
const STATUS: &str = "etcdserverpb.Maintenance/Status";
const MOVE_LEADER: &str = "etcdserverpb.Maintenance/MoveLeader";
// Fields of the answers: the header, and in it member and term; in a status, the leader.
const HEADER_MEMBER: [u64; 2] = [1, 2];
const HEADER_TERM: [u64; 2] = [1, 4];
const STATUS_LEADER: [u64; 1] = [4];

/// Name and version of the etcd that is installed, if one is.
pub fn version() -> Option<String> {
    let output = Command::new("etcd").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text.lines().next()?.strip_prefix("etcd Version: ")?;
    Some(format!("etcd {}", version.trim()))
}

/// The cluster.
pub struct EtcdCluster {
    members: Vec<Running>,
    addresses: Vec<String>,
    _dir: tempfile::TempDir,
}

struct Role {
    term: u64,
    leader: usize,
    ids: Vec<u64>,
}

impl EtcdCluster {
    /// Starts a cluster, with fsync and its own defaults, and waits until it takes writes.
    pub async fn start() -> Fallible<Self> {
        let dir = tempfile::tempdir()?;
        let ports = free_ports(MEMBERS * 2)?;
        let (clients, peers) = ports.split_at(MEMBERS);
        let url = |port: &u16| format!("http://127.0.0.1:{port}");
        let everybody: Vec<String> =
            peers.iter().enumerate().map(|(n, port)| format!("m{n}={}", url(port))).collect();
        let mut members = Vec::new();
        for (n, (client, peer)) in clients.iter().zip(peers).enumerate() {
            let mut command = Command::new("etcd");
            command.env_clear().args(["--name", &format!("m{n}"), "--log-level", "error"]);
            command.arg("--data-dir").arg(dir.path().join(n.to_string()));
            command.args(["--initial-cluster", &everybody.join(",")]);
            command.args(["--initial-advertise-peer-urls", &url(peer)]);
            command.args(["--listen-peer-urls", &url(peer)]);
            command.args(["--listen-client-urls", &url(client)]);
            command.args(["--advertise-client-urls", &url(client)]);
            members.push(Running::start(&mut command)?);
        }
        let addresses = clients.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let cluster = Self { members, addresses, _dir: dir };
        cluster.wait_ready().await?;
        Ok(cluster)
    }

    async fn wait_ready(&self) -> Fallible<()> {
        let began = Instant::now();
        for client in 0..MEMBERS {
            loop {
                let written = async { self.connect(client, Work::Content).await?.once().await };
                match written.await {
                    Ok(_) => break,
                    Err(error) if began.elapsed() > START_LIMIT => {
                        return Err(format!("etcd does not start: {error}").into());
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        }
        Ok(())
    }

    async fn role(&self) -> Fallible<Role> {
        let (mut ids, mut leader, mut term) = (Vec::new(), 0, 0);
        for address in &self.addresses {
            let status = Grpc::open(address).await?.call(STATUS, &[]).await?;
            ids.push(number(&status, &HEADER_MEMBER));
            leader = number(&status, &STATUS_LEADER);
            term = term.max(number(&status, &HEADER_TERM));
        }
        let leader = ids.iter().position(|id| *id == leader).ok_or("etcd has no leader")?;
        Ok(Role { term, leader, ids })
    }

    /// Milliseconds from a request to hand over to the first write under the next leader.
    pub async fn handover(&self) -> Fallible<f64> {
        let role = self.role().await?;
        let target = role.ids[(role.leader + 1) % MEMBERS];
        let request = protobuf::Writer::default().number(1, target).finish();
        let mut connection = Grpc::open(&self.addresses[role.leader]).await?;
        let began = Instant::now();
        connection.call(MOVE_LEADER, &request).await?;
        until_next_term(self, role.leader + 1, began, role.term).await
    }

    /// Milliseconds from SIGKILL of the leader to the first write under the next one.
    pub async fn failover(mut self) -> Fallible<f64> {
        let role = self.role().await?;
        let began = Instant::now();
        self.members[role.leader].kill();
        until_next_term(&self, role.leader + 1, began, role.term).await
    }
}

/// How long one request may take before it is tried again.
const REQUEST_LIMIT: Duration = Duration::from_millis(500);

/// A client, with a key of its own.
pub struct EtcdClient {
    connection: Grpc,
    method: &'static str,
    request: Vec<u8>,
}

impl Client for EtcdClient {
    async fn once(&mut self) -> Fallible<u64> {
        // A put waits for as long as there is no leader; what serves users gives up sooner.
        let call = self.connection.call(self.method, &self.request);
        let answer = tokio::time::timeout(REQUEST_LIMIT, call).await??;
        Ok(number(&answer, &HEADER_TERM))
    }
}

impl Target for EtcdCluster {
    type Client = EtcdClient;

    async fn connect(&self, client: usize, work: Work) -> Fallible<EtcdClient> {
        let connection = Grpc::open(&self.addresses[client % MEMBERS]).await?;
        let key = format!("bench/{client}");
        let put = protobuf::Writer::default()
            .bytes(1, key.as_bytes())
            .bytes(2, &[b'x'; VALUE_LEN])
            .finish();
        let mut writer = EtcdClient { connection, method: PUT, request: put };
        if work == Work::Read {
            writer.once().await?;
            writer.method = RANGE;
            // Linearizable unless it asks for something else.
            writer.request = protobuf::Writer::default().bytes(1, key.as_bytes()).finish();
        }
        Ok(writer)
    }

    async fn spent(&self) -> Fallible<Spent> {
        let mut fsyncs = 0.0;
        for address in &self.addresses {
            let request = Request::get("/metrics").header("host", address).body(Full::default())?;
            let (_, page) = Http1::open(address).await?.send(request).await?;
            fsyncs += sum_of(&String::from_utf8_lossy(&page), &FSYNCS);
        }
        let spent = self.members.iter().map(Running::processor_us);
        Ok(Spent { fsyncs, processor_us: spent.sum::<io::Result<f64>>()? })
    }

    const MEMBERS: usize = MEMBERS;
}
