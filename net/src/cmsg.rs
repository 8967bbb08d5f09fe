//! Control messages as bytes: the layout of cmsg(3), a header of 16 bytes, data, padding to 8.
//!
//! ```text
//!   0       8      12     16                len
//!   ┌───────┬──────┬──────┬───────────────────┬ ─ ─ ┐
//!   │  len  │level │ type │ data              │ pad │  next header …
//!   └───────┴──────┴──────┴───────────────────┴ ─ ─ ┘
//! ```

use base::{Errno, Result};

/// Bytes of a header.
pub const HEADER: usize = 16;

/// `CMSG_ALIGN`.
const fn align(n: usize) -> usize {
    n.saturating_add(7) & !7
}
/// `CMSG_LEN`.
pub const fn len(data: usize) -> usize {
    HEADER + data
}
/// `CMSG_SPACE`.
pub const fn space(data: usize) -> usize {
    HEADER + align(data)
}

/// One control message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cmsg<'a> {
    pub level: i32,
    pub kind: i32,
    pub data: &'a [u8],
}

/// The messages of a buffer. `EINVAL`, once and last, for one that is shorter than its header or longer than what is left. Fewer bytes
/// than a header at the end are padding.
pub struct Messages<'a> {
    left: &'a [u8],
}

/// Reads a buffer.
pub fn messages(control: &[u8]) -> Messages<'_> {
    Messages { left: control }
}

fn word<const N: usize>(b: &[u8], at: usize) -> Option<[u8; N]> {
    b.get(at..at + N)?.try_into().ok()
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Cmsg<'a>>;
    fn next(&mut self) -> Option<Self::Item> {
        let all = self.left;
        if all.len() < HEADER {
            return None;
        }
        let len = usize::try_from(u64::from_ne_bytes(word(all, 0)?)).unwrap_or(usize::MAX);
        let (level, kind) = (i32::from_ne_bytes(word(all, 8)?), i32::from_ne_bytes(word(all, 12)?));
        if len < HEADER || len > all.len() {
            self.left = &[];
            return Some(Err(Errno::EINVAL));
        }
        self.left = all.get(align(len)..).unwrap_or_default();
        Some(Ok(Cmsg { level, kind, data: &all[HEADER..len] }))
    }
}

/// A header for `data` bytes of data.
pub fn header(level: u32, kind: u32, data: usize) -> [u8; HEADER] {
    let mut b = [0; HEADER];
    b[..8].copy_from_slice(&(len(data) as u64).to_ne_bytes());
    b[8..12].copy_from_slice(&level.to_ne_bytes());
    b[12..].copy_from_slice(&kind.to_ne_bytes());
    b
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn put(out: &mut Vec<u8>, kind: u32, data: &[u8]) {
        out.extend(header(1, kind, data.len()));
        out.extend(data);
        out.resize(align(out.len()), 0);
    }

    #[test]
    fn messages_follow_one_another() {
        let mut b = Vec::new();
        put(&mut b, 1, &[1, 2, 3, 4]);
        put(&mut b, 2, &[5; 12]);
        let v: Vec<_> = messages(&b).map(|m| m.unwrap()).collect();
        assert_eq!((v[0].kind, v[0].data), (1, &[1, 2, 3, 4][..]));
        assert_eq!((v[1].kind, v[1].data.len(), v.len()), (2, 12, 2));
        // The padding of the last one may be missing.
        b.truncate(b.len() - 4);
        assert_eq!(messages(&b).filter(|m| m.is_ok()).count(), 2);
    }

    #[test]
    fn wrong_lengths_are_told_once() {
        let mut b = header(1, 1, 0);
        b[0] = 15;
        assert_eq!(messages(&b).collect::<Vec<_>>(), [Err(Errno::EINVAL)]);
        b[..8].copy_from_slice(&u64::MAX.to_ne_bytes());
        assert_eq!(messages(&b).collect::<Vec<_>>(), [Err(Errno::EINVAL)]);
        assert_eq!(messages(&b[..15]).count(), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_end(b in prop::collection::vec(any::<u8>(), 0..200)) {
            let total: usize = messages(&b).flatten().map(|m| HEADER + m.data.len()).sum();
            prop_assert!(total <= b.len());
        }
        #[test]
        fn what_was_put_is_found(list in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..5)) {
            let mut b = Vec::new();
            list.iter().for_each(|d| put(&mut b, 7, d));
            let found: Vec<Vec<u8>> = messages(&b).map(|m| m.unwrap().data.to_vec()).collect();
            prop_assert_eq!(found, list);
        }
    }
}
