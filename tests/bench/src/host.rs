//! The machine on which guests are measured.

use std::fs;
use std::hint::black_box;

/// Bytes that [`wash`] writes: more than two guests of a benchmark have.
const WASHED: usize = 768 << 20;

/// The processor's name, and whether it is an emulated one.
pub fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let name = name.map_or("of unknown kind", |(_, name)| name);
    if emulated() {
        format!("{name} emulated by QEMU")
    } else {
        name.to_owned()
    }
}

fn emulated() -> bool {
    let vendor = fs::read_to_string("/sys/class/dmi/id/sys_vendor").unwrap_or_default();
    vendor.trim() == "QEMU"
}

/// Makes the memory that was freed last like any other, where the machine is emulated.
///
/// Memory that held a guest's kernel is tied to the emulator's translation of that code: the
/// first to write there waits while it is torn down, 30 ms for a huge page at times. A guest
/// gets the memory of the one before it, so that without this each would pay for another.
pub fn wash() {
    if emulated() {
        drop(black_box(vec![1u8; WASHED]));
    }
}
