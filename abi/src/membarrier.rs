//! membarrier(2): barriers on the side that is rarely there, so that the other side needs none.
//!
//! The global command waits for a grace period of RCU: every processor that runs user code has come through the kernel. The expedited
//! ones interrupt the processors instead, but those only that run the processes that registered. Leaving the kernel by `iret`
//! also makes a processor forget what it fetched, which is what the `SYNC_CORE` commands ask for. Restartable sequences do not
//! exist here, nor do their commands.

use base::{Errno, Result};
use frame::{
    atomic::{Ordering::SeqCst, fence},
    cpu::{self, CpuMask},
    sync::rcu,
    user::Regs,
};
use linux_raw_sys::general::membarrier_cmd as cmd;
use process::{current, tree::TREE};

use crate::args::{Args, Ret};

const QUERY: u32 = cmd::MEMBARRIER_CMD_QUERY as u32;
const GLOBAL: u32 = cmd::MEMBARRIER_CMD_GLOBAL as u32;
const GLOBAL_EXPEDITED: u32 = cmd::MEMBARRIER_CMD_GLOBAL_EXPEDITED as u32;
const REGISTER_GLOBAL_EXPEDITED: u32 = cmd::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED as u32;
const PRIVATE_EXPEDITED: u32 = cmd::MEMBARRIER_CMD_PRIVATE_EXPEDITED as u32;
const REGISTER_PRIVATE_EXPEDITED: u32 = cmd::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED as u32;
const PRIVATE_EXPEDITED_SYNC_CORE: u32 = cmd::MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE as u32;
const REGISTER_PRIVATE_EXPEDITED_SYNC_CORE: u32 =
    cmd::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE as u32;
const GET_REGISTRATIONS: u32 = cmd::MEMBARRIER_CMD_GET_REGISTRATIONS as u32;
const ALL: u32 = GLOBAL
    | GLOBAL_EXPEDITED
    | REGISTER_GLOBAL_EXPEDITED
    | PRIVATE_EXPEDITED
    | REGISTER_PRIVATE_EXPEDITED
    | PRIVATE_EXPEDITED_SYNC_CORE
    | REGISTER_PRIVATE_EXPEDITED_SYNC_CORE
    | GET_REGISTRATIONS;

fn interrupt(on: CpuMask) {
    // Before and after: what the caller did is seen there, and what was done there by the caller.
    fence(SeqCst);
    cpu::call_each(on, || fence(SeqCst));
    fence(SeqCst);
}

/// From now on the process may ask for a command, or is reached by the others'. Whoever asks already finds it, or its threads come
/// through a barrier here.
fn register(bits: u32) {
    let me = current();
    if me.process.membarrier.fetch_or(bits, SeqCst) & bits != bits && cpu::online().count() > 1 {
        rcu::synchronize();
    }
}

fn private(needs: u32) -> Result<()> {
    let me = current();
    if me.process.membarrier.load(SeqCst) & needs == 0 {
        return Err(Errno::EPERM);
    }
    interrupt(me.process.processors());
    Ok(())
}

fn global_expedited() {
    let mut on = CpuMask::NONE;
    {
        let tree = TREE.lock();
        let registered =
            tree.iter().filter(|(_, n)| n.what.membarrier.load(SeqCst) & REGISTER_GLOBAL_EXPEDITED != 0);
        registered.for_each(|(_, n)| on = on.or(n.what.processors()));
    }
    interrupt(on);
}

pub(crate) fn membarrier(r: &mut Regs) -> Ret {
    // No command here takes flags.
    if r.uint::<1>() != 0 {
        return Err(Errno::EINVAL);
    }
    match r.uint::<0>() {
        QUERY => return Ok(ALL as usize),
        GLOBAL => {
            if cpu::online().count() > 1 {
                rcu::synchronize();
            }
        }
        GLOBAL_EXPEDITED => global_expedited(),
        PRIVATE_EXPEDITED => private(REGISTER_PRIVATE_EXPEDITED)?,
        PRIVATE_EXPEDITED_SYNC_CORE => private(REGISTER_PRIVATE_EXPEDITED_SYNC_CORE)?,
        c @ (REGISTER_GLOBAL_EXPEDITED
        | REGISTER_PRIVATE_EXPEDITED
        | REGISTER_PRIVATE_EXPEDITED_SYNC_CORE) => {
            register(c);
        }
        GET_REGISTRATIONS => {
            let all = current().process.membarrier.load(SeqCst);
            // Who registers for the stronger one is shown with the weaker too, though it may not ask for that.
            let too = all & REGISTER_PRIVATE_EXPEDITED_SYNC_CORE != 0;
            return Ok((all | if too { REGISTER_PRIVATE_EXPEDITED } else { 0 }) as usize);
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
