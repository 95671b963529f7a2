//! What the drivers' tests share: a device on a mock host, driven by what its
//! descriptors tell.

use std::process::Command;
use std::time::{Duration, Instant};

use plugin_sdk::testing::{Frame, MockHost};
use plugin_sdk::{Directions, NetBackend, NetSetup, Result};

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Both directions are waited for.
pub const BOTH: Directions = Directions {
    receive: true,
    send: true,
};
/// Frames are waited for.
pub const RECEIVE: Directions = Directions {
    receive: true,
    send: false,
};
/// Room is waited for.
pub const SEND: Directions = Directions {
    receive: false,
    send: true,
};
/// Nothing is waited for.
pub const NONE: Directions = Directions {
    receive: false,
    send: false,
};

/// A device and its host.
pub struct Rig<D: NetBackend> {
    // Before the host, which it must not outlive.
    pub device: D,
    pub mock: Box<MockHost>,
}

impl<D: NetBackend> Rig<D> {
    /// Makes and starts a device.
    pub fn new(config: &str) -> Result<Self> {
        let mock = Box::new(MockHost::new());
        let config = serde_json::from_str(config).unwrap();
        let mut device = D::create(mock.host(), "net0", config)?;
        device.start(NetSetup {
            offloads: 0,
            queue_pairs: 1,
            flushes: true,
        })?;
        Ok(Rig { device, mock })
    }

    /// Why a device with this configuration is not made.
    pub fn refusal(config: &str) -> String {
        match Self::new(config) {
            Ok(_) => panic!("{config} was taken"),
            Err(error) => error.to_string(),
        }
    }

    /// Waits for events and passes them on, until `enough`.
    pub fn until(&mut self, what: &str, mut enough: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !enough(self) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain for {what}");
            for (fd, events, token) in self.mock.due(left) {
                self.device.on_event(fd, events, token).unwrap();
            }
        }
    }

    /// The next frame, as a frontend gets it.
    pub fn frame(&mut self) -> Vec<u8> {
        let mut found = None;
        self.until("a frame", |rig| {
            found = rig.try_frame();
            if found.is_none() {
                rig.device.set_interest(0, RECEIVE).unwrap();
            }
            found.is_some()
        });
        found.unwrap()
    }

    /// A frame, if there is one now.
    pub fn try_frame(&mut self) -> Option<Vec<u8>> {
        let len = self.device.describe().unwrap().max_frame as usize;
        let mut room = Frame::cut(&vec![0; len], &[10]);
        match self.device.receive(0, room.pieces()) {
            Ok(len) => Some(room.bytes()[..len].to_vec()),
            Err(error) if error.errno() == libc::EAGAIN => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Sends a frame in two pieces.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let mut frame = Frame::cut(bytes, &[14]);
        self.device.send(0, frame.pieces())?;
        self.device.flush(0)
    }

    /// The directions that were told since.
    pub fn told(&mut self) -> Directions {
        let told = std::mem::take(&mut self.mock.asked().ready);
        Directions {
            receive: told.iter().any(|(_, told)| told.receive),
            send: told.iter().any(|(_, told)| told.send),
        }
    }

    /// Whether a line of the log has `text`.
    pub fn logged(&self, text: &str) -> bool {
        let asked = self.mock.asked();
        asked.log.iter().any(|(_, line)| line.contains(text))
    }
}

/// Set in a test's process that is in a network namespace of its own.
const INSIDE: &str = "SHEM_NET_TEST_INSIDE";

/// Whether this process is in a network namespace of its own, where it is root. If it is
/// not, runs the test `name` in one, after the shell has done `set_up` there; where
/// namespaces are not to be had, says so and runs nothing.
pub fn in_namespace(name: &str, set_up: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let namespace = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "sh", "-ec"]);
        command
    };
    let probe = format!("ip link set lo up\n{set_up}");
    let output = namespace().arg(&probe).output().unwrap();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        eprintln!("{name} is left out, it needs more rights: {said}");
        return false;
    }
    let script = format!("{probe}\nexec \"$0\" --exact {name} --nocapture");
    let test = std::env::current_exe().unwrap();
    let output = namespace()
        .arg(script)
        .arg(test)
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let ran = String::from_utf8_lossy(&output.stdout).contains("1 passed");
    assert!(output.status.success() && ran, "{said}");
    false
}

/// Runs `ip` with `arguments`.
pub fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.unwrap().success(), "ip {arguments}");
}
