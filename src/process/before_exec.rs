//! What a child does between fork and exec: it gets back the huge pages that Beacon renounces for itself, keeps the
//! descriptors that were meant for it, takes its limit of memory, and asks to be told when its parent dies.
//!
//! The unsafe block is sound because the closure makes system calls only: no allocation, no lock, nothing that another
//! thread may have held at the time of the fork.
#![expect(unsafe_code, reason = "a process can change these settings for itself only, between fork and exec")]

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{Resource, Rlimit, Signal, getpid, getppid, set_parent_process_death_signal, setrlimit};
use rustix::thread::disable_transparent_huge_pages;

/// Adds that to a command. The signal comes when the thread that starts the process ends, and survives the change to
/// another user, because it is asked for after it.
pub(super) fn prepare(command: &mut Command, death: Option<Signal>, kept: Vec<Arc<OwnedFd>>, memory: Option<u64>) {
    let parent = getpid();
    let prepare = move || -> io::Result<()> {
        // Renounced in cli::main, and inherited through fork and exec. A kernel without them has none to give back.
        let _ = disable_transparent_huge_pages(false);
        for descriptor in &kept {
            fcntl_setfd(descriptor, FdFlags::empty())?;
        }
        if memory.is_some() {
            setrlimit(Resource::As, Rlimit { current: memory, maximum: memory })?;
        }
        if let Some(signal) = death {
            set_parent_process_death_signal(Some(signal))?;
            if getppid() != Some(parent) {
                // It died before we asked.
                return Err(Errno::SRCH.into());
            }
        }
        Ok(())
    };
    // SAFETY: see the head of the file.
    unsafe {
        command.pre_exec(prepare);
    }
}
