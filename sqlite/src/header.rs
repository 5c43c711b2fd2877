//! The first page of a SQLite database, as far as a VFS has to know it. Pure.
//!
//! SQLite counts every commit in two counters of page 1, and takes its page cache for valid while the
//! first of them has not changed. Stored, that would make every commit change page 1, and any two
//! commits conflict. So the stored counters stay as they are, and every connection shows SQLite counters
//! of its own, which change when others committed.

/// Bytes of the header.
pub(crate) const HEADER_BYTES: usize = 100;
/// The change counter.
const COUNTER: std::ops::Range<usize> = 24..28;
/// Pages in the database.
const PAGE_COUNT: std::ops::Range<usize> = 28..32;
/// What a commit that only grows or shrinks the database changes: its size and its free list.
const SIZE: std::ops::Range<usize> = 28..40;
/// The counter's value when the page count was written: the count holds when the two are equal.
const COUNT_VALID_FOR: std::ops::Range<usize> = 92..96;
/// The version of the SQLite that wrote last.
const WRITER: std::ops::Range<usize> = 96..100;
/// Write and read version: both say WAL in a file that was in WAL mode, which here is not.
const VERSIONS: std::ops::Range<usize> = 18..20;
/// The versions of a file with a rollback journal, and of one in WAL mode. Others come from a future
/// SQLite, and are for the one above to judge.
const ROLLBACK: u8 = 1;
const WAL: u8 = 2;

fn get(page: &[u8], range: std::ops::Range<usize>) -> Option<u32> {
    Some(u32::from_be_bytes(page.get(range)?.try_into().ok()?))
}

fn put(page: &mut [u8], range: std::ops::Range<usize>, bytes: &[u8]) {
    if let Some(to) = page.get_mut(range)
        && to.len() == bytes.len()
    {
        to.copy_from_slice(bytes);
    }
}

/// The change counter in page 1.
pub(crate) fn counter(page: &[u8]) -> u32 {
    get(page, COUNTER).unwrap_or(0)
}

/// The page count in page 1, if it is one and holds: SQLite before 3.7 does not write it.
pub(crate) fn page_count(page: &[u8]) -> Option<u64> {
    get(page, PAGE_COUNT).filter(|count| *count > 0 && count_holds(page)).map(u64::from)
}

fn count_holds(page: &[u8]) -> bool {
    get(page, COUNTER) == get(page, COUNT_VALID_FOR)
}

/// The page size that page 1 says, if it is a database's and says one that there is.
pub(crate) fn page_size(page: &[u8]) -> Option<usize> {
    if !page.starts_with(b"SQLite format 3\0") {
        return None;
    }
    let size = u16::from_be_bytes(page.get(16..18)?.try_into().ok()?);
    let size = if size == 1 { 65_536 } else { usize::from(size) };
    (size >= 512 && size.is_power_of_two()).then_some(size)
}

/// What SQLite is shown of a stored page 1.
pub(crate) fn show(page: &mut [u8], counter: u32) {
    put_counter(page, counter);
    for version in page.get_mut(VERSIONS).into_iter().flatten() {
        if *version == WAL {
            *version = ROLLBACK;
        }
    }
}

/// Changes the counter. A page count that did not hold does not begin to.
fn put_counter(page: &mut [u8], counter: u32) {
    let valid_for = if count_holds(page) { counter } else { counter.wrapping_sub(1) };
    put(page, COUNTER, &counter.to_be_bytes());
    put(page, COUNT_VALID_FOR, &valid_for.to_be_bytes());
}

/// What is stored of a page 1 that SQLite wrote, over what is stored now, if anything is.
pub(crate) fn hide(page: &mut [u8], stored: Option<&[u8]>) {
    let zeros = [0; HEADER_BYTES];
    let stored = stored.unwrap_or(&zeros);
    put_counter(page, counter(stored));
    if let Some(bytes) = stored.get(WRITER) {
        put(page, WRITER, bytes);
    }
}

/// True when two stored first pages differ in nothing but the database's size and free list, which do
/// not concern a transaction that changes neither.
pub(crate) fn differs_in_size_only(a: &[u8], b: &[u8]) -> bool {
    let blank = |page: &[u8]| {
        let mut page = page.to_vec();
        for range in [COUNTER, SIZE, COUNT_VALID_FOR, WRITER] {
            if let Some(bytes) = page.get_mut(range) {
                bytes.fill(0);
            }
        }
        page
    };
    blank(a) == blank(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Vec<u8> {
        (0..=255u8).cycle().take(512).collect()
    }

    #[test]
    fn what_is_hidden_does_not_change_the_stored_page() {
        let mut stored = page();
        stored[COUNT_VALID_FOR].copy_from_slice(&page()[COUNTER]);
        hide(&mut stored, None);
        let mut written = stored.clone();
        show(&mut written, 77);
        assert_eq!(counter(&written), 77);
        written[COUNTER].copy_from_slice(&78u32.to_be_bytes());
        written[COUNT_VALID_FOR].copy_from_slice(&78u32.to_be_bytes());
        written[WRITER].fill(9);
        hide(&mut written, Some(&stored));
        assert_eq!(written, stored);
    }

    #[test]
    fn of_the_versions_wal_alone_is_not_shown() {
        for (stored, shown) in
            [([1, 1], [1, 1]), ([2, 2], [1, 1]), ([3, 2], [3, 1]), ([2, 3], [1, 3])]
        {
            let mut page = page();
            page[VERSIONS].copy_from_slice(&stored);
            show(&mut page, 5);
            assert_eq!(page[VERSIONS], shown);
        }
    }

    #[test]
    fn a_count_that_does_not_hold_is_not_made_to() {
        let mut stale = page();
        show(&mut stale, 5);
        assert!(!count_holds(&stale));
        // Nor when it is written back.
        hide(&mut stale, Some(&page()));
        show(&mut stale, 6);
        assert!(!count_holds(&stale));
        assert_eq!(page_count(&stale), None);
        let mut valid = page();
        valid[COUNT_VALID_FOR].copy_from_slice(&page()[COUNTER]);
        hide(&mut valid, None);
        show(&mut valid, 5);
        assert!(count_holds(&valid));
    }

    #[test]
    fn growth_alone_is_told_from_other_changes() {
        let (a, mut b) = (page(), page());
        b[SIZE].fill(1);
        b[COUNTER].fill(1);
        assert!(differs_in_size_only(&a, &b));
        b[41] ^= 1;
        assert!(!differs_in_size_only(&a, &b));
    }

    #[test]
    fn sizes_are_read() {
        let mut page = vec![0; 512];
        assert_eq!(page_size(&page), None);
        page[..16].copy_from_slice(b"SQLite format 3\0");
        page[16..18].copy_from_slice(&[0, 1]);
        assert_eq!(page_size(&page), Some(65_536));
        page[16..18].copy_from_slice(&[2, 0]);
        assert_eq!(page_size(&page), Some(512));
        for nonsense in [[0, 0], [0, 255], [1, 0], [3, 0]] {
            page[16..18].copy_from_slice(&nonsense);
            assert_eq!(page_size(&page), None);
        }
        assert_eq!(page_count(&page), None);
        page[31] = 9;
        assert_eq!(page_count(&page), Some(9));
    }
}
