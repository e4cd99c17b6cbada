//! Clients are told once, on both databases.

use std::time::Duration;

use gate::id::{Epoch, HolderId, LeaseId, MeterId, Rec};
use gate::wire::exchange::{MeterKind, Renewal, RenewalOutcome};
use serde_json::{Value, json};

use super::actions::look;
use crate::app::App;
use crate::quotas::{self, LeaseTerms, Step};
use crate::testing::{Caller, World};

const DAY_MS: i64 = 86_400_000;
const EPOCH: Epoch = Epoch(7);

/// A node with one lease of the client's quota at a time.
struct Node<'w> {
    world: &'w World,
    meter: MeterId,
    rec: u64,
    seq: u64,
    lease: Option<(LeaseId, u32)>,
}

impl<'w> Node<'w> {
    async fn of(world: &'w World) -> Self {
        // As large as they are asked for.
        world.sql("UPDATE clients SET max_lease_percent = 100").await;
        let meter = meter_of(world).await.id;
        Self { world, meter, rec: 1, seq: 0, lease: None }
    }

    async fn renew(&mut self, want: u32) {
        self.seq += 1;
        let renewal = Renewal {
            meter: self.meter,
            rec: Rec(self.rec),
            seq: self.seq,
            epoch: (self.seq > 1).then_some(EPOCH),
            want,
            closed_lease: self.lease.map(|(lease, _)| lease),
            unspent: 0,
            waiting: false,
            ahead: false,
        };
        let mut steps = [Step { holder: HolderId([1; 16]), renewal, outcome: None }];
        let app = &self.world.app;
        let mut write = app.db.write("test.renew").await.expect("begun");
        quotas::renew(&mut write, EPOCH, LeaseTerms::of(&app.config), &mut steps, app.now())
            .await
            .expect("renewed");
        write.commit().await.expect("committed");
        self.lease = match steps[0].outcome {
            Some(RenewalOutcome::Granted { lease, units, .. }) => Some((lease, units)),
            Some(RenewalOutcome::Closed) => None,
            other => panic!("{other:?}"),
        };
        if want == 0 {
            (self.rec, self.seq) = (self.rec + 1, 0);
        }
    }

    /// Has units handed out until so many are, and spends them; the last lease stays out.
    async fn spend_to(&mut self, units: u64) {
        loop {
            let now = self.world.app.now();
            let mut read = self.world.app.db.read().await.expect("a connection");
            let of_meter = quotas::meter_by_id(&mut read, self.meter, now, false).await.expect("read");
            let debited = of_meter.expect("a meter").0.at(now).debited;
            drop(read);
            if debited == units {
                return;
            }
            self.renew(u32::try_from(units - debited).expect("more than before")).await;
        }
    }

    /// The last lease goes back, spent.
    async fn close(&mut self) {
        self.renew(0).await;
    }
}

async fn meter_of(world: &World) -> quotas::Meter {
    let mut read = world.app.db.read().await.expect("a connection");
    quotas::meter_of(&mut read, MeterKind::ClientQuota, "acme").await.expect("read").expect("a meter")
}

/// The subjects of the mails that were written, oldest first.
async fn mails(admin: &Caller) -> Vec<String> {
    let mails = admin.get("/api/v1/mails?template=quota_reached").await.expect(200);
    let mails = mails["items"].as_array().expect("mails").iter().rev();
    mails.map(|mail| mail["subject"].as_str().expect("a subject").to_owned()).collect()
}

/// What the audit trail tells, oldest first: part and used.
async fn events(admin: &Caller) -> Vec<(Value, Value)> {
    let entries = admin.get("/api/v1/audit?action=quotas.warn&limit=100").await.expect(200);
    let entries = entries["items"].as_array().expect("entries").iter().rev();
    entries.map(|entry| (entry["detail"]["percent"].clone(), entry["detail"]["used"].clone())).collect()
}

async fn world_with_quota(world: &World, quota: u32) -> Caller {
    let admin = world.operator("ann", &["admin"]).await;
    world.client("acme").await;
    let limit = json!({ "quota": quota, "quota_period": "day", "time_zone": "UTC" });
    admin.patch("/api/v1/clients/acme", limit).await.expect(200);
    admin
}

