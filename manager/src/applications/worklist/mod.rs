//! What somebody sees of forms: lists, counts for badges, and single ones.
//!
//! Who may sign what is told by [`standings`] alone, which single forms are asked about too: a list
//! reads what may fit off an index and keeps what the form's own rules then say.

pub(super) mod http;
mod names;
mod store;

use std::collections::BTreeMap;
use std::slice::from_ref;

use gate::id::ApiUid;
use gate::time::{Interval, UnixMillis};

use super::applicant::{Applicant, Caller};
use super::error::ApplicationError;
use super::form::Form;
use super::history;
use super::model::{Action, Application, State, Step};
use super::review::{self, Review};
use super::signing::standings;
use super::turn::must_see;
use super::waiting::{self, Waiting};
use super::world;
use crate::app::App;
use crate::approvals::FormKind;
use crate::db::{Conn, DbError, MAX_IN};
use crate::keys;
use crate::operators::Permission;
use crate::search::Words;

pub(super) use store::Scope;
#[cfg(test)]
pub(super) use store::list_statement;
pub use store::{Opened, Place};

/// Forms that one page looks at, at most, to find those that its reader may sign. A page that ends
/// there may hold fewer than it was asked for, and the next one goes on.
pub const MAX_EXAMINED: usize = 2_000;

/// A form with all that its page shows.
#[derive(Clone, Debug)]
pub struct Detail {
    /// The form.
    pub application: Application,
    /// What happened to it, oldest first.
    pub history: Vec<Step>,
    /// What the caller may do with it now.
    pub actions: Vec<Action>,
    /// How it stands among its signers, for operators; none: it waits for none.
    pub waiting: Option<Waiting>,
    /// What a reviewer looks at while the form can still go on.
    pub review: Option<Review>,
    /// What people call the key that the form revokes.
    pub revokes: Option<String>,
}

/// A form with what a list shows of it.
#[derive(Clone, Debug)]
pub struct Item {
    /// The form.
    pub application: Application,
    /// What people call who filed it.
    pub applicant_name: String,
    /// What people call the client; a client that is unknown, by its id.
    pub client_name: String,
    /// What people call the key that the form revokes.
    pub revokes: Option<String>,
    /// What the caller may do with it now.
    pub actions: Vec<Action>,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Found {
    /// The newest first.
    pub items: Vec<Item>,
    /// Behind which form the next part begins; none: this was the last.
    pub next: Option<Place>,
}

/// Which forms somebody wants to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// All that the caller may see.
    #[default]
    Everything,
    /// Those that the caller filed; to a client, those that others have filed about it, too.
    Mine,
    /// Those that wait for the caller's signature.
    WaitingForMe,
    /// Those that the caller has approved, returned or rejected.
    Reviewed,
}

/// What a list is narrowed by; empty or none: not.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Names of states.
    pub states: Vec<&'static str>,
    /// Kinds.
    pub kinds: Vec<FormKind>,
    /// Whose key.
    pub client: Option<String>,
    /// Who filed it: one of these.
    pub applicants: Option<Vec<Applicant>>,
    /// When it was first saved.
    pub created: Option<Interval>,
    /// In number, name, description, or the client's id, names or application number.
    pub words: Words,
}

/// What badges show.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Of the caller's own forms, those that can still go on.
    pub mine: Opened,
    /// Forms that wait for the caller's signature.
    pub waiting: usize,
    /// There may be more of them than those counted.
    pub more: bool,
    /// Since when the longest of them has been waiting.
    pub oldest_since: Option<UnixMillis>,
}

impl Item {
    /// Since when the level that waits has been waiting.
    pub fn waiting_since(&self) -> Option<UnixMillis> {
        waiting_since(&self.application)
    }
}

