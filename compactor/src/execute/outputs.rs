//! Files being written, one after the other: each is put as soon as it is full.

use pagestore::internal::file::{FileEntry, FileIdentity, FileParams, FileWriter, Origin};
use pagestore::internal::mirror::VolumeState;
use pagestore::internal::types::PageNo;
use pagestore::{Error, ErrorKind};

use crate::claim::Claim;
use crate::interrupt::Work;
use crate::merge::room::Room;
use crate::publish::Upload;

/// Bytes at which a file is full: it is held in memory until it is put, in one piece.
const FILE_BYTES: u64 = 64 << 20;

/// A series of files of one level, in page order.
#[derive(Debug)]
pub(crate) struct Outputs {
    upload: Upload,
    level: u8,
    origin: Origin,
    target_versions: u64,
    room: Room,
    writer: Option<FileWriter>,
    entries: Vec<FileEntry>,
    last_page: Option<PageNo>,
}

impl Outputs {
    pub(crate) fn new(
        upload: Upload,
        level: u8,
        origin: Origin,
        target_versions: u64,
        room: Room,
    ) -> Outputs {
        Outputs {
            upload,
            level,
            origin,
            target_versions,
            room,
            writer: None,
            entries: vec![],
            last_page: None,
        }
    }

    /// The file to push to, after [`Outputs::close_before`].
    pub(crate) async fn writer(
        &mut self,
        claim: &Claim,
        state: &VolumeState,
    ) -> Work<&mut FileWriter> {
        if self.writer.is_none() {
            let identity = FileIdentity {
                volume: claim.volume().id(),
                id: self.upload.announce(claim).await?,
                named_at: self.upload.named_at(),
                page_size: state.record.page_size,
            };
            let (level, origin) = (self.level, self.origin);
            self.writer = Some(FileWriter::new(FileParams { identity, level, origin }));
        }
        Ok(self.writer.as_mut().expect("BUG: a writer was just made"))
    }

    /// Puts the file if it is full, and one publication can list another.
    async fn close_if_full(&mut self, claim: &Claim) -> Work<()> {
        let is_full = self.writer.as_ref().is_some_and(|writer| {
            writer.written_bytes() >= FILE_BYTES || writer.version_count() >= self.target_versions
        });
        if is_full && self.room.take() { self.close(claim).await } else { Ok(()) }
    }

    /// Puts the file if `page` must not be pushed to it: because it is full, or because one of `cuts`,
    /// which are sorted, lies in between. A page's versions stay in one file.
    pub(crate) async fn close_before(
        &mut self,
        claim: &Claim,
        page: PageNo,
        cuts: &[PageNo],
    ) -> Work<()> {
        if self.last_page == Some(page) {
            return Ok(());
        }
        let next_cut = self.last_page.map(|last| cuts.partition_point(|cut| *cut <= last));
        let is_cut = next_cut.and_then(|at| cuts.get(at)).is_some_and(|cut| *cut <= page);
        self.last_page = Some(page);
        if is_cut { self.close(claim).await } else { self.close_if_full(claim).await }
    }

    /// True when few more files fit into one publication: what need not be copied then is not.
    pub(crate) fn is_scarce(&self) -> bool {
        self.room.is_scarce()
    }

    /// Puts the file that is being written.
    pub(crate) async fn close(&mut self, claim: &Claim) -> Work<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let env = &claim.volume().env;
        let built = env.blocking(move || writer.finish()).await;
        let built = built
            .ok_or_else(|| Error::new(ErrorKind::Unavailable, "the runtime is shutting down"))?;
        self.entries.push(self.upload.put(claim, built).await?);
        Ok(())
    }

    /// Goes on with files of another level; the one being written is put first.
    pub(crate) async fn switch_level(&mut self, claim: &Claim, level: u8) -> Work<()> {
        self.close(claim).await?;
        self.level = level;
        Ok(())
    }

    /// What is to be published, and the files to list.
    pub(crate) async fn finish(mut self, claim: &Claim) -> Work<(Upload, Vec<FileEntry>)> {
        self.close(claim).await?;
        Ok((self.upload, self.entries))
    }
}
