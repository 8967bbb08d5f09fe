//! The master: what opening `/dev/ptmx` gives.

use alloc::{format, sync::Arc, vec::Vec};

use base::{Errno, Result};
use frame::user;
use linux_raw_sys::{general as pkt, ioctl as op};
use vfs::{Ctx, File, FileKind, FileOps, IoDst, IoSrc, OpenFlags, PollFlags, PollTable};

use super::{Devpts, find_devpts, slave::Pair};
use crate::tty::{
    Tty, ioctl,
    ioctl::{Via, get_int, put_int},
    job::{self, sig},
    ldisc::BUFFER,
};

/// How many bytes a read or a write moves at a time.
const CHUNK: usize = BUFFER;

pub(super) struct Master {
    pub(super) pair: Arc<Pair>,
    pub(super) slave: Arc<Tty>,
    pub(super) devpts: Arc<dyn Devpts>,
    pub(super) number: u32,
}

/// What a read finds.
enum Found {
    Bytes(usize),
    Nothing,
    /// Nothing, and nobody who could write.
    End,
}

impl Master {
    /// Takes what there is. In packet mode the first byte says what it is.
    fn take(&self, buf: &mut [u8]) -> Found {
        let (closed, packet) = {
            let mut s = self.pair.status.lock();
            if s.packet && s.news != 0 {
                buf[0] = core::mem::take(&mut s.news);
                return Found::Bytes(1);
            }
            // Asked before the bytes are: what was written before the end is read before it.
            (s.slave_closed, usize::from(s.packet))
        };
        match self.pair.to_master.get(&mut buf[packet..]) {
            // Nothing fits behind the packet's first byte, which is all there is to say.
            0 if packet == buf.len() && self.pair.to_master.len() > 0 => Found::Bytes(0),
            0 if closed => Found::End,
            0 => Found::Nothing,
            n => {
                if packet > 0 {
                    buf[0] = pkt::TIOCPKT_DATA as u8;
                }
                Found::Bytes(packet + n)
            }
        }
    }
    fn has_input(&self) -> bool {
        self.has_news() || self.pair.to_master.len() > 0
    }
    fn has_news(&self) -> bool {
        let s = self.pair.status.lock();
        s.packet && s.news != 0
    }
    fn slave_closed(&self) -> bool {
        self.pair.status.lock().slave_closed
    }

    /// Sends `bytes` to the slave, which need not be open: its discipline takes them all the same, echoes, and keeps them for whoever
    /// opens it. How many; fewer if a signal came.
    fn send(&self, bytes: &[u8], nonblocking: bool) -> Result<usize> {
        let mut done = 0;
        while done < bytes.len() {
            let wait = match self.pair.to_slave.put(&bytes[done..]) {
                0 if nonblocking => Err(Errno::EAGAIN),
                0 => {
                    let ready = || (self.pair.to_slave.free() > 0).then_some(());
                    self.pair.to_slave.room.wait_interruptible(ready).map_err(Errno::from)
                }
                n => {
                    done += n;
                    self.slave.schedule_flush();
                    Ok(())
                }
            };
            match wait {
                Err(_) if done > 0 => break,
                r => r?,
            }
        }
        Ok(done)
    }

    /// TIOCGPTPEER: opens the slave, whatever its name is for the caller.
    fn open_peer(&self, file: &File, flags: usize) -> Result<usize> {
        let flags = OpenFlags::from_bits_truncate(u32::try_from(flags).map_err(|_| Errno::EINVAL)?);
        let j = job::jobs().ok_or(Errno::EIO)?;
        let (devpts, root) = find_devpts(file.path())?;
        if !core::ptr::addr_eq(Arc::as_ptr(&devpts), Arc::as_ptr(&self.devpts)) {
            return Err(Errno::ENODEV);
        }
        let mine = j.ctx().ok_or(Errno::EIO)?;
        let ctx = Ctx { root: root.clone(), cwd: root, ..mine };
        let opened = vfs::open(&ctx, None, format!("{}", self.number).as_bytes(), flags, 0)?;
        j.install_file(opened, flags.contains(OpenFlags::CLOEXEC))
    }

    fn set_packet_mode(&self, on: bool) {
        let mut s = self.pair.status.lock();
        if on && !s.packet {
            s.news = 0;
        }
        s.packet = on;
    }

