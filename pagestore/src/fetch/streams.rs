//! Who reads page after page? Pure: sees page numbers, decides how far to read ahead.
//!
//! A stream is a reader that comes forward through a volume's pages. Several may be under way at
//! once. Within a stream each file whose index served it has its own frontier: the first page that
//! has not been asked for ahead of time. Reading ahead starts with the first miss of a stream that
//! has come far enough, in small steps; a step grows and more are under way as the reader proves to
//! follow, so that a short run of neighbouring pages costs little.

use crate::types::{FileId, PageNo, PageSize, Revision};

/// Readers that are told apart; more, and the one seen least recently is forgotten.
const MAX_STREAMS: usize = 8;
/// Files of which a stream remembers a frontier.
const MAX_FRONTIERS: usize = 16;
/// A step forward over fewer pages than this is still forward: inner pages of a tree lie between.
const MAX_GAP_PAGES: u64 = 16;
/// A stream has proven itself after so many bytes of pages, and at least two pages.
const PROOF_BYTES: usize = 16 << 10;

/// Compressed bytes of the steps, one after the other; then the last for ever.
const STEP_BYTES: [u64; 3] = [256 << 10, 1 << 20, 2 << 20];
/// Steps under way ahead of a reader that has proven to follow.
const MAX_DEPTH: u64 = 4;
/// Bytes of pages, not compressed, that one volume reads ahead of one reader at most.
const MAX_AHEAD_BYTES: u64 = 32 << 20;

/// The readers of a volume that come forward.
#[derive(Debug)]
pub(super) struct Streams {
    streams: Vec<Stream>,
    clock: u64,
    proof_pages: u64,
    max_ahead_pages: u64,
}

#[derive(Debug)]
struct Stream {
    last: PageNo,
    revision: Revision,
    /// Pages seen in a row.
    length: u64,
    used: u64,
    frontiers: Vec<Frontier>,
}

/// How far a file has been read ahead for one stream.
#[derive(Clone, Copy, Debug)]
struct Frontier {
    file: FileId,
    /// First page not yet asked for.
    next: PageNo,
    /// Where the newest step begins, and over how many pages it goes.
    step_start: PageNo,
    step_pages: u64,
    steps: usize,
}

/// A step to take: read the index of the file from page `from` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// First page to ask for.
    pub(super) from: PageNo,
    /// Ask for no page from here on.
    pub(super) before: PageNo,
    /// The reader wants each page's newest version at or below this.
    pub(super) revision: Revision,
    /// Compressed bytes to ask each file for.
    pub(super) bytes: u64,
}

impl Streams {
    /// `cache_bytes` is the size of the cache that holds what is read ahead; at most a quarter of it does.
    pub(super) fn new(page_size: PageSize, cache_bytes: u64) -> Streams {
        let page_bytes = page_size.bytes() as u64;
        Streams {
            streams: Vec::with_capacity(MAX_STREAMS),
            clock: 0,
            proof_pages: (PROOF_BYTES / page_size.bytes()).max(2) as u64,
            max_ahead_pages: (MAX_AHEAD_BYTES.min(cache_bytes / 4) / page_bytes).max(1),
        }
    }

    /// A reader at `revision` looks for `page`. True when it has come forward to it page after page.
    pub(super) fn note(&mut self, page: PageNo, revision: Revision) -> bool {
        self.clock += 1;
        let (proof_pages, now) = (self.proof_pages, self.clock);
        let stream = match self.streams.iter_mut().find(|stream| stream.is_followed_by(page)) {
            Some(stream) => stream,
            None => self.begin(page),
        };
        if page > stream.last {
            stream.length += 1;
            stream.last = page;
        }
        (stream.revision, stream.used) = (revision, now);
        stream.length >= proof_pages
    }

