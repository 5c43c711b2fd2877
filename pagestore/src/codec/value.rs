use bytes::Bytes;

use super::{CodecError, Encoding, Staged};
use crate::types::PageNo;
use crate::wire::{Cursor, put_varint};

/// The version written; every version from 1 to this one is read.
const VERSION: u8 = 1;

/// What a staged value holds: `version u8, encoding u8, page varint, body`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StagedValue<'a> {
    /// How the body stands for the content.
    pub encoding: Encoding,
    /// The page that it is the content of.
    pub page: PageNo,
    /// The encoded content.
    pub body: &'a [u8],
}

impl<'a> StagedValue<'a> {
    /// Takes a value apart.
    ///
    /// # Errors
    /// [`CodecError::Malformed`] and [`CodecError::NewerVersion`].
    pub fn decode(value: &'a [u8]) -> Result<StagedValue<'a>, CodecError> {
        let mut cursor = Cursor::new(value);
        let found = cursor.u8()?;
        if found == 0 || found > VERSION {
            return Err(CodecError::NewerVersion { found, newest: VERSION });
        }
        let encoding =
            Encoding::from_tag(cursor.u8()?).ok_or(cursor.malformed("has an unknown encoding"))?;
        let page = PageNo(cursor.varint()?);
        let body = cursor.bytes(cursor.remaining())?;
        Ok(StagedValue { encoding, page, body })
    }
}

impl Staged {
    /// The value to put for this content of `page`.
    #[must_use]
    pub fn value(&self, page: PageNo) -> Bytes {
        let mut value = Vec::with_capacity(2 + 10 + self.body.len());
        value.push(VERSION);
        value.push(self.encoding.tag());
        put_varint(&mut value, page.0);
        value.extend_from_slice(&self.body);
        value.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_laid_out_as_documented() {
        let staged = Staged { encoding: Encoding::Xor, base: None, body: vec![9, 8, 7] };
        let value = staged.value(PageNo(300));
        assert_eq!(value.as_ref(), [1, 3, 0xac, 0x02, 9, 8, 7]);
        assert_eq!(
            StagedValue::decode(&value),
            Ok(StagedValue { encoding: Encoding::Xor, page: PageNo(300), body: &[9, 8, 7] })
        );
    }

    #[test]
    fn a_newer_version_names_both() {
        let error = StagedValue::decode(&[2, 1, 0]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "written in format version 2, this build reads up to version 1; upgrade it"
        );
        for bad in [&[][..], &[1], &[1, 9, 0], &[1, 1], &[1, 1, 0x80]] {
            assert!(matches!(StagedValue::decode(bad), Err(CodecError::Malformed(_))), "{bad:?}");
        }
    }
}
