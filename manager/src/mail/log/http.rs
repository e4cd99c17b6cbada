//! The mail log: `/api/v1/mails`.

use axum::extract::State;
use gate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::super::actions::MailError;
use super::super::model::{About, Mail, MailState, Via};
use super::super::store as mails;
use super::super::templates::Template;
use super::actions::{self, LogError};
use super::model::{PastAttempt, Search, reissue};
use super::store;
use crate::app::App;
use crate::http::{
    Actor, Created, Json, Page, Path, Permission, Query, Routes, foreign_cursor, page_cursor, page_limit,
};
use crate::problem::Problem;

/// `/api/v1/mails` and below.
pub fn routes() -> Routes {
    Routes::of("mails")
        .permitted(&[Permission::MailRead], routes!(list))
        .permitted(&[Permission::MailRead], routes!(show))
        .permitted(&[Permission::MailWrite], routes!(resend))
        .permitted(&[Permission::MailWrite], routes!(cancel))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<u32>,
    cursor: Option<String>,
    #[param(inline, value_type = Option<MailState>)]
    state: Option<String>,
    #[param(inline, value_type = Option<Template>)]
    template: Option<String>,
    /// The whole address; a to z in whatever case.
    recipient: Option<String>,
    /// `<kind>:<id>`, such as `key:key_…`.
    #[param(pattern = ":")]
    about: Option<String>,
    /// Written at this instant or later, UTC ms.
    from: Option<i64>,
    /// Written at this instant or earlier, UTC ms.
    to: Option<i64>,
    /// In the subject; a to z in whatever case.
    keyword: Option<String>,
}

/// A mail as the log tells it. Instants are UTC ms.
#[derive(Serialize, ToSchema)]
#[schema(as = Mail)]
struct MailJson {
    id: String,
    #[schema(value_type = Template)]
    template: &'static str,
    language: &'static str,
    recipient: String,
    about: About,
    subject: String,
    #[schema(value_type = MailState)]
    state: &'static str,
    attempts: u32,
    /// Some attempt ended without the server's answer: it may have arrived more than once.
    maybe_repeated: bool,
    /// Why the last attempt failed.
    error: Option<String>,
    #[schema(value_type = i64)]
    created_at: UnixMillis,
    /// While it waits: not before.
    #[schema(value_type = Option<i64>)]
    next_attempt_at: Option<UnixMillis>,
    #[schema(value_type = Option<i64>)]
    sent_at: Option<UnixMillis>,
    via: Option<Via>,
    #[schema(value_type = Option<i64>)]
    failed_at: Option<UnixMillis>,
    /// It held a secret: it cannot be sent again from here.
    secret: bool,
    /// What to do instead, where it held a secret that may still be in force; else null.
    reissue: Option<String>,
    /// The plain text, secrets masked, where one mail is shown; else null.
    body: Option<String>,
    /// What each server said to each attempt, where one mail is shown; else null.
    history: Option<Vec<PastAttemptJson>>,
}

/// A server's part of an attempt at a mail.
#[derive(Serialize, ToSchema)]
#[schema(as = MailAttempt)]
struct PastAttemptJson {
    /// Number of the attempt, from 1.
    attempt: i64,
    /// `host:port` or a folder; null where nobody said.
    server: Option<String>,
    /// `accepted`; `postponed`, `refused` (this mail); `unavailable` (the server); `answer_lost`,
    /// `no_word` (it may have arrived).
    outcome: String,
    /// What the server said, or what went wrong in which step.
    answer: String,
    #[schema(value_type = i64)]
    started_at: UnixMillis,
    #[schema(value_type = i64)]
    ended_at: UnixMillis,
}

impl From<PastAttempt> for PastAttemptJson {
    fn from(past: PastAttempt) -> Self {
        let PastAttempt { attempt, server, outcome, answer, started_at, ended_at } = past;
        let server = (!server.is_empty()).then_some(server);
        Self { attempt, server, outcome, answer, started_at, ended_at }
    }
}

impl From<Mail> for MailJson {
    fn from(mail: Mail) -> Self {
        let reissue = reissue(&mail);
        let (mut next_attempt_at, mut sent_at, mut via, mut failed_at) = (None, None, None, None);
        match mail.state {
            MailState::Waiting { next_attempt_at: at } => next_attempt_at = Some(at),
            MailState::Sending { claimed_until: _ } => {}
            MailState::Sent { sent_at: at, via: by } => (sent_at, via) = (Some(at), Some(by)),
            MailState::Failed { failed_at: at } => failed_at = Some(at),
        }
        Self {
            id: mail.id,
            template: mail.template.name(),
            language: mail.language.tag(),
            recipient: mail.recipient,
            about: mail.about,
            subject: mail.subject,
            state: mail.state.name(),
            attempts: mail.attempts,
            maybe_repeated: mail.maybe_repeated,
            error: mail.last_error,
            created_at: mail.created_at,
            next_attempt_at,
            sent_at,
            via,
            failed_at,
            secret: mail.template.carries_secret(),
            reissue,
            body: None,
            history: None,
        }
    }
}

