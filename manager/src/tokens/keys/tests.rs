use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use gate::id::Revision;
use gate::wire::directory::TokenKey;
use jsonwebtoken::jwk::JwkSet;
use serde_json::{Value, json};

use super::super::Shared;
use super::model::{KeySet, MAX_KEYS, SigningKey, State};
use super::{ensure, keys, of_directory, rotate, signing, tend, withdraw};
use crate::app::App;
use crate::testing::World;

async fn directory(world: &World) -> (Vec<TokenKey>, Revision) {
    of_directory(&mut world.app.db.read().await.expect("a connection")).await.expect("the keys")
}

/// Of the word `text`.
fn signature_of(key: &SigningKey) -> String {
    jsonwebtoken::crypto::sign(b"text", key.encoding(), jsonwebtoken::Algorithm::RS256).expect("signed")
}

/// Another replica on the same database.
async fn replica(world: &World) -> App {
    App { db: world.another_process().await, tokens: Shared::default(), ..world.app.clone() }
}

fn names(keys: &[TokenKey]) -> Vec<&str> {
    keys.iter().map(|key| key.kid.as_str()).collect()
}

fn states(set: &KeySet, world: &World) -> Vec<State> {
    set.0.iter().map(|key| set.state(key, world.app.now())).collect()
}

#[tokio::test]
async fn of_replicas_that_start_at_once_one_makes_the_first_key() {
    for world in World::both().await {
        let other = replica(&world).await;
        let (one, two) = tokio::join!(ensure(&world.app), ensure(&other));
        one.and(two).expect("made");
        let (here, there) = (keys(&world.app).await.expect("keys"), keys(&other).await.expect("keys"));
        assert_eq!((here.0.len(), &here.0[0].kid), (1, &there.0[0].kid));
        let signature = signature_of(&here.0[0]);
        let rs256 = jsonwebtoken::Algorithm::RS256;
        let verified = |text: &[u8]| {
            jsonwebtoken::crypto::verify(&signature, text, there.0[0].decoding(), rs256).expect("asked")
        };
        assert!(verified(b"text"));
        assert!(!verified(b"tixt"));
        // At rest there is no private key in clear.
        let clear =
            world.sql("UPDATE token_keys SET sealed_key = sealed_key WHERE sealed_key LIKE 'kv1:%'").await;
        assert_eq!(clear, 1);
    }
}

#[tokio::test]
async fn every_gateway_has_a_key_before_it_signs_and_keeps_the_one_before() {
    for world in World::both().await {
        ensure(&world.app).await.expect("made");
        let (before, announced_at) = directory(&world).await;
        assert_eq!(before.len(), 1);

        let (next, signs_from) = rotate(&world.app, "test").await.expect("rotated");
        let (after, moved_to) = directory(&world).await;
        assert!(moved_to > announced_at);
        assert_eq!(names(&after), [before[0].kid.as_str(), next.as_str()]);
        // Longer than a gateway goes on that is cut off, and than the JWKS may be kept.
        let staleness_ms = i64::from(world.app.config.max_staleness_s) * 1_000;
        assert!(signs_from.0 - world.app.now().0 > staleness_ms + 60_000);

        let set = keys(&world.app).await.expect("keys");
        assert_eq!(states(&set, &world), [State::Active, State::Next]);
        world.advance_ms(signs_from.0 - World::START.0 - 1);
        assert_eq!(states(&set, &world), [State::Active, State::Next]);
        world.advance_ms(1);
        assert_eq!(states(&set, &world), [State::Retired, State::Active]);
        assert_eq!(signing(&world.app).await.expect("a key").kid, next);
    }
}

#[tokio::test]
async fn a_replica_signs_with_what_another_one_made() {
    for world in World::both().await {
        ensure(&world.app).await.expect("made");
        let other = replica(&world).await;
        signing(&other).await.expect("the first");
        let (next, signs_from) = rotate(&world.app, "test").await.expect("rotated");
        world.advance_ms(signs_from.0 - World::START.0);
        assert_eq!(signing(&other).await.expect("a key").kid, next);
    }
}

