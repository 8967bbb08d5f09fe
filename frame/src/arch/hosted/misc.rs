//! Console, ends, FPU image, clock.

use core::cell::UnsafeCell;

use super::{cpu, point};
use crate::{report::Registers, sim};

/// Raw bytes to the console. In a simulation they are kept and shown if the run fails; otherwise they go to stderr.
pub fn console_write(bytes: &[u8]) {
    if cpu::active() {
        sim::console(bytes);
    } else {
        std::eprint!("{}", String::from_utf8_lossy(bytes));
    }
}

/// Ends the run well.
pub fn power_off() -> ! {
    if cpu::active() {
        sim::finish(sim::End::Ok);
    }
    panic!("power_off outside of a simulation")
}

/// Ends the run well: a simulation does not boot again.
pub fn reset() -> ! {
    if cpu::active() {
        sim::finish(sim::End::Ok);
    }
    panic!("reset outside of a simulation")
}

/// Stops this processor for ever.
pub fn halt_forever() -> ! {
    if cpu::active() {
        point::stop();
    }
    panic!("halt outside of a simulation")
}

/// 2023-11-14 22:13:20 UTC, in nanoseconds.
pub fn wall_clock_at_boot_ns() -> u64 {
    1_700_000_000_000_000_000
}

/// Simulated programs have no instruction that reads the simulated clock.
pub fn vdso_code() -> Option<crate::vdso::Code> {
    None
}

/// The simulated clock counts nanoseconds.
pub fn tsc_hz() -> u64 {
    1_000_000_000
}

/// Simulated processors have no other number.
pub fn hardware_id(cpu: u32) -> u32 {
    cpu
}

/// The simulated processor has no features to name.
pub fn cpuid(_leaf: u32, _sub: u32) -> [u32; 4] {
    [0; 4]
}

/// A panic ends the run, so there is nothing to do after its report.
pub fn install_panic_action(_f: fn(&core::panic::PanicInfo<'_>)) -> bool {
    false
}

/// Prints where the caller is and how it got there.
pub fn backtrace_here() {
    console_write(sim::backtrace().as_bytes());
}

/// Prints what every processor and watched task does.
pub fn nmi_backtrace_all() {
    if cpu::active() {
        let text = point::undisturbed(|| sim::state() + &sim::places());
        console_write(text.as_bytes());
    }
}

/// A fiber's frames are the host's.
pub fn frames_here(_show: impl FnMut(u64)) {}
/// As above.
pub fn interrupted(_show: impl FnMut(u64)) -> Option<Registers> {
    None
}
/// There is no NMI.
pub fn ask_frames(_cpu: u32, _show: impl FnMut(u64)) -> Option<Registers> {
    None
}

/// A fiber's frames are the host's.
pub fn saved_frames(
    _context: *const super::Context,
    _stack: core::ops::Range<usize>,
    _show: impl FnMut(u64),
) {
}

/// The host's backtraces carry their names already.
pub fn symbol(_addr: u64) -> Option<(&'static str, u64)> {
    None
}

/// And there is no table of them.
pub fn nth_symbol(_i: usize) -> Option<(&'static str, u64)> {
    None
}

/// Bytes of the image: what FXSAVE stores.
const FPU_LEN: usize = 512;

/// An image in memory that refused to be a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadImage;

/// FPU state of a user task. Simulated programs are native code whose registers survive a trap by the calling convention, so this
/// is only the image that signal frames show.
pub struct Fpu(UnsafeCell<[u8; FPU_LEN]>);

// SAFETY: `task` touches the state of a task only where nothing else can (see `Task`).
unsafe impl Send for Fpu {}
// SAFETY: as above.
unsafe impl Sync for Fpu {}

impl Fpu {
    /// The state at the start of a program: control word 0x37f, MXCSR 0x1f80.
    pub fn new() -> Option<Fpu> {
        let mut b = [0; FPU_LEN];
        b[0..2].copy_from_slice(&0x37fu16.to_le_bytes());
        b[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
        b[28..32].copy_from_slice(&0xffffu32.to_le_bytes());
        Some(Fpu(UnsafeCell::new(b)))
    }
    /// No state is live but what `new` gives.
    pub fn clone_from_live() -> Option<Fpu> {
        Self::new()
    }
    /// # Safety
    /// Interrupts are off and the live state is this task's.
    pub unsafe fn save(&self) {}
    /// # Safety
    /// As for [`save`](Self::save).
    pub unsafe fn restore(&self) {}
    /// A copy.
    pub fn try_clone(&self) -> Option<Fpu> {
        Some(Fpu(UnsafeCell::new(self.bytes())))
    }
    fn bytes(&self) -> [u8; FPU_LEN] {
        // SAFETY: nothing writes it but `set_image`, which has `&mut self`.
        unsafe { *self.0.get() }
    }
    /// The state as in a signal frame, without the extension that magic numbers announce.
    pub fn image(&self) -> Option<Vec<u8>> {
        Some(self.bytes().to_vec())
    }
    /// Bytes of a signal frame's FPU part.
    pub fn frame_len() -> usize {
        FPU_LEN
    }
    /// Writes the state to a signal frame. False on a fault.
    ///
    /// # Safety
    /// This is the running task's own state. The user range lies below `user::END`.
    pub unsafe fn to_user(&self, uva: usize) -> bool {
        let b = self.bytes();
        // SAFETY: readable; the user range is the caller's promise.
        unsafe { super::user_write(uva, b.as_ptr(), FPU_LEN) == 0 }
    }
    /// Takes over an image from a signal frame; only the running task calls it for its own state.
    pub fn from_user(&self, uva: usize) -> Result<(), BadImage> {
        let mut bytes = [0; FPU_LEN];
        crate::user::copy_from_user(&mut bytes, uva).map_err(|_| BadImage)?;
        // Reserved bits of MXCSR.
        if u32::from_le_bytes([bytes[24], bytes[25], bytes[26], bytes[27]]) & !0xffff != 0 {
            return Err(BadImage);
        }
        // SAFETY: a task's own state, which only that task touches while it runs.
        unsafe { *self.0.get() = bytes };
        Ok(())
    }
}

/// A simulated processor has no random numbers: what is drawn must follow from the seed.
pub fn hardware_random() -> Option<u64> {
    None
}
