//! What a pack's `vmlinux` must be, and what of it need not be loaded.
//!
//! Only headers are touched: sections, notes and addresses stay as they are.

use anyhow::{Context, Result, ensure};

/// `EI_CLASS` to `EI_DATA`, `e_machine`: 64 bits, little endian, x86.
const IDENTITY: &[u8] = &[0x7f, b'E', b'L', b'F', 2, 1];
const MACHINE_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// The note with the entry for PVH, of the owner "Xen".
const XEN_PHYS32_ENTRY: u32 = 18;
/// Size of `Elf64_Phdr`, and of `Elf64_Ehdr` up to what is read here.
const PROGRAM_HEADER: usize = 56;

/// Checks that this is a kernel for x86-64 with a PVH entry, and shortens each
/// segment in the file by the zeros it ends with: a loader gives them to the
/// guest anyhow, as memory that was never written. In Debian's kernel these
/// are 12 MB, its `.bss` among them.
pub fn trim(kernel: &mut [u8]) -> Result<()> {
    ensure!(
        kernel.starts_with(IDENTITY),
        "the kernel is not an ELF file of 64 bits"
    );
    ensure!(
        half(kernel, 18)? == MACHINE_X86_64,
        "the kernel is not for x86-64"
    );
    let table = usize::try_from(word(kernel, 32)?).context("program headers")?;
    let mut pvh = false;
    for index in 0..usize::from(half(kernel, 56)?) {
        let header = table + index * PROGRAM_HEADER;
        let offset = usize::try_from(word(kernel, header + 8)?).context("segment's offset")?;
        let size = usize::try_from(word(kernel, header + 32)?).context("segment's size")?;
        let contents = offset
            .checked_add(size)
            .and_then(|end| kernel.get(offset..end))
            .with_context(|| format!("segment {index} lies outside the kernel's file"))?;
        match int(kernel, header)? {
            PT_NOTE => pvh |= has_pvh_note(contents),
            PT_LOAD => {
                let used = contents
                    .iter()
                    .rposition(|byte| *byte != 0)
                    .map_or(0, |last| last + 1);
                kernel[header + 32..header + 40].copy_from_slice(&(used as u64).to_le_bytes());
            }
            _ => {}
        }
    }
    ensure!(pvh, "the kernel has no PVH entry (CONFIG_PVH)");
    Ok(())
}

/// Notes are length of name, length of value, type, name, value, with name
/// and value padded to four bytes.
fn has_pvh_note(mut notes: &[u8]) -> bool {
    while let (Ok(name), Ok(value), Ok(kind)) = (int(notes, 0), int(notes, 4), int(notes, 8)) {
        if kind == XEN_PHYS32_ENTRY && notes[12..].starts_with(b"Xen\0") {
            return true;
        }
        let padded = |length: u32| (length as usize).next_multiple_of(4);
        notes = notes
            .get(12 + padded(name) + padded(value)..)
            .unwrap_or_default();
    }
    false
}

fn bytes<const N: usize>(data: &[u8], offset: usize) -> Result<[u8; N]> {
    let found = data.get(offset..).and_then(|rest| rest.first_chunk());
    found.copied().context("an ELF header is cut short")
}

fn half(data: &[u8], offset: usize) -> Result<u16> {
    Ok(u16::from_le_bytes(bytes(data, offset)?))
}

fn int(data: &[u8], offset: usize) -> Result<u32> {
    Ok(u32::from_le_bytes(bytes(data, offset)?))
}

fn word(data: &[u8], offset: usize) -> Result<u64> {
    Ok(u64::from_le_bytes(bytes(data, offset)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTE: usize = 64 + 2 * PROGRAM_HEADER;
    const CODE: usize = NOTE + 40;

    /// An ELF file with a note segment of two notes, the second of type
    /// `kind`, and a segment of five bytes and eleven zeros.
    fn kernel(kind: u32) -> Vec<u8> {
        let mut file = vec![0; CODE];
        file[..6].copy_from_slice(IDENTITY);
        file[18..20].copy_from_slice(&MACHINE_X86_64.to_le_bytes());
        file[32..40].copy_from_slice(&64_u64.to_le_bytes());
        file[56..58].copy_from_slice(&2_u16.to_le_bytes());
        for (index, (segment, offset, size)) in [(PT_NOTE, NOTE, 40_u64), (PT_LOAD, CODE, 16)]
            .into_iter()
            .enumerate()
        {
            let header = 64 + index * PROGRAM_HEADER;
            file[header..header + 4].copy_from_slice(&segment.to_le_bytes());
            file[header + 8..header + 16].copy_from_slice(&(offset as u64).to_le_bytes());
            file[header + 32..header + 40].copy_from_slice(&size.to_le_bytes());
            file[header + 40..header + 48].copy_from_slice(&size.to_le_bytes());
        }
        let note = |kind: u32, value: &[u8]| {
            let length = u32::try_from(value.len()).unwrap();
            let mut note = [4, length, kind].map(u32::to_le_bytes).concat();
            note.extend(b"Xen\0");
            note.extend(value);
            note.resize(note.len().next_multiple_of(4), 0);
            note
        };
        file[NOTE..NOTE + 20].copy_from_slice(&note(6, b"lin"));
        file[NOTE + 20..CODE].copy_from_slice(&note(kind, &[0, 0, 0, 1]));
        file.extend(b"co\0de");
        file.resize(CODE + 16, 0);
        file
    }

    #[test]
    fn trailing_zeros_leave_the_file_size_and_stay_in_the_memory_size() {
        let mut file = kernel(XEN_PHYS32_ENTRY);
        let before = file.clone();
        trim(&mut file).unwrap();
        let load = 64 + PROGRAM_HEADER;
        assert_eq!(word(&file, load + 32).unwrap(), 5);
        assert_eq!(word(&file, load + 40).unwrap(), 16);
        file[load + 32] = 16;
        assert_eq!(file, before);
    }

    #[test]
    fn kernel_without_pvh_entry_is_refused() {
        let error = trim(&mut kernel(17)).unwrap_err();
        assert!(error.to_string().contains("CONFIG_PVH"), "{error:#}");
    }

    #[test]
    fn broken_files_are_errors() {
        assert!(trim(&mut b"MZ".to_vec()).is_err());
        let good = kernel(XEN_PHYS32_ENTRY);
        for length in 0..good.len() {
            assert!(
                trim(&mut good[..length].to_vec()).is_err(),
                "cut to {length} bytes"
            );
        }
        let mut outside = good;
        outside[64 + PROGRAM_HEADER + 8..][..8].fill(0xff);
        assert!(trim(&mut outside).is_err());
    }
}
