//! Tokens through the real Envoy, whose own code verifies their signatures; the manager is played by
//! the test, which counts what it is asked.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use e2e::client::{self, Answer, Call, Connection, Protocol};
use e2e::envoy::{Envoy, Wiring};
use e2e::provision;
use e2e::upstream::Upstream;
use gate::credential::Fingerprint;
use gate::id::{Epoch, Revision};
use gate::request::CredentialKind;
use gate::wire::changes::ChangesAnswer;
use gate::wire::decisions::DecisionsAnswer;
use gate::wire::directory::{ApiEntry, Audience, DirectoryAnswer, PathRule, Settings, TokenKey};
use gate::wire::exchange::{
    ClientStatus, ExchangeAnswer, ExchangeRequest, Grant, Permission, Presented, Proof, Resolved,
};
use gate::wire::{
    CHANGES_PATH, DECISIONS_PATH, DIRECTORY_PATH, MANAGER_MARK, MANAGER_MARK_VALUE, WIRE_VERSION,
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// `tests/vectors/rs256.json`.
#[derive(Deserialize)]
struct Vectors {
    kid: String,
    spki: String,
    tokens: Vec<Token>,
}

#[derive(Deserialize)]
struct Token {
    jti: String,
    token: String,
}

impl Vectors {
    fn read() -> Self {
        serde_json::from_str(include_str!("../../vectors/rs256.json")).expect("the vectors are JSON")
    }

    fn token(&self, jti: &str) -> &str {
        &self.tokens.iter().find(|token| token.jti == jti).expect("one of the vectors").token
    }
}

/// Knows one API, one key and two tokens.
struct Manager {
    vectors: Vectors,
    resolved: AtomicUsize,
    asked: Mutex<Vec<String>>,
}

impl Manager {
    async fn answer(&self, request: Request<Incoming>) -> Vec<u8> {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let answer = match path.as_str() {
            CHANGES_PATH => {
                let reset = query.contains("epoch=0&");
                if !reset {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                let (epoch, revision) = (Epoch(1), Revision(1));
                serde_json::to_vec(&ChangesAnswer {
                    version: WIRE_VERSION,
                    epoch,
                    revision,
                    reset,
                    changes: vec![],
                })
            }
            DIRECTORY_PATH => serde_json::to_vec(&self.directory()),
            DECISIONS_PATH => {
                let report: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
                let seq = report["seq"].as_u64().unwrap_or_default();
                serde_json::to_vec(&DecisionsAnswer { version: WIRE_VERSION, seq })
            }
            _ => serde_json::to_vec(&self.exchange(&serde_json::from_slice(&body).expect("an exchange"))),
        };
        answer.expect("answers are JSON")
    }

    fn directory(&self) -> DirectoryAnswer {
        DirectoryAnswer {
            version: WIRE_VERSION,
            epoch: Epoch(1),
            revision: Revision(1),
            since: None,
            settings: Settings::default(),
            apis: vec![ApiEntry {
                uid: "orders".into(),
                module: "shop".into(),
                id: "orders".into(),
                hosts: vec![],
                methods: vec![],
                path: PathRule::Prefix("/orders".into()),
                accepts: vec![CredentialKind::Bearer],
                no_auth: false,
                enabled: true,
                audience: Audience::Both,
                groups: vec!["g1".into()],
                unsigned_forms: false,
            }],
            token_keys: vec![TokenKey { kid: self.vectors.kid.clone(), spki: self.vectors.spki.clone() }],
            removed: vec![],
        }
    }

    fn exchange(&self, request: &ExchangeRequest) -> ExchangeAnswer {
        let resolved = request.resolve.iter().map(|presented| {
            self.resolved.fetch_add(1, Ordering::Relaxed);
            let Presented::Bearer { sha256 } = presented else { return Resolved::Unknown };
            self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(sha256.clone());
            let known = ["first", "second"].map(|jti| (jti, hash(self.vectors.token(jti))));
            match known.iter().find(|(_, hash)| hash == sha256) {
                Some((jti, _)) => {
                    let tps = if *jti == "second" { TPS } else { 0 };
                    Resolved::Known { grant: Box::new(Grant { tps, ..grant(jti) }) }
                }
                None => Resolved::Unknown,
            }
        });
        ExchangeAnswer {
            version: WIRE_VERSION,
            epoch: Epoch(1),
            as_of: Revision(1),
            resolved: resolved.collect(),
            renewed: vec![],
            usage_seq: request.usage.as_ref().map(|usage| usage.seq),
        }
    }
}

/// For the end of a connection that Envoy gives up: it lets a caller read for a second.
const END_LIMIT: Duration = Duration::from_secs(20);
/// Of the client of the token `second`.
const TPS: u32 = 2;

fn hash(token: &str) -> String {
    Fingerprint::of(token.as_bytes()).to_hex()
}

fn grant(jti: &str) -> Grant {
    Grant {
        credential: jti.into(),
        client: "acme".into(),
        proof: Proof::Presented,
        client_status: ClientStatus::Active,
        client_validity: None,
        service_time: None,
        addresses: vec![],
        bound: false,
        active: true,
        effective_at: None,
        revoked_at: None,
        expires_at: None,
        permission: Permission::Groups { groups: vec!["g1".into()] },
        audience: Audience::Both,
        priority: 5,
        tps: 0,
        meters: vec![],
        utc_offset_min: 0,
        keep_s: 3_600,
    }
}

struct Stage {
    manager: Arc<Manager>,
    envoy: Envoy,
}

impl Stage {
    async fn start(name: &str) -> Result<Self> {
        let manager = Arc::new(Manager {
            vectors: Vectors::read(),
            resolved: AtomicUsize::new(0),
            asked: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let answering = manager.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let manager = answering.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let manager = manager.clone();
                        async move {
                            let body = Full::new(Bytes::from(manager.answer(request).await));
                            let answer =
                                Response::builder().header(MANAGER_MARK, MANAGER_MARK_VALUE).body(body);
                            Ok::<_, Infallible>(answer.expect("a name and a value"))
                        }
                    });
                    let server = auto::Builder::new(TokioExecutor::new());
                    drop(server.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        let wiring = Wiring {
            // One: what it knows of a token, all know.
            workers: 1,
            filter: provision::filter()?,
            upstream: Upstream::start().await?.address,
            manager: address,
            replicas: vec![],
            token: "the-test".into(),
            listeners: vec![],
        };
        let folder = provision::root().join("target/e2e").join(name);
        let mut envoy = Envoy::configure(&folder, wiring)?;
        envoy.start().await.context("start Envoy")?;
        Ok(Self { manager, envoy })
    }

    async fn present(&self, token: &str) -> Result<Answer> {
        let call = Call::get("/orders/7").header("authorization", format!("Bearer {token}"));
        client::http1(self.envoy.address, &call).await
    }

    fn resolved(&self) -> usize {
        self.manager.resolved.load(Ordering::Relaxed)
    }
}

#[test]
fn envoy_verifies_a_token_before_the_manager_hears_of_it() -> Result<()> {
    e2e::run(async {
        let stage = Stage::start("bearer").await?;
        let (first, unknown) = (stage.manager.vectors.token("first"), stage.manager.vectors.token("unknown"));

        let answer = stage.present(first).await?;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.echo()?.header("x-keygate-credential"), ["first"]);
        assert_eq!(stage.resolved(), 1);

        // The claims of one with the signature of another, a signature with one bit changed, and none.
        let (signed, signature) = first.rsplit_once('.').context("three parts")?;
        let (_, others) = unknown.rsplit_once('.').context("three parts")?;
        let changed = signature.replacen(|c: char| c != 'A', "A", 1);
        for forged in [format!("{signed}.{others}"), format!("{signed}.{changed}"), format!("{signed}.AAAA")]
        {
            let answer = stage.present(&forged).await?;
            assert_eq!((answer.status, answer.code().as_str()), (401, "credential_unknown"));
            assert!(answer.text().contains("incorrect signature"), "{}", answer.text());
            assert_eq!(
                answer.header("www-authenticate"),
                Some("Bearer realm=\"keygate\", error=\"invalid_token\"")
            );
        }
        assert_eq!(stage.resolved(), 1, "none of them reached the manager");

        // Signed by the right key, and yet nobody's: that only the manager knows, and is asked once.
        for _ in 0..3 {
            let answer = stage.present(unknown).await?;
            assert_eq!((answer.status, answer.code().as_str()), (401, "credential_unknown"));
        }
        assert_eq!(stage.resolved(), 2);
        assert_eq!(stage.present(stage.manager.vectors.token("second")).await?.status, 200);
        assert_eq!(stage.present(first).await?.status, 200);
        assert_eq!(stage.resolved(), 3);
        let asked = stage.manager.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert_eq!(asked, ["first", "unknown", "second"].map(|jti| hash(stage.manager.vectors.token(jti))));
        Ok(())
    })
}

/// Envoy itself closes an HTTP/1.1 connection on which it has more than two answers of its own to queue at
/// once ("Too many responses queued", with any filter): what it does not answer, it must not leave hanging.
#[test]
fn pipelined_requests_are_answered_in_order_until_envoy_closes_the_connection() -> Result<()> {
    e2e::run(async {
        let stage = Stage::start("pipelined").await?;
        let token = stage.manager.vectors.token("second");
        assert_eq!(stage.present(token).await?.status, 200);
        let line = |path: &str| {
            format!("GET /orders/{path} HTTP/1.1\r\nhost: api\r\nauthorization: Bearer {token}\r\n")
        };
        for count in [3, 8, 30] {
            tokio::time::sleep(Duration::from_millis(1_100)).await;
            let mut stream = TcpStream::connect(stage.envoy.address).await?;
            let requests = (1..count).map(|n| line(&n.to_string()) + "\r\n").collect::<String>();
            let last = line("last") + "connection: close\r\n\r\n";
            stream.write_all((requests + &last).as_bytes()).await?;
            let mut read = String::new();
            let ended = tokio::time::timeout(END_LIMIT, stream.read_to_string(&mut read)).await;
            ended.with_context(|| {
                format!("{count} requests, and the connection stays open after:\n{read}")
            })??;
            let statuses: Vec<&str> =
                read.split("HTTP/1.1 ").skip(1).filter_map(|head| head.get(..3)).collect();
            let (admitted, refused) = statuses.split_at(statuses.partition_point(|status| *status == "200"));
            assert!(admitted.len() >= TPS as usize, "{count}: {statuses:?}");
            assert!(
                !refused.is_empty() && refused.iter().all(|status| *status == "429"),
                "{count}: {statuses:?}"
            );
        }
        // One after the other, all are answered on one connection.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let mut connection = Connection::open(stage.envoy.address, Protocol::Http1).await?;
        let mut refused = 0;
        for _ in 0..10 {
            let call = Call::get("/orders/7").header("authorization", format!("Bearer {token}"));
            refused += usize::from(connection.send(&call).await?.status == 429);
        }
        assert!(refused >= 4, "{refused}: at most two seconds' worth was admitted");
        Ok(())
    })
}
