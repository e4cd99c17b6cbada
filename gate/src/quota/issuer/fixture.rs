//! A meter, a stream and a lease, for the tests of the parts of this module.

use super::{Known, LeaseRow, LeaseState, MeterRow, StoredAnswer, StreamRow};
use crate::id::{Epoch, Generation, LeaseId, MeterId, Rec};
use crate::time::UnixMillis;
use crate::wire::exchange::Renewal;

pub const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
pub const NEW: LeaseId = LeaseId(77);
pub const HELD: LeaseId = LeaseId(70);

pub fn total(limit: u64, debited: u64) -> MeterRow {
    MeterRow {
        meter: MeterId(1),
        limit,
        debited,
        generation: Generation(3),
        window_ends_at: None,
        recalled_at: None,
        horizon_s: 30,
        max_lease: None,
        ahead: None,
    }
}

pub fn in_ms(millis: i64) -> UnixMillis {
    UnixMillis(NOW.0 + millis)
}

pub fn known(meter: &MeterRow) -> Known<'_> {
    Known {
        now: NOW,
        epoch: Epoch(5),
        meter,
        window_ends_at: meter.window_ends_at,
        stream: None,
        closed_lease: None,
        other_holders: 0,
        ahead_holders: 0,
        next_window_ends_at: meter.window_ends_at.map(|end| UnixMillis(end.0 + 1_000_000)),
        new_lease: NEW,
    }
}

pub fn first(want: u32) -> Renewal {
    Renewal {
        meter: MeterId(1),
        rec: Rec(9),
        seq: 1,
        epoch: None,
        want,
        closed_lease: None,
        unspent: 0,
        waiting: true,
        ahead: false,
    }
}

pub fn closing(seq: u64, want: u32, unspent: u32) -> Renewal {
    Renewal { seq, epoch: Some(Epoch(5)), closed_lease: Some(HELD), unspent, ..first(want) }
}

pub const STREAM: StreamRow = StreamRow { seq: 4, answer: StoredAnswer::Closed };
pub const LEASE: LeaseRow = LeaseRow {
    id: HELD,
    generation: Generation(3),
    units: 10,
    expires_at: UnixMillis(NOW.0 + 5_000),
    state: LeaseState::Open,
};
