//! The record that the workers of one node share: one value per client bucket, so that one
//! compare-and-swap takes the rate and a unit of every meter, or nothing. (Uses of tokens are taken before,
//! in a step of their own: see [`bucket_of_meter`].)
//!
//! The bytes are little-endian and begin with [`LAYOUT`]. Anything else is **treated as absent**
//! by the holder: shared keys carry the layout's version, so other bytes mean damage, and a
//! damaged value that stayed in the way would refuse its clients for the life of the process.
//! Starting empty is safe for the ledger: the lost units stay debited (withheld) and the new
//! records begin new streams. What can be exceeded is one second's rate, once.

use alloc::vec::Vec;

use super::rate::RateSecond;
use crate::id::{ClientId, ClientKey, Epoch, Generation, LeaseId, MeterId, Rec};
use crate::time::MonoMillis;
use crate::wire::exchange::{Meter, MeterKind, Renewal};

/// First byte of an encoded bucket; another number with every change of the layout.
pub const LAYOUT: u8 = 3;
/// Buckets of a node: clients of one bucket share a compare-and-swap.
pub const BUCKETS: u16 = 4_096;
/// Clients counted per second in one bucket at most (at 4,096 buckets: 250,000 on one node).
pub const MAX_RATES: usize = 64;
/// Meters in one bucket at most: a full one, with three leases in each, is some 20 KiB.
pub const MAX_METERS: usize = 64;
/// Leases of one meter in one record: the one being spent, the next, and one of the next window.
pub const MAX_LEASES: usize = 3;

/// Which of the [`BUCKETS`] a client's record is in: the first 8 bytes of the SHA-256 of its id,
/// modulo their number.
pub fn bucket_of(client: &ClientId) -> u16 {
    bucket_of_key(&ClientKey::from(client))
}

/// As [`bucket_of`], for a client whose key is at hand.
pub fn bucket_of_key(client: &ClientKey) -> u16 {
    let number = client.0.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    u16::try_from(number % u64::from(BUCKETS)).unwrap_or(0)
}

/// In which bucket the record of a meter is: with its client's rate, where one step takes both. Of uses of
/// tokens a client may have thousands: they are spread over all buckets by their numbers, and are taken in a
/// step of their own.
pub fn bucket_of_meter(client: &ClientKey, meter: &Meter) -> u16 {
    match meter.kind {
        MeterKind::TokenUses => u16::try_from(meter.id.0 % u64::from(BUCKETS)).unwrap_or(0),
        MeterKind::ClientQuota | MeterKind::KeyUses => bucket_of_key(client),
    }
}

/// What the workers of a node share about the clients of one bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// At most [`MAX_RATES`], one per client.
    pub rates: Vec<RateSecond>,
    /// At most [`MAX_METERS`], one per meter.
    pub meters: Vec<MeterRecord>,
}

/// One meter on one node: its stream of renewals and the leases it brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterRecord {
    /// Which counter.
    pub meter: MeterId,
    /// Names the stream.
    pub rec: Rec,
    /// Life of the database that answered step 1; absent before.
    pub epoch: Option<Epoch>,
    /// The last step that was answered; 0 before the first.
    pub seq: u64,
    /// At most [`MAX_LEASES`], in the order of their arrival.
    pub leases: Vec<Lease>,
    /// The step that is on its way.
    pub pending: Option<Pending>,
    /// The ledger's last "no", as long as it counts.
    pub kept: Option<Kept>,
    /// Requests that found no unit since the last answer.
    pub asked: u32,
    /// When a unit was last spent, or leases arrived, or the record was made.
    pub last_active: MonoMillis,
    /// Seconds of demand that one lease should last for.
    pub horizon_s: u32,
    /// How fast units are spent.
    pub demand: Demand,
    /// A lease of the next window was asked for in the window that ends then; 0 = never.
    pub ahead_of: MonoMillis,
}

/// A block of units of one generation, debited in the ledger, spent here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// The life of the counter that it was taken from.
    pub generation: Generation,
    /// Units it came with.
    pub units: u32,
    /// Units no request has taken yet.
    pub left: u32,
    /// From here on it may not be spent: counted from the moment its renewal was *sent*.
    pub expires_at: MonoMillis,
    /// End of its window; absent = a total.
    pub window_ends_at: Option<MonoMillis>,
    /// What the ledger had left after granting it.
    pub ledger_left: u64,
    /// To go back at once: another holder waits, or the bucket is full.
    pub recalled: bool,
    /// Not to be spent before: of the next window. 0 = of the present one.
    pub opens_at: MonoMillis,
}

