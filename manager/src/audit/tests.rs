//! The trail through the router, and what tampering does to it.

use serde_json::json;

use super::chain::{Anchor, Fault, Verification};
use super::{Entry, actions, record, store};
use crate::db::Dialect;
use crate::testing::World;

async fn verified(world: &World, anchor: Option<&Anchor>) -> Verification {
    store::verify(&mut world.app.db.snapshot().await.expect("a connection"), anchor).await.expect("readable")
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
        ("DELETE FROM audit_entries WHERE seq = 2".into(), vec![Fault::Missing { first: 2, last: 2 }]),
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
        let one = auditor.get("/api/v1/audit?subject=note:2").await.expect(200);
        assert_eq!(one["items"].as_array().map(Vec::len), Some(1));
        auditor.get("/api/v1/audit?cursor=eA").await.refuses("cursor");
        world.operator("rex", &["reviewer_1"]).await.get("/api/v1/audit").await.problem(403, "forbidden");
    }
}
