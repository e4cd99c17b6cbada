//! The world of a test: a manager of its own on a database of its own, a clock that stands until
//! it is moved, and actors that call through the router.
//!
//! ```ignore
//! for world in World::both().await {
//!     let admin = world.operator("ann", &["admin"]).await;
//!     let made = admin.post("/api/v1/clients", json!({..})).await.expect(201);
//! }
//! ```

mod links;
mod log_lines;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request, header};
use gate::time::UnixMillis;
use http_body_util::BodyExt as _;
use serde_json::Value;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use tower::ServiceExt as _;

use crate::app::App;
use crate::audit;
use crate::bearer;
use crate::clients;
use crate::clock::{Clock, Random};
use crate::config::{Config, MailTransport, Proxies};
use crate::db::{Conditions, Conn, DatabaseSettings, Db, DbError, Dialect};
use crate::feed;
use crate::idempotency;
use crate::jobs;
use crate::mail;
use crate::operators::{self, By, Email, NewOperator, NewToken, OperatorName, RoleName};
use crate::password;
use crate::schedule;
use crate::telemetry::Metrics;
use crate::vault::{Kek, Vault};

pub use links::by_link;
pub use log_lines::LogLines;

/// A server on which tests may create databases.
const POSTGRES_URL: &str = "KEYGATE_TEST_POSTGRES_URL";

/// A manager, its clock and its database.
pub struct World {
    /// The manager.
    pub app: App,
    router: Router,
    settings: DatabaseSettings,
    _database: Database,
}

/// Gone with the world.
#[expect(dead_code, reason = "held for the sake of their Drop")]
enum Database {
    Sqlite(tempfile::TempDir),
    Postgres(OwnDatabase),
}

struct OwnDatabase {
    server: String,
    name: String,
}

/// A database as an older version left it.
#[derive(Clone, Copy)]
struct Age<'a> {
    /// Of its last migration.
    version: i64,
    /// What has happened in it.
    statements: &'a [&'a str],
}

impl Age<'_> {
    async fn make(self, url: &str) {
        sqlx::any::install_default_drivers();
        let pool = sqlx::AnyPool::connect(url).await.expect("the database");
        let all = sqlx::migrate!("./migrations");
        let old = all.iter().filter(|migration| migration.version <= self.version).cloned().collect();
        sqlx::migrate::Migrator::with_migrations(old).run(&pool).await.expect("old migrations");
        for statement in self.statements {
            let statement = sqlx::AssertSqlSafe((*statement).to_owned());
            sqlx::query(statement).execute(&pool).await.expect("a row");
        }
        pool.close().await;
    }
}

impl World {
    /// 2026-01-15T00:00:00Z, a Thursday: where every test's clock stands at first.
    pub const START: UnixMillis = UnixMillis(1_768_435_200_000);
    /// Of every client that a test makes by [`World::client`].
    pub const CLIENT_PASSWORD: &str = "secret-of-the-client";
    /// Seed of ids, secrets and the key-encryption key.
    pub const SEED: u64 = 7;

    /// One world on each database.
    pub async fn both() -> [Self; 2] {
        Self::both_with(|_| {}).await
    }

    /// [`World::both`] with other settings.
    pub async fn both_with(adjust: impl Fn(&mut Config)) -> [Self; 2] {
        let (mut sqlite, mut postgres) = (Config::default(), Config::default());
        adjust(&mut sqlite);
        adjust(&mut postgres);
        [Self::on_sqlite(sqlite).await, Self::on_postgres(postgres).await]
    }

    /// A world on SQLite alone, where the database makes no difference.
    pub async fn sqlite() -> Self {
        Self::on_sqlite(Config::default()).await
    }

    /// [`World::sqlite`] with other settings.
    pub async fn sqlite_with(adjust: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        adjust(&mut config);
        Self::on_sqlite(config).await
    }

    /// One world on each database, both made by the migrations up to `version`, with the rows that
    /// `statements` put there, and then brought up to date.
    pub async fn both_since(version: i64, statements: &[&str]) -> [Self; 2] {
        let age = Some(Age { version, statements });
        [Self::on_sqlite_of(Config::default(), age).await, Self::on_postgres_of(Config::default(), age).await]
    }

    async fn on_sqlite(config: Config) -> Self {
        Self::on_sqlite_of(config, None).await
    }

    async fn on_postgres(config: Config) -> Self {
        Self::on_postgres_of(config, None).await
    }

