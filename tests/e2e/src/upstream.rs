//! The API behind Envoy: echoes what it received as JSON and counts it, over HTTP/1.1 and HTTP/2.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Longer bodies are echoed by length and hash alone.
const MAX_ECHO: usize = 64 * 1024;

/// What the upstream received: the body of its answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// The method.
    pub method: String,
    /// The path with its query, as it arrived.
    pub path: String,
    /// `host` or `:authority`.
    pub host: String,
    /// All headers in order; bytes outside UTF-8 replaced.
    pub headers: Vec<(String, String)>,
    /// Trailers, if any came.
    pub trailers: Vec<(String, String)>,
    /// The body as text, if it is not longer than 64 KiB.
    pub body: String,
    /// Its length in bytes.
    pub body_bytes: usize,
    /// Its SHA-256 in hex.
    pub body_sha256: String,
}

impl Echo {
    /// The values of a header.
    pub fn header(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect()
    }
}

/// A running upstream; its tasks live as long as the runtime.
#[derive(Clone)]
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    counts: Arc<Mutex<BTreeMap<String, u64>>>,
    held: Arc<Mutex<VecDeque<oneshot::Sender<()>>>>,
}

/// Who asks with this parameter is sent on to `/arrived` at the address that it names.
pub const ONWARD: &str = "onward=";

/// A request with this header is held until [`Upstream::release`].
pub const HOLD_HEADER: &str = "x-e2e-hold";

impl Upstream {
    /// Listens on a free port.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen as upstream")?;
        let upstream = Self { address: listener.local_addr()?, counts: Arc::default(), held: Arc::default() };
        let (counts, held) = (upstream.counts.clone(), upstream.held.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (counts, held) = (counts.clone(), held.clone());
                tokio::spawn(async move {
                    drop(stream.set_nodelay(true));
                    let service = service_fn(move |request| answer(request, counts.clone(), held.clone()));
                    // A connection that the other side breaks off is none of our business.
                    drop(
                        auto::Builder::new(TokioExecutor::new())
                            .serve_connection(TokioIo::new(stream), service)
                            .await,
                    );
                });
            }
        });
        Ok(upstream)
    }

    /// Requests that reached this path (without query).
    pub fn count(&self, path: &str) -> u64 {
        lock(&self.counts).get(path).copied().unwrap_or(0)
    }

    /// Requests that are held.
    pub fn held(&self) -> usize {
        lock(&self.held).len()
    }

    /// Answers the one that has been held for longest, if any is.
    pub fn release(&self) {
        if let Some(held) = lock(&self.held).pop_front() {
            let _ = held.send(());
        }
    }

    /// Requests that reached any path.
    pub fn total(&self) -> u64 {
        lock(&self.counts).values().sum()
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(
    request: Request<Incoming>,
    counts: Arc<Mutex<BTreeMap<String, u64>>>,
    held: Arc<Mutex<VecDeque<oneshot::Sender<()>>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    // Counted on arrival: a caller that goes away has used its unit all the same.
    *lock(&counts).entry(request.uri().path().to_owned()).or_default() += 1;
    if request.headers().contains_key(HOLD_HEADER) {
        let (release, released) = oneshot::channel();
        lock(&held).push_back(release);
        drop(released.await);
    }
    if let Some(onward) = onward(&request) {
        return Ok(onward);
    }
    let (head, body) = request.into_parts();
    let (body, trailers) = match body.collect().await {
        Ok(collected) => {
            let trailers = collected.trailers().map(pairs).unwrap_or_default();
            (collected.to_bytes(), trailers)
        }
        Err(_) => (Bytes::new(), Vec::new()),
    };
    let host = match head.uri.authority() {
        Some(authority) => authority.to_string(),
        None => head
            .headers
            .get("host")
            .map(|h| String::from_utf8_lossy(h.as_bytes()).into_owned())
            .unwrap_or_default(),
    };
    let echo = Echo {
        method: head.method.to_string(),
        path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        host,
        headers: pairs(&head.headers),
        trailers,
        body: if body.len() <= MAX_ECHO {
            String::from_utf8_lossy(&body).into_owned()
        } else {
            String::new()
        },
        body_bytes: body.len(),
        body_sha256: hex(&Sha256::digest(&body)),
    };
    let json = serde_json::to_vec(&echo).expect("an echo has no map with keys other than text");
    let mut response = Response::new(Full::new(Bytes::from(json)));
    response
        .headers_mut()
        .insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    Ok(response)
}

fn onward(request: &Request<Incoming>) -> Option<Response<Full<Bytes>>> {
    let (_, address) = request.uri().query()?.split_once(ONWARD)?;
    let address = address.split('&').next().unwrap_or_default();
    let answer = Response::builder().status(302).header("location", format!("http://{address}/arrived"));
    answer.body(Full::default()).ok()
}

fn pairs(headers: &hyper::HeaderMap) -> Vec<(String, String)> {
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
