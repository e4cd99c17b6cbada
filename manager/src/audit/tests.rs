//! The trail through the router, and what tampering does to it.

use serde_json::{Value, json};

use super::chain::{Anchor, Fault, Verification};
use super::{Entry, actions, cli, record};
use crate::db::Dialect;
use crate::testing::World;

async fn verified(world: &World, anchor: Option<&Anchor>) -> Verification {
    actions::verify(&world.app, anchor).await.expect("readable")
}

async fn whole(world: &World, entries: i64) {
    assert_eq!(verified(world, None).await, Verification { entries, faults: vec![] });
}

/// An intruder who may change the schema takes the guard away first.
async fn disarm(world: &World) {
    for trigger in ["audit_entries_no_update", "audit_entries_no_delete"] {
        let on = match world.app.db.dialect() {
            Dialect::Sqlite => "",
            Dialect::Postgres => " ON audit_entries",
        };
        world.sql(&format!("DROP TRIGGER {trigger}{on}")).await;
    }
}

async fn notes(world: &World, entries: i64) {
    for n in 1..=entries {
        note(world, n).await;
    }
}

async fn note(world: &World, n: i64) {
    let entry = Entry {
        actor: "system".into(),
        action: "test.note",
        subject: format!("note:{n}"),
        detail: json!({ "n": n }),
    };
    let mut tx = world.app.db.write("test.note").await.expect("a transaction");
    record(&mut tx, entry, world.app.now()).await.expect("recorded");
    tx.commit().await.expect("committed");
}

#[tokio::test]
async fn every_way_to_tamper_shows_and_is_named() {
    let altered = |seq| Fault::Altered { seq };
    let moved = |seq, found_at| Fault::Moved { seq, found_at };
    let swap = |one, other| {
        format!(
            "UPDATE audit_entries SET seq = CASE seq WHEN {one} THEN -{other} ELSE -{one} END \
             WHERE seq IN ({one}, {other}); \
             UPDATE audit_entries SET seq = -seq WHERE seq < 0"
        )
    };
    for (sql, faults) in [
        ("UPDATE audit_entries SET actor = 'nobody' WHERE seq = 2".into(), vec![altered(2)]),
        ("UPDATE audit_entries SET action = 'test.nothing' WHERE seq = 2".into(), vec![altered(2)]),
        ("UPDATE audit_entries SET subject = 'note:9' WHERE seq = 2".into(), vec![altered(2)]),
        ("UPDATE audit_entries SET detail = '{}' WHERE seq = 3".into(), vec![altered(3)]),
        ("UPDATE audit_entries SET at = at + 1 WHERE seq = 1".into(), vec![altered(1)]),
        (
            "DELETE FROM audit_entries WHERE seq = 2".into(),
            vec![Fault::Missing { first: 2, last: 2 }, Fault::Unverifiable { seq: 3 }],
        ),
        ("DELETE FROM audit_entries WHERE seq > 2".into(), vec![Fault::Missing { first: 3, last: 4 }]),
        ("DELETE FROM audit_entries".into(), vec![Fault::Missing { first: 1, last: 4 }]),
        ("UPDATE audit_head SET hash = ''".into(), vec![Fault::Head { last: 4 }]),
        ("UPDATE audit_head SET seq = 3".into(), vec![Fault::Beyond { head: 3, last: 4 }]),
        (swap(2, 3), vec![moved(2, 3), moved(3, 2)]),
        (swap(1, 4), vec![altered(1), altered(2), altered(4)]),
    ] {
        for world in World::both().await {
            notes(&world, 4).await;
            whole(&world, 4).await;
            disarm(&world).await;
            for statement in sql.split("; ") {
                assert!(world.sql(statement).await > 0, "{statement}");
            }
            assert_eq!(verified(&world, None).await.faults, faults, "{sql}");
        }
    }
}

