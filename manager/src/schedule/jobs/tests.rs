use std::time::Duration;

use serde_json::json;

use super::actions::report;
use super::model::REMEMBERED_MS;
use crate::app::App;
use crate::jobs::{Board, Jobs};
use crate::testing::World;

/// Runs a job of that outcome once.
async fn run_once(app: &App, fails: bool) {
    let mut jobs = Jobs::new(app.clone());
    jobs.every("test", Duration::from_secs(3_600), move |_| async move {
        if fails { Err(anyhow::anyhow!("no paper")) } else { Ok(()) }
    });
    while !app.job_board.all().contains_key("test") {
        tokio::task::yield_now().await;
    }
    jobs.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn any_replica_tells_how_the_jobs_of_all_fare() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        let other = App {
            db: world.another_process().await,
            replica: "rp_other".into(),
            job_board: Board::default(),
            ..world.app.clone()
        };
        run_once(&world.app, false).await;
        run_once(&other, true).await;
        report(&other).await.expect("told");
        let jobs = admin.get("/api/v1/jobs").await.expect(200);
        let items = jobs["items"].as_array().expect("jobs");
        let told: Vec<_> =
            items.iter().map(|job| (&job["replica"], &job["succeeded"], &job["last_error"])).collect();
        let expected = [
            (&json!("rp_other"), &json!(false), &json!("no paper")),
            (&json!("rp_test"), &json!(true), &json!(null)),
        ];
        assert_eq!(told, expected);
        // The other one is gone.
        world.advance_ms(REMEMBERED_MS + 1);
        report(&world.app).await.expect("told");
        let jobs = admin.get("/api/v1/jobs").await.expect(200);
        assert_eq!(jobs["items"].as_array().map(Vec::len), Some(1));
    }
}
