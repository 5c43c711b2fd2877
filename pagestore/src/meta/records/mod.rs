//! Values that pagestore keeps in the meta tier, and their bytes. Pure.
//!
//! Every value is sealed ([`crate::wire::seal`]): a version byte, the body, and a check over key and
//! body. The exceptions are pins and level lists, which etcd itself compares and which are exactly a
//! big-endian `u64`, and staged pages, which their content hash verifies.

use bytes::Bytes;

use super::keys::VolumeKeys;
use super::{KeyValue, Op};
use crate::error::{Error, ErrorKind, Result};
use crate::types::Revision;
use crate::wire::{Cursor, Malformed, seal, unseal};

mod changelog;
mod claim;
mod small;
mod volume;

pub use changelog::{ChangelogEntry, Commit, PageChange, SizeChange, StagedAs};
pub use claim::{Claim, Job};
pub use small::{
    Dropped, Floor, Intent, Oldest, PageCountRecord, Point, PointKind, Pointer, VolumeName,
    WriteLockRecord,
};
pub use volume::{Parent, StoreRecord, VolumeRecord};

/// A value with a version, sealed under its key.
pub trait Record: Sized {
    /// What the value is, for errors.
    const NAME: &'static str;
    /// The version written; every version from 1 to this one is read.
    const VERSION: u8 = 1;

    /// Appends the body.
    fn write(&self, out: &mut Vec<u8>);

    /// Reads a body written in `version`.
    fn read(body: &mut Cursor<'_>, version: u8) -> Result<Self, Malformed>;

    /// The value to put under `key`, of which the seal covers the part that `suffix` is.
    fn encode(&self, suffix: &[u8]) -> Bytes {
        let mut body = Vec::new();
        self.write(&mut body);
        seal(suffix, Self::VERSION, &body).into()
    }

    /// The value found under the key of which `suffix` is the sealed part.
    ///
    /// # Errors
    /// `Corrupt` when the seal or the body is broken, `Invalid` for a version newer than this build.
    fn decode(suffix: &[u8], value: &[u8]) -> Result<Self> {
        let place = || Place { name: Self::NAME, suffix };
        let unsealed = unseal(suffix, value).map_err(|why| Error::corrupt(place(), why))?;
        check_version(&place(), unsealed.version, Self::VERSION)?;
        let mut body = Cursor::new(unsealed.body);
        Self::read(&mut body, unsealed.version)
            .and_then(|record| body.finish().map(|()| record))
            .map_err(|why| Error::corrupt(place(), why))
    }

    /// [`Record::decode`] of a key of a volume.
    fn of(keys: &VolumeKeys, kv: &KeyValue) -> Result<Self> {
        Self::decode(keys.suffix(&kv.key), &kv.value)
            .map_err(|error| error.context(format_args!("volume {}", keys.id())))
    }

    /// The put of this value under a key of a volume.
    fn put(&self, keys: &VolumeKeys, key: Bytes) -> Op {
        let value = self.encode(keys.suffix(&key));
        Op::put(key, value)
    }
}

/// The value of a pin: etcd compares it as bytes, so it is big-endian.
#[must_use]
pub fn encode_pin(revision: Revision) -> Bytes {
    Bytes::copy_from_slice(&revision.0.to_be_bytes())
}

/// The revision in a pin.
///
/// # Errors
/// `Corrupt` when the value is not eight bytes long.
pub fn decode_pin(keys: &VolumeKeys, kv: &KeyValue) -> Result<Revision> {
    let bytes = kv.value.as_ref().try_into().map_err(|_| {
        let place = Place { name: "pin", suffix: keys.suffix(&kv.key) };
        Error::corrupt(place, "is not eight bytes long")
    })?;
    Ok(Revision(u64::from_be_bytes(bytes)))
}

fn check_version(place: &Place<'_>, found: u8, newest: u8) -> Result<()> {
    if (1..=newest).contains(&found) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Invalid,
        format!(
            "written in format version {found}, this build reads up to version {newest}; upgrade it: {place}"
        ),
    ))
}

/// A value's place for people: what it is, and its key with the bytes that are no text escaped.
struct Place<'a> {
    name: &'static str,
    suffix: &'a [u8],
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at key {}", self.name, self.suffix.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn round_trip<R: Record + PartialEq + std::fmt::Debug>(record: &R, golden: &str) {
        let value = record.encode(b"K");
        let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, golden, "{}", R::NAME);
        assert_eq!(&R::decode(b"K", &value).unwrap(), record);
        for len in 0..value.len() {
            assert_eq!(R::decode(b"K", &value[..len]).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn a_newer_version_is_refused_by_name_and_a_broken_value_by_place() {
        let newer = seal(b"F", 9, &[5]);
        let error = Floor::decode(b"F", &newer).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(
            error.to_string().contains("version 9, this build reads up to version 1"),
            "{error}"
        );

        let mut broken = Floor { up_to: Revision(5) }.encode(b"F").to_vec();
        broken[1] ^= 1;
        let error = Floor::decode(b"F", &broken).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("floor at key F"), "{error}");
    }
}
