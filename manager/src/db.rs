//! The database: one text of SQL for SQLite and PostgreSQL. This file alone begins writes.
//!
//! Columns are TEXT and BIGINT only (what the drivers share), times are UTC milliseconds.
//! On SQLite there is one writing connection, so that writers queue here and not in the busy
//! handler; each write begins IMMEDIATE, because a deferred one that has read first fails at once
//! when another process has written meanwhile.

use std::fmt::Debug;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sqlx::any::{AnyArguments, AnyPoolOptions};
use sqlx::pool::PoolConnection;
use sqlx::query::Query;
use sqlx::{Any, AnyPool, AssertSqlSafe, Connection as _, Executor, Transaction};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::telemetry::{Metrics, Stopwatch};

/// A connection, as the functions of a `store.rs` take it.
pub type Conn = sqlx::AnyConnection;

/// The longest wait for a free connection before a call is refused as busy.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Ids in one `IN (…)` at most: SQLite takes 32,766 parameters, and statements stay short.
pub const MAX_IN: usize = 500;

/// Where the database is.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    /// `sqlite:<path>` or `postgres://<user>[:<password>]@<host>[:<port>]/<database>`.
    pub url: String,
    /// Connections of this process at most.
    pub max_connections: u32,
    /// How long SQLite waits for another process's write.
    pub busy_timeout_ms: u64,
}

/// Which database answers. The SQL is the same; ask only where it cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Embedded, one process.
    Sqlite,
    /// A server, shared by replicas.
    Postgres,
}

/// Access to the database. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Db {
    dialect: Dialect,
    readers: AnyPool,
    writers: AnyPool,
    metrics: Metrics,
    commits: Arc<Notify>,
}

/// A connection to read with; see [`Db::read`] and [`Db::snapshot`].
pub struct Read(Reading);

