//! The trace events of processor hotplug, with Linux's fields and texts.

base::trace_event! {
    /// A state's function is about to be called.
    pub(crate) struct cpuhp_enter in "cpuhp" {
        cpu: u32 = "unsigned int",
        target: i32 = "int",
        idx: i32 = "int",
        fun: u64 = "void *",
    }
    format r#""cpu: %04u target: %3d step: %3d (%ps)", REC->cpu, REC->target, REC->idx, REC->fun"#;
    print "cpu: {cpu:04} target: {target:3} step: {idx:3} ({})", Function(fun)
}

base::trace_event! {
    /// It has been.
    pub(crate) struct cpuhp_exit in "cpuhp" {
        cpu: u32 = "unsigned int",
        state: i32 = "int",
        idx: i32 = "int",
        ret: i32 = "int",
    }
    format r#"" cpu: %04u  state: %3d step: %3d ret: %d", REC->cpu, REC->state, REC->idx, REC->ret"#;
    print " cpu: {cpu:04}  state: {state:3} step: {idx:3} ret: {ret}"
}

/// The name of a function, or its address where the image has no symbols.
struct Function(u64);

impl core::fmt::Display for Function {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match frame::report::symbol(self.0) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{:#x}", self.0),
        }
    }
}

pub(crate) fn register() {
    base::trace::register(&[cpuhp_enter::event(), cpuhp_exit::event()]);
}
