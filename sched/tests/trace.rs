//! Tracing under simulation: several processors write, events are switched, a reader consumes and sleeps.
//!
//! No record is torn, each is read once or counted as lost, and a reader that sleeps is woken by the next record.

use std::sync::Arc;

use base::trace::{
    Field, Str,
    buffer::{self, Consumer, Looker},
    events, field_offset,
};
use frame::{
    atomic::{AtomicBool, AtomicU64, Ordering},
    cpu::CpuId,
    sim,
    sync::Completion,
};
use sched::kthread;

base::trace_event! {
    /// What the writers of this test write: a number, and a text that follows from it.
    pub struct sim_record in "sim" {
        writer: u32 = "u32",
        number: u64 = "u64",
        text: Str = "char",
    }
    format r#""writer=%u number=%llu text=%s", REC->writer, REC->number, __get_str(text)"#;
    print "writer={writer} number={number} text={text}"
}

const SEEDS: u64 = 200;
const WRITERS: usize = 3;

fn boot(f: impl FnOnce() + Send + 'static) {
    sched::init_boot_cpu();
    let init = sched::spawn_init(
        None,
        Box::new(move || {
            sched::start_other_cpus();
            sched::start_daemons().unwrap();
            buffer::init().unwrap();
            base::trace::register(&[sim_record::event()]);
            f();
            frame::boot::power_off()
        }),
    )
    .unwrap();
    sim::watch_task(&init, "init");
    sched::start_kthreadd().unwrap();
    init.start();
    sched::cpu_idle()
}

fn spawn(name: &str, f: impl FnOnce() + Send + 'static) -> Arc<Completion> {
    let done = Arc::new(Completion::new());
    let d = done.clone();
    let h = kthread::spawn(name, move |_| {
        f();
        d.complete();
        0
    })
    .unwrap();
    sim::watch_task(h.task(), name);
    done
}

/// Long texts fill the rings, so that they overwrite.
fn text(writer: u32, number: u64) -> String {
    let c = char::from(b'a' + ((u64::from(writer) * 7 + number) % 26) as u8);
    c.to_string().repeat((number * 13 % 200) as usize)
}

fn write(writer: u32, number: u64) {
    let t = text(writer, number);
    base::trace!(sim_record { writer, number, text: t.as_bytes() });
}

/// Writer and number of a record, if it is one of this test's; panics if it is torn.
fn check(e: &buffer::Entry) -> Option<(u32, u64)> {
    let r = e.record();
    if u16::get(r, 0) != sim_record::event().id() {
        return None;
    }
    let at = |i| field_offset(sim_record::event().fields(), i);
    let (w, n) = (u32::get(r, at(0)), u64::get(r, at(1)));
    assert_eq!(Str::get(r, at(2)).0, text(w, n).as_bytes(), "record {n} of writer {w} is torn");
    Some((w, n))
}

/// What a reader has seen.
#[derive(Default)]
struct Seen {
    /// By processor, since one may write there while another ring is looked at.
    last: std::collections::HashMap<(CpuId, u32), u64>,
    records: u64,
    lost: u64,
}

impl Seen {
    fn note(&mut self, e: &buffer::Entry) {
        self.records += 1;
        self.lost += e.lost;
        if let Some((w, n)) = check(e) {
            let last = self.last.insert((e.cpu, w), n);
            assert!(last.is_none_or(|l| l < n), "writer {w}: {n} after {last:?}");
        }
    }
}

