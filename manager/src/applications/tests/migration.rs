//! Forms of older installations.

use super::super::report_stuck;
use super::*;

/// The last migration before forms had other applicants than operators.
const OPERATORS_ALONE: i64 = 63;

/// A form that waits at level 1 of 2, filed by somebody who is gone.
const WAITING: [&str; 5] = [
    "INSERT INTO applications
        (id, kind, number, applicant, version, created_at, submitted_at, updated_at, client, name,
         effective_date, expiry_date, quota, description, search, state, level, levels)
     VALUES ('ap_1', 'KA', 'KA-20260115-0004', 'op_gone', 2, 1, 2, 2, 'acme', 'orders',
             '2026-01-15', '2026-12-31', 5, 'to order', 'ka-20260115-0004', 'pending_order', 1, 2)",
    "INSERT INTO application_apis (application_id, api_uid) VALUES ('ap_1', 'api_gone')",
    "INSERT INTO application_history (application_id, version, at, actor, action, comment, state)
     VALUES ('ap_1', 1, 1, 'op_gone', 'save', '', 'draft')",
    "INSERT INTO application_history (application_id, version, at, actor, action, comment, state)
     VALUES ('ap_1', 2, 2, 'op_gone', 'submit', '', 'pending_order')",
    "INSERT INTO application_numbers (kind, day, last) VALUES ('KA', '20260115', 4)",
];

/// A revocation that has been carried out.
const DONE: [&str; 1] = ["INSERT INTO applications
        (id, kind, number, applicant, version, created_at, submitted_at, updated_at, client, key_id,
         effective_date, description, search, state, ended_at, effect, effect_at, effect_key)
     VALUES ('ap_2', 'KR', 'KR-20260115-0001', 'op_gone', 3, 1, 2, 3, 'acme', 'key_1',
             '2026-01-15', 'no longer', 'kr-20260115-0001', 'approved', 3, 'done', 3, 'key_1')"];

#[tokio::test]
async fn forms_of_an_older_installation_are_those_of_operators() {
    for world in World::both_since(OPERATORS_ALONE, &[&WAITING[..], &DONE[..]].concat()).await {
        let stage = Stage::set(world).await;
        stage.flow("KA", json!([["reviewer_1"], ["reviewer_2"]])).await;
        let waiting = stage.read("ap_1").await;
        assert_eq!(
            (&waiting["applicant_kind"], &waiting["applicant"]),
            (&json!("operator"), &json!("op_gone"))
        );
        assert_eq!((&waiting["state"], &waiting["quota"]), (&json!("pending_order"), &json!(5)));
        assert_eq!(waiting["apis"], json!(["api_gone"]));
        assert_eq!(waiting["history"].as_array().expect("a history").len(), 2);
        let done = stage.read("ap_2").await;
        assert_eq!((&done["status"], &done["key"]), (&json!("Approved"), &json!("key_1")));

        // It goes on where it stood.
        let returned = stage.act(&stage.rita, "ap_1", "return").await.expect(200);
        assert_eq!(returned["state"], "returned");
        let next = stage.submitted(stage.form()).await;
        assert_eq!(stage.read(&next).await["number"], "KA-20260115-0005", "counted on");
        let twice =
            "INSERT INTO applications (id, kind, applicant, version, created_at, updated_at, description,
                                               search, state)
                     VALUES ('ap_1', 'CR', 'x', 1, 1, 1, '', '', 'draft')";
        assert!(stage.world.try_sql(twice).await.is_err(), "ids stay unique");
    }
}

/// The last migration before rounds were kept.
const WITHOUT_ROUNDS: i64 = 74;

