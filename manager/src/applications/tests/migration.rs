//! Forms of older installations.

use super::*;

/// The statements of a migration, without its comments.
fn statements(migration: &str) -> Vec<String> {
    let code: Vec<&str> =
        migration.lines().map(|line| line.split_once("--").map_or(line, |(code, _)| code)).collect();
    let code = code.join("\n");
    code.split(';').map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

#[tokio::test]
async fn forms_of_an_older_installation_are_those_of_operators() {
    for stage in Stage::both().await {
        let world = &stage.world;
        for table in ["", "_apis", "_bindings", "_history", "_numbers"] {
            world
                .sql(&format!("DROP TABLE application{}{table}", if table.is_empty() { "s" } else { "" }))
                .await;
        }
        for statement in statements(include_str!("../../../migrations/0031_applications.sql")) {
            world.sql(&statement).await;
        }
        let columns = "id, kind, number, applicant, version, created_at, submitted_at, updated_at, client, key_id, \
                       name, effective_date, expiry_date, quota, reset_usage, description, search, state, level, \
                       levels, ended_at, effect, effect_at, effect_key, effect_failure, open_key";
        let (anna, acme, api) = (&stage.anna.id, &stage.client, &stage.apis[0]);
        for row in [
            format!(
                "'ap_1', 'KA', 'KA-20260101-0001', '{anna}', 2, 1, 2, 2, '{acme}', NULL, 'orders', '2026-01-15', \
                 '2026-12-31', 5, NULL, 'to order', 'ka-20260101-0001', 'pending_order', 1, 2, NULL, NULL, NULL, \
                 NULL, NULL, NULL"
            ),
            format!(
                "'ap_2', 'KR', 'KR-20260101-0001', '{anna}', 3, 1, 2, 3, '{acme}', 'key_1', NULL, '2026-01-15', \
                 NULL, NULL, NULL, 'no longer', 'kr-20260101-0001', 'approved', NULL, NULL, 3, 'done', 3, 'key_1', \
                 NULL, NULL"
            ),
        ] {
            world.sql(&format!("INSERT INTO applications ({columns}) VALUES ({row})")).await;
        }
        world
            .sql(&format!("INSERT INTO application_apis (application_id, api_uid) VALUES ('ap_1', '{api}')"))
            .await;
        world.sql("INSERT INTO application_numbers (kind, day, last) VALUES ('KA', '20260115', 4)").await;

        for migration in [
            include_str!("../../../migrations/0070_applicants.sql"),
            include_str!("../../../migrations/0071_client_registrations.sql"),
        ] {
            for statement in statements(migration) {
                world.sql(&statement).await;
            }
        }
        let waiting = stage.read("ap_1").await;
        assert_eq!((&waiting["applicant_kind"], &waiting["applicant"]), (&json!("operator"), &json!(anna)));
        assert_eq!((&waiting["state"], &waiting["quota"]), (&json!("pending_order"), &json!(5)));
        assert_eq!(waiting["apis"], json!([api]));
        let done = stage.read("ap_2").await;
        assert_eq!((&done["status"], &done["key"]), (&json!("Approved"), &json!("key_1")));
        stage.act(&stage.rita, "ap_1", "approve").await.expect(200);
        stage.act(&stage.ralph, "ap_1", "approve").await.expect(200);
        assert_eq!(stage.count("SELECT COUNT(*) FROM keys").await, 1);
        let next = stage.submitted(stage.form()).await;
        assert_eq!(stage.read(&next).await["number"], "KA-20260115-0005", "counted on");
        let twice = "INSERT INTO applications (id, kind, applicant, version, created_at, updated_at, description, \
                     search, state) VALUES ('ap_1', 'CR', 'x', 1, 1, 1, '', '', 'draft')";
        assert!(world.try_sql(twice).await.is_err(), "ids stay unique");
    }
}
