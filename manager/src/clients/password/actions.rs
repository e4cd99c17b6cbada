//! Set, reset, check, replace: one named transaction each.

use gate::id::ClientId;
use gate::time::UnixMillis;
use gate::wire::changes::Subject;
use gate::wire::exchange::ClientStatus;
use serde_json::json;
use zeroize::Zeroizing;

use super::model::{PasswordHash, PasswordMark, Purpose, Verified};
use crate::app::App;
use crate::attempts;
use crate::caller_address::CallerAddress;
use crate::clients::actions::{ClientError, load, record, require_version};
use crate::clients::model::{Client, ClientName, Fault, PasswordState};
use crate::clients::{mails, store};
use crate::db::{Conn, DbError};
use crate::mail::Recipient;
use crate::operators::Email;
use crate::password::{self, Busy, ImportedHash, Lane, Password};
use crate::right_passwords::{Mark, Whose};
use crate::wrong_passwords::TooManyWrong;
use crate::{audit, changes};

/// How long a mailed password serves to set a new one.
pub const RESET_TTL_MS: i64 = 24 * 3_600_000;

/// A password with its hash, which takes so long that it is made before a transaction begins.
#[derive(Clone, Debug)]
pub struct NewPassword {
    clear: Password,
    hash: PasswordHash,
    to_alone: Option<Email>,
    /// Nobody has entered it, nor sees it but whom it is mailed to.
    drawn: bool,
}

impl NewPassword {
    /// Hashes one that somebody entered.
    pub async fn new(app: &App, clear: Password) -> Self {
        let hash = PasswordHash::from(clear.hash(&app.random).await);
        Self { clear, hash, to_alone: None, drawn: false }
    }

    /// Draws one.
    pub async fn drawn(app: &App) -> Self {
        let clear = Password::parse(&password::generate(&app.random)).expect("26 characters");
        Self { drawn: true, ..Self::new(app, clear).await }
    }

    /// Of the client's addresses only this one is to be mailed it.
    pub fn to_alone(self, address: Email) -> Self {
        Self { to_alone: Some(address), ..self }
    }

    /// What is stored.
    pub fn hash(&self) -> &PasswordHash {
        &self.hash
    }

    /// The operator who knows it, of whom `by` is the name in the audit trail.
    pub(in crate::clients) fn set_by<'a>(&self, by: &'a str) -> Option<&'a str> {
        by.strip_prefix("operator:").filter(|_| !self.drawn)
    }

    pub(in crate::clients) fn clear(&self) -> &Password {
        &self.clear
    }

    pub(in crate::clients) fn recipients(&self, client: &Client) -> Vec<Recipient> {
        match &self.to_alone {
            Some(address) => vec![address.as_str().to_owned().into()],
            None => mails::recipients(client),
        }
    }
}

/// Result of a password check.
#[derive(Debug)]
pub enum PasswordCheck {
    /// It is the client's, and opens calls while [`still_right`].
    Right(Verified),
    /// It is not, or there is no such client, or its password credentials are closed after too
    /// many wrong ones: the caller is told the same.
    Wrong,
}

/// An operator gives a client another password. The count of wrong ones begins again.
pub(super) async fn set(
    app: &App,
    by: &str,
    id: &str,
    expected: Option<i64>,
    password: &NewPassword,
) -> Result<Client, ClientError> {
    put(app, by, id, expected, (password.hash(), password.set_by(by))).await
}

/// A client gets the password that it has elsewhere, of which the hash alone is known here.
pub(super) async fn import(
    app: &App,
    by: &str,
    id: &str,
    expected: Option<i64>,
    hash: &ImportedHash,
) -> Result<Client, ClientError> {
    put(app, by, id, expected, (&PasswordHash::from(hash.as_str().to_owned()), None)).await
}

