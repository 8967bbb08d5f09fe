//! `/dev/input/eventN`: the events of one device, to any number of readers.
//!
//! Each open file has a queue of its own. One that is not read loses what it holds: the reader then finds `SYN_DROPPED` and asks
//! for the state of the device anew, as Linux documents in `Documentation/input/event-codes.rst`.

use alloc::{collections::VecDeque, format, sync::Arc, vec::Vec};

use base::{
    Errno, Result,
    device::{self, DevKind, DevNum, Place},
};
use frame::{
    atomic::{AtomicBool, AtomicU32, Ordering},
    sync::{LockClass, SpinLockIrq, WaitQueue},
    user,
};
use vfs::{
    File, FileOps, Inode, IoDst, IoSrc, OpenFlags, PollFlags, PollQueue, PollTable,
    special::{DeviceNode, DeviceOps},
};

use super::{Device, Event, code};

/// Major number of input devices, and the minor number of `event0`.
const MAJOR: u32 = 13;
pub(super) const FIRST_MINOR: u32 = 64;
/// Event nodes with these numbers: up to the next kind of input node.
const MOST: u32 = 32;
/// Events that a reader may be behind: Linux's smallest buffer.
const QUEUE: usize = 64;
/// `struct input_event`: seconds, microseconds, type, code, value.
const EVENT: usize = 24;

fn num(dev: &Device) -> DevNum {
    DevNum::new(MAJOR, FIRST_MINOR + dev.number)
}

/// Makes the node.
pub(super) fn add(dev: &Arc<Device>) -> Result<()> {
    if dev.number >= MOST {
        return Err(Errno::ENFILE);
    }
    let d = device::Device {
        name: format!("input/event{}", dev.number),
        num: num(dev),
        kind: DevKind::Char,
        mode: 0o600,
        class: Some("input"),
        ops: DeviceNode::new(Node(dev.clone())),
    };
    let place = Place { parent: Some(dev.object.clone()), name: Some(format!("event{}", dev.number)) };
    device::register_at(d, place, |_| Ok(())).map(|_| ())
}

/// Removes the node.
pub(super) fn remove(dev: &Device) {
    // It is there: `add` made it.
    let _ = device::unregister(DevKind::Char, num(dev));
}

struct Node(Arc<Device>);
impl DeviceOps for Node {
    fn open(&self, _inode: &Arc<Inode>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        let mut queue = VecDeque::new();
        queue.try_reserve_exact(QUEUE)?;
        let client = Arc::new(Client {
            queue: SpinLockIrq::new(&CLIENT, queue),
            arrived: Arc::new(WaitQueue::new()),
            clock: AtomicU32::new(CLOCK_REALTIME),
            gone: AtomicBool::new(false),
        });
        let mut more = Vec::new();
        loop {
            let mut s = self.0.state.lock();
            if s.gone {
                return Err(Errno::ENODEV);
            }
            // The list grows outside of the lock.
            if s.readers.len() < s.readers.capacity() {
                s.readers.push(client.clone());
                break;
            }
            if more.capacity() > s.readers.len() {
                more.append(&mut s.readers);
                core::mem::swap(&mut s.readers, &mut more);
                continue;
            }
            let want = s.readers.len() + 4;
            drop(s);
            more.try_reserve_exact(want)?;
        }
        Ok(Arc::new(EventFile { dev: self.0.clone(), client }))
    }
}

const CLOCK_REALTIME: u32 = 0;
const CLOCK_MONOTONIC: u32 = 1;
const CLOCK_BOOTTIME: u32 = 7;

static CLIENT: LockClass = LockClass::new("evdev_client");

/// One reader.
pub(super) struct Client {
    queue: SpinLockIrq<VecDeque<(u64, Event)>>,
    arrived: PollQueue,
    /// Which clock its time stamps are of.
    clock: AtomicU32,
    gone: AtomicBool,
}

impl Client {
    fn now_ns(&self) -> u64 {
        match self.clock.load(Ordering::Relaxed) {
            CLOCK_MONOTONIC => sched::time::now_ns(),
            CLOCK_BOOTTIME => sched::time::boottime_ns(),
            _ => sched::time::realtime_ns(),
        }
    }
    /// Takes a packet. Any context.
    pub(super) fn deliver(&self, packet: &[Event]) {
        let now = self.now_ns();
        {
            let mut q = self.queue.lock();
            if q.len() + packet.len() > QUEUE {
                q.clear();
                q.push_back((now, Event { kind: code::EV_SYN, code: code::SYN_DROPPED, value: 0 }));
            } else {
                q.extend(packet.iter().map(|&e| (now, e)));
            }
        }
        self.arrived.wake_all();
    }
    /// The device is gone.
    pub(super) fn hang_up(&self) {
        self.gone.store(true, Ordering::Release);
        self.arrived.wake_all();
    }
    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
    fn is_ready(&self) -> bool {
        self.is_gone() || !self.queue.lock().is_empty()
    }
}

