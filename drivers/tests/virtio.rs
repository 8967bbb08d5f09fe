//! PCI, virtio and the entropy driver against a simulated device: an honest one, and ones that lie.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use base::{Errno, tree};
use frame::{
    irq::Message,
    sim::{self, Config, SimDevice},
};

const ECAM: u64 = 0xb000_0000;
const REGISTERS: u64 = 0xfe00_0000;
const TABLE: u64 = 0xfe01_0000;

/// What a device does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lie {
    None,
    /// Says that it has used more chains than it was given.
    Index,
    /// Gives back a chain that it does not have.
    Head,
    /// Says that it has written more than there is room for.
    Length,
    /// Gives a chain back twice.
    Twice,
    /// Never answers.
    Silence,
    /// Its registers lie outside of their BAR.
    Place,
    /// Refuses what it offered.
    Features,
    /// Has a queue of a nonsensical size.
    Size,
    /// Rings at a place outside of its registers.
    Bell,
}
const LIES: [Lie; 10] = [
    Lie::None,
    Lie::Index,
    Lie::Head,
    Lie::Length,
    Lie::Twice,
    Lie::Silence,
    Lie::Place,
    Lie::Features,
    Lie::Size,
    Lie::Bell,
];

/// The device's state.
struct Rng {
    lie: Lie,
    config: RefCell<[u8; 4096]>,
    table: RefCell<[u32; 8]>,
    status: Cell<u8>,
    feature_word: Cell<u32>,
    rings: RefCell<[u32; 6]>,
    size: Cell<u16>,
    enabled: Cell<bool>,
    vectors: Cell<[u16; 2]>,
    seen: Cell<u16>,
    used: Cell<u16>,
}

