//! Numbered places of the worker VMs of one process: who is alive, and how to wake it.
//!
//! A slot's queue keeps its name whoever holds it, is registered again by each new holder, and
//! holds at most one wake-up: a flag beside it says that one is under way.

use alloc::vec::Vec;

use super::feed::{Keys, numbers, put, read_numbers};
use crate::shared::{Shared, Write, update};
use crate::time::MonoMillis;

/// VMs of one process at most that are woken; those beyond look at each tick.
pub const MAX_SLOTS: u64 = 256;
/// A slot without a sign of life for so long is free. Much longer than a worker may be busy.
pub const SLOT_STALE_MS: u64 = 3_000;

/// Claims the first free slot for `me`.
pub fn claim<S: Shared + ?Sized>(shared: &mut S, keys: &Keys, me: u64, now: MonoMillis) -> Option<u64> {
    (0..MAX_SLOTS).find(|slot| {
        update(shared, &keys.numbered("slot", *slot), |bytes| {
            let free = match bytes.and_then(read_numbers::<2>) {
                Some(([holder, beat], _)) => holder == 0 || now - MonoMillis(beat) > SLOT_STALE_MS,
                None => true,
            };
            (if free { Write::Put(numbers(&[me, now.0])) } else { Write::Keep }, free)
        })
        .unwrap_or(false)
    })
}

/// Renews the sign of life. `false`: the slot is somebody else's by now.
pub fn beat<S: Shared + ?Sized>(shared: &mut S, keys: &Keys, slot: u64, me: u64, now: MonoMillis) -> bool {
    update(shared, &keys.numbered("slot", slot), |bytes| match bytes.and_then(read_numbers::<2>) {
        Some(([holder, _], _)) if holder == me => (Write::Put(numbers(&[me, now.0])), true),
        Some(_) | None => (Write::Keep, false),
    })
    .unwrap_or(false)
}

/// Gives a slot up.
pub fn release<S: Shared + ?Sized>(shared: &mut S, keys: &Keys, slot: u64, me: u64) {
    update(shared, &keys.numbered("slot", slot), |bytes| match bytes.and_then(read_numbers::<2>) {
        Some(([holder, _], _)) if holder == me => (Write::Put(numbers(&[0, 0])), ()),
        Some(_) | None => (Write::Keep, ()),
    });
}

/// A sign of life of another VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sign {
    /// Where.
    pub slot: u64,
    holder: u64,
    beat: u64,
}

/// Slots of live VMs other than `me`.
pub fn others<S: Shared + ?Sized>(shared: &mut S, keys: &Keys, me: u64, now: MonoMillis) -> Vec<u64> {
    signs(shared, keys, me, now).into_iter().map(|sign| sign.slot).collect()
}

/// The last signs of life of VMs other than `me`, if not stale. Slots are claimed from 0 on, so that
/// the first one that never existed ends the list.
pub fn signs<S: Shared + ?Sized>(shared: &mut S, keys: &Keys, me: u64, now: MonoMillis) -> Vec<Sign> {
    let mut alive = Vec::new();
    for slot in 0..MAX_SLOTS {
        let found = shared.get(&keys.numbered("slot", slot));
        let Some(([holder, beat], _)) = found.as_ref().and_then(|(bytes, _)| read_numbers::<2>(bytes)) else {
            break;
        };
        if holder != 0 && holder != me && now - MonoMillis(beat) <= SLOT_STALE_MS {
            alive.push(Sign { slot, holder, beat });
        }
    }
    alive
}

/// Notes that `slot` is to be woken. `false`: a wake-up is under way already.
pub fn mark_woken<S: Shared + ?Sized>(shared: &mut S, keys: &Keys, slot: u64) -> bool {
    update(shared, &keys.numbered("wake", slot), |bytes| match bytes {
        Some([1]) => (Write::Keep, false),
        Some(_) | None => (Write::Put([1].to_vec()), true),
    })
    .unwrap_or(true)
}

/// Notes that `slot` is awake: before it looks, so that no wake-up is lost.
pub fn mark_awake<S: Shared + ?Sized>(shared: &mut S, keys: &Keys, slot: u64) {
    put(shared, &keys.numbered("wake", slot), [0].to_vec());
}
