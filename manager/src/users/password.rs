//! Whether a password is a user's. Unknown names, wrong passwords and locked accounts look alike,
//! also by the time they take.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use zeroize::Zeroizing;

use super::model::{User, UserName, UserStatus};
use super::store;
use crate::app::App;
use crate::attempts::{self, Turns};
use crate::audit;
use crate::db::DbError;
use crate::password::{self, Lane, Password};
use crate::right_passwords::{Mark, Whose};

/// How a password may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// As it is.
    Plain,
    /// As it is, or in Base64, as clients of digiRunner send it.
    PlainOrBase64,
}

/// What a password turned out to be.
#[derive(Debug)]
pub enum PasswordCheck {
    /// It is the user's, who may go on.
    Right(Box<User>),
    /// It is not, or there is no such user, or too many were wrong before: the caller is told the
    /// same.
    Wrong,
    /// It is the user's, whose account is switched off.
    Disabled(Box<User>),
    /// It is the user's, whose account an operator has locked.
    Locked(Box<User>),
}

/// Attempts at users' passwords.
static TURNS: Turns = Turns::new();

/// Checks a password. The attempt is counted first and taken back where it was right, so that
/// guesses in parallel, by whichever replica they come, are never more than the lock allows. What is done
/// where it is wrong is the same for a name that nobody has, and for an account that takes none.
///
/// The caller counts by address and holds a place in the queue: see [`crate::wrong_passwords`] and
/// [`password::Queue`].
pub async fn check_password(
    app: &App,
    unverified_name: &str,
    unverified: &str,
    spelling: Spelling,
) -> Result<PasswordCheck, DbError> {
    let written = candidates(unverified, spelling);
    let name = UserName::parse(unverified_name).ok();
    let limit = i64::from(app.config.lockout_attempts);
    let _in_turn = TURNS.of(unverified_name).await;
    // Somebody may have presented the same before this turn.
    if spelling == Spelling::PlainOrBase64
        && let Some(user) = remembered(app, unverified_name, unverified).await?
    {
        return Ok(PasswordCheck::Right(Box::new(user)));
    }
    let mut tx = app.db.write_aside("users.password_attempt").await?;
    let attempt = store::count_attempt(&mut tx, name.as_ref(), limit).await?;
    attempts::note(&mut tx, unverified_name).await?;
    tx.commit().await?;
    let right = right_one(app, &written, attempt.as_ref().map(|attempt| attempt.hash.as_str())).await;
    let Some(attempt) = attempt else { return Ok(PasswordCheck::Wrong) };
    let Some(right) = right else {
        if attempt.number == limit {
            let mut tx = app.db.write_aside("users.lock_password").await?;
            let entry = audit::Entry {
                actor: "system".into(),
                action: "users.lock_password",
                subject: format!("user:{}", attempt.id),
                detail: json!({ "failed_attempts": attempt.number }),
            };
            audit::record(&mut tx, entry, app.now()).await?;
            tx.commit().await?;
        }
        return Ok(PasswordCheck::Wrong);
    };
    // One that is shorter or longer than ours may be is kept as it was brought along.
    let made_anew = match Password::parse(right) {
        Ok(right) if password::is_imported(&attempt.hash) => Some(right.hash(&app.random).await),
        Ok(_) | Err(_) => None,
    };
    let mut tx = app.db.write_aside("users.password_right").await?;
    // It may have been changed meanwhile.
    let still = store::forget_failures(&mut tx, &attempt.id, &attempt.hash).await?;
    if let (true, Some(hash)) = (still, &made_anew) {
        store::replace_hash(&mut tx, &attempt.id, &attempt.hash, hash).await?;
    }
    let user = store::by_id(&mut tx, &attempt.id).await?;
    tx.commit().await?;
    let Some(user) = user.filter(|_| still).map(Box::new) else { return Ok(PasswordCheck::Wrong) };
    Ok(match user.status {
        UserStatus::Active => {
            if spelling == Spelling::PlainOrBase64 {
                let mark = mark(app, &user.name, unverified);
                app.right_passwords.keep(mark, made_anew.as_ref().unwrap_or(&attempt.hash), app.now());
            }
            PasswordCheck::Right(user)
        }
        UserStatus::Disabled => PasswordCheck::Disabled(user),
        UserStatus::Locked => PasswordCheck::Locked(user),
    })
}

/// The user, if a client has presented this password a moment ago, and it is right still: it costs no hash.
/// People who type theirs are not remembered.
pub async fn remembered(app: &App, unverified_name: &str, unverified: &str) -> Result<Option<User>, DbError> {
    let Ok(name) = UserName::parse(unverified_name) else { return Ok(None) };
    let mark = mark(app, &name, unverified);
    if !app.right_passwords.has(&mark) {
        return Ok(None);
    }
    let stored = store::by_name(&mut *app.db.read().await?, &name).await?;
    let Some((user, Some(hash))) = stored else { return Ok(None) };
    let locked = user.password_locked(app.config.lockout_attempts);
    if locked || user.status != UserStatus::Active || !app.right_passwords.knows(&mark, &hash, app.now()) {
        return Ok(None);
    }
    if user.failed_attempts > 0 {
        let mut tx = app.db.write_aside("users.password_right").await?;
        store::forget_failures(&mut tx, &user.id, &hash).await?;
        tx.commit().await?;
    }
    Ok(Some(user))
}

fn mark(app: &App, name: &UserName, unverified: &str) -> Mark {
    app.right_passwords.mark(&app.random, Whose::User, name.as_str(), unverified)
}

/// What may be meant by the text. Each costs a hash, whoever it is for.
fn candidates(unverified: &str, spelling: Spelling) -> Vec<Zeroizing<String>> {
    let decoded = match spelling {
        Spelling::Plain => None,
        Spelling::PlainOrBase64 => STANDARD.decode(unverified).ok().map(Zeroizing::new),
    };
    let decoded = decoded
        .and_then(|bytes| std::str::from_utf8(&bytes).ok().map(|text| Zeroizing::new(text.to_owned())))
        .filter(|text| Password::parse(text).is_ok());
    let plain = Zeroizing::new(unverified.to_owned());
    decoded.into_iter().chain([plain]).collect()
}

/// The one that is the password of the hash. Without a hash none is, and it takes as long.
async fn right_one<'a>(
    app: &App,
    candidates: &'a [Zeroizing<String>],
    hash: Option<&str>,
) -> Option<&'a str> {
    for candidate in candidates {
        if password::verify(&app.metrics, Lane::People, candidate, hash).await {
            return Some(candidate);
        }
    }
    None
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn base64_is_read_where_it_may_be_meant() {
        let read = |text: &str, spelling| -> Vec<String> {
            candidates(text, spelling).iter().map(|text| text.to_string()).collect()
        };
        assert_eq!(read("c2VjcmV0LTE=", Spelling::Plain), ["c2VjcmV0LTE="]);
        assert_eq!(read("c2VjcmV0LTE=", Spelling::PlainOrBase64), ["secret-1", "c2VjcmV0LTE="]);
        // Too short to be anybody's, no Base64, no text.
        for text in ["c2VjcmU=", "secret-1", "/////////////w=="] {
            assert_eq!(read(text, Spelling::PlainOrBase64), [text]);
        }
    }
}
