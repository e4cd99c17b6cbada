//! Users, without what is secret of them.

use std::collections::BTreeMap;

use super::{PAGE, spec};
use crate::db::{Conn, DbError};
use crate::definitions::model::{Defined, Kind, Spec as _, Wanted};
use crate::definitions::plan::{Kept, Plan, Present, Steps};
use crate::definitions::work::{Managed, Names, Refusal, Work};
use crate::operators::Email;
use crate::users::{self, Changes, NewUser, OrgId, User, UserError, UserName, UserStatus};

spec! {
    /// A user, as `POST /api/v1/users` takes it, but for its password and what an OpenID provider calls it.
    pub struct UserSpec {
        /// What is typed to sign in; never changes.
        name: String,
        /// For people.
        display_name: String,
        /// Where the user is written to.
        email: Option<String>,
        /// The organisation, as tokens tell it.
        org_id: Option<String>,
        /// Whether it may sign in.
        status: UserStatus,
    }

    impl Spec {
        const KIND: Kind = Kind::User;
        const IDENTITY: &'static [&'static str] = &["name"];
        const REQUIRED: &'static [&'static str] = &[];

        fn id(&self) -> String {
            let name = self.name.clone().unwrap_or_default();
            // Letters of both cases are the same.
            UserName::parse(&name).map_or(name, |name| name.to_string())
        }
    }
}

impl Managed for UserSpec {
    fn wanted(wanted: &Wanted) -> &[Defined<Self>] {
        &wanted.users
    }

    fn present(present: &mut Present) -> &mut BTreeMap<String, Kept<Self>> {
        &mut present.users
    }

    fn steps(plan: &Plan) -> &Steps<Self> {
        &plan.users
    }

    async fn read_all(conn: &mut Conn, _: &Names) -> Result<Vec<Kept<Self>>, DbError> {
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let page = users::page(conn, &after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(all) };
            after = last.name.to_string();
            all.extend(page.into_iter().map(kept));
        }
    }

    async fn create(&self, conn: &mut Conn, work: &mut Work<'_>) -> Result<Kept<Self>, Refusal> {
        let new = NewUser {
            name: UserName::parse(&self.id()).map_err(|reason| Refusal::Field("name", reason))?,
            display_name: self.display_name.clone().unwrap_or_default(),
            email: self.email()?.flatten(),
            org_id: self.org_id()?.flatten(),
            password: None,
            imported_hash: None,
            identity: None,
        };
        let made = users::create_in(conn, work.app, work.by, new, None, work.now).await?;
        let Some(status) = self.status.filter(|status| *status != made.status) else { return Ok(kept(made)) };
        let changes = Changes { status: Some(status), ..Changes::default() };
        let (id, version) = (made.id.as_str(), Some(made.version));
        Ok(kept(users::update_in(conn, work.by, id, version, changes, None, work.now).await?))
    }

    async fn update(
        &self,
        before: &Kept<Self>,
        conn: &mut Conn,
        work: &mut Work<'_>,
    ) -> Result<Kept<Self>, Refusal> {
        let changes = Changes {
            display_name: self.display_name.clone(),
            email: self.email()?,
            org_id: self.org_id()?,
            status: self.status,
            ..Changes::default()
        };
        let (id, version) = (before.handle.as_str(), Some(before.version));
        Ok(kept(users::update_in(conn, work.by, id, version, changes, None, work.now).await?))
    }

    async fn delete(kept: &Kept<Self>, _: &mut Conn, _: &mut Work<'_>) -> Result<(), Refusal> {
        Err(Refusal::Whole(format!("tokens and the audit trail name {}: disable it instead", kept.handle)))
    }
}

impl UserSpec {
    /// Keeps others from the user until the transaction ends; as it is now, if it is there.
    pub async fn take(conn: &mut Conn, name: &str) -> Result<Option<Kept<Self>>, DbError> {
        Ok(users::hold(conn, name).await?.map(kept))
    }

    fn email(&self) -> Result<Option<Option<Email>>, Refusal> {
        let parse = |email: &Option<String>| email.as_deref().map(Email::parse).transpose();
        self.email.as_ref().map(parse).transpose().map_err(|reason| Refusal::Field("email", reason))
    }

    fn org_id(&self) -> Result<Option<Option<OrgId>>, Refusal> {
        let parse = |org_id: &Option<String>| org_id.as_deref().map(OrgId::parse).transpose();
        self.org_id.as_ref().map(parse).transpose().map_err(|reason| Refusal::Field("org_id", reason))
    }
}

fn kept(user: User) -> Kept<UserSpec> {
    // Every field is named, so that a new one is not forgotten.
    let User {
        id,
        name,
        display_name,
        email,
        org_id,
        identity: _,
        status,
        has_password: _,
        failed_attempts: _,
        created_at: _,
        updated_at: _,
        version,
        token_epoch: _,
    } = user;
    let spec = UserSpec {
        name: Some(name.to_string()),
        display_name: Some(display_name),
        email: Some(email.map(|email| email.as_str().to_owned())),
        org_id: Some(org_id.map(|org_id| org_id.as_str().to_owned())),
        status: Some(status),
    };
    Kept { spec, handle: id, version, aside: 0 }
}

impl From<UserError> for Refusal {
    fn from(error: UserError) -> Self {
        let told = error.to_string();
        match error {
            UserError::NameTaken { .. } => Self::Field("name", told),
            UserError::Invalid { field, reason } => Self::Field(field, reason),
            UserError::NotFound { .. } | UserError::Version { .. } => Self::changed_meanwhile(),
            UserError::IdentityTaken | UserError::WrongPassword | UserError::NotActive { .. } => {
                Self::Whole(told)
            }
            UserError::Db(error) => Self::Db(error),
        }
    }
}
