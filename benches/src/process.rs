//! Processes that end with this one, and free ports for them.

use std::io;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

/// A process that is killed when this value is dropped.
pub struct Running(Child);

impl Running {
    /// Starts a process that says nothing.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        quiet.spawn().map(Self)
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

/// Ports of loopback that nobody listens on now.
pub fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    let listeners: Vec<TcpListener> =
        (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<io::Result<_>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