/// A renewal as it was frozen before it was sent: sent again, it is the same to the byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Number of the step.
    pub seq: u64,
    /// The lease that it closes; no longer among [`MeterRecord::leases`].
    pub closed_lease: Option<LeaseId>,
    /// Its units that nobody will spend.
    pub unspent: u32,
    /// Units asked for; 0 = none.
    pub want: u32,
    /// Requests stood waiting when it was frozen.
    pub waiting: bool,
    /// After this any worker may send it again.
    pub answer_by: MonoMillis,
    /// The limit changed while it was on its way: a "no" is not to be kept.
    pub doubted: bool,
    /// The limit was lowered while it was on its way: what it brings goes back.
    pub recalled: bool,
    /// It asks for a lease of the next window.
    pub ahead: bool,
}

/// A "no" of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Other holders have the rest, and it is being recalled.
    Contended {
        /// Ask again then.
        until: MonoMillis,
        /// Whether the ledger was told that requests wait, and so recalls.
        recalling: bool,
    },
    /// Nothing is left.
    Exhausted {
        /// Ask again then.
        until: MonoMillis,
        /// When the window turns, for the client's eyes; absent = a total.
        window_ends_at: Option<MonoMillis>,
    },
    /// The meter was deleted.
    Gone {
        /// Ask again then.
        until: MonoMillis,
    },
}

/// An estimate of how fast units are spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Units spent since `since`.
    pub counted: u32,
    /// Beginning of the measurement.
    pub since: MonoMillis,
    /// Units per second of the measurements before, smoothed.
    pub per_s: u32,
}

impl Kept {
    /// Until when it counts.
    pub fn until(&self) -> MonoMillis {
        match *self {
            Self::Contended { until, .. } | Self::Exhausted { until, .. } | Self::Gone { until } => until,
        }
    }
}

impl MeterRecord {
    /// The step on its way, as it goes over the wire.
    pub fn renewal(&self) -> Option<Renewal> {
        let pending = self.pending.as_ref()?;
        Some(Renewal {
            meter: self.meter,
            rec: self.rec,
            seq: pending.seq,
            epoch: self.epoch,
            want: pending.want,
            closed_lease: pending.closed_lease,
            unspent: pending.unspent,
            waiting: pending.waiting,
            ahead: pending.ahead,
        })
    }
}

/// Bytes that are no bucket of this layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

impl Bucket {
    /// The bytes that [`Bucket::decode`] reads.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + 28 * self.rates.len() + 220 * self.meters.len());
        out.push(LAYOUT);
        put_count(&mut out, self.rates.len());
        for rate in &self.rates {
            out.extend_from_slice(&rate.client.0);
            put_u64(&mut out, rate.second);
            put_u32(&mut out, rate.admitted);
        }
        put_count(&mut out, self.meters.len());
        for meter in &self.meters {
            put_meter(&mut out, meter);
        }
        out
    }

    /// Reads what [`Bucket::encode`] wrote; total over all bytes, and nothing may be left over.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut input = Input(bytes);
        if input.u8()? != LAYOUT {
            return Err(Unreadable);
        }
        let rates = input.list(MAX_RATES, |input| {
            Ok(RateSecond { client: ClientKey(input.take()?), second: input.u64()?, admitted: input.u32()? })
        })?;
        let meters = input.list(MAX_METERS, get_meter)?;
        if input.0.is_empty() { Ok(Self { rates, meters }) } else { Err(Unreadable) }
    }
}

const EPOCH: u8 = 1;
const PENDING: u8 = 2;

const CLOSES: u8 = 1;
const WAITING: u8 = 2;
const DOUBTED: u8 = 4;
const LOWERED: u8 = 8;
const AHEAD: u8 = 16;

const WINDOW: u8 = 1;
const RECALLED: u8 = 2;

const NOT_KEPT: u8 = 0;
const CONTENDED: u8 = 1;
const RECALLING: u8 = 2;
const EXHAUSTED: u8 = 3;
const EXHAUSTED_WINDOW: u8 = 4;
const GONE: u8 = 5;

