//! Stands between Envoy and the manager and loses, delays or holds back the manager's *answers*:
//! what was asked for has happened, and nobody hears of it. Or breaks connections off, whatever is under way.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::chance;

/// Longer than any call of the filter waits: an answer after this is as good as lost.
const LOST_AFTER: Duration = Duration::from_secs(3);

/// What is done to answers, changeable while running.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Share of answers lost, 0 to 1; of the lost ones every other breaks its stream off, and the
    /// rest stay silent until the caller gives up.
    pub lose: f64,
    /// Delay of every answer.
    pub delay: Duration,
    /// Requests are refused (503, without the manager's mark) and do not reach the manager.
    pub refuse: bool,
}

/// A running proxy; its tasks live as long as the runtime.
#[derive(Clone)]
pub struct FaultyProxy {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    manager: Mutex<SocketAddr>,
    faults: Mutex<Faults>,
    /// Answers to paths that contain this text wait until it changes.
    hold: watch::Sender<Option<String>>,
    cuts: watch::Sender<u64>,
    /// Answers that wait at this moment.
    held: AtomicU64,
    answers: AtomicU64,
    lost: AtomicU64,
    /// Calls that came, by path without query.
    calls: Mutex<BTreeMap<String, u64>>,
    /// Calls under way, and the most that were since somebody asked.
    under_way: AtomicU64,
    most_under_way: AtomicU64,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// Broken off on purpose.
#[derive(Debug)]
struct Lost;

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the answer was lost on purpose")
    }
}

impl std::error::Error for Lost {}

impl FaultyProxy {
    /// Forwards to `manager`, faultlessly at first.
    pub async fn start(manager: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen as proxy")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            manager: Mutex::new(manager),
            faults: Mutex::default(),
            hold: watch::Sender::new(None),
            cuts: watch::Sender::new(0),
            held: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            calls: Mutex::default(),
            under_way: AtomicU64::new(0),
            most_under_way: AtomicU64::new(0),
            client: Client::builder(TokioExecutor::new()).http2_only(true).build(at_once()),
        });
        let proxy = Self { address, state: state.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = state.clone();
                tokio::spawn(async move {
                    drop(stream.set_nodelay(true));
                    let mut cut = state.cuts.subscribe();
                    let service = service_fn(move |request| forward(request, state.clone()));
                    let server = auto::Builder::new(TokioExecutor::new());
                    tokio::select! {
                        _ = cut.changed() => {}
                        // Ends with an error whenever an answer was lost on an HTTP/1.1 connection.
                        ended = server.serve_connection(TokioIo::new(stream), service) => drop(ended),
                    }
                });
            }
        });
        Ok(proxy)
    }

    /// From now on.
    pub fn set(&self, faults: Faults) {
        *lock(&self.state.faults) = faults;
    }

    /// Holds back answers to paths that contain `part`.
    pub fn hold(&self, part: &str) {
        self.state.hold.send_replace(Some(part.to_owned()));
    }

    /// Lets every held answer go.
    pub fn release(&self) {
        self.state.hold.send_replace(None);
    }

    /// Answers held at this moment.
    pub fn held(&self) -> u64 {
        self.state.held.load(Ordering::SeqCst)
    }

    /// Answers lost so far.
    pub fn lost(&self) -> u64 {
        self.state.lost.load(Ordering::SeqCst)
    }

    /// Answers that came from the manager so far.
    pub fn answers(&self) -> u64 {
        self.state.answers.load(Ordering::SeqCst)
    }

    /// Breaks off every connection that is open now, with the calls on it; new ones pass.
    pub fn cut(&self) {
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Calls to this path (without query) that came so far, also those that were refused.
    pub fn calls(&self, path: &str) -> u64 {
        lock(&self.state.calls).get(path).copied().unwrap_or(0)
    }

    /// The most calls that were under way at a time since this was asked last.
    pub fn most_under_way(&self) -> u64 {
        let now = self.state.under_way.load(Ordering::SeqCst);
        self.state.most_under_way.swap(now, Ordering::SeqCst)
    }

    /// The manager listens elsewhere now.
    pub fn redirect(&self, manager: SocketAddr) {
        *lock(&self.state.manager) = manager;
    }
}

/// Connections that send what they have: two frames of one answer would otherwise be 40 ms apart.
fn at_once() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn forward(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Full<Bytes>>, Lost> {
    let faults = *lock(&state.faults);
    *lock(&state.calls).entry(request.uri().path().to_owned()).or_default() += 1;
    let _under_way = UnderWay::begin(&state);
    if faults.refuse {
        return Ok(unavailable());
    }
    let manager = *lock(&state.manager);
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let Ok(uri) = format!("http://{manager}{path}").parse::<Uri>() else { return Ok(unavailable()) };
    head.uri = uri;
    head.headers.remove("host");
    let Ok(body) = body.collect().await else { return Err(Lost) };
    let request = Request::from_parts(head, Full::new(body.to_bytes()));
    let Ok(answer) = state.client.request(request).await else { return Ok(unavailable()) };
    let (head, body) = answer.into_parts();
    let Ok(body) = body.collect().await else { return Ok(unavailable()) };

    let number = state.answers.fetch_add(1, Ordering::SeqCst);
    tokio::time::sleep(faults.delay).await;
    wait_while_held(&state, &path).await;
    if chance::of(number) < faults.lose {
        let lost = state.lost.fetch_add(1, Ordering::SeqCst);
        if lost % 2 == 1 {
            tokio::time::sleep(LOST_AFTER).await;
        }
        return Err(Lost);
    }
    Ok(Response::from_parts(head, Full::new(body.to_bytes())))
}

/// Counts a call for as long as it lives: one that is broken off too.
struct UnderWay(Arc<State>);

impl UnderWay {
    fn begin(state: &Arc<State>) -> Self {
        let count = state.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        state.most_under_way.fetch_max(count, Ordering::SeqCst);
        Self(state.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn wait_while_held(state: &State, path: &str) {
    let mut hold = state.hold.subscribe();
    let holds = |part: &Option<String>| part.as_ref().is_some_and(|part| path.contains(part.as_str()));
    if holds(&hold.borrow_and_update()) {
        state.held.fetch_add(1, Ordering::SeqCst);
        // The sender lives in `state`.
        drop(hold.wait_for(|part| !holds(part)).await);
        state.held.fetch_sub(1, Ordering::SeqCst);
    }
}

fn unavailable() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"refused by the proxy")));
    *response.status_mut() = hyper::StatusCode::SERVICE_UNAVAILABLE;
    response
}