    async fn on_sqlite_of(config: Config, age: Option<Age<'_>>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let url = format!("sqlite:{}", dir.path().join("keygate.db").display());
        if let Some(age) = age {
            age.make(&format!("{url}?mode=rwc")).await;
        }
        Self::start(config, url, Database::Sqlite(dir)).await
    }

    async fn on_postgres_of(config: Config, age: Option<Age<'_>>) -> Self {
        let server = std::env::var(POSTGRES_URL).unwrap_or_else(|_| {
            panic!(
                "{POSTGRES_URL} is not set: run `cargo xtask test`, which starts a PostgreSQL for the tests"
            )
        });
        let name = Random::System.id("keygate_test");
        let base = server.rsplit_once('/').expect("postgres://user@host:port/database").0;
        let url = format!("{base}/{name}");
        on_server(&server, format!("CREATE DATABASE {name}")).await;
        if let Some(age) = age {
            age.make(&url).await;
        }
        Self::start(config, url, Database::Postgres(OwnDatabase { server, name })).await
    }

    async fn start(config: Config, url: String, database: Database) -> Self {
        log_lines::install();
        let (clock, metrics) = (Clock::manual(Self::START), Metrics::default());
        let random = Random::seeded(Self::SEED);
        let kek = Kek::generate(&Random::seeded(Self::SEED));
        let replica = "rp_test".to_owned();
        let settings = DatabaseSettings { url, max_connections: 4, busy_timeout_ms: 5_000 };
        let db = Db::connect_with(&settings, metrics.clone()).await.expect("the database");
        let vault = Vault::open_database(&db, &kek, &random, clock.now()).await.expect("the vault");
        let config = Arc::new(config);
        let app = App {
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
            idempotency: idempotency::Running::default(),
            sightings: crate::gateways::Sightings::default(),
            identity_provider: crate::identity_provider::Shared::default(),
            right_passwords: crate::right_passwords::RightPasswords::default(),
            tokens: crate::tokens::Shared::default(),
            wrong_passwords: crate::wrong_passwords::WrongPasswords::default(),
        };
        Self { router: crate::router(app.clone()), app, settings, _database: database }
    }

    /// A new operator with these roles and the address `<name>@example.com`, signed in.
    pub async fn operator(&self, name: &str, roles: &[&str]) -> Caller {
        let new = NewOperator {
            name: OperatorName::parse(name).expect("a name"),
            display_name: String::new(),
            email: Some(Email::parse(&format!("{name}@example.com")).expect("an address")),
            password: None,
            roles: roles.iter().map(|role| RoleName::parse(role).expect("a role")).collect(),
        };
        let operator = operators::create(&self.app, By::Machine("test"), new).await.expect("a new operator");
        let token = NewToken { name: "test".into(), ..NewToken::default() };
        let token = operators::issue_api_token(&self.app, By::Machine("test"), &operator.id, token)
            .await
            .expect("a token");
        self.caller(Some(&token.text), &operator.id)
    }

    /// A new client of this id and name, with the password [`World::CLIENT_PASSWORD`] and the
    /// address `it@<id>.example`, signed in below `/client/v1`.
    pub async fn client(&self, id: &str) -> Caller {
        let password = password::Password::parse(Self::CLIENT_PASSWORD).expect("long enough");
        let fields = clients::Fields {
            name: Some(id.into()),
            display_name: Some(format!("{id} Ltd.")),
            note: Some("Ann".into()),
            emails: Some(Some(format!("it@{id}.example"))),
            ..clients::Fields::default()
        };
        let new = clients::NewClient {
            id: Some(clients::ClientName::parse_id(id).expect("an id")),
            fields,
            password: Some(clients::NewPassword::new(&self.app, password).await),
        };
        clients::create(&self.app, "test", new).await.expect("a new client");
        self.client_session(id).await
    }

    /// Somebody who has confirmed that address and follows that form.
    pub async fn visitor(&self, email: &str, application: &str) -> Caller {
        let token = bearer::draw(&self.app.random, "kgv");
        let (id, sha256) = (self.app.random.id("rg"), bearer::sha256_hex(&token));
        let end = Self::START.0 + 86_400_000;
        self.sql(&format!(
            "INSERT INTO registrations (id, email, asked, follow_sha256, application, created_at, expires_at)
             VALUES ('{id}', '{email}', '', '{sha256}', '{application}', 0, {end})"
        ))
        .await;
        self.caller(Some(&token), "")
    }

