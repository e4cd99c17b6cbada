//! Clients, without what is secret of them.

use std::collections::BTreeMap;

use gate::id::GroupId;
use gate::wire::directory::Audience;
use gate::wire::exchange::ClientStatus;

use super::{PAGE, names, spec};
use crate::catalog::SecurityLevel;
use crate::clients::scopes::{self, ScopesError};
use crate::clients::token_settings::{self, TokenSettingsError, TokenSettingsForm};
use crate::clients::{self, Binding, Client, ClientError, ClientName, ClientView, Fields, Filter, NewClient};
use crate::db::{Conn, DbError};
use crate::definitions::model::{Defined, Kind, Reference, Spec, Wanted};
use crate::definitions::plan::{Kept, Plan, Present, Steps};
use crate::definitions::work::{Managed, Names, Refusal, Work};

spec! {
    /// A client, as `POST /api/v1/clients` takes it, but for its password.
    pub struct ClientSpec {
        /// Its user name; never changes.
        id: String,
        /// Its code.
        name: String,
        /// For people.
        display_name: String,
        /// Of the application, if it has one.
        application_number: Option<String>,
        /// Whether its calls are let in.
        status: ClientStatus,
        /// From where it may call; none = from everywhere.
        bindings: Vec<Binding>,
        /// First day.
        start_date: Option<String>,
        /// Last day.
        expiry_date: Option<String>,
        /// First minute of each day.
        service_from: Option<String>,
        /// Last minute of each day.
        service_until: Option<String>,
        /// Whose days and hours these are.
        time_zone: String,
        /// Calls per period; 0 = unlimited.
        quota: u64,
        /// `day`, `week`, `month` or `total`.
        quota_period: String,
        /// Seconds of demand that a lease of its quotas is meant to last for; none = the installation's.
        lease_horizon_s: Option<u32>,
        /// Percent of a limit that one lease may have; none = the installation's.
        max_lease_percent: Option<u32>,
        /// Requests per second and node; 0 = unlimited.
        tps: u32,
        /// 0 (best) to 9.
        priority: u8,
        /// From which side it may call.
        audience: Audience,
        /// Which groups and scopes it may be given.
        security_level: SecurityLevel,
        /// Names of groups.
        groups: Vec<String>,
        /// Names of scopes: what users may delegate to it.
        scopes: Vec<String>,
        /// Who owns it.
        note: String,
        /// Where its mails go, separated by commas.
        emails: Option<String>,
        /// For people.
        remark: Option<String>,
        /// Wrong passwords after which password credentials are closed.
        allowed_attempts: u32,
        /// Which tokens it may obtain.
        token_settings: TokenSettingsForm,
    }

    impl Spec {
        const KIND: Kind = Kind::Client;
        const IDENTITY: &'static [&'static str] = &["id"];
        const REQUIRED: &'static [&'static str] = &["name", "display_name", "note"];

        fn id(&self) -> String {
            self.id.clone().unwrap_or_default()
        }

        fn arrange(&mut self) {
            names(&mut self.groups);
            names(&mut self.scopes);
        }

        fn references(&self) -> Vec<Reference<'_>> {
            let (groups, scopes) = (self.groups.as_deref(), self.scopes.as_deref());
            vec![
                Reference { field: "groups", kind: Kind::Group, names: groups.unwrap_or_default() },
                Reference { field: "scopes", kind: Kind::Scope, names: scopes.unwrap_or_default() },
            ]
        }
    }
}

impl Managed for ClientSpec {
    fn wanted(wanted: &Wanted) -> &[Defined<Self>] {
        &wanted.clients
    }

    fn present(present: &mut Present) -> &mut BTreeMap<String, Kept<Self>> {
        &mut present.clients
    }

    fn steps(plan: &Plan) -> &Steps<Self> {
        &plan.clients
    }

