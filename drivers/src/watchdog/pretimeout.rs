//! What happens `pretimeout` seconds before a watchdog bites: its *governor*. `noop` says so in the log, `panic` panics,
//! which leaves a trace that the reset would not.
//!
//! Documented: Linux `Documentation/watchdog/watchdog-kernel-api.rst`, "pretimeout governors".

use frame::atomic::{AtomicU32, Ordering};

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Governor {
    Noop,
    Panic,
}

/// All there are.
pub const GOVERNORS: [Governor; 2] = [Governor::Noop, Governor::Panic];

impl Governor {
    /// As sysfs names it.
    pub const fn name(self) -> &'static str {
        match self {
            Governor::Noop => "noop",
            Governor::Panic => "panic",
        }
    }
    /// By name, white space around it allowed.
    pub fn parse(text: &[u8]) -> Option<Governor> {
        let t = text.trim_ascii();
        GOVERNORS.into_iter().find(|g| g.name().as_bytes() == t)
    }
}

/// One watchdog's choice; read in interrupt context.
pub struct Choice(AtomicU32);

impl Choice {
    pub(super) fn new() -> Choice {
        Choice(AtomicU32::new(Governor::Noop as u32))
    }
    pub(super) fn get(&self) -> Governor {
        if self.0.load(Ordering::Relaxed) == Governor::Panic as u32 {
            Governor::Panic
        } else {
            Governor::Noop
        }
    }
    pub(super) fn set(&self, g: Governor) {
        self.0.store(g as u32, Ordering::Relaxed);
    }
    /// It is time.
    pub(super) fn notify(&self, id: u32) {
        match self.get() {
            Governor::Noop => base::pr_alert!("watchdog: watchdog{id}: pretimeout event"),
            Governor::Panic => panic!("watchdog pretimeout event"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(Governor::parse(b"panic\n"), Some(Governor::Panic));
        assert_eq!(Governor::parse(b"noop"), Some(Governor::Noop));
        assert_eq!(Governor::parse(b"pan"), None);
        assert_eq!(Governor::parse(b""), None);
    }
}
