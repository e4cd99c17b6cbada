//! What is to be done, done: each step by its capability's own action, one after the other.

use std::collections::BTreeMap;

use gate::time::UnixMillis;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::kinds::{ApiSpec, ClientSpec, FlowSpec, GroupSpec, ScopeSpec, UserSpec};
use super::model::{Defined, Difference, Fault, Kind, Place, Spec, Wanted, fields_of};
use super::plan::{Kept, Plan, Present, Step, Steps};
use crate::app::App;
use crate::catalog::{self, Held};
use crate::db::{Conn, DbError, savepoint};

/// How often what was refused is tried again after something else was done: an API may take the
/// place that another one leaves, a client the name. More turns than this nobody's files need.
const MAX_TURNS: usize = 16;

/// What was done, or would be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// With what kind of thing.
    #[serde(serialize_with = "kind_name")]
    pub kind: Kind,
    /// Its name.
    pub id: String,
    /// What.
    pub action: Action,
    /// Its fields.
    pub fields: Vec<Difference>,
}

/// What becomes of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = DefinitionAction)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is new.
    Create,
    /// It becomes another.
    Update,
    /// It goes.
    Delete,
}

fn kind_name<S: serde::Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.as_str())
}

/// Why a capability refused a step.
#[derive(Debug)]
pub enum Refusal {
    /// Because of a field.
    Field(&'static str, String),
    /// Because of the whole.
    Whole(String),
    /// Not by itself: something it names was refused.
    Waits,
    /// The database failed, which ends everything.
    Db(DbError),
}

impl From<DbError> for Refusal {
    fn from(error: DbError) -> Self {
        Self::Db(error)
    }
}

impl Refusal {
    /// Somebody else has saved it since it was read.
    pub fn changed_meanwhile() -> Self {
        Self::Whole("was changed meanwhile: apply again".into())
    }
}

/// A kind as its capability has it.
pub trait Managed: Spec {
    /// Those wanted.
    fn wanted(wanted: &Wanted) -> &[Defined<Self>];

    /// Those there.
    fn present(present: &mut Present) -> &mut BTreeMap<String, Kept<Self>>;

    /// What is to be done with them.
    fn steps(plan: &Plan) -> &Steps<Self>;

    /// Reads all that there are.
    async fn read_all(conn: &mut Conn, names: &Names) -> Result<Vec<Kept<Self>>, DbError>;

    /// Makes a new one.
    async fn create(&self, conn: &mut Conn, work: &mut Work<'_>) -> Result<Kept<Self>, Refusal>;

    /// Changes the fields that `self` has.
    async fn update(
        &self,
        kept: &Kept<Self>,
        conn: &mut Conn,
        work: &mut Work<'_>,
    ) -> Result<Kept<Self>, Refusal>;

    /// Removes it.
    async fn delete(kept: &Kept<Self>, conn: &mut Conn, work: &mut Work<'_>) -> Result<(), Refusal>;
}

/// Names to what capabilities call things, and back.
#[derive(Clone, Debug, Default)]
pub struct Names {
    handles: BTreeMap<(Kind, String), String>,
    names: BTreeMap<(Kind, String), String>,
}

impl Names {
    /// Notes that `kind` `name` is called `handle`.
    pub fn insert(&mut self, kind: Kind, name: &str, handle: &str) {
        self.handles.insert((kind, name.to_owned()), handle.to_owned());
        self.names.insert((kind, handle.to_owned()), name.to_owned());
    }

    /// What the capability calls `name`; None while it is yet to be made.
    pub fn handle(&self, kind: Kind, name: &str) -> Option<&str> {
        self.handles.get(&(kind, name.to_owned())).map(String::as_str)
    }

    /// The name of what the capability calls `handle`.
    pub fn name(&self, kind: Kind, handle: &str) -> Option<&str> {
        self.names.get(&(kind, handle.to_owned())).map(String::as_str)
    }

    /// What the capability calls each of `names`, if there are any at all.
    pub fn handles<T>(
        &self,
        kind: Kind,
        names: Option<&Vec<String>>,
        wrap: impl Fn(String) -> T,
    ) -> Result<Option<Vec<T>>, Refusal> {
        let handle = |name: &String| {
            self.handle(kind, name).map(|handle| wrap(handle.to_owned())).ok_or(Refusal::Waits)
        };
        names.map(|names| names.iter().map(handle).collect()).transpose()
    }

    /// The names of `handles`, in order.
    pub fn names_of<'a>(&self, kind: Kind, handles: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let mut names: Vec<String> =
            handles.into_iter().filter_map(|handle| self.name(kind, handle)).map(str::to_owned).collect();
        names.sort_unstable();
        names
    }
}

/// A transaction's doings.
pub struct Work<'a> {
    /// The manager.
    pub app: &'a App,
    /// Who acts, as the audit trail names it.
    pub by: &'a str,
    /// The time of everything that is done.
    pub now: UnixMillis,
    /// What things are called.
    pub names: Names,
    held: Option<Held>,
}

impl<'a> Work<'a> {
    /// Begins, in the transaction of `conn`; takes the catalogue, before any other row.
    pub async fn begin(conn: &mut Conn, app: &'a App, by: &'a str, now: UnixMillis) -> Result<Self, DbError> {
        let held = Some(catalog::hold(conn).await?);
        Ok(Self { app, by, now, names: Names::default(), held })
    }

