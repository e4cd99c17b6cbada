//! Users whom an OpenID provider knows.

use super::actions::{NewUser, UserError, create};
use super::model::{User, UserName, UserStatus};
use super::store;
use crate::app::App;
use crate::config::NewUsers;
use crate::db::DbError;
use crate::identity_provider::Identity;
use crate::operators::{Email, MAX_DISPLAY_NAME};

/// Who has signed in at the provider.
#[derive(Debug)]
pub enum IdentityCheck {
    /// A user who may go on.
    Known(Box<User>),
    /// Nobody here, and nobody is made.
    Unknown,
    /// A user whose account is switched off or locked.
    Stopped(UserStatus),
}

/// The user who is linked to this identity. Where the settings say so, one is made for somebody new:
/// never is one linked by a name or an address, which the provider may let people choose.
pub async fn by_identity(app: &App, identity: &Identity) -> Result<IdentityCheck, DbError> {
    // Twice: somebody else may make the same one, or take the name, in between.
    for _ in 0..3 {
        let (issuer, subject) = (&identity.issuer, &identity.subject);
        let known = store::by_identity(&mut *app.db.read().await?, issuer, subject).await?;
        match (known, app.config.oidc_new_users) {
            (Some(user), _) if user.status == UserStatus::Active => {
                return Ok(IdentityCheck::Known(Box::new(user)));
            }
            (Some(user), _) => return Ok(IdentityCheck::Stopped(user.status)),
            (None, NewUsers::Refuse) => return Ok(IdentityCheck::Unknown),
            (None, NewUsers::Create) => {}
        }
        match create(app, "openid", new_user(app, identity).await?).await {
            Ok(_) | Err(UserError::NameTaken { .. } | UserError::IdentityTaken) => {}
            Err(UserError::Db(error)) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "No user is made of what the OpenID provider says");
                return Ok(IdentityCheck::Unknown);
            }
        }
    }
    Ok(IdentityCheck::Unknown)
}

/// A user by the name that the provider tells, if that is free, else by one that nobody else has.
async fn new_user(app: &App, identity: &Identity) -> Result<NewUser, DbError> {
    let told = [identity.preferred_name.as_deref(), identity.email.as_deref()];
    let told = told.into_iter().flatten().find_map(|name| UserName::parse(name).ok());
    let free = match &told {
        Some(name) => store::by_name(&mut *app.db.read().await?, name).await?.is_none(),
        None => false,
    };
    let name = match told.filter(|_| free) {
        Some(name) => name,
        None => UserName::parse(&app.random.id("user")).expect("letters and digits"),
    };
    let display_name = identity.display_name.as_deref().unwrap_or_default();
    let display_name = display_name.chars().filter(|c| !c.is_control()).take(MAX_DISPLAY_NAME).collect();
    Ok(NewUser {
        name,
        display_name,
        email: identity.email.as_deref().and_then(|email| Email::parse(email).ok()),
        org_id: None,
        password: None,
        imported_hash: None,
        identity: Some((identity.issuer.clone(), identity.subject.clone())),
    })
}
