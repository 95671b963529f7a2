//! Whether a file is a shared library for this machine, from its first bytes and
//! before anything of it runs. ELF-64 object file format, "ELF header".

use std::io::{self, Read};

/// `ET_DYN`: a shared library.
const SHARED: u16 = 3;
/// `EM_X86_64`.
const X86_64: u16 = 62;
/// From the start to the machine's number.
const HEAD_LEN: usize = 20;

/// Why a file cannot be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotALibrary {
    /// Another kind of file.
    #[error("it is no ELF file")]
    NotElf,
    /// ELF, but a program or an object file.
    #[error("it is an ELF file but no shared library; link it with -shared")]
    NotShared,
    /// Of another machine.
    #[error("it is for {machine} and this is an x86-64 host; build it for that")]
    OtherMachine {
        /// Its name or number.
        machine: Machine,
    },
}

/// A machine as an ELF file numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine(u16);

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            3 => f.write_str("32-bit x86"),
            40 => f.write_str("32-bit Arm"),
            183 => f.write_str("Arm64"),
            243 => f.write_str("RISC-V"),
            X86_64 => f.write_str("x86-64 with another word size or byte order"),
            other => write!(f, "machine {other}"),
        }
    }
}

/// Reads the head of `file`. The outer error is the file's, the inner its verdict.
pub(crate) fn check(file: impl Read) -> io::Result<Result<(), NotALibrary>> {
    let mut head = Vec::with_capacity(HEAD_LEN);
    file.take(HEAD_LEN as u64).read_to_end(&mut head)?;
    Ok(verdict(&head))
}

fn verdict(head: &[u8]) -> Result<(), NotALibrary> {
    let Ok(head) = <&[u8; HEAD_LEN]>::try_from(head) else {
        return Err(NotALibrary::NotElf);
    };
    if !head.starts_with(b"\x7fELF") {
        return Err(NotALibrary::NotElf);
    }
    let little_endian = head[5] == 1;
    let number = |at: usize| {
        let bytes = [head[at], head[at + 1]];
        if little_endian {
            u16::from_le_bytes(bytes)
        } else {
            u16::from_be_bytes(bytes)
        }
    };
    if head[4] != 2 || !little_endian || number(18) != X86_64 {
        let machine = Machine(number(18));
        return Err(NotALibrary::OtherMachine { machine });
    }
    if number(16) != SHARED {
        return Err(NotALibrary::NotShared);
    }
    Ok(())
}
