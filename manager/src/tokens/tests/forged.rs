//! Texts that look like tokens of ours and are none: each is refused at every endpoint that takes one.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use aws_lc_rs::{hmac, signature};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{ENCODED, PASSWORD, claims, form, refused, shop};
use crate::testing::World;
use crate::tokens::keys;

const UNREADABLE: &str = "Cannot convert access token to JSON";

/// No library signs what these tests need: the parts are put together by hand.
fn forged(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn rsa(pair: &KeyPair, message: &[u8]) -> Vec<u8> {
    let mut made = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut made).expect("signed");
    made
}

fn jwk(pair: &KeyPair, kid: &str) -> Value {
    let public = signature::KeyPair::public_key(pair);
    let text = |number: &[u8]| URL_SAFE_NO_PAD.encode(number);
    json!({
        "kty": "RSA", "kid": kid,
        "n": text(public.modulus().big_endian_without_leading_zero()),
        "e": text(public.exponent().big_endian_without_leading_zero()),
    })
}

#[tokio::test]
async fn a_forged_token_is_refused_at_every_endpoint() {
    // Of whoever forges.
    let foreign = KeyPair::generate(KeySize::Rsa2048).expect("a key");
    for world in World::both().await {
        let shop = shop(&world).await;
        let terms = json!({ "validity": 1, "unit": "hours", "uses": 0 });
        let grants = ["client_credentials", "password", "refresh_token"];
        shop.settings("acme", &grants, terms.clone(), terms).await;
        let (other, _) = keys::rotate(&world.app, "test").await.expect("rotated");
        let issued = shop.signed_in(&world).await;
        let genuine =
            [(issued.text.clone(), "access_token"), (issued.refresh.expect("one"), "refresh_token")];
        let kid = issued.token.kid.clone();
        let spki = keys::of_directory(&mut world.app.db.read().await.expect("a connection")).await;
        let spki = spki.expect("keys").0.into_iter().find(|key| key.kid == kid).expect("published").spki;
        let der = STANDARD.decode(&spki).expect("Base64");
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n");
        let jwks = shop.anon.get("/oauth/jwks").await.expect(200);
        let published = jwks["keys"].as_array().expect("keys").iter().find(|key| key["kid"] == kid.as_str());
        let published = published.expect("published").clone();
        let hs256 = |key: &[u8]| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key);
            move |message: &[u8]| hmac::sign(&key, message).as_ref().to_vec()
        };
        let by_foreign = |message: &[u8]| rsa(&foreign, message);
        let header = |alg: &str| json!({ "typ": "JWT", "alg": alg, "kid": kid });
        let with = |name: &str, value: Value| {
            let mut header = header("RS256");
            header[name] = value;
            header
        };
        for (genuine, hint) in &genuine {
            let said = claims(genuine);
            let mut longer = said.clone();
            longer["exp"] = json!(4_000_000_000_i64);
            let (message, signature) = genuine.rsplit_once('.').expect("parts");
            let (head, body) = message.split_once('.').expect("parts");
            let raised = URL_SAFE_NO_PAD.encode(longer.to_string());
            let stolen = |_: &[u8]| URL_SAFE_NO_PAD.decode(signature).expect("Base64");
            let texts = [
                // Without a signature.
                forged(&header("none"), &said, |_| Vec::new()),
                forged(&header("None"), &said, stolen),
                format!("{message}."),
                message.to_owned(),
                // HS256, keyed by what everybody may read.
                forged(&header("HS256"), &said, hs256(&der)),
                forged(&header("HS256"), &said, hs256(pem.as_bytes())),
                forged(&header("HS256"), &said, hs256(published["n"].as_str().expect("n").as_bytes())),
                forged(&header("HS256"), &said, hs256(published.to_string().as_bytes())),
                // Other algorithms, under the signature that there is.
                forged(&header("RS384"), &said, stolen),
                forged(&header("PS256"), &said, stolen),
                forged(&header("rs256"), &said, stolen),
                // Somebody else's key, under our name, with a note that it be believed.
                forged(&header("RS256"), &said, by_foreign),
                forged(&with("jwk", jwk(&foreign, &kid)), &said, by_foreign),
                forged(&with("jku", "https://evil.example/jwks".into()), &said, by_foreign),
                forged(&with("x5c", json!([STANDARD.encode("a certificate")])), &said, by_foreign),
                forged(&with("x5u", "https://evil.example/cert".into()), &said, by_foreign),
                // A key of ours that has not signed it; one that there is not; none.
                forged(&with("kid", other.as_str().into()), &said, stolen),
                forged(&with("kid", "../../dev/null".into()), &said, by_foreign),
                forged(&with("kid", "kid' OR '1'='1".into()), &said, by_foreign),
                forged(&json!({ "typ": "JWT", "alg": "RS256" }), &said, by_foreign),
                // Ours, with other words.
                format!("{head}.{raised}.{signature}"),
                format!("{head}.{body}.{signature}x"),
                format!("{head}.{body}.{signature}.x"),
                format!("{message}.{signature}="),
            ];
            for text in texts {
                let own = [("client_id", "acme"), ("client_secret", PASSWORD)];
                let about = [("token", text.as_str()), ("token_type_hint", hint)];
                let about = form(&[&own[..], &about].concat());
                for path in ["/oauth/introspection", "/oauth/revocation"] {
                    refused(shop.call(path, &about, None).await, 400, "invalid_token", UNREADABLE);
                }
                let seen = shop.call("/oauth2/introspect", &about, None).await.expect(200);
                assert_eq!(seen, json!({ "active": false }), "{text}");
                shop.call("/oauth2/revoke", &about, None).await.expect(200);
                let renewal = form(&[("grant_type", "refresh_token"), ("refresh_token", &text)]);
                let answer = shop.ask(&renewal, Some(&format!("acme:{ENCODED}"))).await;
                refused(answer, 400, "invalid_token", UNREADABLE);
            }
        }
        for (genuine, hint) in &genuine {
            let fields = [("client_id", "acme"), ("client_secret", PASSWORD), ("token", genuine)];
            let seen = shop.call("/oauth2/introspect", &form(&fields), None).await.expect(200);
            assert_eq!(seen["active"], true, "{hint}: nobody has ended it by all this");
        }
    }
}

#[tokio::test]
async fn a_token_of_another_installation_is_none_of_ours() {
    for (world, elsewhere) in World::both().await.into_iter().zip(World::both().await) {
        let (here, there) = (shop(&world).await, shop(&elsewhere).await);
        let theirs = there.token().await;
        let fields = [
            ("client_id", "acme"),
            ("client_secret", PASSWORD),
            ("token", theirs["access_token"].as_str().expect("a text")),
        ];
        let seen = here.call("/oauth2/introspect", &form(&fields), None).await.expect(200);
        assert_eq!(seen, json!({ "active": false }));
        let seen = there.call("/oauth2/introspect", &form(&fields), None).await.expect(200);
        assert_eq!(seen["active"], true);
    }
}
