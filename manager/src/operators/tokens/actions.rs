//! What is done with API tokens, and what sessions share with them.

use std::collections::BTreeSet;

use gate::time::UnixMillis;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::model::{MAX_API_TOKENS, Token, TokenKind};
use super::store;
use crate::app::App;
use crate::audit;
use crate::bearer;
use crate::db::{Conn, DbError};
use crate::operators::actions::load;
use crate::operators::actor::By;
use crate::operators::error::OperatorError;
use crate::operators::model::{MAX_DISPLAY_NAME, Operator};
use crate::operators::permission::{Permission, names};
use crate::operators::roles::permissions_of;
use crate::schedule::{self, BATCH, Outcome, Task};

/// What has ended is forgotten a day later: until then a list shows that it did.
const KEPT_MS: i64 = 86_400_000;

/// What an API token is made from.
#[derive(Clone, Debug, Default)]
pub struct NewToken {
    /// What uses it.
    pub name: String,
    /// What it is limited to; None: it goes as far as the roles do at each call, but where another
    /// operator issues it, as far as they do now.
    pub scope: Option<Vec<String>>,
    /// Last instant; None: as far away as the settings allow.
    pub expires_at: Option<UnixMillis>,
}

/// A token just issued: its text is shown this once.
pub struct IssuedToken {
    /// `ot_…`
    pub id: String,
    /// What the caller presents as Bearer.
    pub text: Zeroizing<String>,
    /// Last instant; None: until revoked.
    pub expires_at: Option<UnixMillis>,
}

/// Makes an API token for an operator.
pub async fn issue_api_token(
    app: &App,
    by: By<'_>,
    operator: &str,
    new: NewToken,
) -> Result<IssuedToken, OperatorError> {
    let name = new.name.trim();
    if name.is_empty() || name.chars().count() > MAX_DISPLAY_NAME || name.chars().any(char::is_control) {
        let reason = format!("must be 1 to {MAX_DISPLAY_NAME} characters that say what uses the token");
        return Err(OperatorError::Invalid { field: "name", reason });
    }
    let scope = new.scope.as_deref().map(parse_scope).transpose()?;
    let now = app.now();
    let expires_at = end(app, by, new.expires_at, now)?;
    let mut tx = app.db.write("operators.issue_token").await?;
    let operator = load(&mut tx, operator).await?;
    let held = permissions_of(&mut tx, &operator.roles).await?;
    require_within(by, &operator, &held, scope.as_ref())?;
    let scope = lasting(by, &operator, &held, scope)?;
    let detail = json!({
        "name": name,
        "permissions": scope.as_ref().map(|scope| scope.iter().map(|one| one.as_str()).collect::<Vec<_>>()),
        "expires_at": expires_at,
    });
    let token = Token {
        id: app.random.id("ot"),
        operator: operator.id,
        kind: TokenKind::Api,
        name: name.into(),
        scope,
        created_at: now,
        expires_at,
        last_used_at: None,
        revoked_at: None,
    };
    let issued = issue(app, &mut tx, &token).await?;
    record(&mut tx, by, "operators.issue_token", &token.operator, &token.id, detail, now).await?;
    // Behind the audit entry, whose lock puts transactions in order.
    let tokens = store::of_operator(&mut tx, &token.operator, TokenKind::Api).await?;
    if tokens.iter().filter(|token| token.is_live(now)).count() > MAX_API_TOKENS {
        return Err(OperatorError::TooManyTokens);
    }
    tx.commit().await?;
    Ok(issued)
}

/// An operator's API tokens that were not revoked, oldest first.
pub(super) async fn list(app: &App, operator: &str) -> Result<Vec<Token>, OperatorError> {
    list_of(app, operator, TokenKind::Api).await
}

/// An operator's tokens of this kind that were not revoked, oldest first.
pub(in crate::operators) async fn list_of(
    app: &App,
    operator: &str,
    kind: TokenKind,
) -> Result<Vec<Token>, OperatorError> {
    // Before what is stored is read: a use is in the one or in the other.
    let uses = app.token_uses.under_way();
    let mut conn = app.db.snapshot().await?;
    load(&mut conn, operator).await?;
    let mut tokens = store::of_operator(&mut conn, operator, kind).await?;
    for token in &mut tokens {
        token.last_used_at = token.last_used_at.max(uses.get(&token.id).copied());
    }
    Ok(tokens)
}

pub(super) async fn revoke(app: &App, by: By<'_>, operator: &str, id: &str) -> Result<(), OperatorError> {
    let now = app.now();
    let mut tx = app.db.write("operators.revoke_token").await?;
    let account = load(&mut tx, operator).await?;
    if !by.is(operator) {
        let held = permissions_of(&mut tx, &account.roles).await?;
        by.covers(&held, || format!("operator {}", account.name))?;
    }
    if !store::revoke(&mut tx, operator, TokenKind::Api, id, now).await? {
        return Err(OperatorError::NotFound { what: format!("API token {id} of operator {}", account.name) });
    }
    record(&mut tx, by, "operators.revoke_token", operator, id, json!({}), now).await?;
    tx.commit().await?;
    Ok(())
}

