//! A calling application: HTTP/1.1 with keep-alive, HTTP/2, chunks, trailers, and bytes as they are.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Frame;
use hyper::client::conn::{http1, http2};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// No call here may last longer.
pub const CALL_LIMIT: Duration = Duration::from_secs(30);
/// How long [`raw`] waits for more bytes.
const RAW_SILENCE: Duration = Duration::from_millis(1_500);

/// A request.
#[derive(Clone, Debug)]
pub struct Call {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// `host` or `:authority`; absent: the address that is called.
    pub host: Option<String>,
    /// In order; repeated names are sent repeatedly.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Body,
    /// From which address of this machine, on a connection of its own; absent: any.
    pub from: Option<IpAddr>,
}

/// How the body is sent.
#[derive(Clone, Debug)]
pub enum Body {
    /// None at all.
    None,
    /// With its length.
    Whole(Bytes),
    /// In pieces (HTTP/1.1: chunked; HTTP/2: DATA frames) with a pause before each, then trailers.
    Pieces {
        /// In order.
        pieces: Vec<Bytes>,
        /// Before each piece.
        pause: Duration,
        /// After the last piece.
        trailers: Vec<(String, String)>,
    },
}

impl Call {
    /// Without headers or body.
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.into(),
            path: path.into(),
            host: None,
            headers: Vec::new(),
            body: Body::None,
            from: None,
        }
    }

    /// `GET`.
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// `POST` of JSON text.
    pub fn post(path: &str, body: impl Into<Bytes>) -> Self {
        Self::new("POST", path).header("content-type", "application/json").body(body)
    }

    /// From that address of this machine.
    pub fn from(mut self, address: IpAddr) -> Self {
        self.from = Some(address);
        self
    }

    /// One more header.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), value.as_ref().to_vec()));
        self
    }

    /// `X-Api-Key`.
    pub fn x_api_key(self, key: &str) -> Self {
        self.header("x-api-key", key)
    }

    /// `Authorization: DGRK …` over the body that the call has now.
    pub fn signed(self, api_key: &str, secret_key: &str) -> Self {
        let whole: Vec<u8> = match &self.body {
            Body::None => Vec::new(),
            Body::Whole(body) => body.to_vec(),
            Body::Pieces { pieces, .. } => pieces.concat(),
        };
        let value = gate::credential::dgrk::sign(api_key, secret_key, &whole);
        self.header("authorization", value)
    }

    /// This host instead of the address.
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.into());
        self
    }

    /// A body with its length.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Body::Whole(body.into());
        self
    }

    /// The body so far in `count` pieces of about the same size.
    pub fn in_pieces(mut self, count: usize, pause: Duration, trailers: &[(&str, &str)]) -> Self {
        let whole = match self.body {
            Body::Whole(body) => body,
            Body::None => Bytes::new(),
            Body::Pieces { pieces, .. } => Bytes::from(pieces.concat()),
        };
        let size = whole.len().div_ceil(count.max(1)).max(1);
        let mut pieces = Vec::new();
        let mut rest = whole;
        while !rest.is_empty() {
            pieces.push(rest.split_to(size.min(rest.len())));
        }
        let trailers = trailers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        self.body = Body::Pieces { pieces, pause, trailers };
        self
    }

    fn body_stream(&self) -> BoxBody<Bytes, Infallible> {
        match &self.body {
            Body::None => http_body_util::Empty::new().boxed(),
            Body::Whole(body) => Full::new(body.clone()).boxed(),
            Body::Pieces { pieces, pause, trailers } => {
                let (sender, receiver) = tokio::sync::mpsc::channel(1);
                let (pieces, pause, trailers) = (pieces.clone(), *pause, trailers.clone());
                tokio::spawn(async move {
                    for piece in pieces {
                        tokio::time::sleep(pause).await;
                        if sender.send(Frame::data(piece)).await.is_err() {
                            return;
                        }
                    }
                    if !trailers.is_empty() {
                        // Nobody listens any more: the answer came early.
                        drop(sender.send(Frame::trailers(header_map(&trailers))).await);
                    }
                });
                Receiver(receiver).boxed()
            }
        }
    }
}

fn header_map(pairs: &[(String, String)]) -> HeaderMap {
    pairs
        .iter()
        .filter_map(|(name, value)| {
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?))
        })
        .collect()
}

/// The frames of a body in pieces.
struct Receiver(tokio::sync::mpsc::Receiver<Frame<Bytes>>);

