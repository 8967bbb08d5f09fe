//! Virtio entropy devices (VIRTIO 1.2, section 5.4): one queue; the device fills what it is given.

use alloc::{format, string::String, sync::Arc, vec, vec::Vec};

use base::{Errno, Result, model};
use frame::{
    atomic::{AtomicBool, AtomicU32, Ordering},
    dma::DmaBuffer,
    sync::{LockClass, Mutex, SpinLockIrq, WaitQueue},
    task::State,
};

use super::Source;
use crate::virtio::{self, Queue, Segment};

/// Bytes asked for at a time.
const BYTES: usize = 64;
/// How long a read waits for the device.
const PATIENCE_NS: u64 = 1_000_000_000;
/// Linux's quality of this source: the host is trusted, nearly.
const QUALITY: u16 = 1000;

struct Rng {
    name: String,
    device: Arc<virtio::Device>,
    queue: SpinLockIrq<Queue<()>>,
    used: WaitQueue,
    gone: AtomicBool,
    /// What was read from the device and not given out yet.
    data: Mutex<Data>,
}

struct Data {
    buffer: DmaBuffer,
    at: usize,
    end: usize,
    /// The device has the buffer.
    asked: bool,
}

static QUEUE: LockClass = LockClass::new("virtio_rng_queue");
static DATA: LockClass = LockClass::new("virtio_rng_data");

impl Rng {
    fn new(device: Arc<virtio::Device>, index: u32) -> Result<Rng> {
        let queue = device.queue(0, 8)?;
        let buffer = DmaBuffer::new(BYTES).ok_or(Errno::ENOMEM)?;
        Ok(Rng {
            name: format!("virtio_rng.{index}"),
            device,
            queue: SpinLockIrq::new(&QUEUE, queue),
            used: WaitQueue::new(),
            gone: AtomicBool::new(false),
            data: Mutex::new(&DATA, Data { buffer, at: 0, end: 0, asked: false }),
        })
    }

    fn ask(&self, d: &mut Data) -> Result<()> {
        let ring = {
            let mut q = self.queue.lock();
            q.add(&[], &[Segment::of(&d.buffer, BYTES)], ()).map_err(|(e, ())| e)?;
            q.needs_notify()
        };
        d.asked = true;
        if ring {
            self.device.notify(0);
        }
        Ok(())
    }

    /// What came of the request, if the device has finished.
    fn finished(&self) -> Option<Result<usize>> {
        if self.gone.load(Ordering::Acquire) {
            return Some(Err(Errno::ENODEV));
        }
        self.queue.lock().take_used().map(|u| u.map(|((), n)| n as usize)).transpose()
    }
}

impl Source for Rng {
    fn name(&self) -> &str {
        &self.name
    }
    fn quality(&self) -> u16 {
        QUALITY
    }
    fn read(&self, out: &mut [u8], wait: bool) -> Result<usize> {
        let mut d = self.data.lock_interruptible()?;
        if d.at == d.end {
            if !d.asked {
                self.ask(&mut d)?;
            }
            let end = Some(if wait { sched::time::now_ns() + PATIENCE_NS } else { 0 });
            let got =
                sched::timeout::wait_timeout(&self.used, State::INTERRUPTIBLE, end, || self.finished())?;
            let Some(n) = got else { return Ok(0) };
            (d.asked, d.at, d.end) = (false, 0, n?.min(BYTES));
        }
        let n = out.len().min(d.end - d.at);
        d.buffer.read(d.at, &mut out[..n]);
        // It is given out once.
        let at = d.at;
        d.buffer.zero(at, n);
        d.at += n;
        Ok(n)
    }
}

/// `virtio_rng`.
struct Driver;

static NEXT: AtomicU32 = AtomicU32::new(0);
static BOUND: LockClass = LockClass::new("virtio_rng_bound");
static ALL: Mutex<Vec<Arc<Rng>>> = Mutex::new(&BOUND, Vec::new());

impl model::Driver for Driver {
    fn name(&self) -> &str {
        "virtio_rng"
    }
    fn matches(&self, dev: &model::Device) -> bool {
        virtio::of(dev).is_some_and(|d| d.kind == virtio::kind::ENTROPY)
    }
    fn probe(&self, dev: &Arc<model::Device>) -> Result<()> {
        let d = virtio::of(dev).ok_or(Errno::ENODEV)?;
        d.begin(0)?;
        let started = start(&d);
        if started.is_err() {
            d.stop();
        }
        started
    }
    fn remove(&self, dev: &Arc<model::Device>) {
        let Some(d) = virtio::of(dev) else { return };
        let mut all = ALL.lock();
        let Some(i) = all.iter().position(|r| Arc::ptr_eq(&r.device, &d)) else { return };
        let rng = all.swap_remove(i);
        drop(all);
        rng.gone.store(true, Ordering::Release);
        rng.used.wake_all();
        let source: Arc<dyn Source> = rng.clone();
        super::unregister(&source);
        d.stop();
        rng.queue.lock().drain();
    }
}

fn start(d: &Arc<virtio::Device>) -> Result<()> {
    let rng = Arc::new(Rng::new(d.clone(), NEXT.fetch_add(1, Ordering::Relaxed))?);
    let (me, none) = (Arc::downgrade(&rng), || ());
    let on_used = move || {
        if let Some(r) = me.upgrade() {
            r.used.wake_all();
        }
    };
    d.connect(alloc::boxed::Box::new(none), vec![("input", alloc::boxed::Box::new(on_used))])?;
    let layout = rng.queue.lock().layout();
    d.start(layout)?;
    d.ready();
    ALL.lock().push(rng.clone());
    super::register(rng)
}

pub(super) fn init() -> Result<()> {
    virtio::BUS.add_driver(Arc::new(Driver))
}
