//! The chain that the entries form, and how it is followed: what was changed, removed or moved
//! shows, and is named by its number.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

/// Faults that are named at most; there may be more.
pub const MAX_FAULTS: usize = 100;

/// An entry as it is stored and hashed.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub seq: i64,
    pub at: i64,
    pub actor: String,
    pub action: String,
    pub subject: String,
    pub detail: String,
    pub hash: String,
}

impl Link {
    /// Whether this entry, put at `place`, would follow one whose hash is `before`.
    fn fits(&self, before: &str, place: i64) -> bool {
        let fields = [self.actor.as_str(), &self.action, &self.subject, &self.detail];
        chain_hash(before, place, self.at, fields) == self.hash
    }
}

/// The end of the trail at some moment, kept elsewhere: proves later that the trail up to there is
/// still the same one, even to somebody who can rewrite all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AuditAnchor)]
pub struct Anchor {
    /// Where people reach the installation that it was taken from.
    pub installation: String,
    /// The last entry at that moment.
    pub seq: i64,
    /// Its hash.
    pub hash: String,
    /// When the anchor was taken, UTC ms.
    pub at: i64,
}

/// Where the trail is not what was recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// An entry's content does not have its hash.
    #[error(
        "entry {seq} was altered, or stands where another one stood, or the one before it was altered with its hash"
    )]
    Altered {
        /// Which.
        seq: i64,
    },
    /// An entry stands in another's place.
    #[error("entry {seq} was moved: it stands at {found_at}")]
    Moved {
        /// Its own place.
        seq: i64,
        /// Where it is.
        found_at: i64,
    },
    /// Entries are gone.
    #[error("{} missing", entries(*first, *last))]
    Missing {
        /// The first.
        first: i64,
        /// The last.
        last: i64,
    },
    /// What the entry builds on is gone, so that nothing shows whether it was altered.
    #[error("entry {seq} cannot be verified: it builds on the hash of the one before, which is missing")]
    Unverifiable {
        /// Which.
        seq: i64,
    },
    /// The record of the trail's end does not agree with its last entry.
    #[error(
        "the head of the trail does not have the hash of the last entry, {last}: one of the two was altered"
    )]
    Head {
        /// The last entry on record.
        last: i64,
    },
    /// The trail has more entries than were recorded.
    #[error("{} beyond the head of the trail, which ends at {head}", entries(head + 1, *last))]
    Beyond {
        /// What the head remembers.
        head: i64,
        /// The last entry on record.
        last: i64,
    },
    /// The trail ends before the anchor.
    #[error("the anchor was taken at entry {seq}, but the trail ends at {last}: {} removed", entries(last + 1, *seq))]
    EndsBeforeAnchor {
        /// The anchor's entry.
        seq: i64,
        /// The last entry on record.
        last: i64,
    },
    /// The anchored entry is another one today.
    #[error("entry {seq} is not the one that the anchor was taken at: the trail was rewritten up to there")]
    NotAnchored {
        /// The anchor's entry.
        seq: i64,
    },
}

fn entries(first: i64, last: i64) -> String {
    if first == last { format!("entry {first} is") } else { format!("entries {first} to {last} are") }
}

/// What following the whole trail has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// Entries on record.
    pub entries: i64,
    /// What is wrong, in the order of the trail; [`MAX_FAULTS`] at most. Empty: the trail is whole.
    pub faults: Vec<Fault>,
}

impl Verification {
    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Follows the chain entry by entry, in the order of their numbers.
pub(super) struct Follower<'a> {
    anchor: Option<&'a Anchor>,
    entries: i64,
    /// The last entry that is settled, and the hash that the next one builds on.
    last: i64,
    hash: String,
    /// Entries behind that one, side by side, whose places are in doubt.
    doubtful: Vec<Link>,
    faults: Vec<Fault>,
}

impl<'a> Follower<'a> {
    pub fn new(anchor: Option<&'a Anchor>) -> Self {
        Self { anchor, entries: 0, last: 0, hash: String::new(), doubtful: Vec::new(), faults: Vec::new() }
    }

