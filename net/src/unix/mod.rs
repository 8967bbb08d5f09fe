//! `AF_UNIX`: conversations between programs on this machine (unix(7)).
//!
//! # Theory
//! A socket owns one receive queue of messages ([`queue`]). Sending makes a message and puts it straight into the queue of the other
//! side; its size is charged to the sender until the receiver has taken it, which is how a full queue stops the sender. A stream
//! socket reads across the borders of messages, a datagram or sequenced-packet socket one message at a time.
//!
//! ```text
//!   A.send ──▶ message ──▶ B.rx ──▶ B.recv          A.wmem += size … A.wmem -= size, wake A's writers
//! ```
//! A connected pair points at each other; [`UnixSock::release`] cuts its own pointer, so the circle ends with the second close. A stream
//! socket that nobody has accepted yet, an *embryo*, stands in its listener's queue and already takes bytes.
//!
//! | file | |
//! |---|---|
//! | `name` | addresses: paths, abstract names; who is bound where |
//! | `connect` | listen, connect, accept |
//! | `queue` | messages and what they are charged |
//! | `stream`, `dgram` | sending and receiving |
//! | `poll` | readiness |
//! | `inflight`, `gc` | descriptors on their way, and collecting those that nobody can receive any more |
//!
//! # Locks, outermost first
//!
//! | lock | guards |
//! |---|---|
//! | `connect::LINK` (sleeping) | one change of who is connected to whom at a time |
//! | `rx` (sleeping) | the receive queue; held while bytes are copied, as a pipe's lock is |
//! | `gc` (sleeping) | what is in flight |
//! | `state` (spinning) | phase, peer, address |
//!
//! Never two sockets' locks of one kind at once. What waiters look at (`queued`, `shutdown`, `wmem`, the pending error) are atomic words,
//! changed before the wake-up.

use alloc::{
    boxed::Box,
    collections::VecDeque,
    sync::{Arc, Weak},
    vec::Vec,
};

use base::{Errno, Result, tree::Out};
use frame::{
    atomic::{
        AtomicBool, AtomicU32, AtomicU64, AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
    sync::{LockClass, Mutex, SpinLock, WaitQueue, once::Once},
};
use hashbrown::HashMap;
use linux_raw_sys::{ioctl, net as uapi};
use vfs::{IoDst, IoSrc, Path, PollFlags, PollQueue, PollTable};

use crate::{
    knobs,
    message::{Name, RecvMsg, SendMsg},
    options::Options,
    scm::Ucred,
    socket::{Socket, shut},
};

mod connect;
mod dgram;
mod gc;
mod inflight;
mod name;
mod poll;
mod queue;
mod stream;

use queue::Queue;

static STATE_CLASS: LockClass = LockClass::new("unix_state");
static RX_CLASS: LockClass = LockClass::new("unix_rx");
static RELAY_CLASS: LockClass = LockClass::new("unix_relay");
static ALL_CLASS: LockClass = LockClass::new("unix_all");

/// The type of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Kind {
    Stream = uapi::SOCK_STREAM as isize,
    Dgram = uapi::SOCK_DGRAM as isize,
    Seqpacket = uapi::SOCK_SEQPACKET as isize,
}

/// Where it is in its life (Linux keeps TCP's names for these).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Close = 0,
    Listen = 1,
    Established = 2,
}

/// What changes when sockets are bound and connected.
struct State {
    peer: Option<Arc<UnixSock>>,
    addr: Option<Arc<Name>>,
    /// The node that it is bound to.
    path: Option<Path>,
    /// Who is on the other side; of a listener, who listens.
    cred: Ucred,
    /// Of an embryo: whose queue it stands in.
    listener: Weak<UnixSock>,
    /// Embryos that wait to be accepted.
    accept: VecDeque<Arc<UnixSock>>,
}

/// A socket.
struct UnixSock {
    id: u64,
    kind: Kind,
    opt: Options,
    /// A [`Phase`].
    phase: AtomicU32,
    /// [`shut`] bits.
    shutdown: AtomicU32,
    /// Released: takes nothing any more.
    dead: AtomicBool,
    state: SpinLock<State>,
    rx: Mutex<Queue>,
    /// Messages in `rx`, or embryos in `accept`.
    queued: AtomicU32,
    /// Charged for messages that are not received yet, bytes.
    wmem: AtomicUsize,
    /// More than so many waiting messages or embryos are full.
    backlog: AtomicU32,
    read_queue: PollQueue,
    write_queue: PollQueue,
    /// Those who wait for room in this socket's queue.
    room_queue: WaitQueue,
    /// Those whose pollers are to be told of room here.
    relay: SpinLock<Vec<Weak<UnixSock>>>,
    ino: AtomicU64,
}

