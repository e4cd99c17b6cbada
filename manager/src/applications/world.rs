//! What forms want to know of operators, clients, APIs and keys.

use std::collections::{BTreeMap, BTreeSet};

use gate::id::{ApiUid, ClientId, CredentialId};
use gate::wire::exchange::ClientStatus;
use jiff::civil::Date;

use super::applicant::Applicant;
use super::error::ApplicationError;
use super::form::{ClientFacts, Form, KeyFacts, World};
use super::model::{Application, Step};
use super::store;
use crate::app::App;
use crate::clients::{ClientError, TakenNames};
use crate::config::{Config, CredentialRecipients};
use crate::db::{Conn, DbError};
use crate::keys::{self, KeyState};
use crate::mail::Recipient;
use crate::validity::day_of;
use crate::{catalog, clients, operators};

/// Keeps the form's client from being deleted before the form is there. One that is gone already is
/// for the form's rules to refuse.
pub(super) async fn hold_client(conn: &mut Conn, form: &Form) -> Result<(), DbError> {
    let Some(client) = form.client() else { return Ok(()) };
    match clients::hold(conn, client.as_str()).await {
        Err(ClientError::Db(error)) => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The world as `form` sees it on the day `today`; `id` is the form itself once it has one.
pub(super) async fn around(
    conn: &mut Conn,
    config: &Config,
    form: &Form,
    applicant: &Applicant,
    id: Option<&str>,
    today: Date,
) -> Result<World, DbError> {
    let client = match form.client() {
        Some(client) => clients::by_id(conn, client.as_str()).await?,
        None => None,
    };
    let client = client.map(|client| ClientFacts {
        active: client.status == ClientStatus::Active,
        status: match client.status {
            ClientStatus::Active => "active",
            ClientStatus::Disabled => "disabled",
            ClientStatus::Locked => "locked",
        },
        has_email: !client.emails.is_empty(),
    });
    let key = match form.key() {
        Some(key) => match keys::by_id(conn, key).await? {
            Some(found) => Some(KeyFacts {
                revoked: matches!(found.state, KeyState::Revoked { .. }),
                effective_date: day_of(found.validity.from, &config.zone()),
                open_form: store::holder_of_key(conn, key, id).await?,
            }),
            None => None,
        },
        None => None,
    };
    let known_apis = match form.terms() {
        Some(terms) => {
            let uids: Vec<ApiUid> = terms.apis.iter().cloned().collect();
            catalog::known_apis(conn, &uids).await?.into_iter().map(|api| api.uid).collect()
        }
        None => BTreeSet::new(),
    };
    let taken = taken_names(conn, form).await?;
    Ok(World {
        today,
        client,
        taken,
        key,
        known_apis,
        client_gets_credentials: client_gets_credentials(config),
        applicant_out_of_reach: applicant_gets_credentials(config)
            && applicant_addresses(conn, applicant).await?.is_empty(),
    })
}

/// Which names of the client that the form asks for others have.
pub(super) async fn taken_names(conn: &mut Conn, form: &Form) -> Result<TakenNames, DbError> {
    match form.registration() {
        Some(asked) => clients::taken_names(conn, asked.name.as_str(), &asked.display_name).await,
        None => Ok(TakenNames::default()),
    }
}

/// Where the credentials of a new key go.
pub(super) async fn credential_addresses(
    conn: &mut Conn,
    config: &Config,
    client: &ClientId,
    applicant: &Applicant,
) -> Result<Vec<Recipient>, DbError> {
    let mut addresses = Vec::new();
    if client_gets_credentials(config) {
        addresses.extend(client_addresses(conn, client).await?);
    }
    if applicant_gets_credentials(config) {
        addresses.extend(applicant_addresses(conn, applicant).await?);
    }
    // A client that applied for itself is told once.
    let mut told = BTreeSet::new();
    addresses.retain(|recipient| told.insert(recipient.address.clone()));
    Ok(addresses)
}

/// The addresses to which the credentials of the key that the form asks for would go now; none: it asks
/// for no new key.
pub(super) async fn credentials_go_to(
    conn: &mut Conn,
    config: &Config,
    application: &Application,
) -> Result<Option<Vec<String>>, DbError> {
    let Form::Apply { client, .. } = &application.form else { return Ok(None) };
    let recipients = credential_addresses(conn, config, client, &application.applicant).await?;
    Ok(Some(recipients.into_iter().map(|recipient| recipient.address).collect()))
}

/// To whom the credentials of the key that the form asks for go. Err: elsewhere than when it was submitted,
/// so that what its reviewers have signed is not what would happen.
pub(super) async fn credentials_go_where_signed(
    conn: &mut Conn,
    config: &Config,
    application: &Application,
) -> Result<Vec<Recipient>, ApplicationError> {
    let Form::Apply { client, .. } = &application.form else { return Ok(Vec::new()) };
    let recipients = credential_addresses(conn, config, client, &application.applicant).await?;
    match redirected(application, recipients.iter().map(|recipient| &recipient.address)) {
        true => Err(ApplicationError::CredentialsRedirected),
        false => Ok(recipients),
    }
}

/// Whether those addresses are others than when the form was submitted, in whatever order. Forms that were
/// submitted under an older version do not know.
pub(super) fn redirected<'a>(application: &Application, now: impl Iterator<Item = &'a String>) -> bool {
    let signed = application.credentials_go_to.as_ref();
    let signed = signed.map(|addresses| addresses.iter().collect::<BTreeSet<_>>());
    signed.is_some_and(|signed| signed != now.collect())
}

/// A client's addresses.
pub(super) async fn client_addresses(conn: &mut Conn, client: &ClientId) -> Result<Vec<Recipient>, DbError> {
    let client = clients::by_id(conn, client.as_str()).await?;
    Ok(client.iter().flat_map(clients::recipients).collect())
}

/// Where mails to the applicant go.
pub(super) async fn applicant_addresses(
    conn: &mut Conn,
    applicant: &Applicant,
) -> Result<Vec<Recipient>, DbError> {
    match applicant {
        Applicant::Operator(id) => {
            let operator = operators::find(conn, id).await?;
            Ok(operator.as_ref().and_then(operators::recipient).into_iter().collect())
        }
        Applicant::Client(client) => client_addresses(conn, client).await,
        Applicant::Visitor { email } => Ok(vec![email.as_str().to_owned().into()]),
    }
}

fn client_gets_credentials(config: &Config) -> bool {
    match config.credential_recipients {
        CredentialRecipients::Client | CredentialRecipients::Both => true,
        CredentialRecipients::Applicant => false,
    }
}

fn applicant_gets_credentials(config: &Config) -> bool {
    match config.credential_recipients {
        CredentialRecipients::Applicant | CredentialRecipients::Both => true,
        CredentialRecipients::Client => false,
    }
}

/// Whose key that is.
pub(super) async fn owner_of_key(conn: &mut Conn, key: &CredentialId) -> Result<Option<ClientId>, DbError> {
    Ok(keys::by_id(conn, key).await?.map(|key| key.client))
}

/// What a client is called; one that is gone by its id.
pub(super) async fn client_name(conn: &mut Conn, id: &ClientId) -> Result<String, DbError> {
    let client = clients::by_id(conn, id.as_str()).await?;
    Ok(client.map_or_else(|| id.0.clone(), |client| client.display_name))
}

/// What APIs are called; those that are gone by their uid.
pub(super) async fn api_names(conn: &mut Conn, uids: &BTreeSet<ApiUid>) -> Result<Vec<String>, DbError> {
    let listed: Vec<ApiUid> = uids.iter().cloned().collect();
    let mut names: BTreeMap<ApiUid, String> = catalog::known_apis(conn, &listed)
        .await?
        .into_iter()
        .map(|api| {
            (api.uid, if api.name.is_empty() { format!("{} {}", api.module, api.id) } else { api.name })
        })
        .collect();
    Ok(listed.into_iter().map(|uid| names.remove(&uid).unwrap_or(uid.0)).collect())
}

/// What whoever did a step is called, and on whose behalf.
pub(super) async fn doer(conn: &mut Conn, step: &Step) -> Result<String, DbError> {
    let actor = actor_name(conn, &step.actor).await?;
    Ok(match &step.on_behalf_of {
        Some(principal) => format!("{actor} on behalf of {}", actor_name(conn, principal).await?),
        None => actor,
    })
}

/// What whoever did something is called.
pub(super) async fn actor_name(conn: &mut Conn, actor: &str) -> Result<String, DbError> {
    if actor == Step::BY_ITSELF {
        return Ok("Keygate".to_owned());
    }
    match Applicant::parse(actor) {
        Some(who) => applicant_name(conn, &who).await,
        None => Ok(actor.to_owned()),
    }
}

/// The key that a form is about, as mails name it.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyNamed {
    /// As it is now; of a key that is asked for, as asked.
    pub name: Option<String>,
    /// What calls name it by; none: there is none yet.
    pub api_key: Option<String>,
    /// What it is to open; of one that is to be revoked, what it opens.
    pub apis: BTreeSet<ApiUid>,
}

