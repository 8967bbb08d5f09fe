//! Files about the system as a whole that belong to no other room.

use alloc::sync::Arc;

use base::{Errno, Result, tree};
use frame::sync::{LockClass, SpinLock};

pub use base::version::{RELEASE, VERSION};

static NAME_CLASS: LockClass = LockClass::new("uts_names");
/// Host and domain name, at most 64 bytes each.
static NAMES: SpinLock<[Name; 2]> = SpinLock::new(&NAME_CLASS, [Name::new(b"(none)"), Name::new(b"(none)")]);

/// Longest host or domain name (`__NEW_UTS_LEN`).
pub const NAME_LEN: usize = 64;

#[derive(Clone, Copy)]
struct Name {
    bytes: [u8; NAME_LEN],
    len: usize,
}
impl Name {
    const fn new(s: &[u8]) -> Self {
        let (mut bytes, mut i) = ([0; NAME_LEN], 0);
        while i < s.len() && i < NAME_LEN {
            bytes[i] = s[i];
            i += 1;
        }
        Name { bytes, len: i }
    }
}

/// Which of the two names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UtsName {
    Host,
    Domain,
}

/// Copies a name out; its length.
pub fn uts_name(which: UtsName, out: &mut [u8; NAME_LEN]) -> usize {
    let n = NAMES.lock()[which as usize];
    *out = n.bytes;
    n.len
}
/// Sets a name. EINVAL if it is too long.
pub fn set_uts_name(which: UtsName, name: &[u8]) -> Result<()> {
    if name.len() > NAME_LEN {
        return Err(Errno::EINVAL);
    }
    NAMES.lock()[which as usize] = Name::new(name);
    Ok(())
}

fn name_knob(path: &str, which: UtsName) -> Result<()> {
    tree::proc().knob(
        path,
        0o644,
        move |out| {
            let mut b = [0; NAME_LEN];
            let n = uts_name(which, &mut b);
            out.push(&b[..n])?;
            out.push(b"\n")
        },
        // A sysctl string ends at the first newline or NUL, and is cut to what fits.
        move |b| {
            let end = b.iter().position(|&c| c == b'\n' || c == 0).unwrap_or(b.len());
            set_uts_name(which, &b[..end.min(NAME_LEN)])
        },
    )
}

pub(super) fn declare() -> Result<()> {
    let t = tree::proc();
    t.file("version", 0o444, |o| {
        Ok(writeln!(o, "Linux version {RELEASE} (nightshift@localhost) (rustc) {VERSION}")?)
    })?;
    t.file("cmdline", 0o444, |o| Ok(writeln!(o, "{}", frame::boot::info().command_line)?))?;
    t.file("filesystems", 0o444, |o| o.push(vfs::superblock::filesystems_text().as_bytes()))?;
    t.link("mounts", "self/mounts")?;
    t.file("cpuinfo", 0o444, cpuinfo)?;
    t.file("devices", 0o444, devices)?;
    t.file("interrupts", 0o444, super::interrupts::interrupts)?;
    t.file("sys/kernel/ostype", 0o444, |o| Ok(writeln!(o, "Linux")?))?;
    t.file("sys/kernel/osrelease", 0o444, |o| Ok(writeln!(o, "{RELEASE}")?))?;
    t.file("sys/kernel/version", 0o444, |o| Ok(writeln!(o, "{VERSION}")?))?;
    t.knob(
        "sys/kernel/ctrl-alt-del",
        0o644,
        |o| Ok(writeln!(o, "{}", base::reboot::CTRL_ALT_DEL.load(frame::atomic::Ordering::Relaxed))?),
        |b| {
            let n = i32::try_from(tree::parse_int(b)?).map_err(|_| Errno::EINVAL)?;
            base::reboot::CTRL_ALT_DEL.store(n, frame::atomic::Ordering::Relaxed);
            Ok(())
        },
    )?;
    name_knob("sys/kernel/hostname", UtsName::Host)?;
    name_knob("sys/kernel/domainname", UtsName::Domain)?;
    base::log::control::declare()?;
    base::taint::declare()?;
    super::kmsg::declare()
}

