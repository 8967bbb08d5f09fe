//! Sockets: the ends of conversations between programs, and between the kernel and programs.
//!
//! # Theory
//! A socket is an open file ([`SocketFile`], in a file system of its own, so that `fstat`, `poll`, epoll, `fcntl` and passing
//! descriptors are the vfs's work) around a [`Socket`]: the object of one address family. Families stand in a table ([`family`]).
//! What a family's messages look like is its own affair; what all share is here:
//!
//! | file | |
//! |---|---|
//! | [`socket`] | the trait, and the open file |
//! | [`family`] | which families there are; `socket(2)`, `socketpair(2)` |
//! | [`message`] | what a send or a receive is asked for and gives; waiting with a time limit |
//! | [`options`] | `SOL_SOCKET` options |
//! | [`cmsg`], [`scm`] | control messages: their bytes, and what they mean |
//! | [`unix`] | `AF_UNIX` |
//! | [`netlink`] | `AF_NETLINK`, with the kernel's uevents |
//! | [`knobs`] | `/proc/sys/net`, `/proc/net` |
//! | [`caller`] | what the room above tells of the running process |
//!
//! Families that are not there yet (`AF_INET`, `AF_INET6`, `AF_PACKET`, …) are `EAFNOSUPPORT`, as on a Linux without them, after
//! the module `net-pf-N` was asked for.
//! Missing of what is here: `MSG_OOB` on stream sockets (`EOPNOTSUPP`), `SO_PASSPIDFD`, `SO_PEERPIDFD`, `SO_PEERGROUPS`, time stamps,
//! filters (`ENOPROTOOPT`), and signals on readiness (`O_ASYNC` is kept and does nothing, as for all files).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod caller;
pub mod cmsg;
pub mod family;
pub mod knobs;
pub mod message;
pub mod netlink;
pub mod options;
pub mod scm;
pub mod socket;
pub mod unix;

pub use family::{Created, create, pair};
pub use message::{Name, RecvMsg, SendMsg};
pub use socket::{Socket, SocketFile, new_file, of};

/// Makes the families and their knobs known, and takes the device model's events over. Before the first user process; after the file
/// systems.
pub fn init() -> base::Result<()> {
    family::init()?;
    knobs::init()?;
    unix::init()?;
    base::uevent::init()?;
    base::uevent::set_sink(netlink::uevent);
    Ok(())
}
