//! Messages, and what they are charged.
//!
//! Small messages lie in the queue itself, so that they cost no allocation; middling ones in one heap block, large ones in pages. Each
//! is copied twice, in from the sender's memory and out into the receiver's.
//!
//! The charge is Linux's `truesize`: not the bytes alone but what its buffers for them would take, so that a sender stops after as
//! many messages as there.

use alloc::{boxed::Box, collections::VecDeque, sync::Arc, vec::Vec};

use base::{Errno, Result};
use frame::page::{AllocFlags, PageRef, alloc_page};
use vfs::{IoDst, IoSrc, PAGE_SIZE};

use super::{Kind, UnixSock, inflight::InFlight};
use crate::scm::Ucred;

/// Bytes that a message holds without an allocation.
const INLINE: usize = 128;
/// Up to this, one block of the heap; beyond, pages.
const BLOCK: usize = 2048;

enum Data {
    Inline([u8; INLINE]),
    Block(Vec<u8>),
    Pages(Vec<PageRef>),
}

/// What few messages carry.
pub(super) struct Extra {
    pub(super) creds: Option<Ucred>,
    pub(super) files: Option<InFlight>,
}

/// A message.
pub(super) struct Msg {
    data: Data,
    /// Bytes consumed already, of `len`.
    pub(super) off: u32,
    len: u32,
    pub(super) truesize: u32,
    /// The sender, of a datagram: who is charged, and the address it came from. `None`: the peer.
    pub(super) from: Option<Arc<UnixSock>>,
    pub(super) extra: Option<Box<Extra>>,
}

impl Msg {
    /// Takes the next `len` bytes of `src`, all of them: `EFAULT`.
    pub(super) fn take(kind: Kind, src: &mut IoSrc<'_>, len: usize) -> Result<Msg> {
        let data = if len <= INLINE {
            let mut b = [0; INLINE];
            whole(src.take(&mut b[..len])?, len)?;
            Data::Inline(b)
        } else if len <= BLOCK {
            let mut b = Vec::new();
            b.try_reserve_exact(len)?;
            b.resize(len, 0);
            whole(src.take(&mut b)?, len)?;
            Data::Block(b)
        } else {
            Data::Pages(take_pages(src, len)?)
        };
        Ok(Msg { data, off: 0, len: len as u32, truesize: truesize(kind, len), from: None, extra: None })
    }
    /// Bytes not consumed yet.
    #[inline]
    pub(super) fn left(&self) -> usize {
        (self.len - self.off) as usize
    }
    /// Copies `n` bytes that begin `skip` bytes after those consumed. Short where user memory faults.
    pub(super) fn put(&self, skip: usize, n: usize, dst: &mut IoDst<'_>) -> Result<usize> {
        let at = self.off as usize + skip;
        match &self.data {
            Data::Inline(b) => dst.put(&b[at..at + n]),
            Data::Block(b) => dst.put(&b[at..at + n]),
            Data::Pages(p) => put_pages(p, at, n, dst),
        }
    }
    pub(super) fn creds(&self) -> Ucred {
        self.extra.as_ref().and_then(|e| e.creds).unwrap_or(Ucred::UNKNOWN)
    }
    /// Adds what comes beside the bytes.
    pub(super) fn attach(&mut self, creds: Option<Ucred>, files: Option<InFlight>) -> Result<()> {
        if creds.is_none() && files.is_none() {
            return Ok(());
        }
        self.extra = Some(frame::heap::try_box(Extra { creds, files }).ok_or(Errno::ENOMEM)?);
        Ok(())
    }
}

fn whole(n: usize, len: usize) -> Result<()> {
    if n == len { Ok(()) } else { Err(Errno::EFAULT) }
}

fn take_pages(src: &mut IoSrc<'_>, len: usize) -> Result<Vec<PageRef>> {
    let mut pages = Vec::new();
    pages.try_reserve_exact(len.div_ceil(PAGE_SIZE))?;
    let mut left = len;
    while left > 0 {
        let page = alloc_page(AllocFlags::empty()).ok_or(Errno::ENOBUFS)?;
        let n = left.min(PAGE_SIZE);
        whole(src.take_page(&page, 0, n)?, n)?;
        pages.push(page);
        left -= n;
    }
    Ok(pages)
}

