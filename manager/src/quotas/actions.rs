//! What operators do with meters.

use gate::quota::issuer::{self, ReclaimError as IssuerRefuses};
use gate::time::UnixMillis;
use gate::wire::changes::Subject;
use gate::wire::exchange::MeterKind;
use serde_json::json;

use super::model::{Meter, Period};
use super::store::{self, Outstanding, kind_text, outstanding};
use super::warnings::{self, LEAST_PERCENT};
use crate::app::App;
use crate::db::{Conn, DbError};
use crate::{audit, changes};

/// Why withheld units were not given to others.
#[derive(Debug, thiserror::Error)]
pub enum ReclaimError {
    /// There is no such meter: nobody has that id, or it is unlimited.
    #[error("{} {owner} has no quota that is counted", kind_text(*kind))]
    NoMeter {
        /// Of which kind.
        kind: MeterKind,
        /// Whose.
        owner: String,
    },
    /// It has windows.
    #[error(
        "the quota of {owner} begins again by itself ({}), and what is withheld comes back with that: only a quota \
         that never begins again needs this",
        period.as_str()
    )]
    NotATotal {
        /// Whose.
        owner: String,
        /// When it begins again.
        period: Period,
    },
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// What was given to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reclaimed {
    /// The limit is higher by so many.
    pub units: u64,
    /// In so many leases.
    pub leases: u64,
}

/// The meter of an owner as it stands now, and what of it is out.
pub(super) async fn get(
    app: &App,
    kind: MeterKind,
    owner: &str,
) -> Result<Option<(Meter, Outstanding)>, DbError> {
    let now = app.now();
    let mut read = app.db.snapshot().await?;
    let Some(meter) = store::meter_of(&mut read, kind, owner).await? else { return Ok(None) };
    let meter = meter.at(now);
    let out = outstanding(&mut read, &meter, now).await?;
    Ok(Some((meter, out)))
}

/// Gives the withheld units of a total to others, which raises its limit by them: whether they were
/// spent, nobody knows. Where none are withheld nothing happens, so that it may be repeated.
pub(super) async fn reclaim(
    app: &App,
    by: &str,
    kind: MeterKind,
    owner: &str,
) -> Result<Reclaimed, ReclaimError> {
    let now = app.now();
    let mut write = app.db.write("quotas.reclaim").await?;
    let reclaimed = reclaim_in(&mut write, by, kind, owner, now).await?;
    write.commit().await?;
    Ok(reclaimed)
}

/// The same within the caller's transaction.
pub(super) async fn reclaim_in(
    conn: &mut Conn,
    by: &str,
    kind: MeterKind,
    owner: &str,
    now: UnixMillis,
) -> Result<Reclaimed, ReclaimError> {
    let Some(before) = store::lock_of(conn, kind, owner).await? else {
        return Err(ReclaimError::NoMeter { kind, owner: owner.into() });
    };
    if before.limit.period != Period::Total {
        return Err(ReclaimError::NotATotal { owner: owner.into(), period: before.limit.period });
    }
    let id = before.id;
    let mut row = store::issuer_row(&before);
    let mut reclaimed = Reclaimed::default();
    for lease in store::expired_leases(conn, &before, now).await? {
        row.limit = issuer::reclaim(&row, &lease, now).map_err(|refused| match refused {
            IssuerRefuses::NotATotal => {
                ReclaimError::NotATotal { owner: owner.into(), period: before.limit.period }
            }
            // None of them was asked for.
            IssuerRefuses::NotExpired { .. } | IssuerRefuses::NotOpen | IssuerRefuses::GenerationPassed => {
                store::inconsistent("leases", "expires_at", id).into()
            }
        })?;
        // A lease without a row cannot be returned: its holder is refused, if it ever comes back.
        store::delete_lease(conn, id, lease.id).await?;
        reclaimed.units += u64::from(lease.units);
        reclaimed.leases += 1;
    }
    if reclaimed.leases == 0 {
        return Ok(reclaimed);
    }
    let after = Meter { reclaimed: before.reclaimed + reclaimed.units, ..before.clone() };
    store::update(conn, &after).await?;
    let used = after.used(outstanding(conn, &after, now).await?);
    warnings::rearm(conn, &after, used).await?;
    if after.reaches(after.debited, LEAST_PERCENT) {
        warnings::watch(conn, id).await?;
    }
    // Gateways that were told "exhausted" ask again.
    changes::record(conn, &Subject::Meter { meter: id }, now).await?;
    let entry = audit::Entry {
        actor: by.into(),
        action: "quotas.reclaim",
        subject: match kind {
            MeterKind::ClientQuota => format!("client:{owner}"),
            MeterKind::KeyUses => format!("key:{owner}"),
            MeterKind::TokenUses => format!("token:{owner}"),
        },
        detail: json!({
            "units": reclaimed.units,
            "leases": reclaimed.leases,
            "changed": { "limit": { "before": before.in_force(), "after": after.in_force() } },
        }),
    };
    audit::record(conn, entry, now).await?;
    Ok(reclaimed)
}
