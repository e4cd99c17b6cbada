//! `/api/v1/mail/test`.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::super::model::Via;
use super::{TrialError, try_out};
use crate::app::App;
use crate::http::{Actor, Json, Permission, Routes};
use crate::problem::Problem;

pub fn routes() -> Routes {
    Routes::of("mails").permitted(&[Permission::MailWrite], routes!(test))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = MailTest)]
struct Body {
    /// The address that the test mail goes to.
    to: String,
    /// Absent: the first one.
    server: Option<Server>,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = MailServer)]
enum Server {
    Primary,
    Secondary,
}

/// How a conversation with a mail server went.
#[derive(Serialize, ToSchema)]
#[schema(as = MailTrial)]
struct TrialJson {
    /// The server took the mail.
    accepted: bool,
    /// `host:port`, or a folder.
    server: String,
    /// Id in the mail's Message-ID; the mail is not in the log.
    mail: String,
    /// What went well, in its order.
    steps: Vec<StepJson>,
    /// The server's answer to the mail.
    answer: Option<String>,
    /// What went wrong, and in which step.
    error: Option<String>,
    /// What to do about it.
    advice: Option<&'static str>,
}

/// A step of a conversation.
#[derive(Serialize, ToSchema)]
#[schema(as = MailTrialStep)]
struct StepJson {
    step: &'static str,
    /// What was found or answered.
    told: String,
}

/// Send a test mail at once, past the outbox, and tell how the conversation went.
///
/// Whether the server took it is in the answer: 200 means that it was tried.
#[utoipa::path(post, path = "/api/v1/mail/test", responses(
    (status = 409, description = "`mail_not_configured`: there is no such server to try"),
))]
async fn test(
    State(app): State<App>,
    actor: Actor,
    Json(body): Json<Body>,
) -> Result<Json<TrialJson>, Problem> {
    let via = body.server.map(|server| match server {
        Server::Primary => Via::Primary,
        Server::Secondary => Via::Secondary,
    });
    let trial = try_out(&app, &body.to, via, &actor.audit_name(), &mut |_| {}).await?;
    let (answer, error, advice) = match trial.outcome {
        Ok(answer) => (Some(answer), None, None),
        Err(fault) => (None, Some(fault.told), Some(fault.advice)),
    };
    Ok(Json(TrialJson {
        accepted: answer.is_some(),
        server: trial.server,
        mail: trial.mail,
        steps: trial
            .steps
            .into_iter()
            .map(|event| StepJson { step: event.step.name(), told: event.told })
            .collect(),
        answer,
        error,
        advice,
    }))
}

impl From<TrialError> for Problem {
    fn from(error: TrialError) -> Self {
        let detail = error.to_string();
        match error {
            TrialError::NotConfigured | TrialError::NoSuchServer { .. } | TrialError::Config(_) => {
                Self::conflict("mail_not_configured", detail)
            }
            TrialError::Recipient { .. } => Self::invalid("to", detail),
            TrialError::Mail(error) => error.into(),
            TrialError::Db(error) => error.into(),
        }
    }
}
