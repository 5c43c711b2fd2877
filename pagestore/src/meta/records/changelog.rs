use super::Record;
use crate::types::{ContentHash, FileId, PageCount, PageNo, Revision};
use crate::wire::{Cursor, Malformed, put_varint};

/// `X/<commit id>`: what a commit did, or that it never will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangelogEntry {
    /// The commit can no longer be applied.
    Aborted,
    /// The commit happened, at the entry's revision.
    Committed(Commit),
}

/// What a commit changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The revision of the snapshot that it was validated against.
    pub base: Revision,
    /// The pages it staged, in page order.
    pub pages: Vec<PageChange>,
    /// The files it published instead, of a bulk commit.
    pub files: Vec<FileId>,
    /// Pages in those files.
    pub bulk_page_count: u64,
    /// What became of the page count; `None` when the commit did not compare it.
    pub size: Option<SizeChange>,
}

impl Commit {
    /// How many pages it wrote.
    #[must_use]
    pub fn written_count(&self) -> u64 {
        self.pages.len() as u64 + self.bulk_page_count
    }
}

/// One staged page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageChange {
    /// The page.
    pub page: PageNo,
    /// Its content from now on; the zero page is staged nowhere.
    pub hash: ContentHash,
    /// Where the content is staged; `None` for a zero page.
    pub staged: Option<StagedAs>,
}

/// How a page's content lies in the meta tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StagedAs {
    /// The content that it is a delta against; `None` when whole.
    pub base: Option<ContentHash>,
    /// Bytes of the staged value.
    pub bytes: u32,
}

/// What a commit did to the page count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeChange {
    /// When it truncated: the lowest page count it went through. Older versions of pages from there
    /// on read as zeros.
    pub lowest: Option<PageCount>,
    /// The page count after the commit.
    pub last: PageCount,
}

const ABORTED: u8 = 0;
const COMMITTED: u8 = 1;

const SIZE: u8 = 1;
const TRUNCATED: u8 = 2;
const BULK: u8 = 4;

const WHOLE: u8 = 0;
const DELTA: u8 = 1;
const ZERO: u8 = 2;

impl Record for ChangelogEntry {
    const NAME: &'static str = "changelog entry";

    fn write(&self, out: &mut Vec<u8>) {
        let ChangelogEntry::Committed(commit) = self else {
            out.push(ABORTED);
            return;
        };
        out.push(COMMITTED);
        let truncated = commit.size.is_some_and(|size| size.lowest.is_some());
        out.push(
            if commit.size.is_some() { SIZE } else { 0 }
                | if truncated { TRUNCATED } else { 0 }
                | if commit.files.is_empty() { 0 } else { BULK },
        );
        put_varint(out, commit.base.0);
        if let Some(size) = commit.size {
            put_varint(out, size.last.0);
            if let Some(lowest) = size.lowest {
                put_varint(out, lowest.0);
            }
        }
        if !commit.files.is_empty() {
            put_varint(out, commit.bulk_page_count);
            put_varint(out, commit.files.len() as u64);
            commit.files.iter().for_each(|file| out.extend_from_slice(&file.bytes()));
        }
        put_varint(out, commit.pages.len() as u64);
        let mut next = 0;
        for change in &commit.pages {
            assert!(change.page.0 >= next, "BUG: a commit's pages are in order, each once");
            put_varint(out, change.page.0 - next);
            next = change.page.0.saturating_add(1);
            write_change(change, out);
        }
    }