enum Reading {
    Statements(PoolConnection<Any>),
    Snapshot(Transaction<'static, Any>),
}

/// A transaction that writes. Dropped without [`Write::commit`], it leaves nothing.
pub struct Write {
    transaction: Transaction<'static, Any>,
    name: &'static str,
    rider: Option<Arc<dyn Rider>>,
    metrics: Metrics,
    commits: Arc<Notify>,
    began: Stopwatch,
}

/// What a method of a trait object promises.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Something that is written in the same transaction as what a call writes: see [`riding`].
pub trait Rider: Debug + Send + Sync {
    /// Writes, last in each transaction of the call. An error takes the transaction back.
    fn ride<'a>(&'a self, conn: &'a mut Conn) -> Boxed<'a, Result<(), DbError>>;
}

tokio::task_local! {
    static RIDER: Arc<dyn Rider>;
}

/// Does `work`, whose transactions take `rider` along.
pub async fn riding<F: Future>(rider: Arc<dyn Rider>, work: F) -> F::Output {
    RIDER.scope(rider, work).await
}

/// What can go wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The database refused or could not be asked.
    #[error("database: {0}")]
    Sqlx(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("migrations: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A row that makes no sense: never replaced by a default.
    #[error("inconsistent row in {table}.{column}: {row}")]
    Inconsistency {
        /// The table.
        table: &'static str,
        /// The column whose value is impossible.
        column: &'static str,
        /// The row's key.
        row: String,
    },
    /// The call was carried out meanwhile, by a repeat of it: this transaction was taken back.
    #[error("the same call was carried out meanwhile")]
    Repeated,
    /// The setting cannot be used.
    #[error("database_url: {0}")]
    Url(String),
}

impl DbError {
    /// Whether a unique index refused the write. `constraint` is its PostgreSQL name:
    /// `<table>_pkey` for the primary key, else `<table>_<column>[_<column>]_key`. SQLite tells
    /// table and columns instead, from which the same name follows.
    pub fn violates(&self, constraint: &str) -> bool {
        let Self::Sqlx(sqlx::Error::Database(error)) = self else { return false };
        match error.constraint() {
            Some(name) => name == constraint,
            None => {
                sqlite_constraint(error.code().as_deref(), error.message()).as_deref() == Some(constraint)
            }
        }
    }

    /// Whether a foreign key refused the write: what is to go is still referred to.
    pub fn violates_reference(&self) -> bool {
        matches!(self, Self::Sqlx(sqlx::Error::Database(error)) if error.is_foreign_key_violation())
    }

    /// Whether there is no room left for what was to be written.
    pub fn is_full(&self) -> bool {
        let Self::Sqlx(sqlx::Error::Database(error)) = self else { return false };
        // SQLITE_FULL; PostgreSQL's disk_full.
        matches!(error.code().as_deref(), Some("13" | "53100"))
    }

    /// Whether the database is there but cannot take the call now.
    pub fn is_busy(&self) -> bool {
        match self {
            Self::Sqlx(sqlx::Error::PoolTimedOut) => true,
            // SQLITE_BUSY and its extended codes have 5 in the low byte; PostgreSQL: serialization
            // failure, deadlock, too many connections.
            Self::Sqlx(sqlx::Error::Database(error)) => match error.code().as_deref() {
                Some("40001" | "40P01" | "53300") => true,
                Some(code) => {
                    error.constraint().is_none()
                        && code.len() < 5
                        && code.parse::<i64>().is_ok_and(|c| c & 0xff == 5)
                }
                None => false,
            },
            _ => false,
        }
    }
}

impl Db {
    /// Connects and brings the schema up to date.
    pub async fn connect(settings: &DatabaseSettings) -> Result<Self, DbError> {
        Self::connect_with(settings, Metrics::default()).await
    }

    /// [`Db::connect`], counting transactions in `metrics`.
    pub async fn connect_with(settings: &DatabaseSettings, metrics: Metrics) -> Result<Self, DbError> {
        sqlx::any::install_default_drivers();
        let db = match scheme(&settings.url)? {
            Dialect::Sqlite => Self::connect_sqlite(settings, metrics).await?,
            Dialect::Postgres => Self::connect_postgres(settings, metrics).await?,
        };
        // A schema newer than this program is taken: migrations run while the old code serves. What a newer
        // one writes there it may not know: filters are upgraded when no older manager is left.
        sqlx::migrate!("./migrations").set_ignore_missing(true).run(&db.writers).await?;
        // What one text cannot say for both: triggers.
        let mut own = match db.dialect {
            Dialect::Sqlite => sqlx::migrate!("./migrations/sqlite"),
            Dialect::Postgres => sqlx::migrate!("./migrations/postgres"),
        };
        own.set_ignore_missing(true).run(&db.writers).await?;
        Ok(db)
    }

    async fn connect_sqlite(settings: &DatabaseSettings, metrics: Metrics) -> Result<Self, DbError> {
        let path = sqlite_path(&settings.url)?;
        create_private(&path)
            .map_err(|error| DbError::Url(format!("cannot create {}: {error}", path.display())))?;
        let busy_ms = settings.busy_timeout_ms;
        let options = move |max: u32| {
            AnyPoolOptions::new()
                .max_connections(max)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .after_connect(move |conn, _| {
                    Box::pin(async move {
                        let pragmas = format!(
                            "PRAGMA busy_timeout = {busy_ms}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                        );
                        conn.execute(AssertSqlSafe(pragmas)).await?;
                        Ok(())
                    })
                })
                // A full disk makes SQLite roll back by itself, and then there is no transaction for sqlx to roll
                // back: it takes the connection for one within a transaction for ever. Such a one is closed.
                .before_acquire(|conn, _| {
                    let usable = !conn.is_in_transaction();
                    Box::pin(async move { Ok(usable) })
                })
        };
        let writers = options(1).connect(&settings.url).await?;
        let readers = options(settings.max_connections.max(1)).connect(&settings.url).await?;
        Ok(Self { dialect: Dialect::Sqlite, readers, writers, metrics, commits: Arc::default() })
    }

    async fn connect_postgres(settings: &DatabaseSettings, metrics: Metrics) -> Result<Self, DbError> {
        let pool = AnyPoolOptions::new()
            .max_connections(settings.max_connections.max(2))
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect(&settings.url)
            .await?;
        let commits = Arc::default();
        Ok(Self { dialect: Dialect::Postgres, readers: pool.clone(), writers: pool, metrics, commits })
    }

    /// Which database answers.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// A connection whose statements each see what is committed when they run.
    pub async fn read(&self) -> Result<Read, DbError> {
        Ok(Read(Reading::Statements(self.readers.acquire().await?)))
    }

    /// A connection whose statements all see the same state.
    pub async fn snapshot(&self) -> Result<Read, DbError> {
        let begin = match self.dialect {
            Dialect::Sqlite => "BEGIN DEFERRED",
            Dialect::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        Ok(Read(Reading::Snapshot(begun(&self.readers, begin).await?)))
    }

    /// Begins a write. `name` is `capability.action`: the metric label.
    pub async fn write(&self, name: &'static str) -> Result<Write, DbError> {
        let rider = RIDER.try_with(Arc::clone).ok();
        Ok(Write { rider, ..self.write_aside(name).await? })
    }

    /// Begins a write that stands beside the call's own action, such as the count of wrong
    /// passwords: it takes no rider along.
    pub async fn write_aside(&self, name: &'static str) -> Result<Write, DbError> {
        let began = Stopwatch::start();
        let begin = match self.dialect {
            Dialect::Sqlite => "BEGIN IMMEDIATE",
            Dialect::Postgres => "BEGIN",
        };
        let transaction = begun(&self.writers, begin).await?;
        let (metrics, commits) = (self.metrics.clone(), self.commits.clone());
        Ok(Write { transaction, name, rider: None, metrics, commits, began })
    }

    /// The next commit of this process: another process's is not heard of here.
    pub fn committed(&self) -> Notified<'_> {
        self.commits.notified()
    }

    /// Whether it answers.
    pub async fn ping(&self) -> Result<(), DbError> {
        let mut conn = self.read().await?;
        sqlx::query("SELECT 1").execute(&mut *conn).await?;
        Ok(())
    }

    /// Closes every connection; SQLite folds its log into the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writers.close().await;
    }
}

/// Begins in a task of its own, which ends what it began also where the caller is given up halfway:
/// sqlx would put the connection back into the pool with a transaction that it does not know of.
async fn begun(pool: &AnyPool, begin: &'static str) -> Result<Transaction<'static, Any>, DbError> {
    let pool = pool.clone();
    let begun = tokio::spawn(async move { pool.begin_with(begin).await }).await;
    // An error means that the process is about to end.
    Ok(begun.unwrap_or(Err(sqlx::Error::PoolClosed))?)
}

impl Write {
    /// Makes everything written since [`Db::write`] durable, or nothing.
    pub async fn commit(self) -> Result<(), DbError> {
        let Self { mut transaction, name, rider, metrics, commits, began } = self;
        let result = async {
            if let Some(rider) = rider {
                rider.ride(&mut transaction).await?;
            }
            Ok(transaction.commit().await?)
        }
        .await;
        commits.notify_waiters();
        let outcome = if result.is_ok() { "committed" } else { "failed" };
        metrics.add("keygate_transactions_total", &[("name", name), ("outcome", outcome)], 1);
        metrics.add("keygate_transaction_microseconds_total", &[("name", name)], began.elapsed_us());
        result
    }
}

/// A part of a transaction that can be taken back alone: rolled back when dropped without
/// [`Savepoint::keep`].
pub struct Savepoint<'c>(Transaction<'c, Any>);

/// Begins a part within the transaction of `conn`.
pub async fn savepoint(conn: &mut Conn) -> Result<Savepoint<'_>, DbError> {
    Ok(Savepoint(conn.begin().await?))
}

impl Savepoint<'_> {
    /// Leaves what was written since to the transaction.
    pub async fn keep(self) -> Result<(), DbError> {
        Ok(self.0.commit().await?)
    }

