//! The command line.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    guest::{self, Machine, Second},
    image::{self, Profile},
    initramfs::{self, Contents},
    setup, top, trace,
};

/// Build, boot and try the Nightshift kernel.
///
/// Without a command: sets up what is missing, builds the kernel, boots it in QEMU with BusyBox as its user space, and
/// gives its shell on this terminal. Ctrl-C goes to the guest; Ctrl-A X ends the machine.
#[derive(Parser)]
#[command(name = "nightshift", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    machine: MachineArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Build the kernel image; its path is the last line of standard output
    Build,
    /// Boot an interactive shell (what no command does too)
    Shell,
    /// Run a program in the guest and exit with its status
    ///
    /// PROGRAM is a path of this host (it is copied into the guest with its shared libraries) or the name of a BusyBox
    /// applet. A signal N that ends it gives 128+N; a guest that dies without a status gives 125.
    Run {
        /// Program and arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM")]
        argv: Vec<String>,
    },
    /// Boot an experiment of lab/ and show the daemon at work; without a name, list them
    Lab { name: Option<String> },
    /// Show what the daemons of a guest do: wake-ups, processor time, work
    ///
    /// Shows the guest that was last started with --monitor. Without one, or with PROGRAM, boots a guest of its own, runs PROGRAM
    /// in it (`sleep 1000000` by default), and ends it when the picture does.
    Top {
        /// Print one table, with rates over one interval, and end
        #[arg(long)]
        once: bool,
        /// Seconds between two pictures
        #[arg(long, default_value_t = 1.0, value_parser = interval)]
        interval: f64,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM")]
        argv: Vec<String>,
    },
    /// Run a program in the guest and write a trace of it for Perfetto (ui.perfetto.dev) and chrome://tracing
    Trace {
        /// Where the trace goes (JSON, Trace Event Format)
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// Events, separated by commas (sched:sched_switch, workqueue:*); by default those of scheduler, work queues, interrupts and timers
        #[arg(long, value_delimiter = ',', value_name = "EVENTS", default_values = crate::trace::DEFAULT_EVENTS)]
        events: Vec<String>,
        /// KiB of records that each processor keeps; older ones are lost
        #[arg(long, default_value_t = 8192, value_name = "KIB", value_parser = clap::value_parser!(u32).range(4..=65536))]
        buffer: u32,
        /// Program and arguments, as for `run`
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM")]
        argv: Vec<String>,
    },
    /// Install what building and booting need, or print the command that does
    Setup,
    /// List every system call of Linux 6.12 (x86-64): done, partial, absent
    Syscalls {
        /// Only those in this state
        #[arg(long, value_enum)]
        state: Option<SyscallState>,
    },
}

#[derive(Clone, Copy, ValueEnum, PartialEq)]
enum SyscallState {
    Done,
    Partial,
    Absent,
}

#[derive(Args, Clone)]
struct MachineArgs {
    /// Processors
    #[arg(long, global = true, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    smp: u32,
    /// Processors that there can be: those beyond --smp can be plugged in, in QEMU's monitor (Ctrl-A C) with
    /// `device_add max-x86_64-cpu,id=c2,socket-id=0,core-id=2,thread-id=0`
    #[arg(long, global = true, value_name = "N", default_value_t = 0)]
    max_cpus: u32,
    /// Memory, as QEMU writes it (512M, 2G)
    #[arg(long, global = true, default_value = "256M")]
    mem: String,
    /// QEMU machine type
    #[arg(long, global = true, default_value = "q35")]
    machine: String,
    /// QEMU processor model
    #[arg(long, global = true, default_value = "max")]
    cpu: String,
    /// Attach a raw disk image as virtio-blk (may be repeated)
    #[arg(long, global = true, value_name = "FILE")]
    disk: Vec<PathBuf>,
    /// More words for the kernel command line
    #[arg(long, global = true, default_value = "", allow_hyphen_values = true)]
    append: String,
    /// Boot this initramfs in place of the generated one
    #[arg(long, global = true, value_name = "FILE")]
    initramfs: Option<PathBuf>,
    /// Boot this kernel in place of building one
    #[arg(long, global = true, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Build the checked image: lock order, context and poisoning are verified at run time
    #[arg(long, global = true)]
    checked: bool,
    /// Give the guest a second serial port on which `top` asks
    #[arg(long, global = true)]
    monitor: bool,
    /// QEMU program
    #[arg(long, global = true, default_value = "qemu-system-x86_64", env = "QEMU")]
    qemu: PathBuf,
}

impl MachineArgs {
    fn profile(&self) -> Profile {
        if self.checked { Profile::Checked } else { Profile::Plain }
    }
    fn kernel(&self) -> Result<PathBuf> {
        match &self.kernel {
            Some(k) => existing(k),
            None => image::build(self.profile()),
        }
    }
    fn machine(&self) -> Result<Machine> {
        if !self.mem.trim_end_matches(['k', 'K', 'm', 'M', 'g', 'G']).chars().all(|c| c.is_ascii_digit())
            || self.mem.is_empty()
        {
            bail!("--mem {}: not a size (write 512M or 2G)", self.mem);
        }
        for d in &self.disk {
            existing(d)?;
        }
        Ok(Machine {
            qemu: self.qemu.clone(),
            machine: self.machine.clone(),
            cpu: self.cpu.clone(),
            smp: self.smp,
            max_cpus: self.max_cpus,
            mem: self.mem.clone(),
            disks: self.disk.clone(),
            second: if self.monitor { Second::Socket(crate::top::socket()) } else { Second::None },
            control: None,
        })
    }
}

