//! API tokens through the router, on both databases.

use std::time::Duration;

use serde_json::json;

use crate::operators::tests::{ann, ann_settled, clerk, with_token_of};
use crate::testing::World;

const DAY_MS: i64 = 86_400_000;

#[tokio::test]
async fn api_tokens_are_shown_once_listed_and_revoked() {
    for world in World::both().await {
        let (admin, path, session) = ann_settled(&world).await;
        let tokens = format!("{path}/tokens");
        let made = session.post(&tokens, json!({ "name": "ci" })).await.expect(201);
        let text = made["token"].as_str().expect("a token");
        assert!(text.starts_with("kgt_"));
        let listed = admin.get(&tokens).await.expect(200);
        assert_eq!(listed["items"][0]["name"], "ci");
        assert!(!listed.to_string().contains(text));
        let program = world.bearer(text);
        // One's own tokens are one's own affair; another's are not.
        program.get(&tokens).await.expect(200);
        program.get(&format!("/api/v1/operators/{}/tokens", admin.id)).await.problem(403, "forbidden");
        admin.post(&tokens, json!({ "name": " " })).await.refuses("name");
        for n in 1..20 {
            admin.post(&tokens, json!({ "name": format!("t{n}") })).await.expect(201);
        }
        admin.post(&tokens, json!({ "name": "one too many" })).await.problem(409, "too_many_tokens");
        let one = format!("{tokens}/{}", made["id"].as_str().expect("an id"));
        admin.delete(&one).await.expect(204);
        admin.delete(&one).await.problem(404, "not_found");
        program.get("/api/v1/session").await.problem(401, "unauthenticated");
    }
}

#[tokio::test]
async fn a_token_does_what_it_is_limited_to_and_no_more_than_the_roles() {
    for world in World::both().await {
        let (admin, path) = ann(&world).await;
        let tokens = format!("{path}/tokens");
        for (permissions, detail) in [
            (json!([]), "at least one"),
            (json!(["fly"]), "catalog.read, catalog.write"),
            (json!(["*"]), "none of"),
            (json!(["catalog.read", "catalog.write"]), "catalog.write, which ann does not hold"),
        ] {
            let body = json!({ "name": "ci", "permissions": permissions });
            let refused = admin.post(&tokens, body).await.refuses("permissions");
            assert!(refused["detail"].as_str().is_some_and(|text| text.contains(detail)), "{refused}");
        }
        let body = json!({ "name": "ci", "permissions": ["applications.apply", "catalog.read"] });
        let program = with_token_of(&world, &admin.post(&tokens, body).await.expect(201));
        assert_eq!(
            admin.get(&tokens).await.expect(200)["items"][0]["permissions"],
            json!(["catalog.read", "applications.apply"])
        );
        let me = program.get("/api/v1/session").await.expect(200);
        assert_eq!(
            (&me["permissions"], &me["token_kind"]),
            (&json!(["catalog.read", "applications.apply"]), &json!("api"))
        );
        program.get("/api/v1/apis").await.expect(200);
        // Ann may see clients, this token may not, and says so.
        let refused = program.get("/api/v1/clients").await.problem(403, "forbidden");
        let detail = refused["detail"].as_str().expect("a text");
        assert!(detail.contains("clients.read") && detail.contains("limited to catalog.read"), "{detail}");
        // Its owner's tokens and sessions are none of its business.
        for answer in [
            program.get(&tokens).await,
            program.post(&tokens, json!({ "name": "x" })).await,
            program.delete(&format!("{path}/sessions")).await,
        ] {
            let refused = answer.problem(403, "forbidden");
            let detail = refused["detail"].as_str().expect("a text");
            assert!(
                detail.contains("operators.manage") && detail.contains("limited to catalog.read"),
                "{detail}"
            );
        }
        // What the roles lose, the token loses.
        admin.patch(&path, json!({ "roles": ["auditor"] })).await.expect(200);
        program.get("/api/v1/apis").await.expect(200);
        program.get("/api/v1/audit").await.problem(403, "forbidden");
        admin.patch(&path, json!({ "roles": [] })).await.expect(200);
        program.get("/api/v1/apis").await.problem(403, "forbidden");
    }
}

