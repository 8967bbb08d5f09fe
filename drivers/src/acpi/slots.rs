//! The processor slots of a virtual machine: what was plugged in, what is to be pulled out.
//!
//! # The registers
//! Twelve ports, which the firmware's tables name as the operation region `PRST` of the DSDT. One slot is selected at a time:
//!
//! | at | read | write |
//! |---|---|---|
//! | 0, 32 bits | | selects a slot; the first such write turns the registers on (before, they are a map of bits) |
//! | 4, 8 bits | bit 0: a processor is there; 1: it is new; 2: it shall go | bit 1: new is seen; 2: the wish is seen; 3: pull it out |
//! | 5, 8 bits | | command: 0 selects the next slot with bit 1 or 2; 1 and 2 take an event and its status; 3 asks for the APIC id |
//! | 8, 32 bits | the answer: to 0 the selected slot, to 3 the APIC id | the value for commands 1 and 2 |
//!
//! Reference: QEMU, *ACPI CPU hotplug interface*; the events and status codes of `_OST`: ACPI Specification 6.5, 6.3.5.

/// What can be done with the ports.
pub(super) trait Registers {
    fn read8(&self, at: u16) -> u8;
    fn read32(&self, at: u16) -> u32;
    fn write8(&self, at: u16, v: u8);
    fn write32(&self, at: u16, v: u32);
}

impl Registers for frame::io::Ports {
    fn read8(&self, at: u16) -> u8 {
        self.read8(at)
    }
    fn read32(&self, at: u16) -> u32 {
        self.read32(at)
    }
    fn write8(&self, at: u16, v: u8) {
        self.write8(at, v);
    }
    fn write32(&self, at: u16, v: u32) {
        self.write32(at, v);
    }
}

const SELECTOR: u16 = 0;
const STATUS: u16 = 4;
const COMMAND: u16 = 5;
const DATA: u16 = 8;
/// How many ports there are.
pub(super) const LEN: u16 = 12;

const ENABLED: u8 = 1;
const INSERTED: u8 = 1 << 1;
const REMOVAL: u8 = 1 << 2;
const EJECT: u8 = 1 << 3;

const NEXT_WITH_EVENT: u8 = 0;
const OST_EVENT: u8 = 1;
const OST_STATUS: u8 = 2;
const APIC_ID: u8 = 3;

/// What has happened to a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// A processor was plugged in.
    Inserted,
    /// Somebody wants to pull it out.
    Removal,
}

/// How an event was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    Done,
    /// It could not be done.
    Failed,
    /// The processor is needed.
    Busy,
}

/// A slot with news: its number, the processor's APIC id, and what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct News {
    pub(super) slot: u32,
    pub(super) apic_id: u32,
    pub(super) event: Event,
}

/// The slots.
pub(super) struct Slots<R>(R);

impl<R: Registers> Slots<R> {
    /// Turns the registers on. `None` if the first slot does not hold the processor with APIC id `boot`: then something else is there.
    pub(super) fn open(regs: R, boot: u32) -> Option<Self> {
        let slots = Slots(regs);
        slots.0.write32(SELECTOR, 0);
        slots.0.write32(SELECTOR, 0);
        let there = slots.0.read8(STATUS) & ENABLED != 0;
        (there && slots.ask(APIC_ID) == boot).then_some(slots)
    }

    fn ask(&self, command: u8) -> u32 {
        self.0.write8(COMMAND, command);
        self.0.read32(DATA)
    }

    /// The next slot with news, which thereby is no news any more.
    pub(super) fn next(&self) -> Option<News> {
        let slot = self.ask(NEXT_WITH_EVENT);
        let status = self.0.read8(STATUS);
        let (event, bit) = if status & INSERTED != 0 {
            (Event::Inserted, INSERTED)
        } else if status & REMOVAL != 0 {
            (Event::Removal, REMOVAL)
        } else {
            return None;
        };
        self.0.write8(STATUS, bit);
        Some(News { slot, apic_id: self.ask(APIC_ID), event })
    }

    /// Pulls a processor out, which must not execute any more.
    pub(super) fn eject(&self, slot: u32) {
        self.0.write32(SELECTOR, slot);
        self.0.write8(STATUS, EJECT);
    }

    /// Tells the machine's owner how it went: what the firmware's `_OST` does.
    pub(super) fn answer(&self, news: News, answer: Answer) {
        let event = match news.event {
            Event::Inserted => 1,
            Event::Removal => 3,
        };
        let status = match answer {
            Answer::Done => 0,
            Answer::Failed => 1,
            // "Device in use by application".
            Answer::Busy => 0x82,
        };
        self.0.write32(SELECTOR, news.slot);
        for (command, value) in [(OST_EVENT, event), (OST_STATUS, status)] {
            self.0.write8(COMMAND, command);
            self.0.write32(DATA, value);
        }
    }
}

