//! What a credential may do, put together from what the capabilities know of it.

use gate::id::{ClientId, CredentialId, GroupId};
use gate::request::CredentialKind;
use gate::time::{Interval, UnixMillis};
use gate::wire::exchange::{ClientStatus, Grant, Meter, MeterKind, Permission, Presented, Proof, Resolved};

use crate::app::App;
use crate::clients::token_settings::{self, GrantType};
use crate::clients::{self, Client, Verified};
use crate::config::LockoutScope;
use crate::db::{Conn, DbError};
use crate::keys::{self, KeyState, UseQuota};
use crate::quotas::{self, LeaseTerms};
use crate::tokens::{self, Ending, Token};
use crate::users::{self, UserStatus};
use crate::x_api_keys::{self, XApiKey};

/// How long a grant is kept at most if no change names it: half of what its service times cover, so that
/// they never run out at a gateway.
pub const KEEP_S: u32 = 86_400;
const _: () = assert!(clients::service_time::AHEAD_MS >= 2 * 1_000 * KEEP_S as i64);

/// What is known of a credential, apart from its client.
struct Credential {
    id: CredentialId,
    proof: Proof,
    active: bool,
    revoked_at: Option<UnixMillis>,
    validity: Option<Interval>,
    permission: Permission,
    uses: Option<quotas::Meter>,
    /// The grant is not kept beyond it.
    keep_until: Option<UnixMillis>,
}

/// A credential as its presenter may be told of it. Everything is read from `conn`, a snapshot
/// whose revision was read before. `verified` of a Basic was found out before it too, so that it is
/// asked again whether it is right.
pub async fn resolve(
    conn: &mut Conn,
    app: &App,
    presented: &Presented,
    verified: Option<&Verified>,
    now: UnixMillis,
) -> Result<Resolved, DbError> {
    let found = match presented {
        Presented::Dgrk { api_key } => of_key(conn, app, api_key, now).await?,
        Presented::XApiKey { sha256 } => of_x_api_key(conn, sha256).await?,
        Presented::Basic { .. } => match verified {
            Some(verified) => of_basic(conn, verified).await?,
            None => None,
        },
        Presented::Bearer { sha256 } => match tokens::by_sha256(conn, sha256).await? {
            Some(token) => of_token(conn, token, now).await?,
            None => None,
        },
    };
    let Some((client, credential)) = found else { return Ok(Resolved::Unknown) };
    let quota = quotas::meter_of(conn, MeterKind::ClientQuota, client.id.as_str()).await?;
    Ok(Resolved::Known { grant: Box::new(grant(app, &client, credential, quota, now)) })
}

/// A credential as an operator names it: nothing secret is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A DGRK key by its public text.
    ApiKey(String),
    /// Any credential by its id: a key's, an X-Api-Key's, a token's, `basic:<client>`.
    Id(CredentialId),
}

/// The grant that a gate would be given of a credential, and its kind. It is as if the secret had
/// been proven, and there is none in it.
pub async fn grant_of(
    conn: &mut Conn,
    app: &App,
    named: &Named,
    now: UnixMillis,
) -> Result<Option<(CredentialKind, Grant)>, DbError> {
    let found = match named {
        Named::ApiKey(text) => of_key(conn, app, text, now).await?.map(|found| (CredentialKind::Dgrk, found)),
        Named::Id(id) => match id.as_str().strip_prefix(BASIC) {
            Some(client) => match clients::by_id(conn, client).await? {
                Some(client) => Some((CredentialKind::Basic, password_of(conn, client).await?)),
                None => None,
            },
            None if tokens::is_token(id.as_str()) => match tokens::by_id(conn, id.as_str()).await? {
                Some(token) => of_token(conn, token, now).await?.map(|found| (CredentialKind::Bearer, found)),
                None => None,
            },
            None if x_api_keys::is_x_api_key(id) => match x_api_keys::by_id(conn, id).await? {
                Some(key) => complete(conn, key).await?.map(|found| (CredentialKind::XApiKey, found)),
                None => None,
            },
            None => match keys::by_id(conn, id).await? {
                Some(key) => of_key(conn, app, key.api_key.as_str(), now)
                    .await?
                    .map(|found| (CredentialKind::Dgrk, found)),
                None => None,
            },
        },
    };
    let Some((kind, (client, credential))) = found else { return Ok(None) };
    let quota = quotas::meter_of(conn, MeterKind::ClientQuota, client.id.as_str()).await?;
    let credential = Credential { proof: Proof::Presented, ..credential };
    Ok(Some((kind, grant(app, &client, credential, quota, now))))
}