/// The hash, and the operator who knows its password.
async fn put(
    app: &App,
    by: &str,
    id: &str,
    expected: Option<i64>,
    new: (&PasswordHash, Option<&str>),
) -> Result<Client, ClientError> {
    let now = app.now();
    let mut tx = app.db.write("clients.set_password").await?;
    let before = load(&mut tx, id).await?;
    require_version(&before, expected)?;
    if !store::set_password(&mut tx, id, before.version, new, now).await? {
        return Err(ClientError::Version { expected: before.version, present: before.version + 1 });
    }
    let client = load(&mut tx, id).await?;
    mails::withdraw_passwords(&mut tx, id, "another password was set", now).await?;
    record(&mut tx, by, "clients.set_password", Some(&before), &client, now).await?;
    tx.commit().await?;
    Ok(client)
}

/// Ends a client's password, and mails one to its addresses that serves only to set a new one.
pub(super) async fn reset(
    app: &App,
    by: &str,
    id: &str,
    expected: Option<i64>,
) -> Result<Client, ClientError> {
    let now = app.now();
    let mailed = NewPassword::drawn(app).await;
    let expires_at = UnixMillis(now.0 + RESET_TTL_MS);
    let mut tx = app.db.write("clients.reset_password").await?;
    let before = load(&mut tx, id).await?;
    require_version(&before, expected)?;
    if before.emails.is_empty() {
        return Err(ClientError::NoAddress { id: id.into() });
    }
    if !store::reset_password(&mut tx, id, before.version, mailed.hash(), expires_at, now).await? {
        return Err(ClientError::Version { expected: before.version, present: before.version + 1 });
    }
    let client = load(&mut tx, id).await?;
    mails::withdraw_passwords(&mut tx, id, "the password was reset", now).await?;
    mails::password_reset(&mut tx, app, &client, mailed.clear(), expires_at, now).await?;
    record(&mut tx, by, "clients.reset_password", Some(&before), &client, now).await?;
    tx.commit().await?;
    Ok(client)
}

/// A client changes its own password. `unverified` is the present one, or one that was mailed.
pub(super) async fn replace(
    app: &App,
    id: &str,
    unverified: &str,
    password: Password,
) -> Result<(), ClientError> {
    let checked = check(app, id, &[unverified], Purpose::Replacement, Lane::People).await?;
    let (client, _) = checked.ok_or(ClientError::WrongPassword)?;
    if client.status != ClientStatus::Active {
        return Err(ClientError::NotActive { id: id.into() });
    }
    if password.reveal() == unverified {
        let reason = "The new password must differ from the present one";
        return Err(Fault::new("new_password", reason).into());
    }
    let password = NewPassword::new(app, password).await;
    let now = app.now();
    let mut tx = app.db.write("clients.replace_password").await?;
    // The version that the password was checked against: one that was changed meanwhile is not
    // replaced with the word of the old one.
    // An operator who entered the one before may be the one who replaces it. One that was mailed was
    // read by the client.
    let set_by = match client.password {
        PasswordState::Reset { .. } => None,
        PasswordState::Set | PasswordState::None => store::password_set_by(&mut tx, id).await?,
    };
    let new = (password.hash(), set_by.as_deref());
    if !store::set_password(&mut tx, id, client.version, new, now).await? {
        return Err(ClientError::WrongPassword);
    }
    let after = load(&mut tx, id).await?;
    mails::withdraw_passwords(&mut tx, id, "the client set another password", now).await?;
    let by = format!("client:{id}");
    record(&mut tx, &by, "clients.replace_password", Some(&client), &after, now).await?;
    tx.commit().await?;
    Ok(())
}

/// Checks a password that opens calls, counting what is wrong. At `allowed_attempts` wrong ones the
/// client's password credentials are closed.
pub async fn check_password(app: &App, id: &str, unverified: &str) -> Result<PasswordCheck, DbError> {
    let checked = check(app, id, &[unverified], Purpose::Calls, Lane::Gateways).await?;
    Ok(match checked {
        Some((_, hash)) => PasswordCheck::Right(Verified { client: id.into(), hash }),
        None => PasswordCheck::Wrong,
    })
}

