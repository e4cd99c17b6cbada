//! Signing in and out, and changing one's own password.

use gate::time::UnixMillis;
use serde_json::{Value, json};
use tokio::sync::MutexGuard;

use crate::app::App;
use crate::attempts::{self, Turns};
use crate::audit;
use crate::bearer;
use crate::db::{Conn, DbError};
use crate::operators::actions::load;
use crate::operators::actor::{Actor, By, Presented};
use crate::operators::error::OperatorError;
use crate::operators::model::{Operator, OperatorName, OperatorStatus};
use crate::operators::roles::permissions_of;
use crate::operators::store::{self as accounts, Attempt};
use crate::operators::tokens::{self, IssuedToken, Token, TokenKind, store};
use crate::password::{self, Lane, Password};

/// Live sessions of one operator at most: a further sign-in ends the oldest.
const MAX_SESSIONS: i64 = 20;

/// Attempts at operators' passwords.
static TURNS: Turns = Turns::new();

/// Checks name and password and opens a session.
pub(super) async fn sign_in(
    app: &App,
    name: &str,
    unverified_password: &str,
) -> Result<(Operator, IssuedToken), OperatorError> {
    let wrong = || OperatorError::WrongPassword { limit: i64::from(app.config.lockout_attempts) };
    let (id, hash, _in_turn) = match verify(app, name, unverified_password).await? {
        Verified::Right { id, hash, in_turn } => (id, hash, in_turn),
        Verified::Wrong | Verified::Locked => return Err(wrong()),
    };
    let now = app.now();
    let lifetime_ms = i64::try_from(app.config.session_ttl_s.saturating_mul(1_000)).unwrap_or(i64::MAX);
    let mut tx = app.db.write("operators.sign_in").await?;
    // The password may have been changed meanwhile.
    if !accounts::forget_failures(&mut tx, &id, &hash).await? {
        return Err(wrong());
    }
    let operator = load(&mut tx, &id).await?;
    // Only who knows the password is told.
    if operator.status == OperatorStatus::Disabled {
        tx.commit().await?;
        return Err(OperatorError::Disabled);
    }
    let token = Token {
        id: app.random.id("ot"),
        operator: id,
        kind: TokenKind::Session,
        name: String::new(),
        scope: None,
        created_at: now,
        expires_at: Some(UnixMillis(now.0.saturating_add(lifetime_ms))),
        last_used_at: None,
        revoked_at: None,
    };
    store::revoke_oldest_sessions(&mut tx, &operator.id, MAX_SESSIONS - 1, now).await?;
    let issued = tokens::issue(app, &mut tx, &token).await?;
    let by = format!("operator:{}", operator.id);
    record(&mut tx, by, "operators.sign_in", &operator.id, json!({ "token_id": token.id }), now).await?;
    tx.commit().await?;
    Ok((operator, issued))
}

/// Ends the session (or revokes the API token) that the actor presented.
pub(super) async fn sign_out(app: &App, actor: &Actor) -> Result<(), OperatorError> {
    let now = app.now();
    let mut tx = app.db.write("operators.sign_out").await?;
    store::revoke(&mut tx, &actor.operator, actor.token.kind, &actor.token.id, now).await?;
    let detail = json!({ "token_id": actor.token.id });
    record(&mut tx, actor.audit_name(), "operators.sign_out", &actor.operator, detail, now).await?;
    tx.commit().await?;
    Ok(())
}

/// Sets one's own password, and ends one's other sessions.
pub(super) async fn change_password(
    app: &App,
    actor: &Actor,
    unverified_old: &str,
    new: &Password,
) -> Result<Operator, OperatorError> {
    let invalid = |field, reason: &str| OperatorError::Invalid { field, reason: reason.into() };
    let wrong = || invalid("old_password", "is not your present password");
    let (old_hash, _in_turn) = match verify(app, &actor.name, unverified_old).await? {
        Verified::Right { id: _, hash, in_turn } => (hash, in_turn),
        Verified::Wrong => return Err(wrong()),
        Verified::Locked => {
            return Err(OperatorError::Locked { limit: i64::from(app.config.lockout_attempts) });
        }
    };
    let same = new.reveal() == unverified_old;
    let hash = new.hash(&app.random).await;
    let now = app.now();
    let mut tx = app.db.write("operators.change_password").await?;
    if !accounts::forget_failures(&mut tx, &actor.operator, &old_hash).await? {
        return Err(wrong());
    }
    if same {
        tx.commit().await?;
        return Err(invalid("new_password", "must be another one than the present password"));
    }
    let before = load(&mut tx, &actor.operator).await?;
    let after = Operator {
        must_change_password: false,
        updated_at: now,
        version: before.version + 1,
        ..before.clone()
    };
    if !accounts::update(&mut tx, &after, before.version).await? {
        return Err(OperatorError::Version { expected: before.version, present: before.version + 1 });
    }
    accounts::set_password(&mut tx, &after.id, &hash).await?;
    store::revoke_sessions(&mut tx, &after.id, &actor.token.id, now).await?;
    let detail = json!({ "changed": audit::changed(&before.view(), &after.view()) });
    record(&mut tx, actor.audit_name(), "operators.change_password", &after.id, detail, now).await?;
    tx.commit().await?;
    Ok(after)
}

