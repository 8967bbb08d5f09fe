//! Interrupts of simulated devices: shared lines, messages that move, processors that go away.
#![cfg(not(target_os = "none"))]

use std::sync::Arc;

use frame::{
    atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    cpu::{self, CpuId, CpuMask},
    irq::{self, Handled, IrqError, Message, MessageSource, Share},
    sim::{self, Config},
    time,
};

mod common;
use common::{boot, spawn};
use frame::boot::power_off;

fn wait_ns(ns: u64) {
    let end = time::now_ns() + ns;
    while time::now_ns() < end {
        frame::task::schedule();
        cpu::relax();
    }
}

/// Until every processor runs.
fn wait_for_processors() {
    while (cpu::online().count() as usize) < cpu::possible() {
        wait_ns(1000);
    }
}

/// Two drivers share a line; each is asked, and one that left is not.
#[test]
fn a_line_is_shared() {
    static RAN: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
    let handler = |i: usize, says| {
        move || {
            RAN[i].fetch_add(1, SeqCst);
            says
        }
    };
    sim::campaign("irq_shared", 100, |_| {
        boot(move || {
            let a = irq::request_line(20, "a", Share::Shared, handler(0, Handled::No)).unwrap();
            assert_eq!(
                irq::request_line(20, "x", Share::Exclusive, || Handled::Yes).err(),
                Some(IrqError::Busy)
            );
            let b = irq::request_line(20, "b", Share::Shared, handler(1, Handled::Yes)).unwrap();
            assert_eq!(
                irq::request_line(64, "x", Share::Shared, || Handled::Yes).err(),
                Some(IrqError::NoSuchLine)
            );
            sim::at(time::now_ns() + 1000, || sim::raise_line(20));
            wait_ns(50_000);
            assert_eq!([RAN[0].load(SeqCst), RAN[1].load(SeqCst)], [1, 1]);
            let shown = irq::list().into_iter().find(|i| i.number == 20).unwrap();
            assert_eq!((shown.chip.as_str(), shown.index, shown.flow), ("IO-APIC", 20, "fasteoi"));
            assert_eq!(shown.handlers, ["a", "b"]);
            drop(a);
            b.disable();
            sim::at(time::now_ns() + 1000, || sim::raise_line(20));
            wait_ns(50_000);
            assert_eq!(b.count(), 1, "it is held back while disabled");
            b.enable();
            wait_ns(50_000);
            assert_eq!([RAN[0].load(SeqCst), RAN[1].load(SeqCst)], [1, 2]);
            drop(b);
            assert!(irq::list().iter().all(|i| i.number != 20));
            power_off();
        })
    });
}

/// The message that the device was told to send, plus one; 0: none.
struct Told(AtomicU64);
impl MessageSource for Told {
    fn set(&self, m: Option<Message>) {
        self.0.store(m.map_or(0, |m| (m.address << 8 | u64::from(m.data)) + 1), SeqCst);
    }
}
impl Told {
    fn send(&self) {
        if let Some(v) = self.0.load(SeqCst).checked_sub(1) {
            sim::send_message(Message { address: v >> 8, data: v as u32 & 0xff });
        }
    }
}