/// Result of a sign-in's password check.
#[derive(Debug)]
pub enum SignIn {
    /// It is the client's own.
    Right {
        /// As it was.
        client: Box<Client>,
        /// Of the password that was right.
        mark: PasswordMark,
    },
    /// It was mailed, and serves only to set a new one.
    Mailed,
    /// It is not, or there is no such client, or its password credentials are closed after too
    /// many wrong ones: the caller is told the same.
    Wrong,
}

/// Checks the password of somebody who signs in, counting what is wrong as everywhere.
pub async fn sign_in(app: &App, id: &str, unverified: &str) -> Result<SignIn, DbError> {
    Ok(match check(app, id, &[unverified], Purpose::SignIn, Lane::People).await? {
        Some((client, hash)) => match client.password {
            PasswordState::Reset { .. } => SignIn::Mailed,
            PasswordState::Set | PasswordState::None => {
                SignIn::Right { mark: hash.mark(), client: Box::new(client) }
            }
        },
        None => SignIn::Wrong,
    })
}

/// A client and the mark of its own password; none: it has none in force.
pub async fn with_mark(conn: &mut Conn, id: &str) -> Result<Option<(Client, Option<PasswordMark>)>, DbError> {
    // A mailed password, whose end depends on the time, opens nothing.
    let known = store::with_password_hash(conn, id, Purpose::Calls, UnixMillis(0)).await?;
    Ok(known.map(|(client, hash)| (client, hash.map(|hash| hash.mark()))))
}

/// The client whose password was right, unless that has ended since, or the client's password
/// credentials were closed.
pub async fn still_right(conn: &mut Conn, verified: &Verified) -> Result<Option<Client>, DbError> {
    // A mailed password, whose end depends on the time, opens no calls.
    let never = UnixMillis(0);
    let present = store::with_password_hash(conn, &verified.client, Purpose::Calls, never).await?;
    Ok(match present {
        Some((client, Some(hash))) if hash == verified.hash && !client.password_locked() => Some(client),
        Some(_) | None => None,
    })
}

