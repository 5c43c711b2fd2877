//! The stores that are open in this process: one of each URL, for as long as a connection uses it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::time::Duration;

use pagestore::{Result, Store};
use pagestore_compactor::{Compactor, CompactorOptions, Running, Tiers};

use crate::runtime;

/// How long closing the last connection of a store waits for the compactor to give its claims back.
const STOP: Duration = Duration::from_secs(1);

/// An open store, and the compactor that works beside it.
#[derive(Debug)]
pub(crate) struct OpenStore {
    pub(crate) store: Store,
    compactor: Mutex<Option<Running>>,
}

/// A place for the store of one URL; its lock is held while the store is opened.
type Slot = Arc<Mutex<Weak<OpenStore>>>;

static SLOTS: OnceLock<Mutex<HashMap<String, Slot>>> = OnceLock::new();

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is whole after every statement, so a panic leaves no trace in it.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The store at `url`, opened now if nobody has it open. With `compacts` its staged pages are moved into
/// files by this process too, unless another compactor does it.
pub(crate) fn open(url: &str, compacts: bool) -> Result<Arc<OpenStore>> {
    let slot = lock(SLOTS.get_or_init(Mutex::default)).entry(url.to_owned()).or_default().clone();
    let mut slot = lock(&slot);
    let open = match slot.upgrade() {
        Some(open) => open,
        None => {
            let store = runtime::wait(Store::open(url))?;
            let open = Arc::new(OpenStore { store, compactor: Mutex::default() });
            *slot = Arc::downgrade(&open);
            open
        }
    };
    if compacts {
        let mut compactor = lock(&open.compactor);
        if compactor.is_none() {
            let tiers = Tiers::from(&open.store);
            let start = async { Compactor::new(tiers, CompactorOptions::default()).start() };
            *compactor = Some(runtime::wait(start));
        }
    }
    Ok(open)
}

impl Drop for OpenStore {
    fn drop(&mut self) {
        let compactor = lock(&self.compactor).take();
        if let Some(compactor) = compactor.filter(|_| !runtime::is_forked()) {
            // One that does not stop in time is abandoned: its claims run out.
            let _ = runtime::wait_within(STOP, compactor.stop());
        }
    }
}
