//! What ends together: a sign-in, a user's tokens, a consent's, a client's, a code's.

use serde_json::{Value, json};

use super::owners::{CHALLENGE, REDIRECT, VERIFIER, form, issue_code, refused, text};
use super::{ENCODED, PASSWORD, Shop, claims, shop};
use crate::testing::{Answer, World};

/// One of ann's sign-ins by way of `acme`.
struct SignIn {
    access: String,
    refresh: String,
}

impl SignIn {
    fn of(answer: &Value) -> Self {
        let access = answer["jti"].as_str().expect("an id").to_owned();
        Self { access, refresh: text(answer, "refresh_token").to_owned() }
    }
}

impl Shop {
    async fn sign_in(&self) -> SignIn {
        SignIn::of(&self.by_password("ann", "secret-of-ann").await.expect(200))
    }

    async fn renew(&self, refresh: &str) -> Answer {
        let form = form(&[("grant_type", "refresh_token"), ("refresh_token", refresh)]);
        self.ask(&form, Some(&format!("acme:{PASSWORD}"))).await
    }

    /// Why the access token ended, and whether the refresh token is gone.
    async fn ends(&self, signed_in: &SignIn) -> (Value, bool) {
        let seen = self.admin.get(&format!("/api/v1/tokens/{}", signed_in.access)).await.expect(200);
        let form = format!(
            "client_id=acme&client_secret={PASSWORD}&token_type_hint=refresh_token&token={}",
            signed_in.refresh
        );
        let refresh = self.call("/oauth/introspection", &form, None).await.expect(200);
        (seen["ended_by"].clone(), refresh["active"] == json!(false))
    }

    async fn redeem(&self, code: &str) -> Answer {
        let proof = [("redirect_uri", REDIRECT), ("code_verifier", VERIFIER)];
        self.by_code(code, &proof, Some(&format!("acme:{ENCODED}"))).await
    }
}

const LIVES: (Value, bool) = (Value::Null, false);

fn ended(why: &str) -> (Value, bool) {
    (json!(why), true)
}

#[tokio::test]
async fn a_token_that_an_operator_revokes_takes_its_sign_in_with_it() {
    for world in World::both().await {
        let shop = shop(&world).await;
        shop.ann().await;
        let (one, other) = (shop.sign_in().await, shop.sign_in().await);
        let again = SignIn::of(&shop.renew(&one.refresh).await.expect(200));
        // By whichever of its tokens, one that was replaced too.
        shop.admin.delete(&format!("/api/v1/tokens/{}", one.access)).await.expect(204);
        assert_eq!(shop.ends(&again).await, ended("revocation"));
        let jti = claims(&again.refresh)["jti"].as_str().expect("an id").to_owned();
        let gone = format!("Refresh token revoked, jti: {jti}");
        refused(shop.renew(&again.refresh).await, 403, "invalid_token", &gone);
        assert_eq!(shop.ends(&other).await, LIVES);
        let trail = shop.admin.get("/api/v1/audit?action=tokens.revoke").await.expect(200);
        assert_eq!(trail["items"][0]["subject"], format!("refresh_token:{jti}"), "{trail:#}");
        assert_eq!(trail["items"][0]["detail"]["access_ids"], json!([again.access]));
    }
}

#[tokio::test]
async fn a_stop_or_another_password_ends_all_that_a_user_has_for_good() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let ann = shop.ann().await;
        let own = shop.token().await;
        for change in [
            json!({ "status": "disabled" }),
            json!({ "status": "locked" }),
            json!({ "password": "secret-of-ann" }),
            json!({ "password": null }),
        ] {
            shop.admin.patch(&ann, json!({ "password": "secret-of-ann" })).await.expect(200);
            let (one, other) = (shop.sign_in().await, shop.sign_in().await);
            let code = issue_code(&world, &shop, &ann, Some(CHALLENGE)).await;
            assert_eq!(shop.ends(&one).await, LIVES);
            let changed = shop.admin.patch(&ann, change.clone()).await.expect(200);
            for enabled in [false, true] {
                for signed_in in [&one, &other] {
                    assert_eq!(shop.ends(signed_in).await, ended("user_signed_out"), "{change} {enabled}");
                }
                shop.admin.patch(&ann, json!({ "status": "active" })).await.expect(200);
            }
            shop.renew(&one.refresh).await.expect(403);
            refused(shop.redeem(&code).await, 400, "invalid_grant", "Invalid authorization code");
            assert_eq!(changed["failed_attempts"], 0);
        }
        // What is nothing of that changes nothing, and what comes later lives.
        shop.admin.patch(&ann, json!({ "password": "secret-of-ann" })).await.expect(200);
        let later = shop.sign_in().await;
        for change in
            [json!({ "display_name": "Ann" }), json!({ "unlock": true }), json!({ "status": "active" })]
        {
            shop.admin.patch(&ann, change).await.expect(200);
        }
        // Strangers who try wrong passwords end nobody's sign-in.
        for _ in 0..5 {
            shop.by_password("ann", "wrong-word").await.expect(400);
        }
        assert_eq!(shop.ends(&later).await, LIVES);
        let own = format!("/api/v1/tokens/{}", own["jti"].as_str().expect("an id"));
        assert_eq!(shop.admin.get(&own).await.expect(200)["ended_by"], Value::Null, "the client's own");
    }
}

