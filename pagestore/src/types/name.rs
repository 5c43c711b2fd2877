use std::fmt;
use std::sync::Arc;

/// Longest name of a volume, a named snapshot or a branch, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name, when it is a valid one.
            ///
            /// # Errors
            /// A sentence that says what is wrong, when it is empty, longer than 255 bytes, or
            /// holds `/` or NUL.
            pub fn new(name: &str) -> Result<Self, String> {
                if name.is_empty() {
                    return Err(concat!($what, " name is empty").into());
                }
                if name.len() > MAX_NAME_BYTES {
                    return Err(format!(
                        concat!($what, " name is longer than {} bytes: {}"), MAX_NAME_BYTES, name.len()
                    ));
                }
                if name.contains(['/', '\0']) {
                    return Err(format!(concat!($what, " name holds '/' or NUL: {:?}"), name));
                }
                Ok(Self(name.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name! {
    /// What users call a volume: 1 to 255 bytes without `/` and NUL.
    VolumeName, "volume"
}

name! {
    /// The name of a named snapshot (`name`) or of a branch (`@name`): 1 to 255 bytes without `/` and NUL.
    PointName, "snapshot"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_hold_no_separator() {
        assert_eq!(VolumeName::new("a b.db").unwrap().as_str(), "a b.db");
        assert!(VolumeName::new(&"x".repeat(255)).is_ok());
        for bad in ["", "a/b", "a\0b", &"x".repeat(256)] {
            assert!(VolumeName::new(bad).is_err(), "{bad:?}");
        }
    }
}
