//! The management API of a running manager, as the commands of people without a console call it: what
//! they do is somebody's, with that somebody's permissions.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::body::Bytes;
use axum::http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use url::{Host, Url};
use zeroize::Zeroizing;

/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of an answer at most.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Which manager is called, and by whom.
#[derive(clap::Args)]
pub struct Target {
    /// Where the manager is, e.g. https://keygate.example.com.
    #[arg(long, global = true, env = "KEYGATE_URL", default_value = "http://127.0.0.1:8080")]
    url: Url,
    /// An API token of one's own; from the environment, since command lines are seen by others.
    #[arg(
        long,
        global = true,
        env = "KEYGATE_TOKEN",
        hide_env_values = true,
        hide = true,
        default_value = ""
    )]
    token: String,
    /// Send the token without TLS to another machine.
    #[arg(long, global = true)]
    allow_plaintext: bool,
}

/// A manager that is called.
pub struct Remote {
    url: Url,
    token: Zeroizing<String>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The JSON body; null: there was none; a table (CSV) as a text.
    pub body: Value,
}

impl Target {
    /// Err: the token is missing, or would be seen on its way.
    pub fn open(self) -> anyhow::Result<Remote> {
        let loopback = match self.url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => bail!("{} names no host: write https://keygate.example.com", self.url),
        };
        match self.url.scheme() {
            "https" => {}
            "http" if loopback || self.allow_plaintext => {}
            "http" => bail!(
                "{} is not TLS, and the token would be seen on its way: use https, or --allow-plaintext",
                self.url
            ),
            other => bail!("{other}: is neither https nor http"),
        }
        if self.token.trim().is_empty() {
            bail!(
                "KEYGATE_TOKEN is not set: give it an API token of your own, from \
                 POST /api/v1/operators/{{id}}/tokens or `keygate operator issue-token`"
            );
        }
        Ok(Remote { url: self.url, token: Zeroizing::new(self.token.trim().to_owned()) })
    }
}

impl Remote {
    /// One call. `path` begins below the manager's address; `version` goes into `If-Match`.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        version: Option<i64>,
        body: Option<&Value>,
    ) -> anyhow::Result<Answer> {
        tokio::time::timeout(TIMEOUT, self.exchange(method, path, version, body))
            .await
            .with_context(|| format!("{} did not answer within {} s", self.url, TIMEOUT.as_secs()))?
            .with_context(|| format!("cannot call {}", self.url))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        version: Option<i64>,
        body: Option<&Value>,
    ) -> anyhow::Result<Answer> {
        let host = self.url.host_str().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let port = self.url.port_or_known_default().unwrap_or(443);
        let below = self.url.path().trim_end_matches('/');
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{below}{path}"))
            .header(header::HOST, format!("{host}:{port}"))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token.as_str()));
        if let Some(version) = version {
            request = request.header(header::IF_MATCH, format!("\"{version}\""));
        }
        let body = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        let request = request.body(Full::new(body))?;
        let stream = TcpStream::connect((bare, port)).await?;
        if self.url.scheme() == "http" {
            return send(stream, request).await;
        }
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(bare.to_owned())?;
        send(tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?, request).await
    }
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<Answer> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the answer, which tells what went wrong.
    let driven = tokio::spawn(connection);
    let answer = sender.send_request(request).await?;
    let status = answer.status().as_u16();
    let kind = answer.headers().get(header::CONTENT_TYPE).map(|kind| kind.as_bytes().to_vec());
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
    drop(sender);
    driven.abort();
    let body = if body.is_empty() {
        Value::Null
    } else if kind.is_some_and(|kind| kind.starts_with(b"text/csv")) {
        Value::String(String::from_utf8(body.to_vec()).context("the table is no UTF-8")?)
    } else {
        serde_json::from_slice(&body).context("the answer is no JSON: is this the manager's address?")?
    };
    Ok(Answer { status, body })
}