fn put(c: &mut [u8; 4096], at: usize, bytes: &[u8]) {
    c[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Rng {
    fn new(lie: Lie) -> Rc<Rng> {
        let mut c = [0; 4096];
        put(&mut c, 0, &[0xf4, 0x1a, 0x44, 0x10]);
        put(&mut c, 6, &[0x10]);
        put(&mut c, 8, &[1, 0, 0, 0xff]);
        put(&mut c, 0x14, &(TABLE as u32).to_le_bytes());
        put(&mut c, 0x20, &(REGISTERS as u32 | 4).to_le_bytes());
        put(&mut c, 0x34, &[0x40]);
        // MSI-X: two messages, table at the start of BAR 1.
        put(&mut c, 0x40, &[0x11, 0x50, 1, 0, 1, 0, 0, 0, 1, 8, 0, 0]);
        let mut group = |at: usize, next: u8, kind: u8, offset: u32, len: u32| {
            put(&mut c, at, &[9, next, 20, kind, 4, 0, 0, 0]);
            put(&mut c, at + 8, &offset.to_le_bytes());
            put(&mut c, at + 12, &len.to_le_bytes());
            put(&mut c, at + 16, &4u32.to_le_bytes());
        };
        let beyond = if lie == Lie::Place { 0x3ff0 } else { 0 };
        group(0x50, 0x70, 1, beyond, 0x1000);
        group(0x70, 0x90, 3, 0x1000, 0x1000);
        group(0x90, 0, 2, 0x3000, 0x1000);
        Rc::new(Rng {
            lie,
            config: RefCell::new(c),
            table: RefCell::new([0; 8]),
            status: Cell::new(0),
            feature_word: Cell::new(0),
            rings: RefCell::new([0; 6]),
            size: Cell::new(0),
            enabled: Cell::new(false),
            vectors: Cell::new([0xffff; 2]),
            seen: Cell::new(0),
            used: Cell::new(0),
        })
    }
    fn ring(&self, i: usize) -> u64 {
        let r = self.rings.borrow();
        u64::from(r[2 * i]) | u64::from(r[2 * i + 1]) << 32
    }
    fn signal(&self, vector: u16) {
        let t = self.table.borrow();
        let Some(e) = t.get(4 * usize::from(vector)..4 * usize::from(vector) + 4) else { return };
        if e[3] & 1 == 0 {
            sim::send_message(Message { address: u64::from(e[0]) | u64::from(e[1]) << 32, data: e[2] });
        }
    }
    fn word(&self, pa: u64) -> u16 {
        let mut b = [0; 2];
        assert!(sim::dma_read(pa, &mut b), "the driver gave an address outside of memory");
        u16::from_le_bytes(b)
    }
    /// Serves what the driver has offered.
    fn work(&self) {
        if !self.enabled.get() || self.lie == Lie::Silence {
            return;
        }
        while self.word(self.ring(1) + 2) != self.seen.get() {
            let head = self.word(self.ring(1) + 4 + 2 * u64::from(self.seen.get() % self.size.get()));
            self.seen.set(self.seen.get().wrapping_add(1));
            let mut d = [0; 16];
            assert!(sim::dma_read(self.ring(0) + 16 * u64::from(head), &mut d));
            let at = u64::from_le_bytes(d[..8].try_into().unwrap());
            let len = u32::from_le_bytes(d[8..12].try_into().unwrap());
            assert_eq!(d[12], 2, "one part, for the device to write");
            let bytes: Vec<u8> = (0..len).map(|_| 1 + sim::random(255) as u8).collect();
            assert!(sim::dma_write(at, &bytes));
            self.finish(head.into(), len);
        }
        let v = self.vectors.get()[1];
        self.signal(v);
    }
    fn finish(&self, head: u32, len: u32) {
        let (head, len) = match self.lie {
            Lie::Head => (head + 0x1_0001, len),
            Lie::Length => (head, u32::MAX),
            _ => (head, len),
        };
        for _ in 0..if self.lie == Lie::Twice { 2 } else { 1 } {
            let slot = self.ring(2) + 4 + 8 * u64::from(self.used.get() % self.size.get());
            sim::dma_write(slot, &head.to_le_bytes());
            sim::dma_write(slot + 4, &len.to_le_bytes());
            self.used.set(self.used.get().wrapping_add(if self.lie == Lie::Index { 1000 } else { 1 }));
            sim::dma_write(self.ring(2) + 2, &self.used.get().to_le_bytes());
        }
    }
    fn reset(&self) {
        self.enabled.set(false);
        self.vectors.set([0xffff; 2]);
        self.seen.set(0);
        self.used.set(0);
    }
}

/// Configuration space of bus 0: this device alone.
struct Ecam(Rc<Rng>);
const DEVICE: u64 = 3 << 15;
impl SimDevice for Ecam {
    fn read(&self, off: u64, size: usize) -> u64 {
        let Some(at) = off.checked_sub(DEVICE).filter(|&a| a < 4096) else { return u64::MAX };
        let c = self.0.config.borrow();
        (0..size).rev().fold(0, |v, i| v << 8 | u64::from(c[at as usize + i]))
    }
    fn write(&self, off: u64, size: usize, value: u64) {
        let Some(at) = off.checked_sub(DEVICE).filter(|&a| a < 4096) else { return };
        // Only these can be written: command, the two BARs, MSI-X control.
        let mask: u64 = match at {
            4 => 0x407,
            0x14 => 0xffff_f000,
            0x20 => 0xffff_c000,
            0x24 => 0xffff_ffff,
            0x42 => 0xc000,
            _ => return,
        };
        let old = self.read(off, size);
        let new = old & !mask | value & mask;
        let mut c = self.0.config.borrow_mut();
        (0..size).for_each(|i| c[at as usize + i] = (new >> (8 * i)) as u8);
    }
}

struct Table(Rc<Rng>);
impl SimDevice for Table {
    fn read(&self, off: u64, _size: usize) -> u64 {
        self.0.table.borrow().get(off as usize / 4).copied().unwrap_or(0).into()
    }
    fn write(&self, off: u64, _size: usize, value: u64) {
        if let Some(w) = self.0.table.borrow_mut().get_mut(off as usize / 4) {
            *w = value as u32;
        }
    }
}

struct Registers(Rc<Rng>);
impl SimDevice for Registers {
    fn read(&self, off: u64, _size: usize) -> u64 {
        let d = &self.0;
        match off {
            // Version 1 alone, in the upper word.
            4 => u64::from(d.feature_word.get() == 1),
            16 => d.vectors.get()[0].into(),
            18 => 1,
            20 => d.status.get().into(),
            24 if d.lie == Lie::Size => 0xffff,
            24 => 8,
            26 => d.vectors.get()[1].into(),
            28 => d.enabled.get().into(),
            30 if d.lie == Lie::Bell => 0x400,
            _ => 0,
        }
    }
    fn write(&self, off: u64, _size: usize, value: u64) {
        let d = &self.0;
        let [c, q] = d.vectors.get();
        match off {
            0 => d.feature_word.set(value as u32),
            16 => d.vectors.set([value as u16, q]),
            20 => {
                let refuse = if d.lie == Lie::Features { !8 } else { !0 };
                d.status.set(value as u8 & refuse);
                if value == 0 {
                    d.reset();
                }
            }
            24 => d.size.set(value as u16),
            26 => d.vectors.set([c, value as u16]),
            28 => d.enabled.set(value == 1),
            32..56 => d.rings.borrow_mut()[(off as usize - 32) / 4] = value as u32,
            0x3000 => {
                let d = d.clone();
                sim::at(sim::now_ns() + 1000 + sim::random(100_000), move || d.work());
            }
            _ => {}
        }
    }
}

fn attach(lie: Lie) {
    let rng = Rng::new(lie);
    let mut mcfg = b"MCFG".to_vec();
    mcfg.resize(44, 0);
    mcfg.extend_from_slice(&ECAM.to_le_bytes());
    mcfg.resize(60, 0);
    sim::attach_acpi_table(mcfg);
    sim::attach_memory(ECAM, 1 << 20, Rc::new(Ecam(rng.clone())));
    sim::attach_memory(REGISTERS, 0x4000, Rc::new(Registers(rng.clone())));
    sim::attach_memory(TABLE, 0x1000, Rc::new(Table(rng)));
}

fn boot(f: impl FnOnce() + Send + 'static) {
    mm::init();
    sched::init_boot_cpu();
    let main = Box::new(move || {
        sched::start_other_cpus();
        sched::start_daemons().unwrap();
        f();
        frame::boot::power_off()
    });
    let init = sched::spawn_init(None, main).unwrap();
    sim::watch_task(&init, "init");
    sched::start_kthreadd().unwrap();
    init.start();
    sched::cpu_idle()
}

fn text(path: &str) -> String {
    let node = tree::sys().find(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    String::from_utf8(node.read().unwrap()).unwrap()
}

fn try_device(lie: Lie) {
    drivers::platform::init().unwrap();
    drivers::pci::init().unwrap();
    drivers::virtio::init().unwrap();
    drivers::hw_random::init().unwrap();
    let mut buf = [0u8; 100];
    let current = text("devices/virtual/misc/hw_random/rng_current");
    assert_eq!(text("devices/pci0000:00/0000:00:03.0/vendor"), "0x1af4\n");
    match lie {
        Lie::Place | Lie::Features | Lie::Bell => {
            assert_eq!(current, "none\n", "{lie:?}");
            assert_eq!(drivers::hw_random::read(&mut buf, true), Err(Errno::ENODEV));
        }
        Lie::None | Lie::Length | Lie::Size => {
            assert_eq!(current, "virtio_rng.0\n", "{lie:?}");
            for _ in 0..5 {
                let n = drivers::hw_random::read(&mut buf, true).unwrap();
                assert!(n > 0 && n <= 64 && buf[..n].iter().all(|&b| b != 0), "{n} bytes");
            }
            // Every byte of the device goes to one reader only: unbinding waits for them, and binding works again.
            let unbind = tree::sys().find("bus/virtio/drivers/virtio_rng/unbind").unwrap();
            unbind.write(b"virtio0").unwrap();
            assert_eq!(drivers::hw_random::read(&mut buf, true), Err(Errno::ENODEV));
            assert_eq!(frame::irq::list().len(), 0, "its interrupts are given back");
            tree::sys().find("bus/virtio/drivers/virtio_rng/bind").unwrap().write(b"virtio0").unwrap();
            assert_eq!(text("devices/virtual/misc/hw_random/rng_current"), "virtio_rng.1\n");
            assert!(drivers::hw_random::read(&mut buf, true).unwrap() > 0);
        }
        Lie::Silence => {
            assert_eq!(drivers::hw_random::read(&mut buf, false), Err(Errno::EAGAIN));
        }
        Lie::Index | Lie::Head | Lie::Twice => {
            let broken = (0..20).map(|_| drivers::hw_random::read(&mut buf, true)).find(Result::is_err);
            assert_eq!(broken, Some(Err(Errno::EIO)), "{lie:?}");
            assert_eq!(drivers::hw_random::read(&mut buf, true), Err(Errno::EIO));
        }
    }
}

/// Whatever the device says, its driver answers with an error or with bytes that the device wrote, and the kernel lives.
#[test]
fn devices_are_not_believed() {
    let config = |seed| Config { max_time_ns: 60_000_000_000, ..Config::from_seed(seed) };
    sim::campaign_with("virtio_rng", 200, config, |seed| {
        let lie = LIES[seed as usize % LIES.len()];
        attach(lie);
        boot(move || try_device(lie));
    });
}
