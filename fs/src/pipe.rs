//! Pipes and FIFOs (pipe(7), fifo(7)).
//!
//! A pipe is a queue of buffers, each a page with an offset and a length; as many as it has *slots* (16 by default: 64 KiB). A write of up
//! to `PIPE_BUF` (one page) either fits into the last page or takes one slot, so it is atomic. One sleeping lock guards the queue,
//! because bytes move to and from user memory under it; what waiters look at is also kept in atomic words.
//!
//! A FIFO is a pipe attached to an inode while somebody has it open; an open waits for the other side.

use alloc::{boxed::Box, collections::VecDeque, sync::Arc, vec::Vec};
use core::any::Any;

use base::{
    Errno, Result,
    cred::{Cred, cap},
};
use frame::{
    atomic::{AtomicU32, Ordering::SeqCst},
    page::{AllocFlags, PageRef, alloc_page},
    sync::{LockClass, Mutex, WaitQueue, once::Once},
    user,
};
use vfs::{
    File, FileKind, FileOps, FileType, Inode, IoDst, IoSrc, OpenFlags, PAGE_SIZE, PollFlags, PollQueue,
    PollTable,
    anon::{Bare, PseudoFs},
    special::FifoOps,
};

static PIPE_CLASS: LockClass = LockClass::new("pipe");
static FIFO_CLASS: LockClass = LockClass::new("fifo_attach");

/// `PIPEFS_MAGIC` (linux/magic.h).
const PIPEFS_MAGIC: u64 = 0x5049_5045;
/// Linux's `PIPE_DEF_BUFFERS`.
const DEFAULT_SLOTS: u32 = 16;
/// `fs.pipe-max-size`, bytes: what an unprivileged process may ask for.
const MAX_SIZE: usize = 1 << 20;
/// Emptied pages kept for the next write.
const SPARE_PAGES: usize = 2;
const FIONREAD: u32 = linux_raw_sys::ioctl::FIONREAD;

struct Buffer {
    page: PageRef,
    off: usize,
    len: usize,
    /// The page is the pipe's own: more may be written behind.
    own: bool,
}

#[derive(Default)]
struct Queue {
    buffers: VecDeque<Buffer>,
    spare: Vec<PageRef>,
}

/// A pipe.
struct Pipe {
    queue: Mutex<Queue>,
    /// How many buffers are queued; changed under the lock.
    used: AtomicU32,
    slots: AtomicU32,
    readers: AtomicU32,
    writers: AtomicU32,
    /// How many readers and writers there have ever been: what opens of FIFOs wait for.
    reader_opens: AtomicU32,
    writer_opens: AtomicU32,
    read_queue: PollQueue,
    write_queue: PollQueue,
    open_queue: WaitQueue,
}

/// One open end, or both (`O_RDWR` of a FIFO).
struct End {
    pipe: Arc<Pipe>,
    /// `writer_opens` when this end was opened; no hang-up is shown before a writer has come.
    writers_seen: u32,
    fifo: bool,
}

impl Pipe {
    fn new() -> Result<Arc<Pipe>> {
        let mut q = Queue::default();
        q.buffers.try_reserve(DEFAULT_SLOTS as usize).map_err(|_| Errno::ENOMEM)?;
        q.spare.try_reserve(SPARE_PAGES).map_err(|_| Errno::ENOMEM)?;
        frame::heap::try_arc(Pipe {
            queue: Mutex::new(&PIPE_CLASS, q),
            used: AtomicU32::new(0),
            slots: AtomicU32::new(DEFAULT_SLOTS),
            readers: AtomicU32::new(0),
            writers: AtomicU32::new(0),
            reader_opens: AtomicU32::new(0),
            writer_opens: AtomicU32::new(0),
            read_queue: Arc::new(WaitQueue::new()),
            write_queue: Arc::new(WaitQueue::new()),
            open_queue: WaitQueue::new(),
        })
        .ok_or(Errno::ENOMEM)
    }
    fn is_full(&self) -> bool {
        self.used.load(SeqCst) >= self.slots.load(SeqCst)
    }
    fn is_empty(&self) -> bool {
        self.used.load(SeqCst) == 0
    }
    fn has_readers(&self) -> bool {
        self.readers.load(SeqCst) > 0
    }
    fn has_writers(&self) -> bool {
        self.writers.load(SeqCst) > 0
    }
    fn wake_readers(&self) {
        self.read_queue.wake_all_key(PollFlags::READABLE.bits());
    }
    fn wake_writers(&self) {
        self.write_queue.wake_all_key(PollFlags::WRITABLE.bits());
    }
    /// Waits until there is room or nobody reads.
    fn wait_for_room(&self) -> Result<()> {
        self.write_queue.wait_interruptible(|| (!self.is_full() || !self.has_readers()).then_some(()))?;
        Ok(())
    }