/// Every action moves a form on to where it waits, so that it waits since the last one.
pub fn waiting_since(application: &Application) -> Option<UnixMillis> {
    match application.state {
        State::PendingOrder { .. } => Some(application.updated_at),
        State::Draft
        | State::Returned { .. }
        | State::Approved { .. }
        | State::Rejected { .. }
        | State::Cancelled { .. } => None,
    }
}

/// The form of that id or number with its history, if the caller may see it.
pub async fn detail(app: &App, caller: Caller<'_>, id: &str) -> Result<Detail, ApplicationError> {
    let mut read = app.db.snapshot().await?;
    detail_in(&mut read, app, caller, id).await
}

/// What people call those on a form and what it lists.
#[derive(Debug)]
pub struct Called {
    /// Who filed it.
    pub applicant: String,
    /// The client that it is about or asks for.
    pub client: String,
    /// The APIs that it lists; those that are gone by their uid.
    pub apis: Vec<(ApiUid, String)>,
    /// Who did something with it, by what its steps call them.
    pub actors: BTreeMap<String, String>,
}

/// [`detail`] for an operator, with what all in it are called.
pub async fn detail_with_names(
    app: &App,
    caller: Caller<'_>,
    id: &str,
) -> Result<(Detail, Called), ApplicationError> {
    let mut read = app.db.snapshot().await?;
    let detail = detail_in(&mut read, app, caller, id).await?;
    let form = &detail.application.form;
    let uids = form.terms().map(|terms| terms.apis.clone()).unwrap_or_default();
    let called = Called {
        applicant: world::applicant_name(&mut read, &detail.application.applicant).await?,
        client: world::client_of(&mut read, form).await?.1,
        apis: uids.iter().cloned().zip(world::api_names(&mut read, &uids).await?).collect(),
        actors: world::names_of(&mut read, &detail.history).await?,
    };
    Ok((detail, called))
}

/// [`detail`] within what the caller reads.
pub(super) async fn detail_in(
    conn: &mut Conn,
    app: &App,
    caller: Caller<'_>,
    id: &str,
) -> Result<Detail, ApplicationError> {
    let application =
        super::store::find(conn, id).await?.ok_or_else(|| ApplicationError::NotFound(id.to_owned()))?;
    let [standing] = standings(conn, app, caller, from_ref(&application)).await?[..] else {
        unreachable!("one form, one standing")
    };
    must_see(conn, caller, &application, standing).await?;
    let history = history::of(conn, &application.id).await?;
    let actions = application.state.actions(standing);
    let waiting = match caller.operator() {
        Some(_) => waiting::of(conn, app, &application.id).await?,
        None => None,
    };
    // A client looks at its own forms alone, and at no reviewer's page.
    let review = match caller.operator() {
        Some(_) => review::of(conn, app, &application).await?,
        None => None,
    };
    let revokes = match &application.form {
        Form::Revoke { key, .. } => keys::by_id(conn, key).await?.map(|key| key.name.as_str().to_owned()),
        Form::Apply { .. } | Form::Change { .. } | Form::Client { .. } => None,
    };
    Ok(Detail { application, history, actions, review, waiting, revokes })
}

/// Up to `limit` forms that the caller may see and wants to, the newest first.
pub async fn list(
    app: &App,
    caller: Caller<'_>,
    view: View,
    filter: &Filter,
    place: Option<Place>,
    limit: usize,
) -> Result<Found, ApplicationError> {
    let mut read = app.db.snapshot().await?;
    let (found, next) = gather(&mut read, app, caller, view, filter, place, limit).await?;
    let names = names::of(&mut read, &found).await?;
    let items = found.into_iter().map(|(application, actions)| Item {
        applicant_name: names.of_applicant(&application.applicant),
        client_name: names.of_client(&application.form),
        revokes: names.of_revoked_key(&application.form),
        application,
        actions,
    });
    Ok(Found { items: items.collect(), next })
}