/// An operator's sessions that were not ended, oldest first.
pub(super) async fn list(app: &App, operator: &str) -> Result<Vec<Token>, OperatorError> {
    let mut sessions = tokens::list_of(app, operator, TokenKind::Session).await?;
    sessions.retain(|session| session.is_live(app.now()));
    Ok(sessions)
}

/// Ends one session, or with None all but the one that the actor presents.
pub(super) async fn end(
    app: &App,
    actor: &Actor,
    operator: &str,
    id: Option<&str>,
) -> Result<(), OperatorError> {
    let by = By::Operator(actor);
    let now = app.now();
    let mut tx = app.db.write("operators.end_session").await?;
    let account = load(&mut tx, operator).await?;
    if !by.is(operator) {
        let held = permissions_of(&mut tx, &account.roles).await?;
        by.covers(&held, || format!("operator {}", account.name))?;
    }
    let detail = match id {
        Some(id) => {
            if !store::revoke(&mut tx, operator, TokenKind::Session, id, now).await? {
                let what = format!("session {id} of operator {}", account.name);
                return Err(OperatorError::NotFound { what });
            }
            json!({ "token_id": id })
        }
        None => {
            let ended = store::revoke_sessions(&mut tx, operator, &actor.token.id, now).await?;
            json!({ "sessions": ended })
        }
    };
    record(&mut tx, by.audit_name(), "operators.end_session", operator, detail, now).await?;
    tx.commit().await?;
    Ok(())
}

/// Who presents this token; None: nobody that may act now.
pub(super) async fn authenticate(app: &App, unverified_token: &str) -> Result<Option<Actor>, OperatorError> {
    let now = app.now();
    let mut conn = app.db.snapshot().await?;
    let Some(token) = store::by_hash(&mut conn, &bearer::sha256_hex(unverified_token)).await? else {
        return Ok(None);
    };
    if !token.is_live(now) {
        return Ok(None);
    }
    let Some(operator) = accounts::by_id(&mut conn, &token.operator).await? else { return Ok(None) };
    if operator.status != OperatorStatus::Active {
        return Ok(None);
    }
    let mut permissions = permissions_of(&mut conn, &operator.roles).await?;
    drop(conn);
    if let Some(scope) = &token.scope {
        permissions.retain(|permission| scope.contains(permission));
    }
    tokens::remember_use(app, &token, now);
    Ok(Some(Actor {
        must_change_password: operator.must_change_password && token.kind == TokenKind::Session,
        operator: operator.id,
        name: operator.name.to_string(),
        display_name: operator.display_name,
        email: operator.email.map(|email| email.as_str().to_string()),
        roles: operator.roles.iter().map(ToString::to_string).collect(),
        permissions,
        token: Presented { id: token.id, kind: token.kind, scope: token.scope, expires_at: token.expires_at },
    }))
}

/// What a password turned out to be.
enum Verified {
    /// To be held until the attempt was taken back.
    Right {
        id: String,
        hash: String,
        in_turn: MutexGuard<'static, ()>,
    },
    Wrong,
    Locked,
}

/// Checks a password. The attempt is counted first and taken back by
/// [`accounts::forget_failures`] where it was right, so that guesses in parallel, by whichever
/// replica they come, are never more than the lock allows. What is done where it is wrong is the same for a
/// name that nobody has, and for an account that takes none.
async fn verify(
    app: &App,
    unverified_name: &str,
    unverified_password: &str,
) -> Result<Verified, OperatorError> {
    let limit = i64::from(app.config.lockout_attempts);
    let name = OperatorName::parse(unverified_name).ok();
    let in_turn = TURNS.of(unverified_name).await;
    let mut tx = app.db.write_aside("operators.password_attempt").await?;
    let attempt = accounts::count_attempt(&mut tx, name.as_ref(), limit).await?;
    attempts::note(&mut tx, unverified_name).await?;
    tx.commit().await?;
    let hash = attempt.as_ref().and_then(|attempt| attempt.hash.as_deref());
    let right = password::verify(&app.metrics, Lane::People, unverified_password, hash).await;
    // Nobody has the name, or it takes none.
    let Some(Attempt { id, number, hash }) = attempt else { return Ok(Verified::Locked) };
    if let (true, Some(hash)) = (right, hash) {
        return Ok(Verified::Right { id, hash, in_turn });
    }
    if number == limit {
        let mut tx = app.db.write_aside("operators.lock").await?;
        let detail = json!({ "failed_attempts": number });
        record(&mut tx, "system".into(), "operators.lock", &id, detail, app.now()).await?;
        tx.commit().await?;
    }
    Ok(Verified::Wrong)
}

async fn record(
    conn: &mut Conn,
    by: String,
    action: &'static str,
    operator: &str,
    detail: Value,
    now: UnixMillis,
) -> Result<(), DbError> {
    let entry = audit::Entry { actor: by, action, subject: format!("operator:{operator}"), detail };
    audit::record(conn, entry, now).await
}
