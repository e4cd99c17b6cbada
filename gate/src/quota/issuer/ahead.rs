//! Leases of the next window, granted before it begins: so that nobody waits, and not everybody asks,
//! when it turns.
//!
//! They are debited in a generation of their own, which the roll adopts with what was debited in it.

use super::{
    AHEAD_UP_TO_MS, Known, MeterRow, Open, RETURN_GRACE_MS, StoredAnswer, after, after_generation,
    ahead_ttl_ms, drift_of, grant_size, left_until,
};
use crate::time::UnixMillis;
use crate::wire::exchange::Renewal;

/// The window after the present one: when it begins and ends.
#[derive(Clone, Copy)]
pub(super) struct NextWindow {
    begins_at: UnixMillis,
    ends_at: UnixMillis,
}

/// The next window, if the renewal asks for units of it and is in time for it.
pub(super) fn next_window(known: &Known<'_>, renewal: &Renewal, meter: &MeterRow) -> Option<NextWindow> {
    let (begins_at, ends_at) = (meter.window_ends_at?, known.next_window_ends_at?);
    let left = left_until(Some(begins_at), known.now)?;
    // The row may be of a window that another clock saw begin: then "next" is not what is asked for.
    let follows = known.window_ends_at == Some(begins_at) && begins_at < ends_at;
    let in_time = left > 0 && left <= AHEAD_UP_TO_MS;
    (renewal.ahead && renewal.want > 0 && follows && in_time).then_some(NextWindow { begins_at, ends_at })
}

