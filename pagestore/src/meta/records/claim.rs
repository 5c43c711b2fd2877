use super::Record;
use crate::types::{FileId, Revision};
use crate::wire::{Cursor, Malformed, put_varint};

/// `ag`: the compactor that works on the volume. The fencing token is the key's create revision;
/// the key is under the compactor's lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Who, for people: host and process.
    pub owner: String,
}

/// `aj`: a piece of work that a compactor began. Under no lease, so that it outlives its compactor:
/// the next one resumes it or throws it away. Put and deleted under a compare of the claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// The removal of what has been flushed up to a revision from the meta tier.
    Remove {
        /// Removed are pointers, staged pages and changelog entries up to here.
        up_to: Revision,
    },
    /// Files being written: whatever of them is not published is garbage.
    Write {
        /// The revision in the names of their objects.
        named_at: Revision,
        /// The files.
        files: Vec<FileId>,
    },
}

const REMOVE: u8 = 1;
const WRITE: u8 = 2;

impl Record for Claim {
    const NAME: &'static str = "compactor's claim";

    fn write(&self, out: &mut Vec<u8>) {
        put_varint(out, self.owner.len() as u64);
        out.extend_from_slice(self.owner.as_bytes());
    }

    fn read(body: &mut Cursor<'_>, _version: u8) -> Result<Self, Malformed> {
        let len = body.count(1)?;
        Ok(Claim { owner: String::from_utf8_lossy(body.bytes(len)?).into_owned() })
    }
}

impl Record for Job {
    const NAME: &'static str = "compactor's job";

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Job::Remove { up_to } => {
                out.push(REMOVE);
                put_varint(out, up_to.0);
            }
            Job::Write { named_at, files } => {
                out.push(WRITE);
                put_varint(out, named_at.0);
                put_varint(out, files.len() as u64);
                files.iter().for_each(|file| out.extend_from_slice(&file.bytes()));
            }
        }
    }

    fn read(body: &mut Cursor<'_>, _version: u8) -> Result<Self, Malformed> {
        match body.u8()? {
            REMOVE => Ok(Job::Remove { up_to: Revision(body.varint()?) }),
            WRITE => {
                let (named_at, mut files) = (Revision(body.varint()?), Vec::new());
                for _ in 0..body.count(16)? {
                    files.push(FileId::from_bytes(body.array()?));
                }
                Ok(Job::Write { named_at, files })
            }
            _ => Err(body.malformed("is of an unknown kind")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::round_trip;
    use super::*;

    #[test]
    fn claims_and_jobs_are_frozen() {
        round_trip(&Claim { owner: "a:1".into() }, "0103613a31cdc34000");
        round_trip(&Job::Remove { up_to: Revision(300) }, "0101ac029f57e8b2");
        let files = vec![FileId::from_bytes([1; 16])];
        round_trip(
            &Job::Write { named_at: Revision(7), files },
            "010207010101010101010101010101010101010171fba1de",
        );
    }
}
