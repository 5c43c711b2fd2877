//! Raises the oldest readable revision.

use pagestore::internal::meta::records::{Oldest, Record, decode_pin, encode_pin};
use pagestore::internal::meta::{Compare, CompareOp, Target};
use pagestore::internal::mirror::{self, At};
use pagestore::internal::types::Revision;
use pagestore::{Error, ErrorKind};

use crate::claim::Claim;
use crate::interrupt::{Interrupt, Work};
use crate::volume::Volume;

/// The oldest revision that any session holds.
pub(crate) async fn read_oldest_pin(volume: &Volume) -> Work<Revision> {
    let scan = mirror::scan(volume.meta.as_ref(), &volume.keys.pins(), None).await?;
    let pins = scan.kvs.iter().map(|kv| decode_pin(&volume.keys, kv));
    let pins: Result<Vec<Revision>, _> = pins.collect();
    if planted!(PinsIgnored) {
        return Ok(Revision::MAX);
    }
    Ok(pins?.into_iter().min().unwrap_or(Revision::ZERO))
}

/// Puts `to` in the place of `from`, unless a session holds something older by now; returns the
/// revision at which it was put. Whatever leaves versions out reads points and holds after that.
pub(crate) async fn raise(claim: &Claim, from: &At<Oldest>, to: Oldest) -> Work<Revision> {
    if to.readable < from.record.readable || to.log_from < from.record.log_from {
        return Err(Interrupt::Failed(Error::new(
            ErrorKind::Corrupt,
            format!("what is no longer kept does not come back: {to:?} after {:?}", from.record),
        )));
    }
    let keys = &claim.volume().keys;
    let mut compares = vec![Compare::modified(keys.oldest(), from.modified)];
    if let Some(below) = to.readable.0.checked_sub(1)
        && !planted!(PinsUncompared | PinsIgnored)
    {
        // Holds for every pin; the sentinel keeps the range from being empty.
        let target = Target::Value(encode_pin(Revision(below)));
        compares.push(Compare { keys: keys.pins(), op: CompareOp::Greater, target });
    }
    let response = claim.txn(compares, vec![to.put(keys, keys.oldest())]).await?;
    if response.succeeded { Ok(response.revision) } else { Err(Interrupt::Overtaken) }
}

#[cfg(test)]
mod tests {
    use pagestore::internal::meta::{Op, Txn};
    use pagestore::internal::types::SessionId;

    use super::*;
    use crate::testing::new_volume;

    #[tokio::test]
    async fn the_oldest_revision_is_not_raised_above_a_pin_that_was_just_put() {
        let (_dir, volume, _) = new_volume().await;
        let (meta, keys) = (&volume.meta, &volume.keys);
        let claim = Claim::take(&volume, "test").await.unwrap().unwrap();
        let pin = async |at: u64| {
            let pin = Op::put(keys.pin(SessionId(7)), encode_pin(Revision(at)));
            meta.txn(Txn { then: vec![pin], ..Txn::default() }).await.unwrap();
        };
        pin(9).await;
        assert_eq!(read_oldest_pin(&volume).await.unwrap(), Revision(9));
        let state = mirror::load(meta.as_ref(), keys).await.unwrap();
        let to = Oldest { readable: Revision(9), log_from: Revision(0) };

        // Between the look at the pins and the raise.
        pin(8).await;
        let refused = raise(&claim, &state.oldest, to).await;
        assert!(matches!(refused, Err(Interrupt::Overtaken)), "{refused:?}");
        pin(9).await;
        raise(&claim, &state.oldest, to).await.unwrap();
    }
}
