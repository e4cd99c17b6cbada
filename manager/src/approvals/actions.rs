//! Setting a flow.

use gate::time::UnixMillis;
use serde_json::json;
use thiserror::Error;

use super::model::{Flow, FlowFault, FormKind};
use super::rounds::{self, Round};
use super::signers::{self, Shortage};
use super::store::{self, KeptFlow};
use crate::app::App;
use crate::config::Config;
use crate::db::{Conn, DbError};
use crate::operators::{Actor, By, OperatorError, RoleName};
use crate::{audit, operators};

/// Why a flow could not be set.
#[derive(Debug, Error)]
pub enum ApprovalError {
    /// The levels do not make a flow.
    #[error(transparent)]
    Fault(#[from] FlowFault),
    /// Somebody else has set the flow since the caller read it.
    #[error(
        "the flow for {kind} forms was changed meanwhile: it is at version {present}, not {seen}; read it again"
    )]
    Changed {
        /// Whose flow.
        kind: FormKind,
        /// The version that the caller named; 0 = none configured.
        seen: i64,
        /// The version that there is.
        present: i64,
    },
    /// Nobody could sign such a form.
    #[error("the flow finds no signers: {0}; give somebody the role first, or name other roles")]
    NoSigner(Shortage),
    /// A form under way finds its signers by the flow there is, and would not by the new one.
    #[error(
        "form {number}, which waits at level {waits}, would be left without signers: {shortage}; have it signed or \
         returned first, or name other roles"
    )]
    FormLeft {
        /// Which.
        number: String,
        /// Where it waits.
        waits: u32,
        /// What would be missing.
        shortage: Shortage,
    },
    /// Flows name the role that was to be deleted.
    #[error("role {role} signs in the approval flow for {} forms: take it out there first", flows.join(", "))]
    RoleNamed {
        /// Which.
        role: String,
        /// Form types.
        flows: Vec<String>,
    },
    /// Operators refused it.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Makes `levels` the flow of `kind`, for forms submitted from now on; forms under way keep their
/// number of levels and take the new roles. `seen` is the version that the caller has read, 0 =
/// none configured, none = whatever it is.
pub async fn configure(
    app: &App,
    operator: &str,
    kind: FormKind,
    levels: Vec<Vec<String>>,
    seen: Option<i64>,
) -> Result<KeptFlow, ApprovalError> {
    let now = app.now();
    let mut tx = app.db.write("approvals.configure").await?;
    let by = format!("operator:{operator}");
    let kept = configure_in(&mut tx, &app.config, &by, kind, levels, seen, now).await?;
    tx.commit().await?;
    Ok(kept)
}

/// The same within a transaction of the caller's. `by` is who acts, as the audit trail names it.
pub async fn configure_in(
    conn: &mut Conn,
    config: &Config,
    by: &str,
    kind: FormKind,
    levels: Vec<Vec<String>>,
    seen: Option<i64>,
    now: UnixMillis,
) -> Result<KeptFlow, ApprovalError> {
    let flow = Flow::parse(levels, &known(&operators::role_names(conn).await?))?;
    let before = store::find(conn, kind).await?;
    let present = before.as_ref().map_or(0, |kept| kept.version);
    let changed = |present| ApprovalError::Changed { kind, seen: seen.unwrap_or(present), present };
    if seen.is_some_and(|seen| seen != present) {
        return Err(changed(present));
    }
    if let Some(before) = before.as_ref().filter(|before| before.flow == flow) {
        return Ok(before.clone());
    }
    let updated_by = by.strip_prefix("operator:").unwrap_or(by).to_owned();
    let kept = KeptFlow { kind, flow, version: present + 1, updated_at: now, updated_by };
    if !store::save(conn, &kept).await? {
        return Err(changed(present + 1));
    }
    let view = |flow: Option<&Flow>| json!({ "levels": flow.map(Flow::levels).unwrap_or_default() });
    let was = before.as_ref().map(|before| &before.flow);
    let entry = audit::Entry {
        actor: by.to_owned(),
        action: "approvals.configure",
        subject: format!("approval_flow:{kind}"),
        detail: json!({
            "levels": kept.flow.levels(),
            "version": kept.version,
            "changed": audit::changed(&view(was), &view(Some(&kept.flow))),
        }),
    };
    audit::record(conn, entry, now).await?;
    // Behind the audit entry, whose lock puts transactions in order: a role may have been deleted, an
    // operator disabled, a form submitted.
    kept.flow.require_known(&known(&operators::role_names(conn).await?))?;
    must_find_signers(conn, config, &kept, was, now).await?;
    Ok(kept)
}

/// Asks whether forms that are filed from now on, and those that are under way, find their signers.
/// A form that found none by the flow there was is not kept from finding some by another one.
async fn must_find_signers(
    conn: &mut Conn,
    config: &Config,
    kept: &KeptFlow,
    was: Option<&Flow>,
    now: UnixMillis,
) -> Result<(), ApprovalError> {
    let circle = signers::circle(conn, config, now).await?;
    if let Some(shortage) = circle.shortage(&kept.flow, &Round::imagined(kept.kind, kept.flow.count())) {
        return Err(ApprovalError::NoSigner(shortage));
    }
    let Some(was) = was else { return Ok(()) };
    for round in rounds::waiting(conn, Some(kept.kind)).await? {
        if let Some(shortage) = circle.shortage(&kept.flow, &round)
            && circle.shortage(was, &round).is_none()
        {
            return Err(ApprovalError::FormLeft { number: round.number, waits: round.level, shortage });
        }
    }
    Ok(())
}

fn known(roles: &[String]) -> Vec<&str> {
    roles.iter().map(String::as_str).collect()
}

/// Deletes a role that no operator has and no flow names.
pub async fn delete_role(app: &App, actor: &Actor, name: &RoleName) -> Result<(), ApprovalError> {
    let now = app.now();
    let mut tx = app.db.write("roles.delete").await?;
    operators::delete_role(&mut tx, By::Operator(actor), name, now).await?;
    let flows = store::kinds_naming(&mut tx, name.as_str()).await?;
    if !flows.is_empty() {
        return Err(ApprovalError::RoleNamed { role: name.to_string(), flows });
    }
    tx.commit().await?;
    Ok(())
}
