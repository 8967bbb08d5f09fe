//! Identity cards of the daemons, and their figures: what each thread is for, why it last woke, how long it worked, what it achieved.
//!
//! A daemon registers its card under the name that `ps` shows, without a processor's or a device's number. All threads of that name
//! share one folder, `/sys/kernel/nightshift/daemons/NAME/`, since they come and go (workers do, by the minute):
//!
//! | file | what |
//! |---|---|
//! | `card` | what the daemon says of itself |
//! | `wakeups` | how often a wait of its threads has ended: by an event (perhaps one that was there already), a time-out, or a request to stop, park or freeze |
//! | `last_wake` | why and when the last of them ended: `event 12.345678`, seconds since boot; a word of the daemon's own in place of `event`, where it has one (a worker: the function of its last item); `never` |
//! | `busy_ns` | processor time of its threads in nanoseconds, exact, up to this moment |
//! | `work` | what it has achieved, a number and what is counted: `17 requests` |
//! | `threads` | a line for each thread that lives: name, PID, wake-ups, busy ns, reason and time (ns) of the last wake-up |
//!
//! The sums include threads that have ended since the card was registered. Where a daemon is a work queue, its items are counted instead
//! of wake-ups, with the processor time that they took. A `-` stands for what cannot be told. `/sys/kernel/nightshift/summary` has all
//! daemons, one in a line, its words separated by tabs, after the present time; `cargo run -- top` shows that file.
//!
//! What the threads did the scheduler knows: it installs the [`Source`].

use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};
use core::fmt;

use frame::{
    atomic::{AtomicU64, Ordering::Relaxed},
    sync::{LockClass, Mutex, once::Once},
};

use crate::{
    errno::Result,
    tree::{self, Out},
};

/// What a daemon says of itself. Its source file opens with the same facts.
#[derive(Debug)]
pub struct Card {
    /// As `ps` shows it, without the processor's number.
    pub name: &'static str,
    /// One sentence.
    pub purpose: &'static str,
    /// Who or what wakes it.
    pub woken_by: &'static str,
    /// What it must never do.
    pub never: &'static str,
    /// Where Linux's behaviour is documented.
    pub documented: &'static str,
}

/// What one thread did, or several that have ended, or a work queue.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Row {
    /// `None`: no thread that lives.
    pub thread: Option<(String, u32)>,
    pub wakeups: u64,
    /// Processor time; `None`: not told apart from resting.
    pub busy_ns: Option<u64>,
    /// Why and when, in nanoseconds since boot, it last woke.
    pub last: Option<(&'static str, u64)>,
}

/// Gives the rows of a daemon.
pub type Source = fn(&Registered) -> Result<Vec<Row>>;

static SOURCE: Once<Source> = Once::new();

/// Installs what knows the threads; the first call decides.
pub fn install_source(f: Source) {
    SOURCE.call_once(|| f);
}

struct Work {
    unit: &'static str,
    read: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// A daemon whose card is known.
pub struct Registered {
    pub card: &'static Card,
    work: Once<Work>,
    ended_wakeups: AtomicU64,
    ended_busy_ns: AtomicU64,
}

static CLASS: LockClass = LockClass::new("daemon_cards");
static CARDS: Mutex<Vec<Arc<Registered>>> = Mutex::new(&CLASS, Vec::new());

/// The daemon of that name.
pub fn find(name: &[u8]) -> Option<Arc<Registered>> {
    CARDS.lock().iter().find(|r| r.card.name.as_bytes() == name).cloned()
}

/// Registers a card; afterwards it and the figures can be read in the running machine. EEXIST.
pub fn register(card: &'static Card) -> Result<()> {
    let r = Registered {
        card,
        work: Once::new(),
        ended_wakeups: AtomicU64::new(0),
        ended_busy_ns: AtomicU64::new(0),
    };
    let r = Arc::new(r);
    file(&r, "card", |r, out| show_card(r.card, out))?;
    file(&r, "wakeups", |r, out| Ok(writeln!(out, "{}", r.sum()?.wakeups)?))?;
    file(&r, "busy_ns", |r, out| Ok(writeln!(out, "{}", OrDash(r.sum()?.busy_ns))?))?;
    file(&r, "last_wake", |r, out| match r.sum()?.last {
        Some((why, at)) => Ok(writeln!(out, "{why} {}.{:06}", at / 1_000_000_000, at / 1000 % 1_000_000)?),
        None => out.push(b"never\n"),
    })?;
    file(&r, "threads", |r, out| r.rows()?.iter().try_for_each(|row| show_thread(row, out)))?;
    let is_first = {
        let mut c = CARDS.lock();
        c.push(r);
        c.len() == 1
    };
    if is_first {
        tree::sys().file("kernel/nightshift/summary", 0o444, show_summary)?;
    }
    Ok(())
}

/// Says what the daemon's `work` is: `read` gives how many `unit` it has done so far. After [`register`]. EEXIST; ENOENT without a card.
pub fn count_work(
    card: &'static Card,
    unit: &'static str,
    read: impl Fn() -> u64 + Send + Sync + 'static,
) -> Result<()> {
    let r = find(card.name.as_bytes()).ok_or(crate::Errno::ENOENT)?;
    r.work.call_once(|| Work { unit, read: Box::new(read) });
    file(&r, "work", |r, out| match r.work.get() {
        Some(w) => Ok(writeln!(out, "{} {}", (w.read)(), w.unit)?),
        None => Ok(()),
    })
}

fn file(
    r: &Arc<Registered>,
    name: &str,
    show: impl Fn(&Registered, &mut Out) -> Result<()> + Send + Sync + 'static,
) -> Result<()> {
    let (r, folder) = (r.clone(), r.card.name.replace('/', "!"));
    let path = alloc::format!("kernel/nightshift/daemons/{folder}/{name}");
    tree::sys().file(&path, 0o444, move |out| show(&r, out))
}

impl Registered {
    /// A thread has ended: what it did stays in the sums. Whoever calls this sees to it that the source does not give the thread too.
    pub fn add_ended(&self, wakeups: u64, busy_ns: u64) {
        self.ended_wakeups.fetch_add(wakeups, Relaxed);
        self.ended_busy_ns.fetch_add(busy_ns, Relaxed);
    }
    /// The threads that have ended, for the source: `None` while there are none.
    pub fn ended(&self) -> Option<Row> {
        let (wakeups, busy) = (self.ended_wakeups.load(Relaxed), self.ended_busy_ns.load(Relaxed));
        (busy != 0).then_some(Row { wakeups, busy_ns: Some(busy), ..Row::default() })
    }
    fn rows(&self) -> Result<Vec<Row>> {
        SOURCE.get().map_or(Ok(Vec::new()), |f| f(self))
    }
    fn sum(&self) -> Result<Row> {
        Ok(sum(&self.rows()?))
    }
}

/// The rows together: sums, and the latest wake-up.
fn sum(rows: &[Row]) -> Row {
    Row {
        thread: None,
        wakeups: rows.iter().map(|r| r.wakeups).sum(),
        busy_ns: rows.iter().filter_map(|r| r.busy_ns).reduce(|a, b| a + b),
        last: rows.iter().filter_map(|r| r.last).max_by_key(|l| l.1),
    }
}

/// A value, or `-`.
struct OrDash<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for OrDash<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(v) => v.fmt(f),
            None => f.write_str("-"),
        }
    }
}

