//! Calls to a provider: bounded in number, time and size, no redirect followed, answers in JSON.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use url::Url;

use super::model::ProviderError;

/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer at most.
const MAX_ANSWER_BYTES: usize = 256 << 10;

/// Calls at the same time at most: strangers bring them about.
pub(super) const MAX_AT_ONCE: usize = 8;

/// By what the provider is called. Its certificate authorities are read once.
#[derive(Debug)]
pub(super) struct Line {
    pub places: Semaphore,
    tls: OnceLock<Arc<rustls::ClientConfig>>,
}

impl Default for Line {
    fn default() -> Self {
        Self { places: Semaphore::new(MAX_AT_ONCE), tls: OnceLock::new() }
    }
}

/// A form that is sent.
pub(super) struct Form {
    pub body: String,
    /// Basic.
    pub authorization: Option<String>,
}

/// What a call brings, as JSON. An answer other than 200 is [`ProviderError::Refused`].
pub(super) async fn json<T: DeserializeOwned>(
    line: &Line,
    what: &'static str,
    url: &Url,
    form: Option<Form>,
) -> Result<T, ProviderError> {
    let failed = |reason: String| ProviderError::Fetch { what, reason };
    let _place = line.places.try_acquire().map_err(|_| ProviderError::Busy)?;
    let answered = tokio::time::timeout(TIMEOUT, exchange(line, url, form)).await;
    let (status, body) = answered
        .map_err(|_| failed(format!("{url} did not answer within {} s", TIMEOUT.as_secs())))?
        .map_err(|error| failed(format!("{url}: {error:#}")))?;
    if status != 200 {
        // What it says may stand in the log: the code of an error, and no more.
        let told: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
        let error = told.as_ref().and_then(|told| told["error"].as_str()).unwrap_or("no error code");
        let error: String = error.chars().filter(|c| c.is_ascii_graphic()).take(60).collect();
        return Err(ProviderError::Refused(format!("{status} ({error}) for {what}")));
    }
    serde_json::from_slice(&body).map_err(|error| failed(format!("{url}: {error}")))
}

async fn exchange(line: &Line, url: &Url, form: Option<Form>) -> anyhow::Result<(u16, Bytes)> {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = url.port_or_known_default().unwrap_or(443);
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let named = if url.port().is_some() { format!("{host}:{port}") } else { host.to_owned() };
    let mut request =
        Request::builder().uri(target).header(header::HOST, named).header(header::ACCEPT, "application/json");
    let body = match form {
        Some(Form { body, authorization }) => {
            request = request
                .method(Method::POST)
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            if let Some(authorization) = authorization {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            Bytes::from(body)
        }
        None => Bytes::new(),
    };
    let request = request.body(Full::new(body))?;
    let stream = TcpStream::connect((bare.as_str(), port)).await?;
    if url.scheme() == "http" {
        return send(stream, request).await;
    }
    let name = ServerName::try_from(bare)?;
    send(tokio_rustls::TlsConnector::from(line.tls()?).connect(name, stream).await?, request).await
}

impl Line {
    fn tls(&self) -> anyhow::Result<Arc<rustls::ClientConfig>> {
        if let Some(config) = self.tls.get() {
            return Ok(config.clone());
        }
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(self.tls.get_or_init(|| Arc::new(config)).clone())
    }
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<(u16, Bytes)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the answer, which tells what went wrong.
    let driven = tokio::spawn(connection);
    let answer = sender.send_request(request).await;
    let read = async {
        let answer = answer?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
        Ok((status, body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes()))
    };
    let read = read.await;
    drop(sender);
    driven.abort();
    read
}
