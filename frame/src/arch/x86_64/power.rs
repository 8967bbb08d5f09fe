//! Ends: power off and reset.

use super::{
    acpi::{Register, platform},
    clock,
    insn::{halt_forever, irq_disable, port_read16, port_write8, port_write16, relax},
    memory::phys_to_ptr,
};

const SLP_EN: u16 = 1 << 13;

fn write(r: Register, v: u8) {
    match r {
        Register::Port(p) => port_write8(p, v),
        // SAFETY: a register that the firmware's table names, inside the direct map; not RAM in use by anything.
        Register::Memory(pa) => unsafe { phys_to_ptr(pa).write_volatile(v) },
    }
}

fn wait_ms(ms: u64) {
    let end = clock::now_ns() + ms * 1_000_000;
    while clock::now_ns() < end {
        relax();
    }
}

/// Ends the machine: ACPI S5. Where there is no way, this processor halts.
pub fn power_off() -> ! {
    irq_disable();
    let p = platform();
    if let Some((a, b, value)) = p.s5 {
        if let Some(r) = p.sleep_control {
            // SLP_TYPx in bits 2-4, SLP_EN bit 5.
            write(r, (value as u8 & 7) << 2 | 0x20);
        }
        for port in [a, b] {
            if port != 0 {
                let keep = port_read16(port) & !(7 << 10);
                port_write16(port, keep | (value & 7) << 10 | SLP_EN);
            }
        }
        wait_ms(1000);
    }
    super::serial::console_write(b"power off: the machine does not react; halted\n");
    halt_forever()
}

/// Restarts the machine: the ACPI reset register, the PC's reset control, the keyboard controller, a triple fault.
pub fn reset() -> ! {
    irq_disable();
    if let Some((r, v)) = platform().reset {
        write(r, v);
        wait_ms(50);
    }
    port_write8(0xcf9, 6);
    wait_ms(50);
    port_write8(0x64, 0xfe);
    wait_ms(50);
    let none = [0u64; 2];
    // SAFETY: the machine ends here: the first exception finds no handler, nor one for that.
    unsafe { core::arch::asm!("lidt [{}]", "ud2", in(reg) &raw const none, options(noreturn)) }
}