#[tokio::test]
async fn the_jwks_reads_as_the_directory_says() {
    for world in World::both().await {
        ensure(&world.app).await.expect("made");
        rotate(&world.app, "test").await.expect("rotated");
        let answer = world.anon().get("/oauth/jwks").await;
        assert_eq!(answer.header("cache-control"), Some("public, max-age=60"));
        let jwks = answer.expect(200);
        assert_eq!(world.anon().get("/dgrv4/ssotoken/oauth2/certs").await.expect(200), jwks);
        let members = |key: &Value| key.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
        for key in jwks["keys"].as_array().expect("a list") {
            assert_eq!(members(key), ["alg", "e", "kid", "kty", "n", "use"], "nothing private");
        }
        let set: JwkSet = serde_json::from_value(jwks).expect("a JWK set");
        let (in_directory, _) = directory(&world).await;
        assert_eq!(set.keys.len(), 2);
        for (jwk, entry) in set.keys.iter().zip(&in_directory) {
            assert_eq!(jwk.common.key_id.as_deref(), Some(entry.kid.as_str()));
            let key = keys(&world.app).await.expect("keys").by_kid(&entry.kid).expect("known").clone();
            let text = signature_of(&key);
            let signature = URL_SAFE_NO_PAD.decode(&text).expect("Base64");
            let spki = STANDARD.decode(&entry.spki).expect("Base64");
            // The same key by its three ways out: here, the JWK, the directory.
            let jwk = jsonwebtoken::DecodingKey::from_jwk(jwk).expect("a key");
            let rs256 = jsonwebtoken::Algorithm::RS256;
            assert!(jsonwebtoken::crypto::verify(&text, b"text", &jwk, rs256).expect("verified"));
            let algorithm = &aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256;
            let by_spki = aws_lc_rs::signature::UnparsedPublicKey::new(algorithm, spki);
            by_spki.verify(b"text", &signature).expect("verified");
        }
    }
}

#[tokio::test]
async fn keys_are_rotated_by_those_who_may_one_at_a_time_and_with_an_end() {
    for world in World::both().await {
        ensure(&world.app).await.expect("made");
        let admin = world.operator("ann", &["admin"]).await;
        let auditor = world.operator("rex", &["auditor"]).await;
        auditor.post("/api/v1/token-keys", json!(null)).await.problem(403, "forbidden");
        let made = admin.post("/api/v1/token-keys", json!(null)).await.expect(201);
        assert_eq!(made["state"], "next");
        admin.post("/api/v1/token-keys", json!(null)).await.problem(409, "token_key_waiting");
        let listed = auditor.get("/api/v1/token-keys").await.expect(200);
        assert_eq!(listed["items"].as_array().map(Vec::len), Some(2));
        assert_eq!(listed["items"][1], made);

        let trail = admin.get("/api/v1/audit?action=tokens.make_key").await.expect(200);
        assert_eq!(trail["items"].as_array().map(Vec::len), Some(2), "{trail:#}");
        assert_eq!(trail["items"][0]["actor"], format!("operator:{}", admin.id), "{trail:#}");

        for _ in 2..MAX_KEYS {
            world.advance_ms(3_600_000);
            admin.post("/api/v1/token-keys", json!(null)).await.expect(201);
        }
        world.advance_ms(3_600_000);
        admin.post("/api/v1/token-keys", json!(null)).await.problem(409, "too_many_token_keys");
    }
}

#[tokio::test]
async fn a_withdrawn_key_is_gone_at_once_and_another_one_signs() {
    for world in World::both().await {
        ensure(&world.app).await.expect("made");
        let other = replica(&world).await;
        let leaked = signing(&other).await.expect("a key").kid.clone();
        let fresh = withdraw(&world.app, &leaked, "test").await.expect("withdrawn").expect("another one");
        let (left, _) = directory(&world).await;
        assert_eq!(names(&left), [fresh.as_str()]);
        assert_eq!(signing(&world.app).await.expect("a key").kid, fresh);
        let jwks = world.anon().get("/oauth/jwks").await.expect(200);
        assert_eq!(jwks["keys"].as_array().map(Vec::len), Some(1));
        // Another replica, within a second.
        world.advance_ms(1_000);
        assert_eq!(signing(&other).await.expect("a key").kid, fresh);
        assert!(keys(&other).await.expect("keys").by_kid(&leaked).is_none());
        let sealed = world.sql("UPDATE token_keys SET kid = kid WHERE sealed_key = ''").await;
        assert_eq!(sealed, 1, "what was secret of it is kept nowhere");

        // The next one signs in its place, where there is one; one that signs no more just goes.
        let (next, _) = rotate(&world.app, "test").await.expect("rotated");
        assert_eq!(withdraw(&world.app, &fresh, "test").await.expect("withdrawn"), Some(next.clone()));
        assert_eq!(signing(&world.app).await.expect("a key").kid, next);
        let (later, signs_from) = rotate(&world.app, "test").await.expect("rotated");
        assert_eq!(withdraw(&world.app, &later, "test").await.expect("withdrawn"), None);
        assert!(signs_from > world.app.now());
        assert_eq!(states(&keys(&world.app).await.expect("keys"), &world), [State::Active]);
        // Of which no token is on record.
        world.run_due().await;
        assert_eq!(world.sql("UPDATE token_keys SET kid = kid").await, 1);
    }
}

