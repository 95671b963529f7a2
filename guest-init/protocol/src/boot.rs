//! The boot configuration: what PID 1 must know before it can talk to anyone.
//!
//! The host writes it as a file of the initramfs, so there is no length limit
//! of a kernel command line and nothing to quote.

use serde::{Deserialize, Serialize};

use crate::error::MessageError;
use crate::limits::{
    MAX_BOOT_CONFIG, MAX_HOSTNAME, MAX_LAYERS, MAX_MODULE_NAME, MAX_MODULES, MAX_SERIAL,
};
use crate::message::{Message, check_len, check_text, decode_versioned, encode_versioned};
use crate::mount::{self, Mount, Upper};

/// Where the encoded configuration lies in the initramfs.
pub const BOOT_CONFIG_PATH: &str = "/shem/boot";

/// Where the kernel modules lie in the initramfs.
pub const MODULES_DIR: &str = "/modules";

/// Everything about the root file system and the identity of one guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootConfig {
    /// Host name; at most [`MAX_HOSTNAME`] bytes, not empty.
    pub hostname: String,
    /// virtio-blk serial numbers of the squashfs layers, each of 1 to
    /// [`MAX_SERIAL`] bytes. The first is the top one; without any, `upper` is
    /// all that the root has.
    pub layers: Vec<String>,
    /// What takes the changes above the layers.
    pub upper: Upper,
    /// What is mounted in it, in any order: at most [`MAX_MOUNTS`](crate::MAX_MOUNTS), each with a
    /// target of its own.
    pub mounts: Vec<Mount>,
    /// File names in [`MODULES_DIR`], in the order in which they load.
    pub modules: Vec<String>,
}

impl BootConfig {
    /// Encodes the configuration as the content of [`BOOT_CONFIG_PATH`].
    ///
    /// # Errors
    /// The first field that exceeds its limit.
    pub fn encode(&self) -> Result<Vec<u8>, MessageError> {
        let bytes = encode_versioned(self)?;
        check_len("boot configuration", bytes.len(), MAX_BOOT_CONFIG)?;
        Ok(bytes)
    }

    /// Decodes what [`encode`](Self::encode) made.
    ///
    /// # Errors
    /// [`MessageError::VersionMismatch`] for that of another release, before
    /// anything else of it is looked at.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        check_len("boot configuration", bytes.len(), MAX_BOOT_CONFIG)?;
        decode_versioned(bytes)
    }
}

impl Message for BootConfig {
    fn check(&self) -> Result<(), MessageError> {
        check_text("host name", self.hostname.as_bytes(), MAX_HOSTNAME)?;
        if self.hostname.is_empty() || self.hostname.contains(|c: char| c.is_whitespace()) {
            return Err(MessageError::Invalid { what: "host name" });
        }
        check_len("number of layers", self.layers.len(), MAX_LAYERS)?;
        for serial in &self.layers {
            mount::check_name("layer serial", serial, MAX_SERIAL)?;
        }
        mount::check(&self.layers, &self.upper, &self.mounts)?;
        check_len("number of modules", self.modules.len(), MAX_MODULES)?;
        for name in &self.modules {
            check_text("module name", name.as_bytes(), MAX_MODULE_NAME)?;
            if name.is_empty() || name.contains('/') {
                return Err(MessageError::Invalid {
                    what: "module name",
                });
            }
        }
        Ok(())
    }
}
