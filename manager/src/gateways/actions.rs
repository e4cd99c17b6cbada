//! Adding gateways, rotating their tokens, and letting them in.

use gate::id::Epoch;
use gate::time::UnixMillis;
use serde_json::{Value, json};

use super::model::{Envoy, Gateway, GatewayName, GatewayToken, MAX_LIVE_TOKENS, MAX_NAME_CHARS, Token, hash};
use super::sightings::note_waiting;
use super::store;
use crate::app::App;
use crate::audit;
use crate::changes::{self, Head};
use crate::db::{DbError, Write};

/// Envoys in the overview at most, the ones seen last.
pub const MAX_ENVOYS_SHOWN: i64 = 1_000;

/// A token that was just made. The clear text is nowhere else.
#[derive(Debug)]
pub struct Issued {
    /// Whose.
    pub gateway: Gateway,
    /// Names the token for its revocation.
    pub token_id: String,
    /// The token.
    pub token: GatewayToken,
}

/// Everything known of the gateways and of the Envoys behind them.
#[derive(Debug)]
pub struct Overview {
    /// All gateways by name.
    pub gateways: Vec<Gateway>,
    /// Their live tokens.
    pub tokens: Vec<Token>,
    /// The Envoys seen last.
    pub envoys: Vec<Envoy>,
    /// Where the change feed stands.
    pub head: Head,
}