/// What the next window has for this renewal. Where it has nothing, the present one is not touched.
pub(super) fn grant(
    known: &Known<'_>,
    renewal: &Renewal,
    meter: &MeterRow,
    next: NextWindow,
) -> (Option<Open>, StoredAnswer) {
    let ahead = meter.ahead.filter(|ahead| ahead.window_ends_at == next.ends_at);
    let debited = ahead.map_or(0, |ahead| ahead.debited);
    let generation = match (ahead, meter.ahead) {
        (Some(ahead), _) => ahead.generation,
        (None, Some(other)) => after_generation(other.generation),
        (None, None) => after_generation(meter.generation),
    };
    let then = MeterRow { debited, ..meter.clone() };
    // Who holds units now will want some then.
    let others = known.other_holders.max(known.ahead_holders);
    let units = grant_size(&then, renewal.want, others);
    let ttl_ms = ahead_ttl_ms(meter, next.ends_at, known.now);
    if units == 0 || after(known.now, ttl_ms) <= next.begins_at {
        return (None, StoredAnswer::Closed);
    }
    let later = ttl_ms.saturating_add(drift_of(ttl_ms)).saturating_add(RETURN_GRACE_MS);
    let open = Open {
        lease: known.new_lease,
        generation,
        units,
        expires_at: after(known.now, later),
        ahead_until: Some(next.ends_at),
    };
    let answer = StoredAnswer::Granted {
        lease: open.lease,
        generation,
        units,
        spend_until: after(known.now, ttl_ms),
        window_ends_at: Some(next.ends_at),
        opens_at: Some(next.begins_at),
        remaining: meter.limit.saturating_sub(debited).saturating_sub(u64::from(units)),
    };
    (Some(open), answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Generation, LeaseId};
    use crate::quota::issuer::fixture::{LEASE, NOW, STREAM, closing, first, in_ms, known, total};
    use crate::quota::issuer::{Ahead, Decided, LeaseRow, renew};
    use crate::wire::exchange::RenewalOutcome;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// Its window ends in 20 s.
    fn meter(limit: u64, debited: u64) -> MeterRow {
        MeterRow { window_ends_at: Some(in_ms(20_000)), ..total(limit, debited) }
    }

    fn ask(want: u32) -> Renewal {
        Renewal { ahead: true, ..first(want) }
    }

    fn after_step(meter: &MeterRow, decided: &Decided) -> MeterRow {
        let mut after = meter.clone();
        after.apply(decided.effects.as_ref().expect("a step"), NOW);
        after
    }

    const NEXT: Ahead =
        Ahead { generation: Generation(4), window_ends_at: UnixMillis(NOW.0 + 1_020_000), debited: 0 };

    #[test]
    fn a_lease_of_the_next_window_counts_there_and_opens_with_it() {
        let meter = meter(1_000, 1_000);
        let decided = renew(&known(&meter), &ask(5));
        let outcome = RenewalOutcome::Granted {
            lease: LeaseId(77),
            generation: Generation(4),
            units: 5,
            ttl_ms: 90_000,
            window_left_ms: Some(1_020_000),
            opens_in_ms: Some(20_000),
            remaining: 995,
        };
        assert_eq!(decided.outcome, outcome);
        let after = after_step(&meter, &decided);
        assert_eq!((after.debited, after.ahead), (1_000, Some(Ahead { debited: 5, ..NEXT })));
    }

    #[test]
    fn the_roll_adopts_what_was_handed_out_ahead() {
        let ahead = Ahead { debited: 70, ..NEXT };
        for (case, ends_in_ms, generation, debited) in [
            ("the next window", 1_020_000, Generation(4), 71),
            ("nobody asked in all of it", 2_020_000, Generation(5), 1),
        ] {
            let meter = MeterRow { window_ends_at: Some(NOW), ahead: Some(ahead), ..total(100, 100) };
            let question =
                Known { window_ends_at: Some(in_ms(ends_in_ms)), ahead_holders: 0, ..known(&meter) };
            let decided = renew(&question, &first(1));
            let after = after_step(&meter, &decided);
            assert_eq!((after.generation, after.debited, after.ahead), (generation, debited, None), "{case}");
        }
    }

    #[test]
    fn when_all_was_handed_out_ahead_the_first_to_ask_waits_for_those_who_hold_it() {
        let ahead = Ahead { debited: 100, ..NEXT };
        let meter = MeterRow { window_ends_at: Some(NOW), ahead: Some(ahead), ..total(100, 100) };
        let question = Known { window_ends_at: Some(in_ms(1_020_000)), ahead_holders: 2, ..known(&meter) };
        let decided = renew(&question, &first(1));
        assert!(matches!(decided.outcome, RenewalOutcome::Pending { .. }), "{decided:?}");
        assert!(decided.effects.is_some_and(|effects| effects.recall));
    }

    #[test]
    fn who_asks_ahead_in_a_window_that_nobody_has_begun_begins_it() {
        let present = in_ms(20_000);
        let ahead = Ahead { window_ends_at: present, debited: 70, ..NEXT };
        let meter =
            MeterRow { window_ends_at: Some(in_ms(-40_000)), ahead: Some(ahead), ..total(1_000, 100) };
        let question = Known {
            window_ends_at: Some(present),
            next_window_ends_at: Some(in_ms(80_000)),
            ..known(&meter)
        };
        let decided = renew(&question, &ask(5));
        assert!(matches!(decided.outcome, RenewalOutcome::Granted { opens_in_ms: Some(20_000), .. }));
        let after = after_step(&meter, &decided);
        assert_eq!((after.generation, after.debited), (Generation(4), 70));
        let next = Ahead { generation: Generation(5), window_ends_at: in_ms(80_000), debited: 5 };
        assert_eq!(after.ahead, Some(next));
    }

    #[test]
    fn nothing_ahead_is_no_word_about_the_present() {
        let meter = MeterRow { ahead: Some(Ahead { debited: 100, ..NEXT }), ..meter(100, 0) };
        let decided = renew(&known(&meter), &ask(5));
        assert_eq!(decided.outcome, RenewalOutcome::Closed);
        let effects = decided.effects.expect("a step");
        assert_eq!((effects.open, effects.recall), (None, false));
    }

    #[test]
    fn too_early_and_too_late_the_present_window_answers() {
        for (case, ends_in_ms, ahead) in [
            ("just in time", AHEAD_UP_TO_MS as i64, true),
            ("too early", AHEAD_UP_TO_MS as i64 + 1, false),
            ("last millisecond", 2, true),
        ] {
            let meter = MeterRow { window_ends_at: Some(in_ms(ends_in_ms)), ..total(1_000, 0) };
            let decided = renew(&known(&meter), &ask(5));
            let RenewalOutcome::Granted { opens_in_ms, .. } = decided.outcome else { panic!("{decided:?}") };
            assert_eq!(opens_in_ms.is_some(), ahead, "{case}");
        }
        let ended = MeterRow { window_ends_at: Some(NOW), ..total(1_000, 0) };
        let question = Known { window_ends_at: Some(in_ms(50_000)), ..known(&ended) };
        let RenewalOutcome::Granted { opens_in_ms: None, generation: Generation(4), .. } =
            renew(&question, &ask(5)).outcome
        else {
            panic!("the window has turned: an ordinary lease of the new one")
        };
        let total = total(1_000, 0);
        let RenewalOutcome::Granted { opens_in_ms: None, .. } = renew(&known(&total), &ask(5)).outcome else {
            panic!("a total has no next window")
        };
    }

    #[test]
    fn a_lease_ahead_is_credited_where_it_was_debited() {
        let meter = MeterRow { ahead: Some(Ahead { debited: 30, ..NEXT }), ..meter(1_000, 50) };
        let lease = LeaseRow { generation: NEXT.generation, ..LEASE };
        let question = Known { stream: Some(&STREAM), closed_lease: Some(&lease), ..known(&meter) };
        let decided = renew(&question, &closing(5, 0, 4));
        let after = after_step(&meter, &decided);
        assert_eq!((after.debited, after.ahead.map(|ahead| ahead.debited)), (50, Some(26)));
    }

    #[test]
    fn a_reset_leaves_the_next_window_what_was_handed_out_of_it() {
        let ahead = Some(Ahead { debited: 30, ..NEXT });
        let with = |ahead| MeterRow { ahead, ..meter(1_000, 50) };
        let window = in_ms(20_000);
        for (case, before, window_ends_at, moved, generation, left) in [
            ("nothing ahead", with(None), window, None, 4, None),
            ("something ahead", with(ahead), window, Some((Generation(4), Generation(6))), 5, Some(30)),
            ("of another calendar", with(ahead), in_ms(99), None, 5, None),
        ] {
            let mut after = before;
            assert_eq!(after.reset(Some(window_ends_at)), moved, "{case}");
            assert_eq!((after.generation, after.debited), (Generation(generation), 0), "{case}");
            assert_eq!(after.ahead.map(|ahead| ahead.debited), left, "{case}");
            assert_eq!(after.ahead.map(|ahead| ahead.generation), moved.map(|(_, to)| to), "{case}");
        }
    }
}
