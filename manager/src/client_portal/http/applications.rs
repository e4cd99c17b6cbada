//! `/client/v1/applications`: the forms that a client files for itself, and those that operators file about
//! it, which it reads.

use std::collections::BTreeSet;

use axum::extract::State as AppState;
use gate::id::{ApiUid, ClientId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::apis::is_open;
use crate::app::App;
use crate::applications::{
    self, Action, Applicant, Application, ApplicationError, ApplicationView, Caller, Detail, EditedForm,
    Filter, MAX_COMMENT_CHARS, MovedView, NewForm, Place, State, Step, View,
};
use crate::approvals::FormKind;
use crate::catalog;
use crate::client_portal::sessions::SignedIn;
use crate::db::DbError;
use crate::http::{
    Created, IfMatch, Json, NoContent, Page, Path, Query, Routes, Versioned, foreign_cursor, page_cursor,
    page_limit,
};
use crate::mail;
use crate::openapi::schema::schema_of;
use crate::problem::Problem;
use crate::search::{Keyword, Words, several};

pub(super) fn routes() -> Routes {
    Routes::of("client_portal")
        .client(routes!(save_application, list_applications))
        .client(routes!(show_application, edit_application, delete_application))
        .client(routes!(submit_application))
        .client(routes!(resubmit_application))
        .client(routes!(withdraw_application))
        .client(routes!(stop_application))
}

enum CommentText {}
enum Side {}

schema_of! { CommentText as OwnApplicationComment: text(0, MAX_COMMENT_CHARS) }
schema_of! { Side as OwnApplicationSide: one_of(["you", "operator", "reviewer", "keygate"]) }

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = OwnComment)]
pub(in crate::client_portal) struct Comment {
    #[serde(default)]
    #[schema(value_type = CommentText)]
    pub comment: String,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// `draft`, `pending_order`, `returned`, `approved`, `rejected`, `cancelled`; several with commas.
    state: Option<String>,
    /// `KA`, `KU`, `KR`; several with commas.
    r#type: Option<String>,
    /// Words, each in number, name or description, in whatever case.
    #[param(inline, value_type = Option<Keyword>)]
    keyword: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// A form of one's own, or about oneself, with its history.
#[derive(Serialize, ToSchema)]
#[schema(as = OwnApplication)]
pub(in crate::client_portal) struct OwnDetailView {
    #[serde(flatten)]
    application: ApplicationView,
    /// What happened, oldest first.
    history: Vec<StepView>,
    /// What may be done with it now.
    #[schema(value_type = Vec<Action>)]
    actions: Vec<&'static str>,
    /// KA: the addresses to which the new key's credentials go, as when it was submitted last; else
    /// null, also of a form that an operator filed.
    credentials_go_to: Option<Vec<String>>,
}

/// Something that happened to a form. Which operator it was is not told.
#[derive(Serialize, ToSchema)]
#[schema(as = OwnApplicationStep)]
pub(in crate::client_portal) struct StepView {
    version: i64,
    /// UTC ms.
    at: i64,
    #[schema(value_type = Side)]
    by: &'static str,
    action: String,
    /// Of the reviewer; null: no level's.
    level: Option<u32>,
    /// Empty: none, or one that operators made among themselves on a form of theirs.
    comment: String,
    /// The state afterwards.
    state: String,
}

impl StepView {
    fn new(step: Step, applicant: &Applicant) -> Self {
        let of_operator = matches!(applicant, Applicant::Operator(_));
        let by = match step.actor.as_str() {
            Step::BY_ITSELF => "keygate",
            actor if actor.starts_with("client:") || actor.starts_with("visitor:") => "you",
            actor if of_operator && actor == applicant.id() => "operator",
            _ => "reviewer",
        };
        // What is said of signers names them, and what operators say to each other is not for others.
        let inside = if by == "keygate" { step.action.starts_with("escalat") } else { of_operator };
        Self {
            by,
            version: step.version,
            at: step.at.0,
            action: step.action,
            level: step.level,
            comment: if inside { String::new() } else { step.comment },
            state: step.state,
        }
    }
}

impl From<Detail> for OwnDetailView {
    fn from(detail: Detail) -> Self {
        let applicant = detail.application.applicant.clone();
        let own = !matches!(applicant, Applicant::Operator(_));
        Self {
            // Among them may be the address of the operator.
            credentials_go_to: detail.application.credentials_go_to.clone().filter(|_| own),
            application: ApplicationView::to_client(detail.application),
            history: detail.history.into_iter().map(|step| StepView::new(step, &applicant)).collect(),
            actions: detail.actions.into_iter().map(Action::name).collect(),
        }
    }
}

/// Save a form as a draft.
///
/// For oneself: `client` may be left out.
#[utoipa::path(post, path = "/client/v1/applications")]
async fn save_application(
    AppState(app): AppState<App>,
    caller: SignedIn,
    Json(body): Json<NewForm>,
) -> Result<Created<Versioned<MovedView>>, Problem> {
    let kind = body.kind()?;
    let fields = body.fields();
    require_open(&app, &caller, fields.apis.as_deref()).await?;
    let saved = applications::save(&app, as_applicant(&id_of(&caller)), kind, fields).await;
    let application = saved.map_err(ApplicationError::without_names)?;
    let location = format!("/client/v1/applications/{}", application.id);
    Ok(Created(location, told(&app, &caller, application, Vec::new()).await?))
}

/// List one's forms, and those that operators have handed in about oneself, newest first.
#[utoipa::path(get, path = "/client/v1/applications", params(ListQuery))]
async fn list_applications(
    AppState(app): AppState<App>,
    caller: SignedIn,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<ApplicationView>>, Problem> {
    let limit = page_limit(query.limit)?;
    let place = match page_cursor(query.cursor.as_deref())?.as_str() {
        "" => None,
        text => Some(Place::parse(text).ok_or_else(foreign_cursor)?),
    };
    let filter = conditions(query)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let found =
        applications::list(&app, as_applicant(&id_of(&caller)), View::Mine, &filter, place, limit).await?;
    let items = found.items.into_iter().map(|item| ApplicationView::to_client(item.application)).collect();
    Ok(Json(Page::ending(items, found.next.map(|place| place.to_string()))))
}

/// Show a form of one's own or about oneself, its history, and what may be done with it now.
#[utoipa::path(get, path = "/client/v1/applications/{id}")]
async fn show_application(
    AppState(app): AppState<App>,
    caller: SignedIn,
    Path(id): Path<String>,
) -> Result<Versioned<OwnDetailView>, Problem> {
    let detail = applications::detail(&app, as_applicant(&id_of(&caller)), &id).await?;
    Ok(Versioned(detail.application.version, detail.into()))
}

/// Replace the fields of a draft or a returned form.
#[utoipa::path(put, path = "/client/v1/applications/{id}", params(IfMatch), responses(
    (status = 403, description = "`forbidden`: one may not do so with this form"),
    (status = 409, description = "`wrong_state`"),
))]
async fn edit_application(
    AppState(app): AppState<App>,
    caller: SignedIn,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
    Json(body): Json<EditedForm>,
) -> Result<Versioned<MovedView>, Problem> {
    let fields = body.fields();
    // Of another's form not even its fields are looked at.
    applications::detail(&app, as_applicant(&id_of(&caller)), &id).await?;
    require_open(&app, &caller, fields.apis.as_deref()).await?;
    let edited = applications::edit(&app, as_applicant(&id_of(&caller)), &id, seen, fields).await;
    told(&app, &caller, edited.map_err(ApplicationError::without_names)?, Vec::new()).await
}

