use super::Record;
use crate::types::{FileId, Revision};
use crate::wire::{Cursor, Malformed, put_varint};

/// `ag`: the compactor that works on the volume. The fencing token is the key's create revision;
/// the key is under the compactor's lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Who, for people: host and process.
    pub owner: String,
    /// What is being done, so that the next compactor can resume it or throw it away.
    pub scheduled: Option<Job>,
}

/// A piece of work that a compactor began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// The removal of what has been flushed up to a revision from the meta tier.
    Remove {
        /// Removed are pointers, staged pages and changelog entries up to here.
        up_to: Revision,
    },
    /// Files being written: whatever of them is not published is garbage.
    Write {
        /// The files.
        files: Vec<FileId>,
    },
}

const NOTHING: u8 = 0;
const REMOVE: u8 = 1;
const WRITE: u8 = 2;

impl Record for Claim {
    const NAME: &'static str = "compactor's claim";

    fn write(&self, out: &mut Vec<u8>) {
        put_varint(out, self.owner.len() as u64);
        out.extend_from_slice(self.owner.as_bytes());
        match &self.scheduled {
            None => out.push(NOTHING),
            Some(Job::Remove { up_to }) => {
                out.push(REMOVE);
                put_varint(out, up_to.0);
            }
            Some(Job::Write { files }) => {
                out.push(WRITE);
                put_varint(out, files.len() as u64);
                files.iter().for_each(|file| out.extend_from_slice(&file.bytes()));
            }
        }
    }

    fn read(body: &mut Cursor<'_>, _version: u8) -> Result<Self, Malformed> {
        let len = body.count(1)?;
        let owner = String::from_utf8_lossy(body.bytes(len)?).into_owned();
        let scheduled = match body.u8()? {
            NOTHING => None,
            REMOVE => Some(Job::Remove { up_to: Revision(body.varint()?) }),
            WRITE => {
                let mut files = Vec::new();
                for _ in 0..body.count(16)? {
                    files.push(FileId::from_bytes(body.array()?));
                }
                Some(Job::Write { files })
            }
            _ => return Err(body.malformed("schedules an unknown job")),
        };
        Ok(Claim { owner, scheduled })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::round_trip;
    use super::*;

    #[test]
    fn claims_are_frozen() {
        round_trip(&Claim::default(), "0100001f0cbf90");
        let remove = Some(Job::Remove { up_to: Revision(300) });
        round_trip(&Claim { owner: "a:1".into(), scheduled: remove }, "0103613a3101ac02c981dba2");
        let write = Some(Job::Write { files: vec![FileId::from_bytes([1; 16])] });
        round_trip(
            &Claim { owner: "a:1".into(), scheduled: write },
            "0103613a31020101010101010101010101010101010101f887202e",
        );
    }
}
