//! Calls on scheduling: policies, nice values, affinity.
//!
//! May one task change another? Its effective or real user must be the caller's effective one, or the caller has `CAP_SYS_NICE`.

use alloc::vec::Vec;

use ::sched::{Policy, TaskRef, rt, thread};
use base::{Errno, Result, cred::cap};
use frame::{
    cpu::{self, CpuMask},
    user::{self, Regs},
};
use linux_raw_sys::general as raw;
use process::{current, data, rlimit};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::args::{Args, Ret, get, get_growing, put, split_ns};

/// A task by number; 0: the caller.
fn target(pid: i32) -> Result<TaskRef> {
    match pid {
        0 => Ok(current().task_ref()),
        p if p < 0 => Err(Errno::EINVAL),
        p => ::sched::pid::find(p as u32).ok_or(Errno::ESRCH),
    }
}

fn may_change(t: &TaskRef) -> Result<()> {
    let c = current().cred();
    if c.has_cap(cap::SYS_NICE) {
        return Ok(());
    }
    match data(t).map(|d| d.cred()) {
        Some(o) if c.euid == o.euid || c.euid == o.uid => Ok(()),
        _ => Err(Errno::EPERM),
    }
}

/// `EACCES` or what the caller says, if a nice value is lower than `RLIMIT_NICE` allows (it counts 20 - nice).
fn may_nice(t: &TaskRef, nice: i32, err: Errno) -> Result<()> {
    let limit = data(t).map_or(0, |d| d.process.limit(rlimit::NICE));
    if nice >= thread(t).nice() as i32
        || (20 - nice) as u64 <= limit
        || current().cred().has_cap(cap::SYS_NICE)
    {
        Ok(())
    } else {
        Err(err)
    }
}

pub(crate) fn sched_yield(_: &mut Regs) -> Ret {
    ::sched::yield_now();
    Ok(0)
}

pub(crate) fn sched_setaffinity(r: &mut Regs) -> Ret {
    let mut mask = [0u8; 8];
    let n = r.size::<1>().min(8);
    user::copy_from_user(&mut mask[..n], r.size::<2>())?;
    let t = target(r.int::<0>())?;
    may_change(&t)?;
    ::sched::set_affinity(&t, CpuMask(u64::from_le_bytes(mask)))?;
    Ok(0)
}
pub(crate) fn sched_getaffinity(r: &mut Regs) -> Ret {
    let len = r.size::<1>();
    if len.saturating_mul(8) < cpu::possible() || !len.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let t = target(r.int::<0>())?;
    put(r.size::<2>(), &thread(&t).affinity().and(::sched::place::active()).0)?;
    Ok(8)
}

/// Sets policy and nice value under Linux's rules for the unprivileged.
fn set(t: &TaskRef, policy: Policy, nice: i32) -> Ret {
    let c = current().cred();
    may_change(t)?;
    if !c.has_cap(cap::SYS_NICE) {
        let old = thread(t).policy();
        let rt_limit = data(t).map_or(0, |d| d.process.limit(rlimit::RTPRIO));
        let prio = policy.rt_priority();
        let more_urgent = prio > old.rt_priority() && prio as u64 > rt_limit;
        let other_kind = policy.is_rt() && policy.number() != old.number() && rt_limit == 0;
        if more_urgent || other_kind {
            return Err(Errno::EPERM);
        }
        if !policy.is_rt() {
            may_nice(t, nice, Errno::EPERM)?;
        }
        // Out of SCHED_IDLE only as far as the nice limit goes.
        if old == Policy::Idle && policy != Policy::Idle {
            let limit = data(t).map_or(0, |d| d.process.limit(rlimit::NICE));
            if (20 - thread(t).nice() as i32) as u64 > limit {
                return Err(Errno::EPERM);
            }
        }
    }
    ::sched::set_policy(t, policy, nice as i8)?;
    Ok(0)
}

