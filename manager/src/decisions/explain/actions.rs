//! Puts together what a gate would be given, and has it judged.

use gate::denial::Denial;
use gate::directory::DirectoryError;
use gate::grant::{GrantError, HeldGrant};
use gate::id::ClientId;
use gate::time::UnixMillis;
use gate::wire::exchange::{Grant, MeterKind};

use super::model::{self, Described, Explanation, Limits, MeterState};
use crate::app::App;
use crate::changes;
use crate::clients;
use crate::db::{Conn, DbError};
use crate::feed::{self, Directory, Named};
use crate::gateways;
use crate::keys;
use crate::quotas;
use crate::x_api_keys;

/// Keys, and X-Api-Keys, of one client that are looked at together.
const MAX_OF_CLIENT: i64 = 50;

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// Nobody has that credential.
    #[error(
        "{named} is the id of no credential: a DGRK key's is key_…, an X-Api-Key's xak_…, a token's tk_…, a client's \
         own id and password are basic:<client>. A request with a credential that nobody has is refused with \
         credential_unknown"
    )]
    NoCredential {
        /// As asked.
        named: String,
    },
    /// There is no such client.
    #[error("there is no client {named}")]
    NoClient {
        /// As asked.
        named: String,
    },
    /// Nobody has that key.
    #[error(
        "no DGRK key has that public text: a request that presents it is refused with credential_unknown"
    )]
    NoApiKey,
    /// There is no such gateway.
    #[error("there is no gateway {named}: GET /api/v1/gateways lists them")]
    NoGateway {
        /// As asked.
        named: String,
    },
    /// The client may call from some addresses alone.
    #[error("client {client} may call from some addresses alone: say from which address the request comes")]
    NoAddress {
        /// Its id.
        client: String,
    },
    /// A gate would not take the grant.
    #[error("gates cannot use what is on record of this credential, and refuse it: {0}")]
    Grant(String),
    /// A gate would not take the directory.
    #[error("gates cannot use the directory: {0}")]
    Directory(DirectoryError),
    /// The database is to blame.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// What would be decided of a request.
pub async fn explain(app: &App, described: &Described) -> Result<Explanation, ExplainError> {
    let directory = match feed::directory_as_given(app, None, None).await? {
        Directory::Answer(answer) => *answer,
        Directory::Unchanged => return Err(ExplainError::Db(DbError::Sqlx(sqlx::Error::RowNotFound))),
    };
    let envoys = match &described.gateway {
        Some(named) => envoys_of(app, named).await?,
        None => Vec::new(),
    };
    let now = described.at.unwrap_or_else(|| app.now());
    let mut read = app.db.snapshot().await?;
    let head = changes::head(&mut read).await?;
    let granted = match &described.credential {
        None => None,
        Some(named) => {
            let granted = feed::grant_of(&mut read, app, named, now).await?;
            Some(granted.ok_or_else(|| match named {
                Named::Id(id) => ExplainError::NoCredential { named: id.0.clone() },
                Named::ApiKey(_) => ExplainError::NoApiKey,
            })?)
        }
    };
    let mut limits = Limits::default();
    if let Some((_, grant)) = &granted {
        limits.meters = meters(&mut read, grant, now).await?;
    }
    drop(read);
    let held = match granted {
        Some((kind, grant)) => Some((kind, HeldGrant::new(grant).map_err(refused)?)),
        None => None,
    };
    let of = held.as_ref().map(|(kind, grant)| (*kind, grant));
    let judged = model::judge(directory, described, of, &limits, now).map_err(ExplainError::Directory)?;
    if let (Some(Denial::AddressNotAllowed { .. }), None, Some((_, held))) =
        (&judged.denial, described.address, of)
    {
        return Err(ExplainError::NoAddress { client: held.wire.client.0.clone() });
    }
    Ok(Explanation {
        at: now,
        api: judged.api,
        denial: judged.denial,
        grant: held.map(|(kind, held)| (kind, held.wire)),
        limits,
        capacity: judged.settings.capacity,
        directory: judged.directory,
        feed: head.revision,
        envoys,
    })
}

fn refused(error: GrantError) -> ExplainError {
    ExplainError::Grant(error.to_string())
}

/// The grant's meters as the ledger has them.
async fn meters(conn: &mut Conn, grant: &Grant, now: UnixMillis) -> Result<Vec<MeterState>, DbError> {
    let mut states = Vec::with_capacity(grant.meters.len());
    for granted in &grant.meters {
        let owner = match granted.kind {
            MeterKind::ClientQuota => grant.client.as_str(),
            MeterKind::KeyUses | MeterKind::TokenUses => grant.credential.as_str(),
        };
        let Some(meter) = quotas::meter_of(conn, granted.kind, owner).await? else { continue };
        let meter = meter.at(now);
        let outstanding = quotas::outstanding(conn, &meter, now).await?;
        states.push(MeterState {
            meter: meter.id,
            kind: meter.kind,
            limit: meter.in_force(),
            remaining: meter.remaining(),
            leased: outstanding.leased,
            withheld: outstanding.withheld,
            generation: meter.generation,
            window_ends_at: meter.window.map(|window| window.end),
        });
    }
    Ok(states)
}

/// The Envoys of a gateway, by its id or name.
async fn envoys_of(app: &App, named: &str) -> Result<Vec<gateways::Envoy>, ExplainError> {
    let overview = gateways::overview(app).await?;
    let gateway = overview.gateways.iter().find(|gateway| gateway.id == named || gateway.name == named);
    let Some(gateway) = gateway else { return Err(ExplainError::NoGateway { named: named.into() }) };
    let id = gateway.id.clone();
    Ok(overview.envoys.into_iter().filter(|envoy| envoy.gateway == id).collect())
}

/// The credentials of a client, for whoever does not know which one its caller presents.
pub async fn credentials_of(app: &App, client: &str) -> Result<Vec<Named>, ExplainError> {
    let mut read = app.db.read().await?;
    if clients::by_id(&mut read, client).await?.is_none() {
        return Err(ExplainError::NoClient { named: client.into() });
    }
    let id = ClientId::from(client);
    let keys = keys::list(&mut read, Some(&id), "", MAX_OF_CLIENT).await?;
    let others = x_api_keys::of_client(&mut read, &id, MAX_OF_CLIENT).await?;
    let ids = keys.into_iter().map(|key| key.id).chain(others.into_iter().map(|key| key.id));
    Ok(ids.map(Named::Id).collect())
}