/// Deliberate faults, which simulations must find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nobody is told that the other side has closed.
    SilentClose = 1,
    /// The collector takes sockets that programs hold for garbage.
    GreedyCollector = 2,
}
static FAULT: AtomicU32 = AtomicU32::new(0);

/// Makes what collects unreachable sockets. ENOMEM.
pub(crate) fn init() -> Result<()> {
    gc::init()
}

/// Makes this kernel wrong, for tests.
pub fn inject(f: Fault) {
    FAULT.store(f as u32, SeqCst);
}
fn has_fault(f: Fault) -> bool {
    FAULT.load(Relaxed) == f as u32
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// All sockets, for `/proc/net/unix`.
fn all() -> &'static SpinLock<HashMap<u64, Weak<UnixSock>>> {
    static ALL: Once<SpinLock<HashMap<u64, Weak<UnixSock>>>> = Once::new();
    ALL.call_once(|| SpinLock::new(&ALL_CLASS, HashMap::new()))
}

impl UnixSock {
    fn new(kind: Kind) -> Result<Arc<UnixSock>> {
        let queue = || frame::heap::try_arc(WaitQueue::new()).ok_or(Errno::ENOMEM);
        let state = State {
            peer: None,
            addr: None,
            path: None,
            cred: Ucred::NONE,
            listener: Weak::new(),
            accept: VecDeque::new(),
        };
        let sock = UnixSock {
            id: NEXT_ID.fetch_add(1, Relaxed),
            kind,
            opt: Options::new(),
            phase: AtomicU32::new(Phase::Close as u32),
            shutdown: AtomicU32::new(0),
            dead: AtomicBool::new(false),
            state: SpinLock::new(&STATE_CLASS, state),
            rx: Mutex::new(&RX_CLASS, Queue::new()),
            queued: AtomicU32::new(0),
            wmem: AtomicUsize::new(0),
            backlog: AtomicU32::new(knobs::MAX_DGRAM_QLEN.load(Relaxed)),
            read_queue: queue()?,
            write_queue: queue()?,
            room_queue: WaitQueue::new(),
            relay: SpinLock::new(&RELAY_CLASS, Vec::new()),
            ino: AtomicU64::new(0),
        };
        let sock = frame::heap::try_arc(sock).ok_or(Errno::ENOMEM)?;
        let mut all = all().lock();
        all.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        all.insert(sock.id, Arc::downgrade(&sock));
        drop(all);
        Ok(sock)
    }
    #[inline]
    fn phase(&self) -> Phase {
        match self.phase.load(SeqCst) {
            1 => Phase::Listen,
            2 => Phase::Established,
            _ => Phase::Close,
        }
    }
    fn set_phase(&self, p: Phase) {
        self.phase.store(p as u32, SeqCst);
    }
    #[inline]
    fn is_shut(&self, which: u32) -> bool {
        self.shutdown.load(SeqCst) & which != 0
    }
    #[inline]
    fn is_dead(&self) -> bool {
        self.dead.load(SeqCst)
    }
    #[inline]
    fn peer(&self) -> Option<Arc<UnixSock>> {
        self.state.lock().peer.clone()
    }
    fn addr(&self) -> Option<Arc<Name>> {
        self.state.lock().addr.clone()
    }
    /// Is `other` the peer?
    fn is_peer(&self, other: &Arc<UnixSock>) -> bool {
        self.state.lock().peer.as_ref().is_some_and(|p| Arc::ptr_eq(p, other))
    }
    #[inline]
    fn is_full(&self) -> bool {
        self.queued.load(SeqCst) > self.backlog.load(SeqCst)
    }
    /// Everybody who waits for or polls this socket looks again.
    fn wake_everyone(&self) {
        let key = PollFlags::all().bits();
        self.read_queue.wake_all_key(key);
        self.write_queue.wake_all_key(key);
        self.room_queue.wake_all();
    }
    /// There is room in the queue again.
    fn wake_senders(&self) {
        self.room_queue.wake_all();
        if self.relay.lock().is_empty() {
            return;
        }
        let list = core::mem::take(&mut *self.relay.lock());
        for s in list.iter().filter_map(Weak::upgrade) {
            s.write_queue.wake_all_key(PollFlags::WRITABLE.bits());
        }
    }
    /// The pollers of `sock` are to be told when there is room here.
    fn relay_to(&self, sock: &Arc<UnixSock>) {
        let mut r = self.relay.lock();
        // Without memory the poller is not told; it learns at its next look.
        if !r.iter().any(|w| core::ptr::eq(w.as_ptr(), Arc::as_ptr(sock))) && r.try_reserve(1).is_ok() {
            r.push(Arc::downgrade(sock));
        }
    }

