//! Stands between the manager and PostgreSQL and stops the world at one COMMIT: before the server
//! hears of it, or after it has committed and before the manager hears of that.
//!
//! It reads what the manager sends and understands no more of the protocol than it needs: that every
//! statement begins with its name, `-- capability.action`, and that a transaction ends with `COMMIT`.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Cut;

/// A running proxy; its tasks live as long as the runtime.
#[derive(Clone)]
pub struct Commits {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    server: String,
    /// What the transaction holds that is cut next, and where.
    armed: Mutex<Option<([String; 2], Cut)>>,
    /// Whether it was cut.
    cut: watch::Sender<bool>,
}

impl Commits {
    /// Forwards to `server` (`host:port`).
    pub async fn start(server: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen before PostgreSQL")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            server: server.to_owned(),
            armed: Mutex::default(),
            cut: watch::Sender::new(false),
        });
        let proxy = Self { address, state: state.clone() };
        tokio::spawn(async move {
            while let Ok((manager, _)) = listener.accept().await {
                let state = state.clone();
                // Ends when either side hangs up.
                tokio::spawn(async move { drop(connection(manager, state).await) });
            }
        });
        Ok(proxy)
    }

    /// The next transaction is cut in which the statement of that name was sent, and `text` was said by
    /// either side; and with it everything else that this manager says to its database.
    pub fn arm(&self, statement: &str, text: &str, cut: Cut) {
        self.state.cut.send_replace(false);
        *lock(&self.state.armed) = Some(([format!("-- {statement}\n"), text.to_owned()], cut));
    }

    /// Waits until it was cut.
    pub async fn until_cut(&self, limit: Duration) -> Result<()> {
        let mut cut = self.state.cut.subscribe();
        tokio::time::timeout(limit, cut.wait_for(|cut| *cut)).await.context("no such COMMIT came")??;
        Ok(())
    }

    /// A new manager may talk to its database again.
    pub fn heal(&self) {
        *lock(&self.state.armed) = None;
        self.state.cut.send_replace(false);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn connection(manager: TcpStream, state: Arc<State>) -> Result<()> {
    let server = TcpStream::connect(&state.server).await?;
    manager.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_manager, to_manager) = manager.into_split();
    let (from_server, to_server) = server.into_split();
    let (withheld, transaction) = (AtomicBool::new(false), Mutex::default());
    // Whichever ends first ends both: a manager that is gone leaves its transactions to be rolled back.
    tokio::select! {
        ended = statements(from_manager, to_server, &state, &withheld, &transaction) => ended,
        ended = answers(from_server, to_manager, &state, &withheld, &transaction) => ended,
    }
}

/// What the manager says. sqlx writes a COMMIT at once and by itself.
async fn statements(
    mut manager: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    state: &State,
    withheld: &AtomicBool,
    transaction: &Mutex<String>,
) -> Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = manager.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let bytes = buffer.get(..count).unwrap_or_default();
        let said = String::from_utf8_lossy(bytes);
        if said.contains("BEGIN") {
            lock(transaction).clear();
        }
        lock(transaction).push_str(&said);
        let commits = said.contains("COMMIT");
        match due(state, commits, &lock(transaction)) {
            Some(Cut::Before) => {
                state.cut.send_replace(true);
            }
            // The server's next answer is the COMMIT's.
            Some(Cut::After) => withheld.store(true, Ordering::SeqCst),
            None => {}
        }
        if *state.cut.borrow() {
            return healed(state).await;
        }
        server.write_all(bytes).await?;
    }
}

/// Takes the armed cut, if this is its COMMIT.
fn due(state: &State, commits: bool, transaction: &str) -> Option<Cut> {
    let mut armed = lock(&state.armed);
    let (texts, cut) = armed.as_ref()?;
    let all = texts.iter().all(|text| transaction.contains(text.as_str()));
    let due = (commits && all).then_some(*cut)?;
    *armed = None;
    Some(due)
}

async fn answers(
    mut server: OwnedReadHalf,
    mut manager: OwnedWriteHalf,
    state: &State,
    withheld: &AtomicBool,
    transaction: &Mutex<String>,
) -> Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = server.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        if withheld.load(Ordering::SeqCst) {
            state.cut.send_replace(true);
            return healed(state).await;
        }
        let bytes = buffer.get(..count).unwrap_or_default();
        lock(transaction).push_str(&String::from_utf8_lossy(bytes));
        manager.write_all(bytes).await?;
    }
}

/// Nothing more is said on a connection until the manager behind it was killed.
async fn healed(state: &State) -> Result<()> {
    state.cut.subscribe().wait_for(|cut| !cut).await.context("the proxy is gone")?;
    Ok(())
}
