//! The rules that ask about the world around a form, again whenever it moves on.

use std::collections::BTreeSet;

use gate::id::{ApiUid, CredentialId};
use jiff::civil::Date;

use super::{FieldFault, Form};
use crate::clients::{Registration, TakenNames};

/// When a form is checked against the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The applicant saves it: no date may lie in the past. Only what is handed in holds a key.
    Saving,
    /// The applicant submits or re-submits it, and can still change it: no date may lie in the past.
    Filing,
    /// A reviewer signs it: an effective date may have passed while it waited, an expiry not.
    Signing,
    /// An approved change is due: it is made even while its client may not call.
    Due,
}

/// What the rules want to know of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    /// The day it is in the installation's zone.
    pub today: Date,
    /// The client named by the form; none: there is no such client.
    pub client: Option<ClientFacts>,
    /// Which names of the client that is asked for are taken.
    pub taken: TakenNames,
    /// The key named by the form; none: there is no such key.
    pub key: Option<KeyFacts>,
    /// Those of the form's APIs that exist.
    pub known_apis: BTreeSet<ApiUid>,
    /// Whether credentials are mailed to the client, who then needs an address.
    pub client_gets_credentials: bool,
    /// Credentials are mailed to the applicant, who has no address.
    pub applicant_out_of_reach: bool,
}

/// What the rules want to know of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFacts {
    /// Whether it may call at all.
    pub active: bool,
    /// Its status in words, for the message.
    pub status: &'static str,
    /// Whether an e-mail address is on file.
    pub has_email: bool,
}

/// What the rules want to know of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFacts {
    /// Whether it has been revoked.
    pub revoked: bool,
    /// Its first day.
    pub effective_date: Date,
    /// The number of another change or revoke form for it that is under way.
    pub open_form: Option<String>,
}

impl Form {
    /// Whether the form may be kept, or move on, in the world as it is.
    pub fn check(&self, world: &World, moment: Moment) -> Result<(), FieldFault> {
        let named = match self {
            Self::Client { registration, .. } => return check_names(registration, world),
            Self::Apply { client, .. } | Self::Change { client, .. } | Self::Revoke { client, .. } => client,
        };
        let client = world.client.as_ref().ok_or_else(|| FieldFault::UnknownClient(named.clone()))?;
        if let Some(key) = self.key() {
            check_key(key, world, moment)?;
        }
        let today = world.today;
        if let Some(effective) = self.effective_date().filter(|effective| *effective < today)
            && matches!(moment, Moment::Saving | Moment::Filing)
        {
            return Err(FieldFault::EffectiveInThePast { effective, today });
        }
        let Some(terms) = self.terms() else {
            return Ok(());
        };
        if !client.active && moment != Moment::Due {
            return Err(FieldFault::ClientNotActive { client: named.clone(), status: client.status });
        }
        if terms.expiry_date < today {
            return Err(FieldFault::Expired { expiry: terms.expiry_date, today });
        }
        if let Some(begins) = world.key.as_ref().map(|key| key.effective_date)
            && self.key().is_some()
            && terms.expiry_date < begins
        {
            return Err(FieldFault::ExpiryBeforeKey { expiry: terms.expiry_date, begins });
        }
        if let Some(unknown) = terms.apis.difference(&world.known_apis).next() {
            return Err(FieldFault::UnknownApi(unknown.clone()));
        }
        let issues = matches!(self, Self::Apply { .. });
        if issues && world.client_gets_credentials && !client.has_email {
            return Err(FieldFault::NoAddress(named.clone()));
        }
        if issues && world.applicant_out_of_reach {
            return Err(FieldFault::NoApplicantAddress);
        }
        Ok(())
    }
}

fn check_names(registration: &Registration, world: &World) -> Result<(), FieldFault> {
    let taken = |field, name: &str| Err(FieldFault::NameTaken { field, name: name.to_owned() });
    if world.taken.name {
        taken("name", registration.name.as_str())
    } else if world.taken.display_name {
        taken("display_name", &registration.display_name)
    } else {
        Ok(())
    }
}

fn check_key(key: &CredentialId, world: &World, moment: Moment) -> Result<(), FieldFault> {
    let facts = world.key.as_ref().ok_or_else(|| FieldFault::UnknownKey(key.clone()))?;
    if facts.revoked {
        return Err(FieldFault::KeyRevoked(key.clone()));
    }
    match facts.open_form.as_ref().filter(|_| moment != Moment::Saving) {
        Some(form) => Err(FieldFault::KeyHasOpenForm { key: key.clone(), form: form.clone() }),
        None => Ok(()),
    }
}
