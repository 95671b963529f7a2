//! Texts of `--help` beyond the options: what a newcomer types first.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Below the help of `shem`.
pub const SHEM: &str = "\
Examples:
  shem doctor                                  is this machine ready?
  shem image build ./rootfs -o my.gvmi         make an image from a folder or a tar
  shem run my.gvmi -- echo hello               boot it and run a command
  shem run -it my.gvmi -- sh                   a shell in it

`shem help run` tells more about each command.";

/// Below the help of `shem run`.
pub const RUN: &str = "\
Examples:
  shem run my.gvmi -- echo hello               run a command and take over its exit status
  shem run my.gvmi                             run the image's own ENTRYPOINT and CMD
  shem run -it my.gvmi -- sh                   an interactive shell
  echo hello | shem run -i my.gvmi -- wc -c    feed a command
  shem run -m 2g --cpus 4 -e DEBUG=1 my.gvmi -- make test
  shem run task.gvmi base.gvmi -- app          two images stacked, the first on top

Changes that the command makes to files are gone when it ends.

Exit status: that of the command, and
  124  the limit of --timeout passed
  125  shem or the VM failed; standard error says why
  126  the command cannot be executed
  127  the command was not found in the image
  128+n  signal n ended the command (130 Ctrl-C, 137 killed, 143 terminated);
         141 also when what reads our output went away

Ctrl-C and SIGTERM go to the command; a second one ends the VM. With -it
Ctrl-C is a key like any other, and `kill` of shem ends the VM.";

/// Below the help of `shem image build`.
pub const BUILD: &str = "\
Examples:
  shem image build ./rootfs -o my.gvmi --cmd '[\"sh\"]'
  docker export $(docker create alpine) | shem image build - -o alpine.gvmi
  shem image build app.tar -o app.gvmi --entrypoint /app/serve --env PORT=8080

A folder keeps the owners that its files have here; build from a tar to keep
those of the image's maker without being root. Needs mksquashfs, of the package
squashfs-tools.";

/// Below the help of `shem doctor`.
pub const DOCTOR: &str = "\
Examples:
  shem doctor                   what works here, and what to do about what does not
  shem doctor --probe           only: can KVM here run a guest? exit status 0 or 1

Exit status: 0 when images can be run, 1 when not.";

/// Printed when an option of the command was taken for one of ours.
pub const SEPARATOR: &str =
    "hint: what to run in the image goes after `--`, as in: shem run IMAGE -- sh -c 'echo hi'";

/// What to write instead of `first` and `rest` as images one after the other.
pub fn separator(first: &Path, rest: &[PathBuf]) -> String {
    let words: Vec<String> = rest.iter().map(|word| word.display().to_string()).collect();
    format!(
        "to run it as a command write: shem run {} -- {}",
        first.display(),
        words.join(" ")
    )
}

/// Whether a command line is one of `run` that has no `--`.
pub fn lacks_separator(args: impl IntoIterator<Item = OsString>) -> bool {
    let args: Vec<OsString> = args.into_iter().skip(1).collect();
    let has = |word: &str| args.iter().any(|arg| arg == OsStr::new(word));
    has("run") && !has("--")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_separator_is_seen_in_run_only() {
        let lacks = |line: &str| lacks_separator(line.split(' ').map(OsString::from));
        assert!(lacks("shem run image sh -c date"));
        assert!(lacks("shem -v run image sh -c date"));
        assert!(!lacks("shem run --nonsense image -- sh -c date"));
        assert!(!lacks("shem doctor --nonsense"));
    }
}
