//! Setting, revoking and listing delegations.

use std::collections::{BTreeMap, BTreeSet};

use gate::time::UnixMillis;
use serde_json::json;
use thiserror::Error;

use super::model::{Delegation, MAX_OPEN, MAX_REASON_CHARS, Period, PeriodFault, Standing};
use super::store;
use crate::app::App;
use crate::audit;
use crate::db::{Conn, DbError};
use crate::operators::{self, ActiveOperator, Actor, Permission};
use crate::validity::print_instant;

/// A delegation as somebody asks for it.
#[derive(Clone, Debug)]
pub(super) struct NewDelegation {
    /// Whose signing; None = the caller's own.
    pub principal: Option<String>,
    /// Who is to sign on behalf.
    pub delegate: String,
    /// First instant, UTC ms; None = now.
    pub from: Option<i64>,
    /// First instant after it, UTC ms.
    pub until: i64,
    /// Why; empty = nothing.
    pub reason: String,
}

/// A delegation with what people want to see of it.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub delegation: Delegation,
    pub standing: Standing,
    /// What both sign in with, by id.
    pub names: BTreeMap<String, String>,
}

/// Why a delegation is not set or revoked.
#[derive(Debug, Error)]
pub enum DelegationError {
    /// None that the caller may see.
    #[error("there is no delegation `{0}` that you may see")]
    NotFound(String),
    /// Somebody else's, without the permissions that takes.
    #[error(
        "the signing of others is delegated with operators.manage and applications.review together, one's own with \
         applications.review"
    )]
    NotYours,
    /// That is no period.
    #[error(transparent)]
    Period(#[from] PeriodFault),
    /// Too many words.
    #[error("`reason` has {chars} characters; at most {MAX_REASON_CHARS} are allowed")]
    ReasonTooLong {
        /// How many were given.
        chars: usize,
    },
    /// One of both is not there, or not active.
    #[error("`{field}`: there is no active operator `{id}`; GET /api/v1/operators lists their ids")]
    NoOperator {
        /// Which of both.
        field: &'static str,
        /// What was given.
        id: String,
    },
    /// Nothing to hand over.
    #[error("`operator`: {name} has no role with applications.review, and so no signing to delegate")]
    SignsNothing {
        /// Who.
        name: String,
    },
    /// Nobody is one's own delegate.
    #[error("`delegate` must be another operator than the one whose signing it is")]
    Oneself,
    /// Two delegates at the same time.
    #[error(
        "{name} has delegated from {from} to {until} already: one delegate at a time, so revoke delegation {id} or \
         choose another time"
    )]
    Overlaps {
        /// Who.
        name: String,
        /// The one that is there.
        id: String,
        /// Its first instant.
        from: String,
        /// The first instant after it.
        until: String,
    },
    /// More than [`MAX_OPEN`].
    #[error("there are {MAX_OPEN} delegations of this operator that have not ended: revoke one first")]
    TooMany,
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Has another operator sign on behalf of the caller, or of somebody who cannot do it.
pub(super) async fn create(app: &App, actor: &Actor, new: NewDelegation) -> Result<Shown, DelegationError> {
    let now = app.now();
    let period = Period::parse(new.from, new.until, now)?;
    let chars = new.reason.chars().count();
    if chars > MAX_REASON_CHARS {
        return Err(DelegationError::ReasonTooLong { chars });
    }
    let principal = new.principal.unwrap_or_else(|| actor.operator.clone());
    must_set(actor, &principal)?;
    let delegation = Delegation {
        id: app.random.id("dg"),
        principal,
        delegate: new.delegate,
        period,
        reason: new.reason.trim().to_owned(),
        created_at: now,
        created_by: actor.operator.clone(),
        revoked: None,
    };
    let mut tx = app.db.write("delegations.create").await?;
    let before = store::open_of(&mut tx, &delegation.principal, now).await?;
    must_fit(app, &mut tx, &delegation, before).await?;
    store::insert(&mut tx, &delegation).await?;
    record(&mut tx, actor, "delegations.create", &delegation, now).await?;
    // Behind the audit entry, whose lock puts transactions in order: another delegation may have
    // been set, or an account disabled.
    let mut others = store::open_of(&mut tx, &delegation.principal, now).await?;
    others.retain(|other| other.id != delegation.id);
    must_fit(app, &mut tx, &delegation, others).await?;
    let shown = shown(&mut tx, vec![delegation], now).await?.remove(0);
    tx.commit().await?;
    Ok(shown)
}

/// Ends a delegation. What has ended by itself, or was revoked, stays as it is.
pub(super) async fn revoke(app: &App, actor: &Actor, id: &str) -> Result<(), DelegationError> {
    let now = app.now();
    let mut tx = app.db.write("delegations.revoke").await?;
    let delegation = visible(&mut tx, actor, id).await?;
    if delegation.period.until <= now || !store::revoke(&mut tx, id, &actor.operator, now).await? {
        return Ok(());
    }
    record(&mut tx, actor, "delegations.revoke", &delegation, now).await?;
    tx.commit().await?;
    Ok(())
}

