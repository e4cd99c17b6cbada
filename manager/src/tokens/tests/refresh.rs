//! `refresh_token`: renewals, their count, and what was used before.

use serde_json::{Value, json};

use super::{ENCODED, Shop, claims, refused, shop, text};
use crate::changes;
use crate::clients::token_settings::{self, GrantType};
use crate::config::RefreshTokenReuse;
use crate::testing::{Answer, World};
use crate::tokens::{self, Owner, actions::Issued};

/// Three renewals within a day, as the documents have it.
fn thrice() -> Value {
    json!({ "validity": 1, "unit": "days", "uses": 3 })
}

fn default_terms() -> Value {
    json!({ "validity": 0, "unit": "minutes", "uses": 0 })
}

impl Shop {
    /// What a person gets by way of `acme`.
    pub(super) async fn signed_in(&self, world: &World) -> Issued {
        let mut read = world.app.db.read().await.expect("a connection");
        let client = crate::clients::by_id(&mut read, "acme").await.expect("the database").expect("a client");
        let settings = token_settings::of_client(&mut read, "acme").await.expect("settings").settings;
        drop(read);
        let owner = Owner { name: "rosa".into(), authorities: vec!["buyer".into()], account: None };
        let issued = tokens::issue_to_owner(&world.app, &client, &settings, GrantType::Password, &owner);
        match issued.await {
            Ok(issued) => issued,
            Err(refusal) => panic!("{refusal:?}"),
        }
    }

    async fn refresh(&self, token: &str) -> Answer {
        let form = format!("grant_type=refresh_token&refresh_token={token}");
        self.ask(&form, Some(&format!("acme:{ENCODED}"))).await
    }
}

async fn ending(world: &World, id: &str) -> Option<&'static str> {
    let mut read = world.app.db.read().await.expect("a connection");
    let token = tokens::by_id(&mut read, id).await.expect("the database").expect("on record");
    token.ended.map(|(_, why)| why.as_str())
}

#[tokio::test]
async fn a_refresh_token_serves_three_uses_within_one_day() {
    for world in World::both().await {
        let shop = shop(&world).await;
        shop.settings("acme", &["password", "refresh_token"], default_terms(), thrice()).await;
        let first = shop.signed_in(&world).await;
        let mut refresh = first.refresh.clone().expect("a refresh token");
        let (jti, end) = (claims(&refresh)["jti"].clone(), claims(&refresh)["exp"].clone());
        assert_eq!(end, World::START.0 / 1_000 + 86_400);
        let mut before = first.token.id.clone();
        for renewal in 1..=3 {
            world.advance_ms(3_600_000);
            let answer = shop.refresh(&refresh).await.expect(200);
            let (access, again) = (claims(text(&answer, "access_token")), text(&answer, "refresh_token"));
            // A new access token with a life of its own, for the same person …
            assert_eq!(answer["expires_in"], 599);
            assert_eq!((&access["user_name"], &access["authorities"]), (&json!("rosa"), &json!(["buyer"])));
            // … and the same refresh token with the same end.
            let told = claims(again);
            assert_eq!((&told["jti"], &told["exp"]), (&jti, &end), "{renewal}");
            assert_eq!(told["ati"], access["jti"]);
            assert_eq!(ending(&world, &before).await, Some("refresh"));
            before = access["jti"].as_str().expect("an id").to_owned();
            assert_eq!(ending(&world, &before).await, None);
            refresh = again.to_owned();
        }
        const OVER: &str = "Over Refresh Token Allow Times";
        refused(shop.refresh(&refresh).await, 403, OVER, OVER);

        // Whichever ends first: another one, by its time.
        let second = shop.signed_in(&world).await.refresh.expect("a refresh token");
        world.advance_ms(86_400_000);
        let expired = format!("Invalid refresh token (expired): {second}");
        refused(shop.refresh(&second).await, 401, "invalid_token", &expired);
    }
}

#[tokio::test]
async fn of_many_renewals_at_once_as_many_succeed_as_there_are_uses() {
    let allow = |config: &mut crate::config::Config| config.refresh_token_reuse = RefreshTokenReuse::Allow;
    for world in World::both_with(allow).await {
        let shop = std::sync::Arc::new(shop(&world).await);
        shop.settings("acme", &["password", "refresh_token"], default_terms(), thrice()).await;
        let refresh = shop.signed_in(&world).await.refresh.expect("a refresh token");
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..12 {
            let (shop, refresh) = (shop.clone(), refresh.clone());
            calls.spawn(async move { shop.refresh(&refresh).await.status });
        }
        let mut statuses = calls.join_all().await;
        statuses.sort_unstable();
        assert_eq!(statuses, [vec![200; 3], vec![403; 9]].concat());
    }
}

