//! What happened to one key: what the audit trail has of it, and the mails about it.

use std::collections::{BTreeMap, BTreeSet};

use gate::id::CredentialId;

use super::actions::KeyError;
use super::store;
use crate::app::App;
use crate::audit::{self, Recorded, Search};
use crate::http::operator_display_names;
use crate::mail::{self, About, Mail};

/// Events of a history at most; of a key with more, the newest.
pub(super) const MAX_EVENTS: i64 = 500;

/// One thing that happened.
pub(super) enum Event {
    /// Somebody did something with the key.
    Done {
        entry: Recorded,
        /// What people call the operator, where it was one.
        actor_name: Option<String>,
    },
    /// A mail about it was written.
    Mailed(Mail),
}

impl Event {
    /// When, UTC ms.
    pub fn at(&self) -> i64 {
        match self {
            Self::Done { entry, .. } => entry.at,
            Self::Mailed(mail) => mail.created_at.0,
        }
    }
}

/// What happened to the key, newest first.
pub(super) async fn of(app: &App, id: &CredentialId) -> Result<Vec<Event>, KeyError> {
    const OPERATOR: &str = "operator:";
    let mut conn = app.db.snapshot().await?;
    if store::by_id(&mut conn, id).await?.is_none() {
        return Err(KeyError::NotFound { id: id.clone() });
    }
    let about = Search { subject: Some(format!("key:{id}")), ..Search::default() };
    let entries = audit::search(&mut conn, &about, MAX_EVENTS).await?;
    let ids: BTreeSet<&str> = entries.iter().filter_map(|entry| entry.actor.strip_prefix(OPERATOR)).collect();
    let names: BTreeMap<String, String> = operator_display_names(&mut conn, &ids).await?;
    let mails = mail::written_about(&mut conn, &About::new("key", id.as_str()), MAX_EVENTS).await?;
    let done = entries.into_iter().map(|entry| {
        let actor_name = entry.actor.strip_prefix(OPERATOR).and_then(|id| names.get(id)).cloned();
        Event::Done { entry, actor_name }
    });
    let mut events: Vec<Event> = done.chain(mails.into_iter().map(Event::Mailed)).collect();
    // What was done stands before the mails that it brought about: seen backwards.
    events.sort_by_key(|event| std::cmp::Reverse((event.at(), matches!(event, Event::Mailed(_)))));
    events.truncate(usize::try_from(MAX_EVENTS).unwrap_or(usize::MAX));
    Ok(events)
}
