//! `/dev/random`, `/dev/urandom` and getrandom(2): `random(4)`.
//!
//! One [`Generator`] serves all. At start-up it is fed from the processor's RDRAND where there is one, and from the
//! time-stamp counter around events whose timing varies. Without RDRAND no source is trusted alone: each timing sample
//! counts one bit, so a few hundred interrupts make it ready.

use alloc::{sync::Arc, vec::Vec};

use base::{Errno, Result, cred::cap};
use frame::sync::{LockClass, SpinLockIrq, WaitQueue};
use linux_raw_sys::ioctl as op;
use vfs::{
    File, FileKind, FileOps, IoDst, IoSrc, OpenFlags, PollFlags, PollTable,
    special::{DeviceNode, DeviceOps},
};

mod generator;

use generator::{Generator, Stream};

static CLASS: LockClass = LockClass::new("random_generator");
static GENERATOR: SpinLockIrq<Generator> = SpinLockIrq::new(&CLASS, Generator::new());
static READY: WaitQueue = WaitQueue::new();

/// Bits credited for a word of RDRAND: the instruction's own claim, halved.
const RDRAND_BITS: u32 = 32;
/// Bytes made at a time between two looks at the signals.
const CHUNK: usize = 4096;

/// Feeds the generator from what the machine has, and registers the devices.
pub fn init() -> Result<()> {
    let words: Vec<u64> = (0..16).map_while(|_| frame::entropy::hardware_u64()).collect();
    for w in &words {
        mix(&w.to_le_bytes(), RDRAND_BITS);
    }
    mix(&frame::time::wall_clock_at_boot_ns().to_le_bytes(), 0);
    stir_timing();
    crate::mem::node("random", 8, 0o666, DeviceNode::new(Node { waits: true }))?;
    crate::mem::node("urandom", 9, 0o666, DeviceNode::new(Node { waits: false }))?;
    let t = base::tree::proc();
    t.file("sys/kernel/random/poolsize", 0o444, |o| Ok(writeln!(o, "{}", generator::READY_BITS)?))?;
    t.file("sys/kernel/random/entropy_avail", 0o444, |o| {
        Ok(writeln!(o, "{}", GENERATOR.lock().credited())?)
    })?;
    // As on Linux, a number that used to mean something: who waits to write is woken when the generator is not ready.
    t.knob(
        "sys/kernel/random/write_wakeup_threshold",
        0o644,
        |o| Ok(writeln!(o, "{}", generator::READY_BITS)?),
        |_| Ok(()),
    )?;
    t.file("sys/kernel/random/uuid", 0o444, |o| Ok(writeln!(o, "{}", uuid())?))?;
    let boot_id = uuid();
    t.file("sys/kernel/random/boot_id", 0o444, move |o| Ok(writeln!(o, "{boot_id}")?))
}

/// Where nothing better is there: how long a memory-bound loop takes varies from turn to turn, by caches, interrupts and
/// the host. Each sample is credited one bit.
fn stir_timing() {
    while !GENERATOR.lock().is_ready() {
        let t = frame::time::now_ns();
        let mut x = t;
        for _ in 0..64 + (t & 63) {
            x = x.rotate_left(7) ^ frame::time::now_ns();
        }
        mix(&x.to_le_bytes(), 1);
    }
}

/// Mixes input in, credited with `bits` of entropy.
pub fn mix(input: &[u8], bits: u32) {
    let mut g = GENERATOR.lock();
    let before = g.is_ready();
    g.mix(input, bits);
    let now = g.is_ready();
    drop(g);
    if now && !before {
        READY.wake_all();
    }
}

/// Random bytes for the kernel's own use.
pub fn fill(out: &mut [u8]) {
    let key = GENERATOR.lock().request_key();
    Stream::new(key).fill(out);
}
/// A random word for the kernel's own use.
pub fn word() -> u64 {
    let mut b = [0; 8];
    fill(&mut b);
    u64::from_le_bytes(b)
}

/// A random UUID (RFC 9562 version 4).
fn uuid() -> alloc::string::String {
    let mut b = [0; 16];
    fill(&mut b);
    b[6] = b[6] & 0x0f | 0x40;
    b[8] = b[8] & 0x3f | 0x80;
    let h: alloc::string::String = b.iter().map(|x| alloc::format!("{x:02x}")).collect();
    alloc::format!("{}-{}-{}-{}-{}", &h[..8], &h[8..12], &h[12..16], &h[16..20], &h[20..])
}

