use crate::meta::keys::VolumeKeys;
use crate::meta::records::VolumeRecord;
use crate::meta::{MetaStore, txn};
use crate::types::{HashSecret, Keep, PageSize, Revision, SECRET_BYTES};

/// What a volume of a unit test is called in the meta tier.
pub(crate) const NAME: &str = "nv";

/// Puts the keys of a new volume; when it was made.
pub(crate) async fn create_volume(meta: &dyn MetaStore, keys: &VolumeKeys) -> Revision {
    let secret = HashSecret::new([1; SECRET_BYTES]);
    let record = VolumeRecord::new(PageSize::DEFAULT, Keep::Nothing, 0, secret);
    let create = txn::create_volume(NAME.into(), "id".into(), keys, &record);
    meta.txn(create).await.unwrap().revision
}
