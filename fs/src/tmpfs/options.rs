//! The mount options.

use base::{Errno, Result, cred::Cred, pr_err};

/// Parsed options; `None` is the default.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Options {
    /// Limit in pages; 0 is none.
    pub(super) pages: Option<u64>,
    /// Limit of inodes; 0 is none.
    pub(super) inodes: Option<u64>,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Options {
    pub(super) fn default_for(cred: &Cred) -> Options {
        Options { pages: None, inodes: None, mode: super::DEFAULT_MODE, uid: cred.fsuid, gid: cred.fsgid }
    }
    /// Reads comma-separated options into this.
    pub(super) fn parse(&mut self, data: &[u8]) -> Result<()> {
        for opt in data.split(|b| *b == b',').filter(|o| !o.is_empty()) {
            let opt = core::str::from_utf8(opt).map_err(|_| Errno::EINVAL)?;
            let (key, value) = opt.split_once('=').unwrap_or((opt, ""));
            let bad = || {
                pr_err!("tmpfs: Bad value for '{key}'");
                Errno::EINVAL
            };
            match key {
                "size" => {
                    let bytes = match value.strip_suffix('%') {
                        Some(p) => {
                            let percent: u64 = p.parse().map_err(|_| bad())?;
                            // The default is half of the memory.
                            (super::default_pages() * 2 * vfs::PAGE_SIZE as u64).saturating_mul(percent) / 100
                        }
                        None => memparse(value).ok_or_else(bad)?,
                    };
                    self.pages = Some(bytes.div_ceil(vfs::PAGE_SIZE as u64));
                }
                "nr_blocks" => self.pages = Some(memparse(value).ok_or_else(bad)?),
                "nr_inodes" => self.inodes = Some(memparse(value).ok_or_else(bad)?),
                "mode" => self.mode = u32::from_str_radix(value, 8).map_err(|_| bad())? & 0o7777,
                "uid" => self.uid = value.parse().map_err(|_| bad())?,
                "gid" => self.gid = value.parse().map_err(|_| bad())?,
                "inode64" | "noswap" if value.is_empty() => {}
                _ => {
                    pr_err!("tmpfs: Unknown parameter '{key}'");
                    return Err(Errno::EINVAL);
                }
            }
        }
        Ok(())
    }
}

/// A number with one of the suffixes k, m, g, t, p, e, as Linux's `memparse`; decimal, or hexadecimal after `0x`.
fn memparse(s: &str) -> Option<u64> {
    let shift = match s.as_bytes().last()?.to_ascii_lowercase() {
        b'k' => 10,
        b'm' => 20,
        b'g' => 30,
        b't' => 40,
        b'p' => 50,
        b'e' if !s.starts_with("0x") => 60,
        _ => 0,
    };
    let digits = if shift > 0 { &s[..s.len() - 1] } else { s };
    let n = match digits.strip_prefix("0x") {
        Some(h) => u64::from_str_radix(h, 16).ok()?,
        None => digits.parse().ok()?,
    };
    n.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_suffixes() {
        assert_eq!(memparse("200m"), Some(200 << 20));
        assert_eq!(memparse("0x10k"), Some(16 << 10));
        assert_eq!(memparse("16e"), None);
        assert_eq!(memparse(""), None);
        assert_eq!(memparse("k"), None);
        let mut o = Options::default_for(&Cred::root());
        o.parse(b"size=5000,nr_inodes=10,mode=0700").unwrap();
        assert_eq!((o.pages, o.inodes, o.mode), (Some(2), Some(10), 0o700));
        assert!(o.parse(b"huge=always").is_err());
    }
}