/// Why a secret was not even checked.
#[derive(Debug, thiserror::Error)]
pub enum SecretRefusal {
    /// Too many are being checked.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// Too many wrong ones came from that address.
    #[error(transparent)]
    TooMany(#[from] TooManyWrong),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// The client whose password a program presents, in one of these readings of what it has sent. None: it
/// is wrong, or there is no such client, or its password credentials are closed. What was right a moment
/// ago is remembered.
pub async fn check_secret(
    app: &App,
    from: &CallerAddress,
    id: &str,
    presented: &str,
    readings: &[Zeroizing<String>],
) -> Result<Option<Client>, SecretRefusal> {
    let memory = &app.right_passwords;
    // What can be nobody's reaches no database, and takes as long as what could be.
    let id = if ClientName::parse_id(id).is_ok() { id } else { "" };
    let mark = memory.mark(&app.random, Whose::Client, id, presented);
    if let Some(client) = remembered(app, id, &mark).await? {
        return Ok(Some(client));
    }
    let check_of = memory.check_of(mark);
    let _turn = check_of.lock().await;
    if let Some(client) = remembered(app, id, &mark).await? {
        return Ok(Some(client));
    }
    let _place = app.passwords.enter()?;
    let now = app.now();
    let tried = app.wrong_passwords.begin(from, now)?;
    let readings: Vec<&str> = readings.iter().map(|reading| reading.as_str()).collect();
    let checked = check(app, id, &readings, Purpose::Calls, Lane::People).await;
    if !matches!(checked, Ok(None)) {
        tried.was_not_wrong();
    }
    Ok(checked?.map(|(client, hash)| {
        memory.keep(mark, hash.as_str(), now);
        client
    }))
}

/// The client, if this was its password when it was checked last, and is still.
async fn remembered(app: &App, id: &str, mark: &Mark) -> Result<Option<Client>, DbError> {
    if !app.right_passwords.has(mark) {
        return Ok(None);
    }
    let now = app.now();
    let stored = store::with_password_hash(&mut *app.db.snapshot().await?, id, Purpose::Calls, now).await?;
    let Some((client, Some(hash))) = stored else { return Ok(None) };
    if client.password_locked() || !app.right_passwords.knows(mark, hash.as_str(), now) {
        return Ok(None);
    }
    if client.failed_attempts > 0 {
        forget_wrong(app, id).await?;
    }
    Ok(Some(client))
}

/// Checks of one password at most, of which each but the last finds another hash in its place: made anew by
/// another call, or set by somebody meanwhile.
const MAX_CHECKS: u32 = 3;

/// The client, and the hash of its password, if one of these is right. What is done where none is right is
/// the same for a client that there is, one that there is not, and one whose password credentials are closed.
async fn check(
    app: &App,
    id: &str,
    unverified: &[&str],
    purpose: Purpose,
    lane: Lane,
) -> Result<Option<(Client, PasswordHash)>, DbError> {
    for _ in 0..MAX_CHECKS {
        let known = store::hash_to_try(&mut *app.db.read().await?, id, purpose, app.now()).await?;
        let mut right = None;
        for one in unverified {
            let hash = known.as_ref().map(PasswordHash::as_str);
            if right.is_none() && password::verify(&app.metrics, lane, one, hash).await {
                right = Some(*one);
            }
        }
        let (Some(right), Some(hash)) = (right, known.as_ref()) else {
            count_wrong(app, id, known.as_ref()).await?;
            return Ok(None);
        };
        let hash = match password::is_imported(hash.as_str()) {
            true => match made_anew(app, id, right, hash).await? {
                Some(hash) => hash,
                // Another call was first.
                None => continue,
            },
            false => hash.clone(),
        };
        // What was read may be old: neither guesses in parallel pass the lock, nor a password that
        // was replaced while it was hashed.
        let present =
            store::with_password_hash(&mut *app.db.snapshot().await?, id, purpose, app.now()).await?;
        let Some((client, Some(present))) = present else { return Ok(None) };
        if present != hash && password::is_imported(hash.as_str()) {
            continue;
        }
        if present != hash || client.password_locked() {
            return Ok(None);
        }
        if client.failed_attempts > 0 {
            forget_wrong(app, id).await?;
        }
        return Ok(Some((client, hash)));
    }
    Ok(None)
}

/// A right password whose hash was brought along is hashed as all are. None: it is another one by now.
async fn made_anew(
    app: &App,
    id: &str,
    right: &str,
    imported: &PasswordHash,
) -> Result<Option<PasswordHash>, DbError> {
    // One that is shorter or longer than ours may be is kept as it was brought along.
    let Ok(password) = Password::parse(right) else { return Ok(Some(imported.clone())) };
    let hash = PasswordHash::from(password.hash(&app.random).await);
    let mut tx = app.db.write_aside("clients.password_made_anew").await?;
    let made = store::replace_hash(&mut tx, id, imported, &hash).await?;
    tx.commit().await?;
    Ok(made.then_some(hash))
}

/// A right one was presented: the wrong ones before it count no more.
async fn forget_wrong(app: &App, id: &str) -> Result<(), DbError> {
    let mut tx = app.db.write_aside("clients.password_right").await?;
    store::reset_failures(&mut tx, id).await?;
    tx.commit().await
}

/// Counts a wrong one, if it was held against the password in force and that is not closed yet. None: there
/// is none.
pub(super) async fn count_wrong(app: &App, id: &str, hash: Option<&PasswordHash>) -> Result<(), DbError> {
    let now = app.now();
    let mut tx = app.db.write_aside("clients.password_wrong").await?;
    // Both numbers as they are now: an operator may allow fewer meanwhile.
    let counted = store::count_failure(&mut tx, id, hash).await?;
    attempts::note(&mut tx, id).await?;
    if let Some((failed, allowed)) = counted
        && failed == allowed
    {
        // Grants that a password opened are held at gateways.
        changes::record(&mut tx, &Subject::Client { client: ClientId::from(id) }, now).await?;
        let entry = audit::Entry {
            actor: "system".into(),
            action: "clients.lock_password",
            subject: format!("client:{id}"),
            detail: json!({ "failed_attempts": failed }),
        };
        audit::record(&mut tx, entry, now).await?;
    }
    tx.commit().await
}
