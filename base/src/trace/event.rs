//! Trace points: how an event is declared and hit, and the list of all of them.

use alloc::{sync::Arc, vec::Vec};
use core::fmt;

use frame::{
    atomic::{AtomicBool, AtomicU32, Ordering},
    sync::{LockClass, SpinLock, rcu::Rcu},
};

use super::{field::FieldDef, filter::Filter};

/// An event: made by [`trace_event!`](crate::trace_event), switched by tracefs.
pub struct Event {
    on: AtomicBool,
    id: AtomicU32,
    system: &'static str,
    name: &'static str,
    fields: &'static [FieldDef],
    format: &'static str,
    print: Print,
    pub(super) filter: Rcu<Option<Arc<Filter>>>,
    /// What `filter` shows; empty for none.
    pub(super) filter_text: SpinLock<Vec<u8>>,
}

static TEXT_CLASS: LockClass = LockClass::new("trace_filter_text");

/// Prints a record's fields.
pub type Print = fn(&[u8], &mut dyn fmt::Write) -> fmt::Result;

impl Event {
    /// For the macro.
    pub const fn new(
        system: &'static str,
        name: &'static str,
        fields: &'static [FieldDef],
        format: &'static str,
        print: Print,
    ) -> Event {
        Event {
            on: AtomicBool::new(false),
            id: AtomicU32::new(0),
            system,
            name,
            fields,
            format,
            print,
            filter: Rcu::none(),
            filter_text: SpinLock::new(&TEXT_CLASS, Vec::new()),
        }
    }
    /// True while it is recorded. All that a trace point costs while it is off: this load and a branch not taken.
    #[inline(always)]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }
    /// Switches it. What is being recorded on another processor right now may still come.
    pub fn switch(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }
    /// Its number, in records and in its `id` file; 0 before it is registered.
    pub fn id(&self) -> u16 {
        self.id.load(Ordering::Relaxed) as u16
    }
    pub fn system(&self) -> &'static str {
        self.system
    }
    pub fn name(&self) -> &'static str {
        self.name
    }
    pub fn fields(&self) -> &'static [FieldDef] {
        self.fields
    }
    /// `print fmt` of its `format` file: a C format string and its arguments.
    pub fn format(&self) -> &'static str {
        self.format
    }
    /// Prints what is behind `NAME: ` in a trace.
    pub fn print(&self, record: &[u8], out: &mut dyn fmt::Write) -> fmt::Result {
        (self.print)(record, out)
    }
}

/// The first number: lower ones are the types of records that are no events, as on Linux.
pub const FIRST_ID: u32 = 20;

static CLASS: LockClass = LockClass::new("trace_events");
static EVENTS: SpinLock<Vec<&'static Event>> = SpinLock::new(&CLASS, Vec::new());

/// Makes events known, so that they can be switched on. Each room's `init` does it for its own.
///
/// # Panics
/// If an event is registered twice: it is a mistake in the program.
pub fn register(events: &[&'static Event]) {
    let mut list = EVENTS.lock();
    for &e in events {
        assert!(e.id() == 0, "trace event {}:{} is registered twice", e.system, e.name);
        e.id.store(FIRST_ID + list.len() as u32, Ordering::Relaxed);
        list.push(e);
    }
}

/// All events, in the order of their numbers.
pub fn events() -> Vec<&'static Event> {
    EVENTS.lock().clone()
}

/// The event of that number.
pub fn by_id(id: u16) -> Option<&'static Event> {
    EVENTS.lock().get(u32::from(id).checked_sub(FIRST_ID)? as usize).copied()
}

