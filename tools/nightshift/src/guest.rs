//! Boots QEMU and watches it.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// The virtual machine to boot.
#[derive(Clone)]
pub struct Machine {
    pub qemu: PathBuf,
    pub machine: String,
    pub cpu: String,
    pub smp: u32,
    /// Processors that there can be; those beyond `smp` may be plugged in. At least `smp`.
    pub max_cpus: u32,
    pub mem: String,
    pub disks: Vec<PathBuf>,
    pub second: Second,
    /// Where QEMU listens for commands of its machine protocol (QMP).
    pub control: Option<PathBuf>,
}

/// What the guest's second serial port leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Second {
    /// There is none.
    #[default]
    None,
    /// A socket of this host that QEMU makes.
    Socket(PathBuf),
    /// What the guest writes goes into a file.
    File(PathBuf),
}

impl Default for Machine {
    fn default() -> Self {
        let qemu = std::env::var_os("QEMU").map_or_else(|| "qemu-system-x86_64".into(), PathBuf::from);
        Machine {
            qemu,
            machine: "q35".into(),
            cpu: "max".into(),
            smp: 2,
            max_cpus: 0,
            mem: "256M".into(),
            disks: Vec::new(),
            second: Second::None,
            control: None,
        }
    }
}

impl Machine {
    /// The command up to the console's options.
    pub fn command(&self, kernel: &Path, initrd: &Path, append: &str) -> Command {
        let mut c = Command::new(&self.qemu);
        c.args([
            "-accel",
            "tcg,thread=multi",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ]);
        c.arg("-M")
            .arg(&self.machine)
            .arg("-cpu")
            .arg(&self.cpu)
            .arg("-smp")
            .arg(format!("{},maxcpus={}", self.smp, self.smp.max(self.max_cpus)))
            .arg("-m")
            .arg(&self.mem);
        c.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd);
        c.arg("-append").arg(format!("console=ttyS0 panic=-1 {append}").trim_end());
        let bus = if self.machine.starts_with("microvm") { "device" } else { "pci" };
        c.args(["-object", "rng-random,id=rng0,filename=/dev/urandom", "-device"]);
        c.arg(format!("virtio-rng-{bus},rng=rng0"));
        for (i, d) in self.disks.iter().enumerate() {
            c.arg("-drive").arg(format!("if=none,id=d{i},file={},format=raw", quoted(d)));
            c.arg("-device").arg(format!("virtio-blk-{bus},drive=d{i}"));
        }
        if let Some(p) = &self.control {
            c.arg("-qmp").arg(format!("unix:{},server=on,wait=off", quoted(p)));
        }
        c
    }
    /// The second serial port: after the console's options, which are the first's.
    fn add_second(&self, c: &mut Command) {
        match &self.second {
            Second::None => {}
            Second::Socket(p) => {
                c.arg("-serial").arg(format!("unix:{},server=on,wait=off", quoted(p)));
            }
            Second::File(p) => {
                c.arg("-serial").arg(format!("file:{}", quoted(p)));
            }
        }
    }
    fn append(&self, words: &str) -> String {
        let monitor = if matches!(self.second, Second::Socket(_)) { "nightshift.monitor " } else { "" };
        format!("{monitor}{words}")
    }
}

/// A file's name in an option: QEMU reads a comma in it doubled.
fn quoted(file: &Path) -> String {
    file.display().to_string().replace(',', ",,")
}

/// Takes the sockets away with the machine.
struct Cleanup<'a>(&'a Machine);

impl Drop for Cleanup<'_> {
    fn drop(&mut self) {
        let second = if let Second::Socket(p) = &self.0.second { Some(p) } else { None };
        for p in second.into_iter().chain(&self.0.control) {
            let _ = std::fs::remove_file(p);
        }
    }
}

/// Gives the guest's console to this terminal until the machine ends.
pub fn interactive(m: &Machine, kernel: &Path, initrd: &Path, append: &str) -> Result<u8> {
    let _cleanup = Cleanup(m);
    let mut c = m.command(kernel, initrd, &m.append(append));
    c.args([
        "-chardev",
        "stdio,id=con,mux=on,signal=off",
        "-serial",
        "chardev:con",
        "-mon",
        "chardev=con,mode=readline",
    ]);
    m.add_second(&mut c);
    let status = c.status().with_context(|| format!("cannot start {}", m.qemu.display()))?;
    if !status.success() {
        bail!("{} ended with {status}", m.qemu.display());
    }
    Ok(0)
}

