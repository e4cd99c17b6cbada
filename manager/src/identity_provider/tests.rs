//! Which ID tokens are believed, and a provider that is no good.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::fetch;
use super::model::{Expected, Metadata, ProviderError, believed};
use crate::testing::World;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const ISSUER: &str = "https://id.example";
const CLIENT: &str = "keygate";
const NONCE: &str = "n-1";
const NOW_S: i64 = 1_768_435_200;

/// A provider's key for ES256, and the set that publishes it.
fn key() -> (EncodingKey, JwkSet) {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let point = pair.public_key_raw();
    let half = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
    // 4, x, y: the uncompressed form of a point (SEC 1).
    let (x, y) = (half(&point[1..33]), half(&point[33..65]));
    let set = json!({ "keys": [
        { "kty": "EC", "crv": "P-256", "kid": "k-1", "use": "sig", "alg": "ES256", "x": x, "y": y },
    ]});
    (EncodingKey::from_ec_der(&pair.serialize_der()), serde_json::from_value(set).expect("a set"))
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "u-1", "aud": CLIENT, "exp": NOW_S + 60, "iat": NOW_S, "nonce": NONCE,
        "preferred_username": "ann", "name": "Ann Lee", "email": "ann@example.com", "email_verified": true,
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut all = claims();
    all[name] = value;
    all
}

fn without(name: &str) -> Value {
    let mut all = claims();
    all.as_object_mut().expect("an object").remove(name);
    all
}

