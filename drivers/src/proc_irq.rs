//! `/proc/irq`: where each interrupt may go, and where it goes (`Documentation/core-api/irq/irq-affinity.rst`).

use alloc::{format, string::String};

use base::{Errno, Result, cpulist, tree};
use frame::{
    cpu::{self, CpuMask},
    irq,
};

fn possible() -> u64 {
    u64::MAX >> (64 - cpu::possible().clamp(1, 64))
}

/// In groups of 32 bits, as many digits as there are possible processors.
fn mask_text(m: u64) -> String {
    let (m, n) = (m & possible(), cpu::possible());
    let low = n.min(32).div_ceil(4);
    if n > 32 {
        format!("{:0w$x},{:08x}", m >> 32, m & 0xffff_ffff, w = (n - 32).div_ceil(4))
    } else {
        format!("{m:0low$x}")
    }
}

/// `0-2,5`.
fn list_text(m: u64) -> String {
    cpulist::text(CpuMask(m & possible()))
}

fn text(b: &[u8]) -> Result<&str> {
    Ok(core::str::from_utf8(b).map_err(|_| Errno::EINVAL)?.trim())
}
/// EINVAL for what is not a mask, EOVERFLOW for processors that cannot be.
fn parse_mask(b: &[u8]) -> Result<u64> {
    let digits: String = text(b)?.chars().filter(|&c| c != ',').collect();
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
        return Err(Errno::EINVAL);
    }
    u64::from_str_radix(&digits, 16).map_err(|_| Errno::EOVERFLOW)
}
fn parse_list(b: &[u8]) -> Result<u64> {
    Ok(cpulist::parse(b)?.0)
}

fn set(number: u32, mask: u64) -> Result<()> {
    // A set without any processor that is online is refused, lest the interrupt be lost.
    irq::set_affinity(number, CpuMask(mask & possible())).map_err(|e| match e {
        irq::IrqError::NoCpu => Errno::EINVAL,
        irq::IrqError::Exhausted => Errno::ENOSPC,
        _ => Errno::EIO,
    })
}

fn add(number: u32) -> Result<()> {
    let (t, home) = (tree::proc(), format!("irq/{number}"));
    let info = move || irq::info(number).ok_or(Errno::ENOENT);
    let knob = |name: &str, show: fn(u64) -> String, parse: fn(&[u8]) -> Result<u64>| {
        t.knob(
            &format!("{home}/{name}"),
            0o644,
            move |o| Ok(writeln!(o, "{}", show(info()?.affinity.0))?),
            move |b| set(number, parse(b)?),
        )
    };
    knob("smp_affinity", mask_text, parse_mask)?;
    knob("smp_affinity_list", list_text, parse_list)?;
    let effective = |name: &str, show: fn(u64) -> String| {
        t.file(&format!("{home}/{name}"), 0o444, move |o| {
            Ok(writeln!(o, "{}", show(CpuMask::one(info()?.effective).0))?)
        })
    };
    effective("effective_affinity", mask_text)?;
    effective("effective_affinity_list", list_text)?;
    for name in info()?.handlers {
        // Two handlers of one name share the folder.
        t.dir(&format!("{home}/{}", name.replace('/', "!")))?;
    }
    Ok(())
}

fn changed(number: u32, has_handlers: bool) {
    tree::proc().remove(&format!("irq/{number}"));
    if has_handlers {
        // Without memory for the files the interrupt still works.
        let _ = add(number);
    }
}

/// Makes the files of the interrupts that are there, and of those that come.
pub(crate) fn init() -> Result<()> {
    tree::proc().knob(
        "irq/default_smp_affinity",
        0o644,
        |o| Ok(writeln!(o, "{}", mask_text(irq::default_affinity().0))?),
        |b| {
            let m = CpuMask(parse_mask(b)? & possible());
            irq::set_default_affinity(m).map_err(|_| Errno::EINVAL)
        },
    )?;
    irq::listen(changed);
    irq::list().iter().for_each(|i| changed(i.number, true));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_and_lists_are_read() {
        assert_eq!(parse_mask(b"3\n"), Ok(3));
        assert_eq!(parse_mask(b"1,00000000\n"), Ok(1 << 32));
        assert_eq!(parse_list(b"0-2,5\n"), Ok(0b100111));
        assert_eq!(parse_list(b"63"), Ok(1 << 63));
        for bad in [&b""[..], b"x", b"0x1", b"\xff", b"1 2"] {
            assert_eq!(parse_mask(bad), Err(Errno::EINVAL));
        }
        assert_eq!(parse_mask(b"11111111111111111"), Err(Errno::EOVERFLOW));
        assert_eq!((parse_list(b"2-1"), parse_list(b"64")), (Err(Errno::EINVAL), Err(Errno::ERANGE)));
    }

    #[test]
    fn masks_and_lists_are_printed() {
        assert_eq!(mask_text(1), "1");
        assert_eq!(list_text(1), "0");
    }
}