    /// The file is gone, or (`embryo`) the listener before the socket was accepted. Only the first call counts.
    fn release(&self, embryo: bool) {
        if self.dead.load(SeqCst) {
            return;
        }
        self.unbind();
        if self.dead.swap(true, SeqCst) {
            return;
        }
        all().lock().remove(&self.id);
        self.shutdown.store(shut::BOTH, SeqCst);
        let (peer, path, embryos) = {
            let mut s = self.state.lock();
            (s.peer.take(), s.path.take(), core::mem::take(&mut s.accept))
        };
        self.set_phase(Phase::Close);
        let unread = self.queued.load(SeqCst) > 0;
        if let Some(p) = peer.as_ref().filter(|_| self.kind != Kind::Dgram) {
            if unread || embryo {
                p.opt.set_error(Errno::ECONNRESET);
            }
            p.shutdown.fetch_or(shut::BOTH, SeqCst);
            if !has_fault(Fault::SilentClose) {
                p.wake_everyone();
            }
        }
        self.wake_everyone();
        self.wake_senders();
        for e in embryos {
            e.release(true);
        }
        self.purge(peer.as_ref());
        drop(path);
        gc::schedule();
    }
    /// Throws the queue away; its senders have room again. False if it was empty.
    fn purge(&self, peer: Option<&Arc<UnixSock>>) -> bool {
        let old = {
            let mut rx = self.rx.lock();
            self.queued.store(0, SeqCst);
            core::mem::replace(&mut *rx, Queue::new())
        };
        let any = old.len() > 0;
        for m in old.into_messages() {
            if let Some(s) = m.from.as_ref().or(peer) {
                s.uncharge(m.truesize as usize);
            }
        }
        any
    }
}

impl Drop for UnixSock {
    fn drop(&mut self) {
        // One that never got a file is still in the list.
        all().lock().remove(&self.id);
    }
}

/// What the open file holds. Going away releases the socket, if that has not happened.
struct Handle(Arc<UnixSock>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.release(false);
    }
}

fn kind_of(kind: u32, protocol: u32) -> Result<Kind> {
    if protocol != 0 && protocol != uapi::AF_UNIX {
        return Err(Errno::EPROTONOSUPPORT);
    }
    Ok(match kind {
        uapi::SOCK_STREAM => Kind::Stream,
        // Raw sockets of this family have been datagram sockets since BSD.
        uapi::SOCK_DGRAM | uapi::SOCK_RAW => Kind::Dgram,
        uapi::SOCK_SEQPACKET => Kind::Seqpacket,
        _ => return Err(Errno::ESOCKTNOSUPPORT),
    })
}

/// socket(2) for `AF_UNIX`.
pub fn create(kind: u32, protocol: u32) -> Result<Box<dyn Socket>> {
    boxed(UnixSock::new(kind_of(kind, protocol)?)?)
}

/// socketpair(2).
pub fn pair(kind: u32, protocol: u32) -> Result<(Box<dyn Socket>, Box<dyn Socket>)> {
    let kind = kind_of(kind, protocol)?;
    let (a, b) = (UnixSock::new(kind)?, UnixSock::new(kind)?);
    let who = Ucred::peer()?;
    let boxes = (boxed(a.clone())?, boxed(b.clone())?);
    for (x, y) in [(&a, &b), (&b, &a)] {
        let mut s = x.state.lock();
        (s.peer, s.cred) = (Some(y.clone()), who);
        x.set_phase(Phase::Established);
    }
    Ok(boxes)
}

fn boxed(s: Arc<UnixSock>) -> Result<Box<dyn Socket>> {
    Ok(frame::heap::try_box(Handle(s)).ok_or(Errno::ENOMEM)?)
}

