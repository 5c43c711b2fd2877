//! The door between SQLite and this crate: no panic passes it, nothing is done in a forked child, and
//! every failure is told to SQLite's log.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use libsqlite3_sys as ffi;

use crate::api;
use crate::failure::{Failure, Outcome};
use crate::runtime;

/// Calls since tests asked for a failure; which one fails (0: none), and whether those after it do too.
static CALLS: AtomicU64 = AtomicU64::new(0);
static FAIL_AT: AtomicU64 = AtomicU64::new(0);
static FOR_EVER: AtomicBool = AtomicBool::new(false);

/// Makes the call number `at` from here on fail, and with `for_ever` all after it; 0 makes none. Returns
/// how many calls there were since the last time. For tests.
#[doc(hidden)]
pub fn fail_call(at: u64, for_ever: bool) -> u64 {
    FAIL_AT.store(at, Ordering::Relaxed);
    FOR_EVER.store(for_ever, Ordering::Relaxed);
    CALLS.swap(0, Ordering::Relaxed)
}

fn fails_now() -> bool {
    let at = FAIL_AT.load(Ordering::Relaxed);
    if at == 0 {
        return false;
    }
    let call = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
    call == at || (call > at && FOR_EVER.load(Ordering::Relaxed))
}

thread_local! {
    static LAST: RefCell<Option<Failure>> = const { RefCell::new(None) };
}

/// The last failure on this thread.
pub(crate) fn last_failure() -> Option<Failure> {
    LAST.with(|last| last.borrow().clone())
}

/// What last failed on this thread, in words: SQLite's own message tells little of it.
#[must_use]
pub fn last_error() -> Option<String> {
    last_failure().map(|failure| failure.message)
}

/// Runs what SQLite asks for and returns its code. `kind` is the code of what fails by itself.
pub(crate) fn run(kind: c_int, body: impl FnOnce() -> Outcome<c_int>) -> c_int {
    match attempt(kind, body) {
        Ok(code) => code,
        Err(failure) => tell(failure),
    }
}

/// As [`run`], for what gives something back: it is done in any case, and cannot fail.
pub(crate) fn run_always(body: impl FnOnce()) -> c_int {
    if !runtime::is_forked()
        && let Err(panic) = catch_unwind(AssertUnwindSafe(body))
    {
        tell(panicked(ffi::SQLITE_INTERNAL, panic.as_ref()));
    }
    ffi::SQLITE_OK
}

/// Tells SQLite's log of a failure and returns its code.
pub(crate) fn tell(failure: Failure) -> c_int {
    let code = failure.code;
    // Being busy is no news.
    if code & 0xff != ffi::SQLITE_BUSY {
        api::log(code, &failure.message);
    }
    LAST.with(|last| last.replace(Some(failure)));
    code
}

/// Runs what SQLite asks for, catching panics.
pub(crate) fn attempt<T>(kind: c_int, body: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    if runtime::is_forked() {
        return Err(Failure::new(
            kind,
            "this process was forked from one that had a pagestore database open; open databases after the fork only",
        ));
    }
    if fails_now() {
        return Err(Failure::new(kind, "made to fail by a test"));
    }
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| Err(panicked(kind, panic.as_ref())))
}

fn panicked(kind: c_int, panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    Failure::new(kind, format!("panicked, please report it: {text}"))
}