/// The delegation of that id, if the caller may see it.
pub(super) async fn get(app: &App, actor: &Actor, id: &str) -> Result<Shown, DelegationError> {
    let mut read = app.db.snapshot().await?;
    let delegation = visible(&mut read, actor, id).await?;
    Ok(shown(&mut read, vec![delegation], app.now()).await?.remove(0))
}

/// Those that the caller may see, the newest first: up to `limit` after `place`.
pub(super) async fn list(
    app: &App,
    actor: &Actor,
    of: Option<String>,
    place: (i64, &str),
    limit: i64,
) -> Result<Vec<Shown>, DelegationError> {
    let of = match of {
        Some(of) if administers(actor) || (of == actor.operator && signs(actor)) => of,
        None if administers(actor) => String::new(),
        None if signs(actor) => actor.operator.clone(),
        Some(_) | None => return Ok(Vec::new()),
    };
    let mut read = app.db.snapshot().await?;
    let found = store::list(&mut read, &of, place, limit).await?;
    Ok(shown(&mut read, found, app.now()).await?)
}

/// Who sees and ends those of others.
fn administers(actor: &Actor) -> bool {
    actor.may(Permission::OperatorsManage)
}

/// Whose token is not limited to something else than signing. A delegate needs no role for it.
fn signs(actor: &Actor) -> bool {
    actor.token_reaches(Permission::ApplicationsReview)
}

/// Whose signing `actor` hands over. That of others takes what it is worth: somebody who manages
/// operators without reviewing would get at a signature by it.
fn must_set(actor: &Actor, principal: &str) -> Result<(), DelegationError> {
    let own = actor.operator == principal;
    let may = actor.may(Permission::ApplicationsReview) && (own || administers(actor));
    if may { Ok(()) } else { Err(DelegationError::NotYours) }
}

async fn visible(conn: &mut Conn, actor: &Actor, id: &str) -> Result<Delegation, DelegationError> {
    let own = |one: &Delegation| one.principal == actor.operator || one.delegate == actor.operator;
    store::find(conn, id)
        .await?
        .filter(|one| administers(actor) || (own(one) && signs(actor)))
        .ok_or_else(|| DelegationError::NotFound(id.to_owned()))
}

/// Asks whether both are there and nobody else signs on behalf of the same at that time.
async fn must_fit(
    app: &App,
    conn: &mut Conn,
    delegation: &Delegation,
    others: Vec<Delegation>,
) -> Result<(), DelegationError> {
    if delegation.principal == delegation.delegate {
        return Err(DelegationError::Oneself);
    }
    let active = operators::active(conn).await?;
    let find = |field, id: &str| {
        let found = active.iter().find(|one| one.id == id);
        found.ok_or_else(|| DelegationError::NoOperator { field, id: id.to_owned() })
    };
    let principal = find("operator", &delegation.principal)?;
    find("delegate", &delegation.delegate)?;
    if !principal.permissions.contains(&Permission::ApplicationsReview) {
        return Err(DelegationError::SignsNothing { name: principal.name.clone() });
    }
    let since = since(&active);
    let open: Vec<_> =
        others.iter().filter(|other| other.standing(&since, delegation.created_at).is_open()).collect();
    if let Some(other) = open.iter().find(|other| other.period.overlaps(delegation.period)) {
        let zone = app.config.zone();
        return Err(DelegationError::Overlaps {
            name: principal.name.clone(),
            id: other.id.clone(),
            from: print_instant(other.period.from, &zone),
            until: print_instant(other.period.until, &zone),
        });
    }
    if open.len() >= MAX_OPEN { Err(DelegationError::TooMany) } else { Ok(()) }
}

fn since(active: &[ActiveOperator]) -> impl Fn(&str) -> Option<UnixMillis> {
    |id| active.iter().find(|one| one.id == id).map(|one| one.active_since)
}

async fn shown(
    conn: &mut Conn,
    delegations: Vec<Delegation>,
    now: UnixMillis,
) -> Result<Vec<Shown>, DbError> {
    let active = operators::active(conn).await?;
    let since = since(&active);
    let concerned = |one: &Delegation| [one.principal.clone(), one.delegate.clone()];
    let ids: BTreeSet<_> = delegations.iter().flat_map(concerned).collect();
    let names = operators::names(conn, &ids.iter().map(String::as_str).collect()).await?;
    let show = |delegation: Delegation| {
        let standing = delegation.standing(&since, now);
        let own = concerned(&delegation);
        let names = own.into_iter().filter_map(|id| names.get(&id).cloned().map(|name| (id, name))).collect();
        Shown { delegation, standing, names }
    };
    Ok(delegations.into_iter().map(show).collect())
}

async fn record(
    conn: &mut Conn,
    actor: &Actor,
    action: &'static str,
    delegation: &Delegation,
    now: UnixMillis,
) -> Result<(), DbError> {
    let entry = audit::Entry {
        actor: actor.audit_name(),
        action,
        subject: format!("delegation:{}", delegation.id),
        detail: json!({
            "operator": delegation.principal,
            "delegate": delegation.delegate,
            "from": delegation.period.from.0,
            "until": delegation.period.until.0,
            "reason": delegation.reason,
        }),
    };
    audit::record(conn, entry, now).await
}
