//! Clients without a password: they name themselves, and hold what nobody else can.

use serde_json::{Value, json};

use super::{PASSWORD, Shop, claims, form, refused, shop, text};
use crate::config::RefreshTokenReuse;
use crate::testing::{Answer, World};

/// `/oauth/…` and `/oauth2/…`.
const ABOUT_TOKENS: [&str; 4] =
    ["/oauth/revocation", "/oauth/introspection", "/oauth2/revoke", "/oauth2/introspect"];

/// A client `acme` that has no password, with tokens of a person.
async fn public(world: &World) -> (Shop, String, String) {
    let shop = shop(world).await;
    let terms = json!({ "validity": 1, "unit": "hours", "uses": 0 });
    shop.settings("acme", &["client_credentials", "password", "refresh_token"], terms.clone(), terms).await;
    let issued = shop.signed_in(world).await;
    world.sql("UPDATE clients SET password_hash = '' WHERE id = 'acme'").await;
    (shop, issued.text, issued.refresh.expect("a refresh token"))
}

impl Shop {
    async fn renew_as(&self, client: &str, refresh: &str) -> Answer {
        let fields = [("grant_type", "refresh_token"), ("refresh_token", refresh), ("client_id", client)];
        self.ask(&form(&fields), None).await
    }

    async fn ask_as(&self, path: &str, client: &str, token: &str, hint: &str) -> Answer {
        let fields = [("client_id", client), ("token", token), ("token_type_hint", hint)];
        self.call(path, &form(&fields), None).await
    }
}

#[tokio::test]
async fn a_client_without_a_password_renews_inspects_and_revokes_by_its_id_alone() {
    for world in World::both().await {
        let (shop, _, refresh) = public(&world).await;
        let renewed = shop.renew_as("acme", &refresh).await.expect(200);
        let (access, refresh) = (text(&renewed, "access_token"), text(&renewed, "refresh_token"));
        for (path, token, hint) in [
            ("/oauth/introspection", access, "access_token"),
            ("/oauth2/introspect", access, "access_token"),
            ("/oauth/introspection", refresh, "refresh_token"),
            ("/oauth2/introspect", refresh, "refresh_token"),
        ] {
            let seen = shop.ask_as(path, "acme", token, hint).await.expect(200);
            assert_eq!((&seen["active"], &seen["username"]), (&json!(true), &json!("rosa")), "{path}");
        }
        let ended = shop.ask_as("/oauth/revocation", "acme", access, "access_token").await.expect(200);
        assert_eq!(ended["code"], "token_revoke_success");
        shop.ask_as("/oauth2/revoke", "acme", refresh, "refresh_token").await.expect(200);
        let jti = claims(refresh)["jti"].as_str().expect("an id").to_owned();
        let gone = format!("Refresh token revoked, jti: {jti}");
        refused(shop.renew_as("acme", refresh).await, 403, "invalid_token", &gone);
        let seen = shop.ask_as("/oauth2/introspect", "acme", refresh, "refresh_token").await.expect(200);
        assert_eq!(seen, json!({ "active": false }));

        // An empty password is none (RFC 6749, section 2.3.1).
        let (shop, access) = (&shop, shop.signed_in(&world).await.text);
        let fields = [("client_id", "acme"), ("client_secret", ""), ("token", &access)];
        let seen = shop.call("/oauth2/introspect", &form(&fields), None).await.expect(200);
        assert_eq!(seen["active"], true);
    }
}

#[tokio::test]
async fn what_needs_a_password_is_closed_to_a_client_without_one() {
    for world in World::both().await {
        let (shop, ..) = public(&world).await;
        for more in [vec![], vec![("client_secret", "")]] {
            for fields in [
                vec![("grant_type", "client_credentials")],
                vec![("grant_type", "password"), ("username", "ann"), ("password", "secret-of-ann")],
            ] {
                let fields = [fields, vec![("client_id", "acme")], more.clone()].concat();
                let answer = shop.ask(&form(&fields), None).await;
                refused(answer, 400, "invalid_request", "Missing client_secret");
            }
        }
        // Nor is any password its own: not even none, in the header.
        for secret in [PASSWORD, "x"] {
            let answer = shop.ask("grant_type=client_credentials", Some(&format!("acme:{secret}"))).await;
            assert_eq!((answer.status, &answer.body["error"]), (401, &json!("invalid_client")));
        }
        let answer = shop.ask("grant_type=client_credentials", Some("acme:")).await;
        refused(answer, 400, "invalid_request", "Missing client_secret");
    }
}