#[tokio::test]
async fn a_token_that_somebody_else_issued_does_not_grow_with_its_owner() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        let mini = json!({ "permissions": ["operators.manage", "operators.read", "catalog.read"] });
        admin.put("/api/v1/roles/mini", mini).await.expect(200);
        admin.put("/api/v1/roles/reader", json!({ "permissions": ["catalog.read"] })).await.expect(200);
        let mini = world.operator("mini", &["mini"]).await;
        let bob = world.operator("bob", &["reader"]).await;
        let path = format!("/api/v1/operators/{}", bob.id);
        let issued = mini.post(&format!("{path}/tokens"), json!({ "name": "x" })).await.expect(201);
        let kept = with_token_of(&world, &issued);
        admin.patch(&path, json!({ "roles": ["admin"] })).await.expect(200);
        bob.get("/api/v1/audit").await.expect(200);
        assert_eq!(
            kept.get("/api/v1/session").await.expect(200)["permissions"],
            json!(["catalog.read"]),
            "what bob held when mini issued it"
        );
        kept.get("/api/v1/apis").await.expect(200);
        kept.get("/api/v1/audit").await.problem(403, "forbidden");
        let more = json!({ "name": "y", "roles": ["admin"] });
        kept.post("/api/v1/operators", more).await.problem(403, "forbidden");
        // Of somebody who may nothing yet, there is nothing to issue.
        let nobody = world.operator("nobody", &[]).await;
        let tokens = format!("/api/v1/operators/{}/tokens", nobody.id);
        let refused = mini.post(&tokens, json!({ "name": "x" })).await.refuses("permissions");
        assert!(refused["detail"].as_str().is_some_and(|text| text.contains("nobody")), "{refused}");
        // One's own goes with one's roles.
        let own = nobody.post(&tokens, json!({ "name": "x" })).await.expect(201);
        admin.patch(&tokens.replace("/tokens", ""), json!({ "roles": ["reader"] })).await.expect(200);
        with_token_of(&world, &own).get("/api/v1/apis").await.expect(200);
    }
}

#[tokio::test]
async fn a_token_issues_no_token_that_does_more_or_lasts_longer() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        let own = format!("/api/v1/operators/{}/tokens", admin.id);
        let end = World::START.0 + DAY_MS;
        let limited = json!({
            "name": "manager", "permissions": ["operators.manage", "operators.read"], "expires_at": end,
        });
        let limited = with_token_of(&world, &admin.post(&own, limited).await.expect(201));
        limited.post(&own, json!({ "name": "x" })).await.refuses("permissions");
        let more = json!({ "name": "x", "permissions": ["operators.manage", "clients.write"] });
        limited.post(&own, more).await.problem(403, "forbidden");
        let longer = json!({ "name": "x", "permissions": ["operators.read"], "expires_at": end + 1 });
        limited.post(&own, longer).await.refuses("expires_at");
        let within = json!({ "name": "x", "permissions": ["operators.read"] });
        assert_eq!(limited.post(&own, within).await.expect(201)["expires_at"], end);
        // Nor does it manage what exceeds it, though its operator could.
        let clara = clerk(&world, &admin).await;
        let clara = format!("/api/v1/operators/{}", clara.id);
        limited.patch(&clara, json!({ "display_name": "C" })).await.problem(403, "forbidden");
        limited.post(&format!("{clara}/tokens"), json!({ "name": "x" })).await.problem(403, "forbidden");
        limited
            .post("/api/v1/operators", json!({ "name": "y", "roles": ["admin"] }))
            .await
            .problem(403, "forbidden");
    }
}

