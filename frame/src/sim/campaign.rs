//! Many seeds, as many at a time as the host has processors.

use super::{
    Config, Outcome, RunResult,
    child::{Child, Role, spawn},
};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let v = text.strip_prefix("0x").map_or_else(|| text.parse(), |h| u64::from_str_radix(h, 16));
    Some(v.unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// The one seed to replay.
pub(super) fn only_seed() -> Option<u64> {
    number("NIGHTSHIFT_SEED")
}

/// Runs seeds from 0 on until `done` says that it has seen enough, or there are no more.
fn each(
    role: Role,
    seeds: core::ops::Range<u64>,
    config: &impl Fn(u64) -> Config,
    main: &impl Fn(u64),
    mut done: impl FnMut(u64, Outcome) -> bool,
) {
    let width = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut seeds = seeds;
    let mut running: Vec<Child> = Vec::new();
    let mut stop = false;
    loop {
        while !stop && running.len() < width {
            let Some(seed) = seeds.next() else { break };
            let c = Config { seed, ..config(seed) };
            running.push(spawn(&c, role, || main(seed)));
        }
        if running.is_empty() {
            return;
        }
        let mut fds: Vec<_> =
            running.iter().map(|c| libc::pollfd { fd: c.fd, events: libc::POLLIN, revents: 0 }).collect();
        // SAFETY: a valid array of that length.
        unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1) };
        for i in (0..fds.len()).rev() {
            if fds[i].revents != 0 && !running[i].read() {
                let c = running.swap_remove(i);
                let seed = c.seed;
                let out = c.reap();
                stop |= !stop && done(seed, out);
            }
        }
    }
}

fn describe(name: &str, seed: u64, c: &Config, out: &Outcome) -> String {
    let what = match &out.result {
        RunResult::Ok => "ok".into(),
        RunResult::Panic(m) => format!("panic: {m}"),
        RunResult::PowerCut => "a power cut that the campaign does not expect".into(),
        RunResult::Deadlock(m) => format!("deadlock: {m}"),
        RunResult::Timeout(m) => format!("hung: {m}"),
        RunResult::Crash(m) => format!("crash: {m}"),
    };
    let test = std::thread::current().name().unwrap_or("TEST").to_owned();
    let package = std::env::var("CARGO_PKG_NAME").map_or_else(|_| String::new(), |p| format!(" -p {p}"));
    format!(
        "{name}: seed {seed} ({} processors, {} decisions per 1000 points) after {} steps, {} ns, hash {:#x}\n{what}\n{}\n\
         replay: NIGHTSHIFT_SEED={seed} cargo test{package} {test}\n",
        c.cpus, c.preempt_permille, out.steps, out.time_ns, out.hash, out.report
    )
}

/// Runs `main` under many seeds; each varies processors and density ([`Config::from_seed`]).
///
/// # Panics
/// With a report, at the first seed that fails.
pub fn campaign(name: &str, default_seeds: u64, main: impl Fn(u64)) {
    campaign_with(name, default_seeds, Config::from_seed, main);
}

/// As [`campaign`], with `config` for each seed (its `seed` field is set afterwards).
///
/// # Panics
/// With a report, at the first seed that fails.
pub fn campaign_with(name: &str, default_seeds: u64, config: impl Fn(u64) -> Config, main: impl Fn(u64)) {
    drive(name, default_seeds, Role::Simulation, config, main);
}

pub(super) fn drive(
    name: &str,
    default_seeds: u64,
    role: Role,
    config: impl Fn(u64) -> Config,
    main: impl Fn(u64),
) {
    let seeds = match only_seed() {
        Some(s) => s..s + 1,
        None => 0..number("NIGHTSHIFT_SEEDS").unwrap_or(default_seeds),
    };
    let mut failure = None;
    each(role, seeds, &config, &main, |seed, out| {
        if out.is_ok() {
            if only_seed().is_some() {
                eprintln!(
                    "{name}: seed {seed} is fine: {} steps, {} ns, hash {:#x}",
                    out.steps, out.time_ns, out.hash
                );
            }
            return false;
        }
        failure = Some(describe(name, seed, &Config { seed, ..config(seed) }, &out));
        true
    });
    if let Some(f) = failure {
        panic!("{f}");
    }
}

/// For a deliberately wrong variant: some seed below `max_seeds` must fail. The seed, and what it found.
///
/// # Panics
/// If all seeds pass.
pub fn expect_failure(name: &str, max_seeds: u64, main: impl Fn(u64)) -> (u64, Outcome) {
    expect_failure_with(name, max_seeds, Config::from_seed, main)
}

/// As [`expect_failure`], with `config` for each seed.
///
/// # Panics
/// If all seeds pass.
pub fn expect_failure_with(
    name: &str,
    max_seeds: u64,
    config: impl Fn(u64) -> Config,
    main: impl Fn(u64),
) -> (u64, Outcome) {
    let config = |seed| Config { backtrace: false, ..config(seed) };
    let mut found = None;
    each(Role::Simulation, 0..max_seeds, &config, &main, |seed, out| {
        if !out.is_ok() {
            found = Some((seed, out));
        }
        found.is_some()
    });
    found.unwrap_or_else(|| panic!("{name}: {max_seeds} seeds, and none shows the fault"))
}
