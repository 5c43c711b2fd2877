//! A simulated object store: `object_store`'s own in memory, with the weather in between.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::link::{Fate, Link};

/// Told of an object that was put (true), or is about to be deleted.
pub type ObjectObserver = Arc<dyn Fn(&Path, bool) + Send + Sync>;

/// The bucket; clone it freely.
#[derive(Clone)]
pub struct Bucket {
    objects: Arc<InMemory>,
    observer: ObjectObserver,
}

impl Bucket {
    /// An empty bucket.
    #[must_use]
    pub fn new(observer: ObjectObserver) -> Bucket {
        Bucket { objects: Arc::default(), observer }
    }

    /// What is there, without any weather.
    #[must_use]
    pub fn objects(&self) -> &Arc<InMemory> {
        &self.objects
    }

    /// How many objects there are.
    #[must_use]
    pub fn count(&self) -> usize {
        use object_store::ObjectStore;
        futures::executor::block_on(self.objects.list(None).count())
    }

    /// What a process has of the bucket.
    #[must_use]
    pub fn client(&self, link: Link) -> Arc<BucketClient> {
        Arc::new(BucketClient { bucket: self.clone(), link })
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bucket")
    }
}

/// What a process has of the bucket.
pub struct BucketClient {
    bucket: Bucket,
    link: Link,
}

impl fmt::Debug for BucketClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BucketClient")
    }
}

impl fmt::Display for BucketClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a simulated bucket")
    }
}

fn failed<T>(why: &'static str) -> Result<T> {
    Err(Error::Generic { store: "simulated", source: why.into() })
}

fn missing<T>(path: &Path) -> Result<T> {
    Err(Error::NotFound { path: path.to_string(), source: "simulated".into() })
}

/// Runs what the store in memory does at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    futures::executor::block_on(future)
}

/// What arrives of what was got: now and then a bit of it is another.
fn damage(path: &Path, got: GetResult, link: &Link) -> Result<GetResult> {
    let bytes = usize::try_from(got.range.end - got.range.start).expect("a small object");
    let Some(bit) = link.draw_damage(path.as_ref(), bytes) else { return Ok(got) };
    let (meta, range, attributes) = (got.meta.clone(), got.range.clone(), got.attributes.clone());
    let mut content = now(got.bytes())?.to_vec();
    content[(bit / 8) as usize] ^= 1 << (bit % 8);
    let payload = GetResultPayload::Stream(stream::once(async { Ok(content.into()) }).boxed());
    Ok(GetResult { payload, meta, range, attributes, extensions: Default::default() })
}

/// Objects deleted one after the other.
struct Deletions {
    bucket: Bucket,
    link: Link,
    paths: BoxStream<'static, Result<Path>>,
}

impl BucketClient {
    /// Sends a request that changes nothing when it is repeated.
    async fn call<T: Send + 'static>(
        bucket: &Bucket,
        link: &Link,
        what: &'static str,
        apply: impl FnOnce(&Bucket) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let fate = link.begin(what).await;
        let fails = link.sky().weather().blob_fails;
        let fails = link.world().draw(|random| random.permille(fails));
        let bucket = bucket.clone();
        match fate {
            Fate::Answered if fails => {
                // Half of these did what they were asked to.
                if link.world().draw(|random| random.one_in(2)) {
                    drop(apply(&bucket));
                }
                link.end(what, false).await;
                failed("503 Slow Down")
            }
            Fate::Answered => {
                let answer = link.carry(move || apply(&bucket)).await;
                link.end(what, answer.is_ok()).await;
                answer
            }
            Fate::Refused => {
                link.end(what, false).await;
                failed("connection refused")
            }
            Fate::RequestLost => {
                link.lose(what).await;
                failed("request timed out")
            }
            Fate::AnswerLost(late) => {
                link.later(late, move || drop(apply(&bucket)));
                link.lose(what).await;
                failed("request timed out")
            }
        }
    }

    fn is_missing(link: &Link) -> bool {
        link.sky().weather().blobs_missing
    }
}

#[async_trait]
impl ObjectStore for BucketClient {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let location = location.clone();
        let what = if location.as_ref().starts_with("probe-") { "blob probe" } else { "blob put" };
        Self::call(&self.bucket, &self.link, what, move |bucket| {
            let put = now(bucket.objects.put_opts(&location, payload, options))?;
            (bucket.observer)(&location, true);
            Ok(put)
        })
        .await
    }

    async fn put_multipart_opts(
        &self,
        _location: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented {
            operation: "put_multipart_opts".into(),
            implementer: "simulated".into(),
        })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (path, link) = (location.clone(), self.link.clone());
        Self::call(&self.bucket, &self.link, "blob get", move |bucket| {
            if Self::is_missing(&link) {
                return missing(&path);
            }
            let got = now(bucket.objects.get_opts(&path, options))?;
            damage(&path, got, &link)
        })
        .await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let state =
            Deletions { bucket: self.bucket.clone(), link: self.link.clone(), paths: locations };
        let deleted = stream::unfold(state, |mut state| async {
            let path = match state.paths.next().await? {
                Ok(path) => path,
                Err(error) => return Some((Err(error), state)),
            };
            let of = path.clone();
            let deleted = Self::call(&state.bucket, &state.link, "blob delete", move |bucket| {
                let there = now(bucket.objects.list(None).any(|found| {
                    std::future::ready(found.is_ok_and(|found| found.location == of))
                }));
                if there {
                    (bucket.observer)(&of, false);
                    let paths = stream::iter([Ok(of.clone())]).boxed();
                    let deleted = now(bucket.objects.delete_stream(paths).collect::<Vec<_>>());
                    deleted.into_iter().try_for_each(|deleted| deleted.map(drop))?;
                }
                Ok(())
            });
            let deleted = deleted.await.map(|()| path);
            Some((deleted, state))
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (bucket, link, prefix) = (self.bucket.clone(), self.link.clone(), prefix.cloned());
        let listed = async move {
            let breaks = link.sky().weather().lists_break;
            let breaks = link.world().draw(|random| random.permille(breaks));
            let listed = Self::call(&bucket, &link, "blob list", move |bucket| {
                Ok(now(bucket.objects.list(prefix.as_ref()).collect::<Vec<_>>()))
            });
            match listed.await {
                Ok(mut listed) if breaks => {
                    let kept = link.world().draw(|random| random.below(listed.len() as u64 + 1));
                    listed.truncate(kept as usize);
                    listed.push(failed("the listing broke off"));
                    listed
                }
                Ok(listed) => listed,
                Err(error) => vec![Err(error)],
            }
        };
        stream::once(listed).flat_map(stream::iter).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.cloned();
        Self::call(&self.bucket, &self.link, "blob list", move |bucket| {
            now(bucket.objects.list_with_delimiter(prefix.as_ref()))
        })
        .await
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented { operation: "copy".into(), implementer: "simulated".into() })
    }
}
