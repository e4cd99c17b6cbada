//! A form beside the world that it asks to change.

use std::collections::{BTreeMap, BTreeSet};

use gate::id::ApiUid;
use gate::wire::directory::Audience;
use gate::wire::exchange::ClientStatus;
use jiff::civil::Date;
use serde_json::{Value, json};

use super::super::form::Form;
use crate::catalog::{ApiSource, SecurityLevel};
use crate::clients::{Client, TakenNames};
use crate::keys::KeyState;

/// A key that ends within so many days is worth a word.
pub const SOON_DAYS: i32 = 30;

/// An API that was chosen accepts no DGRK key.
pub const API_WITHOUT_DGRK: &str = "api_without_dgrk";

/// What a reviewer looks at.
#[derive(Clone, Debug)]
pub struct Review {
    /// Every term of the key or the client: now, and as asked for.
    pub terms: Vec<Term>,
    /// APIs that the form brings, takes away and keeps.
    pub apis: Apis,
    /// How often the key was used and may be.
    pub usage: Usage,
    /// The client, unless it is gone.
    pub client: Option<Client>,
    /// What speaks against a signature.
    pub warnings: Vec<Warning>,
}

/// A term of a key, or of the client that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// As the form calls it.
    pub field: &'static str,
    /// Now; null: there is no key or client yet.
    pub before: Value,
    /// Once the form has its effect.
    pub after: Value,
}

/// APIs by uid, with their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Apis {
    /// Those that the key does not open now.
    pub added: Vec<(ApiUid, String)>,
    /// Those that it opens no more.
    pub removed: Vec<(ApiUid, String)>,
    /// Those that it goes on to open.
    pub kept: Vec<(ApiUid, String)>,
}

/// Uses of a key; none: unlimited, or no key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// So far, as far as it is counted.
    pub used: Option<u64>,
    /// Left now.
    pub remaining: Option<u64>,
    /// Left once the form has its effect.
    pub remaining_after: Option<u64>,
}

/// Something that speaks against a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// For programs.
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// The API that it is about.
    pub api: Option<ApiUid>,
}

/// A key as it is now.
#[derive(Clone, Debug)]
pub(super) struct KeyTerms {
    pub name: String,
    pub expiry_date: Date,
    /// -1 = unlimited.
    pub quota: i64,
    pub apis: BTreeSet<ApiUid>,
    pub state: KeyState,
}

/// An API as far as a review asks.
#[derive(Clone, Debug)]
pub(super) struct ApiFacts {
    pub name: String,
    pub enabled: bool,
    /// It asks for credentials, and a DGRK key is none of those that it accepts.
    pub without_dgrk: bool,
    pub source: ApiSource,
    pub audience: Audience,
    /// The lowest of the levels of its groups; none: it is in no group.
    pub lowest_level: Option<SecurityLevel>,
}

/// The world around a form.
pub(super) struct Facts {
    pub today: Date,
    pub key: Option<KeyTerms>,
    pub used: Option<u64>,
    pub apis: BTreeMap<ApiUid, ApiFacts>,
    pub needs_address: bool,
    /// The credentials would go elsewhere than when the form was submitted.
    pub redirected: bool,
    pub shortage: Option<String>,
    pub client: Option<Client>,
    /// Which names of the client that is asked for others have.
    pub taken: TakenNames,
}

/// Whether there is a side from which both may meet.
pub fn meet(client: Audience, api: Audience) -> bool {
    client == Audience::Both || api == Audience::Both || client == api
}

impl Review {
    pub(super) fn of(form: &Form, facts: Facts) -> Self {
        let after = form.terms();
        let key = facts.key.as_ref();
        let quota_after = after.map(|terms| terms.quota.map_or(-1, i64::from));
        let none = BTreeSet::new();
        let (old, new) = (key.map_or(&none, |key| &key.apis), after.map_or(&none, |terms| &terms.apis));
        let named = |uid: &ApiUid| {
            let name = facts.apis.get(uid).map_or_else(|| uid.0.clone(), |api| api.name.clone());
            (uid.clone(), name)
        };
        let apis = Apis {
            added: new.difference(old).map(named).collect(),
            removed: old.difference(new).map(named).collect(),
            kept: new.intersection(old).map(named).collect(),
        };
        let resets = matches!(form, Form::Change { reset_usage: true, .. });
        let left = |quota: i64, used: u64| u64::try_from(quota).ok().map(|quota| quota.saturating_sub(used));
        let used = key.map(|_| facts.used.unwrap_or_default()).filter(|_| facts.used.is_some());
        let usage = Usage {
            used,
            remaining: key.and_then(|key| left(key.quota, used.unwrap_or_default())),
            remaining_after: match form {
                Form::Revoke { .. } => key.map(|_| 0),
                Form::Apply { .. } | Form::Change { .. } | Form::Client { .. } => quota_after
                    .and_then(|quota| left(quota, if resets { 0 } else { used.unwrap_or_default() })),
            },
        };
        let warnings = warnings(form, &facts, new, resets.then_some(0).or(used).unwrap_or_default());
        Self { terms: terms(form, key), apis, usage, client: facts.client, warnings }
    }
}