    /// For looking alone.
    pub fn reading(app: &'a App) -> Self {
        Self { app, by: "", now: app.now(), names: Names::default(), held: None }
    }

    /// The catalogue.
    pub fn held(&mut self) -> &mut Held {
        self.held.as_mut().expect("taken when the work began")
    }

    /// Reads what there is of the kinds that `wanted` defines and of those these refer to.
    pub async fn read(&mut self, conn: &mut Conn, kinds: &[Kind]) -> Result<Present, DbError> {
        let mut present = Present::default();
        let any = |of: &[Kind]| of.iter().any(|kind| kinds.contains(kind));
        if any(&[Kind::Api, Kind::Group, Kind::Scope, Kind::Client]) {
            self.read_kind::<ApiSpec>(conn, &mut present).await?;
        }
        if any(&[Kind::Group, Kind::Client]) {
            self.read_kind::<GroupSpec>(conn, &mut present).await?;
        }
        if any(&[Kind::Scope, Kind::Client]) {
            self.read_kind::<ScopeSpec>(conn, &mut present).await?;
        }
        if any(&[Kind::Client]) {
            self.read_kind::<ClientSpec>(conn, &mut present).await?;
        }
        if any(&[Kind::User]) {
            self.read_kind::<UserSpec>(conn, &mut present).await?;
        }
        if any(&[Kind::ApprovalFlow]) {
            self.read_kind::<FlowSpec>(conn, &mut present).await?;
        }
        Ok(present)
    }

    async fn read_kind<S: Managed>(&mut self, conn: &mut Conn, present: &mut Present) -> Result<(), DbError> {
        for kept in S::read_all(conn, &self.names).await? {
            let id = kept.spec.id();
            self.names.insert(S::KIND, &id, &kept.handle);
            S::present(present).insert(id, kept);
        }
        Ok(())
    }

    /// Does what `plan` says. What is refused is told as faults, all of it; then nothing may be
    /// committed.
    pub async fn perform(
        &mut self,
        conn: &mut Conn,
        wanted: &Wanted,
        present: &mut Present,
        plan: &Plan,
    ) -> Result<Performed, DbError> {
        let mut open = tasks(plan);
        let mut done = Performed::default();
        for _ in 0..MAX_TURNS {
            let before = open.len();
            done.faults.clear();
            let mut refused = Vec::new();
            for task in open {
                let verdict = match &task {
                    Task::Step(Kind::Api, index) => {
                        self.step::<ApiSpec>(conn, wanted, present, plan, *index, &mut done).await?
                    }
                    Task::Step(Kind::Group, index) => {
                        self.step::<GroupSpec>(conn, wanted, present, plan, *index, &mut done).await?
                    }
                    Task::Step(Kind::Scope, index) => {
                        self.step::<ScopeSpec>(conn, wanted, present, plan, *index, &mut done).await?
                    }
                    Task::Step(Kind::Client, index) => {
                        self.step::<ClientSpec>(conn, wanted, present, plan, *index, &mut done).await?
                    }
                    Task::Step(Kind::User, index) => {
                        self.step::<UserSpec>(conn, wanted, present, plan, *index, &mut done).await?
                    }
                    Task::Step(Kind::ApprovalFlow, index) => {
                        self.step::<FlowSpec>(conn, wanted, present, plan, *index, &mut done).await?
                    }
                    Task::Delete(Kind::Api, id) => {
                        self.deletion::<ApiSpec>(conn, present, id, &mut done).await?
                    }
                    Task::Delete(Kind::Group, id) => {
                        self.deletion::<GroupSpec>(conn, present, id, &mut done).await?
                    }
                    Task::Delete(Kind::Scope, id) => {
                        self.deletion::<ScopeSpec>(conn, present, id, &mut done).await?
                    }
                    Task::Delete(Kind::Client | Kind::User | Kind::ApprovalFlow, _) => Verdict::Done,
                };
                match verdict {
                    Verdict::Done => continue,
                    Verdict::Refused(fault) => done.faults.push(fault),
                    Verdict::Waits => {}
                }
                refused.push(task);
            }
            open = refused;
            if open.is_empty() || open.len() == before {
                break;
            }
        }
        Ok(done)
    }

