//! The forms that somebody sees in a list.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use gate::id::ClientId;
use gate::time::UnixMillis;
use sqlx::{AssertSqlSafe, Row};

use super::super::applicant::Applicant;
use super::super::model::Application;
use super::super::row::application;
use super::super::store::lists_of_each;
use super::Filter;
use crate::approvals::FormKind;
use crate::db::{Conditions, Conn, DbError, MAX_IN, placeholders};

/// Which forms may stand on a list.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Scope<'a> {
    /// Everybody's.
    All,
    /// Those that somebody filed or has reviewed, and all that wait for a signature.
    Concerning(&'a Applicant),
    /// Those that somebody filed.
    FiledBy(&'a Applicant),
    /// Those about a client.
    About(&'a ClientId),
    /// Those that wait for a signature.
    Waiting,
    /// Those that somebody has approved, returned or rejected.
    ReviewedBy(&'a Applicant),
}

/// A place in the order of age, by which lists page: ids alone do not sort by age.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    created_at: UnixMillis,
    id: String,
}

/// How many forms stand where they can still go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Saved, not submitted.
    pub draft: i64,
    /// Wait for a signature.
    pub pending_order: i64,
    /// Sent back.
    pub returned: i64,
    /// Approved, and done later.
    pub scheduled: i64,
}

impl Place {
    /// Where a form stands.
    pub fn of(application: &Application) -> Self {
        Self { created_at: application.created_at, id: application.id.clone() }
    }

    /// The place that `text` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (created_at, id) = text.split_once(' ')?;
        Some(Self { created_at: UnixMillis(created_at.parse().ok()?), id: id.to_owned() })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.created_at.0, self.id)
    }
}

/// Up to `limit` forms, the newest first, that come after `place`: four statements, however many
/// they are.
pub(super) async fn list(
    conn: &mut Conn,
    scope: Scope<'_>,
    filter: &Filter,
    place: Option<&Place>,
    limit: usize,
) -> Result<Vec<Application>, DbError> {
    let (sql, wanted) = list_statement(scope, filter, place);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = wanted.bind(sqlx::query(AssertSqlSafe(sql))).bind(limit).fetch_all(&mut *conn).await?;
    let ids = rows.iter().map(|row| row.try_get("id")).collect::<Result<Vec<String>, _>>()?;
    let mut lists = lists_of_each(conn, &ids).await?;
    rows.iter().zip(&ids).map(|(row, id)| application(row, lists.remove(id).unwrap_or_default())).collect()
}

