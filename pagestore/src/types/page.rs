use std::fmt;

/// Smallest page size in bytes.
pub const MIN_PAGE_SIZE: u32 = 512;
/// Largest page size in bytes.
pub const MAX_PAGE_SIZE: u32 = 65_536;

/// The number of a page in its volume, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageNo(pub u64);

impl fmt::Display for PageNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number of pages; page `n` exists when `n < count`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageCount(pub u64);

impl PageCount {
    /// True when `page` lies within the first `self` pages.
    #[must_use]
    pub fn contains(self, page: PageNo) -> bool {
        page.0 < self.0
    }
}

impl fmt::Display for PageCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The size of every page of a volume: a power of two from 512 to 65,536 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageSize(u32);

impl Default for PageSize {
    fn default() -> PageSize {
        PageSize::DEFAULT
    }
}

/// The number of bytes given is not a page size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("page size must be a power of two from 512 to 65536 bytes, not {0}")]
pub struct InvalidPageSize(pub u64);

impl PageSize {
    /// 4 KiB, the default of SQLite and of this crate.
    pub const DEFAULT: PageSize = PageSize(4096);

    /// A page size of `bytes`.
    ///
    /// # Errors
    /// [`InvalidPageSize`] unless `bytes` is a power of two from 512 to 65,536.
    pub fn new(bytes: u64) -> Result<PageSize, InvalidPageSize> {
        match u32::try_from(bytes) {
            Ok(n) if n.is_power_of_two() && (MIN_PAGE_SIZE..=MAX_PAGE_SIZE).contains(&n) => {
                Ok(PageSize(n))
            }
            _ => Err(InvalidPageSize(bytes)),
        }
    }

    /// The size in bytes.
    #[must_use]
    pub fn bytes(self) -> usize {
        self.0 as usize
    }

    /// The base-two logarithm of the size, which is how formats store it.
    #[must_use]
    pub fn log2(self) -> u8 {
        self.0.trailing_zeros().to_le_bytes()[0]
    }

    /// The page size whose base-two logarithm is `log2`.
    ///
    /// # Errors
    /// [`InvalidPageSize`] when that is not a page size.
    pub fn from_log2(log2: u8) -> Result<PageSize, InvalidPageSize> {
        PageSize::new(1u64.checked_shl(log2.into()).unwrap_or(0))
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_are_powers_of_two_within_bounds() {
        for ok in [512, 4096, 65_536] {
            let size = PageSize::new(ok).unwrap();
            assert_eq!(PageSize::from_log2(size.log2()).unwrap(), size);
        }
        for bad in [0, 1, 256, 511, 513, 4095, 131_072, u64::MAX] {
            assert_eq!(PageSize::new(bad), Err(InvalidPageSize(bad)));
        }
        assert!(PageSize::from_log2(64).is_err());
    }
}
