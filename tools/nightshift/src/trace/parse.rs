//! A line of tracefs' `trace`, taken apart.
//!
//! ```text
//!           <idle>-0       [001] d.h2.    12.345678: sched_waking: comm=sh pid=7 prio=120 target_cpu=001
//!   the task's name and PID, processor, flags (may be off), seconds; event; fields
//! ```
//! Whatever does not look like that is no record: a header, a remark about lost records, a torn line.

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// Of the task that was running.
    pub comm: &'a str,
    pub pid: u32,
    pub cpu: u32,
    /// Microseconds since boot.
    pub us: u64,
    pub event: &'a str,
    /// The fields as the event prints them.
    pub text: &'a str,
}

/// Takes a line apart; `None` if it is not a record.
pub fn line(s: &str) -> Option<Line<'_>> {
    let s = s.trim_end_matches(['\r', '\n']);
    // A name may hold nearly anything: the first place where the rest is right ends it.
    s.match_indices(" [").find_map(|(at, _)| at_bracket(s, at))
}

fn at_bracket(s: &str, at: usize) -> Option<Line<'_>> {
    let (comm, pid) = s[..at].trim_end().rsplit_once('-')?;
    let pid = digits(pid)?;
    let (cpu, rest) = s[at + 2..].split_once("] ")?;
    let cpu = digits(cpu)?;
    let (before, rest) = rest.split_once(": ")?;
    // Flags, if they are shown, and the time.
    let mut words = before.split_ascii_whitespace();
    let us = micros(words.next_back()?)?;
    if words.count() > 1 {
        return None;
    }
    let (event, text) = rest.split_once(':')?;
    if event.is_empty() || !event.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return None;
    }
    Some(Line { comm: comm.trim_start(), pid, cpu, us, event, text: text.strip_prefix(' ').unwrap_or(text) })
}

fn digits<T: std::str::FromStr>(s: &str) -> Option<T> {
    if s.is_empty() || !s.bytes().all(|b| b.is_ascii_digit()) { None } else { s.parse().ok() }
}

/// `12.345678` in microseconds.
fn micros(s: &str) -> Option<u64> {
    let (seconds, fraction) = s.split_once('.')?;
    if fraction.len() != 6 {
        return None;
    }
    digits::<u64>(seconds)?.checked_mul(1_000_000)?.checked_add(digits(fraction)?)
}

/// The value of `key=` up to the next blank, or up to ` next=` where a value may hold blanks.
pub fn field<'a>(text: &'a str, key: &str, next: Option<&str>) -> Option<&'a str> {
    let begins = |at: usize| at == 0 || text.as_bytes()[at - 1] == b' ';
    let at = text.match_indices(key).find(|(at, k)| begins(*at) && text[at + k.len()..].starts_with('='))?.0;
    let rest = &text[at + key.len() + 1..];
    let end = match next {
        Some(n) => {
            rest.match_indices(n)
                .find(|(at, n)| {
                    *at > 0 && rest.as_bytes()[at - 1] == b' ' && rest[at + n.len()..].starts_with('=')
                })?
                .0
                - 1
        }
        None => rest.find(' ').unwrap_or(rest.len()),
    };
    Some(&rest[..end])
}

/// A field that is a number.
pub fn number(text: &str, key: &str) -> Option<u32> {
    digits(field(text, key, None)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SWITCH: &str = "     kworker/0:1-23      [000] d..2.    12.000345: sched_switch: prev_comm=kworker/0:1 prev_pid=23 prev_prio=120 prev_state=I ==> next_comm=a b [1] next_pid=77 next_prio=120";

    #[test]
    fn a_record_is_taken_apart() {
        let l = line(SWITCH).unwrap();
        assert_eq!((l.comm, l.pid, l.cpu, l.us, l.event), ("kworker/0:1", 23, 0, 12_000_345, "sched_switch"));
        assert_eq!(field(l.text, "next_comm", Some("next_pid")), Some("a b [1]"));
        assert_eq!((number(l.text, "next_pid"), number(l.text, "prev_pid")), (Some(77), Some(23)));
        assert_eq!(field(l.text, "prev_state", None), Some("I"));
        assert_eq!(field(l.text, "pid", None), None, "the end of another key is no key");
    }

    #[test]
    fn names_may_be_strange() {
        let l = line("  a-1 [2] b-7       [001]     1.000000: x: ").unwrap();
        assert_eq!((l.comm, l.pid, l.cpu, l.text), ("a-1 [2] b", 7, 1, ""));
        let l = line(
            "          <idle>-0       [063] dNh3.  9999.999999: irq_handler_entry: irq=4 name=ttyS0\r\n",
        )
        .unwrap();
        assert_eq!((l.comm, l.pid, l.cpu, l.text), ("<idle>", 0, 63, "irq=4 name=ttyS0"));
    }

    #[test]
    fn what_is_no_record_is_not_one() {
        for s in [
            "",
            "# tracer: nop",
            "#              | |         |   |||||     |         |",
            "CPU:1 [LOST 17 EVENTS]",
            "##### CPU 1 buffer started ####",
            "a-1 [000] .....  1.5: x: y",
            "a-1 [000] .....  1.000000: x",
            "a-x [000] .....  1.000000: x: y",
            "a-1 [0x0] .....  1.000000: x: y",
            "a-1 [000] .....  99999999999999999999.000000: x: y",
            "a-1 [000] .....  18446744073709551615.000000: x: y",
        ] {
            assert_eq!(line(s), None, "{s}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_answered(s in any::<String>(), key in "[a-z_]{0,4}", next in "[a-z_=]{0,3}") {
            let _ = line(&s);
            let _ = field(&s, &key, None);
            let _ = field(&s, &key, Some(&next));
        }
        #[test]
        fn a_torn_line_is_answered(at in 0usize..SWITCH.len(), with in any::<char>()) {
            let _ = line(&SWITCH[..at]);
            let mut s: Vec<char> = SWITCH.chars().collect();
            s[at] = with;
            if let Some(l) = line(&s.into_iter().collect::<String>()) {
                let _ = (field(l.text, "next_comm", Some("next_pid")), number(l.text, "next_pid"));
            }
        }
        #[test]
        fn what_was_printed_comes_back(comm in "[a-z/:0-9]{1,15}", pid: u32, cpu in 0u32..64, us in 0u64..1 << 50, event in "[a-z_]{1,20}", text in "[ -~]{0,40}") {
            let s = format!("{comm:>16}-{pid:<7} [{cpu:03}] d..2. {:5}.{:06}: {event}: {text}", us / 1_000_000, us % 1_000_000);
            let l = line(&s).unwrap();
            prop_assert_eq!(l, Line { comm: &comm, pid, cpu, us, event: &event, text: &text });
        }
    }
}
