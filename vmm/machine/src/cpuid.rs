//! What a vCPU says of itself: the host's CPUID as KVM allows it, with a plain
//! topology of our own: one package, one core a vCPU, one thread a core.
//!
//! Left as the host's, topology leaves would describe cores that the guest
//! does not have, and Linux would log and mis-schedule. Sources: Intel SDM
//! volume 2A "CPUID", AMD APM volume 3 appendix E.

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

const FEATURES_ECX_TSC_DEADLINE: u32 = 1 << 24;
const FEATURES_ECX_HYPERVISOR: u32 = 1 << 31;
const FEATURES_EDX_HTT: u32 = 1 << 28;
const KVM_CPUID_FLAG_SIGNIFCANT_INDEX: u32 = 1;
/// Sub-leaves of the topology leaves: threads, cores, end.
const TOPOLOGY_LEAVES: [u32; 2] = [0x0b, 0x1f];

/// The CPUID of vCPU `id` of `vcpus`, made from what KVM supports.
pub fn for_vcpu(supported: &CpuId, id: u8, vcpus: u8, tsc_deadline: bool) -> CpuId {
    let topology = Topology::new(id, vcpus);
    let mut entries: Vec<kvm_cpuid_entry2> = supported
        .as_slice()
        .iter()
        .filter(|entry| !TOPOLOGY_LEAVES.contains(&entry.function))
        .copied()
        .collect();
    for entry in &mut entries {
        topology.apply(entry);
        if entry.function == 1 {
            entry.ecx |= FEATURES_ECX_HYPERVISOR;
            if tsc_deadline {
                entry.ecx |= FEATURES_ECX_TSC_DEADLINE;
            }
        }
    }
    let highest = supported
        .as_slice()
        .iter()
        .find(|entry| entry.function == 0)
        .map_or(0, |entry| entry.eax);
    for leaf in TOPOLOGY_LEAVES.into_iter().filter(|leaf| *leaf <= highest) {
        entries.extend((0..3).map(|index| topology.leaf(leaf, index)));
    }
    CpuId::from_entries(&entries)
        .expect("as many entries as KVM gave, and six, are below its limit")
}

/// The states that XCR0 of this vCPU can switch on (Intel SDM volume 1, 13.2), 0
/// when it has no XSAVE.
pub fn extended_states(cpuid: &CpuId) -> u64 {
    const EXTENDED_STATES: u32 = 0xd;
    cpuid
        .as_slice()
        .iter()
        .find(|entry| entry.function == EXTENDED_STATES && entry.index == 0)
        .map_or(0, |entry| u64::from(entry.edx) << 32 | u64::from(entry.eax))
}

struct Topology {
    id: u32,
    vcpus: u32,
    /// Bits of an APIC id that number the cores.
    core_bits: u32,
}

impl Topology {
    fn new(id: u8, vcpus: u8) -> Self {
        let vcpus = u32::from(vcpus);
        Topology {
            id: u32::from(id),
            vcpus,
            core_bits: vcpus.next_power_of_two().trailing_zeros(),
        }
    }

    fn apply(&self, entry: &mut kvm_cpuid_entry2) {
        let addressable = 1 << self.core_bits;
        match entry.function {
            0x1 => {
                entry.ebx = (entry.ebx & 0xffff) | addressable << 16 | self.id << 24;
                set(&mut entry.edx, FEATURES_EDX_HTT, self.vcpus > 1);
            }
            // Intel's caches: bits 31:26 cores in the package, 25:14 threads that share the cache.
            0x4 if entry.eax & 0x1f != 0 => {
                let shared = if is_last_level(entry.eax) {
                    addressable - 1
                } else {
                    0
                };
                entry.eax = (entry.eax & 0x3fff) | shared << 14 | (addressable - 1) << 26;
            }
            0x8000_0008 => {
                entry.ecx = (entry.ecx & !0xf0ff) | (self.vcpus - 1) | self.core_bits << 12
            }
            // AMD's caches, laid out like Intel's.
            0x8000_001d if entry.eax & 0x1f != 0 => {
                let shared = if is_last_level(entry.eax) {
                    self.vcpus - 1
                } else {
                    0
                };
                entry.eax = (entry.eax & 0x3fff) | shared << 14;
            }
            0x8000_001e => {
                entry.eax = self.id;
                entry.ebx = self.id & 0xff;
                entry.ecx = 0;
            }
            _ => {}
        }
    }