fn told(token: &str, keys: &JwkSet) -> Result<String, String> {
    let expected = Expected { issuer: ISSUER, client_id: CLIENT, nonce: NONCE, now_s: NOW_S };
    match believed(token, keys, &expected) {
        Ok(identity) => Ok(format!("{} {}", identity.subject, identity.email.unwrap_or_default())),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn an_id_token_is_believed_that_is_signed_and_meant_for_this_sign_in() {
    let (key, keys) = key();
    let header = Header { kid: Some("k-1".into()), ..Header::new(Algorithm::ES256) };
    let several = json!([CLIENT, "other"]);
    let mut authorized = with("aud", several.clone());
    authorized["azp"] = CLIENT.into();
    for (claims, expected) in [
        (claims(), Ok("u-1 ann@example.com")),
        (with("email_verified", json!(false)), Ok("u-1 ")),
        (without("email_verified"), Ok("u-1 ")),
        (with("aud", json!([CLIENT])), Ok("u-1 ann@example.com")),
        (authorized, Ok("u-1 ann@example.com")),
        (with("azp", CLIENT.into()), Ok("u-1 ann@example.com")),
        (with("exp", json!(NOW_S - 59)), Ok("u-1 ann@example.com")),
        (with("iat", json!(NOW_S + 60)), Ok("u-1 ann@example.com")),
        (with("iss", "https://evil.example".into()), Err("iss")),
        (with("iss", "https://id.example/".into()), Err("iss")),
        (with("aud", "other".into()), Err("aud")),
        (with("aud", json!([])), Err("aud")),
        (with("aud", several), Err("azp")),
        (with("azp", "other".into()), Err("azp")),
        (with("exp", json!(NOW_S - 60)), Err("exp")),
        (with("iat", json!(NOW_S + 61)), Err("iat")),
        (with("nbf", json!(NOW_S + 61)), Err("nbf")),
        (with("nonce", "n-2".into()), Err("nonce")),
        (without("nonce"), Err("nonce")),
        (without("exp"), Err("a claim is missing")),
        (without("aud"), Err("a claim is missing")),
        (with("sub", "".into()), Err("sub")),
        (with("sub", "s".repeat(256).into()), Err("sub")),
    ] {
        let token = jsonwebtoken::encode(&header, &claims, &key).expect("signed");
        match (told(&token, &keys), expected) {
            (Ok(told), Ok(expected)) => assert_eq!(told, expected, "{claims}"),
            (Err(told), Err(part)) => assert!(told.contains(part), "{told} for {claims}"),
            (told, _) => panic!("{told:?} for {claims}"),
        }
    }
}

#[test]
fn a_signature_of_another_kind_or_key_is_none() {
    let (mine, keys) = key();
    let (another, other_keys) = key();
    let es256 = Header { kid: Some("k-1".into()), ..Header::new(Algorithm::ES256) };
    let right = jsonwebtoken::encode(&es256, &claims(), &mine).expect("signed");
    assert!(told(&right, &keys).is_ok());
    assert!(told(&right, &other_keys).is_err(), "another provider's key");
    let forged = jsonwebtoken::encode(&es256, &claims(), &another).expect("signed");
    assert!(told(&forged, &keys).is_err(), "another's key");
    let (head, rest) = right.split_once('.').expect("three parts");
    let (body, signature) = rest.split_once('.').expect("three parts");
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let evil = part(with("sub", "u-2".into()));
    let none = part(json!({ "alg": "none", "kid": "k-1" }));
    // The public key as the secret of an HMAC.
    let published = serde_json::to_vec(&keys).expect("JSON");
    let hs256 = Header { kid: Some("k-1".into()), ..Header::new(Algorithm::HS256) };
    let confused =
        jsonwebtoken::encode(&hs256, &claims(), &EncodingKey::from_secret(&published)).expect("signed");
    let unknown = Header { kid: Some("k-2".into()), ..es256.clone() };
    let unknown = jsonwebtoken::encode(&unknown, &claims(), &mine).expect("signed");
    for token in [
        format!("{head}.{evil}.{signature}"),
        format!("{head}.{body}."),
        format!("{none}.{body}."),
        format!("{none}.{body}.{signature}"),
        confused,
        unknown,
        format!("{head}.{body}"),
        String::new(),
    ] {
        assert!(told(&token, &keys).is_err(), "{token}");
    }
    // Without an id the only key that fits is meant.
    let bare = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims(), &mine).expect("signed");
    assert!(told(&bare, &keys).is_ok());
    let two = JwkSet { keys: [keys.keys.clone(), other_keys.keys].concat() };
    assert!(told(&bare, &two).is_err(), "of two, nobody knows which");
}

#[test]
fn metadata_of_another_or_in_clear_are_refused() {
    let metadata = |name: &str, value: &str| -> Metadata {
        let mut all = json!({
            "issuer": ISSUER, "authorization_endpoint": "https://id.example/auth",
            "token_endpoint": "https://id.example/token", "jwks_uri": "https://id.example/jwks",
        });
        all[name] = value.into();
        serde_json::from_value(all).expect("metadata")
    };
    for (name, value, fits) in [
        ("issuer", ISSUER, true),
        ("issuer", "https://id.example/", false),
        ("issuer", "https://evil.example", false),
        ("token_endpoint", "http://id.example/token", false),
        ("jwks_uri", "http://id.example/jwks", false),
        ("authorization_endpoint", "javascript:alert(1)", false),
        ("token_endpoint", "http://127.0.0.1:5/token", true),
    ] {
        assert_eq!(metadata(name, value).check(ISSUER).is_ok(), fits, "{name} {value}");
    }
}

#[tokio::test]
async fn a_provider_that_redirects_says_too_much_or_nothing_is_told_apart() {
    use axum::Router;
    use axum::response::Redirect;
    use axum::routing::get;
    let routes = Router::new()
        .route("/moved", get(|| async { Redirect::temporary("/fine") }))
        .route("/fine", get(|| async { "{}" }))
        .route("/large", get(|| async { format!("\"{}\"", "x".repeat(1 << 20)) }))
        .route("/text", get(|| async { "hello" }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let line = fetch::Line::default();
    for (path, part) in
        [("moved", "307"), ("none", "404"), ("large", "length limit"), ("text", "expected value")]
    {
        let url = format!("http://{address}/{path}").parse().expect("a URL");
        let error = fetch::json::<Value>(&line, "the metadata", &url, None).await.expect_err(path);
        assert!(error.to_string().contains(part), "{path}: {error}");
    }
    let url = format!("http://{address}/fine").parse().expect("a URL");
    assert_eq!(fetch::json::<Value>(&line, "the metadata", &url, None).await.expect("an object"), json!({}));
    let nobody = "http://127.0.0.1:1/".parse().expect("a URL");
    let error = fetch::json::<Value>(&line, "the metadata", &nobody, None).await.expect_err("nobody");
    assert!(matches!(error, ProviderError::Fetch { .. }), "{error}");
}

/// A provider that answers slowly, and how often it was asked for what it publishes.
async fn slow_provider() -> (String, Arc<AtomicUsize>) {
    use axum::extract::State;
    use axum::routing::get;
    use axum::{Json, Router};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let issuer = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = Arc::new(AtomicUsize::new(0));
    let published = async |State((issuer, asked)): State<(String, Arc<AtomicUsize>)>| {
        asked.fetch_add(1, Ordering::SeqCst);
        // Whoever wants it too is there before the first is answered.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        Json(json!({
            "issuer": issuer, "authorization_endpoint": format!("{issuer}/auth"),
            "token_endpoint": format!("{issuer}/token"), "jwks_uri": format!("{issuer}/jwks"),
        }))
    };
    let routes = Router::new().route("/.well-known/openid-configuration", get(published));
    let routes = routes.with_state((issuer.clone(), asked.clone()));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (issuer, asked)
}

#[tokio::test]
async fn of_many_who_want_what_a_provider_publishes_one_asks_and_so_many_call_at_once() {
    let (issuer, asked) = slow_provider().await;
    let world = World::sqlite_with(|config| {
        config.oidc_issuer = Some(issuer.clone());
        config.oidc_client_id = Some("keygate".into());
    });
    let world = world.await;
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let app = world.app.clone();
            tokio::spawn(async move { super::available(&app).await.is_some() })
        })
        .collect();
    for one in waiting {
        assert!(one.await.expect("no panic"), "each is told");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);

    let line = fetch::Line::default();
    let url = format!("{issuer}/.well-known/openid-configuration").parse().expect("a URL");
    let places = line.places.acquire_many(u32::try_from(fetch::MAX_AT_ONCE).expect("a few")).await;
    let refused = fetch::json::<Value>(&line, "the metadata", &url, None).await;
    assert!(matches!(refused, Err(ProviderError::Busy)), "{refused:?}");
    drop(places);
    fetch::json::<Value>(&line, "the metadata", &url, None).await.expect("a place is free");
}