#[tokio::test]
async fn an_anchor_shows_what_was_cut_off_or_rewritten_with_the_head() {
    for world in World::both().await {
        actions::anchor(&world.app).await.expect_err("nothing to take it of");
        notes(&world, 3).await;
        let anchor = actions::anchor(&world.app).await.expect("an anchor");
        assert_eq!((anchor.seq, anchor.at), (3, World::START.0));
        note(&world, 4).await;
        assert!(verified(&world, Some(&anchor)).await.is_whole(), "the trail grows past its anchors");
        disarm(&world).await;
        world.sql("DELETE FROM audit_entries WHERE seq > 2").await;
        world
            .sql(
                "UPDATE audit_head
                    SET seq = 2, hash = (SELECT hash FROM audit_entries WHERE seq = 2)",
            )
            .await;
        whole(&world, 2).await;
        assert_eq!(
            verified(&world, Some(&anchor)).await.faults,
            [Fault::EndsBeforeAnchor { seq: 3, last: 2 }]
        );
        // What is recorded in their place makes a chain again, but not the anchored one.
        notes(&world, 2).await;
        whole(&world, 4).await;
        assert_eq!(verified(&world, Some(&anchor)).await.faults, [Fault::NotAnchored { seq: 3 }]);
    }
}

#[tokio::test]
async fn the_database_itself_refuses_to_change_or_delete_an_entry() {
    for world in World::both().await {
        notes(&world, 2).await;
        let mut statements =
            vec!["UPDATE audit_entries SET actor = 'nobody'", "DELETE FROM audit_entries WHERE seq = 2"];
        if world.app.db.dialect() == Dialect::Postgres {
            statements.push("TRUNCATE audit_entries");
        }
        for statement in statements {
            let refused = world.try_sql(statement).await.expect_err(statement);
            assert!(refused.to_string().contains("audit_entries is append-only"), "{refused}");
        }
        whole(&world, 2).await;
    }
}

#[tokio::test]
async fn what_is_rolled_back_leaves_no_entry() {
    for world in World::both().await {
        let entry = Entry {
            actor: "system".into(),
            action: "test.note",
            subject: "note:1".into(),
            detail: json!({}),
        };
        let mut tx = world.app.db.write("test.note").await.expect("a transaction");
        record(&mut tx, entry, world.app.now()).await.expect("recorded");
        drop(tx);
        note(&world, 2).await;
        whole(&world, 1).await;
    }
}

#[tokio::test]
async fn entries_written_at_once_form_one_chain() {
    for world in World::both().await {
        let world = std::sync::Arc::new(world);
        let writers: Vec<_> = (0..16)
            .map(|n| {
                let world = world.clone();
                tokio::spawn(async move { note(&world, n).await })
            })
            .collect();
        for writer in writers {
            writer.await.expect("a writer");
        }
        whole(&world, 16).await;
    }
}

#[tokio::test]
async fn the_trail_lists_newest_first_and_only_for_those_who_may() {
    for world in World::both().await {
        let auditor = world.operator("aud", &["auditor"]).await;
        notes(&world, 3).await;
        let page = auditor.get("/api/v1/audit?limit=2").await.expect(200);
        assert_eq!(
            (&page["items"][0]["subject"], &page["items"][1]["subject"]),
            (&json!("note:3"), &json!("note:2"))
        );
        let next = format!("/api/v1/audit?limit=2&cursor={}", page["next"].as_str().expect("more"));
        let page = auditor.get(&next).await.expect(200);
        assert_eq!(page["items"][0]["detail"], json!({ "n": 1 }));
        assert_eq!(page["items"][0]["actor_name"], json!(null));
        let one = auditor.get("/api/v1/audit?subject=note:2").await.expect(200);
        assert_eq!(one["items"].as_array().map(Vec::len), Some(1));
        auditor.get("/api/v1/audit?cursor=eA").await.refuses("cursor");
        world.operator("rex", &["reviewer_1"]).await.get("/api/v1/audit").await.problem(403, "forbidden");
    }
}