#[tokio::test]
async fn a_token_ends_when_it_is_to_and_at_the_settings_longest() {
    for world in World::both_with(|config| config.api_token_ttl_s = 86_400).await {
        let (admin, path) = ann(&world).await;
        let (tokens, start) = (format!("{path}/tokens"), World::START.0);
        for at in [0, start, start + DAY_MS + 1] {
            admin.post(&tokens, json!({ "name": "x", "expires_at": at })).await.refuses("expires_at");
        }
        let longest = admin.post(&tokens, json!({ "name": "longest" })).await.expect(201);
        assert_eq!(longest["expires_at"], start + DAY_MS);
        let short = json!({ "name": "short", "expires_at": start + 1_000 });
        let short = with_token_of(&world, &admin.post(&tokens, short).await.expect(201));
        world.advance_ms(1_000);
        short.get("/api/v1/session").await.expect(200);
        world.advance_ms(1);
        short.get("/api/v1/session").await.problem(401, "unauthenticated");
        let listed = admin.get(&tokens).await.expect(200);
        assert_eq!(listed["items"].as_array().map(Vec::len), Some(2), "one that ran out is seen for a day");
        world.advance_ms(DAY_MS - 1_001);
        with_token_of(&world, &longest).get("/api/v1/session").await.expect(200);
    }
    for world in World::both_with(|config| config.api_token_ttl_s = 0).await {
        let (admin, path) = ann(&world).await;
        let endless = admin.post(&format!("{path}/tokens"), json!({ "name": "x" })).await.expect(201);
        assert_eq!(endless["expires_at"], json!(null));
    }
}

/// A use that is still being written swallows the next one of its token.
async fn uses_written(world: &World) {
    while !world.app.token_uses.under_way().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_last_use_is_shown_to_the_minute() {
    for world in World::both().await {
        let (admin, path) = ann(&world).await;
        let tokens = format!("{path}/tokens");
        let program = with_token_of(&world, &admin.post(&tokens, json!({ "name": "ci" })).await.expect(201));
        let last = async || admin.get(&tokens).await.expect(200)["items"][0]["last_used_at"].clone();
        let start = World::START.0;
        assert_eq!(last().await, json!(null));
        program.get("/api/v1/session").await.expect(200);
        assert_eq!(last().await, start);
        uses_written(&world).await;
        world.advance_ms(59_999);
        program.get("/api/v1/session").await.expect(200);
        assert_eq!(last().await, start, "not written again within the minute");
        world.advance_ms(1);
        program.get("/api/v1/session").await.expect(200);
        assert_eq!(last().await, start + 60_000);
    }
}

#[tokio::test]
async fn a_call_does_not_wait_until_its_use_is_written() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        // A long write holds SQLite's only writer, and the row on PostgreSQL.
        let mut long = world.app.db.write("test.long").await.expect("a transaction");
        sqlx::query("UPDATE operator_tokens SET name = name").execute(&mut *long).await.expect("held");
        let tokens = format!("/api/v1/operators/{}/tokens", admin.id);
        for _ in 0..2 {
            let answer = tokio::time::timeout(Duration::from_secs(5), admin.get(&tokens)).await;
            let listed = answer.expect("it does not wait").expect(200);
            assert_eq!(listed["items"][0]["last_used_at"], World::START.0, "shown though not yet stored");
        }
        assert_eq!(world.app.token_uses.under_way().len(), 1, "one at a time");
        long.commit().await.expect("committed");
        uses_written(&world).await;
        let stored =
            format!("UPDATE operator_tokens SET name = name WHERE last_used_at = {}", World::START.0);
        assert_eq!(world.sql(&stored).await, 1);
    }
}

#[tokio::test]
async fn what_has_ended_for_a_day_is_forgotten_in_the_next_night() {
    for world in World::both_with(|config| config.session_ttl_s = 60).await {
        let (admin, path, session) = ann_settled(&world).await;
        let tokens = format!("{path}/tokens");
        let gone = admin.post(&tokens, json!({ "name": "gone" })).await.expect(201);
        admin.delete(&format!("{tokens}/{}", gone["id"].as_str().expect("an id"))).await.expect(204);
        let kept = with_token_of(&world, &admin.post(&tokens, json!({ "name": "kept" })).await.expect(201));
        let stored = async || world.sql("UPDATE operator_tokens SET name = name").await;
        // The administrator's own, the session, the revoked and the kept one.
        assert_eq!(stored().await, 4);
        world.advance_ms(3 * DAY_MS / 24);
        session.get("/api/v1/session").await.problem(401, "unauthenticated");
        world.run_due().await;
        assert_eq!(stored().await, 4, "revoked and run out a few hours ago");
        world.advance_ms(DAY_MS);
        world.run_due().await;
        assert_eq!(stored().await, 2);
        kept.get("/api/v1/session").await.expect(200);
    }
}
