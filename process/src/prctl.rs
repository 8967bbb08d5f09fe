//! `prctl(2)`: the options that act on what there is here; others are `EINVAL`.

use base::{Errno, Result, cred::cap};
use frame::{atomic::Ordering::Relaxed, user};
use linux_raw_sys::prctl as pr;

use crate::{ids, process::current, signal::set, tree::TREE};

const SECBIT_KEEP_CAPS: u32 = 16;
const SECUREBITS_ALL: u32 = 0xff;

/// The result; arguments as the program gave them.
pub fn prctl(option: u32, a: [u64; 4]) -> Result<u64> {
    let me = current();
    match option {
        pr::PR_SET_PDEATHSIG => {
            if a[0] > set::NSIG as u64 {
                return Err(Errno::EINVAL);
            }
            me.pdeath_signal.store(a[0] as u32, Relaxed);
            Ok(0)
        }
        pr::PR_GET_PDEATHSIG => store(a[0], me.pdeath_signal.load(Relaxed)),
        pr::PR_GET_DUMPABLE => Ok(me.process.dumpable.load(Relaxed) as u64),
        pr::PR_SET_DUMPABLE => {
            if a[0] > 1 {
                return Err(Errno::EINVAL);
            }
            me.process.dumpable.store(a[0] == 1, Relaxed);
            Ok(0)
        }
        pr::PR_SET_NAME => {
            let mut name = [0; 15];
            let n = user::read_user_str(a[0] as usize, &mut name)?;
            crate::trace::renamed(&me.task_ref(), &name[..n]);
            sched::me().set_comm_bytes(&name[..n]);
            Ok(0)
        }
        pr::PR_GET_NAME => {
            let mut name = [0; 16];
            let c = sched::me().comm();
            name[..c.as_bytes().len()].copy_from_slice(c.as_bytes());
            user::copy_to_user(a[0] as usize, &name)?;
            Ok(0)
        }
        pr::PR_GET_KEEPCAPS => Ok((me.cred().securebits & SECBIT_KEEP_CAPS != 0) as u64),
        pr::PR_SET_KEEPCAPS => {
            if a[0] > 1 {
                return Err(Errno::EINVAL);
            }
            ids::adjust(|c| {
                c.securebits =
                    c.securebits & !SECBIT_KEEP_CAPS | if a[0] == 1 { SECBIT_KEEP_CAPS } else { 0 };
                Ok(())
            })?;
            Ok(0)
        }
        pr::PR_GET_SECUREBITS => Ok(me.cred().securebits as u64),
        pr::PR_SET_SECUREBITS => {
            let new = a[0];
            ids::adjust(|c| {
                // Each second bit locks the one before it.
                let locked = c.securebits & 0xaa;
                let changed = c.securebits ^ new as u32;
                let against_lock = changed & (locked | locked >> 1) != 0;
                if new & !(SECUREBITS_ALL as u64) != 0 || against_lock || !c.has_cap(cap::SETPCAP) {
                    return Err(Errno::EPERM);
                }
                c.securebits = new as u32;
                Ok(())
            })?;
            Ok(0)
        }
        pr::PR_CAPBSET_READ if a[0] <= cap::LAST as u64 => Ok(me.cred().cap_bounding >> a[0] & 1),
        pr::PR_CAPBSET_DROP if a[0] <= cap::LAST as u64 => {
            ids::adjust(|c| {
                if !c.has_cap(cap::SETPCAP) {
                    return Err(Errno::EPERM);
                }
                c.cap_bounding &= !(1 << a[0]);
                Ok(())
            })?;
            Ok(0)
        }
        pr::PR_SET_NO_NEW_PRIVS => {
            if a != [1, 0, 0, 0] {
                return Err(Errno::EINVAL);
            }
            ids::adjust(|c| {
                c.no_new_privs = true;
                Ok(())
            })?;
            Ok(0)
        }
        pr::PR_GET_NO_NEW_PRIVS => Ok(me.cred().no_new_privs as u64),
        pr::PR_SET_CHILD_SUBREAPER => {
            if let Some(n) = TREE.lock().get_mut(me.process.pid()) {
                n.subreaper = a[0] != 0;
            }
            Ok(0)
        }
        pr::PR_GET_CHILD_SUBREAPER => {
            let is = TREE.lock().get(me.process.pid()).is_some_and(|n| n.subreaper);
            store(a[0], is as u32)
        }
        pr::PR_GET_TIMERSLACK => Ok(me.timer_slack_ns.load(Relaxed)),
        pr::PR_SET_TIMERSLACK => {
            me.timer_slack_ns.store(if a[0] == 0 { 50_000 } else { a[0] }, Relaxed);
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

fn store(at: u64, v: u32) -> Result<u64> {
    user::copy_to_user(at as usize, &v.to_le_bytes())?;
    Ok(0)
}