/// Throw a draft away.
#[utoipa::path(delete, path = "/client/v1/applications/{id}", params(IfMatch), responses(
    (status = 403, description = "`forbidden`: one may not do so with this form"),
    (status = 409, description = "`wrong_state`"),
))]
async fn delete_application(
    AppState(app): AppState<App>,
    caller: SignedIn,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
) -> Result<NoContent, Problem> {
    let deleted = applications::delete(&app, as_applicant(&id_of(&caller)), &id, seen).await;
    deleted.map_err(ApplicationError::without_names)?;
    Ok(NoContent)
}

/// Hand a draft in for review.
#[utoipa::path(post, path = "/client/v1/applications/{id}/submit", params(IfMatch), responses(
    (status = 403, description = "`forbidden`: one may not do so with this form"),
    (status = 409, description = "`wrong_state`, or what keeps the form from being reviewed"),
    (status = 422, description = "`invalid_field`: a field no longer holds in the world as it is"),
))]
async fn submit_application(
    AppState(app): AppState<App>,
    caller: SignedIn,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
) -> Result<Versioned<MovedView>, Problem> {
    hand_in(&app, &caller, &id, seen, Action::Submit).await
}

/// Hand a returned form in again.
#[utoipa::path(post, path = "/client/v1/applications/{id}/resubmit", params(IfMatch), responses(
    (status = 403, description = "`forbidden`: one may not do so with this form"),
    (status = 409, description = "`wrong_state`, or what keeps the form from being reviewed"),
    (status = 422, description = "`invalid_field`: a field no longer holds in the world as it is"),
))]
async fn resubmit_application(
    AppState(app): AppState<App>,
    caller: SignedIn,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
) -> Result<Versioned<MovedView>, Problem> {
    hand_in(&app, &caller, &id, seen, Action::Resubmit).await
}

