//! Trace events of work queues: `workqueue:*`, with Linux's fields.

use alloc::sync::Arc;

use super::{pwq::Pwq, work::Work};
use frame::cpu::CpuId;

#[inline]
pub(super) fn queue_work(_req_cpu: Option<CpuId>, _pwq: &Arc<Pwq>, _work: &Work) {}
#[inline]
pub(super) fn activate_work(_work: &Work) {}
#[inline]
pub(super) fn execute_start(_work: &Work) {}
#[inline]
pub(super) fn execute_end(_work: &Work) {}