    async fn step<S: Managed>(
        &mut self,
        conn: &mut Conn,
        wanted: &Wanted,
        present: &mut Present,
        plan: &Plan,
        at: usize,
        done: &mut Performed,
    ) -> Result<Verdict, DbError> {
        let (Some((index, step)), wanted) = (S::steps(plan).get(at), S::wanted(wanted)) else {
            return Ok(Verdict::Done);
        };
        let Some(defined) = wanted.get(*index) else { return Ok(Verdict::Done) };
        let id = defined.spec.id();
        let mut point = savepoint(conn).await?;
        let (result, before) = match step {
            Step::Create => (defined.spec.create(&mut point, self).await, None),
            Step::Update(changes) => {
                let Some(kept) = S::present(present).get(&id) else { return Ok(Verdict::Done) };
                (changes.update(kept, &mut point, self).await, Some(kept))
            }
        };
        let kept = match result {
            Ok(kept) => kept,
            Err(refusal) => {
                point.take_back().await?;
                self.forget(conn).await?;
                return match refusal {
                    Refusal::Db(error) => Err(error),
                    Refusal::Field(field, reason) => Ok(Verdict::Refused(defined.fault(field, reason))),
                    Refusal::Whole(reason) => {
                        Ok(Verdict::Refused(Fault { place: defined.place.clone(), reason }))
                    }
                    Refusal::Waits => Ok(Verdict::Waits),
                };
            }
        };
        let change = match before {
            None => {
                let told =
                    |(field, after): (&str, Value)| Difference { field: field.into(), before: None, after };
                let all = fields_of(&kept.spec).into_iter();
                let given = all.filter(|(field, _)| defined.lines.contains_key(*field));
                Change {
                    kind: S::KIND,
                    id: id.clone(),
                    action: Action::Create,
                    fields: given.map(told).collect(),
                }
            }
            Some(before) => {
                let fields = before.spec.differences(&kept.spec);
                if fields.is_empty() {
                    // It was another way to write the same: nothing is to show that it was tried.
                    point.take_back().await?;
                    self.forget(conn).await?;
                    done.unchanged += 1;
                    return Ok(Verdict::Done);
                }
                Change { kind: S::KIND, id: id.clone(), action: Action::Update, fields }
            }
        };
        point.keep().await?;
        self.names.insert(S::KIND, &id, &kept.handle);
        S::present(present).insert(id, kept);
        done.changes.push(change);
        Ok(Verdict::Done)
    }

    async fn deletion<S: Managed>(
        &mut self,
        conn: &mut Conn,
        present: &mut Present,
        id: &str,
        done: &mut Performed,
    ) -> Result<Verdict, DbError> {
        let Some(kept) = S::present(present).get(id) else { return Ok(Verdict::Done) };
        let mut point = savepoint(conn).await?;
        if let Err(refusal) = S::delete(kept, &mut point, self).await {
            point.take_back().await?;
            self.forget(conn).await?;
            return match refusal {
                Refusal::Db(error) => Err(error),
                Refusal::Field(_, reason) | Refusal::Whole(reason) => {
                    let source = format!("{} {id}", S::KIND.noun()).into();
                    let place = Place { source, line: 0, field: String::new() };
                    let reason = format!("cannot be deleted, as --prune asks: {reason}");
                    Ok(Verdict::Refused(Fault { place, reason }))
                }
                Refusal::Waits => Ok(Verdict::Waits),
            };
        }
        point.keep().await?;
        S::present(present).remove(id);
        done.changes.push(Change {
            kind: S::KIND,
            id: id.into(),
            action: Action::Delete,
            fields: Vec::new(),
        });
        Ok(Verdict::Done)
    }

    /// After something was taken back: what is held of the catalogue is read anew.
    async fn forget(&mut self, conn: &mut Conn) -> Result<(), DbError> {
        self.held = Some(catalog::hold(conn).await?);
        Ok(())
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Performed {
    /// What was done, in order.
    pub changes: Vec<Change>,
    /// Definitions that ask for what is there, in other words.
    pub unchanged: usize,
    /// What was refused.
    pub faults: Vec<Fault>,
}

/// What became of a task.
enum Verdict {
    /// There is nothing left to do.
    Done,
    /// It cannot be done, or not yet.
    Refused(Fault),
    /// It cannot be done before something else is.
    Waits,
}

/// One thing to do.
enum Task {
    /// The step of that place in the plan.
    Step(Kind, usize),
    /// A deletion.
    Delete(Kind, String),
}

/// In the order in which most of it is possible at once: APIs leave their places before others
/// take them, groups and scopes go when no client has them any more.
fn tasks(plan: &Plan) -> Vec<Task> {
    let deletions = |apis: bool| {
        let of = plan.deletions.iter().filter(move |(kind, _)| (*kind == Kind::Api) == apis);
        of.map(|(kind, id)| Task::Delete(*kind, id.clone()))
    };
    let steps = |kind, count| (0..count).map(move |at| Task::Step(kind, at));
    deletions(true)
        .chain(steps(Kind::Api, plan.apis.len()))
        .chain(steps(Kind::Group, plan.groups.len()))
        .chain(steps(Kind::Scope, plan.scopes.len()))
        .chain(steps(Kind::Client, plan.clients.len()))
        .chain(steps(Kind::User, plan.users.len()))
        .chain(steps(Kind::ApprovalFlow, plan.flows.len()))
        .chain(deletions(false))
        .collect()
}