#[tokio::test]
async fn the_trail_is_searched_by_who_what_when_and_words() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        world.advance_ms(1_000);
        let body = json!({ "name": "bob", "display_name": "Bob 100%_sure", "roles": ["applicant"] });
        let bob = admin.post("/api/v1/operators", body).await.expect(201);
        world.advance_ms(1_000);
        admin.put("/api/v1/roles/guest", json!({ "permissions": [] })).await.expect(200);
        let (start, root) = (World::START.0, format!("operator:{}", admin.id));
        let find = async |query: &str| {
            let page = admin.get(&format!("/api/v1/audit?{query}")).await.expect(200);
            let actions = page["items"].as_array().expect("items").iter();
            actions.map(|entry| entry["action"].as_str().expect("an action").to_string()).collect::<Vec<_>>()
        };
        // The World itself made root and its token before.
        let all = ["roles.put", "operators.create", "operators.issue_token", "operators.create"];
        let made = ["operators.create"];
        for (query, found) in [
            (String::new(), &all[..]),
            ("actor=root".into(), &all[..2]),
            (format!("actor={}", admin.id), &all[..2]),
            (format!("actor={root}"), &all[..2]),
            ("actor=test".into(), &all[2..]),
            ("actor=nobody".into(), &[]),
            ("action=roles.put".into(), &all[..1]),
            ("action=operators.".into(), &all[1..]),
            ("action=operators".into(), &[]),
            ("action=oper%25.".into(), &[]),
            (format!("subject=operator:{}", bob["id"].as_str().expect("an id")), &made),
            (format!("from={}", start + 1_000), &all[..2]),
            (format!("from={}", start + 1_001), &all[..1]),
            (format!("to={}", start + 999), &all[2..]),
            (format!("from={0}&to={0}", start + 1_000), &made),
            ("keyword=100%25_SURE".into(), &made),
            ("keyword=100__sure".into(), &[]),
            ("keyword=%22applicant%22".into(), &made),
            ("actor=root&action=operators.&keyword=bob".into(), &made),
            ("actor=test&keyword=bob".into(), &[]),
        ] {
            assert_eq!(find(&query).await, found, "{query}");
        }
        let newest = admin.get("/api/v1/audit?limit=1").await.expect(200);
        assert_eq!(
            (&newest["items"][0]["actor"], &newest["items"][0]["actor_name"]),
            (&json!(root), &json!("root"))
        );
        admin.get("/api/v1/audit?from=2&to=1").await.refuses("to");
        admin.get("/api/v1/audit?from=soon").await.refuses("from");
        admin.get("/api/v1/audit?who=root").await.refuses("who");
        // What no database text holds is found nowhere, or refused; it is no fault of ours.
        for field in ["actor", "action", "subject", "keyword"] {
            let answer = admin.get(&format!("/api/v1/audit?{field}=%00")).await;
            assert!(answer.status < 500, "{field}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn those_who_read_the_trail_verify_and_anchor_it() {
    for world in World::both().await {
        let auditor = world.operator("aud", &["auditor"]).await;
        let anchor = auditor.get("/api/v1/audit/anchor").await.expect(200);
        assert_eq!(anchor["installation"], "http://127.0.0.1:8080");
        note(&world, 1).await;
        let proof = |seq: &str, hash: &str| format!("/api/v1/audit/verification?seq={seq}&hash={hash}");
        let (seq, hash) = (anchor["seq"].to_string(), anchor["hash"].as_str().expect("a hash"));
        let found = auditor.get(&proof(&seq, hash)).await.expect(200);
        assert_eq!(found, json!({ "whole": true, "entries": 3, "faults": [] }));
        let found = auditor.get(&proof(&seq, &"0".repeat(64))).await.expect(200);
        assert_eq!((&found["whole"], found["faults"].as_array().map(Vec::len)), (&json!(false), Some(1)));
        disarm(&world).await;
        world.sql("DELETE FROM audit_entries WHERE seq = 3").await;
        let found = auditor.get("/api/v1/audit/verification").await.expect(200);
        assert_eq!(found, json!({ "whole": false, "entries": 2, "faults": ["entry 3 is missing"] }));
        auditor.get(&proof("0", hash)).await.refuses("seq");
        auditor.get(&proof("1", "abc")).await.refuses("hash");
        auditor.get("/api/v1/audit/verification?seq=1").await.refuses("hash");
        let stranger = world.operator("rex", &["reviewer_1"]).await;
        stranger.get("/api/v1/audit/anchor").await.problem(403, "forbidden");
        stranger.get("/api/v1/audit/verification").await.problem(403, "forbidden");
    }
}

#[tokio::test]
async fn the_trail_is_verified_for_one_call_at_a_time_and_past_a_page() {
    let world = World::sqlite().await;
    let auditor = world.operator("aud", &["auditor"]).await;
    notes(&world, 1_001).await;
    let path = "/api/v1/audit/verification";
    let turn = world.app.verifying.take().expect("nobody else's");
    let refused = auditor.get(path).await;
    assert_eq!(refused.header("retry-after"), Some("5"));
    refused.problem(503, "busy");
    drop(turn);
    let found = auditor.get(path).await.expect(200);
    assert_eq!(found, json!({ "whole": true, "entries": 1_003, "faults": [] }));
}

#[tokio::test]
async fn the_command_line_fails_where_the_trail_or_its_anchor_does() {
    for world in World::both().await {
        notes(&world, 2).await;
        let anchor = actions::anchor(&world.app).await.expect("an anchor");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("anchor.json");
        let verify = async |anchor: Option<&std::path::Path>| {
            let command = cli::Command::Verify { anchor: anchor.map(Into::into) };
            cli::run(&world.app, command).await.map_err(|error| format!("{error:#}"))
        };
        verify(None).await.expect("whole");
        for (text, refusal) in [
            ("{\"seq\":2", "is no anchor: it is to hold what `keygate audit anchor` printed"),
            ("{\"installation\":\"\",\"seq\":0,\"hash\":\"\",\"at\":0}", "seq is 1 or more"),
        ] {
            std::fs::write(&file, text).expect("written");
            let error = verify(Some(&file)).await.expect_err(text);
            assert!(error.contains("anchor.json") && error.contains(refusal), "{error}");
        }
        std::fs::write(&file, serde_json::to_string(&anchor).expect("JSON")).expect("written");
        verify(Some(&file)).await.expect("anchored");
        disarm(&world).await;
        world.sql("DELETE FROM audit_entries").await;
        world.sql("UPDATE audit_head SET seq = 0, hash = ''").await;
        verify(None).await.expect("whole by itself");
        assert_eq!(verify(Some(&file)).await, Err("the audit trail is broken".into()));
    }
}

#[tokio::test]
async fn nothing_secret_stands_in_the_trail_of_a_whole_installation() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        let mut secrets = vec!["operators-pw".to_string(), "clients-pw".into(), "c2VjcmV0IGtleQ==".into()];
        let mut done = async |path: &str, body: Value, secret: &str| {
            let answer = admin.post(path, body).await.expect(201);
            secrets.extend(answer[secret].as_str().map(str::to_string));
            answer
        };
        let body = json!({ "name": "ann", "password": "operators-pw", "roles": ["applicant"] });
        let ann = done("/api/v1/operators", body, "").await["id"].as_str().expect("an id").to_string();
        done(&format!("/api/v1/operators/{ann}/tokens"), json!({ "name": "ci" }), "token").await;
        done("/api/v1/session", json!({ "operator": "ann", "password": "operators-pw" }), "token").await;
        let group =
            done("/api/v1/groups", json!({ "name": "retail", "alias": "retail" }), "").await["id"].clone();
        let api = json!({
            "module": "shop", "id": "orders", "name": "orders", "hosts": ["api.example"], "methods": ["POST"],
            "accepts": ["dgrk"], "path": { "exact": "/orders" },
        });
        let api = done("/api/v1/apis", api, "").await["uid"].clone();
        let client = json!({
            "id": "acme", "name": "acme", "display_name": "Acme", "note": "Ann", "emails": "it@acme.example",
            "password": "clients-pw", "password_confirmation": "clients-pw", "groups": [group],
        });
        done("/api/v1/clients", client, "").await;
        let x_api_key = json!({
            "client": "acme", "alias": "office", "expiry_date": "2026-02-01", "groups": [group],
        });
        done("/api/v1/x-api-keys", x_api_key, "x_api_key").await;
        let key = json!({
            "client": "acme", "api_key": "YXBpIGtleQ==", "secret_key": "c2VjcmV0IGtleQ==", "name": "orders",
            "expiry_date": "2026-02-01", "quota": -1, "apis": [api],
        });
        done("/api/v1/keys/import", key, "").await;
        done("/api/v1/gateways", json!({ "name": "edge" }), "token").await;
        assert_eq!(secrets.len(), 7, "those that were made are known: {secrets:?}");

        let (mut trail, mut cursor, mut entries) = (String::new(), String::new(), 0);
        loop {
            let page = admin.get(&format!("/api/v1/audit?limit=3{cursor}")).await.expect(200);
            entries += page["items"].as_array().expect("items").len();
            trail.push_str(&page.to_string());
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        // The two that the World made, and one for each call at least.
        assert!(entries >= 11, "{entries}");
        for secret in secrets.iter().map(String::as_str).chain(["$argon2"]) {
            assert!(!trail.contains(secret), "{secret} stands in the trail");
        }
    }
}