    fn read(&self, nonblock: bool, dst: &mut IoDst<'_>) -> Result<usize> {
        if dst.is_empty() {
            return Ok(0);
        }
        loop {
            let mut q = self.queue.lock();
            if !q.buffers.is_empty() {
                let was_full = self.is_full();
                let r = self.drain(&mut q, dst);
                drop(q);
                if was_full && !self.is_full() {
                    self.wake_writers();
                }
                return r;
            }
            drop(q);
            if !self.has_writers() {
                // A writer may have written and left since.
                if self.is_empty() {
                    return Ok(0);
                }
                continue;
            }
            if nonblock {
                return Err(Errno::EAGAIN);
            }
            self.read_queue.wait_interruptible(|| (!self.is_empty() || !self.has_writers()).then_some(()))?;
        }
    }
    fn drain(&self, q: &mut Queue, dst: &mut IoDst<'_>) -> Result<usize> {
        let mut done = 0;
        while !dst.is_empty() {
            let Some(b) = q.buffers.front_mut() else { break };
            let want = b.len.min(dst.len());
            let n = match dst.put_page(&b.page, b.off, want) {
                Ok(n) => n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            };
            (b.off, b.len, done) = (b.off + n, b.len - n, done + n);
            if b.len == 0 {
                self.used.fetch_sub(1, SeqCst);
                if let Some(b) = q.buffers.pop_front()
                    && b.own
                    && q.spare.len() < SPARE_PAGES
                {
                    q.spare.push(b.page);
                }
            }
            if n < want {
                break;
            }
        }
        Ok(done)
    }

    fn write(&self, nonblock: bool, src: &mut IoSrc<'_>) -> Result<usize> {
        let mut done = 0;
        let result = loop {
            if src.is_empty() {
                break Ok(());
            }
            if !self.has_readers() {
                break Err(Errno::EPIPE);
            }
            let mut q = self.queue.lock();
            let r = self.fill(&mut q, src, done == 0, &mut done);
            drop(q);
            self.wake_readers();
            match r {
                Err(e) => break Err(e),
                Ok(Filled::Short) => break Ok(()),
                Ok(Filled::Full) if nonblock => break Err(Errno::EAGAIN),
                Ok(Filled::Full) => {
                    if let Err(e) = self.wait_for_room() {
                        break Err(e);
                    }
                }
                Ok(Filled::All) => {}
            }
        };
        match result {
            Err(e) if done == 0 => Err(e),
            _ => Ok(done),
        }
    }
    /// Queues as much of `src` as there is room for. `first`: what does not make whole pages may go behind the last bytes.
    fn fill(&self, q: &mut Queue, src: &mut IoSrc<'_>, first: bool, done: &mut usize) -> Result<Filled> {
        let tail = src.len() % PAGE_SIZE;
        if first
            && tail > 0
            && let Some(b) = q.buffers.back_mut().filter(|b| b.own && b.off + b.len + tail <= PAGE_SIZE)
        {
            let n = src.take_page(&b.page, b.off + b.len, tail)?;
            (b.len, *done) = (b.len + n, *done + n);
            if n < tail {
                return Ok(Filled::Short);
            }
        }
        while !src.is_empty() {
            if self.is_full() {
                return Ok(Filled::Full);
            }
            q.buffers.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            let page = match q.spare.pop() {
                Some(p) => p,
                None => alloc_page(AllocFlags::USER).ok_or(Errno::ENOMEM)?,
            };
            let want = src.len().min(PAGE_SIZE);
            let n = src.take_page(&page, 0, want)?;
            q.buffers.push_back(Buffer { page, off: 0, len: n, own: true });
            self.used.fetch_add(1, SeqCst);
            *done += n;
            if n < want {
                return Ok(Filled::Short);
            }
        }
        Ok(Filled::All)
    }
    /// Queues part of somebody else's page.
    fn take(&self, nonblock: bool, page: &PageRef, off: usize, len: usize) -> Result<usize> {
        loop {
            if !self.has_readers() {
                return Err(Errno::EPIPE);
            }
            let mut q = self.queue.lock();
            if !self.is_full() {
                q.buffers.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                q.buffers.push_back(Buffer { page: page.clone(), off, len, own: false });
                self.used.fetch_add(1, SeqCst);
                drop(q);
                self.wake_readers();
                return Ok(len);
            }
            drop(q);
            if nonblock {
                return Err(Errno::EAGAIN);
            }
            self.wait_for_room()?;
        }
    }
    fn opened(&self, flags: OpenFlags) {
        if flags.readable() {
            self.readers.fetch_add(1, SeqCst);
            self.reader_opens.fetch_add(1, SeqCst);
        }
        if flags.writable() {
            self.writers.fetch_add(1, SeqCst);
            self.writer_opens.fetch_add(1, SeqCst);
        }
        self.open_queue.wake_all();
    }
    fn closed(&self, flags: OpenFlags) {
        if flags.readable() {
            self.readers.fetch_sub(1, SeqCst);
        }
        if flags.writable() {
            self.writers.fetch_sub(1, SeqCst);
        }
        self.read_queue.wake_all_key((PollFlags::READABLE | PollFlags::HUP).bits());
        self.write_queue.wake_all_key((PollFlags::WRITABLE | PollFlags::ERR).bits());
    }
}