/// How long a gateway remembers at least what became of a token.
const ENDED_KEEP_MS: i64 = 60_000;

/// What the id of a client's own id and password begins with.
const BASIC: &str = "basic:";

/// An old secret that ends by itself is retired by a task, whose change record ends the grants that
/// gateways hold. That task may be late, cancelled or given up: so a secret whose time is over is left
/// out of every grant that is made from then on, and no grant is kept beyond the end of a secret in
/// it. Nothing signs longer than the key says, but for the part of a second to which `keep_s` is rounded.
async fn of_key(
    conn: &mut Conn,
    app: &App,
    api_key: &str,
    now: UnixMillis,
) -> Result<Option<(Client, Credential)>, DbError> {
    let Some(opened) = keys::find_by_api_key(conn, &app.vault, api_key).await? else { return Ok(None) };
    let Some(client) = clients::by_id(conn, opened.key.client.as_str()).await? else { return Ok(None) };
    let (secrets, keep_until) = (opened.signing(now), opened.next_end(now));
    let key = opened.key;
    let uses = match key.uses {
        UseQuota::Uses(_) => quotas::meter_of(conn, MeterKind::KeyUses, key.id.as_str()).await?,
        // The meter of an earlier quota only keeps what was used.
        UseQuota::Unlimited => None,
    };
    let credential = Credential {
        id: key.id,
        proof: Proof::Signature { secrets },
        active: match key.state {
            KeyState::Active | KeyState::Revoked { .. } => true,
            KeyState::Inactive => false,
        },
        revoked_at: match key.state {
            KeyState::Revoked { revoked_at } => Some(revoked_at),
            KeyState::Active | KeyState::Inactive => None,
        },
        validity: Some(key.validity),
        permission: Permission::Apis { apis: key.apis.into_iter().collect() },
        uses,
        keep_until,
    };
    Ok(Some((client, credential)))
}

async fn of_x_api_key(conn: &mut Conn, sha256: &str) -> Result<Option<(Client, Credential)>, DbError> {
    let Some(key) = x_api_keys::find_by_sha256(conn, sha256).await? else { return Ok(None) };
    complete(conn, key).await
}

async fn complete(conn: &mut Conn, key: XApiKey) -> Result<Option<(Client, Credential)>, DbError> {
    let Some(client) = clients::by_id(conn, key.client.as_str()).await? else { return Ok(None) };
    // What the client has lost since, the key has lost too.
    let still = |group: &GroupId| client.groups.contains(group);
    let credential = Credential {
        id: key.id,
        proof: Proof::Presented,
        active: true,
        revoked_at: None,
        validity: Some(key.validity),
        permission: Permission::Groups { groups: key.groups.into_iter().filter(still).collect() },
        uses: None,
        keep_until: None,
    };
    Ok(Some((client, credential)))
}

/// Its scope was fixed when it was issued; what the client has lost since, the token has lost too.
async fn of_token(
    conn: &mut Conn,
    token: Token,
    now: UnixMillis,
) -> Result<Option<(Client, Credential)>, DbError> {
    let Some(client) = clients::by_id(conn, &token.client).await? else { return Ok(None) };
    let uses = match token.uses {
        0 => None,
        _ => match quotas::meter_of(conn, MeterKind::TokenUses, &token.id).await? {
            Some(meter) => Some(meter),
            // Forgotten together with the token, while it was looked up.
            None => return Ok(None),
        },
    };
    let mut groups = client.groups.clone();
    if token.grant == GrantType::AuthorizationCode {
        // What users delegate to it.
        groups
            .extend(clients::scopes::of_client(conn, &token.client).await?.into_iter().map(|scope| scope.id));
    }
    let still = |group: &GroupId| groups.contains(group);
    let active = match &token.user {
        Some(name) => users::by_name(conn, name).await?.is_none_or(|user| user.status == UserStatus::Active),
        None => true,
    };
    let credential = Credential {
        proof: Proof::Presented,
        active,
        // While its user is stopped that is the reason, and not what it has led to.
        revoked_at: token.ended.filter(|(_, by)| active || *by != Ending::SignOut).map(|(at, _)| at),
        // From the first instant on: a node whose clock is behind takes a token that was just issued.
        validity: Some(Interval { from: UnixMillis(0), until: token.expires_at }),
        permission: Permission::Groups { groups: token.scope.into_iter().filter(still).collect() },
        uses,
        // What has ended is kept for a moment only: there are many of them.
        keep_until: Some(token.expires_at.max(UnixMillis(now.0.saturating_add(ENDED_KEEP_MS)))),
        id: CredentialId(token.id),
    };
    Ok(Some((client, credential)))
}

