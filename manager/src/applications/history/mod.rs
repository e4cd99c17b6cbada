//! What happened to a form: its history for those who read it, and the audit entry.

mod store;

use gate::id::ClientId;
use serde_json::json;

use super::applicant::Applicant;
use super::model::{Application, Step};
use crate::audit;
use crate::db::{Conn, DbError};

pub use store::{add, forget, has_reviewed, of, reviewed_among, submissions_by};

pub(super) fn step_of(
    application: &Application,
    actor: &impl std::fmt::Display,
    action: &str,
    level: Option<u32>,
    comment: String,
) -> Step {
    Step {
        version: application.version,
        at: application.updated_at,
        actor: actor.to_string(),
        action: action.to_owned(),
        level,
        on_behalf_of: None,
        escalated: false,
        comment,
        state: application.state.name().to_owned(),
    }
}

/// The audit entry; the last statement before the commit.
pub(super) async fn record(conn: &mut Conn, application: &Application, step: &Step) -> Result<(), DbError> {
    let entry = audit::Entry {
        actor: audit_actor(&step.actor),
        action: audit_action(&step.action),
        subject: format!("application:{}", application.id),
        detail: json!({
            "number": application.number.map(|number| number.to_string()),
            "type": application.form.kind().code(),
            "client": application.form.client().map(ClientId::as_str),
            "state": step.state,
            "level": step.level,
            "on_behalf_of": step.on_behalf_of,
            "escalated": step.escalated,
            "version": step.version,
        }),
    };
    audit::record(conn, entry, step.at).await
}

/// Who did a step, as the audit trail names it.
pub(super) fn audit_actor(actor: &str) -> String {
    match actor {
        Step::BY_ITSELF => "system".to_owned(),
        who => match Applicant::parse(who) {
            Some(who) => format!("{}:{}", who.kind(), who.id()),
            None => who.to_owned(),
        },
    }
}

/// The name of a step as the audit trail writes it.
fn audit_action(step: &str) -> &'static str {
    const NAMES: [&str; 15] = [
        "applications.save",
        "applications.edit",
        "applications.delete",
        "applications.submit",
        "applications.resubmit",
        "applications.approve",
        "applications.return",
        "applications.reject",
        "applications.withdraw",
        "applications.stop",
        "applications.apply",
        "applications.fail",
        "applications.cancel",
        "applications.escalate",
        "applications.escalation_refused",
    ];
    let named = |name: &&&str| name.strip_prefix("applications.") == Some(step);
    NAMES.iter().find(named).copied().expect("every step is one of these")
}

/// Whether nothing that a reader would see has happened to the form since that version of it: an escalation
/// that was refused leaves it and its signers as they were.
pub async fn stands_as_in(conn: &mut Conn, application: &Application, seen: i64) -> Result<bool, DbError> {
    let later = of(conn, &application.id).await?.into_iter().filter(|step| step.version > seen);
    let refused = later.filter(|step| step.action == Step::ESCALATION_REFUSED).count();
    Ok(seen > 0 && usize::try_from(application.version - seen).is_ok_and(|missed| missed == refused))
}