/// Waits until the generator is ready. ERESTARTSYS.
pub fn wait_ready() -> Result<()> {
    Ok(READY.wait_interruptible(|| GENERATOR.lock().is_ready().then_some(()))?)
}
/// True once the generator is ready.
pub fn is_ready() -> bool {
    GENERATOR.lock().is_ready()
}

/// getrandom(2)'s copying: fills `dst`. Short where user memory faults or a signal comes after the first chunk.
pub fn read(dst: &mut IoDst<'_>) -> Result<usize> {
    let mut stream = Stream::new(GENERATOR.lock().request_key());
    let mut buf = [0; 256];
    let mut done = 0;
    while !dst.is_empty() {
        let n = dst.len().min(buf.len());
        stream.fill(&mut buf[..n]);
        match dst.put(&buf[..n]) {
            Ok(k) => done += k,
            Err(_) if done > 0 => break,
            Err(e) => return Err(e),
        }
        if done % CHUNK == 0 && frame::task::current().work().contains(frame::task::Work::SIGNAL) {
            break;
        }
    }
    buf.fill(0);
    Ok(done)
}

struct Node {
    /// `/dev/random` waits for the generator to be ready; `/dev/urandom` does not.
    waits: bool,
}
impl DeviceOps for Node {
    fn open(&self, _inode: &Arc<vfs::Inode>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(RandomFile { waits: self.waits }))
    }
}

struct RandomFile {
    waits: bool,
}
impl FileOps for RandomFile {
    fn kind(&self) -> FileKind {
        FileKind::Seekable
    }
    fn can_poll(&self) -> bool {
        true
    }
    fn llseek(&self, _file: &File, _current: u64, _offset: i64, _whence: u32) -> Result<u64> {
        Ok(0)
    }
    fn read_at(&self, file: &File, _off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        if self.waits && !is_ready() {
            if file.is_nonblocking() {
                return Err(Errno::EAGAIN);
            }
            wait_ready()?;
        }
        read(dst)
    }
    fn write_at(&self, _file: &File, _off: u64, src: &mut IoSrc<'_>) -> Result<usize> {
        let mut buf = [0; 256];
        let mut done = 0;
        while !src.is_empty() {
            match src.take(&mut buf) {
                Ok(n) => {
                    mix(&buf[..n], 0);
                    done += n;
                }
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }
    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollFlags {
        if let Some(t) = table {
            t.register_static(&READY);
        }
        if is_ready() { PollFlags::READABLE | PollFlags::WRITABLE } else { PollFlags::WRITABLE }
    }
    fn ioctl(&self, _file: &File, cmd: u32, arg: usize) -> Result<usize> {
        control(cmd, arg)?;
        Ok(0)
    }
}

/// Adds what user space counts as entropy. EINVAL for a negative count.
fn credit(bits: i32) -> Result<()> {
    mix(&[], u32::try_from(bits).map_err(|_| Errno::EINVAL)?);
    Ok(())
}

/// The ioctls of linux/random.h: all but the first need CAP_SYS_ADMIN.
fn control(cmd: u32, arg: usize) -> Result<()> {
    let int = |at: usize| -> Result<i32> {
        let mut b = [0; 4];
        frame::user::copy_from_user(&mut b, at)?;
        Ok(i32::from_le_bytes(b))
    };
    let privileged = || if crate::caller_has_cap(cap::SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) };
    match cmd {
        op::RNDGETENTCNT => {
            let n = GENERATOR.lock().credited();
            frame::user::copy_to_user(arg, &n.to_le_bytes())?;
        }
        op::RNDADDTOENTCNT => {
            privileged()?;
            credit(int(arg)?)?;
        }
        // A count of bits, a count of bytes, the bytes.
        op::RNDADDENTROPY => {
            privileged()?;
            let (bits, len) = (int(arg)?, usize::try_from(int(arg + 4)?).map_err(|_| Errno::EINVAL)?);
            if bits < 0 {
                return Err(Errno::EINVAL);
            }
            let mut src = IoSrc::user(arg + 8, len);
            let mut b = [0; 256];
            while !src.is_empty() {
                let n = src.take(&mut b)?;
                mix(&b[..n], 0);
            }
            credit(bits)?;
        }
        // There is no pool to be emptied any more.
        op::RNDZAPENTCNT | op::RNDCLEARPOOL => privileged()?,
        // Each request for bytes has a key of its own, so there is nothing to be renewed.
        op::RNDRESEEDCRNG => {
            privileged()?;
            if !is_ready() {
                return Err(Errno::ENODATA);
            }
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}
