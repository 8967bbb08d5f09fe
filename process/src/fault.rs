//! Page faults of user memory: finds the address space of the running thread and lets `mm` serve it.

use frame::{
    atomic::Ordering::Relaxed,
    paging::{Access, Fault, FaultHandler, Origin},
};

use crate::process::try_current;

struct Handler;

impl FaultHandler for Handler {
    fn handle(&self, va: usize, access: Access, _from: Origin) -> Result<(), Fault> {
        let Some(me) = try_current() else { return Err(Fault::SegvMaperr) };
        let Some(mm) = me.process.mm() else { return Err(Fault::SegvMaperr) };
        me.min_faults.fetch_add(1, Relaxed);
        mm.handle_fault(va, access)
    }
}

static HANDLER: Handler = Handler;

/// Connects the hardware's page faults with `mm`.
pub(crate) fn install() {
    frame::paging::install_fault_handler(&HANDLER);
}