enum Filled {
    All,
    /// No slot is free.
    Full,
    /// User memory faulted part of the way.
    Short,
}

impl FileOps for End {
    fn kind(&self) -> FileKind {
        FileKind::Stream
    }
    fn can_poll(&self) -> bool {
        true
    }
    fn read_at(&self, file: &File, _off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        self.pipe.read(file.is_nonblocking(), dst)
    }
    fn write_at(&self, file: &File, _off: u64, src: &mut IoSrc<'_>) -> Result<usize> {
        self.pipe.write(file.is_nonblocking(), src)
    }
    fn take_page(&self, file: &File, page: &PageRef, off: usize, len: usize) -> Option<Result<usize>> {
        Some(self.pipe.take(file.is_nonblocking(), page, off, len))
    }
    fn poll(&self, file: &File, table: Option<&mut PollTable>) -> PollFlags {
        let p = &self.pipe;
        let (r, w) = (file.flags().readable(), file.flags().writable());
        if let Some(t) = table {
            if r {
                t.register(&p.read_queue);
            }
            if w {
                t.register(&p.write_queue);
            }
        }
        let mut f = PollFlags::empty();
        if r {
            if !p.is_empty() {
                f |= PollFlags::READABLE;
            }
            if !p.has_writers() && p.writer_opens.load(SeqCst) != self.writers_seen {
                f |= PollFlags::HUP;
            }
        }
        if w {
            if !p.is_full() {
                f |= PollFlags::WRITABLE;
            }
            if !p.has_readers() {
                f |= PollFlags::ERR;
            }
        }
        f
    }
    fn ioctl(&self, _file: &File, cmd: u32, arg: usize) -> Result<usize> {
        if cmd != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let n: usize = self.pipe.queue.lock().buffers.iter().map(|b| b.len).sum();
        user::store_u32(arg, n as u32)?;
        Ok(0)
    }
    fn release(&self, file: &File) {
        if !self.fifo {
            self.pipe.closed(file.flags());
            return;
        }
        // What is detached is dropped after the lock.
        let _gone;
        let _attach = FIFO_ATTACH.lock();
        self.pipe.closed(file.flags());
        _gone = if self.pipe.has_readers() || self.pipe.has_writers() { None } else { file.inode().detach() };
    }
}

static PIPE_FS: Once<Option<PseudoFs>> = Once::new();

/// Makes the file system of pipes, and FIFOs known to the vfs.
pub fn init() -> Result<()> {
    vfs::special::install_fifo(&Fifos);
    pipe_fs().map(|_| ())
}

fn pipe_fs() -> Result<&'static PseudoFs> {
    PIPE_FS.call_once(|| PseudoFs::new("pipefs", PIPEFS_MAGIC).ok()).as_ref().ok_or(Errno::ENOMEM)
}