#[tokio::test]
async fn a_client_with_a_password_is_nobody_without_it() {
    for world in World::both().await {
        let (shop, access, refresh) = public(&world).await;
        // With a password that was set, and with one that was mailed, which opens no token endpoint.
        for state in ["password_hash = 'x'", "password_hash = '', reset_hash = 'x', reset_expires_at = 1"] {
            world.sql(&format!("UPDATE clients SET {state} WHERE id = 'acme'")).await;
            for client in ["acme", "nobody", "no\0body"] {
                let alike = "Missing client_secret";
                refused(shop.renew_as(client, &refresh).await, 400, "invalid_request", alike);
                for path in ABOUT_TOKENS {
                    let answer = shop.ask_as(path, client, &access, "access_token").await;
                    refused(answer, 400, "invalid_request", alike);
                }
            }
        }
        world.sql("UPDATE clients SET password_hash = '', reset_hash = NULL, reset_expires_at = NULL").await;
        let seen = shop.ask_as("/oauth2/introspect", "acme", &access, "access_token").await.expect(200);
        assert_eq!(seen["active"], true, "nobody has ended it by all this");
    }
}

#[tokio::test]
async fn a_public_client_gets_at_nothing_of_another_one() {
    for world in World::both().await {
        let (shop, access, refresh) = public(&world).await;
        shop.client("other").await;
        let terms = json!({ "validity": 1, "unit": "hours", "uses": 0 });
        shop.settings("other", &["password", "refresh_token"], terms.clone(), terms).await;
        world.sql("UPDATE clients SET password_hash = '' WHERE id = 'other'").await;
        let wrong = |of: &str, token: &str| format!("Wrong client(application) for this {of}: {token}");
        let answer = shop.renew_as("other", &refresh).await;
        refused(answer, 400, "invalid_grant", &wrong("refresh token", &refresh));
        for (token, hint) in [(&access, "access_token"), (&refresh, "refresh_token")] {
            for path in ["/oauth/revocation", "/oauth/introspection"] {
                let answer = shop.ask_as(path, "other", token, hint).await;
                refused(answer, 400, "invalid_grant", &wrong("token", token));
            }
            let seen = shop.ask_as("/oauth2/introspect", "other", token, hint).await.expect(200);
            assert_eq!(seen, json!({ "active": false }));
            shop.ask_as("/oauth2/revoke", "other", token, hint).await.expect(200);
            let seen = shop.ask_as("/oauth2/introspect", "acme", token, hint).await.expect(200);
            assert_eq!(seen["active"], true, "another one has ended nothing");
        }
        shop.renew_as("acme", &refresh).await.expect(200);
    }
}

#[tokio::test]
async fn reuse_ends_the_tokens_of_a_public_client_whatever_is_set() {
    let allow = |config: &mut crate::config::Config| config.refresh_token_reuse = RefreshTokenReuse::Allow;
    for world in World::both_with(allow).await {
        let (shop, _, stolen) = public(&world).await;
        let renewed: Value = shop.renew_as("acme", &stolen).await.expect(200);
        let jti = claims(&stolen)["jti"].as_str().expect("an id").to_owned();
        let gone = format!("Refresh token revoked, jti: {jti}");
        refused(shop.renew_as("acme", &stolen).await, 403, "invalid_token", &gone);
        let last = shop.renew_as("acme", text(&renewed, "refresh_token")).await;
        refused(last, 403, "invalid_token", &gone);
        let access = text(&renewed, "access_token");
        let seen = shop.ask_as("/oauth2/introspect", "acme", access, "access_token").await.expect(200);
        assert_eq!(seen, json!({ "active": false }));
    }
}

#[tokio::test]
async fn a_public_client_that_was_stopped_is_told_so_and_gets_nothing() {
    for world in World::both().await {
        let (shop, access, refresh) = public(&world).await;
        for (status, how) in [("disabled", "disable"), ("locked", "locked")] {
            shop.admin.patch("/api/v1/clients/acme/status", json!({ "status": status })).await.expect(200);
            let stopped = format!("'acme' Client(application) {how}");
            refused(shop.renew_as("acme", &refresh).await, 403, "unauthorized_client", &stopped);
            for path in ABOUT_TOKENS {
                let answer = shop.ask_as(path, "acme", &access, "access_token").await;
                refused(answer, 403, "unauthorized_client", &stopped);
            }
        }
    }
}