/// What the caller's badges show.
pub async fn summary(app: &App, caller: Caller<'_>) -> Result<Summary, ApplicationError> {
    let mut read = app.db.snapshot().await?;
    let mine = store::opened_by(&mut read, &caller.applicant()).await?;
    let every = usize::MAX;
    let filter = Filter::default();
    let (found, next) = gather(&mut read, app, caller, View::WaitingForMe, &filter, None, every).await?;
    let oldest_since = found.iter().filter_map(|(application, _)| waiting_since(application)).min();
    Ok(Summary { mine, waiting: found.len(), more: next.is_some(), oldest_since })
}

type Gathered = (Vec<(Application, Vec<Action>)>, Option<Place>);

async fn gather(
    conn: &mut Conn,
    app: &App,
    caller: Caller<'_>,
    view: View,
    filter: &Filter,
    mut place: Option<Place>,
    limit: usize,
) -> Result<Gathered, ApplicationError> {
    let who = caller.applicant();
    let scope = match view {
        View::Everything if caller.may(Permission::ApplicationsRead) => Scope::All,
        View::Everything => Scope::Concerning(&who),
        View::Mine => match caller {
            Caller::Client(client) => Scope::About(client),
            Caller::Operator(_) | Caller::Visitor(_) => Scope::FiledBy(&who),
        },
        // A delegate needs no permission of its own.
        View::WaitingForMe if caller.operator().is_none() => return Ok((Vec::new(), None)),
        View::WaitingForMe => Scope::Waiting,
        View::Reviewed => Scope::ReviewedBy(&who),
    };
    let (mut kept, mut examined) = (Vec::new(), 0);
    loop {
        // One more than a page holds tells whether there is another one.
        let batch = match scope {
            Scope::All | Scope::FiledBy(_) | Scope::About(_) | Scope::ReviewedBy(_) => {
                limit.saturating_add(1)
            }
            // Few of many may be the caller's to sign.
            Scope::Waiting | Scope::Concerning(_) => limit.saturating_add(1).max(MAX_IN),
        };
        let batch = batch.min(MAX_EXAMINED - examined);
        let read = store::list(conn, scope, filter, place.as_ref(), batch).await?;
        let (last, end) = (read.len() < batch, examined + read.len() >= MAX_EXAMINED);
        examined += read.len();
        place = read.last().map(Place::of).or(place);
        for judged in judge(conn, app, caller, scope, read).await? {
            kept.push(judged);
            if kept.len() > limit {
                kept.truncate(limit);
                let next = kept.last().map(|(application, _)| Place::of(application));
                return Ok((kept, next));
            }
        }
        if last {
            return Ok((kept, None));
        }
        if end {
            return Ok((kept, place));
        }
    }
}

/// What the caller may do with each, and only those that belong on the list.
async fn judge(
    conn: &mut Conn,
    app: &App,
    caller: Caller<'_>,
    scope: Scope<'_>,
    read: Vec<Application>,
) -> Result<Vec<(Application, Vec<Action>)>, DbError> {
    let standings = standings(conn, app, caller, &read).await?;
    let reviewed = match scope {
        Scope::Concerning(who) => {
            let ids: Vec<&str> = read.iter().map(|application| application.id.as_str()).collect();
            history::reviewed_among(conn, &ids, who).await?
        }
        Scope::All | Scope::FiledBy(_) | Scope::About(_) | Scope::Waiting | Scope::ReviewedBy(_) => {
            Default::default()
        }
    };
    let judged = read.into_iter().zip(standings).map(|(application, standing)| {
        let actions = application.state.actions(standing);
        let belongs = match scope {
            Scope::All | Scope::FiledBy(_) | Scope::About(_) | Scope::ReviewedBy(_) => true,
            Scope::Waiting => actions.iter().any(|action| action.is_review()),
            Scope::Concerning(_) => standing.sees() || reviewed.contains(&application.id),
        };
        (belongs, application, actions)
    });
    Ok(judged.filter_map(|(belongs, form, actions)| belongs.then_some((form, actions))).collect())
}
