//! The examples in `schema.md`: fenced blocks that begin with `hex`.
//!
//! ````text
//! ```hex record="floor" key=46
//! #= Floor { up_to: Revision(300) }
//! 01          # version
//! ac02        # 300
//! e0f721ea    # check
//! ```
//! ````
//!
//! Attributes follow the word `hex`; `#=` says what the bytes decode to; all else after `#` is for people.

/// The schema, as it is in the repository.
pub const SCHEMA: &str = include_str!("../../schema.md");

/// One example.
#[derive(Clone, Debug, Default)]
pub struct Example {
    attributes: Vec<(String, String)>,
    /// Line of its first fence, from 1.
    pub line: usize,
    /// What it says that it decodes to.
    pub says: Option<String>,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Example {
    /// The attribute called `name`, if it has one.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let mut attributes = self.attributes.iter();
        attributes.find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The attribute called `name`, as bytes in hex.
    #[must_use]
    pub fn hex_attribute(&self, name: &str) -> Vec<u8> {
        let text = self.attribute(name);
        let text = text.unwrap_or_else(|| panic!("schema.md:{}: no attribute {name}", self.line));
        hex(text, self.line)
    }
}

/// All examples that have the attribute `kind`, in their order.
#[must_use]
pub fn examples(kind: &str) -> Vec<Example> {
    let mut found = Vec::new();
    let mut open: Option<Example> = None;
    for (line, text) in SCHEMA.lines().enumerate().map(|(index, text)| (index + 1, text)) {
        match &mut open {
            None => {
                let fence = text.strip_prefix("```hex ");
                open = fence.map(|attributes| Example {
                    attributes: parse_attributes(attributes),
                    line,
                    ..Example::default()
                });
            }
            Some(_) if text == "```" => found.extend(open.take()),
            Some(example) => {
                if let Some(says) = text.strip_prefix("#=") {
                    let before = example.says.take().map_or(String::new(), |before| before + " ");
                    example.says = Some(before + says.trim());
                }
                let bytes = text.split('#').next().unwrap_or_default();
                example.bytes.extend(hex(bytes, line));
            }
        }
    }
    assert!(open.is_none(), "an example of schema.md does not end");
    found.retain(|example| example.attribute(kind).is_some());
    found
}

/// `a=b c="d e"`.
fn parse_attributes(text: &str) -> Vec<(String, String)> {
    let mut attributes = Vec::new();
    let mut rest = text.trim();
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').expect("a quote in schema.md does not end"),
            None => after.split_once(' ').unwrap_or((after, "")),
        };
        attributes.push((name.trim().to_owned(), value.to_owned()));
        rest = after.trim_start();
    }
    attributes
}

fn hex(text: &str, line: usize) -> Vec<u8> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).unwrap_or_else(|| panic!("schema.md:{line}: not hex: {c:?}")))
        .collect();
    assert!(digits.len().is_multiple_of(2), "schema.md:{line}: half a byte");
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}