/// While a device asks again and again, its message moves between processors, one of which goes away. No request is forgotten:
/// the handler runs after the last one.
#[test]
fn a_message_moves_without_loss() {
    static ASKED: AtomicBool = AtomicBool::new(false);
    static TOLD: frame::sync::Lazy<Arc<Told>> = frame::sync::Lazy::new(|| Arc::new(Told(AtomicU64::new(0))));
    let config = |seed| Config { cpus: 3, ..Config::from_seed(seed) };
    sim::campaign_with("irq_move", 1000, config, |_| {
        boot(|| {
            let all = CpuMask(7);
            wait_for_processors();
            let told = (*TOLD).clone();
            let irq = irq::request_message("PCI-MSIX-test", 0, "test", all, told, || {
                ASKED.store(false, SeqCst);
                Handled::Yes
            })
            .unwrap();
            for i in 0..40 {
                sim::at(time::now_ns() + 500 + i * 300 + sim::random(300), || {
                    ASKED.store(true, SeqCst);
                    TOLD.send();
                });
            }
            for i in 0..6 {
                wait_ns(1000);
                irq.set_affinity(CpuMask(1 << (i % 3))).unwrap();
            }
            let leaving = CpuId::new(2).unwrap();
            irq.set_affinity(CpuMask::one(leaving)).unwrap();
            wait_ns(300);
            // A call is served with interrupts off, as the last steps of a processor are.
            cpu::call_on(leaving, move || {
                cpu::set_online(leaving, false);
                irq::evacuate(leaving);
            });
            let shown = irq::list().into_iter().find(|i| i.number == irq.number()).unwrap();
            assert_ne!(shown.effective, leaving);
            wait_ns(100_000);
            assert!(!ASKED.load(SeqCst), "a request was forgotten");
            assert!(shown.counts.len() == 3);
            let before = (irq.count(), irq::spurious_count());
            TOLD.send();
            wait_ns(50_000);
            assert_eq!(irq.count(), before.0 + 1);
            let v = TOLD.0.load(SeqCst);
            drop(irq);
            TOLD.0.store(v, SeqCst);
            TOLD.send();
            wait_ns(50_000);
            assert_eq!(irq::spurious_count(), before.1 + 1, "a vector that was given back leads nowhere");
            power_off();
        })
    });
}

/// Messages of many devices spread over the processors, and their numbers come back.
#[test]
fn messages_spread() {
    sim::campaign("irq_spread", 20, |_| {
        boot(|| {
            wait_for_processors();
            let ask = || {
                let t: Arc<dyn MessageSource> = Arc::new(Told(AtomicU64::new(0)));
                irq::request_message("chip", 0, "m", CpuMask::ALL, t, || Handled::Yes).unwrap()
            };
            let held: Vec<_> = (0..12).map(|_| ask()).collect();
            let n = cpu::online().count() as usize;
            for c in cpu::online().iter() {
                let here = irq::list().iter().filter(|i| i.chip == "chip" && i.effective == c).count();
                assert!(here >= 12 / n, "{here} of 12 on one of {n}");
            }
            let numbers: Vec<_> = held.iter().map(irq::Irq::number).collect();
            drop(held);
            assert_eq!(ask().number(), numbers[0]);
            power_off();
        })
    });
}

/// A message is given back while somebody moves it: all vectors that it had are free afterwards, and no other's is.
#[test]
fn a_message_is_given_back_while_it_moves() {
    static DONE: AtomicBool = AtomicBool::new(false);
    let config = |seed| Config { cpus: 3, ..Config::from_seed(seed) };
    sim::campaign_with("irq_give_back", 300, config, |_| {
        boot(|| {
            wait_for_processors();
            let ask = |cpus| {
                let t: Arc<dyn MessageSource> = Arc::new(Told(AtomicU64::new(0)));
                irq::request_message("chip", 0, "m", cpus, t, || Handled::Yes)
            };
            let one = |c: u32| CpuMask(1 << c);
            let (leaves, stays) = (ask(one(0)).unwrap(), ask(one(0)).unwrap());
            let number = leaves.number();
            spawn("mover", move || {
                for c in [1, 0, 1, 0, 1] {
                    // Refused once it has been given back.
                    let _ = irq::set_affinity(number, CpuMask(1 << c));
                }
                DONE.store(true, SeqCst);
            });
            wait_ns(sim::random(3_000));
            drop(leaves);
            while !DONE.load(SeqCst) {
                wait_ns(1000);
            }
            // What can be had on a processor, and that it is one's own. No message has ever been on the last one.
            let room = |c| std::iter::from_fn(|| ask(one(c)).ok()).map(core::mem::forget).count();
            let all = room(2);
            assert_eq!((room(0) + 1, room(1)), (all, all), "vectors that are free");
            drop(stays);
            assert_eq!(room(0), 1);
            power_off();
        })
    });
}