/// Forms that wait at level 1, at level 2, and at level 1 once more after they were returned from level 2.
const UNDER_WAY: [&str; 6] = [
    "INSERT INTO applications
        (id, kind, number, applicant_kind, applicant, version, created_at, submitted_at, updated_at, client, name,
         effective_date, expiry_date, quota, description, search, state, level, levels)
     VALUES ('ap_1', 'KA', 'KA-20260115-0001', 'operator', 'op_gone', 2, 1, 2, 2, 'acme', 'one', '2026-01-15',
             '2026-12-31', 5, 'to order', '', 'pending_order', 1, 2)",
    "INSERT INTO applications
        (id, kind, number, applicant_kind, applicant, version, created_at, submitted_at, updated_at, client, name,
         effective_date, expiry_date, quota, description, search, state, level, levels)
     VALUES ('ap_2', 'KA', 'KA-20260115-0002', 'operator', 'op_gone', 3, 1, 2, 3, 'acme', 'two', '2026-01-15',
             '2026-12-31', 5, 'to order', '', 'pending_order', 2, 2)",
    "INSERT INTO applications
        (id, kind, number, applicant_kind, applicant, version, created_at, submitted_at, updated_at, client, name,
         effective_date, expiry_date, quota, description, search, state, level, levels)
     VALUES ('ap_3', 'KA', 'KA-20260115-0003', 'operator', 'op_gone', 5, 1, 5, 5, 'acme', 'three', '2026-01-15',
             '2026-12-31', 5, 'to order', '', 'pending_order', 1, 2)",
    "INSERT INTO application_history (application_id, version, at, actor, action, comment, state, level)
     VALUES ('ap_1', 1, 1, 'op_gone', 'save', '', 'draft', NULL),
            ('ap_1', 2, 2, 'op_gone', 'submit', '', 'pending_order', NULL),
            ('ap_2', 1, 1, 'op_gone', 'save', '', 'draft', NULL),
            ('ap_2', 2, 2, 'op_gone', 'submit', '', 'pending_order', NULL),
            ('ap_2', 3, 3, 'op_signer', 'approve', 'fine', 'pending_order', 1),
            ('ap_3', 1, 1, 'op_gone', 'save', '', 'draft', NULL),
            ('ap_3', 2, 2, 'op_gone', 'submit', '', 'pending_order', NULL),
            ('ap_3', 3, 3, 'op_signer', 'approve', '', 'pending_order', 1),
            ('ap_3', 4, 4, 'op_other', 'return', 'quota', 'returned', 2),
            ('ap_3', 5, 5, 'op_gone', 'resubmit', '', 'pending_order', NULL)",
    "INSERT INTO application_apis (application_id, api_uid)
     VALUES ('ap_1', 'api_gone'), ('ap_2', 'api_gone'), ('ap_3', 'api_gone')",
    "INSERT INTO application_numbers (kind, day, last) VALUES ('KA', '20260115', 3)",
];

impl Stage {
    async fn trail(&self, id: &str) -> Vec<(u64, u64, Value, Value)> {
        let trail = self.admin.get(&path(id, "trail")).await.expect(200);
        let number = |value: &Value| value.as_u64().expect("a number");
        let mut levels = Vec::new();
        for round in trail["rounds"].as_array().expect("rounds") {
            for level in round["levels"].as_array().expect("levels") {
                let by = level["by"]["id"].clone();
                levels.push((number(&round["round"]), number(&level["level"]), level["result"].clone(), by));
            }
        }
        levels
    }

    /// Has the API that forms of old have chosen be one that there is.
    async fn with_their_api(&self) {
        let there = format!("UPDATE application_apis SET api_uid = '{}'", self.apis[0]);
        self.world.sql(&there).await;
    }
}

#[tokio::test]
async fn forms_that_were_under_way_before_rounds_were_kept_go_on_where_they_stood() {
    for world in World::both_since(WITHOUT_ROUNDS, &UNDER_WAY).await {
        let stage = Stage::set(world).await;
        stage.flow("KA", json!([["reviewer_1"], ["reviewer_2"]])).await;
        stage.with_their_api().await;
        assert_eq!(report_stuck(&stage.world.app).await.expect("a run"), 0);
        let nothing = Value::Null;
        let signed = |level| (1, level, json!("approve"), json!("op_signer"));
        assert_eq!(stage.trail("ap_1").await, [(1, 1, nothing.clone(), nothing.clone())]);
        assert_eq!(stage.trail("ap_2").await, [signed(1), (1, 2, nothing.clone(), nothing.clone())]);
        let returned = (1, 2, json!("return"), json!("op_other"));
        assert_eq!(stage.trail("ap_3").await, [signed(1), returned, (2, 1, nothing.clone(), nothing)]);
        for (id, round) in [("ap_1", 1), ("ap_2", 1), ("ap_3", 2)] {
            assert_eq!(stage.read(id).await["waiting"]["round"], json!(round), "{id}");
        }

        // Who signed a level then, by whatever account, signs no other of that round now.
        let boss = stage.world.operator("boss", &["reviewer_1", "reviewer_2"]).await;
        let boss_was =
            format!("UPDATE approval_signatures SET signer = '{}' WHERE signer = 'op_signer'", boss.id);
        assert_eq!(stage.world.sql(&boss_was).await, 1, "of the present rounds alone");
        stage.act(&boss, "ap_2", "approve").await.problem(403, "signed_another_level");

        stage.act(&stage.rita, "ap_2", "approve").await.problem(403, "forbidden");
        stage.act(&stage.ralph, "ap_1", "approve").await.problem(403, "forbidden");
        let two = stage.act(&stage.ralph, "ap_2", "approve").await.expect(200);
        assert_eq!(two["effect"]["state"], "done");
        for id in ["ap_1", "ap_3"] {
            stage.act(&stage.rita, id, "approve").await.expect(200);
            let done = stage.act(&stage.ralph, id, "approve").await.expect(200);
            assert_eq!(done["effect"]["state"], "done", "{id}");
        }
        assert_eq!(stage.count("SELECT COUNT(*) FROM keys").await, 3);
        let page = stage.admin.get("/api/v1/reports/api-keys").await.expect(200);
        let two =
            page["items"].as_array().expect("keys").iter().find(|key| key["name"] == "two").expect("it");
        let by = &two["forms"][0]["signatures"];
        assert_eq!((&by[0]["by"], &by[1]["by"]), (&json!("op_signer"), &json!(stage.ralph.id)), "{two:#}");
    }
}

