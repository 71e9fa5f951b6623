//! Processes that end with this one, and free ports for them.

use std::io;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

/// A process that is killed when this value is dropped.
pub struct Running(Child);

impl Running {
    /// Starts a process that says nothing.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        Self::start_saying(command, Stdio::null())
    }

    /// Starts a process whose standard error goes there.
    pub fn start_saying(command: &mut Command, to: Stdio) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(to).spawn().map(Self)
    }

    /// Takes over a process.
    pub fn new(child: Child) -> Self {
        Self(child)
    }

    /// Kills it, at once.
    pub fn kill(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// So many ports of loopback that nobody listens on now.
pub fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<io::Result<_>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