fn put_meter(out: &mut Vec<u8>, meter: &MeterRecord) {
    out.push(flag(EPOCH, meter.epoch.is_some()) | flag(PENDING, meter.pending.is_some()));
    put_u64(out, meter.meter.0);
    put_u64(out, meter.rec.0);
    put_u64(out, meter.seq);
    put_u32(out, meter.asked);
    put_u64(out, meter.last_active.0);
    put_u32(out, meter.horizon_s);
    put_u32(out, meter.demand.counted);
    put_u64(out, meter.demand.since.0);
    put_u32(out, meter.demand.per_s);
    put_u64(out, meter.ahead_of.0);
    if let Some(epoch) = meter.epoch {
        put_u64(out, epoch.0);
    }
    if let Some(pending) = &meter.pending {
        out.push(
            flag(CLOSES, pending.closed_lease.is_some())
                | flag(WAITING, pending.waiting)
                | flag(DOUBTED, pending.doubted)
                | flag(LOWERED, pending.recalled)
                | flag(AHEAD, pending.ahead),
        );
        put_u64(out, pending.seq);
        put_u32(out, pending.unspent);
        put_u32(out, pending.want);
        put_u64(out, pending.answer_by.0);
        if let Some(lease) = pending.closed_lease {
            put_u64(out, lease.0);
        }
    }
    match meter.kept {
        None => out.push(NOT_KEPT),
        Some(Kept::Contended { until, recalling }) => {
            out.push(if recalling { RECALLING } else { CONTENDED });
            put_u64(out, until.0);
        }
        Some(Kept::Exhausted { until, window_ends_at: None }) => {
            out.push(EXHAUSTED);
            put_u64(out, until.0);
        }
        Some(Kept::Exhausted { until, window_ends_at: Some(end) }) => {
            out.push(EXHAUSTED_WINDOW);
            put_u64(out, until.0);
            put_u64(out, end.0);
        }
        Some(Kept::Gone { until }) => {
            out.push(GONE);
            put_u64(out, until.0);
        }
    }
    put_count(out, meter.leases.len());
    for lease in &meter.leases {
        out.push(flag(WINDOW, lease.window_ends_at.is_some()) | flag(RECALLED, lease.recalled));
        put_u64(out, lease.id.0);
        put_u64(out, lease.generation.0);
        put_u32(out, lease.units);
        put_u32(out, lease.left);
        put_u64(out, lease.expires_at.0);
        put_u64(out, lease.ledger_left);
        put_u64(out, lease.opens_at.0);
        if let Some(end) = lease.window_ends_at {
            put_u64(out, end.0);
        }
    }
}

fn get_meter(input: &mut Input<'_>) -> Result<MeterRecord, Unreadable> {
    let flags = input.flags(EPOCH | PENDING)?;
    let meter = MeterId(input.u64()?);
    let rec = Rec(input.u64()?);
    let seq = input.u64()?;
    let asked = input.u32()?;
    let last_active = MonoMillis(input.u64()?);
    let horizon_s = input.u32()?;
    let demand = Demand { counted: input.u32()?, since: MonoMillis(input.u64()?), per_s: input.u32()? };
    let ahead_of = MonoMillis(input.u64()?);
    let epoch = if flags & EPOCH != 0 { Some(Epoch(input.u64()?)) } else { None };
    let pending = if flags & PENDING != 0 { Some(get_pending(input)?) } else { None };
    let kept = get_kept(input)?;
    let leases = input.list(MAX_LEASES, get_lease)?;
    Ok(MeterRecord {
        meter,
        rec,
        epoch,
        seq,
        leases,
        pending,
        kept,
        asked,
        last_active,
        horizon_s,
        demand,
        ahead_of,
    })
}

fn get_pending(input: &mut Input<'_>) -> Result<Pending, Unreadable> {
    let flags = input.flags(CLOSES | WAITING | DOUBTED | LOWERED | AHEAD)?;
    Ok(Pending {
        seq: input.u64()?,
        unspent: input.u32()?,
        want: input.u32()?,
        answer_by: MonoMillis(input.u64()?),
        closed_lease: if flags & CLOSES != 0 { Some(LeaseId(input.u64()?)) } else { None },
        waiting: flags & WAITING != 0,
        doubted: flags & DOUBTED != 0,
        recalled: flags & LOWERED != 0,
        ahead: flags & AHEAD != 0,
    })
}