fn show_card(card: &Card, out: &mut Out) -> Result<()> {
    writeln!(out, "name:       {}", card.name)?;
    writeln!(out, "purpose:    {}", card.purpose)?;
    writeln!(out, "woken by:   {}", card.woken_by)?;
    writeln!(out, "never:      {}", card.never)?;
    writeln!(out, "documented: {}", card.documented)?;
    Ok(())
}

fn show_thread(r: &Row, out: &mut Out) -> Result<()> {
    let Some((name, pid)) = &r.thread else { return Ok(()) };
    let (why, at) = (OrDash(r.last.map(|l| l.0)), OrDash(r.last.map(|l| l.1)));
    Ok(writeln!(out, "{name} {pid} {} {} {why} {at}", r.wakeups, OrDash(r.busy_ns))?)
}

fn show_summary(out: &mut Out) -> Result<()> {
    writeln!(out, "#now_ns\t{}", frame::time::now_ns())?;
    out.push(b"#name\tthreads\twakeups\tbusy_ns\treason\tat_ns\twork\tunit\n")?;
    let mut all = CARDS.lock().clone();
    all.sort_by_key(|r| r.card.name);
    for r in all {
        let rows = r.rows()?;
        let threads = rows.iter().filter(|r| r.thread.is_some()).count();
        let s = sum(&rows);
        let w = r.work.get();
        writeln!(
            out,
            "{}\t{threads}\t{}\t{}\t{}\t{}\t{}\t{}",
            r.card.name,
            s.wakeups,
            OrDash(s.busy_ns),
            OrDash(s.last.map(|l| l.0)),
            OrDash(s.last.map(|l| l.1)),
            OrDash(w.map(|w| (w.read)())),
            OrDash(w.map(|w| w.unit)),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString, vec};

    use super::*;

    static CARD: Card = Card {
        name: "testd",
        purpose: "is looked at",
        woken_by: "the test",
        never: "anything",
        documented: "nowhere",
    };

    fn rows(r: &Registered) -> Result<Vec<Row>> {
        let thread = |pid: u32, wakeups, busy, last| Row {
            thread: Some(("testd/".to_string() + &pid.to_string(), pid)),
            wakeups,
            busy_ns: busy,
            last,
        };
        let live = [
            thread(7, 3, Some(100), Some(("event", 5_000_001_000))),
            thread(8, 1, None, Some(("time-out", 9))),
        ];
        Ok(live.into_iter().chain(r.ended()).collect())
    }

    fn read(name: &str) -> String {
        let n = tree::sys().find(&alloc::format!("kernel/nightshift/{name}")).unwrap();
        String::from_utf8(n.read().unwrap()).unwrap()
    }

    #[test]
    fn figures_are_those_of_all_threads() {
        install_source(rows);
        register(&CARD).unwrap();
        assert_eq!(register(&CARD), Err(crate::Errno::EEXIST));
        count_work(&CARD, "tests", || 42).unwrap();
        let f = |n: &str| read(&alloc::format!("daemons/testd/{n}"));
        assert_eq!((f("wakeups"), f("busy_ns")), ("4\n".into(), "100\n".into()));
        find(b"testd").unwrap().add_ended(10, 900);
        assert_eq!((f("wakeups"), f("busy_ns")), ("14\n".into(), "1000\n".into()));
        assert_eq!((f("last_wake"), f("work")), ("event 5.000001\n".into(), "42 tests\n".into()));
        assert_eq!(f("threads"), "testd/7 7 3 100 event 5000001000\ntestd/8 8 1 - time-out 9\n");
        let all = read("summary");
        assert_eq!(all.lines().nth(2), Some("testd\t2\t14\t1000\tevent\t5000001000\t42\ttests"));
        assert_eq!(sum(&[]), Row::default());
        assert_eq!(sum(&vec![Row::default(); 2]).busy_ns, None);
    }
}
