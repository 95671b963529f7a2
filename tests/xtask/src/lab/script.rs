//! The shell script that the lab's init runs in the host's root: it makes the
//! command's surroundings like ours and becomes the command.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::{Context, Result};

use super::Lab;
use super::files::Files;

/// Variables that a command in the lab sees as they are here, by prefix.
const PASSED_ON: &[&str] = &[
    "SHEM_", "RUST", "CARGO_", "LANG", "LC_", "TERM", "CI", "PATH", "HOME", "USER",
];

/// The script for one boot.
pub fn write(lab: &Lab, files: &Files) -> Result<Vec<u8>> {
    let mut script = Vec::new();
    let mut line = |parts: &[&[u8]]| {
        script.extend(parts.concat());
        script.push(b'\n');
    };
    // With the kernel's own modules in place, modprobe works.
    line(&[b"mkdir -p /lib/modules"]);
    line(&[
        b"mount --bind ",
        &quote(files.modules.as_os_str()),
        b" /lib/modules",
    ]);
    for (number, folder) in lab.shares.iter().enumerate() {
        let options = "trans=virtio,version=9p2000.L,msize=512000,cache=none";
        let mount = format!("mount -t 9p -o {options} share{number} ");
        line(&[
            mount.as_bytes(),
            &quote(folder.as_os_str()),
            b" || exit 125",
        ]);
    }
    let passed = std::env::vars_os().filter(|(name, _)| {
        PASSED_ON
            .iter()
            .any(|prefix| name.as_bytes().starts_with(prefix.as_bytes()))
    });
    // The host's own /tmp changes under a test that looks for leftovers.
    line(&[b"export TMPDIR=/run/tmp"]);
    for (name, value) in passed.chain(lab.env.iter().cloned()) {
        line(&[b"export ", name.as_bytes(), b"=", &quote(&value)]);
    }
    let folder = std::env::current_dir().context("find the current folder")?;
    line(&[b"cd ", &quote(folder.as_os_str()), b" || exit 125"]);
    let words: Vec<Vec<u8>> = lab.argv.iter().map(|word| quote(word)).collect();
    line(&[b"exec ", &words.join(&b' ')]);
    Ok(script)
}

/// A word in single quotes, as a shell reads it back.
pub fn shell_word(word: &OsStr) -> OsString {
    OsString::from_vec(quote(word))
}

fn quote(word: &OsStr) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for &byte in word.as_bytes() {
        match byte {
            b'\'' => quoted.extend(br"'\''"),
            _ => quoted.push(byte),
        }
    }
    quoted.push(b'\'');
    quoted
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn quoted_words_come_back_from_a_shell() {
        for word in [
            "plain",
            "two words",
            "it's",
            "$HOME `x` \"y\" \\",
            "",
            "line\nbreak",
        ] {
            let mut line = OsString::from("printf %s ");
            line.push(shell_word(word.as_ref()));
            let shell = Command::new("sh").arg("-c").arg(&line).output();
            assert_eq!(shell.expect("sh runs").stdout, word.as_bytes());
        }
    }
}
