//! Packs an initramfs: Debian's BusyBox with a link for each applet, an `/init` script, and what a program needs.

use std::{
    collections::BTreeMap,
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::setup;

/// What the guest is to do.
pub enum Contents<'a> {
    /// A shell on the console.
    Shell,
    /// One program; its status is reported on the console after `token`.
    Program { argv: &'a [String], token: &'a str },
    /// The same with trace events on; then the trace, to the second serial port.
    Traced { argv: &'a [String], token: &'a str, events: &'a [String], buffer_kb: u32 },
    /// A shell script; its status is reported in the same way.
    Script { text: &'a str, token: &'a str },
}

/// One entry of the archive.
enum Entry {
    Dir,
    File(u32, Vec<u8>),
    Link(String),
    /// `/dev/console`: the kernel opens it for `/init`, before anything has mounted `/dev`.
    Console,
}

/// A word that no program prints by accident.
pub fn token() -> String {
    let t = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    format!("nightshift-{}-{t:x}", std::process::id())
}

/// What each `/init` begins with.
const COMMON: &str = include_str!("guest/init-common.sh");

/// The `/init` that runs one command line and reports its status after `token`.
fn run_script(command: &str, token: &str) -> String {
    let own = include_str!("guest/init-program.sh").replace("@PROGRAM@", command).replace("@TOKEN@", token);
    COMMON.to_string() + &own
}

/// Packs into a temporary file, gzip-compressed.
pub fn pack(contents: Contents<'_>) -> Result<tempfile::NamedTempFile> {
    let mut e = BTreeMap::new();
    for d in [
        "bin", "sbin", "usr", "usr/bin", "usr/sbin", "dev", "etc", "lib", "mnt", "proc", "root", "run",
        "sys", "tmp",
    ] {
        e.insert(d.to_string(), Entry::Dir);
    }
    e.insert("dev/console".into(), Entry::Console);
    let busybox = setup::find("busybox").context("busybox not found")?;
    e.insert("bin/busybox".into(), Entry::File(0o755, read(&busybox)?));
    let list = Command::new(&busybox).arg("--list").output().context("busybox --list")?;
    for applet in String::from_utf8_lossy(&list.stdout).split_whitespace() {
        e.entry(format!("bin/{applet}")).or_insert(Entry::Link("busybox".into()));
    }
    e.insert("etc/passwd".into(), Entry::File(0o644, b"root:x:0:0:root:/root:/bin/sh\n".to_vec()));
    e.insert("etc/group".into(), Entry::File(0o644, b"root:x:0:\n".to_vec()));
    e.insert("etc/profile".into(), Entry::File(0o644, include_bytes!("guest/profile").to_vec()));
    let init = match contents {
        Contents::Shell => COMMON.to_string() + include_str!("guest/init-shell.sh"),
        Contents::Program { argv, token } => {
            let argv = with_program(&mut e, argv)?;
            let words: Vec<String> = argv.iter().map(|a| quote(a)).collect();
            run_script(&words.join(" "), token)
        }
        Contents::Traced { argv, token, events, buffer_kb } => {
            let argv = with_program(&mut e, argv)?;
            let program: Vec<String> = argv.iter().map(|a| quote(a)).collect();
            let events: Vec<String> = events.iter().map(|w| quote(w)).collect();
            COMMON.to_string()
                + &include_str!("guest/init-trace.sh")
                    .replace("@BUFFER@", &buffer_kb.to_string())
                    .replace("@EVENTS@", &events.join(" "))
                    .replace("@TOKEN@", token)
                    .replace("@END@", crate::trace::END)
                    .replace("@PROGRAM@", &program.join(" "))
        }
        Contents::Script { text, token } => {
            e.insert("experiment.sh".into(), Entry::File(0o644, text.into()));
            run_script("sh /experiment.sh", token)
        }
    };
    e.insert("init".into(), Entry::File(0o755, init.into_bytes()));
    write(&e)
}

/// Copies the program in, if it is one of the host's, and returns its argument vector in the guest.
fn with_program(e: &mut BTreeMap<String, Entry>, argv: &[String]) -> Result<Vec<String>> {
    let name = &argv[0];
    let applet = !name.contains('/') && e.contains_key(&format!("bin/{name}"));
    if applet {
        return Ok(argv.to_vec());
    }
    let host = if name.contains('/') {
        PathBuf::from(name)
    } else {
        setup::find(name).unwrap_or_else(|| name.into())
    };
    if !host.is_file() {
        bail!("{name}: no such program on this host, and no BusyBox applet");
    }
    let host = host.canonicalize()?;
    add(e, &host)?;
    let ldd = Command::new("ldd").arg(&host).output();
    if let Ok(out) = ldd {
        for word in String::from_utf8_lossy(&out.stdout).split_whitespace().filter(|w| w.starts_with('/')) {
            add(e, Path::new(word))?;
        }
    }
    let mut v = argv.to_vec();
    v[0] = host.to_string_lossy().into_owned();
    Ok(v)
}

fn add(e: &mut BTreeMap<String, Entry>, path: &Path) -> Result<()> {
    let inside = path.to_string_lossy().trim_start_matches('/').to_string();
    for d in Path::new(&inside).ancestors().skip(1).filter(|d| !d.as_os_str().is_empty()) {
        e.entry(d.to_string_lossy().into_owned()).or_insert(Entry::Dir);
    }
    let mode = std::fs::metadata(path)?.mode() & 0o7777;
    e.insert(inside, Entry::File(mode, read(path)?));
    Ok(())
}
fn read(p: &Path) -> Result<Vec<u8>> {
    std::fs::read(p).with_context(|| p.display().to_string())
}
fn quote(s: &str) -> String {
    format!("'{}'", s.replace('\'', r"'\''"))
}

fn write(entries: &BTreeMap<String, Entry>) -> Result<tempfile::NamedTempFile> {
    let file =
        tempfile::Builder::new().prefix("nightshift-initramfs-").tempfile().context("temporary file")?;
    let mut out = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    for (i, (name, entry)) in entries.iter().enumerate() {
        let (mode, data, device): (u32, &[u8], (u32, u32)) = match entry {
            Entry::Dir => (0o040755, b"", (0, 0)),
            Entry::File(m, d) => (0o100000 | m, d, (0, 0)),
            Entry::Link(t) => (0o120777, t.as_bytes(), (0, 0)),
            Entry::Console => (0o020600, b"", (5, 1)),
        };
        let b = cpio::newc::Builder::new(name).ino(i as u32 + 1).mode(mode).nlink(1);
        let b = b.rdev_major(device.0).rdev_minor(device.1);
        let mut w =
            b.write(&mut out, u32::try_from(data.len()).with_context(|| format!("{name} is too large"))?);
        w.write_all(data)?;
        w.finish()?;
    }
    cpio::newc::trailer(&mut out)?;
    Ok(out.finish()?)
}
