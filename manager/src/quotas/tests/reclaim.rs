//! Withheld units of a total are given to others.

use super::*;
use serde_json::{Value, json};

use crate::testing::Caller;

const METER: &str = "/api/v1/meters/client_quota/acme";
const RECLAIM: &str = "/api/v1/meters/client_quota/acme/reclaim";
/// Longer than the life of any lease, with what the manager adds.
const LEASE_MS: i64 = 63_000;

/// Quota in all, a tenth of it in a lease at most.
async fn world_with(world: &World, quota: u64, period: &str) -> Caller {
    let admin = world.operator("ann", &["admin"]).await;
    world.client("acme").await;
    let limit =
        json!({ "quota": quota, "quota_period": period, "max_lease_percent": 10, "time_zone": "UTC" });
    admin.patch("/api/v1/clients/acme", limit).await.expect(200);
    admin
}

/// What a renewal brings with the client's own terms.
async fn renew_at(world: &World, holder: HolderId, renewal: Renewal) -> RenewalOutcome {
    let (outcomes, _) = take(&world.app.db, &[(holder, renewal)], world.app.now()).await;
    outcomes[0]
}

async fn audited(admin: &Caller) -> Vec<Value> {
    let entries = admin.get("/api/v1/audit?action=quotas.reclaim").await.expect(200);
    entries["items"].as_array().expect("entries").clone()
}

#[tokio::test]
async fn withheld_units_of_a_total_go_to_others_once_and_their_late_return_is_refused() {
    for world in World::both().await {
        let admin = world_with(&world, 100, "total").await;
        let db = world.app.db.clone();
        let meter = stored(&db, MeterKind::ClientQuota, "acme").await.id;
        // One holder falls silent with 10, another one takes all the rest.
        let lost = renew_at(&world, holder(1), first(meter, 1, 10)).await;
        let RenewalOutcome::Granted { lease, units: 10, .. } = lost else { panic!("{lost:?}") };
        let before = admin.post(RECLAIM, json!({})).await.expect(200);
        assert_eq!(
            (&before["units"], &before["meter"]["held"]),
            (&json!(0), &json!(10)),
            "it may still be spent"
        );
        world.advance_ms(LEASE_MS);
        let mut rec = 1;
        let mut take_all = async || {
            let mut taken = 0;
            loop {
                rec += 1;
                match renew_at(&world, holder(2), first(meter, rec, 10)).await {
                    RenewalOutcome::Granted { units, .. } => taken += units,
                    RenewalOutcome::Exhausted { .. } => return taken,
                    other => panic!("{other:?}"),
                }
            }
        };
        assert_eq!(take_all().await, 90);
        let shown = admin.get(METER).await.expect(200);
        let told = |shown: &Value, names: &[&str]| -> Vec<Value> {
            names.iter().map(|name| shown[name].clone()).collect()
        };
        let names = ["kind", "owner", "limit", "reclaimed", "used", "held", "withheld", "remaining"];
        let expected = json!(["client_quota", "acme", 100, 0, 100, 90, 10, 0]);
        assert_eq!(json!(told(&shown, &names)), expected);

        let changes_before = announced(&db).await.len();
        let done = admin.post(RECLAIM, json!({})).await.expect(200);
        assert_eq!((&done["units"], &done["leases"]), (&json!(10), &json!(1)));
        assert_eq!(
            json!(told(&done["meter"], &names)),
            json!(["client_quota", "acme", 110, 10, 100, 90, 0, 10])
        );
        assert_eq!(
            announced(&db).await[changes_before..],
            [Subject::Meter { meter }],
            "who was refused asks again"
        );
        let usage = &admin.get("/api/v1/clients/acme").await.expect(200)["quota_usage"];
        assert_eq!(told(usage, &["limit", "reclaimed", "used", "remaining"]), [110, 10, 100, 10]);
        let again = admin.post(RECLAIM, json!({})).await.expect(200);
        assert_eq!((&again["units"], &again["meter"]), (&json!(0), &done["meter"]));
        assert_eq!(announced(&db).await.len(), changes_before + 1);
        let entries = audited(&admin).await;
        assert_eq!(entries.len(), 1, "{entries:?}");
        assert_eq!(entries[0]["subject"], "client:acme");
        let detail =
            json!({ "units": 10, "leases": 1, "changed": { "limit": { "before": 100, "after": 110 } } });
        assert_eq!(entries[0]["detail"], detail);

        // It comes back all the same, with units that others may have by now.
        let late = Renewal {
            seq: 2,
            epoch: Some(EPOCH),
            closed_lease: Some(lease),
            unspent: 10,
            ..first(meter, 1, 10)
        };
        assert_eq!(renew_at(&world, holder(1), late).await, RenewalOutcome::Refused);
        assert_eq!(take_all().await, 10);
        assert_eq!(renew_at(&world, holder(1), late).await, RenewalOutcome::Refused);
        let now = stored(&db, MeterKind::ClientQuota, "acme").await;
        assert_eq!(
            (now.debited, now.in_force(), now.limit.units),
            (110, 110, 100),
            "never over what is in force"
        );

        // The owner's word is his own, what was given back comes on top of it; a new life has none.
        admin.patch("/api/v1/clients/acme", json!({ "quota": 200 })).await.expect(200);
        assert_eq!(stored(&db, MeterKind::ClientQuota, "acme").await.in_force(), 210);
        let mut write = db.write("test.reset").await.unwrap();
        assert!(reset(&mut write, MeterKind::ClientQuota, "acme", world.app.now()).await.unwrap());
        write.commit().await.unwrap();
        assert_eq!(stored(&db, MeterKind::ClientQuota, "acme").await.in_force(), 200);
    }
}

#[tokio::test]
async fn what_cannot_be_given_to_others_is_refused_by_name() {
    for world in World::both().await {
        let admin = world_with(&world, 100, "day").await;
        let meter = stored(&world.app.db, MeterKind::ClientQuota, "acme").await.id;
        renew_at(&world, holder(1), first(meter, 1, 10)).await;
        world.advance_ms(LEASE_MS);
        let refused = admin.post(RECLAIM, json!({})).await.problem(409, "quota_has_windows");
        let detail = refused["detail"].as_str().expect("a sentence");
        assert!(detail.contains("begins again by itself (day)"), "{detail}");
        let shown = admin.get(METER).await.expect(200);
        assert_eq!((&shown["limit"], &shown["withheld"]), (&json!(100), &json!(10)));
        for nobody in ["client_quota/nobody", "key_uses/acme", "token_uses/acme", "quota/acme"] {
            admin.get(&format!("/api/v1/meters/{nobody}")).await.problem(404, "not_found");
            admin
                .post(&format!("/api/v1/meters/{nobody}/reclaim"), json!({}))
                .await
                .problem(404, "not_found");
        }
        assert_eq!(audited(&admin).await, [] as [Value; 0]);
        // Of the ready-made roles only the administrator's raises limits.
        let holds = world.operator("bob", &["client_manager"]).await;
        holds.get(METER).await.expect(200);
        holds.post(RECLAIM, json!({})).await.problem(403, "forbidden");
    }
}