fn existing(p: &std::path::Path) -> Result<PathBuf> {
    match std::fs::metadata(p) {
        Ok(m) if m.is_file() => Ok(p.to_path_buf()),
        Ok(_) => bail!("{}: not a file", p.display()),
        Err(e) => bail!("{}: {e}", p.display()),
    }
}

/// Parses the arguments and acts; the exit status.
pub fn main() -> Result<u8> {
    let cli = Cli::parse();
    let m = &cli.machine;
    match cli.command.unwrap_or(Command::Shell) {
        Command::Setup => setup::ensure(&setup::ALL).map(|()| 0),
        Command::Build => {
            let path = m.kernel()?;
            println!("{}", path.display());
            Ok(0)
        }
        Command::Shell => {
            setup::ensure(&setup::ALL)?;
            let (machine, kernel) = (m.machine()?, m.kernel()?);
            let rd = initrd(m, Contents::Shell)?;
            eprintln!("Booting {}. Ctrl-C goes to the guest; Ctrl-A X ends the machine.", kernel.display());
            guest::interactive(&machine, &kernel, rd.path(), &m.append)
        }
        Command::Run { argv } => {
            setup::ensure(&setup::ALL)?;
            // A program that is not there is told before the kernel is built.
            let (machine, token) = (m.machine()?, initramfs::token());
            let rd = initrd(m, Contents::Program { argv: &argv, token: &token })?;
            let kernel = m.kernel()?;
            guest::run_program(&machine, &kernel, rd.path(), &m.append, &token)
        }
        Command::Lab { name: None } => {
            crate::lab::names()?.iter().for_each(|n| println!("{n}"));
            Ok(0)
        }
        Command::Lab { name: Some(name) } => {
            setup::ensure(&setup::ALL)?;
            let token = initramfs::token();
            let rd = crate::lab::pack(&name, &token)?;
            guest::run_program(&m.machine()?, &m.kernel()?, rd.path(), &m.append, &token)
        }
        Command::Top { once, interval, argv } => top(m, once, interval, &argv),
        Command::Trace { output, events, buffer, argv } => {
            setup::ensure(&setup::ALL)?;
            let request = trace::Request { argv: &argv, events: &events, buffer_kb: buffer, output: &output };
            trace::check_events(&events)?;
            trace::run(&m.machine()?, &m.kernel()?, &m.append, &request)
        }
        Command::Syscalls { state } => {
            let mut counts = [0; 3];
            for row in abi::table::rows() {
                let (s, what) = match row.state {
                    abi::table::State::Done => (SyscallState::Done, "done"),
                    abi::table::State::Partial(_) => (SyscallState::Partial, "partial"),
                    abi::table::State::Absent => (SyscallState::Absent, "absent"),
                };
                counts[s as usize] += 1;
                if state.is_none_or(|want| want == s) {
                    let note = if let abi::table::State::Partial(why) = row.state { why } else { "" };
                    println!("{:4} {:24} {what:8} {note}", row.number, row.name);
                }
            }
            eprintln!("{} done, {} partial, {} absent", counts[0], counts[1], counts[2]);
            Ok(0)
        }
    }
}

fn interval(s: &str) -> Result<f64, String> {
    let v: f64 = s.parse().map_err(|_| "not a number".to_string())?;
    if (0.1..=3600.0).contains(&v) { Ok(v) } else { Err("between 0.1 and 3600 seconds".into()) }
}

fn top(m: &MachineArgs, once: bool, interval: f64, argv: &[String]) -> Result<u8> {
    let o = top::Options { once, interval: std::time::Duration::from_secs_f64(interval) };
    if argv.is_empty()
        && let Some(running) = top::find()
    {
        return top::show(&running, &o).map(|()| 0);
    }
    setup::ensure(&setup::ALL)?;
    let idle = ["sleep".to_string(), "1000000".to_string()];
    let argv = if argv.is_empty() { &idle[..] } else { argv };
    let (socket, token) = (top::socket(), initramfs::token());
    let machine = Machine { second: Second::Socket(socket.clone()), ..m.machine()? };
    let rd = initrd(m, Contents::Program { argv, token: &token })?;
    let kernel = m.kernel()?;
    let console = tempfile::Builder::new().prefix("nightshift-console-").tempfile()?;
    let _guest = guest::Background::start(&machine, &kernel, rd.path(), &m.append, console.reopen()?)?;
    top::show(&socket, &o).map(|()| 0).inspect_err(|_| {
        // What the guest said last may tell why.
        let said = std::fs::read(console.path()).unwrap_or_default();
        eprintln!("{}", String::from_utf8_lossy(&said));
    })
}

/// The initramfs to boot: the user's file, or a fresh one that lives as long as the machine.
enum Initrd {
    Given(PathBuf),
    Made(tempfile::NamedTempFile),
}
impl Initrd {
    fn path(&self) -> &std::path::Path {
        match self {
            Initrd::Given(p) => p,
            Initrd::Made(f) => f.path(),
        }
    }
}
fn initrd(m: &MachineArgs, contents: Contents<'_>) -> Result<Initrd> {
    match &m.initramfs {
        Some(p) => Ok(Initrd::Given(existing(p)?)),
        None => Ok(Initrd::Made(initramfs::pack(contents)?)),
    }
}
