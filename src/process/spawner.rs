//! The thread that starts processes, which lives as long as Beacon does.
//!
//! The kernel sends a parent's death signal when the *thread* that made the child ends, and the threads of a runtime come
//! and go: a child that was started from one of them would be stopped at some quiet moment.

use std::io;
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

use tokio::sync::oneshot;

type Work = Box<dyn FnOnce() + Send>;

static WORK: OnceLock<Option<Sender<Work>>> = OnceLock::new();

/// Runs `work` on that thread, in the runtime of the caller.
///
/// # Errors
/// The thread cannot be made, or `work` panicked; else those of `work`.
pub(super) async fn run<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let gone = || io::Error::other("the thread that starts processes is not there");
    let (answer, done) = oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    let work: Work = Box::new(move || {
        let _entered = runtime.enter();
        // Who asked may have gone; then a child is dropped, and killed by that.
        let _ = answer.send(work());
    });
    thread().ok_or_else(gone)?.send(work).map_err(|_| gone())?;
    done.await.map_err(|_| gone())?
}

fn thread() -> Option<&'static Sender<Work>> {
    let make = || {
        let (sender, receiver) = channel::<Work>();
        let body = move || {
            while let Ok(work) = receiver.recv() {
                // A panic must not end the thread, and with it every child.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            }
        };
        std::thread::Builder::new().name("beacon-spawn".into()).spawn(body).ok()?;
        Some(sender)
    };
    WORK.get_or_init(make).as_ref()
}