    fn begin(&mut self, page: PageNo) -> &mut Stream {
        if self.streams.len() >= MAX_STREAMS {
            let oldest = (0..self.streams.len())
                .min_by_key(|at| self.streams.get(*at).map(|stream| stream.used));
            self.streams.swap_remove(oldest.unwrap_or(0));
        }
        let stream = Stream {
            last: page,
            revision: Revision::MAX,
            length: 1,
            used: 0,
            frontiers: Vec::new(),
        };
        self.streams.push(stream);
        self.streams.last_mut().expect("BUG: just pushed")
    }

    /// The step due for a reader who takes `page` from the index of `file`, if one is.
    pub(super) fn due(&mut self, file: FileId, page: PageNo, is_miss: bool) -> Option<Step> {
        let (proof_pages, max_ahead) = (self.proof_pages, self.max_ahead_pages);
        let stream = self.streams.iter_mut().find(|stream| stream.last == page)?;
        if stream.length < proof_pages {
            return None;
        }
        let revision = stream.revision;
        let frontier = stream.frontier(file, page, is_miss)?;
        if is_miss && page > frontier.next {
            // The reader overran it.
            frontier.next = page;
        }
        let ahead = frontier.next.0.saturating_sub(page.0);
        // The reader follows into the newest step: time for the next, if that gets enough room.
        let entered = page.0 >= frontier.step_start.0.saturating_add(frontier.step_pages / 4)
            && ahead <= max_ahead / 2;
        let depth = (frontier.steps as u64).min(MAX_DEPTH);
        let wanted = frontier.step_pages.saturating_mul(depth.saturating_sub(1));
        let more = ahead <= wanted && ahead.saturating_add(frontier.step_pages) <= max_ahead;
        if !(entered || more) {
            return None;
        }
        let bytes = STEP_BYTES.get(frontier.steps).or(STEP_BYTES.last())?;
        let before =
            PageNo(page.0.saturating_add(max_ahead).max(frontier.next.0.saturating_add(1)));
        Some(Step { from: frontier.next, before, revision, bytes: *bytes })
    }

    /// A step of `due` was taken: everything before `next` is asked for.
    pub(super) fn taken(&mut self, file: FileId, step: &Step, next: PageNo) {
        let found = self.streams.iter_mut().flat_map(|stream| &mut stream.frontiers);
        for frontier in found.filter(|found| found.file == file && found.next == step.from) {
            frontier.step_start = step.from;
            frontier.step_pages = next.0.saturating_sub(step.from.0);
            frontier.next = next;
            frontier.steps += 1;
        }
    }
}

impl Stream {
    fn is_followed_by(&self, page: PageNo) -> bool {
        page.0.checked_sub(self.last.0).is_some_and(|gap| gap <= MAX_GAP_PAGES)
    }

