//! What somebody sees of forms: lists and single ones.

mod store;

use std::slice::from_ref;

use super::applicant::Caller;
use super::error::ApplicationError;
use super::history;
use super::model::{Action, Application, Step};
use super::signing::standings;
use super::turn::{flow_of, must_see};
use crate::app::App;
use crate::approvals::{self, FormKind};
use crate::db::{Conn, DbError};
use crate::operators::Permission;

use store::Scope;
pub use store::{Filter, Place};

/// A form with all that its page shows.
#[derive(Clone, Debug)]
pub struct Detail {
    /// The form.
    pub application: Application,
    /// What happened to it, oldest first.
    pub history: Vec<Step>,
    /// What the caller may do with it now.
    pub actions: Vec<Action>,
}

/// Which forms somebody wants to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// All that the caller may see.
    #[default]
    Everything,
    /// Those that the caller filed.
    Mine,
    /// Those that wait for the caller's signature.
    WaitingForMe,
    /// Those that the caller has approved, returned or rejected.
    Reviewed,
}

/// The form of that id with its history, if the caller may see it.
pub async fn detail(app: &App, caller: Caller<'_>, id: &str) -> Result<Detail, ApplicationError> {
    let mut read = app.db.snapshot().await?;
    let application =
        super::store::find(&mut read, id).await?.ok_or_else(|| ApplicationError::NotFound(id.to_owned()))?;
    let standing = standings(&mut read, app, caller, from_ref(&application)).await?.remove(0);
    must_see(&mut read, caller, &application, standing).await?;
    let history = history::of(&mut read, id).await?;
    let actions = application.state.actions(standing);
    Ok(Detail { application, history, actions })
}

/// Up to `limit` forms that the caller may see and wants to, the newest first.
pub async fn list(
    app: &App,
    caller: Caller<'_>,
    view: View,
    filter: Filter,
    place: &Place,
    limit: i64,
) -> Result<Vec<Application>, ApplicationError> {
    let mut read = app.db.snapshot().await?;
    let signable = signable(&mut read, caller).await?;
    let who = caller.applicant();
    let scope = match view {
        View::Everything if caller.may(Permission::ApplicationsRead) => Scope::All,
        View::Everything => Scope::Visible { who, signable },
        View::Mine => Scope::Mine { who },
        View::WaitingForMe => Scope::WaitingFor { who, signable, own: app.config.allow_self_approval },
        View::Reviewed => Scope::ReviewedBy { who },
    };
    Ok(store::list(&mut read, &Filter { scope, ..filter }, place, limit).await?)
}

/// `,KA:1,KU:2,`: what the caller signs now, as [`store::Scope`] wants it.
async fn signable(conn: &mut Conn, caller: Caller<'_>) -> Result<String, DbError> {
    let mut signable = String::from(",");
    let Some(actor) = caller.operator().filter(|actor| actor.may(Permission::ApplicationsReview)) else {
        return Ok(signable);
    };
    for kind in FormKind::ALL {
        let Some(flow) = flow_of(conn, kind).await? else { continue };
        // Levels beyond the flow's last are signed by the last, see `Flow::roles_at`.
        for level in 1..=u32::try_from(approvals::MAX_LEVELS).unwrap_or(u32::MAX) {
            if flow.may_sign(level, actor.roles.iter().map(String::as_str)) {
                signable.push_str(&format!("{kind}:{level},"));
            }
        }
    }
    Ok(signable)
}