/// Writers, somebody who switches all events, a reader that consumes and sleeps, one that looks.
fn many_writers() {
    let left = Arc::new(AtomicU64::new(WRITERS as u64));
    sim_record::event().switch(true);
    let mut all = Vec::new();
    for w in 0..WRITERS as u32 {
        let left = left.clone();
        all.push(spawn(&format!("writer/{w}"), move || {
            for n in 0..60 {
                write(w, n);
                if sim::random(8) == 0 {
                    sched::yield_now();
                }
            }
            left.fetch_sub(1, Ordering::SeqCst);
        }));
    }
    let l = left.clone();
    all.push(spawn("switcher", move || {
        while l.load(Ordering::SeqCst) != 0 {
            for e in events() {
                e.switch(sim::random(2) == 0);
            }
            sched::yield_now();
        }
    }));
    all.push(spawn("looker", || {
        for _ in 0..3 {
            let mut look = Looker::new(None).unwrap();
            let mut times = 0;
            while let Some(e) = look.take() {
                check(e);
                assert!(e.ts >= times, "records are in the order of their times");
                times = e.ts;
            }
            sched::yield_now();
        }
    }));
    let stop = Arc::new(AtomicBool::new(false));
    let over = stop.clone();
    let reader = spawn("reader", move || {
        let mut seen = Seen::default();
        let mut consumer = Consumer::new(None).unwrap();
        loop {
            while let Some(e) = consumer.take() {
                seen.note(e);
            }
            if over.load(Ordering::SeqCst) && buffer::is_empty(None) {
                break;
            }
            buffer::WAITERS.get().wait(|| {
                buffer::want();
                (!buffer::is_empty(None) || over.load(Ordering::SeqCst)).then_some(())
            });
        }
        let (written, overrun) = buffer::cpus().map(buffer::stats).fold((0, 0), |(w, o), s| {
            assert_eq!((s.entries, s.dropped), (0, 0));
            (w + s.read + s.overrun, o + s.overrun)
        });
        // Losses after the last record of a ring have not been told yet; all others have.
        assert!(seen.lost <= overrun);
        assert_eq!(seen.records + overrun, written, "each record is read or counted as lost");
    });
    for a in all {
        a.wait();
    }
    for e in events() {
        e.switch(false);
    }
    stop.store(true, Ordering::SeqCst);
    buffer::WAITERS.get().wake_all();
    reader.wait();
}

#[test]
fn records_are_whole_and_losses_are_counted() {
    sim::campaign("trace_writers", SEEDS, |_| boot(many_writers));
}

/// A reader sleeps until the next record, again and again; the writer waits until it has been read. `asks`: the reader says
/// that it wants to be woken.
fn one_by_one(asks: bool) {
    let read = Arc::new(AtomicU64::new(0));
    let r = read.clone();
    let reader = spawn("reader", move || {
        let mut consumer = Consumer::new(None).unwrap();
        for n in 0..10 {
            buffer::WAITERS.get().wait(|| {
                if asks {
                    buffer::want();
                }
                (!buffer::is_empty(None)).then_some(())
            });
            assert_eq!(check(consumer.take().unwrap()), Some((0, n)));
            r.store(n + 1, Ordering::SeqCst);
        }
    });
    sim_record::event().switch(true);
    for n in 0..10 {
        write(0, n);
        let is_read = || read.load(Ordering::SeqCst) > n;
        for _ in 0..1000 {
            if !is_read() {
                sched::time::sleep_ns(1000);
            }
        }
        assert!(is_read(), "the reader sleeps on");
    }
    reader.wait();
}

#[test]
fn a_sleeping_reader_is_woken() {
    sim::campaign("trace_wake", SEEDS, |_| boot(|| one_by_one(true)));
}

/// Without asking it sleeps on: the simulation must find that.
#[test]
fn a_reader_that_does_not_ask_is_found() {
    let (seed, out) = sim::expect_failure("trace_no_wake", 50, |_| boot(|| one_by_one(false)));
    assert!(!out.is_ok(), "seed {seed}: {}", out.report);
}

/// Handlers of a shared line: each is seen to begin and to answer, in turn.
fn handlers_are_traced() {
    use frame::irq::{self, Handled, Share};
    let _first = irq::request_line(20, "first", Share::Shared, || Handled::No).unwrap();
    let _second = irq::request_line(20, "second", Share::Shared, || Handled::Yes).unwrap();
    let handlers = || events().into_iter().filter(|e| e.name().starts_with("irq_handler_"));
    handlers().for_each(|e| e.switch(true));
    sim::at(frame::time::now_ns() + 1000, || sim::raise_line(20));
    sched::time::sleep_ns(100_000);
    handlers().for_each(|e| e.switch(false));
    sim::at(frame::time::now_ns() + 1000, || sim::raise_line(20));
    sched::time::sleep_ns(100_000);
    let mut consumer = Consumer::new(None).unwrap();
    let mut seen = Vec::new();
    while let Some(e) = consumer.take() {
        let line = base::trace::text::to_string(e).unwrap();
        seen.push(line.split_once(": ").map(|(_, t)| t.trim().to_string()).unwrap());
    }
    assert_eq!(
        seen,
        [
            "irq_handler_entry: irq=20 name=first",
            "irq_handler_exit: irq=20 ret=unhandled",
            "irq_handler_entry: irq=20 name=second",
            "irq_handler_exit: irq=20 ret=handled",
        ]
    );
}

#[test]
fn interrupt_handlers_are_seen() {
    sim::campaign("trace_irq", 20, |_| boot(handlers_are_traced));
}