#[tokio::test]
async fn a_text_that_was_used_before_ends_all_that_came_from_it() {
    for world in World::both().await {
        let shop = shop(&world).await;
        shop.settings("acme", &["password", "refresh_token"], default_terms(), thrice()).await;
        let stolen = shop.signed_in(&world).await.refresh.expect("a refresh token");
        let thief = shop.refresh(&stolen).await.expect(200);
        let of_others = shop.signed_in(&world).await;
        let head = changes::head(&mut world.app.db.read().await.expect("a connection")).await;
        let before = head.expect("the head").revision;

        let jti = claims(&stolen)["jti"].as_str().expect("an id").to_owned();
        let gone = format!("Refresh token revoked, jti: {jti}");
        refused(shop.refresh(&stolen).await, 403, "invalid_token", &gone);
        refused(shop.refresh(text(&thief, "refresh_token")).await, 403, "invalid_token", &gone);
        assert_eq!(ending(&world, text(&thief, "jti")).await, Some("reuse"));
        // Gateways hear of it; other sign-ins go on.
        let head = changes::head(&mut world.app.db.read().await.expect("a connection")).await;
        assert!(head.expect("the head").revision > before);
        assert_eq!(ending(&world, &of_others.token.id).await, None);
        shop.refresh(&of_others.refresh.expect("a refresh token")).await.expect(200);
        let trail = shop.admin.get("/api/v1/audit?action=tokens.revoke").await.expect(200);
        assert_eq!(trail["items"][0]["detail"]["why"], "reuse", "{trail:#}");
    }
}

#[tokio::test]
async fn what_is_no_refresh_token_of_the_client_is_refused() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let grants = ["client_credentials", "password", "refresh_token"];
        shop.settings("acme", &grants, default_terms(), thrice()).await;
        let issued = shop.signed_in(&world).await;
        let refresh = issued.refresh.clone().expect("a refresh token");
        let missing = shop.ask("grant_type=refresh_token", Some(&format!("acme:{ENCODED}"))).await;
        refused(missing, 401, "invalid_token", "Missing required parameter: refresh_token");
        // An access token renews nothing.
        let gone = format!("Refresh token revoked, jti: {}", issued.token.id);
        refused(shop.refresh(&issued.text).await, 403, "invalid_token", &gone);
        let unreadable = "Cannot convert access token to JSON";
        let (head, rest) = refresh.split_once('.').expect("parts");
        let forged = |header: &str| {
            use base64::Engine as _;
            let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(header);
            format!("{header}.{rest}")
        };
        let kid = jsonwebtoken::decode_header(&refresh).expect("a header").kid.expect("a kid");
        for text in [
            "x".to_owned(),
            "x.y.z".to_owned(),
            format!("{head}.{rest}x"),
            format!("{refresh}.x"),
            forged(&format!(r#"{{"typ":"JWT","alg":"none","kid":"{kid}"}}"#)),
            forged(&format!(r#"{{"typ":"JWT","alg":"HS256","kid":"{kid}"}}"#)),
            forged(r#"{"typ":"JWT","alg":"RS256","kid":"another"}"#),
        ] {
            refused(shop.refresh(&text).await, 400, "invalid_token", unreadable);
        }
        shop.client("other").await;
        let form = format!("grant_type=refresh_token&refresh_token={refresh}");
        let wrong = format!("Wrong client(application) for this refresh token: {refresh}");
        refused(shop.ask(&form, Some(&format!("other:{ENCODED}"))).await, 400, "invalid_grant", &wrong);
        // Nobody has used it up, or ended it, by all this.
        shop.refresh(&refresh).await.expect(200);
    }
}

#[tokio::test]
async fn a_client_without_that_grant_gets_no_refresh_token() {
    for world in World::both().await {
        let shop = shop(&world).await;
        shop.settings("acme", &["password"], default_terms(), default_terms()).await;
        assert_eq!(shop.signed_in(&world).await.refresh, None);
    }
}