pub(in super::super) fn list_statement(
    scope: Scope<'_>,
    filter: &Filter,
    place: Option<&Place>,
) -> (String, Conditions) {
    let mut wanted = Conditions::default();
    match scope {
        Scope::All => {}
        Scope::Concerning(who) => {
            wanted.texts(
                "(a.state = 'pending_order'
                  OR a.id IN (SELECT f.id FROM applications f WHERE f.applicant_kind = #1 AND f.applicant = #2)
                  OR a.id IN (SELECT h.application_id FROM application_history h
                               WHERE h.actor = #3 AND h.action IN ('approve', 'return', 'reject'))
                  OR a.id IN (SELECT b.application_id FROM application_history b
                               WHERE b.on_behalf_of = #3 AND b.action IN ('approve', 'return', 'reject')))",
                &[who.kind(), who.id(), &who.to_string()],
            );
        }
        Scope::FiledBy(who) => {
            wanted.text("a.applicant_kind = #", who.kind());
            wanted.text("a.applicant = #", who.id());
        }
        // Drafts of operators are theirs. Said so that no index offers itself but the client's.
        Scope::About(client) => wanted.text(
            "(a.client = # AND (COALESCE(a.number, '') <> '' OR a.applicant_kind || ':' || a.applicant = 'client:' || #))",
            client.as_str(),
        ),
        Scope::Waiting => wanted.plain("a.state = 'pending_order'"),
        Scope::ReviewedBy(who) => wanted.text(
            "(a.id IN (SELECT h.application_id FROM application_history h
                        WHERE h.actor = # AND h.action IN ('approve', 'return', 'reject'))
              OR a.id IN (SELECT b.application_id FROM application_history b
                           WHERE b.on_behalf_of = # AND b.action IN ('approve', 'return', 'reject')))",
            &who.to_string(),
        ),
    }
    if let Some(place) = place {
        wanted.after("(a.created_at, a.id) < (#)", place.created_at.0, &place.id);
    }
    if let Some(created) = filter.created {
        wanted.number("a.created_at >= #", created.from.0);
        wanted.number("a.created_at <= #", created.until.0);
    }
    if !filter.states.is_empty() {
        wanted.any_of("a.state IN (#)", &filter.states);
    }
    if !filter.kinds.is_empty() {
        let codes: Vec<&str> = filter.kinds.iter().map(|kind| FormKind::code(*kind)).collect();
        wanted.any_of("a.kind IN (#)", &codes);
    }
    if let Some(client) = &filter.client {
        wanted.text("a.client = #", client);
    }
    if let Some(applicants) = &filter.applicants {
        let named: Vec<String> =
            applicants.iter().map(|who| format!("{}:{}", who.kind(), who.id())).collect();
        wanted.any_of("a.applicant_kind || ':' || a.applicant IN (#)", &named);
    }
    for pattern in filter.words.patterns() {
        wanted.text(
            "(a.search LIKE # ESCAPE '\\'
              OR EXISTS (SELECT 1 FROM clients c WHERE c.id = a.client AND c.search LIKE # ESCAPE '\\'))",
            &pattern,
        );
    }
    let sql = format!(
        "-- applications.list
         SELECT a.* FROM applications a
          WHERE {}
          ORDER BY a.created_at DESC, a.id DESC
          LIMIT ${}",
        wanted.sql(),
        wanted.next()
    );
    (sql, wanted)
}

/// How many of somebody's forms can still go on.
pub(super) async fn opened_by(conn: &mut Conn, who: &Applicant) -> Result<Opened, DbError> {
    let rows = sqlx::query(
        "-- applications.opened_by
         SELECT state, COUNT(*) AS forms
           FROM applications
          WHERE applicant_kind = $1 AND applicant = $2
            AND (state IN ('draft', 'pending_order', 'returned') OR effect = 'scheduled')
          GROUP BY state",
    )
    .bind(who.kind())
    .bind(who.id())
    .fetch_all(conn)
    .await?;
    let mut opened = Opened::default();
    for row in rows {
        let (state, forms): (String, i64) = (row.try_get("state")?, row.try_get("forms")?);
        match state.as_str() {
            "draft" => opened.draft = forms,
            "pending_order" => opened.pending_order = forms,
            "returned" => opened.returned = forms,
            _ => opened.scheduled = forms,
        }
    }
    Ok(opened)
}

/// What people call operators, by id.
pub(super) async fn operator_names(
    conn: &mut Conn,
    ids: &BTreeSet<&str>,
) -> Result<BTreeMap<String, String>, DbError> {
    let sql = "-- applications.operator_names
         SELECT id, CASE WHEN display_name = '' THEN name ELSE display_name END AS name
           FROM operators
          WHERE id IN";
    named(conn, sql, ids).await
}

/// What people call clients, by id; those that are gone too.
pub(super) async fn client_names(
    conn: &mut Conn,
    ids: &BTreeSet<&str>,
) -> Result<BTreeMap<String, String>, DbError> {
    let gone = "-- applications.deleted_client_names
         SELECT id, display_name AS name
           FROM deleted_clients
          WHERE id IN";
    let present = "-- applications.client_names
         SELECT id, display_name AS name
           FROM clients
          WHERE id IN";
    let mut names = named(conn, gone, ids).await?;
    names.extend(named(conn, present, ids).await?);
    Ok(names)
}

/// What people call keys, by id.
pub(super) async fn key_names(
    conn: &mut Conn,
    ids: &BTreeSet<&str>,
) -> Result<BTreeMap<String, String>, DbError> {
    let sql = "-- applications.key_names
         SELECT id, alias AS name
           FROM keys
          WHERE id IN";
    named(conn, sql, ids).await
}

async fn named(
    conn: &mut Conn,
    sql: &'static str,
    ids: &BTreeSet<&str>,
) -> Result<BTreeMap<String, String>, DbError> {
    let ids: Vec<&str> = ids.iter().copied().collect();
    let mut names = BTreeMap::new();
    for part in ids.chunks(MAX_IN) {
        let sql = format!("{sql} ({})", placeholders(1, part.len()));
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for id in part {
            query = query.bind((*id).to_owned());
        }
        for row in query.fetch_all(&mut *conn).await? {
            names.insert(row.try_get("id")?, row.try_get("name")?);
        }
    }
    Ok(names)
}
