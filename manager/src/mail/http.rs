//! The mail log: `/api/v1/mails`.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use gate::time::UnixMillis;
use serde::{Deserialize, Serialize};

use super::actions::{self, MailError};
use super::model::{About, Mail, MailState, Via};
use super::render::Template;
use super::store::{self, Filter};
use crate::app::App;
use crate::http::{Actor, Json, Page, Path, Permission, Query, page_cursor, page_limit};
use crate::problem::Problem;

/// `/api/v1/mails` and below.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/mails", get(list))
        .route("/api/v1/mails/{id}", get(show))
        .route("/api/v1/mails/{id}/resend", post(resend))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<u32>,
    cursor: Option<String>,
    state: Option<String>,
    template: Option<String>,
    recipient: Option<String>,
    /// `<kind>:<id>`
    about: Option<String>,
}

/// A mail as the log tells it. Instants are UTC ms.
#[derive(Serialize)]
struct MailJson {
    id: String,
    template: &'static str,
    language: &'static str,
    recipient: String,
    about: About,
    subject: String,
    state: &'static str,
    attempts: u32,
    /// Some attempt ended without the server's answer: it may have arrived more than once.
    maybe_repeated: bool,
    /// Why the last attempt failed.
    error: Option<String>,
    created_at: UnixMillis,
    /// While it waits: not before.
    next_attempt_at: Option<UnixMillis>,
    sent_at: Option<UnixMillis>,
    via: Option<Via>,
    failed_at: Option<UnixMillis>,
    /// It held a secret: it cannot be sent again from here.
    secret: bool,
    /// The plain text, secrets masked; only where one mail is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

impl From<Mail> for MailJson {
    fn from(mail: Mail) -> Self {
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
            body: None,
        }
    }
}

async fn list(
    State(app): State<App>,
    actor: Actor,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<MailJson>>, Problem> {
    actor.require(Permission::MailRead)?;
    let limit = page_limit(query.limit)?;
    let before = match page_cursor(query.cursor.as_deref())?.split_once(' ') {
        Some((at, id)) => {
            let at = at.parse().map_err(|_| Problem::invalid("cursor", "cursor is not one of ours"))?;
            (UnixMillis(at), id.to_string())
        }
        None => (UnixMillis(i64::MAX), String::new()),
    };
    if let Some(state) = &query.state
        && !MailState::NAMES.contains(&state.as_str())
    {
        return Err(Problem::invalid("state", format!("state is one of {}", MailState::NAMES.join(", "))));
    }
    if let Some(template) = &query.template
        && Template::parse(template).is_none()
    {
        let known = Template::ALL.map(Template::name).join(", ");
        return Err(Problem::invalid("template", format!("template is one of {known}")));
    }
    let about = match query.about.as_deref().map(|about| about.split_once(':')) {
        Some(Some((kind, id))) => Some(About::new(kind, id)),
        Some(None) => return Err(Problem::invalid("about", "about is <kind>:<id>, such as key:key_…")),
        None => None,
    };
    let filter = Filter { state: query.state, template: query.template, recipient: query.recipient, about };
    let mut conn = app.db.read().await?;
    let mails = store::list(&mut conn, &filter, (before.0, &before.1), limit + 1).await?;
    let page = Page::new(mails, limit, |mail| format!("{} {}", mail.created_at.0, mail.id));
    Ok(Json(page.map(MailJson::from)))
}

async fn show(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Json<MailJson>, Problem> {
    actor.require(Permission::MailRead)?;
    let mut conn = app.db.read().await?;
    let mail = store::by_id(&mut conn, &id).await?.ok_or(MailError::NotFound { id })?;
    let body = Some(mail.body_masked.clone());
    Ok(Json(MailJson { body, ..mail.into() }))
}

async fn resend(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<MailJson>), Problem> {
    actor.require(Permission::MailWrite)?;
    let mail = actions::resend(&app, &id, &actor.audit_name(), app.now()).await?;
    Ok((StatusCode::CREATED, Json(mail.into())))
}

impl From<MailError> for Problem {
    fn from(error: MailError) -> Self {
        let detail = error.to_string();
        match error {
            MailError::NotFound { .. } => Self::not_found(detail),
            MailError::SecretErased { .. } => Self::conflict("secret_erased", detail),
            MailError::StillPending { .. } => Self::conflict("mail_pending", detail),
            MailError::Template { .. } => {
                tracing::error!("{detail}");
                Self::internal()
            }
            MailError::Db(error) => error.into(),
        }
    }
}