/// Why an action on gateways cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Not a name.
    #[error("a gateway's name has 1 to {MAX_NAME_CHARS} letters, digits, `-`, `_` or `.`")]
    Name,
    /// There is one of that name.
    #[error("there is a gateway named {name}; `keygate gateway rotate {name}` gives it a second token")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// There is none of that id or name.
    #[error("no gateway has the id or name {gateway}")]
    NotFound {
        /// As asked for.
        gateway: String,
    },
    /// Two tokens are live.
    #[error("{gateway} has {MAX_LIVE_TOKENS} live tokens; revoke the one that no Envoy uses any more: {}", live.join(", "))]
    TooManyTokens {
        /// The gateway's name.
        gateway: String,
        /// Ids of its tokens.
        live: Vec<String>,
    },
    /// It has no such live token.
    #[error("{gateway} has no live token {token}; live: {}", live.join(", "))]
    NoSuchToken {
        /// The gateway's name.
        gateway: String,
        /// As asked for.
        token: String,
        /// Ids of its tokens.
        live: Vec<String>,
    },
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Why a gateway is not let in.
#[derive(Debug, thiserror::Error)]
pub enum Stranger {
    /// It shows no token.
    #[error("send the gateway's token as `Authorization: Bearer …`; `keygate gateway add NAME` prints one")]
    NoToken,
    /// It shows one that is unknown or revoked.
    #[error("the gateway token is unknown or revoked; `keygate gateway rotate NAME` prints a new one")]
    WrongToken,
    /// It speaks for another gateway's Envoy.
    #[error("this holder id belongs to another gateway: each Envoy draws its own")]
    OthersHolder,
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Adds a gateway with its first token. `by` is who does it, as the audit trail names it.
pub async fn add(app: &App, name: &str, by: &str) -> Result<Issued, GatewayError> {
    let now = app.now();
    let name = GatewayName::parse(name).ok_or(GatewayError::Name)?;
    let gateway = Gateway { id: app.random.id("gw"), name: name.to_string(), created_at: now };
    let mut write = app.db.write("gateways.add").await?;
    store::insert(&mut write, &gateway.id, &name, now).await.map_err(|error| {
        if error.violates("gateways_name_key") {
            GatewayError::NameTaken { name: name.to_string() }
        } else {
            error.into()
        }
    })?;
    let issued = issue(app, &mut write, gateway, now).await?;
    let detail = json!({"name": name.as_str(), "token_id": issued.token_id});
    let entry = entry(by, "gateways.add", &issued.gateway, detail);
    audit::record(&mut write, entry, now).await?;
    write.commit().await?;
    Ok(issued)
}

/// Gives a gateway a second token, to be put in place before the first is revoked.
pub async fn rotate(app: &App, gateway: &str, by: &str) -> Result<Issued, GatewayError> {
    let now = app.now();
    let mut write = app.db.write("gateways.rotate").await?;
    let (gateway, live) = lock(&mut write, gateway).await?;
    if live.len() >= MAX_LIVE_TOKENS {
        return Err(GatewayError::TooManyTokens { gateway: gateway.name, live });
    }
    let issued = issue(app, &mut write, gateway, now).await?;
    let entry = entry(by, "gateways.rotate", &issued.gateway, json!({"token_id": issued.token_id}));
    audit::record(&mut write, entry, now).await?;
    write.commit().await?;
    Ok(issued)
}

/// Ends a token: the next call that shows it is refused.
pub async fn revoke(app: &App, gateway: &str, token: &str, by: &str) -> Result<(), GatewayError> {
    let now = app.now();
    let mut write = app.db.write("gateways.revoke").await?;
    let (gateway, live) = lock(&mut write, gateway).await?;
    if !store::revoke_token(&mut write, &gateway.id, token, now).await? {
        return Err(GatewayError::NoSuchToken { gateway: gateway.name, token: token.into(), live });
    }
    let entry = entry(by, "gateways.revoke", &gateway, json!({"token_id": token}));
    audit::record(&mut write, entry, now).await?;
    write.commit().await?;
    Ok(())
}

/// Begins a new life of the database, so that nothing from after the backup is taken for known.
pub async fn after_restore(app: &App, by: &str) -> Result<Epoch, DbError> {
    let now = app.now();
    let fresh = Epoch(app.random.number());
    let mut write = app.db.write("gateways.after_restore").await?;
    let known = changes::head(&mut write).await?.epoch;
    changes::renew_epoch(&mut write, known, fresh).await?;
    let entry = audit::Entry {
        actor: by.into(),
        action: "gateways.after_restore",
        subject: "database".into(),
        detail: json!({"epoch_before": known, "epoch": fresh}),
    };
    audit::record(&mut write, entry, now).await?;
    write.commit().await?;
    Ok(fresh)
}

/// What `GET /api/v1/gateways` shows.
pub async fn overview(app: &App) -> Result<Overview, DbError> {
    note_waiting(app).await;
    let mut read = app.db.snapshot().await?;
    Ok(Overview {
        gateways: store::list(&mut read).await?,
        tokens: store::live_tokens(&mut read).await?,
        envoys: store::envoys(&mut read, MAX_ENVOYS_SHOWN).await?,
        head: changes::head(&mut read).await?,
    })
}

/// The gateway that a call of the gateway API comes from.
pub async fn authenticate(app: &App, unverified_token: Option<&str>) -> Result<Gateway, Stranger> {
    let token = unverified_token.ok_or(Stranger::NoToken)?;
    let mut read = app.db.read().await?;
    store::by_token(&mut read, &hash(token)).await?.ok_or(Stranger::WrongToken)
}

/// Refuses a holder that another gateway has named.
pub async fn own(app: &App, gateway: &Gateway, holder: gate::id::HolderId) -> Result<(), Stranger> {
    let known = store::holder(&mut *app.db.read().await?, &holder.to_string()).await?;
    match known {
        Some((owner, _)) if owner != gateway.id => Err(Stranger::OthersHolder),
        Some(_) | None => Ok(()),
    }
}

async fn issue(app: &App, write: &mut Write, gateway: Gateway, now: UnixMillis) -> Result<Issued, DbError> {
    let token = GatewayToken::from_random(app.random.bytes());
    let token_id = app.random.id("gwt");
    store::insert_token(write, &token_id, &gateway.id, &token.hash(), now).await?;
    Ok(Issued { gateway, token_id, token })
}

/// The gateway, locked, and the ids of its live tokens.
async fn lock(write: &mut Write, gateway: &str) -> Result<(Gateway, Vec<String>), GatewayError> {
    let found = store::lock(write, gateway).await?;
    let gateway = found.ok_or_else(|| GatewayError::NotFound { gateway: gateway.into() })?;
    let live = store::live_tokens(write).await?;
    let live = live.into_iter().filter(|token| token.gateway == gateway.id).map(|token| token.id).collect();
    Ok((gateway, live))
}

fn entry(by: &str, action: &'static str, gateway: &Gateway, detail: Value) -> audit::Entry {
    audit::Entry { actor: by.into(), action, subject: format!("gateway:{}", gateway.id), detail }
}
