//! Filters against a model, and the faults that Linux was seen to report.
#![expect(dead_code, reason = "the test event is declared for its fields' layout and never hit")]

use alloc::{format, string::String, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::trace::{Comm, Record, Str};

crate::trace_event! {
    /// With the fields of `sched_switch` that matter.
    pub(crate) struct test_filter in "test" {
        prev_comm: Comm = "char",
        prev_pid: i32 = "pid_t",
        prev_prio: i32 = "int",
        prev_state: i64 = "long",
        next_pid: i32 = "pid_t",
        flags: u32 = "u32",
        queue: Str = "char",
    }
    format r#""""#;
    print ""
}

fn name(s: &str) -> [u8; 16] {
    core::array::from_fn(|i| s.as_bytes().get(i).copied().unwrap_or(0))
}

fn record(comm: &str, pid: i32, prio: i32, flags: u32, queue: &str) -> Vec<u8> {
    let f = test_filter::event().fields();
    let at = |i| field::offset(f, i);
    let mut r = Record::new(at(f.len()));
    Comm::put(name(comm), at(0), &mut r);
    i32::put(pid, at(1), &mut r);
    i32::put(prio, at(2), &mut r);
    u32::put(flags, at(5), &mut r);
    Str::put(queue.as_bytes(), at(6), &mut r);
    r.bytes().to_vec()
}

fn who() -> Who {
    Who { pid: 7, comm: name("sh") }
}

fn keeps(filter: &str, r: &[u8]) -> bool {
    let f = compile(test_filter::event(), filter).unwrap_or_else(|e| panic!("{filter}: {e:?}"));
    f.accepts(r, &who(), CpuId::BOOT)
}

#[test]
fn predicates_mean_what_they_say() {
    let r = record("kworker/0:1", 5, -3, 0x8000_0001, "events");
    for yes in [
        "prev_pid == 5",
        "prev_pid==5&&prev_prio<0",
        "prev_prio == -3",
        "prev_pid >= 0x5 && prev_pid <= 05",
        "prev_pid == 6 || prev_comm ~ \"kworker*\"",
        "!(prev_pid == 6) && !prev_pid == 7",
        "prev_pid & 4",
        "flags & 1",
        "flags > 0x80000000",
        "queue == 'events'",
        "queue ~ \"ev?nt[r-t]\" && comm == \"sh\" && cpu == 0",
        "prev_comm ~ '*/[!1-9]:*'",
        "prev_pid == 1 && prev_pid == 2 || prev_pid == 5",
        "prev_pid == 5 || prev_pid == 1 && prev_pid == 2",
    ] {
        assert!(keeps(yes, &r), "{yes}");
    }
    for no in [
        "prev_pid == 99999999999",
        "prev_pid & 8",
        "prev_pid > 5",
        "queue != \"events\"",
        "queue ~ \"event\"",
        "prev_comm == \"kworker/0:1-and-more\"",
        "(prev_pid == 5 || prev_pid == 1) && prev_pid == 2",
        "COMM ~ \"b*\"",
    ] {
        assert!(!keeps(no, &r), "{no}");
    }
}

#[test]
fn faults_are_told_as_linux_tells_them() {
    for (text, what, at) in [
        ("prev_comm == sh", Some("Invalid value (did you forget quotes)?"), 14),
        ("foo == 1", Some("Field not found"), 4),
        ("prev_pid", Some("Invalid operator"), 8),
        ("prev_pid ==", Some("Invalid value (did you forget quotes)?"), 11),
        ("prev_pid == abc", Some("Invalid value (did you forget quotes)?"), 13),
        ("(prev_pid == 1", Some("Too many '('"), 0),
        ("prev_pid == 1)", Some("Too few '('"), 13),
        ("prev_pid == 1 &&", Some("Meaningless filter expression"), 16),
        ("&& prev_pid == 1", None, 0),
        ("prev_pid = 1", Some("Invalid operator"), 10),
        ("prev_comm < 3", Some("Expecting string field"), 13),
        ("prev_pid ~ 3", Some("Illegal operation for field type"), 12),
        ("prev_comm & \"x\"", Some("Illegal operation for field type"), 13),
        ("prev_comm == \"sh", Some("Missing matching quote"), 13),
        ("prev_pid == 1 prev_pid == 2", Some("Too many terms in predicate expression"), 14),
        ("()", None, 0),
        ("!", Some("No filter found"), 1),
        ("1", Some("Field not found"), 1),
        ("none", Some("Field not found"), 4),
        ("", None, 0),
        ("prev_pid == 1x", Some("Illegal integer value"), 13),
        ("next_pid == 2 & 1", Some("Too many terms in predicate expression"), 14),
        ("prev_pid in 3", Some("Invalid operator"), 10),
        ("prev_pid == 1;", Some("Too many terms in predicate expression"), 13),
        ("prev_pid == \"1\"", Some("Expecting numeric field"), 13),
        ("== 3", None, 0),
    ] {
        assert_eq!(compile(test_filter::event(), text).err(), Some(Error { what, at }), "{text}");
    }
    let deep = format!("{}prev_pid == 1{}", "(".repeat(500), ")".repeat(500));
    assert!(compile(test_filter::event(), &deep).is_err());
}

/// The slow and obvious matcher.
fn glob_model(p: &[u8], t: &[u8]) -> bool {
    match (p.first(), t.first()) {
        (None, None) => true,
        (Some(b'*'), _) => glob_model(&p[1..], t) || (!t.is_empty() && glob_model(p, &t[1..])),
        (Some(b'?'), Some(_)) => glob_model(&p[1..], &t[1..]),
        (Some(a), Some(b)) => a == b && glob_model(&p[1..], &t[1..]),
        _ => false,
    }
}

/// An expression as text, and what it is for pid and prio.
#[derive(Clone, Debug)]
enum Tree {
    Leaf(bool, u8, i32),
    Not(Box<Tree>),
    Both(Box<Tree>, Box<Tree>),
    Either(Box<Tree>, Box<Tree>),
}
use alloc::boxed::Box;

impl Tree {
    fn text(&self) -> String {
        const OPS: [&str; 7] = ["==", "!=", "<", "<=", ">", ">=", "&"];
        match self {
            Tree::Leaf(pid, op, v) => {
                format!("{}{}{v}", if *pid { "prev_pid" } else { "prev_prio " }, OPS[*op as usize])
            }
            Tree::Not(t) => format!("!({})", t.text()),
            // The one binds tighter, the other has to be wrapped.
            Tree::Both(a, b) => format!("({}) &&({})", a.text(), b.text()),
            Tree::Either(a, b) => format!("{} || {}", a.text(), b.text()),
        }
    }
    fn is_true(&self, pid: i32, prio: i32) -> bool {
        match self {
            Tree::Leaf(p, op, v) => {
                let h = if *p { pid } else { prio };
                match op {
                    0 => h == *v,
                    1 => h != *v,
                    2 => h < *v,
                    3 => h <= *v,
                    4 => h > *v,
                    5 => h >= *v,
                    _ => h & v != 0,
                }
            }
            Tree::Not(t) => !t.is_true(pid, prio),
            Tree::Both(a, b) => a.is_true(pid, prio) && b.is_true(pid, prio),
            Tree::Either(a, b) => a.is_true(pid, prio) || b.is_true(pid, prio),
        }
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = (any::<bool>(), 0u8..7, -3i32..4).prop_map(|(a, b, c)| Tree::Leaf(a, b, c));
    leaf.prop_recursive(4, 24, 2, |t| {
        prop_oneof![
            t.clone().prop_map(|t| Tree::Not(Box::new(t))),
            (t.clone(), t.clone()).prop_map(|(a, b)| Tree::Both(Box::new(a), Box::new(b))),
            (t.clone(), t).prop_map(|(a, b)| Tree::Either(Box::new(a), Box::new(b))),
        ]
    })
}

proptest! {
    #[test]
    fn expressions_are_what_they_say(t in tree(), pid in -4i32..5, prio in -4i32..5) {
        let r = record("a", pid, prio, 0, "");
        prop_assert_eq!(keeps(&t.text(), &r), t.is_true(pid, prio), "{}", t.text());
    }
    #[test]
    fn any_text_is_answered(s in ".{0,60}|[()!&|<>=~ \"'a0-9prev_pidcom]{0,60}", cut in 0usize..80) {
        if let Ok(f) = compile(test_filter::event(), &s) {
            let r = record("a", 1, 2, 3, "x");
            let _ = f.accepts(&r[..cut.min(r.len())], &who(), CpuId::BOOT);
        }
    }
    #[test]
    fn globs_match_as_the_slow_matcher(p in "[ab*?]{0,10}", t in "[ab]{0,10}") {
        prop_assert_eq!(glob(p.as_bytes(), t.as_bytes()), glob_model(p.as_bytes(), t.as_bytes()), "{} {}", p, t);
    }
}
