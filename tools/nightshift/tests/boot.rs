//! Boots the real image: every experiment of `lab/`, and programs whose output is known.

use std::{path::PathBuf, sync::OnceLock};

use nightshift::{
    guest::{self, Machine},
    image::{self, Profile},
    initramfs, lab, setup,
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

#[test]
fn top_asks_a_running_guest() {
    use nightshift::{guest::Second, top};
    let folder = tempfile::tempdir().expect("temporary folder");
    let socket = folder.path().join("s");
    let m = Machine { second: Second::Socket(socket.clone()), ..Machine::default() };
    let argv = ["sleep".to_string(), "1000".to_string()];
    let rd = initramfs::pack(initramfs::Contents::Program { argv: &argv, token: "-" }).expect("initramfs");
    let log = tempfile::tempfile().expect("temporary file");
    let guest = guest::Background::start(&m, kernel(), rd.path(), "quiet", log).expect("QEMU starts");
    let mut monitor = top::Monitor::connect(&socket).expect("QEMU listens");
    let a = monitor.ask().expect("the guest answers");
    let b = monitor.ask().expect("and again");
    assert!(a.now_ns > 0 && b.now_ns > a.now_ns);
    let of = |p: &top::Picture, name: &str| {
        p.daemons.iter().find(|d| d.name == name).cloned().unwrap_or_else(|| panic!("{name}: {p:?}"))
    };
    assert!(of(&a, "kthreadd").work.is_some_and(|(n, unit)| n > 10 && unit == "threads made"));
    let (k, l) = (of(&a, "kworker"), of(&b, "kworker"));
    assert!(k.threads > 0 && k.busy_ns <= l.busy_ns && k.wakeups <= l.wakeups);
    // It rested in between, so it woke.
    assert!(of(&b, "swapper").wakeups > of(&a, "swapper").wakeups);
    drop(guest);
    assert!(!socket.exists());
    assert!(monitor.ask().is_err());
}

#[test]
fn a_trace_becomes_a_picture() {
    use nightshift::trace;
    let file = tempfile::NamedTempFile::new().expect("temporary file");
    let words = |w: &[&str]| w.iter().map(|s| s.to_string()).collect::<Vec<_>>();
    let argv = words(&["sh", "-c", "seq 9; head -c 256 /dev/hwrng | wc -c; sleep 0.1; exit 5"]);
    let run = |events: &[String]| {
        let r = trace::Request { argv: &argv, events, buffer_kb: 4096, output: file.path() };
        trace::run(&Machine::default(), kernel(), "", &r).expect("QEMU starts")
    };
    assert_eq!(run(&words(&trace::DEFAULT_EVENTS)), 5);
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap();
    let all = json["traceEvents"].as_array().expect("events");
    let count = |ph: &str, process: u32, name: &str| {
        all.iter().filter(|e| e["ph"] == ph && e["pid"] == process && e["name"] == name).count()
    };
    assert!(count("X", 1, "sh") > 0, "the program ran on a processor");
    assert!(all.iter().any(|e| e["ph"] == "X" && e["pid"] == 2), "the entropy device's interrupts came");
    assert!(count("X", 4, "hrtimer_wakeup") > 0, "its sleep ended");
    assert!(count("i", 5, "sched_process_exit") > 0, "it ended");
    let ended = all.iter().filter(|e| e["ph"] == "X").map(|e| e["dur"].as_u64().expect("a duration"));
    assert!(ended.max() < Some(60_000_000));
}

/// QEMU's control socket: commands in, answers and events out, a line each.
struct Control(std::io::BufReader<std::os::unix::net::UnixStream>);

impl Control {
    fn connect(socket: &std::path::Path) -> Control {
        let wait = std::time::Duration::from_millis(50);
        let stream = (0..200).find_map(|_| {
            std::thread::sleep(wait);
            std::os::unix::net::UnixStream::connect(socket).ok()
        });
        let stream = stream.expect("QEMU listens");
        stream.set_read_timeout(Some(std::time::Duration::from_secs(SECONDS))).expect("a socket");
        let mut c = Control(std::io::BufReader::new(stream));
        c.tell(serde_json::json!({"execute": "qmp_capabilities"}));
        c
    }
    fn tell(&mut self, command: serde_json::Value) {
        use std::io::Write;
        writeln!(self.0.get_mut(), "{command}").expect("QEMU reads");
    }
    /// Waits for an event.
    fn event(&mut self, name: &str) -> serde_json::Value {
        use std::io::BufRead;
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).expect("QEMU answers") > 0, "QEMU ended before {name}");
            let v: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            assert!(v.get("error").is_none(), "{v}");
            if v["event"] == name {
                return v;
            }
        }
    }
}

#[test]
fn a_processor_is_plugged_in_and_pulled_out() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (socket, log) = (folder.path().join("s"), folder.path().join("log"));
    let m = Machine { max_cpus: 3, control: Some(socket.clone()), ..Machine::default() };
    let script = "cd /sys/devices/system/cpu; cat possible present; until [ -d cpu2 ]; do sleep 0.1; done; cat present; nproc
        echo 1 >cpu2/online; nproc; taskset 4 true && echo ran there; while [ -d cpu2 ]; do sleep 0.1; done; cat present; nproc";
    let argv = ["sh", "-c", script].map(String::from);
    let rd = initramfs::pack(initramfs::Contents::Program { argv: &argv, token: "-" }).expect("initramfs");
    let console = std::fs::File::create(&log).expect("a file");
    let mut guest = guest::Background::start(&m, kernel(), rd.path(), "quiet", console).expect("QEMU starts");
    let shown = |text: &str| {
        (0..10 * SECONDS).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            std::fs::read_to_string(&log).is_ok_and(|l| l.contains(text))
        })
    };
    let mut control = Control::connect(&socket);
    assert!(shown("0-2"), "it boots");
    let cpu = serde_json::json!({"driver": "max-x86_64-cpu", "id": "c2", "socket-id": 0, "core-id": 2, "thread-id": 0});
    control.tell(serde_json::json!({"execute": "device_add", "arguments": cpu}));
    let told =
        |e: serde_json::Value| (e["data"]["info"]["source"].as_u64(), e["data"]["info"]["status"].as_u64());
    assert_eq!(told(control.event("ACPI_DEVICE_OST")), (Some(1), Some(0)));
    assert!(shown("ran there"), "{:?}", std::fs::read_to_string(&log));
    control.tell(serde_json::json!({"execute": "device_del", "arguments": {"id": "c2"}}));
    assert_eq!(told(control.event("ACPI_DEVICE_OST")), (Some(3), Some(0)));
    control.event("DEVICE_DELETED");
    assert!(guest.wait().expect("QEMU ends").success());
    let log = std::fs::read_to_string(&log).expect("the log");
    let lines: Vec<&str> =
        log.lines().filter(|l| l.starts_with(|c: char| c.is_ascii_digit() || c == 'r')).collect();
    assert_eq!(lines, ["0-2", "0-1", "0-2", "2", "3", "ran there", "0-1", "2"], "{log}");
}
