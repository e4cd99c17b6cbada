//! The trail through the router, and what tampering does to it.

use serde_json::json;

use super::{Broken, Entry, record, verify};
use crate::testing::World;

async fn verified(world: &World) -> Result<i64, Broken> {
    verify(&mut world.app.db.snapshot().await.expect("a connection")).await.expect("readable")
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
async fn every_way_to_tamper_shows() {
    for (sql, broken) in [
        ("UPDATE audit_entries SET actor = 'nobody' WHERE seq = 2", Broken::Altered { seq: 2 }),
        ("UPDATE audit_entries SET detail = '{}' WHERE seq = 3", Broken::Altered { seq: 3 }),
        ("UPDATE audit_entries SET at = at + 1 WHERE seq = 1", Broken::Altered { seq: 1 }),
        ("DELETE FROM audit_entries WHERE seq = 2", Broken::Missing { expected: 2, found: 3 }),
        ("DELETE FROM audit_entries WHERE seq = 3", Broken::Truncated { last: 2, head: 3 }),
        ("UPDATE audit_head SET hash = ''", Broken::Altered { seq: 3 }),
    ] {
        for world in World::both().await {
            for n in 1..=3 {
                note(&world, n).await;
            }
            assert_eq!(verified(&world).await, Ok(3));
            assert_eq!(world.sql(sql).await, 1);
            assert_eq!(verified(&world).await, Err(broken.clone()), "{sql}");
        }
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
        assert_eq!(verified(&world).await, Ok(1));
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
        assert_eq!(verified(&world).await, Ok(16));
    }
}

#[tokio::test]
async fn the_trail_lists_newest_first_and_only_for_those_who_may() {
    for world in World::both().await {
        let auditor = world.operator("aud", &["auditor"]).await;
        for n in 1..=3 {
            note(&world, n).await;
        }
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
