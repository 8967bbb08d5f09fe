//! Serial ports of PCs, COM1 to COM4: `/dev/ttyS0` to `/dev/ttyS3`, and the console of a virtual machine.
//!
//! Output goes into a ring that the transmitter-empty interrupt drains, 16 bytes at a time (the depth of a 16550's FIFO). Received
//! bytes go into another ring, from which the terminal takes them through its line discipline. The kernel's own messages bypass the
//! rings: `frame::console` polls them out on COM1, so that they appear even if nothing else works.
//!
//! Ports share interrupt lines (1 and 3, 2 and 4), and a PC's lines signal by edges: a port that asks while its neighbour's
//! question still stands makes no edge. So one handler serves all ports of a line until none of them asks.
//!
//! What cannot be done in an interrupt (a hang-up when the carrier is lost, SIGINT for a break, a SysRq key) is a work item.
//!
//! Missing: open does not wait for the carrier, and the last close does not wait for output to be sent; `TIOCSSERIAL`; 16750 and
//! older 8250 ports.
//!
//! | file | what |
//! |---|---|
//! | `uart` | the registers |
//! | `settings` | what termios means to them |
//! | `port` | rings, flow control, modem lines |

use alloc::{sync::Arc, vec::Vec};

use base::{Result, device::DevNum, params, resource};
use frame::{
    irq::{self, Handled, Share},
    sync::once::Once,
};
use sched::workqueue::{self, Work};

mod port;
mod settings;
mod uart;

use port::Found;
pub use port::Port;

use crate::tty::{self, Tty};

/// First I/O port and ISA interrupt of COM1 to COM4.
const PLACES: [(u16, u32); 4] = [(0x3f8, 4), (0x2f8, 3), (0x3e8, 4), (0x2e8, 3)];
/// `/dev/ttySn` is 4:64+n.
const MAJOR: u32 = 4;
const FIRST_MINOR: u32 = 64;
/// Rounds over the ports of a line before it is left to the next interrupt.
const MAX_ROUNDS: usize = 64;

/// Finds the ports and makes their terminals. The first one is the console.
pub(crate) fn init() -> Result<()> {
    let ports: Vec<Arc<Port>> = PLACES
        .iter()
        .enumerate()
        .filter_map(|(i, &(base, irq))| Port::probe(i as u32, base, irq, i == 0))
        .collect();
    for p in &ports {
        resource::PORTS.insert(u64::from(p.base), u64::from(p.base) + 7, "serial")?;
        let num = DevNum::new(MAJOR, FIRST_MINOR + p.index);
        let tty = Tty::new(&p.name(), num, p.clone())?;
        set_options(p, &tty);
        make_follow_up(p, &tty)?;
        tty::nodes::register(&tty, 0o600)?;
        if p.index == 0 {
            tty::nodes::register_console(&tty)?;
        }
    }
    for line in [4, 3] {
        let here: Vec<Arc<Port>> = ports.iter().filter(|p| p.irq == line).cloned().collect();
        if !here.is_empty() {
            connect(line, here)?;
        }
    }
    base::tree::proc().file("tty/driver/serial", 0o400, move |o| {
        writeln!(o, "serinfo:1.0 driver revision:")?;
        ports.iter().try_for_each(|p| Ok(writeln!(o, "{}", p.report())?))
    })
}

/// `console=ttyS0,115200n8` sets the port that it names.
fn set_options(p: &Port, tty: &Tty) {
    let named = params::get("console").and_then(|c| c.strip_prefix(p.name().as_str())?.strip_prefix(','));
    let Some((speed, parity, bits, flow)) = named.and_then(settings::console_options) else { return };
    tty.configure(|t| t.set_line(speed, parity, bits, flow));
}

/// What is done about [`Found`] in a task.
struct FollowUp {
    hang_up: Arc<Work>,
    break_signal: Arc<Work>,
}

static FOLLOW_UPS: [Once<FollowUp>; PLACES.len()] = [const { Once::new() }; PLACES.len()];

fn make_follow_up(p: &Port, tty: &Arc<Tty>) -> Result<()> {
    let (a, b) = (tty.clone(), tty.clone());
    let works = FollowUp {
        hang_up: Work::new("do_tty_hangup", move |_| a.hang_up())?,
        break_signal: Work::new("serial_break", move |_| b.break_received())?,
    };
    FOLLOW_UPS[p.index as usize].call_once(|| works);
    Ok(())
}

/// Leaves to work items what an interrupt may not do. From any context.
fn follow_up(p: &Port, found: Found) {
    let Some(works) = FOLLOW_UPS[p.index as usize].get() else { return };
    if found.hang_up {
        workqueue::schedule_work(&works.hang_up);
    }
    if found.interrupt {
        workqueue::schedule_work(&works.break_signal);
    }
    if let Some(key) = found.sysrq {
        crate::sysrq::typed(key);
    }
}

fn connect(line: u32, ports: Vec<Arc<Port>>) -> Result<()> {
    let name = ports[0].name();
    let mine = ports.clone();
    match irq::request_line(irq::isa_line(line), &name, Share::Shared, move || serve(&mine)) {
        // For good.
        Ok(handle) => core::mem::forget(handle),
        Err(e) => {
            base::pr_warn!("serial8250: {name} has no interrupt line {line}: {e:?}");
            return Ok(());
        }
    }
    for p in &ports {
        p.start();
        base::pr_info!(
            "serial8250: {} at I/O {:#x} (irq = {line}, base_baud = {}) is a 16550A",
            p.name(),
            p.base,
            settings::BASE_BAUD
        );
    }
    Ok(())
}

fn serve(ports: &[Arc<Port>]) -> Handled {
    let mut handled = Handled::No;
    for _ in 0..MAX_ROUNDS {
        let mut any = false;
        for p in ports {
            if let Some(found) = p.interrupt() {
                any = true;
                follow_up(p, found);
            }
        }
        if !any {
            break;
        }
        handled = Handled::Yes;
    }
    handled
}
