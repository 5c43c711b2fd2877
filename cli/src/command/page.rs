//! `page`

use pagestore::PageNo;
use serde::Serialize;

use crate::args::PageArgs;
use crate::context::Context;
use crate::failure::Outcome;

/// Bytes on a line of a dump.
const LINE_BYTES: usize = 16;

#[derive(Serialize)]
struct PageJson<'a> {
    name: &'a str,
    page: u64,
    revision: u64,
    bytes: usize,
    content_hex: String,
}

pub(super) async fn run(context: &mut Context, args: PageArgs) -> Outcome {
    let volume = context.open_volume(&args.name).await?;
    let snapshot = match args.at {
        Some(revision) => volume.snapshot_at(revision).await?,
        None => volume.snapshot().await?,
    };
    let content = snapshot.read(PageNo(args.number)).await?;
    if args.raw {
        context.out.bytes(&content)?;
        return Ok(context.out.flush()?);
    }
    if context.out.is_json() {
        let content_hex = content.iter().map(|byte| format!("{byte:02x}")).collect();
        let (revision, bytes) = (snapshot.revision().0, content.len());
        return Ok(context.out.json(&PageJson {
            name: &args.name,
            page: args.number,
            revision,
            bytes,
            content_hex,
        })?);
    }
    for line in dump(&content) {
        context.out.line(line)?;
    }
    Ok(())
}

/// The bytes in hexadecimal and as text; lines that repeat the one before are one `*`.
fn dump(content: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut before: Option<&[u8]> = None;
    for (index, line) in content.chunks(LINE_BYTES).enumerate() {
        if before == Some(line) {
            if lines.last().is_none_or(|last| last != "*") {
                lines.push("*".to_owned());
            }
            continue;
        }
        before = Some(line);
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String = line
            .iter()
            .map(
                |byte| {
                    if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' }
                },
            )
            .collect();
        lines.push(format!("{:08x}  {:<47}  |{text}|", index * LINE_BYTES, hex.join(" ")));
    }
    lines.push(format!("{:08x}", content.len()));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_lines_are_folded() {
        let mut content = [0; 64];
        content[..5].copy_from_slice(b"hello");
        assert_eq!(
            dump(&content),
            [
                "00000000  68 65 6c 6c 6f 00 00 00 00 00 00 00 00 00 00 00  |hello...........|",
                "00000010  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  |................|",
                "*",
                "00000040",
            ]
        );
    }
}
