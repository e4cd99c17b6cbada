//! The forms that somebody sees in a list.

use std::fmt;

use gate::time::UnixMillis;
use sqlx::Row;

use super::super::applicant::Applicant;
use super::super::model::Application;
use super::super::row::application;
use super::super::store::apis_of;
use crate::approvals::FormKind;
use crate::db::{Conn, DbError};

/// Which forms a list shows. Empty or none: no such condition.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// What somebody may see and wants to see.
    pub scope: Scope,
    /// State's name.
    pub state: Option<String>,
    /// Kind's code.
    pub kind: Option<FormKind>,
    /// Whose key.
    pub client: Option<String>,
    /// Stands, in whatever case, in number, client, name or description.
    pub keyword: Option<String>,
}

/// Whose forms a list shows. The texts of `signable` are `,KA:1,KA:2,`: the kinds and levels that
/// somebody signs now.
#[derive(Clone, Debug, Default)]
pub enum Scope {
    /// Everybody's.
    #[default]
    All,
    /// Those that somebody filed, may sign now or has reviewed.
    Visible {
        /// Who.
        who: Applicant,
        /// What they sign.
        signable: String,
    },
    /// Those that somebody filed.
    Mine {
        /// Who.
        who: Applicant,
    },
    /// Those that wait for somebody's signature.
    WaitingFor {
        /// Who.
        who: Applicant,
        /// What they sign.
        signable: String,
        /// Own forms count too.
        own: bool,
    },
    /// Those that somebody has approved, returned or rejected.
    ReviewedBy {
        /// Who.
        who: Applicant,
    },
}

/// A place in the order of age, by which lists page: ids alone do not sort by age.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    created_at: UnixMillis,
    id: String,
}

impl Place {
    /// Before the newest form there can be.
    pub fn newest() -> Self {
        Self { created_at: UnixMillis(i64::MAX), id: String::new() }
    }

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

/// Up to `limit` forms, the newest first, that come after `place`.
pub async fn list(
    conn: &mut Conn,
    filter: &Filter,
    place: &Place,
    limit: i64,
) -> Result<Vec<Application>, DbError> {
    let (which, who, signable) = match &filter.scope {
        Scope::All => ("all", None, ""),
        Scope::Visible { who, signable } => ("visible", Some(who), signable.as_str()),
        Scope::Mine { who } => ("mine", Some(who), ""),
        Scope::WaitingFor { who, signable, own: true } => ("waiting", Some(who), signable.as_str()),
        Scope::WaitingFor { who, signable, own: false } => ("waiting_others", Some(who), signable.as_str()),
        Scope::ReviewedBy { who } => ("reviewed", Some(who), ""),
    };
    let rows = sqlx::query(
        "-- applications.list
         SELECT * FROM applications a
          WHERE ($1 = 'all'
                 OR ($1 IN ('mine', 'visible') AND a.applicant_kind = $11 AND a.applicant = $12)
                 OR ($1 IN ('waiting', 'waiting_others', 'visible')
                     AND a.state = 'pending_order'
                     AND ($1 <> 'waiting_others' OR a.applicant_kind <> $11 OR a.applicant <> $12)
                     AND $3 LIKE '%,' || a.kind || ':' || CAST(a.level AS TEXT) || ',%')
                 OR ($1 IN ('reviewed', 'visible')
                     AND EXISTS (SELECT 1 FROM application_history h
                                  WHERE h.application_id = a.id
                                    AND (h.actor = $2 OR h.on_behalf_of = $2)
                                    AND h.action IN ('approve', 'return', 'reject'))))
            AND ($4 = '' OR a.state = $4)
            AND ($5 = '' OR a.kind = $5)
            AND ($6 = '' OR a.client = $6)
            AND ($7 = '' OR a.search LIKE $7 ESCAPE '!')
            AND (a.created_at < $8 OR (a.created_at = $8 AND a.id < $9))
          ORDER BY a.created_at DESC, a.id DESC
          LIMIT $10",
    )
    .bind(which)
    .bind(who.map(Applicant::to_string).unwrap_or_default())
    .bind(signable)
    .bind(filter.state.clone().unwrap_or_default())
    .bind(filter.kind.map(FormKind::code).unwrap_or_default())
    .bind(filter.client.clone().unwrap_or_default())
    .bind(filter.keyword.as_deref().map(containing).unwrap_or_default())
    .bind(place.created_at.0)
    .bind(&place.id)
    .bind(limit)
    .bind(who.map(Applicant::kind).unwrap_or_default())
    .bind(who.map(Applicant::id).unwrap_or_default())
    .fetch_all(&mut *conn)
    .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let id: String = row.try_get("id")?;
        let apis = apis_of(conn, &id).await?;
        found.push(application(&row, apis)?);
    }
    Ok(found)
}

/// A LIKE pattern for what contains `keyword` in whatever case; `!` escapes.
fn containing(keyword: &str) -> String {
    let mut pattern = String::from("%");
    for letter in keyword.to_lowercase().chars() {
        if matches!(letter, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}