impl hyper::body::Body for Receiver {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|frame| frame.map(Ok))
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// All headers in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// A header's first value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The `code` of a problem document; empty if there is none.
    pub fn code(&self) -> String {
        self.json().get("code").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// What the upstream received: an error unless it was the upstream that answered.
    pub fn echo(&self) -> Result<crate::upstream::Echo> {
        if self.status != 200 {
            bail!("answered {} {}", self.status, self.text());
        }
        serde_json::from_slice(&self.body).with_context(|| format!("no echo: {}", self.text()))
    }

    /// Status and code in one, for comparing: `200`, `429 quota_exhausted`.
    pub fn verdict(&self) -> String {
        let code = self.code();
        if code.is_empty() { self.status.to_string() } else { format!("{} {code}", self.status) }
    }
}

/// Which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 without TLS, from the first byte.
    Http2,
}

/// An open connection.
pub enum Connection {
    /// One call after the other.
    Http1 {
        /// Where to.
        address: SocketAddr,
        /// hyper's handle.
        sender: http1::SendRequest<BoxBody<Bytes, Infallible>>,
    },
    /// Many calls at once.
    Http2 {
        /// Where to.
        address: SocketAddr,
        /// hyper's handle.
        sender: http2::SendRequest<BoxBody<Bytes, Infallible>>,
    },
}

impl Connection {
    /// Opens one.
    pub async fn open(address: SocketAddr, protocol: Protocol) -> Result<Self> {
        Self::open_from(None, address, protocol).await
    }

    /// Opens one from an address of this machine; none: from any.
    pub async fn open_from(from: Option<IpAddr>, address: SocketAddr, protocol: Protocol) -> Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(from) = from {
            socket.bind(SocketAddr::new(from, 0)).with_context(|| format!("call from {from}"))?;
        }
        let stream = socket.connect(address).await.with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        let io = TokioIo::new(stream);
        match protocol {
            Protocol::Http1 => {
                let (sender, driver) = http1::handshake(io).await.context("HTTP/1.1 handshake")?;
                // Its end shows in the next call.
                tokio::spawn(driver);
                Ok(Self::Http1 { address, sender })
            }
            Protocol::Http2 => {
                let (sender, driver) =
                    http2::handshake(TokioExecutor::new(), io).await.context("HTTP/2 handshake")?;
                tokio::spawn(driver);
                Ok(Self::Http2 { address, sender })
            }
        }
    }

    /// The same connection once more, for calls beside those of this one; of HTTP/2 alone.
    pub fn shared(&self) -> Option<Self> {
        match self {
            Self::Http1 { .. } => None,
            Self::Http2 { address, sender } => {
                Some(Self::Http2 { address: *address, sender: sender.clone() })
            }
        }
    }

    /// Sends one call and reads the whole answer.
    pub async fn send(&mut self, call: &Call) -> Result<Answer> {
        let (Self::Http1 { address, .. } | Self::Http2 { address, .. }) = self;
        let host = call.host.clone().unwrap_or_else(|| address.to_string());
        let mut request = Request::builder().method(call.method.as_str());
        request = match self {
            Self::Http1 { .. } => request.uri(&call.path).header("host", &host),
            Self::Http2 { .. } => request.uri(format!("http://{host}{}", call.path)),
        };
        for (name, value) in &call.headers {
            request =
                request.header(name.as_str(), HeaderValue::from_bytes(value).context("a header's value")?);
        }
        let request = request.body(call.body_stream()).context("a request")?;
        let sent = async {
            let response = match self {
                Self::Http1 { sender, .. } => {
                    sender.ready().await.context("the connection is closed")?;
                    sender.send_request(request).await
                }
                Self::Http2 { sender, .. } => {
                    sender.ready().await.context("the connection is closed")?;
                    sender.send_request(request).await
                }
            };
            let (head, body) = response.context("no answer")?.into_parts();
            let body = body.collect().await.context("the answer's body")?.to_bytes();
            let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
            let headers = head.headers.iter().map(|(n, v)| (n.as_str().to_owned(), text(v))).collect();
            anyhow::Ok(Answer { status: head.status.as_u16(), headers, body })
        };
        tokio::time::timeout(CALL_LIMIT, sent)
            .await
            .with_context(|| format!("{} {} was not answered", call.method, call.path))?
    }
}

/// One call on a connection of its own.
pub async fn send(address: SocketAddr, protocol: Protocol, call: &Call) -> Result<Answer> {
    Connection::open_from(call.from, address, protocol).await?.send(call).await
}

/// One call over HTTP/1.1 on a connection of its own.
pub async fn http1(address: SocketAddr, call: &Call) -> Result<Answer> {
    send(address, Protocol::Http1, call).await
}

/// Sends bytes as they are and reads until the other side closes or falls silent.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(bytes).await?;
    let mut read = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    // Silence ends it as a close does.
    while let Ok(Ok(n)) = tokio::time::timeout(RAW_SILENCE, stream.read(&mut buffer)).await {
        match buffer.get(..n) {
            Some(piece) if n > 0 => read.extend_from_slice(piece),
            _ => break,
        }
    }
    Ok(String::from_utf8_lossy(&read).into_owned())
}
