//! `AF_NETLINK`: messages between the kernel and programs (netlink(7)). Of its protocols there is `NETLINK_KOBJECT_UEVENT`, on which
//! the device model tells of devices; the others are `EPROTONOSUPPORT`.
//!
//! A socket has a *port*, a number that is its process's where that is free, and a mask of *groups* that it listens to. A message goes to one
//! port (0 is the kernel), to all members of one group, or both. The kernel's uevents go to group 1; udevd sends what it made of them to
//! group 2. A receiver that does not keep up loses messages and is told so by `ENOBUFS`.
//!
//! What programs send to the kernel's port is taken and not answered: uevents to inject would need name spaces.
//!
//! Locks: `TABLE` (sleeping) for ports and the list of sockets, then a socket's `rx` (sleeping).

use alloc::{
    boxed::Box,
    collections::VecDeque,
    sync::{Arc, Weak},
    vec::Vec,
};

use base::{Errno, Result, cred::cap, tree::Out};
use frame::{
    atomic::{
        AtomicU32, AtomicU64, AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
    sync::{LockClass, Mutex, WaitQueue},
};
use linux_raw_sys::{net as uapi, netlink as nl};
use vfs::{IoDst, IoSrc, PollFlags, PollQueue, PollTable};

use crate::{
    caller,
    message::{Name, Patience, RecvMsg, SendMsg},
    options::{Options, Value},
    scm::{Control, Ucred},
    socket::Socket,
};

#[cfg(test)]
mod tests;

static TABLE_CLASS: LockClass = LockClass::new("netlink_table");
static RX_CLASS: LockClass = LockClass::new("netlink_rx");
static DST_CLASS: LockClass = LockClass::new("netlink_dst");

/// Protocol numbers below this exist (`MAX_LINKS`).
const PROTOCOLS: u32 = 32;
/// Groups of the uevent protocol: as many as one word has.
const GROUPS: u32 = 32;
/// `struct sockaddr_nl`.
const ADDR_LEN: usize = 12;
/// The group of the kernel's events.
const KERNEL_GROUP: u32 = 1;
/// What a message is charged beyond its bytes.
const OVERHEAD: usize = 256 + 320;
/// What a message must leave of the send buffer.
const SNDBUF_SLACK: usize = 32;
/// Where ports are looked for when the process's own number is taken: negative ones, downwards.
const FIRST_AUTO: u32 = -4096i32 as u32;

struct Msg {
    data: Arc<Vec<u8>>,
    port: u32,
    /// 0: sent to the port.
    group: u32,
    creds: Ucred,
}

#[derive(Clone, Copy, Default)]
struct Dst {
    port: u32,
    groups: u32,
}

/// A socket.
struct NlSock {
    kind: u32,
    protocol: u32,
    opt: Options,
    /// 0: not bound.
    port: AtomicU32,
    groups: AtomicU32,
    dst: frame::sync::SpinLock<Dst>,
    rx: Mutex<VecDeque<Msg>>,
    queued: AtomicU32,
    /// Charged for what waits, bytes.
    rmem: AtomicUsize,
    drops: AtomicU64,
    /// `NETLINK_NO_ENOBUFS`, `NETLINK_BROADCAST_ERROR`, `NETLINK_PKTINFO`: bit by number.
    switches: AtomicU32,
    queue: PollQueue,
    ino: AtomicU64,
}

static TABLE: Mutex<Vec<Weak<NlSock>>> = Mutex::new(&TABLE_CLASS, Vec::new());

/// socket(2) for `AF_NETLINK`.
pub fn create(kind: u32, protocol: u32) -> Result<Box<dyn Socket>> {
    if kind != uapi::SOCK_RAW && kind != uapi::SOCK_DGRAM {
        return Err(Errno::ESOCKTNOSUPPORT);
    }
    if protocol >= PROTOCOLS || protocol != nl::NETLINK_KOBJECT_UEVENT {
        return Err(Errno::EPROTONOSUPPORT);
    }
    let sock = NlSock {
        kind,
        protocol,
        opt: Options::new(),
        port: AtomicU32::new(0),
        groups: AtomicU32::new(0),
        dst: frame::sync::SpinLock::new(&DST_CLASS, Dst::default()),
        rx: Mutex::new(&RX_CLASS, VecDeque::new()),
        queued: AtomicU32::new(0),
        rmem: AtomicUsize::new(0),
        drops: AtomicU64::new(0),
        switches: AtomicU32::new(0),
        queue: frame::heap::try_arc(WaitQueue::new()).ok_or(Errno::ENOMEM)?,
        ino: AtomicU64::new(0),
    };
    let sock = frame::heap::try_arc(sock).ok_or(Errno::ENOMEM)?;
    let mut t = TABLE.lock();
    t.retain(|s| s.strong_count() > 0);
    t.try_reserve(1)?;
    t.push(Arc::downgrade(&sock));
    drop(t);
    Ok(frame::heap::try_box(Handle(sock)).ok_or(Errno::ENOMEM)?)
}

/// There are no pairs.
pub fn pair(_kind: u32, _protocol: u32) -> Result<(Box<dyn Socket>, Box<dyn Socket>)> {
    Err(Errno::EOPNOTSUPP)
}

/// Sends a kernel event to all who listen. What [`base::uevent`] calls.
pub fn uevent(message: &[u8]) {
    let mut data = Vec::new();
    // Without memory the event is lost; its number will be missing.
    if data.try_reserve_exact(message.len()).is_err() {
        return;
    }
    data.extend_from_slice(message);
    let Some(data) = frame::heap::try_arc(data) else { return };
    broadcast(None, KERNEL_GROUP, |_| Msg {
        data: data.clone(),
        port: 0,
        group: KERNEL_GROUP,
        creds: Ucred::default(),
    });
}

/// Gives a message to every member of `group` but the sender.
fn broadcast(from: Option<&NlSock>, group: u32, make: impl Fn(&NlSock) -> Msg) {
    let t = TABLE.lock();
    for s in t.iter().filter_map(Weak::upgrade) {
        let is_sender = from.is_some_and(|f| core::ptr::eq(f, &*s));
        if !is_sender && s.groups.load(SeqCst) >> (group - 1) & 1 != 0 {
            // Who has no room is told by the overrun.
            let _ = s.queue_message(make(&s));
        }
    }
}

fn parse(addr: &[u8]) -> Result<Dst> {
    let word = |at: usize| addr.get(at..at + 4)?.first_chunk::<4>().map(|b| u32::from_ne_bytes(*b));
    let family = addr.first_chunk::<2>().map(|b| u16::from_ne_bytes(*b) as u32);
    match (family, word(4), word(8)) {
        (Some(uapi::AF_NETLINK), Some(port), Some(groups)) => Ok(Dst { port, groups }),
        _ => Err(Errno::EINVAL),
    }
}

fn shown(d: Dst) -> Name {
    let mut b = [0; ADDR_LEN];
    b[..2].copy_from_slice(&(uapi::AF_NETLINK as u16).to_ne_bytes());
    b[4..8].copy_from_slice(&d.port.to_ne_bytes());
    b[8..].copy_from_slice(&d.groups.to_ne_bytes());
    Name::new(&b)
}

/// A group's number as a mask.
fn mask(group: u32) -> u32 {
    if group == 0 { 0 } else { 1 << (group - 1) }
}

impl NlSock {
    fn charge(m: &Msg) -> usize {
        m.data.len() + OVERHEAD
    }
    /// `EAGAIN` (and an overrun) where there is no room.
    fn queue_message(&self, m: Msg) -> Result<()> {
        let charge = Self::charge(&m);
        let mut rx = self.rx.lock();
        let full = self.rmem.load(SeqCst) > self.opt.rcvbuf.load(Relaxed) as usize;
        if full || rx.try_reserve(1).is_err() {
            drop(rx);
            self.drops.fetch_add(1, Relaxed);
            if !self.is_on(nl::NETLINK_NO_ENOBUFS) {
                self.opt.set_error(Errno::ENOBUFS);
                self.queue.wake_all_key(PollFlags::ERR.bits());
            }
            return Err(Errno::EAGAIN);
        }
        self.rmem.fetch_add(charge, SeqCst);
        rx.push_back(m);
        self.queued.store(rx.len() as u32, SeqCst);
        drop(rx);
        self.queue.wake_all_key(PollFlags::READABLE.bits());
        Ok(())
    }
    fn is_on(&self, switch: u32) -> bool {
        self.switches.load(Relaxed) >> switch & 1 != 0
    }
    /// Takes a port: this one, or with 0 the process's number or another that is free.
    fn take_port(&self, wanted: u32) -> Result<()> {
        let t = TABLE.lock();
        if self.port.load(SeqCst) != 0 {
            return if wanted == 0 || wanted == self.port.load(SeqCst) { Ok(()) } else { Err(Errno::EINVAL) };
        }
        let taken = |port: u32| {
            let same = |s: Arc<NlSock>| s.protocol == self.protocol && s.port.load(SeqCst) == port;
            t.iter().filter_map(Weak::upgrade).any(same)
        };
        let port = match wanted {
            0 if !taken(caller::pid()) => caller::pid(),
            0 => (0..=FIRST_AUTO).rev().find(|p| !taken(*p)).ok_or(Errno::EADDRINUSE)?,
            p if taken(p) => return Err(Errno::EADDRINUSE),
            p => p,
        };
        self.port.store(port, SeqCst);
        Ok(())
    }
    fn may_send() -> Result<()> {
        if caller::cred()?.has_cap(cap::NET_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
    }
    fn send(self: &Arc<Self>, m: &SendMsg<'_>, src: &mut IoSrc<'_>) -> Result<usize> {
        if m.flags & uapi::MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let len = src.len();
        if len == 0 {
            return Err(Errno::ENODATA);
        }
        let control = Control::parse(m.control, false)?;
        let dst = match m.name {
            Some(a) => parse(a)?,
            None => *self.dst.lock(),
        };
        // Of several groups the first counts.
        let group = if dst.groups == 0 { 0 } else { dst.groups.trailing_zeros() + 1 };
        if group != 0 || dst.port != 0 {
            Self::may_send()?;
        }
        self.take_port(0)?;
        if len > (self.opt.sndbuf.load(Relaxed) as usize).saturating_sub(SNDBUF_SLACK) {
            return Err(Errno::EMSGSIZE);
        }
        let mut data = Vec::new();
        data.try_reserve_exact(len).map_err(|_| Errno::ENOBUFS)?;
        data.resize(len, 0);
        if src.take(&mut data)? < len {
            return Err(Errno::EFAULT);
        }
        let data = frame::heap::try_arc(data).ok_or(Errno::ENOBUFS)?;
        let creds = control.creds.map_or_else(Ucred::sender, Ok)?;
        let port = self.port.load(SeqCst);
        let make = |group| Msg { data: data.clone(), port, group, creds };
        if group != 0 {
            broadcast(Some(self), group, |_| make(group));
        }
        if dst.port == 0 {
            return Ok(len);
        }
        let to = {
            let t = TABLE.lock();
            let is = |s: &Arc<NlSock>| s.protocol == self.protocol && s.port.load(SeqCst) == dst.port;
            t.iter().filter_map(Weak::upgrade).find(is)
        };
        to.ok_or(Errno::ECONNREFUSED)?.queue_message(make(0)).map(|()| len)
    }
    fn recv(&self, m: &mut RecvMsg, dst: &mut IoDst<'_>) -> Result<usize> {
        if m.flags & uapi::MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut patience = Patience::new(m.nonblock, self.opt.rcvtimeo.load(Relaxed));
        loop {
            self.opt.take_error()?;
            let mut rx = self.rx.lock();
            if let Some(msg) = rx.front() {
                let r = self.copy_out(msg, m, dst);
                if !m.peeks() {
                    let charge = Self::charge(msg);
                    let gone = rx.pop_front();
                    self.queued.store(rx.len() as u32, SeqCst);
                    self.rmem.fetch_sub(charge, SeqCst);
                    drop(rx);
                    drop(gone);
                }
                return r;
            }
            drop(rx);
            patience
                .wait(&self.queue, || (self.queued.load(SeqCst) > 0 || self.opt.has_error()).then_some(()))?;
        }
    }
    fn copy_out(&self, msg: &Msg, m: &mut RecvMsg, dst: &mut IoDst<'_>) -> Result<usize> {
        let want = msg.data.len().min(dst.len());
        if want < msg.data.len() {
            m.out_flags |= uapi::MSG_TRUNC;
        }
        if dst.put(&msg.data[..want])? < want {
            return Err(Errno::EFAULT);
        }
        if m.want_name {
            m.name = Some(shown(Dst { port: msg.port, groups: mask(msg.group) }));
        }
        if self.opt.passes_creds() {
            m.creds = Some(msg.creds);
        }
        if self.is_on(nl::NETLINK_PKTINFO) {
            m.netlink_group = Some(msg.group);
        }
        Ok(if m.flags & uapi::MSG_TRUNC != 0 { msg.data.len() } else { want })
    }
}

/// What the open file holds.
struct Handle(Arc<NlSock>);

impl Socket for Handle {
    fn family(&self) -> u32 {
        uapi::AF_NETLINK
    }
    fn kind(&self) -> u32 {
        self.0.kind
    }
    fn protocol(&self) -> u32 {
        self.0.protocol
    }
    fn options(&self) -> &Options {
        &self.0.opt
    }
    fn bind(&self, addr: &[u8]) -> Result<()> {
        let d = parse(addr)?;
        let port = self.0.port.load(SeqCst);
        if port != 0 && port != d.port {
            return Err(Errno::EINVAL);
        }
        // Everybody may listen to uevents.
        self.0.take_port(d.port)?;
        self.0.groups.store(d.groups, SeqCst);
        Ok(())
    }
    fn connect(&self, addr: &[u8], _nonblock: bool) -> Result<()> {
        let family = addr.first_chunk::<2>().ok_or(Errno::EINVAL)?;
        if u16::from_ne_bytes(*family) as u32 == uapi::AF_UNSPEC {
            *self.0.dst.lock() = Dst::default();
            return Ok(());
        }
        let d = parse(addr)?;
        if d.port != 0 || d.groups != 0 {
            NlSock::may_send()?;
        }
        self.0.take_port(0)?;
        *self.0.dst.lock() = d;
        Ok(())
    }
    fn name(&self) -> Result<Name> {
        Ok(shown(Dst { port: self.0.port.load(SeqCst), groups: self.0.groups.load(SeqCst) }))
    }
    fn peer_name(&self) -> Result<Name> {
        let d = *self.0.dst.lock();
        Ok(shown(Dst { port: d.port, groups: d.groups & d.groups.wrapping_neg() }))
    }
    fn send(&self, m: &SendMsg<'_>, src: &mut IoSrc<'_>) -> Result<usize> {
        self.0.send(m, src)
    }
    fn recv(&self, m: &mut RecvMsg, dst: &mut IoDst<'_>) -> Result<usize> {
        self.0.recv(m, dst)
    }
    fn poll(&self, table: Option<&mut PollTable>) -> PollFlags {
        if let Some(t) = table {
            t.register(&self.0.queue);
        }
        // Nothing sent waits here: there is always room to send.
        let mut f = PollFlags::WRITABLE | PollFlags::WRBAND;
        if self.0.opt.has_error() {
            f |= PollFlags::ERR;
        }
        if self.0.queued.load(SeqCst) > 0 {
            f |= PollFlags::READABLE;
        }
        f
    }
    fn set_option(&self, level: u32, name: u32, value: &[u8]) -> Result<()> {
        if level != uapi::SOL_NETLINK {
            return Err(Errno::ENOPROTOOPT);
        }
        let n = value.first_chunk::<4>().map(|b| u32::from_ne_bytes(*b));
        let s = &self.0;
        match name {
            nl::NETLINK_ADD_MEMBERSHIP | nl::NETLINK_DROP_MEMBERSHIP => {
                let g = n.filter(|g| (1..=GROUPS).contains(g)).ok_or(Errno::EINVAL)?;
                if name == nl::NETLINK_ADD_MEMBERSHIP {
                    s.groups.fetch_or(mask(g), SeqCst);
                } else {
                    s.groups.fetch_and(!mask(g), SeqCst);
                }
            }
            nl::NETLINK_PKTINFO | nl::NETLINK_BROADCAST_ERROR | nl::NETLINK_NO_ENOBUFS => {
                if n.unwrap_or(0) != 0 {
                    s.switches.fetch_or(1 << name, Relaxed);
                } else {
                    s.switches.fetch_and(!(1 << name), Relaxed);
                }
            }
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }
    fn get_option(&self, level: u32, name: u32) -> Result<Value> {
        match name {
            _ if level != uapi::SOL_NETLINK => Err(Errno::ENOPROTOOPT),
            nl::NETLINK_PKTINFO | nl::NETLINK_BROADCAST_ERROR | nl::NETLINK_NO_ENOBUFS => {
                Ok(Value::int(self.0.is_on(name) as u32))
            }
            nl::NETLINK_LIST_MEMBERSHIPS => Ok(Value::int(self.0.groups.load(SeqCst))),
            _ => Err(Errno::ENOPROTOOPT),
        }
    }
    fn placed(&self, ino: u64) {
        self.0.ino.store(ino, Relaxed);
    }
    fn release(&self) {
        self.0.groups.store(0, SeqCst);
        self.0.port.store(0, SeqCst);
    }
}

/// `/proc/net/netlink`.
pub(crate) fn show(out: &mut Out) -> Result<()> {
    writeln!(
        out,
        "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode"
    )?;
    // The kernel's own socket: it sends and keeps nothing.
    let mut row = |id: u64, proto: u32, port: u32, groups: u32, rmem: usize, drops: u64, ino: u64| {
        writeln!(
            out,
            "{id:016x} {proto:<3} {:<10} {groups:08x} {rmem:<8} {:<8} {:<5} {:<8} {drops:<8} {ino:<8}",
            port as i32 as i64, 0, 0, 2
        )
    };
    row(0, nl::NETLINK_KOBJECT_UEVENT, 0, 0, 0, 0, 0)?;
    let t = TABLE.lock();
    for (i, s) in t.iter().filter_map(Weak::upgrade).enumerate() {
        let (port, groups) = (s.port.load(SeqCst), s.groups.load(SeqCst));
        let (rmem, drops) = (s.rmem.load(SeqCst), s.drops.load(Relaxed));
        row(i as u64 + 1, s.protocol, port, groups, rmem, drops, s.ino.load(Relaxed))?;
    }
    Ok(())
}