    /// The entry with the next higher number. False: enough is wrong, read no further.
    pub fn take(&mut self, link: Link) -> bool {
        self.entries += 1;
        if let Some(anchor) = self.anchor
            && anchor.seq == link.seq
            && anchor.hash != link.hash
        {
            self.faults.push(Fault::NotAnchored { seq: anchor.seq });
        }
        let (end, hash) = match self.doubtful.last() {
            Some(doubtful) => (doubtful.seq, doubtful.hash.as_str()),
            None => (self.last, self.hash.as_str()),
        };
        if link.seq != end + 1 {
            self.settle();
            self.faults.push(Fault::Missing { first: end + 1, last: link.seq - 1 });
            // It is taken as it stands, for those behind it.
            self.faults.push(Fault::Unverifiable { seq: link.seq });
            (self.last, self.hash) = (link.seq, link.hash);
        } else if link.fits(hash, link.seq) {
            self.settle();
            (self.last, self.hash) = (link.seq, link.hash);
        } else {
            self.doubtful.push(link);
            self.rearrange();
        }
        self.faults.len() + self.doubtful.len() < MAX_FAULTS
    }

    /// The doubtful entries are what they are found to be: altered.
    fn settle(&mut self) {
        for link in self.doubtful.drain(..) {
            self.faults.push(Fault::Altered { seq: link.seq });
            (self.last, self.hash) = (link.seq, link.hash);
        }
    }

    /// If the doubtful entries make a chain in another order, they were moved.
    fn rearrange(&mut self) {
        let (mut place, mut hash) = (self.last, self.hash.clone());
        let mut moved = Vec::new();
        for _ in &self.doubtful {
            let Some(link) = self.doubtful.iter().find(|link| link.fits(&hash, place + 1)) else { return };
            place += 1;
            hash.clone_from(&link.hash);
            if link.seq != place {
                moved.push(Fault::Moved { seq: place, found_at: link.seq });
            }
        }
        self.faults.append(&mut moved);
        self.doubtful.clear();
        (self.last, self.hash) = (place, hash);
    }

    /// What the trail is worth, once all entries were taken and the head is known.
    pub fn end(mut self, head: i64, head_hash: &str) -> Verification {
        self.settle();
        let last = self.last;
        if self.faults.len() < MAX_FAULTS {
            if head > last {
                self.faults.push(Fault::Missing { first: last + 1, last: head });
            } else if head < last {
                self.faults.push(Fault::Beyond { head, last });
            } else if head_hash != self.hash && self.faults.last() != Some(&Fault::Altered { seq: last }) {
                self.faults.push(Fault::Head { last });
            }
            if let Some(anchor) = self.anchor
                && anchor.seq > last
            {
                self.faults.push(Fault::EndsBeforeAnchor { seq: anchor.seq, last });
            }
        }
        self.faults.truncate(MAX_FAULTS);
        Verification { entries: self.entries, faults: self.faults }
    }
}

