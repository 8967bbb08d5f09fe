//! The input layer: keys, buttons and movements, from drivers to programs.
//!
//! # Theory
//! A driver describes what its device can report ([`Capabilities`]) and reports events in packets: [`Device::event`] as often as need
//! be, then [`Device::sync`]. What a device cannot report is dropped, and so is a key that changes to the state it has. Complete
//! packets go to every open `/dev/input/eventN` ([`evdev`]), so a reader never sees half of a movement.
//!
//! Reporting takes spin locks only and may happen in interrupt context.
//!
//! | file | what |
//! |---|---|
//! | `bits` | sets of event types and codes, as programs and sysfs see them |
//! | `evdev` | `/dev/input/eventN` |
//! | `show` | `/proc/bus/input/devices`, sysfs |
//!
//! Not here: absolute axes, force feedback, switches, key maps, autorepeat, `/dev/input/mice`.
//! Linux: `Documentation/input/`; numbers: `linux/input-event-codes.h`.

pub mod bits;
mod evdev;
mod show;

use alloc::{boxed::Box, format, string::String, sync::Arc, vec::Vec};

use base::{
    Result,
    model::{self, Spec, Subsystem},
};
use frame::{
    atomic::{AtomicU32, Ordering},
    sync::{LockClass, Mutex, SpinLockIrq},
};

pub use bits::{Capabilities, Set};

/// Event types and codes that drivers here use.
pub mod code {
    pub const EV_SYN: u16 = 0;
    pub const EV_KEY: u16 = 1;
    pub const EV_REL: u16 = 2;
    pub const EV_MSC: u16 = 4;
    pub const SYN_REPORT: u16 = 0;
    pub const SYN_DROPPED: u16 = 3;
    pub const KEY_POWER: u16 = 116;
    pub const BUS_HOST: u16 = 0x19;
}

/// Who a device is: `struct input_id`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Id {
    pub bus: u16,
    pub vendor: u16,
    pub product: u16,
    pub version: u16,
}

/// An event of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    pub kind: u16,
    pub code: u16,
    pub value: i32,
}

/// What a driver says of its device.
pub struct Description {
    pub name: String,
    /// Where it is plugged in, such as `LNXPWRBN/button/input0`; may be empty.
    pub phys: String,
    pub id: Id,
    pub capabilities: Capabilities,
}

/// A registered device.
pub struct Device {
    number: u32,
    about: Description,
    object: Arc<model::Device>,
    state: SpinLockIrq<State>,
}

struct State {
    /// Keys that are down.
    down: Set,
    /// The packet that is not finished.
    packet: Vec<Event>,
    readers: Vec<Arc<evdev::Client>>,
    /// The reader that has the device for itself.
    grabbed: Option<Arc<evdev::Client>>,
    gone: bool,
}

/// The longest packet; more is cut off by a `SYN_REPORT` of its own, as Linux does with what its buffer cannot hold.
const MAX_PACKET: usize = 64;

static STATE: LockClass = LockClass::new("input_device");
static LIST: LockClass = LockClass::new("input_devices");
static DEVICES: Mutex<Vec<Arc<Device>>> = Mutex::new(&LIST, Vec::new());
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Registers a device below `parent`, with its event node.
pub fn register(about: Description, parent: &Arc<model::Device>) -> Result<Arc<Device>> {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut packet = Vec::new();
    packet.try_reserve_exact(MAX_PACKET)?;
    let object = model::Device::new(Spec {
        name: format!("input{number}"),
        parent: Some(parent.clone()),
        subsystem: Subsystem::Class("input"),
        variables: Some(show::variables(&about)),
        data: None,
    })?;
    let state = State { down: Set::new(), packet, readers: Vec::new(), grabbed: None, gone: false };
    let dev = Arc::new(Device { number, about, object, state: SpinLockIrq::new(&STATE, state) });
    show::attributes(&dev)?;
    dev.object.announce();
    evdev::add(&dev)?;
    base::pr_info!("input: {} as /{}", dev.about.name, dev.object.path());
    DEVICES.lock().push(dev.clone());
    Ok(dev)
}

/// Takes a device away. Readers get ENODEV.
pub fn unregister(dev: &Arc<Device>) {
    DEVICES.lock().retain(|d| !Arc::ptr_eq(d, dev));
    let readers = {
        let mut s = dev.state.lock();
        s.gone = true;
        s.grabbed = None;
        core::mem::take(&mut s.readers)
    };
    readers.iter().for_each(|r| r.hang_up());
    evdev::remove(dev);
    dev.object.remove();
}

impl Device {
    /// Adds an event to the packet. Any context.
    pub fn event(&self, kind: u16, code: u16, value: i32) {
        if !self.about.capabilities.allows(kind, code) {
            return;
        }
        let mut s = self.state.lock();
        if kind == code::EV_KEY {
            // 2 is autorepeat, which changes nothing.
            if value != 2 && s.down.contains(code) == (value != 0) {
                return;
            }
            s.down.put(code, value != 0);
        }
        if kind == code::EV_REL && value == 0 {
            return;
        }
        if s.packet.len() + 1 == MAX_PACKET {
            self.finish(&mut s);
        }
        s.packet.push(Event { kind, code, value });
    }
    /// Ends the packet. Any context.
    pub fn sync(&self) {
        let mut s = self.state.lock();
        if !s.packet.is_empty() {
            self.finish(&mut s);
        }
    }
    fn finish(&self, s: &mut State) {
        s.packet.push(Event { kind: code::EV_SYN, code: code::SYN_REPORT, value: 0 });
        match &s.grabbed {
            Some(one) => one.deliver(&s.packet),
            None => s.readers.iter().for_each(|r| r.deliver(&s.packet)),
        }
        s.packet.clear();
    }
    /// A key that is pressed and let go at once.
    pub fn press(&self, key: u16) {
        for value in [1, 0] {
            self.event(code::EV_KEY, key, value);
            self.sync();
        }
    }
}

/// Prepares `/proc/bus/input`.
pub fn init() -> Result<()> {
    show::init()
}

type Variables = Box<dyn Fn(&mut model::Env) + Send + Sync>;