    /// TIOCSIG: one of the keyboard's signals to the slave's foreground group.
    fn signal(&self, signal: usize) -> Result<usize> {
        let n = i32::try_from(signal).ok().filter(|n| [sig::INT, sig::QUIT, sig::TSTP].contains(n));
        let n = n.ok_or(Errno::EINVAL)?;
        if let (Some(j), Some(g)) = (job::jobs(), self.slave.foreground()) {
            j.signal_group(g, n);
        }
        Ok(0)
    }

    /// TCFLSH by the master: its input is the slave's output.
    fn flush(&self, which: usize) -> Result<usize> {
        // TCIFLUSH 0, TCOFLUSH 1, TCIOFLUSH 2.
        if which > 2 {
            return Err(Errno::EINVAL);
        }
        if which != 1 {
            self.pair.to_master.clear();
        }
        if which != 0 {
            // What the slave's discipline has already is the slave's.
            self.pair.to_slave.clear();
        }
        Ok(0)
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.pair.status.lock().master_closed = true;
        self.devpts.remove(self.number);
        // What was written before comes before the end.
        self.slave.flush.flush();
        self.slave.hang_up();
        self.pair.to_slave.clear();
        self.pair.to_master.wake();
    }
}

impl FileOps for Master {
    fn kind(&self) -> FileKind {
        FileKind::Stream
    }
    fn can_poll(&self) -> bool {
        true
    }
    fn read_at(&self, file: &File, _off: u64, dst: &mut IoDst<'_>) -> Result<usize> {
        if dst.is_empty() {
            return Ok(0);
        }
        let mut b = Vec::new();
        let size = dst.len().min(CHUNK);
        b.try_reserve_exact(size)?;
        b.resize(size, 0);
        loop {
            match self.take(&mut b) {
                Found::Bytes(n) => return dst.put(&b[..n]),
                Found::End => return Err(Errno::EIO),
                Found::Nothing if file.is_nonblocking() => return Err(Errno::EAGAIN),
                Found::Nothing => {}
            }
            let ready = || (self.has_input() || self.slave_closed()).then_some(());
            self.pair.to_master.arrived.wait_interruptible(ready)?;
        }
    }
    fn write_at(&self, file: &File, _off: u64, src: &mut IoSrc<'_>) -> Result<usize> {
        let mut b = Vec::new();
        let size = src.len().min(CHUNK);
        b.try_reserve_exact(size)?;
        b.resize(size, 0);
        let mut done = 0;
        while !src.is_empty() {
            let r = src.take(&mut b).and_then(|n| Ok((n, self.send(&b[..n], file.is_nonblocking())?)));
            match r {
                Ok((n, sent)) => {
                    done += sent;
                    if sent < n {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }
    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollFlags {
        if let Some(t) = table {
            t.register(&self.pair.to_master.arrived);
            t.register(&self.pair.to_slave.room);
        }
        let mut f = PollFlags::empty();
        // Asked in this order, what was written before the end is never overlooked.
        if self.slave_closed() {
            f |= PollFlags::HUP;
        }
        if self.has_news() {
            f |= PollFlags::PRI | PollFlags::READABLE;
        }
        if self.pair.to_master.len() > 0 {
            f |= PollFlags::READABLE;
        }
        if self.pair.to_slave.free() > 0 {
            f |= PollFlags::WRITABLE;
        }
        f
    }
    fn ioctl(&self, file: &File, cmd: u32, arg: usize) -> Result<usize> {
        match cmd {
            op::TIOCGPTN => {
                user::copy_to_user(arg, &self.number.to_le_bytes())?;
                Ok(0)
            }
            op::TIOCSPTLCK => {
                self.pair.status.lock().locked = get_int(arg)? != 0;
                Ok(0)
            }
            op::TIOCGPTLCK => {
                let locked = self.pair.status.lock().locked;
                put_int(arg, locked.into())
            }
            op::TIOCPKT => {
                self.set_packet_mode(get_int(arg)? != 0);
                Ok(0)
            }
            op::TIOCGPKT => {
                let packet = self.pair.status.lock().packet;
                put_int(arg, packet.into())
            }
            op::TIOCGPTPEER => self.open_peer(file, arg),
            op::TIOCSIG => self.signal(arg),
            op::FIONREAD => put_int(arg, self.pair.to_master.len() as i32),
            op::TIOCOUTQ => put_int(arg, 0),
            op::TCFLSH => self.flush(arg),
            // The master's own line: nothing holds it back.
            op::TCXONC => {
                if arg <= 3 {
                    Ok(0)
                } else {
                    Err(Errno::EINVAL)
                }
            }
            _ => ioctl::ioctl(&self.slave, cmd, arg, Via::Master { readable: file.flags().readable() }),
        }
    }
}
