//! What plugins declare that they do while a guest runs, as far as it is allowed.

use std::path::PathBuf;

use crate::ConfineError;
use crate::syscalls;

/// Calls by which a thread could leave its confinement, or take others along:
/// whatever a plugin declares, no thread of a VM makes them beyond what the tables
/// allow. A declared call comes with any arguments, so that `clone` would be `fork`,
/// and a ring makes calls that no filter sees.
#[rustfmt::skip]
const NEVER: &[i64] = &[
    // Programs and processes.
    libc::SYS_execve, libc::SYS_execveat, libc::SYS_uselib,
    libc::SYS_fork, libc::SYS_vfork, libc::SYS_clone, libc::SYS_clone3,
    // Calls that others make.
    libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register,
    // Other processes.
    libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev,
    libc::SYS_process_madvise, libc::SYS_process_mrelease, libc::SYS_pidfd_getfd,
    libc::SYS_kcmp, libc::SYS_move_pages, libc::SYS_migrate_pages,
    // Code in the kernel, and what watches it.
    libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_userfaultfd,
    libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module,
    libc::SYS_kexec_load, libc::SYS_kexec_file_load,
    // Mounts and namespaces.
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_mount_setattr, libc::SYS_pivot_root,
    libc::SYS_chroot, libc::SYS_open_tree, libc::SYS_move_mount, libc::SYS_fsopen,
    libc::SYS_fsconfig, libc::SYS_fsmount, libc::SYS_fspick,
    libc::SYS_unshare, libc::SYS_setns, libc::SYS_open_by_handle_at,
    // Keys.
    libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl,
    // The host as a whole, and how its processor runs us.
    libc::SYS_reboot, libc::SYS_swapon, libc::SYS_swapoff, libc::SYS_acct,
    libc::SYS_quotactl, libc::SYS_quotactl_fd,
    libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt, libc::SYS_personality,
];

/// Calls that open a file by its name.
const OPENING: [i64; 3] = [libc::SYS_open, libc::SYS_openat, libc::SYS_openat2];

/// A place that a plugin opens files at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginPath {
    /// Absolute; a folder stands for all in it.
    pub path: PathBuf,
    /// Reads it.
    pub read: bool,
    /// Changes it.
    pub write: bool,
    /// Maps code of it.
    pub execute: bool,
}

/// The sum of what the plugins of a VM need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginNeeds {
    calls: Vec<i64>,
    paths: Vec<PluginPath>,
}

impl PluginNeeds {
    /// Adds the system call `name`, as `recvmsg`, with any arguments; `ioctl` without
    /// the requests that type at the terminal.
    ///
    /// # Errors
    /// [`ConfineError::UnknownCall`] and [`ConfineError::NeverAllowed`].
    pub fn add_call(&mut self, name: &str) -> Result<(), ConfineError> {
        let unknown = || ConfineError::UnknownCall(name.to_owned());
        let call = syscalls::number(name).ok_or_else(unknown)?;
        if NEVER.contains(&call) {
            return Err(ConfineError::NeverAllowed(name.to_owned()));
        }
        self.calls.push(call);
        Ok(())
    }

    /// Adds a place. It counts where one of the calls opens files, which the
    /// threads of a machine otherwise do not.
    pub fn add_path(&mut self, path: PluginPath) {
        self.paths.push(path);
    }

    pub(crate) fn calls(&self) -> &[i64] {
        &self.calls
    }

    pub(crate) fn paths(&self) -> &[PluginPath] {
        &self.paths
    }

    pub(crate) fn opens_files(&self) -> bool {
        self.calls.iter().any(|call| OPENING.contains(call))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_known_by_name_and_those_that_break_out_are_refused() {
        let mut needs = PluginNeeds::default();
        needs.add_call("sendmmsg").unwrap();
        assert_eq!(needs.calls(), [libc::SYS_sendmmsg]);
        assert!(!needs.opens_files());
        needs.add_call("openat").unwrap();
        assert!(needs.opens_files());
        for (name, word) in [
            ("sendframe", "no system call"),
            ("execve", "never"),
            ("clone", "never"),
            ("io_uring_enter", "never"),
        ] {
            let error = needs.add_call(name).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        for call in NEVER {
            assert!(syscalls::name(*call).is_some(), "{call}");
        }
    }
}