async fn of_basic(conn: &mut Conn, verified: &Verified) -> Result<Option<(Client, Credential)>, DbError> {
    let Some(client) = clients::still_right(conn, verified).await? else { return Ok(None) };
    password_of(conn, client).await.map(Some)
}

async fn password_of(conn: &mut Conn, client: Client) -> Result<(Client, Credential), DbError> {
    // Basic is the client's own id and password: where it may obtain no token by these, it calls
    // no API by them either.
    let saved = token_settings::of_client(conn, client.id.as_str()).await?;
    let active = saved.settings.grant_types.contains(&GrantType::ClientCredentials);
    let groups = client.groups.clone();
    let credential = Credential {
        id: CredentialId(format!("{BASIC}{}", client.id.as_str())),
        proof: Proof::Presented,
        active,
        revoked_at: None,
        validity: None,
        permission: Permission::Groups { groups },
        uses: None,
        keep_until: None,
    };
    Ok((client, credential))
}

fn grant(
    app: &App,
    client: &Client,
    credential: Credential,
    quota: Option<quotas::Meter>,
    now: UnixMillis,
) -> Grant {
    let Credential { id, proof, active, revoked_at, validity, permission, uses, keep_until } = credential;
    let leases = LeaseTerms::of(&app.config);
    Grant {
        credential: id,
        client: ClientId::from(client.id.as_str()),
        proof,
        client_status: status(app, client),
        client_validity: client.validity(),
        service_time: client.service_intervals(now),
        addresses: client.addresses(now, i64::from(app.config.host_keep_s) * 1_000),
        // Names without an address: nobody matches rather than everybody.
        bound: !client.bindings.is_empty(),
        active,
        effective_at: validity.map(|validity| validity.from),
        revoked_at,
        expires_at: validity.map(|validity| validity.until),
        permission,
        audience: client.audience,
        priority: client.priority,
        tps: client.tps,
        meters: quota.into_iter().chain(uses).map(|meter| on_wire(meter.at(now), leases)).collect(),
        utc_offset_min: client.zone.offset_min(now),
        keep_s: keep_until.map_or(KEEP_S, |until| seconds_until(until, now).min(KEEP_S)),
    }
}

/// Rounded up: a second at least, so that a grant is used for the call that it was asked for.
fn seconds_until(until: UnixMillis, now: UnixMillis) -> u32 {
    let ms = u64::try_from(until.0.saturating_sub(now.0)).unwrap_or_default();
    u32::try_from(ms.div_ceil(1_000)).unwrap_or(u32::MAX)
}

/// A lock after wrong passwords closes password credentials alone (those never come this far),
/// unless the installation wants it to close all.
fn status(app: &App, client: &Client) -> ClientStatus {
    match (client.status, app.config.lockout_scope) {
        (ClientStatus::Active, LockoutScope::All) if client.password_locked() => ClientStatus::Locked,
        (status, LockoutScope::All | LockoutScope::Password) => status,
    }
}

fn on_wire(meter: quotas::Meter, installation: LeaseTerms<u32>) -> Meter {
    Meter {
        id: meter.id,
        kind: meter.kind,
        limit: meter.in_force(),
        window_s: meter
            .window
            .map(|window| u64::try_from((window.end.0 - window.start.0) / 1_000).unwrap_or(0)),
        horizon_s: meter.leases.or(installation).horizon_s,
    }
}
