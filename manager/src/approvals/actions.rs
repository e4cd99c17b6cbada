//! Setting a flow.

use serde_json::json;
use thiserror::Error;

use super::model::{Flow, FlowFault, FormKind};
use super::store::{self, KeptFlow};
use crate::app::App;
use crate::db::DbError;
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
    let roles = operators::role_names(&mut tx).await?;
    let known: Vec<&str> = roles.iter().map(String::as_str).collect();
    let flow = Flow::parse(levels, &known)?;
    let present = store::find(&mut tx, kind).await?.map_or(0, |kept| kept.version);
    let changed = |present| ApprovalError::Changed { kind, seen: seen.unwrap_or(present), present };
    if seen.is_some_and(|seen| seen != present) {
        return Err(changed(present));
    }
    let kept =
        KeptFlow { kind, flow, version: present + 1, updated_at: now, updated_by: operator.to_owned() };
    if !store::save(&mut tx, &kept).await? {
        return Err(changed(present + 1));
    }
    let entry = audit::Entry {
        actor: format!("operator:{operator}"),
        action: "approvals.configure",
        subject: format!("approval_flow:{kind}"),
        detail: json!({ "levels": kept.flow.levels(), "version": kept.version }),
    };
    audit::record(&mut tx, entry, now).await?;
    tx.commit().await?;
    Ok(kept)
}