    /// Takes it back.
    pub async fn take_back(self) -> Result<(), DbError> {
        Ok(self.0.rollback().await?)
    }
}

impl Deref for Savepoint<'_> {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.0
    }
}

impl DerefMut for Savepoint<'_> {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.0
    }
}

impl Deref for Read {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        match &self.0 {
            Reading::Statements(conn) => conn,
            Reading::Snapshot(transaction) => transaction,
        }
    }
}

impl DerefMut for Read {
    fn deref_mut(&mut self) -> &mut Conn {
        match &mut self.0 {
            Reading::Statements(conn) => conn,
            Reading::Snapshot(transaction) => transaction,
        }
    }
}

impl Deref for Write {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.transaction
    }
}

impl DerefMut for Write {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.transaction
    }
}

/// `$<from>, $<from + 1>, …`: `count` parameters for an `IN (…)`.
pub fn placeholders(from: usize, count: usize) -> String {
    (from..from + count).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ")
}

/// What a folded column is compared with by `LIKE … ESCAPE '\\'` to contain `keyword`; everything
/// when there is none.
pub fn like_pattern(keyword: Option<&str>) -> String {
    let folded = keyword.unwrap_or_default().trim().to_lowercase();
    let escaped = folded.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{escaped}%")
}

/// The `WHERE` of a statement, and what is bound to it. Only what is asked for stands in it, so that
/// the index for it is taken. `#` stands for the parameter, however often it occurs.
#[derive(Default)]
pub struct Conditions {
    sql: Vec<String>,
    values: Vec<Bound>,
}