/// Boots, passes the console through, and returns the status that the guest reports after `token`.
pub fn run_program(m: &Machine, kernel: &Path, initrd: &Path, append: &str, token: &str) -> Result<u8> {
    let _cleanup = Cleanup(m);
    let mut c = m.command(kernel, initrd, &m.append(&format!("quiet {append}")));
    // QEMU ends with its standard input only where that is a terminal; Ctrl-C then goes to the guest.
    c.args(["-chardev", "stdio,id=con,signal=off", "-serial", "chardev:con"]);
    m.add_second(&mut c);
    let mut child =
        c.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {}", m.qemu.display()))?;
    let mut from = child.stdout.take().context("no output")?;
    let mut filter = Filter::new(token);
    let (mut buf, mut out) = ([0; 4096], std::io::stdout().lock());
    loop {
        let n = from.read(&mut buf)?;
        if n == 0 {
            break;
        }
        out.write_all(&filter.feed(&buf[..n]))?;
        out.flush()?;
    }
    out.write_all(&filter.rest())?;
    let status = child.wait()?;
    match filter.status {
        Some(s) => Ok(s),
        None if !status.success() => bail!("{} ended with {status}", m.qemu.display()),
        None => bail!("the guest ended without a status"),
    }
}

/// Passes a byte stream through, all but the line `TOKEN STATUS`.
struct Filter<'a> {
    token: &'a [u8],
    held: Vec<u8>,
    status: Option<u8>,
}

impl<'a> Filter<'a> {
    fn new(token: &'a str) -> Self {
        Filter { token: token.as_bytes(), held: Vec::new(), status: None }
    }
    /// What can be shown now. A tail that may yet become the token is held back.
    fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        let mut out = Vec::new();
        while let Some(at) = find(&self.held, self.token) {
            out.extend(self.held.drain(..at));
            let Some(end) = self.held.iter().position(|&b| b == b'\n') else { return out };
            let line: Vec<u8> = self.held.drain(..=end).collect();
            let word = String::from_utf8_lossy(&line[self.token.len()..]).trim().to_string();
            self.status = word.parse::<u32>().ok().map(|s| s.min(255) as u8);
        }
        let keep = (1..=self.token.len().min(self.held.len()))
            .rev()
            .find(|&n| self.token.starts_with(&self.held[self.held.len() - n..]))
            .unwrap_or(0);
        out.extend(self.held.drain(..self.held.len() - keep));
        out
    }
    fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|w| w == needle)
}

/// Boots a machine in the background, its console written to `log`. It ends when this is dropped.
pub struct Background<'a> {
    child: std::process::Child,
    _cleanup: Cleanup<'a>,
}

impl<'a> Background<'a> {
    pub fn start(
        m: &'a Machine,
        kernel: &Path,
        initrd: &Path,
        append: &str,
        log: std::fs::File,
    ) -> Result<Background<'a>> {
        let cleanup = Cleanup(m);
        let mut c = m.command(kernel, initrd, &m.append(append));
        c.args(["-serial", "stdio"]).stdin(Stdio::null()).stdout(log);
        m.add_second(&mut c);
        let child = c.spawn().with_context(|| format!("cannot start {}", m.qemu.display()))?;
        Ok(Background { child, _cleanup: cleanup })
    }
    /// Waits until the guest has switched the machine off.
    pub fn wait(&mut self) -> Result<std::process::ExitStatus> {
        Ok(self.child.wait()?)
    }
}

impl Drop for Background<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a batch run printed and how it ended.
pub struct Output {
    pub text: String,
    pub status: Option<u8>,
}

/// Runs a program in the guest without a terminal and collects what it printed; for tests. The machine is ended when
/// `seconds` have passed.
pub fn capture(m: &Machine, kernel: &Path, argv: &[&str], append: &str, seconds: u64) -> Result<Output> {
    let token = crate::initramfs::token();
    let argv: Vec<String> = argv.iter().map(|s| (*s).into()).collect();
    let rd = crate::initramfs::pack(crate::initramfs::Contents::Program { argv: &argv, token: &token })?;
    capture_initrd(m, kernel, rd.path(), &token, append, seconds)
}

/// As [`capture`], with an initramfs that reports its status after `token`.
pub fn capture_initrd(
    m: &Machine,
    kernel: &Path,
    initrd: &Path,
    token: &str,
    append: &str,
    seconds: u64,
) -> Result<Output> {
    let mut c = m.command(kernel, initrd, &format!("quiet {append}"));
    c.args(["-serial", "stdio"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = c.spawn().with_context(|| format!("cannot start {}", m.qemu.display()))?;
    let mut from = child.stdout.take().context("no output")?;
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let killer = std::thread::spawn(move || {
        if wait.recv_timeout(std::time::Duration::from_secs(seconds)).is_err() {
            let _ = child.kill();
        }
        let _ = child.wait();
    });
    let mut all = Vec::new();
    from.read_to_end(&mut all)?;
    let _ = done.send(());
    let _ = killer.join();
    let mut f = Filter::new(token);
    let mut text = f.feed(&all);
    text.extend(f.rest());
    Ok(Output { text: String::from_utf8_lossy(&text).replace("\r\n", "\n"), status: f.status })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_line_is_taken_out_wherever_reads_break() {
        let all = b"one\r\ntwo to\r\ntoken 7\r\nafter\n";
        for cut in 1..all.len() {
            let mut f = Filter::new("token");
            let mut out = f.feed(&all[..cut]);
            out.extend(f.feed(&all[cut..]));
            out.extend(f.rest());
            assert_eq!(out, b"one\r\ntwo to\r\nafter\n", "cut at {cut}");
            assert_eq!(f.status, Some(7));
        }
    }
}