#[tokio::test]
async fn a_client_is_told_once_per_window_and_part_whichever_replica_sees_it() {
    for world in World::both().await {
        let admin = world_with_quota(&world, 100).await;
        let other = App { db: world.another_process().await, ..world.app.clone() };
        let both = async || {
            let (one, two) = tokio::join!(look(&world.app), look(&other));
            one.expect("looked");
            two.expect("looked");
            // So that mails have an order.
            world.advance_ms(10);
        };
        let mut node = Node::of(&world).await;
        node.spend_to(79).await;
        node.close().await;
        both().await;
        assert_eq!(events(&admin).await, []);
        // Handed out, and perhaps not spent yet.
        node.spend_to(80).await;
        both().await;
        assert_eq!(events(&admin).await, []);
        node.close().await;
        both().await;
        both().await;
        assert_eq!(events(&admin).await, [(json!(80), json!(80))]);
        let eighty = "【Keygate】Quota Notice: 80% of the quota of the client “acme” is used";
        assert_eq!(mails(&admin).await, [eighty]);
        node.spend_to(100).await;
        both().await;
        assert_eq!(events(&admin).await.len(), 1, "the last calls may not have been let in yet");
        node.close().await;
        both().await;
        both().await;
        let used_up = "【Keygate】Quota Notice: the quota of the client “acme” is used up";
        assert_eq!(mails(&admin).await, [eighty, used_up]);
        assert_eq!(events(&admin).await[1..], [(json!(100), json!(100))]);
        assert_eq!(world.sql("DELETE FROM meter_watches").await, 0, "there is nothing more to tell");
        // The next day begins anew; what is passed at once is told once, the most of it.
        world.advance_ms(DAY_MS);
        both().await;
        node.rec += 1;
        node.spend_to(100).await;
        node.close().await;
        both().await;
        assert_eq!(mails(&admin).await, [eighty, used_up, used_up]);
        both().await;
        assert_eq!(events(&admin).await.len(), 3);
    }
}

#[tokio::test]
async fn a_raised_limit_is_told_of_again_only_where_its_part_was_not_used() {
    for world in World::both().await {
        let admin = world_with_quota(&world, 100).await;
        let set = async |quota: u32| {
            admin.patch("/api/v1/clients/acme", json!({ "quota": quota })).await.expect(200);
            world.sql("UPDATE clients SET max_lease_percent = 100").await;
        };
        let told = async || {
            look(&world.app).await.expect("looked");
            events(&admin).await.len()
        };
        let mut node = Node::of(&world).await;
        node.spend_to(85).await;
        node.close().await;
        assert_eq!(told().await, 1);
        // 80 % of 106 are 84.8: they were used before and after.
        set(106).await;
        assert_eq!(told().await, 1);
        // Of 200 they are not.
        set(200).await;
        node.spend_to(159).await;
        node.close().await;
        assert_eq!(told().await, 1);
        node.spend_to(160).await;
        node.close().await;
        assert_eq!(told().await, 2);
        // Lowered below what is used, it is used up.
        set(120).await;
        assert_eq!(told().await, 3);
        assert_eq!(events(&admin).await[2], (json!(100), json!(160)));
    }
}

#[tokio::test]
async fn units_that_nobody_can_use_any_more_count_as_used() {
    for world in World::both().await {
        let admin = world_with_quota(&world, 100).await;
        let mut node = Node::of(&world).await;
        node.spend_to(79).await;
        node.close().await;
        node.spend_to(89).await;
        look(&world.app).await.expect("looked");
        let held = events(&admin).await.len();
        // The node dies with its last lease.
        world.advance_ms(600_000);
        look(&world.app).await.expect("looked");
        assert_eq!((held, events(&admin).await), (0, vec![(json!(80), json!(89))]));
    }
}

