//! The harness of the end-to-end tests and of the demo: a real Envoy with the shipped configuration
//! and filter, a real manager, a real mail conversation, an upstream that echoes what it received.
//!
//! In reading order:
//! - [`world`]: everything started and wired, one per test file.
//! - [`client`], [`load`], [`flood`], [`browser`]: who calls.
//! - [`envoy`], [`manager`], [`upstream`], [`smtp`], [`name_server`], [`openid`], [`postgres`]: what is called.
//! - [`api`], [`cast`], [`forms`], [`tokens`]: the management API as an operator uses it, what tests put on
//!   record, how forms get their signatures, and programs their tokens.
//! - [`faulty_proxy`]: loses, delays or holds back the manager's answers. [`line`]: any connection, cut or
//!   silent. [`commits`]: the manager cut off from its database, or killed, at the end of a transaction.
//! - [`pins`]: one connection to each worker. [`chance`], [`histogram`]: what is drawn, what was measured.
//! - [`disk`]: the manager's, full when the test says so.
//! - [`process`], [`provision`]: processes that die with us, and where their programs are. [`preload`]:
//!   what is changed about an unchanged program.
//!
//! Everything listens on loopback, on free ports. Nothing here decides what is right: the tests do.

pub mod api;
pub mod browser;
pub mod cast;
pub mod chance;
pub mod client;
pub mod commits;
pub mod disk;
pub mod envoy;
pub mod faulty_proxy;
pub mod flood;
pub mod forms;
pub mod histogram;
pub mod line;
pub mod load;
pub mod manager;
pub mod name_server;
pub mod openid;
pub mod pins;
pub mod postgres;
pub mod preload;
pub mod process;
pub mod provision;
pub mod smtp;
pub mod tokens;
pub mod upstream;
pub mod wait;
pub mod world;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use anyhow::{Context, Result};
use tokio::runtime::Runtime;

/// One runtime for all tests of a process: servers started by one test serve the others too.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a process may start threads")
});

/// Runs a test's or a program's future to its end.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.block_on(future)
}

/// An address on loopback that nobody listened on a moment ago.
pub fn free_address() -> Result<SocketAddr> {
    free_address_of(IpAddr::from([127, 0, 0, 1]))
}

/// A port of this host that nobody listened on a moment ago.
pub fn free_address_of(host: IpAddr) -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind((host, 0)).context("look for a free port")?;
    listener.local_addr().context("look for a free port")
}

/// Whether measurements are wanted that take minutes (`cargo xtask measure`), rather than their short forms.
pub fn measures() -> bool {
    std::env::var_os("KEYGATE_E2E_MEASURE").is_some()
}
