//! Numbers and switches as user space writes them to files.

use crate::errno::{Errno, Result};

/// Parses what is written to a sysctl: one number, white space around it allowed, as the sysctl handlers take
/// it. EINVAL for anything else.
pub fn parse_int(bytes: &[u8]) -> Result<i64> {
    let edge = |b: &u8| b.is_ascii_whitespace() || *b == 0;
    let first = bytes.iter().position(|b| !edge(b)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|b| !edge(b)).map_or(first, |i| i + 1);
    kstrto(&bytes[first..end]).map_err(|_| Errno::EINVAL)
}

/// Parses what is written to a file of sysfs, a module parameter and the like, as the family `kstrtoint` takes it: one number (decimal, or
/// with 0x or 0 before it), perhaps a newline behind it, and nothing else. EINVAL; ERANGE for one that the type cannot hold.
pub fn kstrto<T: TryFrom<i128>>(bytes: &[u8]) -> Result<T> {
    let s = bytes.split(|&b| b == 0).next().unwrap_or(&[]);
    let s = s.strip_suffix(b"\n").unwrap_or(s);
    let is_signed = T::try_from(-1).is_ok();
    let (negative, s) = match s {
        [b'-', rest @ ..] if is_signed => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, s),
    };
    let (base, digits) = match s {
        [b'0', b'x' | b'X', d, ..] if d.is_ascii_hexdigit() => (16, &s[2..]),
        [b'0', _, ..] => (8, &s[1..]),
        _ => (10, s),
    };
    let digit = |&b: &u8| char::from(b).to_digit(base).map(i128::from).ok_or(Errno::EINVAL);
    if digits.is_empty() {
        return Err(Errno::EINVAL);
    }
    // Whatever is wrong behind a number that is too large goes before that.
    let mut value = Some(0i128);
    for d in digits {
        let d = digit(d)?;
        value = value.and_then(|v| v.checked_mul(base.into())?.checked_add(d));
    }
    let value = value.ok_or(Errno::ERANGE)?;
    T::try_from(if negative { -value } else { value }).map_err(|_| Errno::ERANGE)
}

/// Parses what is written to a switch, as `kstrtobool` takes it: the first letter decides, the first two of `on` and `off`. EINVAL.
pub fn parse_bool(bytes: &[u8]) -> Result<bool> {
    match bytes {
        [b'1' | b'y' | b'Y' | b't' | b'T', ..] => Ok(true),
        [b'0' | b'n' | b'N' | b'f' | b'F', ..] => Ok(false),
        [b'o' | b'O', b'n' | b'N', ..] => Ok(true),
        [b'o' | b'O', b'f' | b'F', ..] => Ok(false),
        _ => Err(Errno::EINVAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_as_kstrtobool_takes_them() {
        for s in ["1\n", "y", "Yes", "on", "ON", "t"] {
            assert_eq!(parse_bool(s.as_bytes()), Ok(true), "{s}");
        }
        for s in ["0", "n\n", "off", "oFf", "false"] {
            assert_eq!(parse_bool(s.as_bytes()), Ok(false), "{s}");
        }
        for s in ["", "o", "maybe", " 1", "2", "\n"] {
            assert_eq!(parse_bool(s.as_bytes()), Err(Errno::EINVAL), "{s}");
        }
    }

    #[test]
    fn integers_as_sysctl_takes_them() {
        for (s, v) in [("0", 0), ("12\n", 12), (" -3 ", -3), ("0x10", 16), ("010", 8), ("+7", 7)] {
            assert_eq!(parse_int(s.as_bytes()), Ok(v), "{s}");
        }
        for s in ["", "a", "1 2", "--1", "0x", "99999999999999999999"] {
            assert_eq!(parse_int(s.as_bytes()), Err(Errno::EINVAL), "{s}");
        }
    }

    #[test]
    fn integers_as_kstrtoint_takes_them() {
        for (s, v) in
            [("0", 0), ("12\n", 12), ("-3", -3), ("0x1F", 31), ("010", 8), ("+7", 7), ("5\0x", 5), ("00", 0)]
        {
            assert_eq!(kstrto::<i32>(s.as_bytes()), Ok(v), "{s}");
        }
        for s in ["", "\n", "a", "1 2", " 1", "1 ", "1\n\n", "--1", "-", "0x", "08", "99999999999x"] {
            assert_eq!(kstrto::<i32>(s.as_bytes()), Err(Errno::EINVAL), "{s}");
        }
        let huge = [b'9'; 60];
        assert_eq!(kstrto::<i32>(b"2147483648"), Err(Errno::ERANGE));
        assert_eq!(kstrto::<i32>(b"-2147483648"), Ok(i32::MIN));
        assert_eq!(kstrto::<u64>(b"18446744073709551615"), Ok(u64::MAX));
        assert_eq!((kstrto::<u64>(&huge), kstrto::<u64>(b"-1")), (Err(Errno::ERANGE), Err(Errno::EINVAL)));
    }
}
