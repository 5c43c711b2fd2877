use super::*;
use crate::meta::embedded::EmbeddedStore;
use crate::meta::keys::StoreKeys;
use crate::meta::records::{Oldest, Point, PointKind, Record};
use crate::meta::{KeyRange, Op, RangeRequest, Txn, txn};
use crate::mirror::testing::{NAME, create_volume};
use crate::types::{PointName, VolumeId};

struct Place {
    meta: Arc<dyn MetaStore>,
    keys: VolumeKeys,
    session: Session,
    _dir: tempfile::TempDir,
}

impl Place {
    async fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::seeded(1);
        let meta: Arc<dyn MetaStore> = EmbeddedStore::open(dir.path(), &env).unwrap();
        let keys = StoreKeys::new("").volume(VolumeId(1));
        create_volume(meta.as_ref(), &keys).await;
        let mirror = Mirror::open(meta.clone(), keys.clone(), env.clone()).await.unwrap();
        let session = Session::open(meta.clone(), keys.clone(), env, Arc::new(mirror)).await;
        Place { meta, keys, session: session.unwrap(), _dir: dir }
    }

    /// Puts or deletes, and waits until the session's mirror shows it.
    async fn change(&self, op: Op) -> Revision {
        let changed = self.meta.txn(Txn { then: vec![op], ..Txn::default() }).await.unwrap();
        self.session.shared.mirror.reach(changed.revision).await.unwrap();
        changed.revision
    }

    async fn count(&self, keys: KeyRange) -> usize {
        self.meta.range(RangeRequest::new(keys)).await.unwrap().kvs.len()
    }
}

#[tokio::test]
async fn a_pin_that_could_not_be_put_after_its_lease_was_lost_is_put_later() {
    let Place { meta, keys, session, _dir } = Place::new().await;
    let _held = session.hold(session.shared.pin.lock().await.revision).await.unwrap();

    // The lease is replaced, and then the meta tier fails.
    let lease = session.lease().await;
    meta.lease_revoke(lease).await.unwrap();
    {
        let mut pin = session.shared.pin.lock().await;
        pin.lease = meta.lease_grant(LEASE).await.unwrap();
        pin.modified = Revision::ZERO;
    }
    session.shared.tick().await.unwrap();
    let pin = RangeRequest::new(KeyRange::key(keys.pin(session.shared.id)));
    assert_eq!(meta.range(pin).await.unwrap().kvs.len(), 1);
}

#[tokio::test]
async fn a_name_that_was_deleted_and_made_anew_elsewhere_holds_nothing() {
    let place = Place::new().await;
    let (shared, keys) = (&place.session.shared, &place.keys);
    let name = PointName::new("n").unwrap();
    let named = |revision| {
        let point = Point { revision: Revision(revision), kind: PointKind::Snapshot };
        point.put(keys, keys.point(&name))
    };
    place.change(named(2)).await;
    let stale = shared.mirror.state().unwrap();
    place.change(Op::delete(keys.point(&name))).await;
    place.change(named(5)).await;

    let mut pin = shared.pin.lock().await;
    let point = stale.points.get(&name).unwrap();
    let refused = shared.put_hold(&mut pin, &stale, &name, point).await.unwrap_err();
    assert_eq!(refused.kind(), crate::ErrorKind::Expired);
    assert_eq!(place.count(keys.holds()).await, 0);
    let now = shared.mirror.state().unwrap();
    let point = now.points.get(&name).unwrap();
    shared.put_hold(&mut pin, &now, &name, point).await.unwrap();
    assert_eq!(place.count(keys.holds()).await, 1);
}

#[tokio::test]
async fn a_hold_that_nobody_needs_goes_and_is_not_taken_for_one_any_more() {
    let place = Place::new().await;
    let (session, keys) = (&place.session, &place.keys);
    let revision = session.shared.mirror.state().unwrap().revision;
    let name = PointName::new("n").unwrap();
    let point = Point { revision, kind: PointKind::Snapshot };
    place.change(point.put(keys, keys.point(&name))).await;
    let oldest = Oldest { readable: revision.next(), log_from: revision };
    place.change(oldest.put(keys, keys.oldest())).await;
    session.shared.held.raise(revision.next(), revision.next());

    let hold = session.hold(revision).await.unwrap();
    assert_eq!(place.count(keys.holds()).await, 1);
    place.change(Op::delete(keys.point(&name))).await;
    let state = session.shared.mirror.state().unwrap();
    session.readability().check(&state, revision).await.unwrap();
    drop(hold);
    session.shared.tick().await.unwrap();
    assert_eq!(place.count(keys.holds()).await, 0);
    let gone = session.readability().check(&state, revision).await.unwrap_err();
    assert_eq!(gone.kind(), crate::ErrorKind::Expired);
    assert_eq!(session.hold(revision).await.unwrap_err().kind(), crate::ErrorKind::Expired);
}

#[tokio::test]
async fn a_revision_is_held_although_what_was_pinned_before_the_lease_was_lost_is_gone() {
    let place = Place::new().await;
    let (session, keys) = (&place.session, &place.keys);
    let shared = &session.shared;
    let pinned = shared.pin.lock().await.revision;
    // A pin that was to be raised and could not be, a lease that ended, and a raise of the oldest.
    let wanted = place.change(Op::put(keys.head(), "")).await;
    let newest = place.change(Op::put(keys.head(), "")).await;
    shared.held.raise(newest, newest);
    place.meta.lease_revoke(session.lease().await).await.unwrap();
    let oldest = Oldest { readable: pinned.next(), log_from: pinned };
    place.change(oldest.put(keys, keys.oldest())).await;

    let _held = session.hold(wanted).await.unwrap();
    let pin = shared.pin.lock().await;
    assert_eq!(pin.revision, pinned.next());
    assert_eq!(place.count(KeyRange::key(keys.pin(shared.id))).await, 1);
}

#[tokio::test]
async fn a_session_of_a_deleted_volume_keeps_its_lease_and_pin() {
    let place = Place::new().await;
    let shared = &place.session.shared;
    let created = shared.mirror.state().unwrap().created;
    let deletion = txn::delete_volume(NAME.into(), &place.keys, created);
    assert!(place.meta.txn(deletion).await.unwrap().succeeded);
    assert!(shared.mirror.abreast().await.unwrap().deleted);
    shared.tick().await.unwrap();
    assert_eq!(place.count(KeyRange::key(place.keys.pin(shared.id))).await, 1);
    let refused = place.session.hold(Revision(1)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound);
}
