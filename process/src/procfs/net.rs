//! `/proc/PID/net`: what the rooms for the network declare in [`base::tree::net`]. All processes see the same.

use alloc::{sync::Arc, vec::Vec};

use base::{
    Errno, Result,
    tree::{Node, Out, net},
};
use fs::procfs::{DirBody, DirEntry, TaskDir};
use sched::TaskRef;

pub(super) struct Net;

fn find(name: &[u8]) -> Result<Arc<Node>> {
    net().top().lookup(core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?)
}

impl TaskDir for Net {
    fn list(&self, _t: &TaskRef) -> Result<Vec<Vec<u8>>> {
        Ok(net().top().list()?.into_iter().map(|(name, _)| name.into_bytes()).collect())
    }
    fn lookup(&self, _t: &TaskRef, name: &[u8]) -> Result<DirEntry> {
        Ok(DirEntry { mode: find(name)?.mode(), body: DirBody::File(show) })
    }
}

fn show(_t: &TaskRef, name: &[u8], out: &mut Out) -> Result<()> {
    out.push(&find(name)?.read()?)
}
