//! `cargo run -- top`: what the daemons of a guest are doing, seen from outside.
//!
//! A guest that is started with `--monitor` (or by `top` itself) has a second serial port that leads to a socket of this host,
//! `nightshift-monitor-PID.sock` in the folder for temporary files. Its `/init` answers there: for each line that it reads it prints
//! `/sys/kernel/nightshift/summary` and an empty line (three lines of shell: `guest/init-common.sh`). So nothing runs in the guest
//! while nobody asks, and what is shown is what the kernel says of itself.
//!
//! | column | |
//! |---|---|
//! | `WAKES/S` | ends of waits (or items of a queue) per second since the last picture; in the first, since boot |
//! | `BUSY%` | processor time in percent of one processor, over the same span |
//! | `BUSY` | processor time since boot |
//! | `LAST` | why, and how long ago, a thread of it last woke |
//! | `WORK` | what it has achieved since boot |

use std::{
    io::{IsTerminal, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// A guest may be slow, and its answer waits for the processor as everything does.
const PATIENCE: Duration = Duration::from_secs(20);
/// An answer is one line per daemon; more than this is not one.
const LONGEST: usize = 1 << 20;

/// One daemon, as the guest tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    pub name: String,
    pub threads: u64,
    pub wakeups: u64,
    pub busy_ns: Option<u64>,
    /// Why and when.
    pub last: Option<(String, u64)>,
    pub work: Option<(u64, String)>,
}

/// What the guest said at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// Nanoseconds since the guest's boot.
    pub now_ns: u64,
    pub daemons: Vec<Daemon>,
}

/// Reads an answer; lines that are not understood are left out.
pub fn parse(text: &str) -> Picture {
    let mut p = Picture::default();
    for l in text.lines().map(|l| l.trim_end_matches('\r')) {
        if let Some(n) = l.strip_prefix("#now_ns\t") {
            p.now_ns = n.parse().unwrap_or(0);
        } else if !l.starts_with('#') {
            p.daemons.extend(daemon(l));
        }
    }
    p
}

fn daemon(l: &str) -> Option<Daemon> {
    let w: Vec<&str> = l.split('\t').collect();
    let [name, threads, wakeups, busy, why, at, work, unit] = w[..] else { return None };
    let given = |s: &str| (s != "-").then(|| s.to_string());
    Some(Daemon {
        name: name.into(),
        threads: threads.parse().ok()?,
        wakeups: wakeups.parse().ok()?,
        busy_ns: given(busy).map(|s| s.parse()).transpose().ok()?,
        last: given(why).zip(at.parse().ok()),
        work: work.parse().ok().zip(given(unit)),
    })
}

/// The table of a picture, with rates since `before`.
pub fn table(now: &Picture, before: &Picture) -> String {
    let span = now.now_ns.saturating_sub(before.now_ns).max(1) as f64 / 1e9;
    let mut s = format!(
        "up {}\n{:<14} {:>7} {:>9} {:>9} {:>6} {:>10}  {:<22} WORK\n",
        seconds(now.now_ns),
        "DAEMON",
        "THREADS",
        "WAKES",
        "WAKES/S",
        "BUSY%",
        "BUSY",
        "LAST"
    );
    for d in &now.daemons {
        let old = before.daemons.iter().find(|o| o.name == d.name);
        let wakes = d.wakeups.saturating_sub(old.map_or(0, |o| o.wakeups)) as f64 / span;
        let busy =
            d.busy_ns.map(|b| b.saturating_sub(old.and_then(|o| o.busy_ns).unwrap_or(0)) as f64 / 1e7 / span);
        let last = d.last.as_ref().map_or("-".into(), |(why, at)| {
            format!("{why}, {} ago", seconds(now.now_ns.saturating_sub(*at)))
        });
        s += &format!(
            "{:<14} {:>7} {:>9} {wakes:>9.1} {:>6} {:>10}  {last:<22} {}\n",
            d.name,
            d.threads,
            d.wakeups,
            busy.map_or("-".into(), |b| format!("{b:.1}")),
            d.busy_ns.map_or("-".into(), |b| format!("{:.1} ms", b as f64 / 1e6)),
            d.work.as_ref().map_or("-".into(), |(n, unit)| format!("{n} {unit}")),
        );
    }
    s
}

fn seconds(ns: u64) -> String {
    format!("{:.1} s", ns as f64 / 1e9)
}

/// The socket of a guest that this process starts. (The path of a socket must be short: the target folder may be anywhere.)
pub fn socket() -> PathBuf {
    std::env::temp_dir().join(format!("nightshift-monitor-{}.sock", std::process::id()))
}

/// The guest that was started last, of those that answer to a connection.
pub fn find() -> Option<PathBuf> {
    let all = std::fs::read_dir(std::env::temp_dir()).ok()?;
    let mut all: Vec<_> = all
        .flatten()
        .filter(|e| {
            let n = e.file_name();
            let n = n.to_string_lossy();
            n.starts_with("nightshift-monitor-") && n.ends_with(".sock")
        })
        .filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path())))
        .collect();
    all.sort();
    all.into_iter().rev().map(|(_, p)| p).find(|p| answers(p))
}

