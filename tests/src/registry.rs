//! A registry of container images, Debian's own, on this host's loopback.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};

use tempfile::TempDir;

use crate::variable;

/// A running server, which ends with this value.
pub struct RegistryServer {
    child: Child,
    host: String,
    log: Option<JoinHandle<()>>,
    _dir: TempDir,
}

/// Who may use a registry that asks.
pub const USER: &str = "alice";
/// The password of [`USER`].
pub const PASSWORD: &str = "open sesame";
/// Both as the server reads them, with bcrypt.
const HTPASSWD: &str = "alice:$2a$04$PQQBRSoc7VB0V7M6YTBLWuWfR6BjWmhkM6vUJsoMVkX3x5FEBmqA2\n";

impl RegistryServer {
    /// One that everybody may use.
    pub fn start() -> Self {
        Self::with("")
    }

    /// One that only [`USER`] may.
    pub fn start_closed() -> Self {
        Self::with("auth: {htpasswd: {realm: shem, path: htpasswd}}\n")
    }

    fn with(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = free_tcp_address().to_string();
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: store}}}}\n\
             http: {{addr: '{host}'}}\n{more}"
        );
        fs::write(dir.path().join("config.yml"), config).unwrap();
        fs::write(dir.path().join("htpasswd"), HTPASSWD).unwrap();
        let mut child = Command::new(variable("SHEM_REGISTRY"))
            .args(["serve", "config.yml"])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the registry starts");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let listens = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("listening")));
        assert!(listens.is_some(), "the registry ended before it listened");
        // Else it would wait for a reader in the end.
        let log = thread::spawn(move || lines.for_each(drop));
        RegistryServer {
            child,
            host,
            log: Some(log),
            _dir: dir,
        }
    }

    /// A name of an image in it.
    pub fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.host)
    }

    /// Its host and port.
    pub fn host(&self) -> &str {
        &self.host
    }
}

/// An address of the loopback interface where nobody listens now.
fn free_tcp_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    listener.local_addr().expect("it is bound")
}

impl Drop for RegistryServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(log) = self.log.take() {
            let _ = log.join();
        }
    }
}
