//! `/sys/devices/system/cpu`: which processors there are, and the switches. Formats: `Documentation/ABI/testing/sysfs-devices-system-cpu`.
//! A processor that is plugged in is a device of the bus `cpu`; `online` and `offline` are told as uevents when its file `online` is written.

use alloc::{format, sync::Arc};

use base::{
    Errno, Result, cpulist, cpumask,
    model::{Bus, Device, Spec, Subsystem},
    tree::{self, Out},
    uevent::Action,
};
use frame::{
    atomic::Ordering,
    cpu::{CpuId, CpuMask, MAX_CPUS},
    sync::LockClass,
};

use super::{cpu, cpu_down, cpu_up, state};
use crate::topology;

const DIR: &str = "devices/system/cpu";

static BIND: LockClass = LockClass::new("cpu_bind");
static BUS: Bus = Bus::system("cpu", &BIND);

/// The processor's device, while it is plugged in.
fn device(c: CpuId) -> Option<Arc<Device>> {
    let name = format!("cpu{c}");
    BUS.devices().into_iter().find(|d| d.name() == name)
}

fn set_online(c: CpuId, on: bool) -> Result<()> {
    let changes = frame::cpu::online().contains(c) != on;
    if on {
        cpu_up(c)?
    } else {
        cpu_down(c)?
    }
    if changes && let Some(d) = device(c) {
        d.tell(if on { Action::Online } else { Action::Offline });
    }
    Ok(())
}

/// Only the two ends can be asked for: Linux's choice without `CONFIG_CPU_HOTPLUG_STATE_CONTROL`.
fn set_target(c: CpuId, b: &[u8]) -> Result<()> {
    match u32::try_from(tree::kstrto::<i32>(b)?) {
        Ok(state::OFFLINE) => cpu_down(c),
        Ok(state::ONLINE) => cpu_up(c),
        _ => Err(Errno::EINVAL),
    }
}

/// The next call of a state shall fail; −1: none. EINVAL for states that do not exist, have nothing to call, or may not fail: those of
/// the PREPARE section may not while the processor is up, since on the way down nothing stops there.
fn set_fail(c: CpuId, b: &[u8]) -> Result<()> {
    let n = tree::kstrto::<i32>(b)?;
    if n != -1 {
        let n = u32::try_from(n).map_err(|_| Errno::EINVAL)?;
        let st = state::step(n).ok_or(Errno::EINVAL)?;
        let may = match state::section(n) {
            state::Section::Prepare => cpu(c).state.load(Ordering::Relaxed) <= state::BRINGUP_CPU,
            state::Section::Starting => false,
            state::Section::Online => true,
        };
        if !may || (st.up.is_none() && st.down.is_none()) {
            return Err(Errno::EINVAL);
        }
    }
    cpu(c).fail.store(n, Ordering::Relaxed);
    Ok(())
}

fn set_files() -> Result<()> {
    let t = tree::sys();
    let file = |name: &str, f: fn() -> CpuMask| {
        t.file(&format!("{DIR}/{name}"), 0o444, move |o: &mut Out| Ok(writeln!(o, "{}", cpulist::text(f()))?))
    };
    file("possible", cpumask::all)?;
    file("present", frame::cpu::present)?;
    // Those that the firmware lets be used.
    file("enabled", frame::cpu::present)?;
    file("online", frame::cpu::online)?;
    file("offline", || CpuMask(cpumask::all().0 & !frame::cpu::online().0))?;
    // No processor is kept out of balancing: there is no parameter for it.
    file("isolated", || CpuMask::NONE)?;
    t.file(&format!("{DIR}/kernel_max"), 0o444, |o| Ok(writeln!(o, "{}", MAX_CPUS - 1)?))?;
    t.file(&format!("{DIR}/hotplug/states"), 0o444, |o| {
        for n in 0..=state::ONLINE {
            if let Some(s) = state::step(n) {
                writeln!(o, "{n:3}: {}", s.name)?;
            }
        }
        Ok(())
    })
}

fn hotplug_files(d: &Device, c: CpuId) -> Result<()> {
    if c != CpuId::BOOT {
        d.knob(
            "online",
            0o644,
            move |o| Ok(writeln!(o, "{}", u32::from(frame::cpu::online().contains(c)))?),
            move |b| set_online(c, tree::parse_bool(b)?),
        )?;
    }
    d.attribute("hotplug/state", 0o444, move |o| {
        Ok(writeln!(o, "{}", cpu(c).state.load(Ordering::Relaxed))?)
    })?;
    d.knob(
        "hotplug/target",
        0o644,
        move |o| Ok(writeln!(o, "{}", cpu(c).target.load(Ordering::Relaxed))?),
        move |b| set_target(c, b),
    )?;
    d.knob(
        "hotplug/fail",
        0o644,
        move |o| Ok(writeln!(o, "{}", cpu(c).fail.load(Ordering::Relaxed))?),
        move |b| set_fail(c, b),
    )
}

/// The processors that share something with one.
type Sharing = fn(CpuId) -> CpuMask;

fn topology_files(d: &Device, c: CpuId) -> Result<()> {
    let (core, package) = topology::ids_of(c);
    let number = |name: &str, n: u32| {
        d.attribute(&format!("topology/{name}"), 0o444, move |o| Ok(writeln!(o, "{n}")?))
    };
    number("physical_package_id", package)?;
    number("die_id", 0)?;
    number("core_id", core)?;
    let sets: [(_, _, Sharing); 2] = [
        ("core_cpus", "thread_siblings", topology::core_of),
        ("package_cpus", "core_siblings", topology::package_of),
    ];
    for (new, old, of) in sets {
        let siblings = move || of(c).and(frame::cpu::online());
        for name in [new, old] {
            let path = format!("topology/{name}");
            d.attribute(&path, 0o444, move |o| Ok(writeln!(o, "{}", cpumask::text(siblings()))?))?;
            d.attribute(&format!("{path}_list"), 0o444, move |o| {
                Ok(writeln!(o, "{}", cpulist::text(siblings()))?)
            })?;
        }
    }
    Ok(())
}

/// Makes the folder of a processor that is plugged in, and tells user space.
pub(super) fn add(c: CpuId) -> Result<()> {
    let d = Device::new(Spec {
        name: format!("cpu{c}"),
        parent: None,
        subsystem: Subsystem::Bus(&BUS),
        variables: None,
        data: None,
    })?;
    if let Err(e) = hotplug_files(&d, c).and_then(|()| topology_files(&d, c)) {
        d.discard();
        return Err(e);
    }
    d.announce();
    Ok(())
}

/// The folder goes with the processor.
pub(super) fn remove(c: CpuId) {
    if let Some(d) = device(c) {
        d.remove();
    }
}

pub(super) fn init() -> Result<()> {
    BUS.register()?;
    set_files()?;
    frame::cpu::present().iter().try_for_each(add)
}