    fn read(body: &mut Cursor<'_>, _version: u8) -> Result<Self, Malformed> {
        match body.u8()? {
            ABORTED => return Ok(ChangelogEntry::Aborted),
            COMMITTED => {}
            _ => return Err(body.malformed("has an unknown kind")),
        }
        let flags = body.u8()?;
        if flags & !(SIZE | TRUNCATED | BULK) != 0 || flags & (SIZE | TRUNCATED) == TRUNCATED {
            return Err(body.malformed("has unknown flags"));
        }
        let base = Revision(body.varint()?);
        let size = if flags & SIZE == 0 {
            None
        } else {
            let last = PageCount(body.varint()?);
            let lowest =
                if flags & TRUNCATED == 0 { None } else { Some(PageCount(body.varint()?)) };
            Some(SizeChange { lowest, last })
        };
        let (mut files, mut bulk_page_count) = (Vec::new(), 0);
        if flags & BULK != 0 {
            bulk_page_count = body.varint()?;
            for _ in 0..body.count(16)? {
                files.push(FileId::from_bytes(body.array()?));
            }
        }
        let mut pages = Vec::new();
        let mut next = 0u64;
        for _ in 0..body.count(2)? {
            let page = next
                .checked_add(body.varint()?)
                .ok_or(body.malformed("names a page past the last"))?;
            next = page.saturating_add(1);
            pages.push(read_change(PageNo(page), body)?);
        }
        Ok(ChangelogEntry::Committed(Commit { base, pages, files, bulk_page_count, size }))
    }
}

fn write_change(change: &PageChange, out: &mut Vec<u8>) {
    let Some(staged) = change.staged else {
        assert!(change.hash.is_zero_page(), "BUG: only a zero page is staged nowhere");
        out.push(ZERO);
        return;
    };
    out.push(if staged.base.is_some() { DELTA } else { WHOLE });
    out.extend_from_slice(&change.hash.0);
    if let Some(base) = staged.base {
        out.extend_from_slice(&base.0);
    }
    put_varint(out, staged.bytes.into());
}

fn read_change(page: PageNo, body: &mut Cursor<'_>) -> Result<PageChange, Malformed> {
    let kind = body.u8()?;
    if kind == ZERO {
        return Ok(PageChange { page, hash: ContentHash::ZERO_PAGE, staged: None });
    }
    if kind > ZERO {
        return Err(body.malformed("has a page of an unknown kind"));
    }
    let hash = ContentHash(body.array()?);
    let base = if kind == DELTA { Some(ContentHash(body.array()?)) } else { None };
    let bytes =
        u32::try_from(body.varint()?).map_err(|_| body.malformed("stages too many bytes"))?;
    Ok(PageChange { page, hash, staged: Some(StagedAs { base, bytes }) })
}

#[cfg(test)]
mod tests {
    use super::super::tests::round_trip;
    use super::*;

    #[test]
    fn changelog_entries_are_frozen() {
        round_trip(&ChangelogEntry::Aborted, "0100670419ea");
        let (h, b) = (ContentHash([0xaa; 16]), ContentHash([0xbb; 16]));
        let pages = vec![
            PageChange {
                page: PageNo(1),
                hash: h,
                staged: Some(StagedAs { base: None, bytes: 300 }),
            },
            PageChange {
                page: PageNo(2),
                hash: h,
                staged: Some(StagedAs { base: Some(b), bytes: 5 }),
            },
            PageChange { page: PageNo(9), hash: ContentHash::ZERO_PAGE, staged: None },
        ];
        let size = Some(SizeChange { lowest: Some(PageCount(9)), last: PageCount(10) });
        let staged = Commit { base: Revision(77), pages, files: vec![], bulk_page_count: 0, size };
        round_trip(
            &ChangelogEntry::Committed(staged),
            "0101034d0a09030100aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac020001aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb050602f9238104",
        );
        let bulk = Commit {
            base: Revision(77),
            pages: vec![],
            files: vec![FileId::from_bytes([0xcc; 16])],
            bulk_page_count: 20_000,
            size: Some(SizeChange { lowest: None, last: PageCount(20_000) }),
        };
        round_trip(
            &ChangelogEntry::Committed(bulk),
            "0101054da09c01a09c0101cccccccccccccccccccccccccccccccc00d3555db7",
        );
    }
}