fn get_kept(input: &mut Input<'_>) -> Result<Option<Kept>, Unreadable> {
    let tag = input.u8()?;
    if tag == NOT_KEPT {
        return Ok(None);
    }
    let until = MonoMillis(input.u64()?);
    Ok(Some(match tag {
        CONTENDED => Kept::Contended { until, recalling: false },
        RECALLING => Kept::Contended { until, recalling: true },
        EXHAUSTED => Kept::Exhausted { until, window_ends_at: None },
        EXHAUSTED_WINDOW => Kept::Exhausted { until, window_ends_at: Some(MonoMillis(input.u64()?)) },
        GONE => Kept::Gone { until },
        _ => return Err(Unreadable),
    }))
}

fn get_lease(input: &mut Input<'_>) -> Result<Lease, Unreadable> {
    let flags = input.flags(WINDOW | RECALLED)?;
    Ok(Lease {
        id: LeaseId(input.u64()?),
        generation: Generation(input.u64()?),
        units: input.u32()?,
        left: input.u32()?,
        expires_at: MonoMillis(input.u64()?),
        ledger_left: input.u64()?,
        opens_at: MonoMillis(input.u64()?),
        window_ends_at: if flags & WINDOW != 0 { Some(MonoMillis(input.u64()?)) } else { None },
        recalled: flags & RECALLED != 0,
    })
}

fn flag(bit: u8, set: bool) -> u8 {
    if set { bit } else { 0 }
}

/// All lists are bounded far below 256, by the constants above.
fn put_count(out: &mut Vec<u8>, count: usize) {
    out.push(u8::try_from(count).unwrap_or(u8::MAX));
}

fn put_u32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

/// The bytes not read yet.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(Unreadable)?;
        self.0 = tail;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Unreadable> {
        self.take().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Unreadable> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Unreadable> {
        self.take().map(u64::from_le_bytes)
    }

    /// A byte of flags, none but `known` set.
    fn flags(&mut self, known: u8) -> Result<u8, Unreadable> {
        let flags = self.u8()?;
        if flags & !known == 0 { Ok(flags) } else { Err(Unreadable) }
    }

    fn list<T>(
        &mut self,
        max: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, Unreadable>,
    ) -> Result<Vec<T>, Unreadable> {
        let count = usize::from(self.u8()?);
        if count > max {
            return Err(Unreadable);
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }
}

/// Buckets of any content, as damage or another program might leave them.
#[cfg(test)]
pub(super) mod arbitrary {
    use super::*;
    use crate::id::{Epoch, Generation, LeaseId, Rec};
    use proptest::prelude::*;

    fn mono() -> impl Strategy<Value = MonoMillis> {
        any::<u64>().prop_map(MonoMillis)
    }

    fn rate() -> impl Strategy<Value = RateSecond> {
        (any::<[u8; 16]>(), any::<u64>(), any::<u32>()).prop_map(|(client, second, admitted)| RateSecond {
            client: ClientKey(client),
            second,
            admitted,
        })
    }

    fn lease() -> impl Strategy<Value = Lease> {
        let ids = (any::<u64>(), any::<u64>(), any::<u32>(), any::<u32>());
        let ends = (mono(), proptest::option::of(mono()), mono());
        (ids, ends, any::<u64>(), any::<bool>()).prop_map(
            |(
                (id, generation, units, left),
                (expires_at, window_ends_at, opens_at),
                ledger_left,
                recalled,
            )| Lease {
                id: LeaseId(id),
                generation: Generation(generation),
                units,
                left,
                expires_at,
                window_ends_at,
                ledger_left,
                recalled,
                opens_at,
            },
        )
    }

    fn pending() -> impl Strategy<Value = Pending> {
        let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
        (any::<u64>(), proptest::option::of(any::<u64>()), any::<u32>(), any::<u32>(), mono(), flags)
            .prop_map(|(seq, closed, unspent, want, answer_by, (waiting, doubted, recalled, ahead))| {
                Pending {
                    seq,
                    closed_lease: closed.map(LeaseId),
                    unspent,
                    want,
                    waiting,
                    answer_by,
                    doubted,
                    recalled,
                    ahead,
                }
            })
    }

    fn kept() -> impl Strategy<Value = Kept> {
        prop_oneof![
            (mono(), any::<bool>()).prop_map(|(until, recalling)| Kept::Contended { until, recalling }),
            (mono(), proptest::option::of(mono()))
                .prop_map(|(until, window_ends_at)| Kept::Exhausted { until, window_ends_at }),
            mono().prop_map(|until| Kept::Gone { until }),
        ]
    }

    fn meter() -> impl Strategy<Value = MeterRecord> {
        let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>(), any::<u32>());
        let demand = (any::<u32>(), mono(), any::<u32>());
        let held = (
            proptest::collection::vec(lease(), 0..=MAX_LEASES),
            proptest::option::of(pending()),
            proptest::option::of(kept()),
            proptest::option::of(any::<u64>()),
            mono(),
        );
        (numbers, mono(), demand, held).prop_map(
            |(
                (meter, rec, seq, asked, horizon_s),
                last_active,
                (counted, since, per_s),
                (leases, pending, kept, epoch, ahead_of),
            )| MeterRecord {
                meter: MeterId(meter),
                rec: Rec(rec),
                epoch: epoch.map(Epoch),
                seq,
                leases,
                pending,
                kept,
                asked,
                last_active,
                horizon_s,
                demand: Demand { counted, since, per_s },
                ahead_of,
            },
        )
    }

    /// Any bucket; its numbers reach to the ends of their types.
    pub fn bucket() -> impl Strategy<Value = Bucket> {
        (proptest::collection::vec(rate(), 0..4), proptest::collection::vec(meter(), 0..4))
            .prop_map(|(rates, meters)| Bucket { rates, meters })
    }
}