/// pipe2(2): the read end and the write end. Packet mode (`O_DIRECT`) is not supported: `EINVAL`.
pub fn create(flags: OpenFlags, cred: &Arc<Cred>) -> Result<(Arc<File>, Arc<File>)> {
    if !(flags - (OpenFlags::CLOEXEC | OpenFlags::NONBLOCK)).is_empty() {
        return Err(Errno::EINVAL);
    }
    let keep = flags & OpenFlags::NONBLOCK;
    let place = pipe_fs()?.place("pipe", FileType::Fifo.bits() | 0o600, cred, Box::new(Bare))?;
    let pipe = Pipe::new()?;
    let end = |f: OpenFlags| -> Result<Arc<File>> {
        let ops = frame::heap::try_arc(End { pipe: pipe.clone(), writers_seen: 0, fifo: false })
            .ok_or(Errno::ENOMEM)?;
        pipe.opened(f);
        File::new(place.clone(), ops, f | keep, cred).inspect_err(|_| pipe.closed(f))
    };
    Ok((end(OpenFlags::RDONLY)?, end(OpenFlags::WRONLY)?))
}

fn pipe_of(file: &File) -> Result<&Arc<Pipe>> {
    file.ops_as::<End>().map(|e| &e.pipe).ok_or(Errno::EBADF)
}

/// `F_GETPIPE_SZ`.
pub fn size(file: &File) -> Result<usize> {
    Ok(pipe_of(file)?.slots.load(SeqCst) as usize * PAGE_SIZE)
}

/// `F_SETPIPE_SZ`: rounds up to a power of two of pages; `EBUSY` if more is queued.
pub fn set_size(file: &File, bytes: usize, cred: &Cred) -> Result<usize> {
    let pipe = pipe_of(file)?;
    if bytes == 0 || bytes > 1 << 31 {
        return Err(Errno::EINVAL);
    }
    let slots = bytes.div_ceil(PAGE_SIZE).next_power_of_two();
    let grows = slots > pipe.slots.load(SeqCst) as usize;
    if grows && slots * PAGE_SIZE > MAX_SIZE && !cred.has_cap(cap::SYS_RESOURCE) {
        return Err(Errno::EPERM);
    }
    let q = pipe.queue.lock();
    if q.buffers.len() > slots {
        return Err(Errno::EBUSY);
    }
    pipe.slots.store(slots as u32, SeqCst);
    drop(q);
    pipe.wake_writers();
    Ok(slots * PAGE_SIZE)
}

/// Attaching to an inode and counting oneself in are one step, as are counting out and detaching.
static FIFO_ATTACH: Mutex<()> = Mutex::new(&FIFO_CLASS, ());

struct Fifos;

impl FifoOps for Fifos {
    fn open(&self, inode: &Arc<Inode>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        let (r, w) = (flags.readable(), flags.writable());
        if !r && !w {
            return Err(Errno::EINVAL);
        }
        let nonblock = flags.contains(OpenFlags::NONBLOCK);
        let attach = FIFO_ATTACH.lock();
        let any: Arc<dyn Any + Send + Sync> = inode.attached_or(|| Ok(Pipe::new()?))?;
        let pipe = any.downcast::<Pipe>().map_err(|_| Errno::ENXIO)?;
        let leave = |pipe: &Pipe| {
            pipe.closed(flags);
            if pipe.has_readers() || pipe.has_writers() { None } else { inode.detach() }
        };
        if w && !r && nonblock && !pipe.has_readers() {
            let gone = if pipe.has_writers() { None } else { inode.detach() };
            drop(attach);
            drop(gone);
            return Err(Errno::ENXIO);
        }
        let (readers, writers) = (pipe.reader_opens.load(SeqCst), pipe.writer_opens.load(SeqCst));
        pipe.opened(flags);
        drop(attach);
        // Whoever opens later counts, also if gone again meanwhile.
        let came = if r && w || nonblock {
            Ok(())
        } else if r {
            pipe.open_queue.wait_interruptible(|| {
                (pipe.has_writers() || pipe.writer_opens.load(SeqCst) != writers).then_some(())
            })
        } else {
            pipe.open_queue.wait_interruptible(|| {
                (pipe.has_readers() || pipe.reader_opens.load(SeqCst) != readers).then_some(())
            })
        };
        if came.is_err() {
            let _attach = FIFO_ATTACH.lock();
            drop(leave(&pipe));
        }
        came?;
        // A reader that waited has seen its writer: the hang-up after that one counts.
        let seen = if nonblock && r && !pipe.has_writers() { writers } else { writers.wrapping_sub(1) };
        match frame::heap::try_arc(End { pipe: pipe.clone(), writers_seen: seen, fifo: true }) {
            Some(e) => Ok(e),
            None => {
                let _attach = FIFO_ATTACH.lock();
                drop(leave(&pipe));
                Err(Errno::ENOMEM)
            }
        }
    }
}
