//! What operators see of tokens, and what is forgotten.

use serde_json::{Value, json};

use super::shop;
use crate::testing::World;
use crate::tokens::keys;

#[tokio::test]
async fn operators_list_see_and_revoke_tokens() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let auditor = world.operator("rex", &["auditor"]).await;
        let mut made = Vec::new();
        for _ in 0..3 {
            world.advance_ms(1);
            made.push(shop.token().await["jti"].clone());
        }
        made.reverse();
        let page = |page: &Value| {
            let items = page["items"].as_array().expect("a list");
            items.iter().map(|item| item["id"].clone()).collect::<Vec<_>>()
        };
        let first = auditor.get("/api/v1/clients/acme/tokens?limit=2").await.expect(200);
        let next = first["next"].as_str().expect("more");
        let second =
            auditor.get(&format!("/api/v1/clients/acme/tokens?limit=2&cursor={next}")).await.expect(200);
        assert_eq!([page(&first), page(&second)].concat(), made);
        assert_eq!(second["next"], Value::Null);

        let id = made[0].as_str().expect("an id");
        let path = format!("/api/v1/tokens/{id}");
        let seen = auditor.get(&path).await.expect(200);
        assert_eq!(seen, first["items"][0]);
        assert_eq!(
            (&seen["grant_type"], &seen["scope"]),
            (&json!("client_credentials"), &json!([shop.group]))
        );
        assert_eq!((&seen["ended_at"], &seen["remaining_uses"]), (&Value::Null, &Value::Null));
        assert!(!seen.to_string().contains("eyJ"), "no text of a token: {seen:#}");

        auditor.delete(&path).await.problem(403, "forbidden");
        for _ in 0..2 {
            shop.admin.delete(&path).await.expect(204);
        }
        let seen = auditor.get(&path).await.expect(200);
        assert_eq!(
            (&seen["ended_at"], &seen["ended_by"]),
            (&json!(World::START.0 + 3), &json!("revocation"))
        );
        let trail = shop.admin.get("/api/v1/audit?action=tokens.revoke").await.expect(200);
        assert_eq!(trail["items"].as_array().map(Vec::len), Some(1), "{trail:#}");
        assert_eq!(trail["items"][0]["actor"], format!("operator:{}", shop.admin.id));

        auditor.get("/api/v1/tokens/tk_none").await.problem(404, "not_found");
        auditor.get("/api/v1/clients/nobody/tokens").await.problem(404, "not_found");
        auditor.get("/api/v1/clients/acme/tokens?cursor=eA").await.problem(400, "invalid_query");
    }
}

#[tokio::test]
async fn tokens_that_ended_a_day_ago_are_forgotten_with_their_meters_and_keys() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let none = json!({ "validity": 0, "unit": "minutes", "uses": 0 });
        let counted = json!({ "validity": 1, "unit": "hours", "uses": 3 });
        shop.settings("acme", &["client_credentials"], counted, none).await;
        shop.token().await;
        let (_, signs_from) = keys::rotate(&world.app, "test").await.expect("rotated");
        let kept = async || {
            let tokens = world.sql("UPDATE tokens SET kid = kid").await;
            let meters = world.sql("UPDATE meters SET kind = kind WHERE kind = 'token_uses'").await;
            (tokens, meters, keys::keys(&world.app).await.expect("keys").0.len())
        };
        assert_eq!(kept().await, (1, 1, 2));
        // The old key signs no more; its token lives.
        world.advance_ms(signs_from.0 - World::START.0 + 120_000);
        keys::tend(&world.app).await.expect("tended");
        assert_eq!(kept().await, (1, 1, 2));

        world.advance_ms(3_600_000);
        keys::tend(&world.app).await.expect("tended");
        world.run_due().await;
        assert_eq!(kept().await, (1, 1, 1), "the key goes with the last token that lives, the record stays");
        world.advance_ms(86_400_000 + 3_600_000);
        world.run_due().await;
        assert_eq!(kept().await, (0, 0, 1));
    }
}