/// `SCHED_RESET_ON_FORK` is accepted nowhere: it would promise what fork does not keep.
fn policy(number: u32, priority: u32) -> Result<Policy> {
    Policy::from_number(number, priority).ok_or(Errno::EINVAL)
}

pub(crate) fn sched_setscheduler(r: &mut Regs) -> Ret {
    if r.int::<1>() < 0 || r.int::<0>() < 0 || r.ptr::<2>().is_none() {
        return Err(Errno::EINVAL);
    }
    let prio: u32 = get(r.size::<2>())?;
    let t = target(r.int::<0>())?;
    let nice = thread(&t).nice() as i32;
    set(&t, policy(r.uint::<1>(), prio)?, nice)
}
pub(crate) fn sched_setparam(r: &mut Regs) -> Ret {
    if r.int::<0>() < 0 || r.ptr::<1>().is_none() {
        return Err(Errno::EINVAL);
    }
    let prio: u32 = get(r.size::<1>())?;
    let t = target(r.int::<0>())?;
    let (old, nice) = (thread(&t).policy(), thread(&t).nice() as i32);
    set(&t, policy(old.number(), prio)?, nice)
}
pub(crate) fn sched_getscheduler(r: &mut Regs) -> Ret {
    Ok(thread(&*target(r.int::<0>())?).policy().number() as usize)
}
pub(crate) fn sched_getparam(r: &mut Regs) -> Ret {
    let at = r.ptr::<1>().ok_or(Errno::EINVAL)?;
    put(at, &(thread(&*target(r.int::<0>())?).policy().rt_priority() as u32))?;
    Ok(0)
}
/// The range of priorities that a policy has.
fn priorities(policy: u32) -> Result<(usize, usize)> {
    match policy {
        raw::SCHED_FIFO | raw::SCHED_RR => Ok((1, 99)),
        raw::SCHED_NORMAL | raw::SCHED_BATCH | raw::SCHED_IDLE | raw::SCHED_DEADLINE => Ok((0, 0)),
        _ => Err(Errno::EINVAL),
    }
}
pub(crate) fn sched_get_priority_min(r: &mut Regs) -> Ret {
    priorities(r.uint::<0>()).map(|p| p.0)
}
pub(crate) fn sched_get_priority_max(r: &mut Regs) -> Ret {
    priorities(r.uint::<0>()).map(|p| p.1)
}
/// The base slice of the fair class, which Linux shows for its tasks: 0.75 ms times (1 + log2 of the processors, at most 8).
const FAIR_SLICE_NS: u64 = 750_000;

pub(crate) fn sched_rr_get_interval(r: &mut Regs) -> Ret {
    let ns = match thread(&*target(r.int::<0>())?).policy() {
        Policy::Fifo(_) => 0,
        Policy::Rr(_) => rt::RR_QUANTUM_NS,
        _ => FAIR_SLICE_NS * (1 + cpu::online().count().clamp(1, 8).ilog2() as u64),
    };
    put(r.size::<1>(), &split_ns(ns))?;
    Ok(0)
}

/// `struct sched_attr`, the version with utilization clamps.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    util_min: u32,
    util_max: u32,
}
/// `SCHED_ATTR_SIZE_VER0`.
const ATTR_MIN: usize = 48;

