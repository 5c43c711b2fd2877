//! What every command gets: the store and the output.

use pagestore::{Store, StoreOptions, Volume};

use crate::failure::{Failure, Outcome};
use crate::render::Output;

/// The options that hold for all commands.
#[derive(Debug)]
pub(crate) struct Context {
    url: Option<String>,
    store: Option<Store>,
    opened: Vec<Volume>,
    pub(crate) out: Output,
}

impl Context {
    pub(crate) fn new(url: Option<String>, json: bool) -> Context {
        Context { url, store: None, opened: Vec::new(), out: Output::new(json) }
    }

    /// The store's URL, if one was given.
    pub(crate) fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// The store's URL.
    pub(crate) fn given_url(&self) -> Outcome<&str> {
        self.url().ok_or_else(|| {
            Failure::invalid("no store given; use --store URL or set PAGESTORE_STORE")
        })
    }

    /// The store, which is made if there is none.
    pub(crate) async fn open_or_make_store(&mut self) -> Outcome<Store> {
        self.open_store_with(StoreOptions::default()).await
    }

    /// The store, which must be there: a look makes nothing.
    pub(crate) async fn open_store(&mut self) -> Outcome<Store> {
        self.open_store_with(StoreOptions { must_exist: true, ..StoreOptions::default() }).await
    }

    async fn open_store_with(&mut self, options: StoreOptions) -> Outcome<Store> {
        if let Some(store) = &self.store {
            return Ok(store.clone());
        }
        let store = Store::open_with(self.given_url()?, options).await?;
        self.store = Some(store.clone());
        Ok(store)
    }

    /// A volume of the store.
    pub(crate) async fn open_volume(&mut self, name: &str) -> Outcome<Volume> {
        let volume = self.open_store().await?.open_volume(name).await?;
        self.opened.push(volume.clone());
        Ok(volume)
    }

    /// Has `volume` closed at the end.
    pub(crate) fn opened(&mut self, volume: Volume) {
        self.opened.push(volume);
    }

    /// Lets go of what the volumes that were opened hold: a compactor need not wait for the leases.
    pub(crate) async fn close(&mut self) {
        for volume in self.opened.drain(..) {
            volume.close().await;
        }
    }
}