#[tokio::test]
async fn an_operator_sets_at_which_parts_a_client_is_told() {
    for world in World::both().await {
        let admin = world_with_quota(&world, 100).await;
        let path = "/api/v1/clients/acme/quota-warnings";
        let shown = admin.get(path).await.expect(200);
        assert_eq!((&shown["percents"], &shown["version"]), (&json!([80, 100]), &json!(0)));
        assert_eq!(admin.put(path, json!({ "percents": [] })).await.expect(200)["percents"], json!([]));
        let mut node = Node::of(&world).await;
        node.spend_to(70).await;
        node.close().await;
        look(&world.app).await.expect("looked");
        assert_eq!(events(&admin).await, []);
        // Set while more is used, it is told at once.
        let saved = admin.put(path, json!({ "percents": [90, 60] })).await.expect(200);
        assert_eq!((&saved["percents"], &saved["version"]), (&json!([60, 90]), &json!(2)));
        look(&world.app).await.expect("looked");
        assert_eq!(events(&admin).await, [(json!(60), json!(70))]);
        for wrong in [json!([49]), json!([101]), json!([80, 80]), json!((50..61).collect::<Vec<_>>())] {
            let refused = admin.put(path, json!({ "percents": wrong })).await.problem(422, "invalid_field");
            assert_eq!(refused["field"], "percents");
        }
        let stale = admin.send(
            axum::http::Method::PUT,
            path,
            &[("if-match", "\"1\"")],
            Some(json!({ "percents": [] })),
        );
        stale.await.problem(412, "version_mismatch");
        admin.get("/api/v1/clients/nobody/quota-warnings").await.problem(404, "not_found");
        let auditor = world.operator("eve", &["auditor"]).await;
        auditor.put(path, json!({ "percents": [] })).await.problem(403, "forbidden");
        // With its client it goes.
        world.sql("DELETE FROM clients WHERE id = 'acme'").await;
        assert_eq!(world.sql("DELETE FROM client_quota_warnings").await, 0);
    }
}

/// A renewal holds a meter while it writes that it is to be looked at, and so does whoever looks.
#[tokio::test]
async fn parts_that_are_set_while_somebody_looks_are_looked_at_afterwards() {
    for world in World::both().await {
        let admin = world_with_quota(&world, 100).await;
        let mut node = Node::of(&world).await;
        node.spend_to(70).await;
        node.close().await;
        look(&world.app).await.expect("looked");
        let now = world.app.now();
        let mut looks = world.app.db.write("test.look").await.expect("begun");
        quotas::meter_by_id(&mut looks, node.meter, now, true).await.expect("read").expect("a meter");
        let setting = tokio::spawn({
            let admin = admin.clone();
            async move { admin.put("/api/v1/clients/acme/quota-warnings", json!({ "percents": [60] })).await }
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!setting.is_finished(), "it waits for whoever looks");
        // By the parts that were read: the next of them is 80 %.
        quotas::put_off(&mut looks, node.meter, 80).await.expect("put off");
        looks.commit().await.expect("committed");
        setting.await.expect("no panic").expect(200);
        look(&world.app).await.expect("looked");
        assert_eq!(events(&admin).await, [(json!(60), json!(70))]);
    }
}

#[tokio::test]
async fn nobody_is_told_of_a_key_that_was_revoked() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        world.client("acme").await;
        let api = json!({ "module": "shop", "id": "orders", "path": { "prefix": "/" }, "accepts": ["dgrk"] });
        let api = admin.post("/api/v1/apis", api).await.expect(201)["uid"].clone();
        let mut told = Vec::new();
        for (number, revoked) in [("1", false), ("2", true)] {
            let key = json!({
                "client": "acme", "name": number, "expiry_date": "2026-12-31", "quota": 10, "apis": [api],
                "api_key": format!("{}{number}A=", "A".repeat(53)), "secret_key": "c2VjcmV0",
            });
            let key = admin.post("/api/v1/keys/import", key).await.expect(201)["id"].clone();
            let key = key.as_str().expect("an id").to_owned();
            let meter = {
                let mut read = world.app.db.read().await.expect("a connection");
                quotas::meter_of(&mut read, MeterKind::KeyUses, &key)
                    .await
                    .expect("read")
                    .expect("a meter")
                    .id
            };
            world.sql("UPDATE meters SET max_lease = 1000000").await;
            let mut node = Node { world: &world, meter, rec: 1, seq: 0, lease: None };
            node.spend_to(9).await;
            node.close().await;
            if revoked {
                admin.post(&format!("/api/v1/keys/{key}/revoke"), json!({})).await.expect(200);
            }
            look(&world.app).await.expect("looked");
            told.push(events(&admin).await.len());
        }
        assert_eq!(told, [1, 1]);
    }
}
