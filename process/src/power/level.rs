//! The levels of `pm_test`: how far a suspend goes before it turns back.

use base::{Errno, Result, tree::Out};

/// In the order in which the file lists them; each goes less far than the one before, but for the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Level {
    /// No test.
    None = 0,
    Core,
    Processors,
    Platform,
    Devices,
    Freezer,
}

const ALL: [(Level, &str); 6] = [
    (Level::None, "none"),
    (Level::Core, "core"),
    (Level::Processors, "processors"),
    (Level::Platform, "platform"),
    (Level::Devices, "devices"),
    (Level::Freezer, "freezer"),
];

impl Level {
    pub(super) fn of(n: u32) -> Level {
        ALL.iter().find(|(l, _)| *l as u32 == n).map_or(Level::None, |(l, _)| *l)
    }
    /// `EINVAL` for a name that there is not.
    pub(super) fn parse(name: &[u8]) -> Result<Level> {
        ALL.iter().find(|(_, n)| n.as_bytes() == name).map(|(l, _)| *l).ok_or(Errno::EINVAL)
    }
    /// Suspend-to-idle does not come there.
    pub(super) fn is_of_firmware(self) -> bool {
        matches!(self, Level::Core | Level::Processors)
    }
    /// All, the chosen one in brackets.
    pub(super) fn show(self, out: &mut Out) -> Result<()> {
        for (l, name) in ALL {
            if l == self { write!(out, "[{name}] ")? } else { write!(out, "{name} ")? }
        }
        out.end_line()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_level_is_in_brackets() {
        let mut o = Out::new();
        Level::parse(b"freezer").unwrap().show(&mut o).unwrap();
        assert_eq!(o.into_vec(), b"none core processors platform devices [freezer]\n");
        assert_eq!(Level::parse(b"sleepy"), Err(Errno::EINVAL));
        assert_eq!((Level::of(5), Level::of(77)), (Level::Freezer, Level::None));
    }
}