/// Where the registers are, from the DSDT: `OperationRegion (PRST, SystemIO, port, 12)` by its encoding.
pub(super) fn find(dsdt: &[u8]) -> Option<u16> {
    const SYSTEM_IO: u8 = 1;
    const WORD: u8 = 0x0b;
    const BYTE: u8 = 0x0a;
    let name = b"\x5b\x80PRST";
    let at = dsdt.windows(name.len()).position(|w| w == name)? + name.len();
    match *dsdt.get(at..at + 6)? {
        [SYSTEM_IO, WORD, low, high, BYTE, len] if u16::from(len) >= LEN => {
            Some(u16::from_le_bytes([low, high]))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;

    use super::*;

    #[derive(Default, Clone, Copy)]
    struct Slot {
        there: bool,
        inserted: bool,
        removal: bool,
    }

    /// The device as its description has it, with APIC ids 0, 2, 4 …
    #[derive(Default)]
    struct Model {
        on: bool,
        selected: usize,
        command: u8,
        slots: Vec<Slot>,
        ejected: Vec<u32>,
        told: Vec<(usize, u8, u32)>,
    }

    impl Model {
        fn select_next(&mut self) {
            let n = self.slots.len();
            let next = (0..n)
                .map(|i| (self.selected + i) % n)
                .find(|&i| self.slots[i].inserted || self.slots[i].removal);
            self.selected = next.unwrap_or(self.selected);
        }
    }

    impl Registers for &RefCell<Model> {
        fn read8(&self, at: u16) -> u8 {
            let m = self.borrow();
            assert_eq!((m.on, at), (true, 4));
            let s = m.slots[m.selected];
            u8::from(s.there) | u8::from(s.inserted) << 1 | u8::from(s.removal) << 2
        }
        fn read32(&self, at: u16) -> u32 {
            let m = self.borrow();
            assert_eq!((m.on, at), (true, 8));
            match m.command {
                0 => m.selected as u32,
                3 => 2 * m.selected as u32,
                _ => 0,
            }
        }
        fn write8(&self, at: u16, v: u8) {
            let mut m = self.borrow_mut();
            assert!(m.on);
            let sel = m.selected;
            match at {
                4 => {
                    m.slots[sel].inserted &= v & 2 == 0;
                    m.slots[sel].removal &= v & 4 == 0;
                    if v & 8 != 0 {
                        m.slots[sel].there = false;
                        m.ejected.push(sel as u32);
                    }
                }
                5 => {
                    m.command = v;
                    if v == 0 {
                        m.select_next();
                    }
                }
                _ => panic!("write of a byte at {at}"),
            }
        }
        fn write32(&self, at: u16, v: u32) {
            let mut m = self.borrow_mut();
            match at {
                0 if !m.on => m.on = true,
                0 => m.selected = (v as usize).min(m.slots.len() - 1),
                8 => {
                    let told = (m.selected, m.command, v);
                    m.told.push(told);
                }
                _ => panic!("write of a word at {at}"),
            }
        }
    }

    fn model(slots: usize) -> RefCell<Model> {
        let mut m = Model { slots: vec![Slot::default(); slots], ..Model::default() };
        m.slots[0].there = true;
        RefCell::new(m)
    }

    #[test]
    fn what_is_no_hotplug_controller_is_left_alone() {
        let m = model(2);
        assert!(Slots::open(&m, 2).is_none(), "another APIC id");
        m.borrow_mut().slots[0].there = false;
        assert!(Slots::open(&m, 0).is_none(), "an empty first slot");
    }

    #[test]
    fn a_processor_comes_and_goes() {
        let m = model(4);
        let slots = Slots::open(&m, 0).unwrap();
        assert_eq!(slots.next(), None);
        m.borrow_mut().slots[2] = Slot { there: true, inserted: true, removal: false };
        let n = slots.next().unwrap();
        assert_eq!(n, News { slot: 2, apic_id: 4, event: Event::Inserted });
        assert_eq!(slots.next(), None);
        slots.answer(n, Answer::Done);
        m.borrow_mut().slots[2].removal = true;
        let n = slots.next().unwrap();
        assert_eq!(n.event, Event::Removal);
        slots.answer(n, Answer::Busy);
        assert_eq!((slots.next(), m.borrow().slots[2].there), (None, true));
        slots.eject(2);
        assert_eq!((m.borrow().slots[2].there, &m.borrow().ejected[..]), (false, &[2][..]));
        assert_eq!(m.borrow().told, [(2, 1, 1), (2, 2, 0), (2, 1, 3), (2, 2, 0x82)]);
    }

    proptest! {
        #[test]
        fn each_event_is_seen_once(news in prop::collection::vec((1usize..8, any::<bool>()), 0..20)) {
            let m = model(8);
            let slots = Slots::open(&m, 0).unwrap();
            let mut want = [0; 8];
            for (at, wish) in news {
                let mut m = m.borrow_mut();
                let s = &mut m.slots[at];
                let bit = if wish { &mut s.removal } else { &mut s.inserted };
                want[at] += u32::from(!core::mem::replace(bit, true));
            }
            let mut seen = [0; 8];
            while let Some(n) = slots.next() {
                prop_assert_eq!(n.apic_id, 2 * n.slot);
                seen[n.slot as usize] += 1;
            }
            prop_assert_eq!(seen, want);
        }

        #[test]
        fn any_bytes_are_searched(dsdt in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(find(&dsdt), None);
        }
    }

    #[test]
    fn the_region_is_found_by_its_encoding() {
        let mut t = b"....\x5b\x80PRST\x01\x0b\xd8\x0c\x0a\x0c\x5b".to_vec();
        assert_eq!(find(&t), Some(0xcd8));
        for cut in 0..t.len() - 1 {
            assert_eq!(find(&t[..cut]), None);
        }
        t[15] = 8;
        assert_eq!(find(&t), None, "too short");
    }
}