struct EventFile {
    dev: Arc<Device>,
    client: Arc<Client>,
}

impl Drop for EventFile {
    fn drop(&mut self) {
        let mut s = self.dev.state.lock();
        s.readers.retain(|r| !Arc::ptr_eq(r, &self.client));
        if s.grabbed.as_ref().is_some_and(|g| Arc::ptr_eq(g, &self.client)) {
            s.grabbed = None;
        }
    }
}

fn encode(at_ns: u64, e: Event) -> [u8; EVENT] {
    let mut b = [0; EVENT];
    b[..8].copy_from_slice(&(at_ns / 1_000_000_000).to_le_bytes());
    b[8..16].copy_from_slice(&(at_ns / 1000 % 1_000_000).to_le_bytes());
    b[16..18].copy_from_slice(&e.kind.to_le_bytes());
    b[18..20].copy_from_slice(&e.code.to_le_bytes());
    b[20..].copy_from_slice(&e.value.to_le_bytes());
    b
}

impl FileOps for EventFile {
    fn can_poll(&self) -> bool {
        true
    }
    fn read_at(&self, file: &File, _off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        let c = &self.client;
        if !dst.is_empty() && dst.len() < EVENT {
            return Err(Errno::EINVAL);
        }
        let mut done = 0;
        loop {
            if c.is_gone() {
                return Err(Errno::ENODEV);
            }
            while dst.len() >= EVENT {
                let Some((at, e)) = c.queue.lock().pop_front() else { break };
                done += dst.put(&encode(at, e))?;
            }
            if done > 0 || dst.is_empty() {
                return Ok(done);
            }
            if file.is_nonblocking() {
                return Err(Errno::EAGAIN);
            }
            c.arrived.wait_interruptible(|| c.is_ready().then_some(()))?;
        }
    }
    /// What is written happens as if the device had reported it.
    fn write_at(&self, _file: &File, _off: u64, src: &mut IoSrc<'_>) -> Result<usize> {
        if !src.is_empty() && src.len() < EVENT {
            return Err(Errno::EINVAL);
        }
        let mut done = 0;
        while src.len() >= EVENT {
            if self.client.is_gone() {
                return Err(Errno::ENODEV);
            }
            let mut b = [0; EVENT];
            src.take(&mut b)?;
            let half = |i: usize| u16::from_le_bytes([b[i], b[i + 1]]);
            let value = i32::from_le_bytes([b[20], b[21], b[22], b[23]]);
            match half(16) {
                code::EV_SYN => self.dev.sync(),
                kind => self.dev.event(kind, half(18), value),
            }
            done += EVENT;
        }
        Ok(done)
    }
    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollFlags {
        if let Some(t) = table {
            t.register(&self.client.arrived);
        }
        let mut f = if self.client.is_gone() { PollFlags::HUP | PollFlags::ERR } else { PollFlags::WRITABLE };
        if !self.client.queue.lock().is_empty() {
            f |= PollFlags::READABLE;
        }
        f
    }
    fn ioctl(&self, _file: &File, cmd: u32, arg: usize) -> Result<usize> {
        if self.client.is_gone() {
            return Err(Errno::ENODEV);
        }
        ioctl(self, cmd, arg)
    }
}

/// `_IOC` of the interface: direction, size, the letter `E`, number.
const READ: u32 = 2;
const WRITE: u32 = 1;

/// Copies as much as the caller has room for; how much that is.
fn give(arg: usize, room: usize, bytes: &[u8]) -> Result<usize> {
    let n = bytes.len().min(room);
    user::copy_to_user(arg, &bytes[..n])?;
    Ok(n)
}
/// A string with its NUL. ENOENT for an empty one.
fn give_text(arg: usize, room: usize, s: &str) -> Result<usize> {
    if s.is_empty() {
        return Err(Errno::ENOENT);
    }
    let mut b = Vec::new();
    b.try_reserve_exact(s.len() + 1)?;
    b.extend_from_slice(s.as_bytes());
    b.push(0);
    give(arg, room, &b)
}

