//! `GET /api/v1/applications`

use axum::extract::State as AppState;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::super::applicant::Applicant;
use super::super::model::{Action, State};
use super::super::view::ApplicationView;
use super::{Filter, Item, Place, Summary, View};
use crate::app::App;
use crate::approvals::FormKind;
use crate::http::{Actor, Json, Page, Query, Routes, foreign_cursor, operator_id, page_cursor, page_limit};
use crate::openapi::schema::{Day, schema_of};
use crate::problem::Problem;
use crate::search::{Keyword, Words, days, several};

/// Lists of forms.
pub fn routes() -> Routes {
    Routes::of("applications").signed_in(routes!(list)).signed_in(routes!(summary))
}

/// A form on a list. Instants are UTC ms.
#[derive(Serialize, ToSchema)]
#[schema(as = ApplicationItem)]
struct ItemView {
    #[serde(flatten)]
    application: ApplicationView,
    /// What people call who filed it.
    applicant_name: String,
    /// What people call the client.
    client_name: String,
    /// The level that waits for a signature; else null.
    waiting_level: Option<u32>,
    /// Since when it waits there; else null.
    waiting_since: Option<i64>,
    /// What the caller may do now.
    #[schema(value_type = Vec<Action>)]
    actions: Vec<&'static str>,
}

impl From<Item> for ItemView {
    fn from(item: Item) -> Self {
        let waiting_since = item.waiting_since().map(|at| at.0);
        let Item { application, applicant_name, client_name, revokes, actions } = item;
        let waiting_level = match application.state {
            State::PendingOrder { level, .. } => Some(level),
            State::Draft
            | State::Returned { .. }
            | State::Approved { .. }
            | State::Rejected { .. }
            | State::Cancelled { .. } => None,
        };
        Self {
            application: ApplicationView::from(application).or_named(revokes),
            applicant_name,
            client_name,
            waiting_level,
            waiting_since,
            actions: actions.into_iter().map(Action::name).collect(),
        }
    }
}

enum ViewName {}

schema_of! { ViewName: one_of(["all", "mine", "waiting-for-me", "reviewed"]) }

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    #[param(inline, value_type = Option<ViewName>)]
    view: Option<String>,
    /// `draft`, `pending_order`, `returned`, `approved`, `rejected`, `cancelled`; several with commas.
    state: Option<String>,
    /// `KA`, `KU` …; several with commas.
    r#type: Option<String>,
    /// Client id.
    client: Option<String>,
    /// Who filed it: an operator's name or id, `client:<id>` or `visitor:<address>`.
    applicant: Option<String>,
    /// First day on which it was saved first, in the installation's zone.
    #[param(inline, value_type = Option<Day>)]
    from: Option<String>,
    /// Last day.
    #[param(inline, value_type = Option<Day>)]
    until: Option<String>,
    /// Words, each in number, name, description, or the client's id, names or application number, in
    /// whatever case.
    #[param(inline, value_type = Option<Keyword>)]
    keyword: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// List forms, newest first.
///
/// Without applications.read: one's own, those that wait for one's signature, and those one has signed,
/// returned or rejected. A page looks at 2,000 waiting forms at most to find those that the caller may
/// sign; it may hold fewer than `limit` then, and `next` goes on.
#[utoipa::path(get, path = "/api/v1/applications", params(ListQuery))]
async fn list(
    AppState(app): AppState<App>,
    actor: Actor,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<ItemView>>, Problem> {
    let limit = usize::try_from(page_limit(query.limit)?).unwrap_or(usize::MAX);
    let place = match page_cursor(query.cursor.as_deref())?.as_str() {
        "" => None,
        text => Some(Place::parse(text).ok_or_else(foreign_cursor)?),
    };
    let view = match query.view.as_deref() {
        None | Some("all") => View::Everything,
        Some("mine") => View::Mine,
        Some("waiting-for-me") => View::WaitingForMe,
        Some("reviewed") => View::Reviewed,
        Some(other) => {
            let detail = format!("view is `{other}`, must be all, mine, waiting-for-me or reviewed");
            return Err(Problem::invalid_query("view", detail));
        }
    };
    let kinds = several("type", query.r#type.as_deref(), &FormKind::ALL.map(FormKind::code))?;
    let filter = Filter {
        states: several("state", query.state.as_deref(), &State::NAMES)?,
        kinds: kinds.into_iter().filter_map(FormKind::parse).collect(),
        client: query.client,
        applicants: match query.applicant {
            Some(named) => Some(applicants(&app, &named).await?),
            None => None,
        },
        created: days(query.from.as_deref(), query.until.as_deref(), &app.config.zone())?,
        words: Words::parse(query.keyword.as_deref())?,
    };
    let found = super::list(&app, (&actor).into(), view, &filter, place, limit).await?;
    let items = found.items.into_iter().map(ItemView::from).collect();
    Ok(Json(Page::ending(items, found.next.map(|place| place.to_string()))))
}

/// Whom `named` may mean: itself, the operator of that name.
async fn applicants(app: &App, named: &str) -> Result<Vec<Applicant>, Problem> {
    let wrong = || {
        let detail = format!(
            "applicant is `{named}`: name an operator by name or id, or write client:<id> or visitor:<address>"
        );
        Problem::invalid_query("applicant", detail)
    };
    let itself = Applicant::parse(named).ok_or_else(wrong)?;
    let of_name = operator_id(&mut *app.db.read().await?, named).await?.map(Applicant::Operator);
    Ok(std::iter::once(itself).chain(of_name).collect())
}

/// Counts for badges.
#[derive(Serialize, ToSchema)]
#[schema(as = ApplicationSummary)]
struct SummaryView {
    /// One's own forms that can still go on.
    mine: MineView,
    waiting_for_me: WaitingView,
    /// The installation's, in which days are meant.
    time_zone: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ApplicationSummaryMine)]
struct MineView {
    draft: i64,
    pending_order: i64,
    returned: i64,
    /// Approved, and done later.
    scheduled: i64,
    /// All of these.
    open: i64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ApplicationSummaryWaiting)]
struct WaitingView {
    count: usize,
    /// There may be more: the count looks at 2,000 waiting forms at most, the newest.
    more: bool,
    /// Since when the longest of them has been waiting, UTC ms; null: none waits.
    oldest_since: Option<i64>,
}

/// Count one's own open forms, and those that wait for one's signature.
#[utoipa::path(get, path = "/api/v1/applications/summary")]
async fn summary(AppState(app): AppState<App>, actor: Actor) -> Result<Json<SummaryView>, Problem> {
    let Summary { mine, waiting, more, oldest_since } = super::summary(&app, (&actor).into()).await?;
    Ok(Json(SummaryView {
        mine: MineView {
            draft: mine.draft,
            pending_order: mine.pending_order,
            returned: mine.returned,
            scheduled: mine.scheduled,
            open: mine.draft + mine.pending_order + mine.returned + mine.scheduled,
        },
        waiting_for_me: WaitingView { count: waiting, more, oldest_since: oldest_since.map(|at| at.0) },
        time_zone: app.config.time_zone.clone(),
    }))
}
