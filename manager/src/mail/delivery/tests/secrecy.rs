//! Where a secret is not.

use sqlx::{AssertSqlSafe, Row as _};

use super::*;
use crate::db::Dialect;
use crate::testing::LogLines;

/// All that the database keeps, as bytes.
async fn everything(world: &World) -> Vec<u8> {
    let mut conn = world.app.db.read().await.expect("a connection");
    let query = |sql: String| sqlx::query(AssertSqlSafe(sql));
    match world.app.db.dialect() {
        Dialect::Sqlite => {
            let row = query("SELECT file FROM pragma_database_list WHERE name = 'main'".into())
                .fetch_one(&mut *conn)
                .await
                .expect("a database");
            let path: String = row.try_get(0).expect("a path");
            let mut bytes = std::fs::read(&path).expect("the database");
            bytes.extend(std::fs::read(format!("{path}-wal")).unwrap_or_default());
            bytes
        }
        Dialect::Postgres => {
            let tables = query(
                "SELECT CAST(table_name AS TEXT) FROM information_schema.tables WHERE table_schema = 'public'".into(),
            )
            .fetch_all(&mut *conn)
            .await
            .expect("tables");
            let mut bytes = Vec::new();
            for table in tables {
                let table: String = table.try_get(0).expect("a name");
                let rows = query(format!("SELECT CAST(row_to_json(t) AS TEXT) FROM {table} AS t"))
                    .fetch_all(&mut *conn)
                    .await
                    .expect("rows");
                for row in rows {
                    bytes.extend(row.try_get::<String, _>(0).expect("a row").into_bytes());
                }
            }
            bytes
        }
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn a_secret_is_neither_in_the_database_nor_in_the_log_lines() {
    let lines = LogLines::capture();
    for world in World::both().await {
        let sample = KeyCredentials::sample();
        let server = Server::start(Manner::fails(At::Message, Fault::Says("451 4.3.0 later"))).await;
        let transport = transport(&smtp(&server));
        write(&world.app, sample.clone(), 0).await;
        let clean = async |when: &str| {
            let bytes = everything(&world).await;
            assert!(contains(&bytes, &sample.client_id), "the search finds what is there, {when}");
            assert!(!contains(&bytes, &sample.secret_key), "{when}");
        };
        clean("while it waits").await;
        assert_eq!(run(&world.app, &transport).await.postponed, 1);
        clean("after a failure").await;
        server.turns(Manner::accepts());
        world.advance_ms(15_000);
        assert_eq!(run(&world.app, &transport).await.sent, 1);
        clean("once it is sent").await;
        let text = server.mails()[0].body_text(0).expect("text").into_owned();
        assert!(text.contains(&sample.secret_key), "it was in the mail");
    }
    let lines = lines.text();
    assert!(lines.contains("could not be sent"), "the search finds what is there: {lines}");
    assert!(!lines.contains(&KeyCredentials::sample().secret_key));
    assert!(!lines.contains("anna@example.com"), "nor who gets mails");
}