/// List mails, newest first.
#[utoipa::path(get, path = "/api/v1/mails", params(ListQuery))]
async fn list(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<MailJson>>, Problem> {
    let limit = page_limit(query.limit)?;
    let before = match page_cursor(query.cursor.as_deref())?.split_once(' ') {
        Some((at, id)) => {
            let at = at.parse().map_err(|_| foreign_cursor())?;
            Some((UnixMillis(at), id.to_string()))
        }
        None => None,
    };
    if let (Some(from), Some(to)) = (query.from, query.to)
        && to < from
    {
        return Err(Problem::invalid_query("to", "to is before from: name the first instant in from"));
    }
    if let Some(state) = &query.state
        && !MailState::NAMES.contains(&state.as_str())
    {
        return Err(Problem::invalid_query(
            "state",
            format!("state is one of {}", MailState::NAMES.join(", ")),
        ));
    }
    if let Some(template) = &query.template
        && Template::parse(template).is_none()
    {
        let known = Template::ALL.map(Template::name).join(", ");
        return Err(Problem::invalid_query("template", format!("template is one of {known}")));
    }
    let about = match query.about.as_deref().map(|about| about.split_once(':')) {
        Some(Some((kind, id))) => Some(About::new(kind, id)),
        Some(None) => return Err(Problem::invalid_query("about", "about is <kind>:<id>, such as key:key_…")),
        None => None,
    };
    let search = Search {
        state: query.state,
        template: query.template,
        recipient: query.recipient,
        about,
        from: query.from.map(UnixMillis),
        to: query.to.map(UnixMillis),
        keyword: query.keyword,
        before,
    };
    let mut conn = app.db.read().await?;
    let mails = store::list(&mut conn, &search, limit + 1).await?;
    let page = Page::new(mails, limit, |mail| format!("{} {}", mail.created_at.0, mail.id));
    Ok(Json(page.map(MailJson::from)))
}

/// Show a mail with its text, secrets masked, and what came of each attempt.
#[utoipa::path(get, path = "/api/v1/mails/{id}")]
async fn show(State(app): State<App>, Path(id): Path<String>) -> Result<Json<MailJson>, Problem> {
    let mut conn = app.db.snapshot().await?;
    let mail = mails::by_id(&mut conn, &id).await?.ok_or(LogError::NotFound { id })?;
    let history = store::attempts(&mut conn, &mail.id).await?;
    let body = Some(mail.body_masked.clone());
    let history = Some(history.into_iter().map(PastAttemptJson::from).collect());
    Ok(Json(MailJson { body, history, ..mail.into() }))
}

/// Write a mail that was sent or given up once more.
#[utoipa::path(post, path = "/api/v1/mails/{id}/resend", responses(
    (status = 409, description = "`secret_erased` where it held a secret, `mail_pending` while it is on its way"),
))]
async fn resend(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Created<Json<MailJson>>, Problem> {
    let mail = actions::resend(&app, &id, &actor.audit_name(), app.now()).await?;
    Ok(Created(format!("/api/v1/mails/{}", mail.id), Json(mail.into())))
}

/// Take back a mail that waits: it is never sent.
#[utoipa::path(post, path = "/api/v1/mails/{id}/cancel", responses(
    (status = 409, description = "`mail_not_waiting`: it is being sent, or has ended"),
))]
async fn cancel(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Json<MailJson>, Problem> {
    let mail = actions::cancel(&app, &id, &actor.audit_name(), app.now()).await?;
    Ok(Json(mail.into()))
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Self {
        let detail = error.to_string();
        match error {
            LogError::NotFound { .. } => Self::not_found(detail),
            LogError::SecretErased { .. } | LogError::SecretWithdrawn { .. } => {
                Self::conflict("secret_erased", detail)
            }
            LogError::StillPending { .. } => Self::conflict("mail_pending", detail),
            LogError::NotWaiting { .. } => Self::conflict("mail_not_waiting", detail),
            LogError::Db(error) => error.into(),
        }
    }
}

impl From<MailError> for Problem {
    fn from(error: MailError) -> Self {
        let detail = error.to_string();
        match error {
            MailError::Template { .. } => {
                tracing::error!("{detail}");
                Self::internal()
            }
            MailError::Db(error) => error.into(),
        }
    }
}