#[tokio::test]
async fn keys_are_withdrawn_by_those_who_may_and_once() {
    for world in World::both().await {
        ensure(&world.app).await.expect("made");
        let admin = world.operator("ann", &["admin"]).await;
        let auditor = world.operator("rex", &["auditor"]).await;
        let listed = auditor.get("/api/v1/token-keys").await.expect(200);
        let kid = listed["items"][0]["kid"].as_str().expect("a name").to_owned();
        let path = format!("/api/v1/token-keys/{kid}");
        auditor.delete(&path).await.problem(403, "forbidden");
        admin.delete(&path).await.expect(204);
        let listed = auditor.get("/api/v1/token-keys").await.expect(200);
        assert_eq!((&listed["items"][0]["state"], &listed["items"][1]), (&json!("active"), &Value::Null));
        let again = admin.delete(&path).await.problem(404, "not_found");
        let present = listed["items"][0]["kid"].as_str().expect("a name");
        assert!(again["detail"].as_str().is_some_and(|told| told.contains(present)), "{again:#}");
        admin.delete("/api/v1/token-keys/kid_none").await.problem(404, "not_found");
        let trail = admin.get("/api/v1/audit?action=tokens.withdraw_key").await.expect(200);
        assert_eq!(trail["items"].as_array().map(Vec::len), Some(1), "{trail:#}");
        assert_eq!(trail["items"][0]["subject"], format!("token_key:{kid}"));
        assert_eq!(trail["items"][0]["detail"]["signs_now"], present);
    }
}

#[tokio::test]
async fn a_key_that_has_signed_texts_of_refresh_tokens_reads_them_on() {
    for world in World::both().await {
        ensure(&world.app).await.expect("made");
        let kid = signing(&world.app).await.expect("a key").kid.clone();
        let now = world.app.now().0;
        let year = now + 365 * 86_400_000;
        // A refresh token whose present text another key has signed; an access token that was revoked.
        world
            .sql(&format!(
                "INSERT INTO refresh_tokens (id, sha256, client_id, authorities, grant_type, scope, kid, access,
                                             issued_at, expires_at, uses, used)
                 VALUES ('rt_1', '', 'acme', '', 'password', '', 'kid_later', 'tk_1', {now}, {year}, 0, 1)"
            ))
            .await;
        world
            .sql(&format!(
                "INSERT INTO tokens (id, sha256, client_id, grant_type, scope, kid, issued_at, expires_at, uses,
                                     ended_at, ended_by)
                 VALUES ('tk_1', '', 'acme', 'password', '', '{kid}', {now}, {year}, 0, {now}, 'revocation')"
            ))
            .await;
        let (next, signs_from) = rotate(&world.app, "test").await.expect("rotated");
        world.advance_ms(signs_from.0 - now + 120_000);
        let before = directory(&world).await;
        assert_eq!(names(&before.0), [kid.as_str(), next.as_str()]);
        tend(&world.app).await.expect("tended");
        let after = directory(&world).await;
        assert_eq!(
            (names(&after.0), after.1 > before.1),
            (vec![next.as_str()], true),
            "no access token lives"
        );
        let set = keys(&world.app).await.expect("keys");
        assert_eq!(states(&set, &world), [State::Closed, State::Active]);
        assert_eq!(set.active(world.app.now()).map(|key| &key.kid), Some(&next));
        tend(&world.app).await.expect("tended");
        assert_eq!(keys(&world.app).await.expect("keys").0.len(), 2);
        // With the last refresh token of its time it goes.
        world.sql(&format!("UPDATE refresh_tokens SET ended_at = {now}, ended_by = 'revocation'")).await;
        tend(&world.app).await.expect("tended");
        assert_eq!(states(&keys(&world.app).await.expect("keys"), &world), [State::Active]);
    }
}
