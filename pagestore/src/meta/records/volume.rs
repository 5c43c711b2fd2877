use std::time::Duration;

use super::Record;
use crate::types::{HashSecret, Keep, PageSize, Revision, SECRET_BYTES, VolumeId};
use crate::wire::{Cursor, Malformed, put_varint};

/// `s`: what a store says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreRecord {
    /// The meta tier's cluster id when the store was made: another one means a restored backup.
    pub cluster_id: u64,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// The blob tier's URL; empty when it lies beside the meta tier.
    pub blobs: String,
}

impl Record for StoreRecord {
    const NAME: &'static str = "store";
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.cluster_id.to_be_bytes());
        put_varint(out, self.created_ms);
        put_varint(out, self.blobs.len() as u64);
        out.extend_from_slice(self.blobs.as_bytes());
    }
    fn read(body: &mut Cursor<'_>, _version: u8) -> Result<Self, Malformed> {
        let cluster_id = u64::from_be_bytes(body.array()?);
        let created_ms = body.varint()?;
        let len = body.count(1)?;
        let blobs =
            std::str::from_utf8(body.bytes(len)?).map_err(|_| body.malformed("is not text"))?;
        Ok(StoreRecord { cluster_id, created_ms, blobs: blobs.to_owned() })
    }
}

/// `M`: what a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeRecord {
    /// Bytes a page.
    pub page_size: PageSize,
    /// How long superseded versions stay readable.
    pub keep: Keep,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// What content hashes are keyed with.
    pub secret: HashSecret,
    /// What it branched off.
    pub parent: Option<Parent>,
}

impl VolumeRecord {
    /// Of a volume that branched off nothing.
    #[must_use]
    pub fn new(
        page_size: PageSize,
        keep: Keep,
        created_ms: u64,
        secret: HashSecret,
    ) -> VolumeRecord {
        VolumeRecord { page_size, keep, created_ms, secret, parent: None }
    }
}

/// The volume and revision that a branch shows where it has no version of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The volume.
    pub volume: VolumeId,
    /// Its revision.
    pub revision: Revision,
}

const KEEP_NOTHING: u8 = 0;
const KEEP_FOR: u8 = 1;
const KEEP_FOREVER: u8 = 2;

impl Record for VolumeRecord {
    const NAME: &'static str = "volume metadata";

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.page_size.log2());
        match self.keep {
            Keep::Nothing => out.push(KEEP_NOTHING),
            Keep::For(duration) => {
                out.push(KEEP_FOR);
                put_varint(out, u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
            }
            Keep::Forever => out.push(KEEP_FOREVER),
        }
        put_varint(out, self.created_ms);
        out.extend_from_slice(self.secret.as_bytes());
        match self.parent {
            None => out.push(0),
            Some(parent) => {
                out.push(1);
                out.extend_from_slice(&parent.volume.0.to_be_bytes());
                put_varint(out, parent.revision.0);
            }
        }
    }

    fn read(body: &mut Cursor<'_>, _version: u8) -> Result<Self, Malformed> {
        let page_size = PageSize::from_log2(body.u8()?)
            .map_err(|_| body.malformed("has no valid page size"))?;
        let keep = match body.u8()? {
            KEEP_NOTHING => Keep::Nothing,
            KEEP_FOR => Keep::For(Duration::from_millis(body.varint()?)),
            KEEP_FOREVER => Keep::Forever,
            _ => return Err(body.malformed("has an unknown retention")),
        };
        let created_ms = body.varint()?;
        let secret = HashSecret::new(body.array::<SECRET_BYTES>()?);
        let parent = match body.u8()? {
            0 => None,
            1 => {
                let volume = VolumeId(u64::from_be_bytes(body.array()?));
                Some(Parent { volume, revision: Revision(body.varint()?) })
            }
            _ => return Err(body.malformed("has a parent of an unknown kind")),
        };
        Ok(VolumeRecord { page_size, keep, created_ms, secret, parent })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::round_trip;
    use super::*;

    #[test]
    fn stores_and_volumes_are_frozen() {
        round_trip(
            &StoreRecord { cluster_id: 1, created_ms: 2, blobs: "s3://b/p".into() },
            "010000000000000001020873333a2f2f622f7069903654",
        );
        let secret = HashSecret::new([0x5e; SECRET_BYTES]);
        let mut volume = VolumeRecord {
            page_size: PageSize::DEFAULT,
            keep: Keep::DEFAULT,
            created_ms: 1_700_000_000_000,
            secret,
            parent: None,
        };
        round_trip(
            &volume,
            "010c0180dddb0180d095ffbc315e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e005cab2916",
        );
        volume.keep = Keep::Forever;
        volume.parent = Some(Parent { volume: VolumeId(1), revision: Revision(5) });
        round_trip(
            &volume,
            "010c0280d095ffbc315e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e010000000000000001052a183184",
        );
    }
}