pub(crate) fn sched_setattr(r: &mut Regs) -> Ret {
    let (pid, at, flags) = (r.int::<0>(), r.ptr::<1>(), r.uint::<2>());
    let Some(at) = at.filter(|_| pid >= 0 && flags == 0) else { return Err(Errno::EINVAL) };
    let size = match get::<u32>(at)? as usize {
        0 => ATTR_MIN,
        n => n,
    };
    let known = size_of::<SchedAttr>();
    let a = match size {
        n if !(ATTR_MIN..=4096).contains(&n) => Err(Errno::E2BIG),
        n => get_growing::<SchedAttr>(at, n),
    };
    let a = a.inspect_err(|e| {
        if *e == Errno::E2BIG {
            // As Linux: the program learns what size there is.
            let _ = put(at, &(known as u32));
        }
    })?;
    if a.flags != 0 || (a.policy as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let t = target(pid)?;
    set(&t, policy(a.policy, a.priority)?, a.nice.clamp(-20, 19))
}
pub(crate) fn sched_getattr(r: &mut Regs) -> Ret {
    let (pid, at, size, flags) = (r.int::<0>(), r.ptr::<1>(), r.uint::<2>() as usize, r.uint::<3>());
    let Some(at) = at.filter(|_| pid >= 0 && (ATTR_MIN..=4096).contains(&size) && flags == 0) else {
        return Err(Errno::EINVAL);
    };
    let t = target(pid)?;
    let p = thread(&t).policy();
    let n = size.min(size_of::<SchedAttr>());
    let a = SchedAttr {
        size: n as u32,
        policy: p.number(),
        flags: 0,
        nice: if p.is_rt() { 0 } else { thread(&t).nice() as i32 },
        priority: p.rt_priority() as u32,
        runtime: 0,
        deadline: 0,
        period: 0,
        util_min: 0,
        util_max: 1024,
    };
    user::copy_to_user(at, &a.as_bytes()[..n])?;
    Ok(0)
}

/// The tasks that `getpriority` and `setpriority` mean.
fn group(which: u32, who: i32) -> Result<Vec<TaskRef>> {
    let mut out = Vec::new();
    let me = current();
    match which {
        raw::PRIO_PROCESS => out.push(target(who).map_err(|_| Errno::ESRCH)?),
        raw::PRIO_PGRP => {
            let tree = process::tree::TREE.lock();
            let own = tree.get(me.process.pid()).map_or(0, |n| n.pgid);
            let pgid = if who == 0 { own } else { who as u32 };
            for (_, n) in tree.group(pgid) {
                out.extend(n.what.threads());
            }
        }
        raw::PRIO_USER => {
            let uid = if who == 0 { me.cred().uid } else { who as u32 };
            ::sched::pid::for_each(|t| {
                if data(t).is_some_and(|d| d.cred().uid == uid) {
                    out.push(t.clone());
                }
            });
        }
        _ => return Err(Errno::EINVAL),
    }
    if out.is_empty() { Err(Errno::ESRCH) } else { Ok(out) }
}
pub(crate) fn getpriority(r: &mut Regs) -> Ret {
    // Shifted to 1 to 40, so that it cannot look like an error: the most favoured of all.
    let all = group(r.uint::<0>(), r.int::<1>())?;
    Ok(all.iter().map(|t| (20 - thread(t).nice() as i32) as usize).max().unwrap_or(20))
}
pub(crate) fn setpriority(r: &mut Regs) -> Ret {
    let nice = r.int::<2>().clamp(-20, 19);
    let mut result = Err(Errno::ESRCH);
    for t in group(r.uint::<0>(), r.int::<1>())? {
        let one = may_change(&t)
            .and_then(|()| may_nice(&t, nice, Errno::EACCES))
            .and_then(|()| ::sched::set_nice(&t, nice as i8));
        match one {
            Ok(()) if result == Err(Errno::ESRCH) => result = Ok(0),
            Ok(()) => {}
            Err(e) => result = Err(e),
        }
    }
    result
}

pub(crate) fn getcpu(r: &mut Regs) -> Ret {
    crate::args::put_opt(r.ptr::<0>(), &cpu::raw_id().get())?;
    crate::args::put_opt(r.ptr::<1>(), &0u32)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_have_linux_s_size() {
        assert_eq!(size_of::<SchedAttr>(), 56);
        assert_eq!(core::mem::offset_of!(SchedAttr, util_min), ATTR_MIN);
    }
    #[test]
    fn policies_have_their_priorities() {
        assert_eq!(priorities(raw::SCHED_FIFO), Ok((1, 99)));
        assert_eq!(priorities(4), Err(Errno::EINVAL));
        assert!(policy(raw::SCHED_NORMAL, 1).is_err() && policy(raw::SCHED_RR, 1).is_ok());
    }
}
