//! Boots the real image: every experiment of `lab/`, and programs whose output is known.

use std::{path::PathBuf, sync::OnceLock};

use nightshift::{
    guest::{self, Machine},
    image::{self, Profile},
    lab, setup,
};

/// The checked image, built once.
fn kernel() -> &'static PathBuf {
    static K: OnceLock<PathBuf> = OnceLock::new();
    K.get_or_init(|| {
        setup::ensure(&setup::ALL).expect("set-up");
        image::build(Profile::Checked).expect("the kernel builds")
    })
}

/// Generous: the host may be busy, and the emulator is slow.
const SECONDS: u64 = 180;

fn run(m: &Machine, argv: &[&str]) -> guest::Output {
    guest::capture(m, kernel(), argv, "", SECONDS).expect("QEMU starts")
}

#[test]
fn experiments_show_what_they_claim() {
    for name in lab::names().expect("lab/") {
        let out = lab::run(&Machine::default(), kernel(), &name, SECONDS).expect("QEMU starts");
        assert_eq!(out.status, Some(0), "lab/{name}:\n{}", out.text);
    }
}

#[test]
fn a_program_runs_and_its_status_comes_back() {
    let m = Machine::default();
    let out = run(&m, &["sh", "-c", "echo hello; uname -s; exit 7"]);
    assert!(out.text.contains("hello\nLinux\n"), "{}", out.text);
    assert_eq!(out.status, Some(7));
    let out = run(&m, &["sh", "-c", "kill -9 $$"]);
    assert_eq!(out.status, Some(137), "{}", out.text);
}

#[test]
fn it_boots_on_both_machines_and_both_processors() {
    for machine in ["q35", "microvm"] {
        for (cpu, smp, mem) in [("max", 1, "64M"), ("qemu64", 3, "128M")] {
            let m = Machine {
                machine: machine.into(),
                cpu: cpu.into(),
                smp,
                mem: mem.into(),
                ..Machine::default()
            };
            let out = run(&m, &["nproc"]);
            assert_eq!(out.status, Some(0), "{machine} {cpu}:\n{}", out.text);
            assert!(out.text.lines().any(|l| l == smp.to_string()), "{machine} {cpu}:\n{}", out.text);
        }
    }
}

#[test]
fn limits_end_in_errors_not_in_a_hang() {
    let m = Machine { mem: "96M".into(), ..Machine::default() };
    let out = run(&m, &["sh", "-c", "dd if=/dev/zero of=/tmp/x bs=64k; rm /tmp/x; echo alive"]);
    assert!(out.text.contains("No space left on device") && out.text.contains("alive"), "{}", out.text);
    let out = run(&m, &["sh", "-c", "ulimit -u 40; f() { f | f & }; f; sleep 3; echo alive"]);
    assert!(out.text.contains("alive"), "{}", out.text);
}
