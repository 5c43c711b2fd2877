//! Names of objects: `<volume, 16 hex>/<revision, 16 hex>-<file uuid>.pages`.

use std::fmt;
use std::str::FromStr;

use object_store::path::Path;

use crate::types::{FileId, Revision, VolumeId};

const SUFFIX: &str = ".pages";

/// Names one object of the blob tier.
///
/// The revision lets a listing alone show that files are ahead of a meta tier that was restored
/// from an old backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// The volume whose pages the file holds.
    pub volume: VolumeId,
    /// The newest revision that its writer had seen when it named the file.
    pub named_at: Revision,
    /// The file.
    pub file: FileId,
}

impl ObjectName {
    pub(super) fn path(&self) -> Path {
        Path::from(self.to_string())
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:016x}-{}{SUFFIX}", self.volume, self.named_at.0, self.file)
    }
}

/// The text is not the name of an object in the one form that this crate writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a file of pages")]
pub struct InvalidObjectName;

impl FromStr for ObjectName {
    type Err = InvalidObjectName;

    fn from_str(text: &str) -> Result<ObjectName, InvalidObjectName> {
        let (volume, rest) = text.split_once('/').ok_or(InvalidObjectName)?;
        let (revision, file) = rest
            .strip_suffix(SUFFIX)
            .and_then(|stem| stem.split_once('-'))
            .ok_or(InvalidObjectName)?;
        let name = ObjectName {
            volume: volume.parse().map_err(|_| InvalidObjectName)?,
            named_at: u64::from_str_radix(revision, 16)
                .map(Revision)
                .map_err(|_| InvalidObjectName)?,
            file: file.parse().map_err(|_| InvalidObjectName)?,
        };
        // The parsers of the parts are lenient (case, sign, length); a name has one form.
        if name.to_string() == text { Ok(name) } else { Err(InvalidObjectName) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str =
        "00000000000000ab/0000000000000102-0192f7a1-7c00-7000-8000-000000000001.pages";

    #[test]
    fn names_have_one_form() {
        let name = ObjectName {
            volume: VolumeId(0xab),
            named_at: Revision(0x102),
            file: "0192f7a1-7c00-7000-8000-000000000001".parse().unwrap(),
        };
        assert_eq!(name.to_string(), NAME);
        assert_eq!(NAME.parse(), Ok(name));
        assert_eq!(name.path().to_string(), NAME);
    }

    #[test]
    fn other_forms_are_no_names() {
        let upper = NAME.replace("ab/", "AB/");
        let short = NAME.replacen("00000000000000ab", "ab", 1);
        let signed = NAME.replacen("00000000000000ab", "+0000000000000ab", 1);
        let deeper = format!("x/{NAME}");
        for bad in ["", "x", &NAME[..70], &upper, &short, &signed, &deeper] {
            assert_eq!(bad.parse::<ObjectName>(), Err(InvalidObjectName), "{bad}");
        }
    }
}