    /// Sub-leaf `index` of an extended topology leaf.
    fn leaf(&self, function: u32, index: u32) -> kvm_cpuid_entry2 {
        const THREADS: u32 = 1;
        const CORES: u32 = 2;
        let (shift, count, kind) = match index {
            0 => (0, 1, THREADS),
            1 => (self.core_bits, self.vcpus, CORES),
            _ => (0, 0, 0),
        };
        kvm_cpuid_entry2 {
            function,
            index,
            flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
            eax: shift,
            ebx: count,
            ecx: index | kind << 8,
            edx: self.id,
            ..Default::default()
        }
    }
}

fn is_last_level(cache_eax: u32) -> bool {
    (cache_eax >> 5) & 0x7 >= 3
}

fn set(register: &mut u32, bit: u32, on: bool) {
    *register = if on {
        *register | bit
    } else {
        *register & !bit
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> CpuId {
        let leaf = |function, eax, ebx| kvm_cpuid_entry2 {
            function,
            eax,
            ebx,
            ..Default::default()
        };
        CpuId::from_entries(&[
            leaf(0, 0x1f, 0),
            leaf(1, 0, 0x1234_5678),
            leaf(0x4, 0xfc00_4121, 0),
            leaf(0x4, 0xfc00_4163, 0),
            leaf(0xb, 9, 9),
            leaf(0x8000_0008, 0, 0),
            leaf(0x8000_001e, 77, 77),
        ])
        .unwrap()
    }

    fn entry(cpuid: &CpuId, function: u32, nth: usize) -> kvm_cpuid_entry2 {
        *cpuid
            .as_slice()
            .iter()
            .filter(|entry| entry.function == function)
            .nth(nth)
            .unwrap()
    }

    #[test]
    fn a_vcpu_carries_its_own_apic_id_everywhere() {
        let cpuid = for_vcpu(&host(), 2, 3, false);
        assert_eq!(entry(&cpuid, 1, 0).ebx, 0x0204_5678);
        assert_eq!(entry(&cpuid, 0xb, 0).edx, 2);
        assert_eq!(entry(&cpuid, 0x1f, 1).edx, 2);
        assert_eq!(entry(&cpuid, 0x8000_001e, 0).eax, 2);
    }

    #[test]
    fn three_vcpus_are_three_cores_of_one_package() {
        let cpuid = for_vcpu(&host(), 0, 3, false);
        let cores = entry(&cpuid, 0xb, 1);
        assert_eq!((cores.eax, cores.ebx, cores.ecx), (2, 3, 0x201));
        assert_eq!(entry(&cpuid, 0xb, 2).ebx, 0);
        assert_eq!(
            entry(&cpuid, 0x4, 0).eax >> 14,
            3 << 12,
            "first level is not shared"
        );
        assert_eq!(
            entry(&cpuid, 0x4, 1).eax >> 14,
            3 << 12 | 3,
            "last level is"
        );
        assert_eq!(entry(&cpuid, 0x8000_0008, 0).ecx, 2 << 12 | 2);
        assert_ne!(entry(&cpuid, 1, 0).edx & FEATURES_EDX_HTT, 0);
    }

    #[test]
    fn extended_states_are_those_of_both_registers() {
        let leaf = |index, eax, edx| kvm_cpuid_entry2 {
            function: 0xd,
            index,
            eax,
            edx,
            ..Default::default()
        };
        let cpuid = CpuId::from_entries(&[leaf(1, 0xff, 0xff), leaf(0, 0x7, 0x1)]).unwrap();
        assert_eq!(extended_states(&cpuid), 0x1_0000_0007);
        assert_eq!(extended_states(&host()), 0);
    }

    #[test]
    fn one_vcpu_has_no_siblings() {
        let cpuid = for_vcpu(&host(), 0, 1, true);
        let features = entry(&cpuid, 1, 0);
        assert_eq!(features.edx & FEATURES_EDX_HTT, 0);
        assert_eq!(
            features.ecx,
            FEATURES_ECX_HYPERVISOR | FEATURES_ECX_TSC_DEADLINE
        );
    }
}
