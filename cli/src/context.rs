//! What every command gets: the store and the output.

use pagestore::{Store, StoreOptions, Volume};

use crate::failure::{Failure, Outcome};
use crate::render::Output;

/// The options that hold for all commands.
#[derive(Debug)]
pub(crate) struct Context {
    url: Option<String>,
    opened: Vec<Volume>,
    pub(crate) out: Output,
}

impl Context {
    pub(crate) fn new(url: Option<String>, json: bool) -> Context {
        Context { url, opened: Vec::new(), out: Output::new(json) }
    }

    /// The store's URL, if one was given.
    pub(crate) fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    fn given_url(&self) -> Outcome<&str> {
        self.url().ok_or_else(|| {
            Failure::invalid("no store given; use --store URL or set PAGESTORE_STORE")
        })
    }

    /// The store, which is made if there is none.
    pub(crate) async fn open_or_make_store(&self) -> Outcome<Store> {
        Ok(Store::open(self.given_url()?).await?)
    }

    /// The store, which must be there: a look makes nothing.
    pub(crate) async fn open_store(&self) -> Outcome<Store> {
        let options = StoreOptions { must_exist: true, ..StoreOptions::default() };
        Ok(Store::open_with(self.given_url()?, options).await?)
    }

    /// A volume of the store.
    pub(crate) async fn open_volume(&mut self, name: &str) -> Outcome<Volume> {
        let volume = self.open_store().await?.open_volume(name).await?;
        self.opened.push(volume.clone());
        Ok(volume)
    }

    /// Lets go of what the volumes that were opened hold: a compactor need not wait for the leases.
    pub(crate) async fn close(&mut self) {
        for volume in self.opened.drain(..) {
            volume.close().await;
        }
    }
}
