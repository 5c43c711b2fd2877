//! The threads that stores run on, and waiting for what they do.
//!
//! One runtime for all stores of a process, made with the first of them. SQLite's threads poll what they
//! wait for themselves, so that an answer from memory costs no change of threads; they may well be
//! threads of an asynchronous runtime of the host's, which this neither notices nor minds.

use std::pin::pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};

/// Threads of the runtime: stores wait far more than they work.
const THREADS: usize = 2;

static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
/// The process that the runtime's threads are in; 0 before there are any.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// The runtime, made on the first call.
pub(crate) fn handle() -> Result<&'static Handle, String> {
    let made = RUNTIME.get_or_init(|| {
        OWNER.store(std::process::id(), Ordering::Relaxed);
        Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("pagestore")
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start the threads of a store: {error}"))
    });
    made.as_ref().map(Runtime::handle).map_err(Clone::clone)
}

/// True in a child of the process that opened stores: their threads did not come along, and what
/// parent and child would do on one connection would destroy both's view.
pub(crate) fn is_forked() -> bool {
    let owner = OWNER.load(Ordering::Relaxed);
    owner != 0 && owner != std::process::id()
}

/// Waits for `future` on this thread.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    wait_and_tell(future).0
}

/// Waits for `future` on this thread; true when there was nothing to wait for.
pub(crate) fn wait_and_tell<F: Future>(future: F) -> (F::Output, bool) {
    let _entered = handle().ok().map(Handle::enter);
    let mut future = pin!(future);
    // What is in memory is there at once: no need to make anything that could wake this thread.
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => (output, true),
        Poll::Pending => (pollster::block_on(future), false),
    }
}

/// Waits for `future`, but no longer than `limit`.
pub(crate) fn wait_within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    wait(async { tokio::time::timeout(limit, future).await.ok() })
}
