//! An import by a process that uses the library.

use pagestore::{PageNo, Store};
use serde::{Deserialize, Serialize};

use crate::image::Image;

/// What an importer does: one commit of a whole image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Import {
    /// The store.
    pub url: String,
    /// The volume, which is there.
    pub volume: String,
    /// What becomes of it.
    pub image: Image,
}

pub(super) async fn run(work: Import) {
    let store = Store::open(&work.url).await.unwrap();
    let volume = store.open_volume(&work.volume).await.unwrap();
    let mut tx = volume.begin().await.unwrap();
    let pages = work.image.pages();
    for page in 0..work.image.page_count {
        tx.write(PageNo(page), pages.page(page)).unwrap();
    }
    tx.commit().await.unwrap();
    volume.close().await;
}