impl Socket for Handle {
    fn family(&self) -> u32 {
        uapi::AF_UNIX
    }
    fn kind(&self) -> u32 {
        self.0.kind as u32
    }
    fn options(&self) -> &Options {
        &self.0.opt
    }
    fn bind(&self, addr: &[u8]) -> Result<()> {
        self.0.bind(addr)
    }
    fn connect(&self, addr: &[u8], nonblock: bool) -> Result<()> {
        match self.0.kind {
            Kind::Dgram => self.0.connect_dgram(addr),
            _ => self.0.connect_stream(addr, nonblock),
        }
    }
    fn listen(&self, backlog: u32) -> Result<()> {
        self.0.listen(backlog)
    }
    fn accept(&self, nonblock: bool) -> Result<Box<dyn Socket>> {
        boxed(self.0.accept(nonblock)?)
    }
    fn name(&self) -> Result<Name> {
        Ok(name::shown(self.0.addr()))
    }
    fn peer_name(&self) -> Result<Name> {
        Ok(name::shown(self.0.peer().ok_or(Errno::ENOTCONN)?.addr()))
    }
    fn send(&self, m: &SendMsg<'_>, src: &mut IoSrc<'_>) -> Result<usize> {
        match self.0.kind {
            Kind::Stream => self.0.send_stream(m, src),
            Kind::Dgram => self.0.send_dgram(m, src),
            Kind::Seqpacket => self.0.send_seqpacket(m, src),
        }
    }
    fn recv(&self, m: &mut RecvMsg, dst: &mut IoDst<'_>) -> Result<usize> {
        match self.0.kind {
            Kind::Stream => self.0.recv_stream(m, dst),
            Kind::Seqpacket if self.0.phase() != Phase::Established => Err(Errno::ENOTCONN),
            _ => self.0.recv_dgram(m, dst),
        }
    }
    fn shutdown(&self, which: u32) -> Result<()> {
        let s = &self.0;
        s.shutdown.fetch_or(which, SeqCst);
        if s.kind != Kind::Dgram
            && let Some(p) = s.peer()
        {
            // What one side does not send, the other does not receive.
            p.shutdown.fetch_or((which & shut::RECV) << 1 | (which & shut::SEND) >> 1, SeqCst);
            p.wake_everyone();
        }
        s.wake_everyone();
        Ok(())
    }
    fn poll(&self, table: Option<&mut PollTable>) -> PollFlags {
        self.0.poll(table)
    }
    fn query(&self, cmd: u32) -> Result<u32> {
        match cmd {
            ioctl::TIOCOUTQ => Ok(self.0.wmem.load(SeqCst) as u32),
            ioctl::FIONREAD if self.0.phase() == Phase::Listen => Err(Errno::EINVAL),
            ioctl::FIONREAD => Ok(self.0.rx.lock().readable(self.0.kind != Kind::Dgram) as u32),
            _ => Err(Errno::ENOTTY),
        }
    }
    fn peer_cred(&self) -> Ucred {
        self.0.state.lock().cred
    }
    fn is_listening(&self) -> bool {
        self.0.phase() == Phase::Listen
    }
    fn has_peek_offset(&self) -> bool {
        true
    }
    fn send_buffer_grew(&self) {
        self.0.write_queue.wake_all_key(PollFlags::WRITABLE.bits());
    }
    fn signals_pipe(&self) -> bool {
        self.0.kind == Kind::Stream
    }
    fn placed(&self, ino: u64) {
        self.0.ino.store(ino, Relaxed);
    }
    fn release(&self) {
        self.0.release(false);
    }
}

/// `/proc/net/unix`.
pub(crate) fn show(out: &mut Out) -> Result<()> {
    /// `__SO_ACCEPTCON` of the flags column.
    const ACCEPTS: u32 = 1 << 16;
    writeln!(out, "Num       RefCount Protocol Flags    Type St Inode Path")?;
    let mut list: Vec<Arc<UnixSock>> = Vec::new();
    loop {
        let want = all().lock().len();
        list.try_reserve(want)?;
        let a = all().lock();
        if a.len() <= list.capacity() {
            list.extend(a.values().filter_map(Weak::upgrade));
            break;
        }
    }
    list.sort_unstable_by_key(|s| s.id);
    for s in &list {
        let (phase, ino) = (s.phase(), s.ino.load(Relaxed));
        // `SS_CONNECTED`, `SS_UNCONNECTED`; without a file `SS_CONNECTING`, `SS_DISCONNECTING`.
        let st = match (ino != 0, phase == Phase::Established) {
            (true, true) => 3,
            (true, false) => 1,
            (false, true) => 2,
            (false, false) => 4,
        };
        let flags = if phase == Phase::Listen { ACCEPTS } else { 0 };
        // This list's stands for one that Linux has and this does not.
        let refs = Arc::strong_count(s);
        // In the place of the address, which programs must not know, a number that tells sockets apart.
        write!(
            out,
            "{:016x}: {refs:08X} {:08X} {flags:08X} {:04X} {st:02X} {ino:5}",
            s.id, 0, s.kind as u32
        )?;
        if let Some(a) = s.addr() {
            out.push(b" ")?;
            name::show(&a, out)?;
        }
        out.push(b"\n")?;
    }
    Ok(())
}
