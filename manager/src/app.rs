//! What every handler and job is given: database, clock, randomness, vault, settings, counters.

use std::sync::Arc;

use gate::time::UnixMillis;

use crate::audit;
use crate::clock::{Clock, Random};
use crate::config::Config;
use crate::db::{Db, DbError};
use crate::feed;
use crate::gateways;
use crate::idempotency;
use crate::identity_provider;
use crate::jobs;
use crate::operators;
use crate::password;
use crate::right_passwords::RightPasswords;
use crate::telemetry::Metrics;
use crate::tokens;
use crate::vault::{Kek, Vault, VaultError};
use crate::wrong_passwords::WrongPasswords;

/// The running manager. Clones are the same one.
#[derive(Clone, Debug)]
pub struct App {
    /// The database.
    pub db: Db,
    /// The only clock.
    pub clock: Clock,
    /// The only source of ids and secrets.
    pub random: Random,
    /// Secrets at rest.
    pub vault: Vault,
    /// The settings.
    pub config: Arc<Config>,
    /// Counters.
    pub metrics: Metrics,
    /// Names this process among the replicas.
    pub replica: String,
    /// How its jobs fare.
    pub job_board: jobs::Board,
    /// Whose turn it is to verify the audit trail.
    pub verifying: audit::Turn,
    /// Where calls wait that anybody may make and that cost a hash.
    pub passwords: password::Queue,
    /// Last uses of operators' tokens that are being written.
    pub token_uses: operators::Uses,
    /// What the calls of gateways share.
    pub feed: feed::Shared,
    /// The Envoys that call it.
    pub sightings: gateways::Sightings,
    /// Calls with an `Idempotency-Key` that are being carried out.
    pub idempotency: idempotency::Running,
    /// Passwords of clients that were right a moment ago.
    pub right_passwords: RightPasswords,
    /// What is known of the OpenID provider.
    pub identity_provider: identity_provider::Shared,
    /// What the calls of the token endpoint share.
    pub tokens: tokens::Shared,
    /// Wrong passwords by the caller's address.
    pub wrong_passwords: WrongPasswords,
}

/// Why the manager cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The secrets.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

impl App {
    /// Connects to everything that the settings name; the schema is brought up to date.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let (clock, random) = (Clock::System, Random::System);
        tokens::keys::install_signer();
        let replica = random.id("rp");
        let kek = Kek::load(&config, &random)?;
        let metrics = Metrics::default();
        let db = Db::connect_with(&config.database(), metrics.clone()).await?;
        let vault = Vault::open_database(&db, &kek, &random, clock.now()).await?;
        let config = Arc::new(config);
        Ok(Self {
            db,
            clock,
            random,
            vault,
            config,
            metrics,
            replica,
            job_board: jobs::Board::default(),
            verifying: audit::Turn::default(),
            passwords: password::Queue::default(),
            token_uses: operators::Uses::default(),
            feed: feed::Shared::default(),
            sightings: gateways::Sightings::default(),
            idempotency: idempotency::Running::default(),
            identity_provider: identity_provider::Shared::default(),
            right_passwords: RightPasswords::default(),
            tokens: tokens::Shared::default(),
            wrong_passwords: WrongPasswords::default(),
        })
    }

    /// The present.
    pub fn now(&self) -> UnixMillis {
        self.clock.now()
    }
}