enum Bound {
    Text(String),
    Number(i64),
}

impl Conditions {
    /// One that nothing is bound to.
    pub fn plain(&mut self, condition: &'static str) {
        self.sql.push(condition.into());
    }

    /// One on a text.
    pub fn text(&mut self, condition: &'static str, value: &str) {
        self.values.push(Bound::Text(value.into()));
        self.sql.push(condition.replace('#', &format!("${}", self.values.len())));
    }

    /// One on a number.
    pub fn number(&mut self, condition: &'static str, value: i64) {
        self.values.push(Bound::Number(value));
        self.sql.push(condition.replace('#', &format!("${}", self.values.len())));
    }

    /// At least one of these, each on the next of `numbers`, one for every `#`.
    pub fn either(&mut self, conditions: &[&'static str], numbers: &[i64]) {
        let mut sql = conditions.join(" OR ");
        for number in numbers {
            self.values.push(Bound::Number(*number));
            sql = sql.replacen('#', &format!("${}", self.values.len()), 1);
        }
        self.sql.push(format!("({sql})"));
    }

    /// One on several texts, `column IN (#)`; at most [`MAX_IN`].
    pub fn any_of<T: AsRef<str>>(&mut self, condition: &'static str, values: &[T]) {
        let places = placeholders(self.values.len() + 1, values.len());
        self.values.extend(values.iter().map(|value| Bound::Text(value.as_ref().into())));
        self.sql.push(condition.replace('#', &places));
    }

    /// One on up to nine texts, which it names `#1`, `#2` …
    pub fn texts(&mut self, condition: &'static str, values: &[&str]) {
        let mut sql = condition.to_owned();
        for (place, value) in (1..=9).zip(values) {
            self.values.push(Bound::Text((*value).into()));
            sql = sql.replace(&format!("#{place}"), &format!("${}", self.values.len()));
        }
        self.sql.push(sql);
    }

    /// Rows after `(number, text)` in descending order: `(created_at, id) < (#)`.
    pub fn after(&mut self, condition: &'static str, number: i64, text: &str) {
        let places = placeholders(self.values.len() + 1, 2);
        self.values.extend([Bound::Number(number), Bound::Text(text.into())]);
        self.sql.push(condition.replace('#', &places));
    }

    /// All of them.
    pub fn sql(&self) -> String {
        if self.sql.is_empty() { "1 = 1".into() } else { self.sql.join("\n            AND ") }
    }

    /// The number of the parameter behind those of the conditions.
    pub fn next(&self) -> usize {
        self.values.len() + 1
    }

    /// `query` with everything bound to it.
    pub fn bind<'q>(self, mut query: Query<'q, Any, AnyArguments>) -> Query<'q, Any, AnyArguments> {
        for value in self.values {
            query = match value {
                Bound::Text(text) => query.bind(text),
                Bound::Number(number) => query.bind(number),
            };
        }
        query
    }
}