/// Take one's form back for good.
#[utoipa::path(post, path = "/client/v1/applications/{id}/withdraw", params(IfMatch), responses(
    (status = 403, description = "`forbidden`: one may not do so with this form"),
    (status = 409, description = "`wrong_state`, `already_reviewed`"),
))]
async fn withdraw_application(
    AppState(app): AppState<App>,
    caller: SignedIn,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
    Json(body): Json<Comment>,
) -> Result<Versioned<ApplicationView>, Problem> {
    answer(applications::withdraw(&app, as_applicant(&id_of(&caller)), &id, seen, &body.comment).await)
}

/// Stop an approved change or revocation that is not yet due.
#[utoipa::path(post, path = "/client/v1/applications/{id}/stop", params(IfMatch), responses(
    (status = 403, description = "`forbidden`: one may not do so with this form"),
    (status = 409, description = "`wrong_state`"),
))]
async fn stop_application(
    AppState(app): AppState<App>,
    caller: SignedIn,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
    Json(body): Json<Comment>,
) -> Result<Versioned<ApplicationView>, Problem> {
    answer(applications::stop(&app, as_applicant(&id_of(&caller)), &id, seen, &body.comment).await)
}

async fn hand_in(
    app: &App,
    caller: &SignedIn,
    id: &str,
    seen: Option<i64>,
    action: Action,
) -> Result<Versioned<MovedView>, Problem> {
    let client = id_of(caller);
    let detail = applications::detail(app, as_applicant(&client), id).await?;
    // A draft may be older than what has become of its APIs.
    if detail.actions.contains(&action) {
        let terms = detail.application.form.terms();
        let apis: Vec<String> =
            terms.into_iter().flat_map(|terms| &terms.apis).map(|api| api.0.clone()).collect();
        require_open(app, caller, Some(&apis)).await?;
    }
    let application = applications::submit(app, as_applicant(&client), id, seen, action)
        .await
        .map_err(ApplicationError::without_names)?;
    let warnings = mail::warnings(&mut *app.db.read().await?, app).await?;
    let warnings = warnings.into_iter().map(mail::Warning::without_details).collect();
    told(app, caller, application, warnings).await
}

/// A form that the client has saved or handed in, with what it should know of it and of its mails.
async fn told(
    app: &App,
    caller: &SignedIn,
    application: Application,
    mails: Vec<mail::Warning>,
) -> Result<Versioned<MovedView>, Problem> {
    let remarks = applications::remarks(app, as_applicant(&id_of(caller)), &application).await?;
    Ok(Versioned(application.version, MovedView::new(application, remarks, mails)))
}

fn id_of(caller: &SignedIn) -> ClientId {
    ClientId::from(caller.session.client.as_str())
}

fn as_applicant(client: &ClientId) -> Caller<'_> {
    Caller::Client(client)
}

pub(in crate::client_portal) fn answer(
    result: Result<Application, ApplicationError>,
) -> Result<Versioned<ApplicationView>, Problem> {
    let application = result.map_err(ApplicationError::without_names)?;
    Ok(Versioned(application.version, application.into()))
}

/// Err: among the APIs is one that the client does not see, of which nobody is to learn here
/// whether it exists.
async fn require_open(app: &App, caller: &SignedIn, apis: Option<&[String]>) -> Result<(), Problem> {
    let Some(apis) = apis.filter(|apis| !apis.is_empty() && apis.len() <= crate::keys::MAX_APIS) else {
        return Ok(());
    };
    let uids: Vec<ApiUid> = apis.iter().map(|uid| ApiUid(uid.trim().to_owned())).collect();
    let open = known_open(app, caller, &uids).await?;
    match uids.iter().find(|uid| !open.contains(*uid)) {
        Some(closed) => Err(Problem::invalid(
            "apis",
            format!("no API {closed} is open to you: choose from GET /client/v1/apis"),
        )),
        None => Ok(()),
    }
}

async fn known_open(app: &App, caller: &SignedIn, uids: &[ApiUid]) -> Result<BTreeSet<ApiUid>, DbError> {
    let known = catalog::known_apis(&mut *app.db.snapshot().await?, uids).await?;
    let open = known.into_iter().filter(|api| is_open(&caller.client, api.enabled, api.audience));
    Ok(open.map(|api| api.uid).collect())
}

fn conditions(query: ListQuery) -> Result<Filter, Problem> {
    let kinds = several("type", query.r#type.as_deref(), &FormKind::ALL.map(FormKind::code))?;
    Ok(Filter {
        states: several("state", query.state.as_deref(), &State::NAMES)?,
        kinds: kinds.into_iter().filter_map(FormKind::parse).collect(),
        words: Words::parse(query.keyword.as_deref())?,
        ..Filter::default()
    })
}