#[tokio::test]
async fn a_consent_that_is_withdrawn_takes_what_came_of_it() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let ann = shop.ann().await;
        let id = ann.rsplit('/').next().expect("an id");
        let rob = json!({ "name": "rob", "password": "secret-of-rob" });
        shop.admin.post("/api/v1/users", rob).await.expect(201);
        let of_rob = SignIn::of(&shop.by_password("rob", "secret-of-rob").await.expect(200));
        let code = issue_code(&world, &shop, &ann, Some(CHALLENGE)).await;
        let under_way = issue_code(&world, &shop, &ann, Some(CHALLENGE)).await;
        let of_ann = SignIn::of(&shop.redeem(&code).await.expect(200));
        world
            .sql(&format!(
                "INSERT INTO user_consents (user_id, client_id, scope, granted_at) VALUES ('{id}', 'acme', '', 0)"
            ))
            .await;
        shop.admin.delete(&format!("{ann}/consents/acme")).await.expect(204);
        assert_eq!(shop.ends(&of_ann).await, ended("consent_withdrawn"));
        assert_eq!(shop.ends(&of_rob).await, LIVES);
        refused(shop.redeem(&under_way).await, 400, "invalid_grant", "Invalid authorization code");
        let trail = shop.admin.get("/api/v1/audit?action=authorization.withdraw").await.expect(200);
        let told = json!({ "client": "acme", "access_tokens": 1, "refresh_tokens": 1 });
        assert_eq!(trail["items"][0]["detail"], told);
        shop.admin.delete(&format!("{ann}/consents/acme")).await.problem(404, "not_found");
        shop.admin.delete("/api/v1/users/us_none/consents/acme").await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn another_password_of_a_client_ends_no_token_and_one_call_ends_them_all() {
    for world in World::both().await {
        let shop = shop(&world).await;
        shop.ann().await;
        let (own, signed_in) = (shop.token().await, shop.sign_in().await);
        let own = format!("/api/v1/tokens/{}", own["jti"].as_str().expect("an id"));
        world.sql("UPDATE clients SET password_hash = '' WHERE id = 'acme'").await;
        assert_eq!(shop.admin.get(&own).await.expect(200)["ended_by"], Value::Null);
        world.sql("UPDATE clients SET status = 'disabled' WHERE id = 'acme'").await;
        world.sql("UPDATE clients SET status = 'active' WHERE id = 'acme'").await;
        assert_eq!(shop.admin.get(&own).await.expect(200)["ended_by"], Value::Null);

        let auditor = world.operator("rex", &["auditor"]).await;
        auditor.delete("/api/v1/clients/acme/tokens").await.problem(403, "forbidden");
        shop.admin.delete("/api/v1/clients/nobody/tokens").await.problem(404, "not_found");
        for (access, refresh) in [(2, 1), (0, 0)] {
            let counts = shop.admin.delete("/api/v1/clients/acme/tokens").await.expect(200);
            assert_eq!(counts, json!({ "access_tokens": access, "refresh_tokens": refresh }));
        }
        for id in [own, format!("/api/v1/tokens/{}", signed_in.access)] {
            assert_eq!(shop.admin.get(&id).await.expect(200)["ended_by"], "revocation");
        }
        let trail = shop.admin.get("/api/v1/audit?action=tokens.revoke_all").await.expect(200);
        assert_eq!(trail["items"].as_array().map(Vec::len), Some(1), "{trail:#}");
    }
}

#[tokio::test]
async fn who_has_a_used_code_and_not_its_proof_ends_nobody() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let ann = shop.ann().await;
        let code = issue_code(&world, &shop, &ann, Some(CHALLENGE)).await;
        let signed_in = SignIn::of(&shop.redeem(&code).await.expect(200));
        let renewed = SignIn::of(&shop.renew(&signed_in.refresh).await.expect(200));
        // Whoever says to be a client without a password.
        world.sql("UPDATE clients SET password_hash = '' WHERE id = 'acme'").await;
        let stranger = [("client_id", "acme"), ("redirect_uri", REDIRECT), ("code_verifier", CHALLENGE)];
        let invalid = "Invalid authorization code";
        refused(shop.by_code(&code, &stranger, None).await, 400, "invalid_grant", invalid);
        let ended_by = async || {
            let seen = shop.admin.get(&format!("/api/v1/tokens/{}", renewed.access)).await.expect(200);
            seen["ended_by"].clone()
        };
        assert_eq!(ended_by().await, Value::Null);
        // With its proof it was stolen whole: also what came of it by renewals goes, and when the first access
        // token is on record no more.
        assert_eq!(world.sql(&format!("DELETE FROM tokens WHERE id = '{}'", signed_in.access)).await, 1);
        let whole = [("client_id", "acme"), ("redirect_uri", REDIRECT), ("code_verifier", VERIFIER)];
        refused(shop.by_code(&code, &whole, None).await, 400, "invalid_grant", invalid);
        assert_eq!(ended_by().await, "reuse");
        assert_eq!(world.sql("UPDATE refresh_tokens SET kid = kid WHERE ended_by = 'reuse'").await, 1);
    }
}

#[tokio::test]
async fn where_texts_are_reused_one_access_token_lives() {
    let allow = |config: &mut crate::config::Config| {
        config.refresh_token_reuse = crate::config::RefreshTokenReuse::Allow;
    };
    for world in World::both_with(allow).await {
        let shop = shop(&world).await;
        shop.ann().await;
        let signed_in = shop.sign_in().await;
        for _ in 0..3 {
            shop.renew(&signed_in.refresh).await.expect(200);
        }
        assert_eq!(world.sql("UPDATE tokens SET kid = kid WHERE ended_by = 'refresh'").await, 3);
        assert_eq!(world.sql("UPDATE tokens SET kid = kid WHERE ended_at IS NULL").await, 1);
    }
}
