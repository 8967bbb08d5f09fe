//! Trace events of work queues, `workqueue:*`, with Linux's fields and texts; only that functions are text instead of addresses,
//! since they are closures.

use alloc::sync::Arc;

use base::trace::{Ptr, Str};
use frame::cpu::CpuId;

use super::{pwq::Pwq, work::Work};

/// How "any processor" is written in a request: Linux's number of processors that it is built for.
const CPU_UNBOUND: i32 = 8192;

base::trace_event! {
    /// An item was queued.
    pub(super) struct workqueue_queue_work in "workqueue" {
        work: Ptr = "void *",
        function: Str = "char",
        workqueue: Str = "char",
        req_cpu: i32 = "int",
        cpu: i32 = "int",
    }
    format r#""work struct=%p function=%s workqueue=%s req_cpu=%d cpu=%d", REC->work, __get_str(function), __get_str(workqueue), REC->req_cpu, REC->cpu"#;
    print "work struct={work} function={function} workqueue={workqueue} req_cpu={req_cpu} cpu={cpu}"
}
base::trace_event! {
    /// A queue's limit lets an item go: it is on its pool's list.
    pub(super) struct workqueue_activate_work in "workqueue" {
        work: Ptr = "void *",
        function: Str = "char",
    }
    format r#""work struct %p function=%s ", REC->work, __get_str(function)"#;
    print "work struct {work} function={function} "
}
base::trace_event! {
    /// A worker begins to execute an item.
    pub(super) struct workqueue_execute_start in "workqueue" {
        work: Ptr = "void *",
        function: Str = "char",
    }
    format r#""work struct %p: function %s", REC->work, __get_str(function)"#;
    print "work struct {work}: function {function}"
}
base::trace_event! {
    /// It has executed it.
    pub(super) struct workqueue_execute_end in "workqueue" {
        work: Ptr = "void *",
        function: Str = "char",
    }
    format r#""work struct %p: function %s", REC->work, __get_str(function)"#;
    print "work struct {work}: function {function}"
}

fn address(w: &Work) -> usize {
    core::ptr::from_ref(w) as usize
}

#[inline]
pub(super) fn queue_work(req_cpu: Option<CpuId>, pwq: &Arc<Pwq>, w: &Work) {
    base::trace!(workqueue_queue_work {
        work: address(w),
        function: w.name().as_bytes(),
        workqueue: pwq.queue.name.as_bytes(),
        req_cpu: req_cpu.map_or(CPU_UNBOUND, |c| c.get() as i32),
        cpu: pwq.pool.cpu.map_or(-1, |c| c.get() as i32),
    });
}
#[inline]
pub(super) fn activate_work(w: &Work) {
    base::trace!(workqueue_activate_work { work: address(w), function: w.name().as_bytes() });
}
#[inline]
pub(super) fn execute_start(w: &Work) {
    base::trace!(workqueue_execute_start { work: address(w), function: w.name().as_bytes() });
}
#[inline]
pub(super) fn execute_end(w: &Work) {
    base::trace!(workqueue_execute_end { work: address(w), function: w.name().as_bytes() });
}

pub(super) fn init() {
    base::trace::register(&[
        workqueue_queue_work::event(),
        workqueue_activate_work::event(),
        workqueue_execute_start::event(),
        workqueue_execute_end::event(),
    ]);
}
