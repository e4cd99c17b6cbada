//! The mail log: `/api/v1/mails`.

use axum::extract::State;
use gate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::actions::{self, MailError};
use super::model::{About, Mail, MailState, Via};
use super::store::{self, Filter};
use super::template::Template;
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
    recipient: Option<String>,
    /// `<kind>:<id>`, such as `key:key_…`.
    #[param(pattern = ":")]
    about: Option<String>,
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
    /// The plain text, secrets masked, where one mail is shown; else null.
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
            (UnixMillis(at), id.to_string())
        }
        None => (UnixMillis(i64::MAX), String::new()),
    };
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
    let filter = Filter { state: query.state, template: query.template, recipient: query.recipient, about };
    let mut conn = app.db.read().await?;
    let mails = store::list(&mut conn, &filter, (before.0, &before.1), limit + 1).await?;
    let page = Page::new(mails, limit, |mail| format!("{} {}", mail.created_at.0, mail.id));
    Ok(Json(page.map(MailJson::from)))
}

/// Show a mail with its text, secrets masked.
#[utoipa::path(get, path = "/api/v1/mails/{id}")]
async fn show(State(app): State<App>, Path(id): Path<String>) -> Result<Json<MailJson>, Problem> {
    let mut conn = app.db.read().await?;
    let mail = store::by_id(&mut conn, &id).await?.ok_or(MailError::NotFound { id })?;
    let body = Some(mail.body_masked.clone());
    Ok(Json(MailJson { body, ..mail.into() }))
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
