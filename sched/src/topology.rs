//! What processors share: threads of one core, cores behind one cache, cores of one package.
//!
//! The number by which the hardware knows a processor (its APIC id) is made up of fields: the lowest bits tell the threads of a core
//! apart, those and the next the processors behind one cache, and so on. So two processors share something if their numbers are
//! equal from some bit on, and that bit is all there is to know. CPUID tells it: leaf 0xb for threads and packages, leaf 4 (0x8000001d
//! of AMD's) for caches. Reference: Intel SDM volume 3, 9.9; AMD APM volume 3, E.4.15.

use base::cpumask;
use frame::{
    cpu::{CpuId, CpuMask, cpuid, hardware_id},
    sync::once::Once,
};

/// How many low bits of the hardware's number lie below each level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Topology {
    pub core: u32,
    /// The last cache.
    pub cache: u32,
    pub package: u32,
}

static TOPOLOGY: Once<Topology> = Once::new();

/// Gives another topology than CPUID's, for simulations. Before the first question.
pub fn install(t: Topology) {
    TOPOLOGY.call_once(|| t);
}

pub(crate) fn topology() -> Topology {
    *TOPOLOGY.call_once(|| {
        let (core, package) = shifts(cpuid);
        let cache = cache_shift(cpuid, core, package);
        Topology { core, cache, package }
    })
}

type Cpuid = fn(u32, u32) -> [u32; 4];

/// Of the core and of the package. Without leaf 0xb there is one package with cores of one thread.
fn shifts(cpuid: Cpuid) -> (u32, u32) {
    if cpuid(0, 0)[0] < 0xb || cpuid(0xb, 0)[1] == 0 {
        return (0, 32);
    }
    (cpuid(0xb, 0)[0] & 31, cpuid(0xb, 1)[0] & 31)
}

/// Most levels of cache that are asked for.
const CACHES: u32 = 8;

fn cache_shift(cpuid: Cpuid, core: u32, package: u32) -> u32 {
    let has = |leaf: u32| cpuid(leaf & 0x8000_0000, 0)[0] >= leaf;
    let leaf = [4, 0x8000_001d].into_iter().find(|&l| has(l) && cpuid(l, 0)[0] & 31 != 0);
    if let Some(leaf) = leaf {
        let caches = (0..CACHES).map(|i| cpuid(leaf, i)[0]).take_while(|a| a & 31 != 0);
        // Level, and how many numbers share it.
        let last = caches.map(|a| (a >> 5 & 7, (a >> 14 & 0xfff) + 1)).max_by_key(|c| c.0);
        return last.map_or(core, |(_, n)| n.next_power_of_two().trailing_zeros()).clamp(core, package);
    }
    // AMD's older way: there is a third level, and the package shares it.
    if has(0x8000_0006) && cpuid(0x8000_0006, 0)[3] != 0 { package } else { core }
}

/// The number without its lowest bits.
fn above(id: u32, bits: u32) -> u32 {
    id.checked_shr(bits).unwrap_or(0)
}

/// The number of a processor's core within its package, and that of the package.
pub(crate) fn ids_of(c: CpuId) -> (u32, u32) {
    let Topology { core, package, .. } = topology();
    let id = hardware_id(c);
    let within = id & 1u32.checked_shl(package).map_or(!0, |b| b - 1);
    (above(within, core), above(id, package))
}

/// The possible processors whose number is that of `c` but for the lowest bits.
fn sharing(c: CpuId, bits: u32) -> CpuMask {
    let key = |x: CpuId| above(hardware_id(x), bits);
    CpuMask(cpumask::all().iter().filter(|&x| key(x) == key(c)).fold(0, |m, x| m | CpuMask::one(x).0))
}

/// The threads of a processor's core. Each of these includes the processor itself, and those that are off line.
pub fn core_of(c: CpuId) -> CpuMask {
    sharing(c, topology().core)
}
/// The processors behind its last cache.
pub fn cache_of(c: CpuId) -> CpuMask {
    sharing(c, topology().cache)
}
/// The processors of its package.
pub fn package_of(c: CpuId) -> CpuMask {
    sharing(c, topology().package)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One level of cache per sub-leaf: type 3, level, sharing.
    fn caches(leaf: u32, sub: u32, levels: &[(u32, u32)]) -> [u32; 4] {
        let a = levels.get(sub as usize).map_or(0, |(level, n)| 3 | level << 5 | (n - 1) << 14);
        [a, u32::from(leaf != 0), 0, 0]
    }
    /// Two threads a core, eight cores, a third level for four of them.
    fn intel(leaf: u32, sub: u32) -> [u32; 4] {
        match (leaf, sub) {
            (0, _) => [0xb, 0, 0, 0],
            (4, s) => caches(4, s, &[(1, 2), (1, 2), (2, 2), (3, 8)]),
            (0xb, 0) => [1, 2, 0, 0],
            (0xb, 1) => [4, 16, 0, 0],
            _ => [0; 4],
        }
    }
    fn old_amd(leaf: u32, _sub: u32) -> [u32; 4] {
        match leaf {
            0 => [1, 0, 0, 0],
            0x8000_0000 => [0x8000_0008, 0, 0, 0],
            0x8000_0006 => [0, 0, 0, 1 << 18],
            _ => [0; 4],
        }
    }

    #[test]
    fn cpuid_is_understood() {
        let (core, package) = shifts(intel);
        assert_eq!((core, package, cache_shift(intel, core, package)), (1, 4, 3));
        let (core, package) = shifts(old_amd);
        assert_eq!((core, package, cache_shift(old_amd, core, package)), (0, 32, 32));
        let nothing = |_, _| [0; 4];
        assert_eq!((shifts(nothing), cache_shift(nothing, 0, 32)), ((0, 32), 0));
    }
}