    async fn read_all(conn: &mut Conn, names: &Names) -> Result<Vec<Kept<Self>>, DbError> {
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let page = clients::list(conn, &Filter::default(), &after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(all) };
            after = last.id.as_str().to_owned();
            for client in page {
                all.push(kept(conn, client, names).await?);
            }
        }
    }

    async fn create(&self, conn: &mut Conn, work: &mut Work<'_>) -> Result<Kept<Self>, Refusal> {
        let id = ClientName::parse_id(&self.id()).map_err(ClientError::from)?;
        let new = NewClient { id: Some(id), fields: self.entered(&work.names)?, password: None };
        let made = clients::create_in(conn, work.app, work.by, new, work.now).await?;
        let made = self.set_scopes(conn, work, made).await?;
        self.set_token_settings(conn, work, made.id.as_str(), None).await?;
        Ok(kept(conn, made, &work.names).await?)
    }

    async fn update(
        &self,
        before: &Kept<Self>,
        conn: &mut Conn,
        work: &mut Work<'_>,
    ) -> Result<Kept<Self>, Refusal> {
        let id = before.handle.as_str();
        let mut client = clients::by_id(conn, id).await?.filter(|client| client.version == before.version);
        // Scopes above a level that becomes lower go first, those of one that becomes higher come last.
        let lower = self.security_level.is_some_and(|level| Some(level) < before.spec.security_level);
        if lower && let Some(present) = client {
            client = Some(self.set_scopes(conn, work, present).await?);
        }
        let Some(client) = client else { return Err(Refusal::changed_meanwhile()) };
        let (fields, version) = (self.entered(&work.names)?, Some(client.version));
        let client = clients::update_in(conn, work.by, id, version, fields, work.now).await?;
        let client = if lower { client } else { self.set_scopes(conn, work, client).await? };
        self.set_token_settings(conn, work, id, Some(before.aside)).await?;
        Ok(kept(conn, client, &work.names).await?)
    }

    async fn delete(kept: &Kept<Self>, _: &mut Conn, _: &mut Work<'_>) -> Result<(), Refusal> {
        let reason = format!(
            "its keys and tokens would go with it: delete it by DELETE /api/v1/clients/{}, which tells what goes",
            kept.handle
        );
        Err(Refusal::Whole(reason))
    }
}