/// Whether a machine listens. The socket of one that was killed is taken away.
fn answers(p: &Path) -> bool {
    match UnixStream::connect(p) {
        Ok(_) => true,
        Err(e) => {
            if e.kind() == std::io::ErrorKind::ConnectionRefused {
                let _ = std::fs::remove_file(p);
            }
            false
        }
    }
}

/// A connection to a guest.
pub struct Monitor {
    stream: UnixStream,
    heard: Vec<u8>,
}

impl Monitor {
    /// Connects; waits for a machine that is about to begin.
    pub fn connect(path: &Path) -> Result<Monitor> {
        let until = Instant::now() + PATIENCE;
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(s) => break s,
                Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(50)),
                Err(e) => return Err(e).with_context(|| format!("no guest at {}", path.display())),
            }
        };
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        Ok(Monitor { stream, heard: Vec::new() })
    }

    /// Asks for a picture. A question that came before the guest listened is lost: it is asked again.
    pub fn ask(&mut self) -> Result<Picture> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            self.stream.write_all(b"\n").context("the guest has ended")?;
            let patience = Instant::now() + Duration::from_secs(3);
            while Instant::now() < patience {
                if let Some(text) = take_answer(&mut self.heard) {
                    return Ok(parse(&text));
                }
                let mut b = [0; 4096];
                match self.stream.read(&mut b) {
                    Ok(0) => bail!("the guest has ended"),
                    Ok(n) => self.heard.extend_from_slice(&b[..n]),
                    Err(e)
                        if matches!(
                            e.kind(),
                            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                        ) => {}
                    Err(e) => return Err(e.into()),
                }
                if self.heard.len() > LONGEST {
                    bail!("what the guest says is no answer");
                }
            }
        }
        bail!("the guest does not answer")
    }
}

/// Takes the last whole answer out of what was heard: from `#now_ns` to an empty line.
fn take_answer(heard: &mut Vec<u8>) -> Option<String> {
    let text = String::from_utf8_lossy(heard).replace('\r', "");
    let end = text.rfind("\n\n")?;
    let begin = text[..end].rfind("#now_ns\t")?;
    let answer = text[begin..=end].to_string();
    heard.clear();
    Some(answer)
}

/// How long, how often.
pub struct Options {
    pub once: bool,
    pub interval: Duration,
}

/// Shows pictures until the guest ends; with `once` a single one, whose rates are over one interval.
pub fn show(path: &Path, o: &Options) -> Result<()> {
    let mut m = Monitor::connect(path)?;
    let mut before = Picture::default();
    let mut out = std::io::stdout().lock();
    let clear = if out.is_terminal() && !o.once { "\x1b[H\x1b[J" } else { "" };
    if o.once {
        before = m.ask()?;
        std::thread::sleep(o.interval);
    }
    loop {
        let now = match m.ask() {
            Ok(p) => p,
            // What was shown last stands.
            Err(e) if !o.once && before != Picture::default() => {
                eprintln!("{e:#}");
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        write!(out, "{clear}{}", table(&now, &before))?;
        out.flush()?;
        if o.once {
            return Ok(());
        }
        before = now;
        std::thread::sleep(o.interval);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANSWER: &str = "#now_ns\t5000000000\n#name\tthreads\twakeups\tbusy_ns\treason\tat_ns\twork\tunit\n\
        kworker\t4\t30\t250000000\tevent\t4000000000\t12\titems executed\nswapper\t2\t9\t-\tinterrupt\t1\t-\t-\n\n";

    #[test]
    fn answers_are_read_and_shown() {
        let now = parse(ANSWER);
        assert_eq!((now.now_ns, now.daemons.len()), (5_000_000_000, 2));
        assert_eq!(now.daemons[0].work, Some((12, "items executed".into())));
        assert_eq!((now.daemons[1].busy_ns, &now.daemons[1].work), (None, &None));
        let mut before = now.clone();
        before.now_ns = 3_000_000_000;
        (before.daemons[0].wakeups, before.daemons[0].busy_ns) = (10, Some(50_000_000));
        let t = table(&now, &before);
        let w: Vec<_> = t.lines().nth(2).unwrap().split_whitespace().collect();
        assert_eq!(w[..6], ["kworker", "4", "30", "10.0", "10.0", "250.0"]);
        assert!(t.contains("event, 1.0 s ago") && t.contains("12 items executed"), "{t}");
    }

    #[test]
    fn the_last_whole_answer_counts() {
        let mut heard =
            format!("noise\r\n{}{}", ANSWER.replace("30", "29"), ANSWER.replace('\n', "\r\n")).into_bytes();
        assert_eq!(parse(&take_answer(&mut heard).unwrap()), parse(ANSWER));
        assert!(heard.is_empty());
        let half = ANSWER.as_bytes()[..60].to_vec();
        assert_eq!(take_answer(&mut half.clone()), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_answered(s in any::<String>(), n in "([ -~\t]{0,40}\n){0,8}") {
            for t in [s, n] {
                let p = parse(&t);
                let _ = table(&p, &Picture::default());
                let _ = take_answer(&mut t.into_bytes());
            }
        }
    }
}