/// Forgets what has ended.
pub(in crate::operators) async fn forget_ended(
    conn: &mut Conn,
    task: &Task,
    now: UnixMillis,
) -> anyhow::Result<Outcome> {
    let deleted = store::delete_ended(conn, UnixMillis(now.0 - KEPT_MS), BATCH).await?;
    Ok(schedule::forgotten(task, deleted, BATCH, "sessions and API tokens"))
}

/// Draws the text of a token and stores it by its hash.
pub(in crate::operators) async fn issue(
    app: &App,
    conn: &mut Conn,
    token: &Token,
) -> Result<IssuedToken, DbError> {
    let text = bearer::draw(&app.random, token.kind.prefix());
    store::insert(conn, token, &bearer::sha256_hex(&text)).await?;
    Ok(IssuedToken { id: token.id.clone(), text, expires_at: token.expires_at })
}

/// When a new token ends: as asked, within what the settings and the token of the one who asks allow.
fn end(
    app: &App,
    by: By<'_>,
    asked: Option<UnixMillis>,
    now: UnixMillis,
) -> Result<Option<UnixMillis>, OperatorError> {
    let invalid = |reason: String| OperatorError::Invalid { field: "expires_at", reason };
    if asked.is_some_and(|at| at <= now) {
        return Err(invalid("has passed: name an instant to come, UTC milliseconds".into()));
    }
    let longest_ms = i64::try_from(app.config.api_token_ttl_s.saturating_mul(1_000)).unwrap_or(i64::MAX);
    let longest = (longest_ms > 0).then_some(UnixMillis(now.0.saturating_add(longest_ms)));
    if let (Some(asked), Some(longest)) = (asked, longest)
        && asked > longest
    {
        return Err(invalid(format!(
            "is too far away: api_token_ttl_s allows {} s, that is until {}",
            app.config.api_token_ttl_s, longest.0
        )));
    }
    let end = asked.or(longest);
    // What a token makes does not outlast it, or running out would mean nothing.
    let own = match by {
        By::Operator(actor) if actor.token.kind == TokenKind::Api => actor.token.expires_at,
        By::Operator(_) | By::Machine(_) => None,
    };
    match (end, own) {
        (Some(end), Some(own)) if asked.is_some() && end > own => Err(invalid(format!(
            "is after {}, the end of the token that you present: what it makes does not outlast it",
            own.0
        ))),
        (Some(end), Some(own)) => Ok(Some(end.min(own))),
        (end, own) => Ok(end.or(own)),
    }
}

/// Err: the token would do more than its operator may, or than the one who asks may.
fn require_within(
    by: By<'_>,
    operator: &Operator,
    held: &BTreeSet<Permission>,
    scope: Option<&BTreeSet<Permission>>,
) -> Result<(), OperatorError> {
    if let Some(beyond) = scope.map(|scope| scope.difference(held).collect::<Vec<_>>())
        && !beyond.is_empty()
    {
        let reason = format!("has {}, which {} does not hold", names(beyond), operator.name);
        return Err(OperatorError::Invalid { field: "permissions", reason });
    }
    let By::Operator(actor) = by else { return Ok(()) };
    if !by.is(&operator.id) {
        // It acts as that operator, whatever it is limited to.
        return by.covers(held, || format!("operator {}", operator.name));
    }
    match (scope, &actor.token.scope) {
        (None, Some(_)) => {
            let reason = "must be named: the token that you present is limited itself".into();
            Err(OperatorError::Invalid { field: "permissions", reason })
        }
        (Some(scope), _) => by.covers(scope, || "this token".into()),
        (None, None) => Ok(()),
    }
}

/// What the token is limited to for good. One that another operator issued does not grow with
/// roles that its owner is given later: the one who issued it, who may know it, did not hold them.
fn lasting(
    by: By<'_>,
    operator: &Operator,
    held: &BTreeSet<Permission>,
    asked: Option<BTreeSet<Permission>>,
) -> Result<Option<BTreeSet<Permission>>, OperatorError> {
    let By::Operator(actor) = by else { return Ok(asked) };
    if by.is(&operator.id) {
        return Ok(asked);
    }
    let mut scope = asked.unwrap_or_else(|| held.clone());
    scope.retain(|permission| held.contains(permission) && actor.may(*permission));
    if scope.is_empty() {
        let reason = format!("would be none: {} holds none that you hold too", operator.name);
        return Err(OperatorError::Invalid { field: "permissions", reason });
    }
    Ok(Some(scope))
}

fn parse_scope(permissions: &[String]) -> Result<BTreeSet<Permission>, OperatorError> {
    let invalid = |reason: String| OperatorError::Invalid { field: "permissions", reason };
    if permissions.is_empty() {
        return Err(invalid("must name at least one, or be absent for all that the roles permit".into()));
    }
    permissions
        .iter()
        .map(|name| {
            Permission::parse(name)
                .ok_or_else(|| invalid(format!("has {name:?}, which is none of: {}", names(Permission::ALL))))
        })
        .collect()
}

async fn record(
    conn: &mut Conn,
    by: By<'_>,
    action: &'static str,
    operator: &str,
    token: &str,
    mut detail: Value,
    now: UnixMillis,
) -> Result<(), DbError> {
    detail["token_id"] = token.into();
    let entry =
        audit::Entry { actor: by.audit_name(), action, subject: format!("operator:{operator}"), detail };
    audit::record(conn, entry, now).await
}