impl ClientSpec {
    /// Keeps others from the client until the transaction ends; as it is now, if it is there.
    pub async fn take(conn: &mut Conn, id: &str, names: &Names) -> Result<Option<Kept<Self>>, DbError> {
        match clients::hold(conn, id).await {
            Ok(client) => Ok(Some(kept(conn, client, names).await?)),
            Err(ClientError::Db(error)) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// Whether it says what the client's quota is made of.
    pub fn limits(&self) -> bool {
        self.quota.is_some() || self.quota_period.is_some() || self.time_zone.is_some()
    }

    /// As it would be sent over HTTP.
    fn entered(&self, names: &Names) -> Result<Fields, Refusal> {
        Ok(Fields {
            name: self.name.clone(),
            display_name: self.display_name.clone(),
            application_number: self.application_number.clone(),
            status: self.status,
            bindings: self.bindings.clone(),
            start_date: self.start_date.clone(),
            expiry_date: self.expiry_date.clone(),
            service_from: self.service_from.clone(),
            service_until: self.service_until.clone(),
            time_zone: self.time_zone.clone(),
            quota: self.quota,
            quota_period: self.quota_period.clone(),
            lease_horizon_s: self.lease_horizon_s,
            max_lease_percent: self.max_lease_percent,
            tps: self.tps,
            priority: self.priority,
            audience: self.audience,
            security_level: self.security_level,
            groups: names.handles(Kind::Group, self.groups.as_ref(), GroupId)?,
            note: self.note.clone(),
            emails: self.emails.clone(),
            remark: self.remark.clone(),
            allowed_attempts: self.allowed_attempts,
        })
    }
}

impl ClientSpec {
    /// The client as it is then: its version goes up with its scopes.
    async fn set_scopes(&self, conn: &mut Conn, work: &Work<'_>, client: Client) -> Result<Client, Refusal> {
        let Some(scopes) = work.names.handles(Kind::Scope, self.scopes.as_ref(), GroupId)? else {
            return Ok(client);
        };
        let (id, version) = (client.id.as_str(), Some(client.version));
        Ok(scopes::set_in(conn, work.by, id, version, scopes, work.now).await?.0)
    }

    async fn set_token_settings(
        &self,
        conn: &mut Conn,
        work: &Work<'_>,
        client: &str,
        expected: Option<i64>,
    ) -> Result<(), Refusal> {
        let Some(form) = &self.token_settings else { return Ok(()) };
        let settings = form.parse().map_err(TokenSettingsError::from)?;
        if token_settings::of_client(conn, client).await?.settings != settings {
            token_settings::set_in(conn, work.by, client, expected, settings, work.now).await?;
        }
        Ok(())
    }
}

async fn kept(conn: &mut Conn, client: Client, names: &Names) -> Result<Kept<ClientSpec>, DbError> {
    let saved = token_settings::of_client(conn, client.id.as_str()).await?;
    let scopes = scopes::of_client(conn, client.id.as_str()).await?;
    // Every field is named, so that a new one is not forgotten.
    let ClientView {
        id,
        name,
        display_name,
        application_number,
        status,
        bindings,
        hosts: _,
        start_date,
        expiry_date,
        service_from,
        service_until,
        time_zone,
        quota,
        quota_period,
        lease_horizon_s,
        max_lease_percent,
        tps,
        priority,
        audience,
        security_level,
        groups,
        note,
        emails,
        remark,
        password_state: _,
        password_reset_expires_at: _,
        failed_attempts: _,
        allowed_attempts,
        password_locked: _,
        locked_by: _,
        created_at: _,
        updated_at: _,
        version,
    } = ClientView::from(&client);
    let spec = ClientSpec {
        id: Some(id.as_str().to_owned()),
        name: Some(name.as_str().to_owned()),
        display_name: Some(display_name),
        application_number: Some(application_number),
        status: Some(status),
        bindings: Some(bindings),
        start_date: Some(start_date),
        expiry_date: Some(expiry_date),
        service_from: Some(service_from),
        service_until: Some(service_until),
        time_zone: Some(time_zone),
        quota: Some(quota),
        quota_period: Some(quota_period.to_owned()),
        lease_horizon_s: Some(lease_horizon_s),
        max_lease_percent: Some(max_lease_percent),
        tps: Some(tps),
        priority: Some(priority),
        audience: Some(audience),
        security_level: Some(security_level),
        groups: Some(names.names_of(Kind::Group, groups.iter().map(GroupId::as_str))),
        scopes: Some(names.names_of(Kind::Scope, scopes.iter().map(|scope| scope.id.as_str()))),
        note: Some(note),
        emails: Some(emails),
        remark: Some(remark),
        allowed_attempts: Some(allowed_attempts),
        token_settings: Some(TokenSettingsForm::from(&saved.settings)),
    };
    Ok(Kept { spec, handle: client.id.as_str().to_owned(), version, aside: saved.version })
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        let reason = error.to_string();
        match error {
            ClientError::IdTaken { .. } | ClientError::IdBuried { .. } => Self::Field("id", reason),
            ClientError::NameTaken { .. } => Self::Field("name", reason),
            ClientError::DisplayNameTaken { .. } => Self::Field("display_name", reason),
            ClientError::Invalid(fault) => Self::Field(fault.field, reason),
            ClientError::UnknownGroup { .. } | ClientError::GroupAboveLevel { .. } => {
                Self::Field("groups", reason)
            }
            ClientError::NotFound { .. } | ClientError::Version { .. } => Self::changed_meanwhile(),
            ClientError::ScopeAboveLevel { .. } => Self::Field("scopes", reason),
            ClientError::NoAddress { .. }
            | ClientError::WrongPassword
            | ClientError::NotActive { .. }
            | ClientError::ConfirmLowerLevel { .. }
            | ClientError::NotGiven { .. }
            | ClientError::Mail(_) => Self::Whole(reason),
            ClientError::Db(error) => Self::Db(error),
        }
    }
}

impl From<ScopesError> for Refusal {
    fn from(error: ScopesError) -> Self {
        match error {
            ScopesError::Unknown { .. } | ScopesError::AboveLevel { .. } | ScopesError::TooMany(_) => {
                Self::Field("scopes", error.to_string())
            }
            ScopesError::Client(error) => error.into(),
        }
    }
}

impl From<TokenSettingsError> for Refusal {
    fn from(error: TokenSettingsError) -> Self {
        match error {
            TokenSettingsError::Fault(fault) => Self::Field("token_settings", fault.to_string()),
            TokenSettingsError::Client(error) => error.into(),
        }
    }
}
