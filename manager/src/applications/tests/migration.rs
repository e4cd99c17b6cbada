//! Forms of older installations.

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