    /// The frontier of `file`; only a miss begins a new one, so that what is in memory already is
    /// not looked at twice.
    fn frontier(&mut self, file: FileId, page: PageNo, is_miss: bool) -> Option<&mut Frontier> {
        if let Some(at) = self.frontiers.iter().position(|frontier| frontier.file == file) {
            return self.frontiers.get_mut(at);
        }
        if !is_miss {
            return None;
        }
        if self.frontiers.len() >= MAX_FRONTIERS {
            self.frontiers.remove(0);
        }
        // A reader that comes over from another file goes on almost as it did there.
        let steps = self.frontiers.iter().map(|frontier| frontier.steps).max().unwrap_or(0);
        let steps = steps.saturating_sub(1).min(STEP_BYTES.len() - 1);
        self.frontiers.push(Frontier { file, next: page, step_start: page, step_pages: 0, steps });
        self.frontiers.last_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CACHE: u64 = 64 << 20;

    fn file(n: u8) -> FileId {
        FileId::from_bytes([n; 16])
    }

    fn streams() -> Streams {
        Streams::new(PageSize::DEFAULT, CACHE)
    }

    fn note(streams: &mut Streams, page: u64) -> bool {
        streams.note(PageNo(page), Revision(9))
    }

    fn due(streams: &mut Streams, page: u64, is_miss: bool) -> Option<Step> {
        streams.due(file(1), PageNo(page), is_miss)
    }

    /// Takes whatever is due, `pages` pages a step; says what was.
    fn take(streams: &mut Streams, page: u64, is_miss: bool, pages: u64) -> Option<(u64, u64)> {
        let step = due(streams, page, is_miss)?;
        streams.taken(file(1), &step, PageNo(step.from.0 + pages));
        Some((step.from.0, step.bytes))
    }

    #[test]
    fn a_reader_proves_itself_page_after_page() {
        let mut streams = streams();
        let proven: Vec<bool> = [5, 6, 6, 7, 20, 21].map(|page| note(&mut streams, page)).into();
        assert_eq!(proven, [false, false, false, false, true, true]);
        assert!(!note(&mut streams, 100), "a jump begins anew");
        assert!(!note(&mut streams, 99), "backwards too");
        assert!(note(&mut streams, 22), "and the first goes on");
    }

    #[test]
    fn readers_do_not_disturb_each_other() {
        let mut streams = streams();
        for step in 0..6 {
            for reader in 0..7 {
                assert_eq!(note(&mut streams, reader * 1000 + step), step >= 3);
            }
            note(&mut streams, 1_000_000 + step * 999);
        }
    }

    #[test]
    fn random_reads_are_never_read_ahead_of() {
        let mut streams = streams();
        let mut page = 1u64;
        for _ in 0..1000 {
            page = page.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            note(&mut streams, page % 100_000_000);
            assert_eq!(due(&mut streams, page % 100_000_000, true), None);
        }
    }

    #[test]
    fn hits_alone_begin_nothing() {
        let mut streams = streams();
        for page in 0..100 {
            note(&mut streams, page);
            assert_eq!(due(&mut streams, page, false), None);
        }
    }

    #[test]
    fn steps_grow_as_the_reader_follows() {
        let mut streams = streams();
        let mut taken = Vec::new();
        for page in 0..3000 {
            note(&mut streams, page);
            let pages = match taken.len() {
                0 => 128,
                1 => 512,
                _ => 1024,
            };
            taken.extend(take(&mut streams, page, page == 16, pages).map(|step| (page, step)));
            taken.extend(take(&mut streams, page, false, pages).map(|step| (page, step)));
        }
        let sizes: Vec<u64> = taken.iter().map(|(_, (_, bytes))| *bytes).collect();
        assert_eq!(sizes[..4], [256 << 10, 1 << 20, 2 << 20, 2 << 20]);
        let (at, from): (Vec<u64>, Vec<u64>) =
            taken.iter().map(|(at, (from, _))| (*at, *from)).unzip();
        assert_eq!(from[..4], [16, 144, 656, 1680], "without gap or overlap");
        assert_eq!((at[0], at[1]), (16, 48), "not before the reader is in the first step");
        // Once it goes well several steps are under way.
        assert!(taken.iter().any(|(at, (from, _))| from - at >= 2 * 1024));
        assert!(taken.iter().all(|(at, (from, _))| from - at <= 8192));
    }

    #[test]
    fn a_small_cache_bounds_what_is_ahead() {
        let mut streams = Streams::new(PageSize::DEFAULT, 1 << 20);
        for page in 0..2000 {
            note(&mut streams, page);
            if let Some(step) = due(&mut streams, page, true) {
                assert!(step.before.0 <= page + 128, "{page}: {step:?}");
                streams.taken(file(1), &step, step.before);
            }
        }
    }

    #[test]
    fn a_reader_that_comes_over_from_another_file_goes_on() {
        let mut streams = streams();
        for page in 0..4000 {
            note(&mut streams, page);
            while take(&mut streams, page, true, 512).is_some() {}
        }
        note(&mut streams, 4000);
        let step = streams.due(file(2), PageNo(4000), true).unwrap();
        assert_eq!((step.from, step.bytes), (PageNo(4000), 2 << 20));
    }
}