fn put_pages(pages: &[PageRef], at: usize, n: usize, dst: &mut IoDst<'_>) -> Result<usize> {
    let mut done = 0;
    while done < n {
        let (page, off) = ((at + done) / PAGE_SIZE, (at + done) % PAGE_SIZE);
        let want = (PAGE_SIZE - off).min(n - done);
        let got = match dst.put_page(&pages[page], off, want) {
            Ok(got) => got,
            Err(e) if done == 0 => return Err(e),
            Err(_) => break,
        };
        done += got;
        if got < want {
            break;
        }
    }
    Ok(done)
}

/// Linux's bookkeeping for a buffer: the descriptor (`struct sk_buff`) and the shared part behind the bytes.
const SKB: usize = 256;
const SHARED: usize = 320;
/// What is not in pages: of a stream message as much as fits into one page, of a datagram into four.
const STREAM_HEAD: usize = PAGE_SIZE - SHARED;
const DGRAM_HEAD: usize = 4 * PAGE_SIZE - SHARED;
/// The most bytes of one message of a stream (`SKB_MAX_HEAD(0) + UNIX_SKB_FRAGS_SZ`).
pub(super) const STREAM_MAX: usize = STREAM_HEAD + (32 << 10);

/// What a message of `len` bytes is charged.
fn truesize(kind: Kind, len: usize) -> u32 {
    let most = if kind == Kind::Stream { STREAM_HEAD } else { DGRAM_HEAD };
    let in_pages = len.saturating_sub(most).next_multiple_of(PAGE_SIZE).min(len);
    let head = (len - in_pages).next_multiple_of(64) + SHARED;
    let head = head.next_power_of_two();
    (head + in_pages.next_multiple_of(PAGE_SIZE) + SKB) as u32
}

/// The receive queue.
pub(super) struct Queue {
    msgs: VecDeque<Msg>,
}

impl Queue {
    pub(super) const fn new() -> Queue {
        Queue { msgs: VecDeque::new() }
    }
    /// Makes room for one more. `ENOBUFS`.
    pub(super) fn make_room(&mut self) -> Result<()> {
        self.msgs.try_reserve(1).map_err(|_| Errno::ENOBUFS)
    }
    /// Appends, after [`Self::make_room`]; how many there are now.
    pub(super) fn push(&mut self, m: Msg) -> u32 {
        self.msgs.push_back(m);
        self.msgs.len() as u32
    }
    pub(super) fn get(&self, i: usize) -> Option<&Msg> {
        self.msgs.get(i)
    }
    pub(super) fn front_mut(&mut self) -> Option<&mut Msg> {
        self.msgs.front_mut()
    }
    pub(super) fn pop(&mut self) -> Option<Msg> {
        self.msgs.pop_front()
    }
    pub(super) fn len(&self) -> usize {
        self.msgs.len()
    }
    /// Bytes that wait: all, or those of the first message.
    pub(super) fn readable(&self, all: bool) -> usize {
        self.msgs.iter().take(if all { usize::MAX } else { 1 }).map(Msg::left).sum()
    }
    pub(super) fn into_messages(self) -> impl Iterator<Item = Msg> {
        self.msgs.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_are_linux_s() {
        // As `SIOCOUTQ` shows them there.
        for (len, want) in [(1, 768), (100, 768), (385, 1280), (1000, 2304), (3000, 4352), (3776, 4352)] {
            assert_eq!(truesize(Kind::Stream, len), want, "{len}");
        }
        // The rest beyond one page goes into pages, and with it what makes them whole.
        assert_eq!(truesize(Kind::Stream, 4096), 512 + 4096 + 256);
        assert_eq!(truesize(Kind::Stream, 10_000), 4096 + 8192 + 256);
        assert_eq!(truesize(Kind::Dgram, 16_064), 16_384 + 256);
    }

    #[test]
    fn bytes_go_round_in_every_form() {
        // Pages need a machine: the simulation sends through them.
        for len in [0, 1, INLINE, INLINE + 1, BLOCK] {
            let bytes: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            let m = Msg::take(Kind::Stream, &mut IoSrc::kernel(&bytes), len).unwrap();
            let skip = len / 3;
            let mut out = alloc::vec![0; len - skip];
            assert_eq!(m.put(skip, len - skip, &mut IoDst::kernel(&mut out)), Ok(len - skip));
            assert_eq!(out, bytes[skip..]);
        }
    }

    #[test]
    fn too_few_bytes_are_a_fault() {
        for len in [10, 1000] {
            let few = alloc::vec![0; len - 1];
            assert!(Msg::take(Kind::Stream, &mut IoSrc::kernel(&few), len).is_err());
        }
    }
}
