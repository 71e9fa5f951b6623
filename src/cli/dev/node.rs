//! One node of a development cluster: its files, its process and its API.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::process::Children;
use super::workdir::{private_dir, private_file};
use crate::cli::client::{Client, Secret};
use crate::cli::error::CliError;
use crate::http::api::{ReadyFile, TOKEN_FILE};
use crate::types::Address;

/// How long a node may take over one answer; a stopped one never gives any.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(2_000);
/// How long a node may take over an answer while all wait for it to become ready.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// Lines of a log that are shown when its node fails.
const LOG_TAIL_LINES: usize = 8;

/// How a node comes to its cluster.
#[derive(Clone, Debug)]
pub enum Origin {
    /// It founds it.
    Found,
    /// It joins it.
    Join {
        /// Where a member listens.
        address: String,
        /// File with the join token.
        token_file: PathBuf,
    },
}

/// A node that runs, as far as this process knows.
#[derive(Clone, Debug)]
pub struct Running {
    /// What it wrote when its API began to serve.
    pub ready: ReadyFile,
    /// Its API, for requests that matter.
    pub client: Client,
    /// Its API, for looking whether it is there.
    pub probe: Client,
    token: Secret,
}

/// One node.
#[derive(Debug)]
pub struct DevNode {
    /// Its number, counted from 1.
    pub number: usize,
    /// Directory of everything that is its own.
    pub directory: PathBuf,
    /// Where it was reached last, also while it is down.
    pub running: Option<Running>,
    origin: Origin,
}

impl DevNode {
    /// A node with its own directory below `work`; nothing runs yet.
    pub fn new(number: usize, work: &Path, origin: Origin) -> Result<Self, CliError> {
        let node = Self { number, directory: work.join(name(number)), running: None, origin };
        private_dir(&node.data_dir())?;
        // A file of its own keeps the configuration of the machine out of it.
        private_file(&node.config(), &format!("[node]\nid = \"{}\"\n", node.name()))?;
        Ok(node)
    }

    /// Its display name.
    pub fn name(&self) -> String {
        name(self.number)
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// File with the token of its API.
    pub fn token_file(&self) -> PathBuf {
        self.data_dir().join(TOKEN_FILE)
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn config(&self) -> PathBuf {
        self.directory.join("bzzz.toml")
    }

    fn ready_file(&self) -> PathBuf {
        self.directory.join("ready.json")
    }

    /// Its API.
    pub fn client(&self) -> Result<&Client, CliError> {
        Ok(&self.known()?.client)
    }

    /// Its API, for looking whether it is there.
    pub fn probe(&self) -> Result<&Client, CliError> {
        Ok(&self.known()?.probe)
    }

    /// Its API, with a time limit of one's own for each request.
    pub fn client_within(&self, timeout: Duration) -> Result<Client, CliError> {
        let running = self.known()?;
        self.reach(&running.ready.api, &running.token, timeout)
    }

    /// A client, by the socket in the data directory where there is one: it does not share its
    /// bound with whoever else uses the port.
    fn reach(&self, api: &str, token: &Secret, timeout: Duration) -> Result<Client, CliError> {
        match Client::local(&self.data_dir(), timeout) {
            Some(client) => Ok(client),
            None => Client::with_timeout(api, Some(token.clone()), timeout),
        }
    }

    /// Its member id.
    pub fn member(&self) -> Result<&str, CliError> {
        Ok(&self.known()?.ready.member)
    }

    fn known(&self) -> Result<&Running, CliError> {
        self.running
            .as_ref()
            .ok_or_else(|| CliError::failure(format!("{} has not started yet", self.name())))
    }

    /// Starts its process. The first start takes free ports, every later one the same again.
    pub fn start(&self, program: &Path, children: &Children) -> Result<u32, CliError> {
        match fs::remove_file(self.ready_file()) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let path = self.ready_file().display().to_string();
                return Err(CliError::failure(format!("cannot remove {path}: {error}")));
            }
            _ => {}
        }
        let log = || {
            let file = OpenOptions::new().create(true).append(true).open(self.log());
            file.map_err(|error| {
                CliError::failure(format!("cannot open {}: {error}", self.log().display()))
            })
        };
        let mut command = Command::new(program);
        command.arg("run").arg("--data-dir").arg(self.data_dir());
        command.arg("--ready-file").arg(self.ready_file());
        let (listen, api) = self.ports()?;
        command.args(["--listen", &listen, "--api", &api]);
        match &self.origin {
            Origin::Found => {
                command.arg("--bootstrap-mode");
            }
            Origin::Join { address, token_file } => {
                command.args(["--join", address]).arg("--token-file").arg(token_file);
            }
        }
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("BZZZ_") && text != "BZZZ_LOG" {
                command.env_remove(&name);
            }
        }
        command
            .env("BZZZ_CONFIG", self.config())
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(log()?)
            .stderr(log()?)
            // Ctrl-C in the terminal is for this process, which then ends the nodes in order.
            .process_group(0);
        children.spawn(self.number, &mut command)
    }

    /// Where to listen for nodes and for clients.
    fn ports(&self) -> Result<(String, String), CliError> {
        let free = "127.0.0.1:0".to_owned();
        let Some(running) = &self.running else { return Ok((free.clone(), free)) };
        let text = running.ready.addresses.first().map(String::as_str).unwrap_or_default();
        let address: Address =
            text.parse().map_err(|error: crate::types::address::AddressError| {
                CliError::failure(format!("{} told a wrong address: {error}", self.name()))
            })?;
        Ok((format!("127.0.0.1:{}", address.port), running.ready.api.clone()))
    }

    /// Reads what the node wrote when its API began to serve, and its token. False if it has not
    /// done so yet.
    pub fn find(&mut self) -> Result<bool, CliError> {
        let fail = |path: &Path, error: String| {
            CliError::failure(format!("cannot read {}: {error}", path.display()))
        };
        let path = self.ready_file();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(fail(&path, error.to_string())),
        };
        let ready: ReadyFile =
            serde_json::from_str(&text).map_err(|error| fail(&path, error.to_string()))?;
        let token = Secret::read(&self.token_file())?;
        let client = |timeout| self.reach(&ready.api, &token, timeout);
        let (client, probe) = (client(REQUEST_TIMEOUT)?, client(PROBE_TIMEOUT)?);
        self.running = Some(Running { ready, client, probe, token });
        Ok(true)
    }

    /// An error if the process has ended, with the last lines of its log.
    pub fn check(&self, children: &Children) -> Result<(), CliError> {
        let Some(status) = children.ended(self.number) else { return Ok(()) };
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n  ");
        let name = self.name();
        Err(CliError::failure(format!("{name} ended with {status}; its last words:\n  {tail}"))
            .hint(format!("the whole log is {}", self.log().display())))
    }
}

fn name(number: usize) -> String {
    format!("node-{number}")
}