/// CPUID's words as text: vendor and brand.
fn cpuid_text(words: &[u32]) -> alloc::string::String {
    let bytes: alloc::vec::Vec<u8> =
        words.iter().flat_map(|w| w.to_le_bytes()).take_while(|&b| b != 0).collect();
    alloc::string::String::from_utf8_lossy(&bytes).trim().into()
}

/// One block per processor, with what CPUID says. Flags are left out: they would name features by Linux's private words.
fn cpuinfo(o: &mut tree::Out) -> Result<()> {
    let [max, b, c, d] = frame::cpu::cpuid(0, 0);
    let [sig, info, _, _] = if max >= 1 { frame::cpu::cpuid(1, 0) } else { [0; 4] };
    let brand: alloc::vec::Vec<u32> = if frame::cpu::cpuid(0x8000_0000, 0)[0] >= 0x8000_0004 {
        (2..=4).flat_map(|l| frame::cpu::cpuid(0x8000_0000 + l, 0)).collect()
    } else {
        alloc::vec::Vec::new()
    };
    let (mut family, mut model) = (sig >> 8 & 15, sig >> 4 & 15);
    if family == 15 {
        family += sig >> 20 & 0xff;
    }
    if family == 6 || family >= 15 {
        model |= (sig >> 16 & 15) << 4;
    }
    let [sizes, ..] = if frame::cpu::cpuid(0x8000_0000, 0)[0] >= 0x8000_0008 {
        frame::cpu::cpuid(0x8000_0008, 0)
    } else {
        [0x3024; 4]
    };
    let khz = frame::cpu::tsc_hz() / 1000;
    for cpu in frame::cpu::online().iter() {
        writeln!(o, "processor\t: {cpu}")?;
        writeln!(o, "vendor_id\t: {}", cpuid_text(&[b, d, c]))?;
        writeln!(o, "cpu family\t: {family}")?;
        writeln!(o, "model\t\t: {model}")?;
        writeln!(o, "model name\t: {}", cpuid_text(&brand))?;
        writeln!(o, "stepping\t: {}", sig & 15)?;
        writeln!(o, "cpu MHz\t\t: {}.{:03}", khz / 1000, khz % 1000)?;
        writeln!(o, "cpuid level\t: {max}")?;
        writeln!(o, "clflush size\t: {}", (info >> 8 & 0xff) * 8)?;
        writeln!(o, "address sizes\t: {} bits physical, {} bits virtual\n", sizes & 0xff, sizes >> 8 & 0xff)?;
    }
    Ok(())
}

/// Major numbers and the names of their drivers.
fn devices(o: &mut tree::Out) -> Result<()> {
    use base::device::{DevKind, Device, all};
    let (list, majors) = (all(), base::device::majors());
    let lines = |kind: DevKind, o: &mut tree::Out| -> Result<()> {
        let devices = list.iter().filter(|d| d.kind == kind).map(|d| (d.num.major, driver_name(d)));
        let whole = majors.iter().filter(|m| m.0 == kind).map(|m| (m.1, m.2));
        let mut all: alloc::vec::Vec<(u32, &str)> = devices.chain(whole).collect();
        // Names of one major stay in the order of its minors.
        all.sort_by_key(|d| d.0);
        all.dedup();
        all.iter().try_for_each(|(major, name)| Ok(writeln!(o, "{major:3} {name}")?))
    };
    fn driver_name(d: &Arc<Device>) -> &str {
        // Linux's names for the majors of `Documentation/admin-guide/devices.txt`.
        match (d.num.major, d.num.minor) {
            (1, _) => "mem",
            (4, 64..) => "ttyS",
            (4, _) => "tty",
            (5, 0) => "/dev/tty",
            (5, 1) => "/dev/console",
            (5, 2) => "/dev/ptmx",
            (10, _) => "misc",
            _ => d.class.unwrap_or(&d.name),
        }
    }
    writeln!(o, "Character devices:")?;
    lines(DevKind::Char, o)?;
    writeln!(o, "\nBlock devices:")?;
    lines(DevKind::Block, o)
}