/// What the form changes, and what stays as it is: a revocation ends the key on the terms that it has.
fn terms(form: &Form, key: Option<&KeyTerms>) -> Vec<Term> {
    let of_key = key.map(|key| [json!(key.name), json!(key.expiry_date.to_string()), json!(key.quota)]);
    let of_key = of_key.unwrap_or_default();
    let row = |(field, (before, after))| Term { field, before, after };
    let key_fields = ["name", "expiry_date", "quota"];
    match form {
        Form::Apply { terms, .. } | Form::Change { terms, .. } => {
            let quota = terms.quota.map_or(-1, i64::from);
            let after = [json!(terms.name), json!(terms.expiry_date.to_string()), json!(quota)];
            key_fields.into_iter().zip(of_key.into_iter().zip(after)).map(row).collect()
        }
        Form::Revoke { .. } => {
            let ends = ("state", (json!(key.map(|key| key.state.name())), json!("revoked")));
            let stays = key_fields.into_iter().zip(of_key.clone().into_iter().zip(of_key));
            std::iter::once(ends).chain(stays).map(row).collect()
        }
        Form::Client { registration, .. } => [
            ("name", json!(registration.name.as_str())),
            ("display_name", json!(registration.display_name)),
            ("emails", json!(registration.emails_text())),
            ("bindings", json!(registration.bindings)),
        ]
        .map(|(field, after)| row((field, (Value::Null, after))))
        .into(),
    }
}

fn warnings(form: &Form, facts: &Facts, apis: &BTreeSet<ApiUid>, used_after: u64) -> Vec<Warning> {
    let mut found = Vec::new();
    let mut warn = |code, message: String| found.push(Warning { code, message, api: None });
    let (today, effective) = (facts.today, form.effective_date());
    if let Some(effective) = effective.filter(|effective| *effective < today) {
        let message =
            format!("the effective date {effective} has passed: it takes effect with the last signature");
        warn("effective_date_passed", message);
    }
    if let Some(terms) = form.terms() {
        let (expiry, days) = (terms.expiry_date, (terms.expiry_date - today).get_days());
        if expiry < today {
            warn("expired", format!("the expiry date {expiry} has passed: it cannot be approved any more"));
        } else if days <= SOON_DAYS {
            warn("expires_soon", format!("the key would end on {expiry}, in {days} days"));
        }
        if let Some(quota) = terms.quota
            && u64::from(quota) <= used_after
        {
            let message = format!(
                "{used_after} uses have been made, the new quota is {quota}: the key could not be used any more"
            );
            warn("quota_below_used", message);
        }
    }
    // Keys are never deleted, and open forms end with their client: neither is ever missing.
    if let (Some(key), Some(terms)) = (form.key(), &facts.key) {
        let changes = form.terms();
        match terms.state {
            KeyState::Revoked { .. } => warn("key_revoked", format!("the key {key} has been revoked")),
            KeyState::Inactive if changes.is_some() => {
                let message = format!(
                    "the key {key} is switched off, and the change does not switch it on: calls are refused until \
                     it is activated"
                );
                warn("key_inactive", message);
            }
            KeyState::Active | KeyState::Inactive => {}
        }
        let ended = terms.expiry_date;
        if let Some(after) = changes.filter(|after| ended < today && after.expiry_date >= today) {
            let message = format!(
                "the key's last day was {ended}: the change makes it valid again, until {}",
                after.expiry_date
            );
            warn("key_expired", message);
        }
    }
    if let Some(asked) = form.registration() {
        for (taken, what, name) in [
            (facts.taken.name, "name", asked.name.as_str()),
            (facts.taken.display_name, "display name", asked.display_name.as_str()),
        ] {
            let message = format!(
                "another client has the {what} {name}: it cannot be approved; return the form, so that the \
                 applicant chooses another"
            );
            if taken {
                warn("name_taken", message);
            }
        }
    }
    if let Some(client) = &facts.client {
        match client.status {
            ClientStatus::Active => {}
            ClientStatus::Disabled => warn("client_disabled", "the client is disabled".to_owned()),
            ClientStatus::Locked => warn("client_locked", "the client is locked".to_owned()),
        }
        if let Some(dates) = client.dates.filter(|dates| dates.expiry < today) {
            warn("client_expired", format!("the client's last day was {}", dates.expiry));
        }
        if client.emails.is_empty() && facts.needs_address {
            let message = "the client has no e-mail address to send the credentials to".to_owned();
            warn("client_without_address", message);
        }
    }
    if facts.redirected {
        let message = "the credentials would go elsewhere than when the form was submitted: it cannot be approved \
                       until it is submitted again, or the former addresses are restored";
        warn("credential_addresses_changed", message.to_owned());
    }
    if let Some(shortage) = &facts.shortage {
        warn("no_signer", shortage.clone());
    }
    for uid in apis {
        let mut warn = |code, message: String| found.push(Warning { code, message, api: Some(uid.clone()) });
        let Some(api) = facts.apis.get(uid) else {
            warn("api_unknown", format!("the API {uid} does not exist any more"));
            continue;
        };
        let name = &api.name;
        if !api.enabled {
            warn("api_disabled", format!("the API {name} is disabled: calls are answered 503"));
        }
        if api.without_dgrk {
            let message = format!(
                "the API {name} accepts no DGRK key: calls of it with the key are refused until it does (`accepts`)"
            );
            warn(API_WITHOUT_DGRK, message);
        }
        if api.source != ApiSource::Registered {
            let message = format!("the API {name} is {}, not registered", api.source.as_str());
            warn("api_not_registered", message);
        }
        let Some(client) = &facts.client else { continue };
        if !meet(client.audience, api.audience) {
            let message =
                format!("the API {name} cannot be called from where the client may call (audience)");
            warn("api_audience", message);
        }
        if let Some(level) = api.lowest_level.filter(|level| !client.security_level.covers(*level)) {
            let message = format!(
                "the API {name} is in groups of level {} and above alone, the client has {}",
                level.as_str(),
                client.security_level.as_str()
            );
            warn("api_level", message);
        }
    }
    found
}