fn scheme(url: &str) -> Result<Dialect, DbError> {
    match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("sqlite") => Ok(Dialect::Sqlite),
        Some("postgres" | "postgresql") => Ok(Dialect::Postgres),
        _ => Err(DbError::Url(
            "must begin with `sqlite:` (a file, e.g. sqlite:keygate.db) or `postgres://` (a server)".into(),
        )),
    }
}

fn sqlite_path(url: &str) -> Result<PathBuf, DbError> {
    let rest = url.strip_prefix("sqlite:").unwrap_or(url);
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    if rest.is_empty() || rest.contains(['?', '#', '%']) || rest.starts_with(':') {
        return Err(DbError::Url(
            "sqlite: wants the path of a file without `?`, `#` or `%`, e.g. sqlite:/var/lib/keygate/keygate.db"
                .into(),
        ));
    }
    Ok(PathBuf::from(rest))
}

/// Creates the file if it is missing, readable by its owner alone; SQLite gives its side files
/// the same mode.
fn create_private(path: &std::path::Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// The PostgreSQL name of the constraint that SQLite's message describes:
/// `UNIQUE constraint failed: clients.name` → `clients_name_key`; 1555 is a primary key's code.
fn sqlite_constraint(code: Option<&str>, message: &str) -> Option<String> {
    let columns = message.split_once("UNIQUE constraint failed: ")?.1;
    let mut table = "";
    let mut name = String::new();
    for column in columns.split(", ") {
        let (of, column) = column.split_once('.')?;
        table = of;
        name.push('_');
        name.push_str(column);
    }
    Some(if code == Some("1555") { format!("{table}_pkey") } else { format!("{table}{name}_key") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    /// SQLite then rolls back by itself, which sqlx does not know.
    #[tokio::test]
    async fn a_full_disk_is_told_and_the_next_write_finds_a_usable_connection() {
        for world in World::both().await {
            let db = &world.app.db;
            if db.dialect() == Dialect::Postgres {
                continue;
            }
            let mut write = db.write("test.fill").await.unwrap();
            for text in ["CREATE TABLE ballast (text TEXT)", "PRAGMA max_page_count = 1"] {
                sqlx::query(text).execute(&mut *write).await.unwrap();
            }
            let ballast = "INSERT INTO ballast SELECT hex(zeroblob(1000000))";
            let full = DbError::from(sqlx::query(ballast).execute(&mut *write).await.unwrap_err());
            assert!(full.is_full() && !full.is_busy(), "{full}");
            drop(write);
            world.sql("UPDATE audit_head SET seq = seq").await;
            let write = db.write("test.again").await.unwrap();
            write.commit().await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_transaction_given_up_while_it_begins_is_not_left_to_the_next_caller() {
        for world in World::both().await {
            let db = &world.app.db;
            for yields in 0..60 {
                tokio::select! {
                    biased;
                    read = db.snapshot() => drop(read),
                    () = async { for _ in 0..yields { tokio::task::yield_now().await } } => {}
                }
                // Read-only, it would refuse this.
                world.sql("UPDATE audit_head SET seq = seq").await;
            }
        }
    }

    #[test]
    fn sqlite_messages_become_constraint_names() {
        for (code, message, name) in [
            ("2067", "UNIQUE constraint failed: clients.name", Some("clients_name_key")),
            ("2067", "UNIQUE constraint failed: apis.module, apis.id", Some("apis_module_id_key")),
            ("1555", "UNIQUE constraint failed: clients.id", Some("clients_pkey")),
            ("1299", "NOT NULL constraint failed: clients.id", None),
        ] {
            assert_eq!(sqlite_constraint(Some(code), message).as_deref(), name, "{message}");
        }
    }

    #[test]
    fn unusable_urls_are_refused_with_the_form_that_works() {
        for url in ["mysql://x", "keygate.db", "sqlite:", "sqlite::memory:", "sqlite:a?mode=ro"] {
            let refused = scheme(url).and_then(|dialect| match dialect {
                Dialect::Sqlite => sqlite_path(url).map(drop),
                Dialect::Postgres => Ok(()),
            });
            assert!(refused.is_err_and(|e| e.to_string().contains("sqlite:")), "{url}");
        }
    }
}
