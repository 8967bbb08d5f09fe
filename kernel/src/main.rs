//! The bootable image: the order of start-up, and nothing else.
//!
//! ```text
//!   boot processor, interrupts off     log, memory, scheduler; PID 1 and PID 2 are made; becomes swapper/0
//!   init (PID 1), in the kernel        processors, daemons, file systems, drivers, initramfs; then /init
//! ```
#![no_std]
#![no_main]
#![forbid(unsafe_code)]
extern crate alloc;

use alloc::{boxed::Box, vec::Vec};

use base::{Result, pr_info, pr_notice};

frame::kernel_entry!(main);

fn main() -> ! {
    base::log::init();
    pr_notice!("Linux version {} (Nightshift) {}", fs::procfs::RELEASE, fs::procfs::VERSION);
    pr_info!("Command line: {}", frame::boot::info().command_line);
    mm::init();
    sched::init_boot_cpu();
    process::start_init(Box::new(start_rooms)).expect("memory for init");
    sched::start_kthreadd().expect("memory for kthreadd");
    sched::cpu_idle()
}

/// What the first process does while it is still in the kernel.
fn start_rooms() {
    let others = sched::start_other_cpus();
    pr_info!("smp: Brought up 1 node, {} CPUs", others + 1);
    if let Err(e) = try_start_rooms() {
        panic!("start-up failed: {e}");
    }
}

fn try_start_rooms() -> Result<()> {
    sched::start_daemons()?;
    sched::start_detectors()?;
    let root = fs::init()?;
    fs::start_daemons()?;
    net::init()?;
    process::init()?;
    process::init::set_arguments(base::params::params().init_args.clone(), Vec::new());
    abi::init();
    drivers::init()?;
    fs::initramfs::populate_rootfs(&root);
    Ok(())
}
