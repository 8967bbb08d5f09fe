//! Sources of random numbers in hardware: one current source, `/dev/hwrng`, and the thread that feeds the generator.
//!
//! # Theory
//! A driver registers a [`Source`] with a *quality*: how many bits of entropy are in 1024 bits that it gives. The best one is the
//! current source until the administrator chooses another. Programs read it raw from `/dev/hwrng`; the thread `hwrng` mixes what it
//! reads into the generator behind `/dev/random` and credits by quality.
//!
//! | file | what |
//! |---|---|
//! | `/sys/class/misc/hw_random/rng_available` | the names of all sources |
//! | `…/rng_current` | the current one; writing a name chooses it, writing nothing chooses the best |
//! | `…/rng_selected` | 1 if the administrator chose it |
//! | `…/rng_quality` | the quality that is credited; writing changes it |
//!
//! | source file | what |
//! |---|---|
//! | `hwrng` | the thread |
//! | `file` | `/dev/hwrng` |
//! | `virtio_rng` | virtio entropy devices |
//!
//! Linux: `Documentation/admin-guide/hw_random.rst`, `Documentation/ABI/testing/sysfs-class-...misc`.
//!
//! Locking: `hwrng_reading` (one reader at a time asks a source) → `hwrng_sources` (who there is).

mod file;
mod hwrng;
mod virtio_rng;

use alloc::{string::String, sync::Arc, vec::Vec};

use base::{
    Errno, Result,
    device::{self, DevKind, DevNum, Device, Place},
    model, tree,
};
use frame::sync::{LockClass, Mutex};
use vfs::special::DeviceNode;

/// A source of random numbers.
pub trait Source: Send + Sync {
    fn name(&self) -> &str;
    /// Bits of entropy in 1024 bits.
    fn quality(&self) -> u16;
    /// Fills the beginning of `out`; how many bytes. With `wait` it sleeps until there are some, but no longer than a second or so,
    /// and then gives 0. ENODEV once the device is gone.
    fn read(&self, out: &mut [u8], wait: bool) -> Result<usize>;
}

/// The most that a quality says.
const FULL_QUALITY: u16 = 1024;

#[derive(Default)]
struct Sources {
    /// Best first; of equals, the one that came first.
    all: Vec<Arc<dyn Source>>,
    current: Option<Arc<dyn Source>>,
    chosen_by_user: bool,
    /// What is credited for the current one.
    quality: u16,
}

impl Sources {
    fn switch(&mut self, to: Option<Arc<dyn Source>>) {
        self.quality = to.as_ref().map_or(0, |s| s.quality().min(FULL_QUALITY));
        self.current = to;
    }
}

static CLASS: LockClass = LockClass::new("hwrng_sources");
static READING_CLASS: LockClass = LockClass::new("hwrng_reading");
static SOURCES: Mutex<Sources> =
    Mutex::new(&CLASS, Sources { all: Vec::new(), current: None, chosen_by_user: false, quality: 0 });
/// One reader at a time.
static READING: Mutex<()> = Mutex::new(&READING_CLASS, ());

/// The current source and the quality that is credited.
fn current() -> Option<(Arc<dyn Source>, u16)> {
    let s = SOURCES.lock();
    s.current.clone().map(|c| (c, s.quality))
}

/// Raw bytes of the current source, at least one. ENODEV without a source, EAGAIN if there are none now and `wait` is false,
/// EIO from a broken device, ERESTARTSYS.
pub fn read(out: &mut [u8], wait: bool) -> Result<usize> {
    file::some_bytes(out, wait)
}

/// Adds a source. EEXIST if the name is taken.
pub fn register(source: Arc<dyn Source>) -> Result<()> {
    {
        let mut s = SOURCES.lock();
        if s.all.iter().any(|o| o.name() == source.name()) {
            return Err(Errno::EEXIST);
        }
        let at = s.all.partition_point(|o| o.quality() >= source.quality());
        s.all.insert(at, source.clone());
        // The best becomes the current one, unless the administrator chose.
        if s.current.is_none() || at == 0 && !s.chosen_by_user {
            s.switch(Some(source));
        }
    }
    hwrng::reconsider();
    Ok(())
}

/// Takes a source away; nobody asks it afterwards.
pub fn unregister(source: &Arc<dyn Source>) {
    {
        let mut s = SOURCES.lock();
        s.all.retain(|o| !Arc::ptr_eq(o, source));
        if s.current.as_ref().is_some_and(|c| Arc::ptr_eq(c, source)) {
            s.chosen_by_user = false;
            let best = s.all.first().cloned();
            s.switch(best);
        }
    }
    hwrng::reconsider();
    // Whoever is asking it now has finished after this.
    drop(READING.lock());
}

fn choose(written: &[u8]) -> Result<()> {
    let name = core::str::from_utf8(written).map_err(|_| Errno::ENODEV)?.trim_end_matches('\n');
    {
        let mut s = SOURCES.lock();
        if name.is_empty() {
            s.chosen_by_user = false;
            let best = s.all.first().cloned().ok_or(Errno::ENODEV)?;
            s.switch(Some(best));
        } else {
            let wanted = s.all.iter().find(|o| o.name() == name).cloned().ok_or(Errno::ENODEV)?;
            s.chosen_by_user = true;
            s.switch(Some(wanted));
        }
    }
    hwrng::reconsider();
    Ok(())
}

fn set_quality(written: &[u8]) -> Result<()> {
    let q: u16 = tree::kstrto(written)?;
    if q > FULL_QUALITY {
        return Err(Errno::EINVAL);
    }
    {
        let mut s = SOURCES.lock();
        if s.current.is_none() {
            return Err(Errno::ENODEV);
        }
        s.quality = q;
    }
    hwrng::reconsider();
    Ok(())
}

fn attributes(dev: &Arc<model::Device>) -> Result<()> {
    dev.knob(
        "rng_current",
        0o644,
        |o| {
            let name = current().map_or_else(|| String::from("none"), |c| c.0.name().into());
            Ok(writeln!(o, "{name}")?)
        },
        choose,
    )?;
    dev.attribute("rng_available", 0o444, |o| {
        let all = SOURCES.lock().all.clone();
        all.iter().try_for_each(|s| write!(o, "{} ", s.name()))?;
        o.push(b"\n")
    })?;
    dev.attribute("rng_selected", 0o444, |o| {
        Ok(writeln!(o, "{}", u8::from(SOURCES.lock().chosen_by_user))?)
    })?;
    dev.knob("rng_quality", 0o644, |o| Ok(writeln!(o, "{}", SOURCES.lock().quality)?), set_quality)
}

/// `HWRNG_MINOR` of `Documentation/admin-guide/devices.txt`, under the major number of miscellaneous devices.
const NUM: DevNum = DevNum::new(10, 183);

/// Registers `/dev/hwrng` and the drivers.
pub fn init() -> Result<()> {
    hwrng::init()?;
    let dev = Device {
        name: "hwrng".into(),
        num: NUM,
        kind: DevKind::Char,
        mode: 0o600,
        class: Some("misc"),
        ops: DeviceNode::new(file::Node),
    };
    device::register_at(dev, Place { parent: None, name: Some("hw_random".into()) }, attributes)?;
    virtio_rng::init()
}
