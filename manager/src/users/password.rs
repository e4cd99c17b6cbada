//! Whether a password is a user's. Unknown names, wrong passwords and locked accounts look alike,
//! also by the time they take.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::model::{User, UserName, UserStatus};
use super::store;
use crate::app::App;
use crate::audit;
use crate::db::DbError;
use crate::password::{self, Lane, Password};

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

/// Passwords of one account are checked one after the other in this process, so that people who
/// sign in several times at once do not use up each other's attempts. Accounts share few locks.
static ONE_AT_A_TIME: [Mutex<()>; 64] = [const { Mutex::const_new(()) }; 64];

/// Checks a password. The attempt is counted first and taken back where it was right, so that
/// guesses in parallel, by whichever replica they come, are never more than the lock allows.
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
    let known = match UserName::parse(unverified_name) {
        Ok(name) => store::by_name(&mut *app.db.read().await?, &name).await?,
        Err(_) => None,
    };
    let Some((user, Some(_))) = known else {
        any_right(&written, None).await;
        return Ok(PasswordCheck::Wrong);
    };
    let limit = i64::from(app.config.lockout_attempts);
    let lock = usize::from(Sha256::digest(&user.id)[0]) % ONE_AT_A_TIME.len();
    let in_turn = ONE_AT_A_TIME[lock].lock().await;
    let mut tx = app.db.write_aside("users.password_attempt").await?;
    let attempt = store::count_attempt(&mut tx, &user.id, limit).await?;
    let present = store::by_name(&mut tx, &user.name).await?;
    tx.commit().await?;
    let (Some(attempt), Some((_, Some(hash)))) = (attempt, present) else {
        // As long as a check takes.
        drop(in_turn);
        any_right(&written, None).await;
        return Ok(PasswordCheck::Wrong);
    };
    if !any_right(&written, Some(&hash)).await {
        if attempt == limit {
            let mut tx = app.db.write_aside("users.lock_password").await?;
            let entry = audit::Entry {
                actor: "system".into(),
                action: "users.lock_password",
                subject: format!("user:{}", user.id),
                detail: json!({ "failed_attempts": attempt }),
            };
            audit::record(&mut tx, entry, app.now()).await?;
            tx.commit().await?;
        }
        return Ok(PasswordCheck::Wrong);
    }
    let mut tx = app.db.write_aside("users.password_right").await?;
    // It may have been changed meanwhile.
    let still = store::forget_failures(&mut tx, &user.id, &hash).await?;
    let user = store::by_id(&mut tx, &user.id).await?;
    tx.commit().await?;
    Ok(match user.map(Box::new) {
        Some(user) if still => match user.status {
            UserStatus::Active => PasswordCheck::Right(user),
            UserStatus::Disabled => PasswordCheck::Disabled(user),
            UserStatus::Locked => PasswordCheck::Locked(user),
        },
        Some(_) | None => PasswordCheck::Wrong,
    })
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

async fn any_right(candidates: &[Zeroizing<String>], hash: Option<&str>) -> bool {
    for candidate in candidates {
        if password::verify(Lane::People, candidate, hash).await {
            return true;
        }
    }
    false
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