fn ioctl(f: &EventFile, cmd: u32, arg: usize) -> Result<usize> {
    let (direction, room) = (cmd >> 30, (cmd >> 16 & 0x3fff) as usize);
    if cmd >> 8 & 0xff != u32::from(b'E') {
        return Err(Errno::EINVAL);
    }
    let d = &f.dev.about;
    /// `EV_VERSION`.
    const VERSION: u32 = 0x01_0001;
    match (direction, cmd & 0xff) {
        (READ, 0x01) => give(arg, 4, &VERSION.to_le_bytes()).map(|_| 0),
        (READ, 0x02) => {
            let i = d.id;
            let mut b = [0; 8];
            for (at, v) in [i.bus, i.vendor, i.product, i.version].into_iter().enumerate() {
                b[2 * at..2 * at + 2].copy_from_slice(&v.to_le_bytes());
            }
            give(arg, 8, &b).map(|_| 0)
        }
        // Autorepeat, which no device here has.
        (READ | WRITE, 0x03) => Err(Errno::ENOSYS),
        (READ, 0x06) => give_text(arg, room, &d.name),
        (READ, 0x07) => give_text(arg, room, &d.phys),
        (READ, 0x08) => Err(Errno::ENOENT),
        (READ, 0x09) => give(arg, room, &[0; 8]),
        (READ, 0x18) => {
            let down = f.dev.state.lock().down;
            give(arg, room, &down.bytes(0x2ff))
        }
        // Light and sound outputs and switches that are on: none.
        (READ, 0x19..=0x1b) => give(arg, room, &[0; 8]),
        (READ, n @ 0x20..=0x3f) => {
            let (set, last) = d.capabilities.of((n - 0x20) as u16).ok_or(Errno::EINVAL)?;
            give(arg, room, &set.bytes(last))
        }
        (WRITE, 0x90) => grab(f, arg != 0),
        (WRITE, 0x91) if arg != 0 => Err(Errno::EINVAL),
        (WRITE, 0x91) => {
            let mut s = f.dev.state.lock();
            s.readers.retain(|r| !Arc::ptr_eq(r, &f.client));
            if s.grabbed.as_ref().is_some_and(|g| Arc::ptr_eq(g, &f.client)) {
                s.grabbed = None;
            }
            drop(s);
            f.client.hang_up();
            Ok(0)
        }
        (WRITE, 0xa0) => {
            let mut b = [0; 4];
            user::copy_from_user(&mut b, arg)?;
            let clock = u32::from_le_bytes(b);
            if !matches!(clock, CLOCK_REALTIME | CLOCK_MONOTONIC | CLOCK_BOOTTIME) {
                return Err(Errno::EINVAL);
            }
            // What is queued has stamps of the other clock.
            if f.client.clock.swap(clock, Ordering::Relaxed) != clock {
                f.client.queue.lock().clear();
            }
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Has the device for itself, or lets it go. EBUSY, EINVAL.
fn grab(f: &EventFile, on: bool) -> Result<usize> {
    let mut s = f.dev.state.lock();
    match (&s.grabbed, on) {
        (Some(_), true) => Err(Errno::EBUSY),
        (None, true) => {
            s.grabbed = Some(f.client.clone());
            Ok(0)
        }
        (Some(g), false) if Arc::ptr_eq(g, &f.client) => {
            s.grabbed = None;
            Ok(0)
        }
        (_, false) => Err(Errno::EINVAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        Client {
            queue: SpinLockIrq::new(&CLIENT, VecDeque::with_capacity(QUEUE)),
            arrived: Arc::new(WaitQueue::new()),
            clock: AtomicU32::new(CLOCK_MONOTONIC),
            gone: AtomicBool::new(false),
        }
    }

    #[test]
    fn a_reader_that_sleeps_is_told_what_it_missed() {
        let c = client();
        let packet = [Event { kind: 1, code: 116, value: 1 }, Event { kind: 0, code: 0, value: 0 }];
        for _ in 0..QUEUE / 2 {
            c.deliver(&packet);
        }
        assert_eq!(c.queue.lock().len(), QUEUE);
        c.deliver(&packet);
        let q = c.queue.lock();
        assert_eq!((q.len(), q[0].1.code), (1, code::SYN_DROPPED));
    }

    #[test]
    fn events_have_linux_layout() {
        let b = encode(3_000_004_000, Event { kind: 1, code: 116, value: -1 });
        assert_eq!(b, [3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 116, 0, 255, 255, 255, 255]);
    }
}