/// While the replicas are replaced one after another, one of the older version serves too: it writes forms
/// and their history as ever, and no rounds.
#[tokio::test]
async fn what_an_older_replica_signs_returns_and_submits_meanwhile_goes_on() {
    for stage in Stage::both().await {
        let (signed, returned) = (stage.submitted(stage.form()).await, stage.submitted(stage.form()).await);
        let (submitted, untouched) = (stage.draft(stage.form()).await, stage.submitted(stage.form()).await);
        let rita = &stage.rita.id;
        let step = |id: &str, version, actor: &str, action: &str, level: &str, state: &str| {
            format!(
                "INSERT INTO application_history (application_id, version, at, actor, action, comment, state, level)
                 VALUES ('{id}', {version}, {}, '{actor}', '{action}', '', '{state}', {level})",
                World::START.0
            )
        };
        for statement in [
            format!("UPDATE applications SET version = 3, level = 2 WHERE id = '{signed}'"),
            step(&signed, 3, rita, "approve", "1", "pending_order"),
            format!("UPDATE approval_rounds SET author_email = 'then@example.com' WHERE form = '{signed}'"),
            format!("UPDATE applications SET version = 3, state = 'returned' WHERE id = '{returned}'"),
            step(&returned, 3, rita, "return", "1", "returned"),
            format!(
                "UPDATE applications SET version = 2, state = 'pending_order', number = 'KA-20260115-0009', level = 1,
                        levels = 2, submitted_at = {} WHERE id = '{submitted}'",
                World::START.0
            ),
            step(&submitted, 2, &stage.anna.id, "submit", "NULL", "pending_order"),
        ] {
            assert_eq!(stage.world.sql(&statement).await, 1);
        }
        let (nothing, approved) = (Value::Null, (1, 1, json!("approve"), json!(rita)));
        let waits = |level| (1, level, nothing.clone(), nothing.clone());
        assert_eq!(stage.trail(&signed).await, [approved.clone(), waits(2)], "no gap, even before");
        stage.act(&stage.ralph, &signed, "approve").await.problem(403, "forbidden");

        let before = stage.read(&untouched).await;
        assert_eq!(report_stuck(&stage.world.app).await.expect("a run"), 0);
        assert_eq!(stage.read(&untouched).await, before);
        assert_eq!(stage.trail(&signed).await, [approved, waits(2)]);
        assert_eq!(stage.count("SELECT COUNT(*) FROM approval_signatures WHERE level = 1").await, 1);
        let authors = "SELECT COUNT(*) FROM approval_rounds WHERE author_email = 'then@example.com'";
        assert_eq!(stage.count(authors).await, 1, "who filed it then stays its author");
        let waiting = "SELECT COUNT(*) FROM approval_rounds WHERE level IS NOT NULL";
        assert_eq!(stage.count(waiting).await, 3, "the returned one waits no longer");
        stage.act(&stage.ralph, &signed, "approve").await.expect(200);
        stage.act(&stage.rita, &submitted, "approve").await.expect(200);
        stage.act(&stage.ralph, &submitted, "approve").await.expect(200);
        stage.act(&stage.anna, &returned, "resubmit").await.expect(200);
        stage.act(&stage.rita, &returned, "approve").await.expect(200);

        // Returned and submitted again there: another round, at the level at which the last one stood.
        for statement in [
            format!("UPDATE applications SET version = 6, level = 1 WHERE id = '{returned}'"),
            step(&returned, 6, &stage.anna.id, "resubmit", "NULL", "pending_order"),
        ] {
            assert_eq!(stage.world.sql(&statement).await, 1);
        }
        assert_eq!(report_stuck(&stage.world.app).await.expect("a run"), 0);
        assert_eq!(stage.read(&returned).await["waiting"]["round"], json!(3));
        stage.act(&stage.rita, &returned, "approve").await.expect(200);
        stage.act(&stage.ralph, &returned, "approve").await.expect(200);
        assert_eq!(stage.count("SELECT COUNT(*) FROM keys").await, 3);
    }
}
