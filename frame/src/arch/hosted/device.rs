//! Simulated devices: their registers and ports, and the way of their interrupts to a processor.

use core::cell::{Cell, RefCell};
use std::rc::Rc;

use super::{
    cpu::{self, pending},
    memory, point,
};
use crate::{
    irq::{LINE_VECTORS, LineMode, MAX_LINES, Message},
    sim::SimDevice,
};

struct Region {
    start: u64,
    len: u64,
    device: Rc<dyn SimDevice>,
}

struct Devices {
    memory: RefCell<Vec<Region>>,
    ports: RefCell<Vec<Region>>,
    tables: RefCell<Vec<Vec<u8>>>,
    /// Where each line goes; `None` while masked.
    routes: [Cell<Option<u32>>; MAX_LINES],
    /// Lines that were raised while masked.
    waiting: Cell<u64>,
}

// SAFETY: used only where this process is a simulation (`cpu::active`), which has one host thread.
unsafe impl Sync for Devices {}

static D: Devices = Devices {
    memory: RefCell::new(Vec::new()),
    ports: RefCell::new(Vec::new()),
    tables: RefCell::new(Vec::new()),
    routes: [const { Cell::new(None) }; MAX_LINES],
    waiting: Cell::new(0),
};

pub(crate) fn attach_memory(start: u64, len: u64, device: Rc<dyn SimDevice>) {
    D.memory.borrow_mut().push(Region { start, len, device });
}
pub(crate) fn attach_ports(start: u16, len: u16, device: Rc<dyn SimDevice>) {
    D.ports.borrow_mut().push(Region { start: start.into(), len: len.into(), device });
}
pub(crate) fn attach_table(table: Vec<u8>) {
    D.tables.borrow_mut().push(table);
}

fn find(regions: &RefCell<Vec<Region>>, at: u64, len: u64) -> Option<(Rc<dyn SimDevice>, u64)> {
    let all = regions.borrow();
    let r = all.iter().find(|r| r.start <= at && at + len <= r.start + r.len)?;
    Some((r.device.clone(), at - r.start))
}

/// Registers are at their physical addresses. `None` unless one device has the whole range.
pub fn map_device(pa: u64, len: usize) -> Option<usize> {
    cpu::active().then(|| find(&D.memory, pa, len as u64)).flatten().map(|_| pa as usize)
}

fn read(regions: &RefCell<Vec<Region>>, at: u64, size: usize) -> u64 {
    super::preempt_point();
    let float = u64::MAX >> (64 - 8 * size);
    if cpu::lone() {
        return float;
    }
    find(regions, at, size as u64).map_or(float, |(d, off)| point::undisturbed(|| d.read(off, size)) & float)
}
fn write(regions: &RefCell<Vec<Region>>, at: u64, size: usize, v: u64) {
    super::preempt_point();
    if cpu::active()
        && let Some((d, off)) = find(regions, at, size as u64)
    {
        point::undisturbed(|| d.write(off, size, v));
    }
}

/// # Safety
/// None is needed here; the contract of both back ends.
pub unsafe fn mmio_read(at: usize, size: usize) -> u64 {
    read(&D.memory, at as u64, size)
}
/// # Safety
/// None is needed here; the contract of both back ends.
pub unsafe fn mmio_write(at: usize, size: usize, v: u64) {
    write(&D.memory, at as u64, size, v);
}
pub fn port_read8(port: u16) -> u8 {
    read(&D.ports, port.into(), 1) as u8
}
pub fn port_write8(port: u16, v: u8) {
    write(&D.ports, port.into(), 1, v.into());
}
pub fn port_read16(port: u16) -> u16 {
    read(&D.ports, port.into(), 2) as u16
}
pub fn port_write16(port: u16, v: u16) {
    write(&D.ports, port.into(), 2, v.into());
}
pub fn port_read32(port: u16) -> u32 {
    read(&D.ports, port.into(), 4) as u32
}
pub fn port_write32(port: u16, v: u32) {
    write(&D.ports, port.into(), 4, v.into());
}

/// A table that the test attached.
pub fn acpi_table(signature: &[u8; 4], n: usize) -> Option<Vec<u8>> {
    if cpu::lone() {
        return None;
    }
    D.tables.borrow().iter().filter(|t| t.starts_with(signature)).nth(n).cloned()
}

/// The simulated controller has as many as can be.
pub fn line_count() -> u32 {
    MAX_LINES as u32
}
pub fn isa_line(irq: u32) -> u32 {
    irq
}
pub fn line_mode(line: u32) -> LineMode {
    LineMode { level: line >= 16, active_low: line >= 16 }
}

/// Sends a line to a processor, or masks it. What was raised while masked comes now.
#[expect(clippy::result_unit_err, reason = "the contract of both back ends")]
pub fn route_line(line: u32, cpu: u32, _mode: LineMode, masked: bool) -> Result<(), ()> {
    if line as usize >= MAX_LINES {
        return Err(());
    }
    if cpu::active() {
        D.routes[line as usize].set((!masked).then_some(cpu));
        if !masked && D.waiting.get() >> line & 1 != 0 {
            D.waiting.set(D.waiting.get() & !(1 << line));
            raise_line(line);
        }
    }
    Ok(())
}

/// Raises a device's line.
pub(crate) fn raise_line(line: u32) {
    assert!((line as usize) < MAX_LINES, "no such line");
    match D.routes[line as usize].get() {
        Some(cpu) => set_vector(cpu, LINE_VECTORS + line as u8),
        None => D.waiting.set(D.waiting.get() | 1 << line),
    }
}

fn set_vector(cpu: u32, vector: u8) {
    let word = &cpu::all().cpu[cpu as usize].vectors[usize::from(vector / 64)];
    word.set(word.get() | 1 << (vector % 64));
    point::interrupt(cpu, pending::VECTOR);
}

/// A vector that waits for this processor; taken.
pub(super) fn take_vector() -> Option<u8> {
    cpu::with(|c| {
        let (i, word) = c.vectors.iter().enumerate().find(|(_, w)| w.get() != 0)?;
        let bit = word.get().trailing_zeros();
        word.set(word.get() & (word.get() - 1));
        Some((i as u32 * 64 + bit) as u8)
    })
}
/// True if more wait.
pub(super) fn has_vector() -> bool {
    cpu::with(|c| c.vectors.iter().any(|w| w.get() != 0))
}

const MESSAGES: u64 = 0xfee0_0000;

/// Messages look as on the machine.
pub fn message(cpu: u32, vector: u8) -> Message {
    Message { address: MESSAGES | u64::from(cpu) << 12, data: vector.into() }
}
/// What a device's write does. One to a wrong address or with a wrong vector is lost.
pub(crate) fn deliver(m: Message) {
    let cpu = (m.address & 0xff_ffff) >> 12 & 0xff;
    if m.address & !0xff_ffff == MESSAGES & !0xff_ffff && cpu < u64::from(cpu::all().count.get()) {
        set_vector(cpu as u32, m.data as u8);
    }
}
pub fn send_vector(cpu: u32, vector: u8) {
    if cpu::active() {
        set_vector(cpu, vector);
    }
}
pub fn vector_pending(vector: u8) -> bool {
    cpu::with(|c| c.vectors[usize::from(vector / 64)].get() >> (vector % 64) & 1 != 0)
}

/// A device's access to memory: false, and nothing happens, outside of it.
pub(crate) fn dma(pa: u64, len: usize) -> Option<*mut u8> {
    let end = pa.checked_add(len as u64)?;
    (len != 0 && end <= memory::len()).then(|| memory::phys_to_ptr(pa))
}
