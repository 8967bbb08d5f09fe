//! `cargo run -- trace -o FILE -- PROGRAM`: runs a program in the guest with trace events on, and writes what happened as a file that
//! <https://ui.perfetto.dev> and `chrome://tracing` open.
//!
//! ```text
//!   guest: set_event, tracing_on ─ program ─ tracing off ─ cat trace >/dev/ttyS1
//!                                                              │ second serial port, a file of this host
//!   host:                     parse (a line) ─ convert (tracks, slices) ─ JSON, Trace Event Format
//! ```
//! | to read about | see |
//! |---|---|
//! | a line of `trace` | [`parse`] |
//! | tracks and slices | [`convert`] |
//!
//! The text is Linux's to the column, so the converter takes a trace of Linux too.

use std::{io::Write, path::Path};

use anyhow::{Context, Result, bail};

use crate::{
    guest::{self, Machine, Second},
    initramfs::{self, Contents},
};

pub mod convert;
pub mod parse;

/// What is traced if nothing else is asked for.
pub const DEFAULT_EVENTS: [&str; 12] = [
    "sched:sched_switch",
    "sched:sched_waking",
    "sched:sched_process_fork",
    "sched:sched_process_exec",
    "sched:sched_process_exit",
    "workqueue:*",
    "irq:*",
    "signal:signal_deliver",
    "timer:hrtimer_expire_entry",
    "timer:hrtimer_expire_exit",
    "timer:timer_expire_entry",
    "timer:timer_expire_exit",
];

/// The line with which the guest ends the trace: without it something is missing.
pub const END: &str = "# nightshift: end of trace";

/// What to trace.
pub struct Request<'a> {
    pub argv: &'a [String],
    pub events: &'a [String],
    /// KiB for the ring of each processor.
    pub buffer_kb: u32,
    pub output: &'a Path,
}

/// Words that `set_event` may be given: nothing that a shell reads otherwise.
pub fn check_events(events: &[String]) -> Result<()> {
    let ok = |c: char| c.is_ascii_alphanumeric() || "_:*!-?".contains(c);
    match events.iter().find(|e| e.is_empty() || !e.chars().all(ok)) {
        Some(e) => {
            bail!("--events {e}: not an event (write sched:sched_switch, workqueue:* or sched_waking)")
        }
        None => Ok(()),
    }
}

/// Runs the program and writes the file; the program's status.
pub fn run(m: &Machine, kernel: &Path, append: &str, r: &Request<'_>) -> Result<u8> {
    check_events(r.events)?;
    // Told before the machine runs for nothing.
    let mut out = std::fs::File::create(r.output).with_context(|| r.output.display().to_string())?;
    let raw = tempfile::Builder::new().prefix("nightshift-trace-").tempfile().context("temporary file")?;
    let token = initramfs::token();
    let what = Contents::Traced { argv: r.argv, token: &token, events: r.events, buffer_kb: r.buffer_kb };
    let rd = initramfs::pack(what)?;
    let m = Machine { second: Second::File(raw.path().to_path_buf()), ..m.clone() };
    let status = guest::run_program(&m, kernel, rd.path(), append, &token)?;
    let text = std::fs::read(raw.path()).context("the trace")?;
    let text = String::from_utf8_lossy(&text);
    if !text.lines().any(|l| l.trim_end() == END) {
        bail!("the guest gave no whole trace ({} bytes)", text.len());
    }
    let t = convert::convert(&text);
    serde_json::to_writer(&mut out, &t.json)?;
    out.flush()?;
    eprintln!("{}: {} records{}", r.output.display(), t.records, t.remarks());
    Ok(status)
}