/// Declares a trace event: Linux's name and system, its fields with C's names for their types, the `print fmt` of the
/// `format` file, and the same as a Rust format string in which the fields' names stand for their values.
///
/// ```
/// use base::trace::{Comm, Str};
/// base::trace_event! {
///     /// A work item was queued.
///     pub struct example_queue in "example" {
///         comm: Comm = "char",
///         pid: i32 = "pid_t",
///         queue: Str = "char",
///     }
///     format r#""comm=%s pid=%d queue=%s", REC->comm, REC->pid, __get_str(queue)"#;
///     print "comm={comm} pid={pid} queue={}", queue
/// }
/// base::trace::register(&[example_queue::event()]);
/// // The values are computed only while the event is on.
/// base::trace!(example_queue { comm: *b"sh\0\0\0\0\0\0\0\0\0\0\0\0\0\0", pid: 7, queue: b"events" });
/// ```
#[macro_export]
macro_rules! trace_event {
    (
        $(#[$doc:meta])*
        $vis:vis struct $name:ident in $system:literal {
            $($field:ident: $ty:ty = $c_type:literal),* $(,)?
        }
        format $format:expr;
        print $text:literal $(, $arg:expr)* $(,)?
    ) => {
        $(#[$doc])*
        #[expect(non_camel_case_types, reason = "an event has Linux's name")]
        $vis struct $name<'a> {
            $(pub $field: <$ty as $crate::trace::Field>::In<'a>,)*
            #[doc(hidden)]
            pub _life: ::core::marker::PhantomData<&'a ()>,
        }
        impl $name<'_> {
            const FIELDS: &'static [$crate::trace::FieldDef] =
                &[$($crate::trace::FieldDef::of::<$ty>(stringify!($field), $c_type)),*];
            /// The event, to register it.
            #[inline(always)]
            $vis fn event() -> &'static $crate::trace::Event {
                static EVENT: $crate::trace::Event = $crate::trace::Event::new(
                    $system,
                    stringify!($name),
                    <$name<'static>>::FIELDS,
                    $format,
                    <$name<'static>>::print,
                );
                &EVENT
            }
            fn print(bytes: &[u8], out: &mut dyn ::core::fmt::Write) -> ::core::fmt::Result {
                let mut at = $crate::trace::COMMON;
                $(
                    at = at.next_multiple_of(<$ty as $crate::trace::Field>::ALIGN);
                    let $field = <$ty as $crate::trace::Field>::get(bytes, at);
                    let _ = &$field;
                    at += <$ty as $crate::trace::Field>::SIZE;
                )*
                let _ = (at, bytes);
                ::core::write!(out, $text $(, $arg)*)
            }
            /// Records it. What [`trace!`]($crate::trace!) calls when the event is on.
            #[cold]
            #[inline(never)]
            $vis fn record(self) {
                const END: usize =
                    $crate::trace::field_offset(<$name<'static>>::FIELDS, <$name<'static>>::FIELDS.len());
                let mut r = $crate::trace::Record::new(END);
                let mut at = $crate::trace::COMMON;
                $(
                    at = at.next_multiple_of(<$ty as $crate::trace::Field>::ALIGN);
                    <$ty as $crate::trace::Field>::put(self.$field, at, &mut r);
                    at += <$ty as $crate::trace::Field>::SIZE;
                )*
                let _ = at;
                r.commit(Self::event());
            }
        }
    };
}

/// Hits a trace point: `trace!(sched_wakeup { comm: …, pid: … })`. The values are computed only while the event is on;
/// computing them must neither sleep nor hit a trace point. From any context; in an NMI nothing is recorded, but counted as lost.
#[macro_export]
macro_rules! trace {
    ($($name:ident)::+ { $($field:ident $(: $value:expr)?),* $(,)? }) => {
        if $($name)::+::event().is_on() {
            $($name)::+ { $($field $(: $value)?,)* _life: ::core::marker::PhantomData }.record();
        }
    };
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use crate::trace::{COMM_LEN, Comm, Ptr, Record, Str, field_offset};

    trace_event! {
        /// One of each kind.
        pub(crate) struct test_kinds in "test" {
            small: u8 = "u8",
            comm: Comm = "char",
            wide: i64 = "s64",
            text: Str = "char",
            words: [u16; 3] = "u16",
            yes: bool = "bool",
            at: Ptr = "void *",
        }
        format r#""small=%d", REC->small"#;
        print "{small} {comm} {wide} {text} {:?} {yes} {}", words, at.0 == 0x1000
    }

    fn name(s: &str) -> [u8; COMM_LEN] {
        core::array::from_fn(|i| s.as_bytes().get(i).copied().unwrap_or(0))
    }

    #[test]
    fn fields_lie_as_in_c_and_come_back() {
        let f = test_kinds::event().fields();
        let at: alloc::vec::Vec<_> = (0..=f.len()).map(|i| field_offset(f, i)).collect();
        assert_eq!(at, [8, 9, 32, 40, 44, 50, 56, 64]);
        let mut r = Record::new(64);
        use crate::trace::Field;
        u8::put(7, 8, &mut r);
        Comm::put(name("kworker/0:1"), 9, &mut r);
        i64::put(-5, 32, &mut r);
        Str::put(b"events", 40, &mut r);
        <[u16; 3]>::put([1, 2, 3], 44, &mut r);
        bool::put(true, 50, &mut r);
        Ptr::put(0x1000, 56, &mut r);
        let mut out = String::new();
        test_kinds::event().print(r.bytes(), &mut out).unwrap();
        assert_eq!(out, "7 kworker/0:1 -5 events [1, 2, 3] true true");
        // What is cut short prints something, and does not panic.
        for n in 0..r.bytes().len() {
            test_kinds::event().print(&r.bytes()[..n], &mut String::new()).unwrap();
        }
    }

    #[test]
    fn long_strings_are_cut() {
        let mut r = Record::new(16);
        let loc = r.append(&[b'x'; 2000]);
        assert_eq!((loc & 0xffff, loc >> 16), (16, 496));
        assert_eq!(r.append(b"no room"), 0);
    }

    #[test]
    fn values_are_computed_only_when_on() {
        let mut hits = 0;
        let mut hit = || {
            hits += 1;
            trace!(test_kinds {
                small: {
                    hits += 10;
                    1
                },
                comm: name("a"),
                wide: 1,
                text: b"",
                words: [0; 3],
                yes: false,
                at: 0,
            });
        };
        hit();
        test_kinds::event().switch(true);
        hit();
        test_kinds::event().switch(false);
        hit();
        assert_eq!(hits, 13);
    }
}