/// The hash of an entry: every field with its length in front, so that no two entries read the same.
pub(super) fn chain_hash(before: &str, seq: i64, at: i64, fields: [&str; 4]) -> String {
    let mut hasher = Sha256::new();
    let (seq, at) = (seq.to_string(), at.to_string());
    for field in [before, &seq, &at].into_iter().chain(fields) {
        hasher.update((field.len() as u64).to_be_bytes());
        hasher.update(field.as_bytes());
    }
    hex(&hasher.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trail(entries: i64) -> Vec<Link> {
        let mut hash = String::new();
        (1..=entries)
            .map(|seq| {
                hash = chain_hash(&hash, seq, 0, ["system", "test.note", "note:1", &seq.to_string()]);
                Link {
                    seq,
                    at: 0,
                    actor: "system".into(),
                    action: "test.note".into(),
                    subject: "note:1".into(),
                    detail: seq.to_string(),
                    hash: hash.clone(),
                }
            })
            .collect()
    }

    fn follow(links: &[Link], head: &Link, anchor: Option<&Anchor>) -> Vec<Fault> {
        let mut follower = Follower::new(anchor);
        for link in links {
            if !follower.take(link.clone()) {
                break;
            }
        }
        follower.end(head.seq, &head.hash).faults
    }

    /// Exchanges what stands at two places, hashes and all.
    fn swap(links: &mut [Link], one: usize, other: usize) {
        let (first, second) = (links[one].seq, links[other].seq);
        links.swap(one, other);
        (links[one].seq, links[other].seq) = (first, second);
    }

    #[test]
    fn every_fault_is_named_by_its_entry() {
        let whole = trail(6);
        let check = |what: &str, tamper: &dyn Fn(&mut Vec<Link>), faults: &[Fault]| {
            let mut links = whole.clone();
            tamper(&mut links);
            assert_eq!(follow(&links, &whole[5], None), faults, "{what}");
        };
        let altered = |seq| Fault::Altered { seq };
        let moved = |seq, found_at| Fault::Moved { seq, found_at };
        let missing = |first, last| Fault::Missing { first, last };
        check("nothing", &|_| {}, &[]);
        check("the first", &|links| links[0].actor = "x".into(), &[altered(1)]);
        check("one in the middle", &|links| links[2].detail = "x".into(), &[altered(3)]);
        check("the last", &|links| links[5].at = 1, &[altered(6)]);
        check("two side by side", &|links| (links[1].at, links[2].at) = (1, 1), &[altered(2), altered(3)]);
        check("two apart", &|links| (links[1].at, links[4].at) = (1, 1), &[altered(2), altered(5)]);
        let unverifiable = |seq| Fault::Unverifiable { seq };
        check("the first removed", &|links| drop(links.remove(0)), &[missing(1, 1), unverifiable(2)]);
        check("two removed", &|links| drop(links.drain(2..4)), &[missing(3, 4), unverifiable(5)]);
        check(
            "one removed and the next one altered",
            &|links| {
                links[3].detail = "x".into();
                links.remove(2);
            },
            &[missing(3, 3), unverifiable(4)],
        );
        check("the end removed", &|links| links.truncate(4), &[missing(5, 6)]);
        check("all removed", &|links| links.clear(), &[missing(1, 6)]);
        check("two exchanged", &|links| swap(links, 1, 2), &[moved(2, 3), moved(3, 2)]);
        check("the last two exchanged", &|links| swap(links, 4, 5), &[moved(5, 6), moved(6, 5)]);
        check(
            "three in a ring",
            &|links| {
                swap(links, 1, 2);
                swap(links, 2, 3);
            },
            &[moved(2, 4), moved(3, 2), moved(4, 3)],
        );
        // Too far apart to be found, but not to be seen.
        check(
            "the first and the last exchanged",
            &|links| swap(links, 0, 5),
            &[altered(1), altered(2), altered(6)],
        );
        check(
            "one altered with its hash",
            &|links| {
                links[2].detail = "x".into();
                let before = links[1].hash.clone();
                links[2].hash = chain_hash(&before, 3, 0, ["system", "test.note", "note:1", "x"]);
            },
            &[altered(4)],
        );
        check("one added", &|links| links.push(trail(7).remove(6)), &[Fault::Beyond { head: 6, last: 7 }]);
    }

    #[test]
    fn an_anchor_shows_what_the_chain_alone_cannot() {
        let whole = trail(6);
        let anchor = |seq: i64, hash: &str| Anchor {
            installation: "https://keygate.example".into(),
            seq,
            hash: hash.into(),
            at: 0,
        };
        let kept = anchor(5, &whole[4].hash);
        assert_eq!(follow(&whole, &whole[5], Some(&kept)), []);
        // Cut off and the head set back: whole by itself.
        assert_eq!(follow(&whole[..3], &whole[2], None), []);
        assert_eq!(
            follow(&whole[..3], &whole[2], Some(&kept)),
            [Fault::EndsBeforeAnchor { seq: 5, last: 3 }]
        );
        // All rewritten, head and all.
        let mut hash = String::new();
        let mut other = whole.clone();
        for link in &mut other {
            link.actor = "nobody".into();
            let fields = [link.actor.as_str(), &link.action, &link.subject, &link.detail];
            hash = chain_hash(&hash, link.seq, link.at, fields);
            link.hash.clone_from(&hash);
        }
        assert_eq!(follow(&other, &other[5], None), []);
        assert_eq!(follow(&other, &other[5], Some(&kept)), [Fault::NotAnchored { seq: 5 }]);
    }

    #[test]
    fn faults_are_bounded() {
        let (mut links, head) = (trail(300), trail(300).remove(299));
        for link in links.iter_mut().step_by(2) {
            link.at = 1;
        }
        assert_eq!(follow(&links, &head, None).len(), MAX_FAULTS);
        // None of these follows from the one before.
        for link in &mut links {
            link.hash.push('0');
        }
        assert_eq!(follow(&links, &head, None).len(), MAX_FAULTS);
    }
}
