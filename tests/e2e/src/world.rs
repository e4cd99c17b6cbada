//! A whole installation on loopback: upstream, mail catcher, manager, a proxy before it, Envoys.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::api::Operator;
use crate::client::{Answer, Call};
use crate::commits::postgres::Commits;
use crate::envoy::{Envoy, Listener, Wiring};
use crate::faulty_proxy::FaultyProxy;
use crate::line::Line;
use crate::manager::Manager;
use crate::smtp::Catcher;
use crate::upstream::Upstream;
use crate::{postgres, provision, wait};

/// How long Envoy may take to have heard of a change of the directory.
const DIRECTORY_LIMIT: Duration = Duration::from_secs(5);

/// Where the manager keeps its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    /// The default.
    Sqlite,
    /// On the server of `cargo xtask test`.
    Postgres,
    /// There too, behind a proxy that can cut transactions.
    CutPostgres,
    /// There too, each replica over a line of its own.
    LinedPostgres,
}

/// What is to be started.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many Envoys.
    pub envoys: usize,
    /// Worker threads of each.
    pub workers: u32,
    /// The filter; none: the shipped one.
    pub filter: Option<PathBuf>,
    /// Where the manager keeps its rows.
    pub database: Database,
    /// Managers besides the first; on PostgreSQL alone.
    pub replicas: usize,
    /// Further lines of `keygate.toml`: name and TOML value.
    pub settings: Vec<(&'static str, String)>,
    /// Whether the Envoys are started; otherwise the test does it.
    pub start_envoys: bool,
    /// Listeners of each Envoy besides the shipped one.
    pub listeners: Vec<Listener>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            envoys: 1,
            workers: 2,
            filter: None,
            database: Database::Sqlite,
            replicas: 0,
            settings: Vec::new(),
            start_envoys: true,
            listeners: Vec::new(),
        }
    }
}

/// One more manager on the same database, and the proxy between it and the Envoys.
pub struct Replica {
    /// The process.
    pub manager: Manager,
    /// Before it.
    pub proxy: FaultyProxy,
}

/// Everything, running.
pub struct World {
    /// Its files: configurations, database, logs. Kept until a world of the same name starts.
    pub folder: PathBuf,
    /// The API behind Envoy.
    pub upstream: Upstream,
    /// Where mails go.
    pub mail: Catcher,
    /// The control plane.
    pub manager: Manager,
    /// Between the manager and its database, where the plan says so.
    pub commits: Option<Commits>,
    /// Between the Envoys and the manager.
    pub proxy: FaultyProxy,
    /// Its further replicas.
    pub replicas: Vec<Replica>,
    /// Between each manager and the database, where the plan says so.
    pub lines: Vec<Line>,
    /// The gates.
    pub envoys: Vec<Envoy>,
    /// The first operator.
    pub admin: Operator,
}