    /// Another session of a client that [`World::client`] made.
    pub async fn client_session(&self, id: &str) -> Caller {
        let body = serde_json::json!({ "client": id, "password": Self::CLIENT_PASSWORD });
        let opened = self.anon().post("/client/v1/session", body).await.expect(201);
        self.caller(opened["token"].as_str(), id)
    }

    /// Somebody without any token.
    pub fn anon(&self) -> Caller {
        self.caller(None, "")
    }

    /// Somebody who presents `token` as Bearer.
    pub fn bearer(&self, token: &str) -> Caller {
        self.caller(Some(token), "")
    }

    /// A second process on the same database: it shares nothing else with the first.
    pub async fn another_process(&self) -> Db {
        Db::connect(&self.settings).await.expect("the database")
    }

    /// Sends the mails that are due, as they would be through a transport.
    pub async fn mailed(&self) -> Vec<Mailed> {
        let folder = tempfile::tempdir().expect("a folder");
        let config = Config {
            mail_transport: MailTransport::File,
            mail_from: "Keygate <keygate@example.com>".into(),
            mail_file_dir: folder.path().to_path_buf(),
            ..Config::default()
        };
        let transport = mail::Transport::open(&config).expect("valid settings");
        mail::deliver_due(&self.app, &transport).await.expect("delivered");
        let read = |entry: std::io::Result<std::fs::DirEntry>| {
            let bytes = std::fs::read(entry.expect("an entry").path()).expect("a mail");
            let mail = mail_parser::MessageParser::default().parse(&bytes).expect("a mail").into_owned();
            let to = mail.to().and_then(|to| to.first()).and_then(|to| to.address());
            Mailed {
                to: to.expect("a recipient").to_owned(),
                subject: mail.subject().expect("a subject").to_owned(),
                text: mail.body_text(0).expect("a text").into_owned(),
            }
        };
        std::fs::read_dir(folder.path()).expect("a folder").map(read).collect()
    }

    /// Does the scheduled work that is due, as a replica does every second.
    pub async fn run_due(&self) -> schedule::Ran {
        schedule::run_due(&self.app, &crate::executors(&self.app.config)).await.expect("the database")
    }

    /// The same caller at another replica on the same database.
    pub async fn replica(&self, caller: &Caller) -> Caller {
        let db = self.another_process().await;
        let app = App { db, idempotency: idempotency::Running::default(), ..self.app.clone() };
        Caller { router: crate::router(app), ..caller.clone() }
    }

    /// Where the manager also listens, until the test ends.
    pub async fn listening(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let router = self.router.clone();
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    /// Moves the clock on.
    pub fn advance_ms(&self, millis: i64) {
        self.app.clock.advance(millis);
    }

    /// Runs SQL as an intruder or a crash would, beside the manager.
    pub async fn sql(&self, sql: &str) -> u64 {
        self.try_sql(sql).await.expect("valid SQL")
    }

    /// [`World::sql`] that the database may refuse.
    pub async fn try_sql(&self, sql: &str) -> Result<u64, DbError> {
        let mut tx = self.app.db.write("test.sql").await?;
        let done = sqlx::query(AssertSqlSafe(sql.to_string())).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(done.rows_affected())
    }

    /// How the database carries out a statement of `wanted` and a limit; on PostgreSQL with the rows
    /// that it read.
    pub async fn plan(&self, sql: &str, wanted: Conditions, limit: i64) -> String {
        let explain = match self.app.db.dialect() {
            Dialect::Sqlite => "EXPLAIN QUERY PLAN",
            Dialect::Postgres => "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF)",
        };
        // A comment before EXPLAIN is no harm, one behind it to the line's end is.
        let statement = sql.split_once('\n').map_or(sql, |(_, statement)| statement);
        let mut read = self.app.db.read().await.expect("a connection");
        let query = wanted.bind(sqlx::query(AssertSqlSafe(format!("{explain} {statement}")))).bind(limit);
        let rows = query.fetch_all(&mut *read).await.expect("a plan");
        let line = |row: &AnyRow| row.try_get::<String, _>("detail").or_else(|_| row.try_get(0));
        rows.iter().map(|row| line(row).expect("a line")).collect::<Vec<_>>().join("\n")
    }

    /// What `work` comes to, and what it has the manager do: passwords that are hashed and transactions, and on
    /// PostgreSQL, whose driver logs on the caller's thread, each statement in its order.
    pub async fn done<F: Future>(&self, work: F) -> (F::Output, Vec<String>) {
        let counts = || -> BTreeMap<String, u64> {
            let lines = self.app.metrics.render();
            let lines = lines.lines().filter_map(|line| line.rsplit_once(' '));
            let counted = ["keygate_password_checks_total", "keygate_transactions_total"];
            let lines = lines.filter(|(name, _)| counted.iter().any(|counted| name.starts_with(counted)));
            lines.map(|(name, count)| (name.into(), count.parse().expect("a count"))).collect()
        };
        let (before, lines) = (counts(), LogLines::capture());
        let output = work.await;
        let text = lines.text();
        let statements = text.split("summary=\"").skip(1).map(|rest| {
            let words = rest.split(['"', ' ', '\n']).filter(|word| !word.is_empty());
            words.take(2).collect::<Vec<_>>().join(" ")
        });
        let mut done: Vec<String> = statements.collect();
        for (name, count) in counts() {
            let more = count - before.get(&name).copied().unwrap_or_default();
            done.extend((more > 0).then(|| format!("{name} {more}")));
        }
        (output, done)
    }

    fn caller(&self, token: Option<&str>, id: &str) -> Caller {
        let by_proxy = self.app.config.client_address_proxies.is_some();
        Caller { router: self.router.clone(), token: token.map(str::to_string), id: id.into(), by_proxy }
    }
}

impl Drop for OwnDatabase {
    fn drop(&mut self) {
        let (server, sql) = (self.server.clone(), format!("DROP DATABASE {} WITH (FORCE)", self.name));
        let dropped = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime")
                .block_on(on_server(&server, sql));
        });
        // A database left behind is the server's to lose; the test's own result counts.
        let _ = dropped.join();
    }
}

