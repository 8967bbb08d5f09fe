//! Page faults, from the processor's error code to the handler that `mm` installs.

use crate::{arch, context, sync::once::Once, user};

/// What the program tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    Read,
    Write,
    Exec,
}

/// Bits of the error code (Intel SDM volume 3, 4.7).
const WRITE: u64 = 1 << 1;
const RESERVED: u64 = 1 << 3;
const FETCH: u64 = 1 << 4;

impl Access {
    #[inline]
    pub fn from_error(error: u64) -> Access {
        if error & FETCH != 0 {
            Access::Exec
        } else if error & WRITE != 0 {
            Access::Write
        } else {
            Access::Read
        }
    }
}

/// Who tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The program itself.
    User,
    /// The kernel, copying for it.
    Kernel,
}

/// Why a fault cannot be made good; what becomes of the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// `SIGSEGV`, `SEGV_MAPERR`: nothing is mapped there.
    SegvMaperr,
    /// `SIGSEGV`, `SEGV_ACCERR`: something is, but not for this access.
    SegvAccerr,
    /// `SIGBUS`: beyond the end of the file, or it could not be read.
    Bus,
    /// No memory, and the OOM killer chose this program or could not help.
    OutOfMemory,
}

/// What `mm` provides. Called with interrupts on, in task context; may sleep.
pub trait FaultHandler: Sync {
    /// Makes the access possible, or says why not. Returning `Ok` for a fault that is over already (another thread was faster) is right.
    fn handle(&self, va: usize, access: Access, from: Origin) -> Result<(), Fault>;
}

static HANDLER: Once<&'static dyn FaultHandler> = Once::new();

/// Installs the handler; the first call decides.
pub fn install_fault_handler(h: &'static dyn FaultHandler) {
    HANDLER.call_once(|| h);
}

#[inline]
fn call(va: usize, access: Access, from: Origin) -> Result<(), Fault> {
    match HANDLER.get() {
        Some(h) if va < user::END => h.handle(va, access, from),
        _ => Err(Fault::SegvMaperr),
    }
}

/// A fault of the user program: what [`user::run`] calls.
#[inline]
pub fn handle_user_fault(va: usize, access: Access) -> Result<(), Fault> {
    call(va, access, Origin::User)
}

/// Why a kernel-mode access to user memory ends short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultError {
    /// The address is the kernel's own. Outside of the `user_…` primitives this is a kernel bug.
    KernelAddress,
    /// In atomic context the handler, which may sleep, is not asked.
    Atomic,
    /// The handler refused.
    Refused(Fault),
}

/// What a back end calls for a page fault, with interrupts off. `irqs_were_on` says whether they were on where it happened; if so they are
/// on while the handler runs. `Ok` means: try the instruction again.
///
/// # Panics
/// If the processor found a reserved bit set: a page table is corrupt.
pub fn on_fault(va: usize, error: u64, from_user: bool, irqs_were_on: bool) -> Result<(), FaultError> {
    assert!(error & RESERVED == 0, "corrupt page table: fault at {va:#x} with error {error:#x}");
    if va >= user::END && !from_user {
        return Err(FaultError::KernelAddress);
    }
    if !irqs_were_on || context::word() != 0 {
        return Err(FaultError::Atomic);
    }
    arch::irq_enable();
    let r = call(va, Access::from_error(error), if from_user { Origin::User } else { Origin::Kernel });
    arch::irq_disable();
    r.map_err(FaultError::Refused)
}
