//! Mails with a secret that were given up: whoever waits for the secret is to be told, and whoever can hand
//! it over again. Whom that is, those know who stand above: they do the work of [`TELL_UNDELIVERED`].

use gate::time::UnixMillis;
use serde_json::{Value, json};

use super::model::Mail;
use super::store;
use super::templates::Template;
use crate::app::App;
use crate::db::{Conn, DbError};
use crate::schedule::{self, NewTask};

/// Tells of a mail that was given up; it is about the mail.
pub const TELL_UNDELIVERED: &str = "mail.tell_undelivered";

/// A mail that was given up.
#[derive(Debug)]
pub struct Undelivered {
    /// With why.
    pub mail: Mail,
    /// What it would have said, secrets masked.
    pub context: Value,
}

/// Plans what is to be told of mails that were given up, in the transaction that does so. Of those
/// without a secret nothing is told, so that there is never a mail about a mail about a mail; nor of a
/// confirmation, which went to an address that nobody has shown to be theirs.
pub(super) async fn plan(
    conn: &mut Conn,
    app: &App,
    given_up: &[(String, Template)],
    now: UnixMillis,
) -> Result<(), DbError> {
    let told =
        |template: &Template| template.carries_secret() && *template != Template::RegistrationConfirmation;
    for (id, _) in given_up.iter().filter(|(_, template)| told(template)) {
        let task = NewTask {
            kind: TELL_UNDELIVERED,
            about: schedule::About::new("mail", id),
            key: format!("{TELL_UNDELIVERED}:{id}"),
            due_at: now,
            detail: json!({}),
        };
        schedule::plan(conn, app, task, now).await?;
    }
    Ok(())
}

/// The mail of that id, if the log still has it.
pub async fn undelivered(conn: &mut Conn, id: &str) -> Result<Option<Undelivered>, DbError> {
    let Some(mail) = store::by_id(conn, id).await? else { return Ok(None) };
    let Some(context) = store::masked_context(conn, id).await? else { return Ok(None) };
    let context = serde_json::from_str(&context).map_err(|_| store::inconsistent("context_masked", id))?;
    Ok(Some(Undelivered { mail, context }))
}