async fn on_server(server: &str, sql: String) {
    sqlx::any::install_default_drivers();
    let mut conn = Conn::connect(server).await.unwrap_or_else(|error| panic!("{POSTGRES_URL}: {error}"));
    sqlx::query(AssertSqlSafe(sql.clone()))
        .execute(&mut conn)
        .await
        .unwrap_or_else(|error| panic!("{POSTGRES_URL}: {sql}: {error}"));
    // It has done its work; how it ends does not matter.
    let _ = conn.close().await;
}

/// A mail as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailed {
    /// The first address that it went to.
    pub to: String,
    /// What it is about.
    pub subject: String,
    /// The part in plain text.
    pub text: String,
}

/// Somebody who calls.
#[derive(Clone)]
pub struct Caller {
    router: Router,
    token: Option<String>,
    /// The operator's or the client's id, where it is one.
    pub id: String,
    /// Whether the calls come by [`PROXY`].
    by_proxy: bool,
}

/// The proxy in front, where there is one.
const PROXY: &str = "127.0.0.1";

impl Config {
    /// Has calls come by a proxy that tells their addresses in this header.
    pub fn behind_proxy(&mut self, header: &str) {
        self.client_address_header = Some(header.into());
        self.client_address_proxies = Some(Proxies::parse(PROXY).expect("an address"));
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// The JSON body; null when there is none, a string when it is no JSON.
    pub body: Value,
}

impl Caller {
    /// What it presents as Bearer; empty: nothing.
    pub fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], None).await
    }

    /// POST.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, &[], Some(body)).await
    }

    /// PUT.
    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, path, &[], Some(body)).await
    }

    /// PATCH.
    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, &[], Some(body)).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], None).await
    }

    /// Any call with more headers; a body goes as JSON.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        let mut headers = headers.to_vec();
        let body = match body {
            Some(body) => {
                headers.push(("content-type", "application/json"));
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        self.raw(method, path, &headers, body).await
    }

    /// A call whose body and content type are the test's own.
    pub async fn raw(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Body) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if self.by_proxy {
            let proxy: IpAddr = PROXY.parse().expect("an address");
            request = request.extension(ConnectInfo(SocketAddr::from((proxy, 1))));
        }
        let request = request.body(body).expect("a valid request");
        let response = self.router.clone().oneshot(request).await.expect("a router never fails");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.into_body().collect().await.expect("a whole body").to_bytes();
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into())
        };
        Answer { status, headers, body }
    }
}

impl Answer {
    /// The body, if the status is the expected one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{:#}", self.body);
        self.body
    }

    /// The problem document, if it has this status and code.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{:#}", self.body);
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        self.body
    }

    /// The problem document, if it is a refusal of that field.
    #[track_caller]
    pub fn refuses(self, field: &str) -> Value {
        assert!((400..500).contains(&self.status), "{} {:#}", self.status, self.body);
        assert_eq!(self.body["field"].as_str(), Some(field), "{:#}", self.body);
        self.body
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}