#[cfg(test)]
mod tests {
    use super::arbitrary::bucket;
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    proptest! {
        #[test]
        fn what_is_written_is_read(bucket in bucket()) {
            prop_assert_eq!(Bucket::decode(&bucket.encode()), Ok(bucket));
        }

        #[test]
        fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Bucket::decode(&bytes);
            if let Some(first) = bytes.first_mut() {
                *first = LAYOUT;
            }
            let _ = Bucket::decode(&bytes);
        }

        #[test]
        fn damage_is_noticed_or_harmless(bucket in bucket(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = bucket.encode();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(read) = Bucket::decode(&bytes) {
                prop_assert_eq!(read.encode(), bytes, "one text per bucket");
            }
        }

        #[test]
        fn every_shortened_text_is_unreadable(bucket in bucket(), at in any::<prop::sample::Index>()) {
            let bytes = bucket.encode();
            let at = at.index(bytes.len());
            prop_assert_eq!(Bucket::decode(&bytes[..at]), Err(Unreadable));
        }
    }

    #[test]
    fn lists_end_at_their_bounds() {
        let rate = RateSecond { client: ClientKey([0; 16]), second: 1, admitted: 1 };
        for (count, readable) in [(MAX_RATES, true), (MAX_RATES + 1, false)] {
            let bucket = Bucket { rates: vec![rate; count], meters: vec![] };
            assert_eq!(Bucket::decode(&bucket.encode()).is_ok(), readable, "{count} rates");
        }
    }

    #[test]
    fn other_layouts_and_left_over_bytes_are_unreadable() {
        assert_eq!(Bucket::decode(&[LAYOUT, 0, 0]), Ok(Bucket::default()));
        for bytes in [&[][..], &[0], &[LAYOUT], &[LAYOUT, 0], &[LAYOUT, 0, 0, 0], &[LAYOUT + 1, 0, 0]] {
            assert_eq!(Bucket::decode(bytes), Err(Unreadable), "{bytes:?}");
        }
    }

    #[test]
    fn a_client_has_one_bucket_and_clients_spread() {
        let mut seen = std::collections::BTreeSet::new();
        for i in 0..1_000 {
            let client = ClientId(alloc::format!("client-{i}"));
            assert_eq!(bucket_of(&client), bucket_of(&client));
            assert!(bucket_of(&client) < BUCKETS);
            seen.insert(bucket_of(&client));
        }
        assert!(seen.len() > 800, "{} of 1,000 clients share no bucket", seen.len());
    }
}
