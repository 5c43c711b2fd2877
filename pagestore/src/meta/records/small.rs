use super::Record;
use crate::types::{ContentHash, PageCount, Revision, VolumeId};
use crate::wire::{Cursor, Malformed, put_varint};

/// `F`: every change up to here is in files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// The revision flushed up to. Commits compare the key's mod revision, never this.
    pub up_to: Revision,
}

impl Record for Floor {
    const NAME: &'static str = "floor";
    fn write(&self, out: &mut Vec<u8>) {
        put_varint(out, self.up_to.0);
    }
    fn read(body: &mut Cursor<'_>, _version: u8) -> Result<Self, Malformed> {
        Ok(Floor { up_to: Revision(body.varint()?) })
    }
}

/// `O`: what is still kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Oldest {
    /// The oldest revision that can be read without being named.
    pub readable: Revision,
    /// Commits after this revision are all in the changelog or in files' commits sections.
    pub log_from: Revision,
}

impl Record for Oldest {
    const NAME: &'static str = "oldest revision";
    fn write(&self, out: &mut Vec<u8>) {
        put_varint(out, self.readable.0);
        put_varint(out, self.log_from.0);
    }
    fn read(body: &mut Cursor<'_>, _version: u8) -> Result<Self, Malformed> {
        Ok(Oldest { readable: Revision(body.varint()?), log_from: Revision(body.varint()?) })
    }
}

/// `Z`: the page count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageCountRecord(pub PageCount);

impl Record for PageCountRecord {
    const NAME: &'static str = "page count";
    fn write(&self, out: &mut Vec<u8>) {
        put_varint(out, self.0.0);
    }
    fn read(body: &mut Cursor<'_>, _version: u8) -> Result<Self, Malformed> {
        Ok(PageCountRecord(PageCount(body.varint()?)))
    }
}

/// `p`: the newest unflushed content of a page. Commits compare the key's mod revision; the value
/// is for those who look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// The content.
    pub hash: ContentHash,
}

impl Record for Pointer {
    const NAME: &'static str = "pointer";
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.hash.0);
    }
    fn read(body: &mut Cursor<'_>, _version: u8) -> Result<Self, Malformed> {
        Ok(Pointer { hash: ContentHash(body.array()?) })
    }
}

/// `D`: a file that no level lists any more. Put when it is dropped, and again when the last listed
/// file whose index points into it is dropped: nobody uses it who uses a newer level list than the
/// key's mod revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The revision in the object's name.
    pub named_at: Revision,
    /// Length of the object.
    pub bytes: u64,
    /// How many pages' bodies it holds.
    pub body_count: u64,
}

impl Record for Dropped {
    const NAME: &'static str = "dropped file";
    fn write(&self, out: &mut Vec<u8>) {
        [self.named_at.0, self.bytes, self.body_count].iter().for_each(|n| put_varint(out, *n));
    }
    fn read(body: &mut Cursor<'_>, _version: u8) -> Result<Self, Malformed> {
        Ok(Dropped {
            named_at: Revision(body.varint()?),
            bytes: body.varint()?,
            body_count: body.varint()?,
        })
    }
}

/// `au`: a file being uploaded, under its writer's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The revision in the object's name.
    pub named_at: Revision,
}

impl Record for Intent {
    const NAME: &'static str = "upload intent";
    fn write(&self, out: &mut Vec<u8>) {
        put_varint(out, self.named_at.0);
    }
    fn read(body: &mut Cursor<'_>, _version: u8) -> Result<Self, Malformed> {
        Ok(Intent { named_at: Revision(body.varint()?) })
    }
}

/// `n`: which volume has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeName {
    /// The volume.
    pub volume: VolumeId,
}

impl Record for VolumeName {
    const NAME: &'static str = "volume name";
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.volume.0.to_be_bytes());
    }
    fn read(body: &mut Cursor<'_>, _version: u8) -> Result<Self, Malformed> {
        Ok(VolumeName { volume: VolumeId(u64::from_be_bytes(body.array()?)) })
    }
}

/// `w`: who holds a volume's write lock, under the lease of its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteLockRecord {
    /// Drawn anew for each time that a lock is taken.
    pub holder: u64,
}

impl Record for WriteLockRecord {
    const NAME: &'static str = "write lock";
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.holder.to_be_bytes());
    }
    fn read(body: &mut Cursor<'_>, _version: u8) -> Result<Self, Malformed> {
        Ok(WriteLockRecord { holder: u64::from_be_bytes(body.array()?) })
    }
}

/// `S`: a revision that stays readable whatever the retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The revision.
    pub revision: Revision,
    /// What holds it.
    pub kind: PointKind,
}

/// What a point is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointKind {
    /// A named snapshot.
    Snapshot,
    /// A branch that reads through to it.
    Branch(VolumeId),
}

impl Record for Point {
    const NAME: &'static str = "named snapshot";
    fn write(&self, out: &mut Vec<u8>) {
        put_varint(out, self.revision.0);
        match self.kind {
            PointKind::Snapshot => out.push(0),
            PointKind::Branch(child) => {
                out.push(1);
                out.extend_from_slice(&child.0.to_be_bytes());
            }
        }
    }
    fn read(body: &mut Cursor<'_>, _version: u8) -> Result<Self, Malformed> {
        let revision = Revision(body.varint()?);
        let kind = match body.u8()? {
            0 => PointKind::Snapshot,
            1 => PointKind::Branch(VolumeId(u64::from_be_bytes(body.array()?))),
            _ => return Err(body.malformed("is a point of an unknown kind")),
        };
        Ok(Point { revision, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::round_trip;
    use super::*;

    #[test]
    fn small_values_are_frozen() {
        round_trip(&Floor { up_to: Revision(300) }, "01ac02e0f721ea");
        round_trip(&Oldest { readable: Revision(300), log_from: Revision(2) }, "01ac020285653ed3");
        round_trip(&PageCountRecord(PageCount(128)), "01800161234f0f");
        round_trip(
            &Pointer { hash: ContentHash([7; 16]) },
            "010707070707070707070707070707070776829b82",
        );
        round_trip(
            &Dropped { named_at: Revision(1), bytes: 300, body_count: 2 },
            "0101ac0202f1b99af7",
        );
        round_trip(&Intent { named_at: Revision(1) }, "0101595664ec");
        round_trip(&VolumeName { volume: VolumeId(0x0102) }, "01000000000000010238e9457f");
        round_trip(&Point { revision: Revision(9), kind: PointKind::Snapshot }, "010900e6942427");
        let branch = PointKind::Branch(VolumeId(5));
        round_trip(
            &Point { revision: Revision(9), kind: branch },
            "0109010000000000000005299e95a3",
        );
    }
}