impl World {
    /// Starts everything; `name` is unique among those that run at once.
    pub async fn start(name: &str, plan: Plan) -> Result<Self> {
        let folder = folder(name)?;
        let upstream = Upstream::start().await?;
        let mail = Catcher::start()?;

        let mut settings = vec![
            ("mail_transport", "\"smtp\"".to_owned()),
            ("smtp_host", "\"127.0.0.1\"".to_owned()),
            ("smtp_port", mail.address.port().to_string()),
            ("smtp_security", "\"none\"".to_owned()),
            // As envoy/envoy.yaml tells it. What comes to the manager by itself tells nothing.
            ("client_address_header", "\"x-keygate-caller-address\"".to_owned()),
            ("client_address_proxies", "\"127.0.0.1\"".to_owned()),
            // A machine that compiles beside the tests answers late, and that is not what they are about.
            ("quota_wait_ms", "3000".to_owned()),
        ];
        settings.retain(|(name, _)| plan.settings.iter().all(|(own, _)| own != name));
        settings.extend(plan.settings.iter().cloned());
        let (mut commits, mut lines) = (None, Vec::new());
        // One per manager; none: beside its configuration.
        let mut databases = Vec::new();
        match plan.database {
            Database::Sqlite if plan.replicas > 0 => bail!("replicas share a PostgreSQL"),
            Database::Sqlite => {}
            Database::Postgres => {
                databases = vec![postgres::create_database(name).await?; 1 + plan.replicas];
            }
            Database::CutPostgres => {
                let database = postgres::create_database(name).await?;
                let proxy = Commits::start(&postgres::server_of(&database)?).await?;
                // Statements are sent with their texts each time: that is how the proxy knows them.
                let url = postgres::through(&database, proxy.address)? + "?statement-cache-capacity=0";
                databases = vec![url; 1 + plan.replicas];
                commits = Some(proxy);
            }
            Database::LinedPostgres => {
                let database = postgres::create_database(name).await?;
                for _ in 0..=plan.replicas {
                    let line = Line::start(&postgres::server_of(&database)?).await?;
                    databases.push(postgres::through(&database, line.address)?);
                    lines.push(line);
                }
            }
        }
        let mut databases = databases.into_iter().map(|url| ("database_url", format!("{url:?}")));
        let own = |database: Option<(&'static str, String)>| {
            settings.iter().cloned().chain(database).collect::<Vec<_>>()
        };
        let mut manager = Manager::configure(&folder.join("manager"), &own(databases.next()))?;
        let printed =
            manager.run(&["operator", "create", "root", "--role", "admin", "--token", "harness"])?;
        let token = printed
            .lines()
            .find_map(|line| line.strip_prefix("token: "))
            .with_context(|| format!("`keygate operator create` printed no token:\n{printed}"))?;
        manager.start().await?;
        let admin = Operator::with_token(manager.address, "root", token);
        let proxy = FaultyProxy::start(manager.address).await?;
        let mut replicas = Vec::new();
        for (number, database) in (1..=plan.replicas).zip(databases) {
            let mut settings = own(Some(database));
            let kek = manager.folder().join("keygate.kek");
            settings.push(("kek_file", format!("{:?}", kek.display().to_string())));
            let mut manager = Manager::configure(&folder.join(format!("replica-{number}")), &settings)?;
            manager.start().await?;
            let proxy = FaultyProxy::start(manager.address).await?;
            replicas.push(Replica { manager, proxy });
        }

        let mut envoys = Vec::new();
        for number in 1..=plan.envoys {
            let gateway = format!("edge-{number}");
            let wiring = Wiring {
                workers: plan.workers,
                filter: plan.filter.clone().map_or_else(provision::filter, Ok)?,
                upstream: upstream.address,
                manager: proxy.address,
                replicas: replicas.iter().map(|replica| replica.proxy.address).collect(),
                token: gateway_token(&manager, &gateway)?,
                listeners: plan.listeners.clone(),
            };
            let mut envoy = Envoy::configure(&folder.join(&gateway), wiring)?;
            if plan.start_envoys {
                envoy.start().await?;
            }
            envoys.push(envoy);
        }
        Ok(Self { folder, upstream, mail, manager, commits, proxy, replicas, lines, envoys, admin })
    }

    /// A token for one more Envoy.
    pub fn gateway_token(&self, name: &str) -> Result<String> {
        gateway_token(&self.manager, name)
    }

    /// The first Envoy.
    pub fn envoy(&self) -> &Envoy {
        self.envoys.first().expect("the plan has an Envoy")
    }

    /// One call to the first Envoy, over HTTP/1.1.
    pub async fn call(&self, call: &Call) -> Result<Answer> {
        self.envoy().call(call).await
    }

    /// Waits until all workers of all Envoys know an API that was just registered: until `call`
    /// is no longer answered 404 `api_not_found` on many connections.
    pub async fn until_known(&self, call: &Call) -> Result<()> {
        for envoy in &self.envoys {
            let mut known_in_a_row = 0;
            let started = wait::now();
            // Connections spread over the workers; that many in a row leave hardly one out.
            while known_in_a_row < 16 {
                let unknown = envoy.call(call).await?.code() == "api_not_found";
                known_in_a_row = if unknown { 0 } else { known_in_a_row + 1 };
                if started.elapsed() > DIRECTORY_LIMIT {
                    bail!(
                        "{} {} is not known to Envoy after {} ms",
                        call.method,
                        call.path,
                        DIRECTORY_LIMIT.as_millis()
                    );
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(())
    }
}

/// A token for one Envoy, as an operator gets it on the command line.
fn gateway_token(manager: &Manager, name: &str) -> Result<String> {
    let printed = manager.run(&["gateway", "add", name])?;
    printed
        .lines()
        .find_map(|line| line.trim().strip_prefix("token: "))
        .map(|token| token.trim().to_owned())
        .with_context(|| format!("`keygate gateway add` printed no token:\n{printed}"))
}

/// target/e2e/<name>, empty.
pub fn folder(name: &str) -> Result<PathBuf> {
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => provision::root().join(target),
        None => provision::root().join("target"),
    };
    let folder = target.join("e2e").join(name);
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("empty {}", folder.display()));
        }
        Ok(()) | Err(_) => (),
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder.canonicalize()?)
}
