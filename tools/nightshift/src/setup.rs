//! What the host needs, and how it gets it: Debian packages as root or through sudo; otherwise the exact command is
//! printed and nothing is done.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

/// A program that must be there, and the Debian package that brings it.
pub struct Need {
    pub program: &'static str,
    pub package: &'static str,
}

/// Everything that building and booting need beside the Rust toolchain.
pub const ALL: [Need; 2] = [
    Need { program: "qemu-system-x86_64", package: "qemu-system-x86" },
    Need { program: "busybox", package: "busybox-static" },
];

/// Finds a program on the usual paths.
pub fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"])
        .map(|d| Path::new(d).join(program))
        .find(|p| p.is_file())
}

/// Installs what is missing, saying what it does. An error names the command where it may not.
pub fn ensure(needs: &[Need]) -> Result<()> {
    let missing: Vec<_> = needs.iter().filter(|n| !is_there(n)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<_> = missing.iter().map(|n| n.package).collect();
    let command = format!("apt-get install -y --no-install-recommends {}", packages.join(" "));
    if find("apt-get").is_none() {
        bail!(
            "{} not found: install it with your system's package manager (Debian: {command})",
            names(&missing)
        );
    }
    let prefix: &[&str] = if is_root() {
        &[]
    } else if may_sudo() {
        &["sudo", "-n"]
    } else {
        bail!("{} not found, and this user may not install it. Run:\n  sudo {command}", names(&missing));
    };
    eprintln!("Installing {} ({command})", packages.join(", "));
    apt(prefix, &["update", "-q"])?;
    let mut args = vec!["install", "-y", "-q", "--no-install-recommends"];
    args.extend(&packages);
    apt(prefix, &args)?;
    match missing.iter().find(|n| !is_there(n)) {
        Some(n) => bail!("package {} is installed, yet {} is not there", n.package, n.program),
        None => Ok(()),
    }
}

fn is_there(n: &Need) -> bool {
    find(n.program).is_some_and(|p| n.package != "busybox-static" || is_static(&p))
}
/// A dynamically linked BusyBox would not run in an initramfs without its libraries.
fn is_static(p: &Path) -> bool {
    use object::{Object, ObjectSection};
    std::fs::read(p).ok().is_some_and(|b| {
        object::File::parse(&*b).is_ok_and(|f| f.sections().all(|s| s.name() != Ok(".interp")))
    })
}
fn names(m: &[&Need]) -> String {
    m.iter().map(|n| n.program).collect::<Vec<_>>().join(", ")
}
fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|s| s.lines().any(|l| l.starts_with("Uid:") && l.split_whitespace().nth(2) == Some("0")))
}
fn may_sudo() -> bool {
    Command::new("sudo")
        .args(["-n", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

fn apt(prefix: &[&str], args: &[&str]) -> Result<()> {
    let mut words: Vec<&str> = prefix.to_vec();
    words.push("apt-get");
    words.extend(args);
    let bar = indicatif::ProgressBar::new_spinner().with_message(format!("apt-get {}", args[0]));
    bar.enable_steady_tick(Duration::from_millis(120));
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", words.join(" ")))?;
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            bar.set_message(line.chars().take(90).collect::<String>());
        }
    }
    let status = child.wait()?;
    bar.finish_and_clear();
    if !status.success() {
        bail!("{} failed ({status})", words.join(" "));
    }
    Ok(())
}