/// Which key `form` is about; nothing where it asks for a client.
pub(super) async fn key_of(conn: &mut Conn, form: &Form) -> Result<KeyNamed, DbError> {
    let asked = form.terms();
    let found = match form.key() {
        Some(key) => keys::by_id(conn, key).await?,
        None => None,
    };
    let apis = asked.map(|terms| &terms.apis).or(found.as_ref().map(|key| &key.apis));
    Ok(KeyNamed {
        apis: apis.cloned().unwrap_or_default(),
        name: match &found {
            Some(key) => Some(key.name.as_str().to_owned()),
            None => asked.map(|terms| terms.name.clone()),
        },
        api_key: found.map(|key| key.api_key.as_str().to_owned()),
    })
}

/// What those are called who did these steps, and on whose behalf, by what steps call them.
pub(super) async fn names_of(conn: &mut Conn, history: &[Step]) -> Result<BTreeMap<String, String>, DbError> {
    let acted: BTreeSet<&String> =
        history.iter().flat_map(|step| std::iter::once(&step.actor).chain(&step.on_behalf_of)).collect();
    let mut names = BTreeMap::new();
    for who in acted {
        names.insert(who.clone(), actor_name(conn, who).await?);
    }
    Ok(names)
}

/// What the applicant is called; one that is gone by its id.
pub(super) async fn applicant_name(conn: &mut Conn, applicant: &Applicant) -> Result<String, DbError> {
    match applicant {
        Applicant::Operator(id) => {
            let operator = operators::find(conn, id).await?;
            Ok(operator.map_or_else(|| id.clone(), |operator| operator.display_name))
        }
        Applicant::Client(client) => client_name(conn, client).await,
        Applicant::Visitor { email } => Ok(email.as_str().to_owned()),
    }
}

/// Where operators see a form; none: there is no console, and commands show it.
pub(super) fn link(app: &App, application: &Application) -> Option<String> {
    app.config.console_page(&format!("applications/{}", application.id))
}

/// Id and name of the client that a form is about, or those that it asks for.
pub(super) async fn client_of(conn: &mut Conn, form: &Form) -> Result<(String, String), DbError> {
    Ok(match (form.client(), form.registration()) {
        (Some(client), _) => (client.0.clone(), client_name(conn, client).await?),
        (None, Some(asked)) => (asked.name.as_str().to_owned(), asked.display_name.clone()),
        (None, None) => (String::new(), String::new()),
    })
}
