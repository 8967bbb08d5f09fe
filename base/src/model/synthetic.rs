//! What may be written to a `uevent` file: `ACTION [UUID [KEY=VALUE …]]` (`Documentation/ABI/testing/sysfs-uevent`).

use alloc::{format, string::String, vec::Vec};

use crate::{
    errno::{Errno, Result},
    uevent::Action,
};

/// A uevent that user space asked for.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Synthetic<'a> {
    pub(super) action: Action,
    /// `0` if there was none.
    pub(super) uuid: &'a str,
    /// With the prefix `SYNTH_ARG_`.
    pub(super) variables: Vec<(String, &'a str)>,
}

fn is_uuid(s: &str) -> bool {
    s.len() == 36
        && s.bytes().enumerate().all(|(i, c)| match i {
            8 | 13 | 18 | 23 => c == b'-',
            _ => c.is_ascii_hexdigit(),
        })
}
fn is_word(s: &str) -> bool {
    !s.is_empty() && s.bytes().all(|c| c.is_ascii_alphanumeric())
}

impl<'a> Synthetic<'a> {
    /// EINVAL for anything else.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Synthetic<'a>> {
        let text = core::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?;
        // One newline, and a NUL as a library may write it.
        let text = text.strip_suffix('\0').unwrap_or(text);
        let mut words = text.strip_suffix('\n').unwrap_or(text).split(' ');
        let action = Action::parse(words.next().unwrap_or_default().as_bytes())?;
        let Some(uuid) = words.next() else {
            return Ok(Synthetic { action, uuid: "0", variables: Vec::new() });
        };
        if !is_uuid(uuid) {
            return Err(Errno::EINVAL);
        }
        let mut variables = Vec::new();
        for w in words {
            let (k, v) = w.split_once('=').ok_or(Errno::EINVAL)?;
            if !is_word(k) || !is_word(v) {
                return Err(Errno::EINVAL);
            }
            variables.try_reserve(1)?;
            variables.push((format!("SYNTH_ARG_{k}"), v));
        }
        Ok(Synthetic { action, uuid, variables })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_with_and_without_more() {
        let plain = Synthetic { action: Action::Add, uuid: "0", variables: Vec::new() };
        assert_eq!(Synthetic::parse(b"add\n"), Ok(plain));
        let uuid = "fe4d7c9d-b8c6-4a70-9ef1-3d8a58d18eed";
        let text = format!("change {uuid} A=1 B=abc");
        let s = Synthetic::parse(text.as_bytes()).unwrap();
        assert_eq!((s.action, s.uuid), (Action::Change, uuid));
        assert_eq!(s.variables, [("SYNTH_ARG_A".into(), "1"), ("SYNTH_ARG_B".into(), "abc")]);
    }

    #[test]
    fn everything_else_is_refused() {
        let uuid = "fe4d7c9d-b8c6-4a70-9ef1-3d8a58d18eed";
        for bad in [
            "",
            "\n",
            "added",
            "add ",
            "add x",
            &format!("add {uuid} A"),
            &format!("add {uuid} A=b-c"),
            &format!("add {uuid}0"),
        ] {
            assert_eq!(Synthetic::parse(bad.as_bytes()), Err(Errno::EINVAL), "{bad:?}");
        }
        assert_eq!(Synthetic::parse(b"add\xff"), Err(Errno::EINVAL));
    }
}
