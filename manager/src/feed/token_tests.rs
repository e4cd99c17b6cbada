//! Tokens and the keys that sign them, as gateways hear of them.

use axum::body::Body;
use axum::http::Method;
use gate::id::{Epoch, Revision};
use gate::time::UnixMillis;
use gate::wire::changes::Subject;
use gate::wire::directory::DirectoryAnswer;
use gate::wire::exchange::{
    ExchangeAnswer, Grant, Meter, MeterKind, Permission, Proof, RenewalOutcome, Resolved,
};
use serde_json::{Value, json};

use super::{Directory, actions};
use crate::testing::{Caller, World};
use crate::{bearer, gateways, tokens};

async fn directory(world: &World, known: Option<(Epoch, Revision)>) -> Option<DirectoryAnswer> {
    let known = known.unzip();
    match actions::directory(&world.app, known.0, known.1).await.expect("the database") {
        Directory::Unchanged => None,
        Directory::Answer(answer) => Some(*answer),
    }
}

#[tokio::test]
async fn a_gateway_fetches_the_directory_when_the_keys_of_tokens_change() {
    for world in World::both().await {
        let none = directory(&world, None).await.expect("all");
        assert_eq!(none.token_keys, []);
        tokens::keys::ensure(&world.app).await.expect("made");
        let one = directory(&world, Some((none.epoch, none.revision))).await.expect("the first key");
        assert_eq!((one.since, one.token_keys.len()), (Some(none.revision), 1));
        assert!(directory(&world, Some((one.epoch, one.revision))).await.is_none(), "nothing new");

        let (next, _) = tokens::keys::rotate(&world.app, "test").await.expect("rotated");
        let both = directory(&world, Some((one.epoch, one.revision))).await.expect("the next key");
        let names: Vec<_> = both.token_keys.iter().map(|key| key.kid.as_str()).collect();
        assert_eq!(names, [one.token_keys[0].kid.as_str(), next.as_str()]);
    }
}

const EXCHANGE: &str = "/gateway/v1/exchange";

/// A client `acme` with one group, a gateway, and an administrator.
pub(super) struct Shop {
    pub admin: Caller,
    pub anon: Caller,
    edge: Caller,
    pub group: String,
}

pub(super) async fn shop(world: &World) -> Shop {
    let issued = gateways::add(&world.app, "edge", "test").await.expect("a gateway");
    let (admin, edge) = (world.operator("ann", &["admin"]).await, world.bearer(issued.token.reveal()));
    let api = json!({
        "module": "orders", "id": "list", "name": "Orders", "path": {"prefix": "/orders"},
        "accepts": ["bearer"],
    });
    let api = admin.post("/api/v1/apis", api).await.expect(201);
    let group = json!({ "name": "orders", "apis": [api["uid"]] });
    let group = admin.post("/api/v1/groups", group).await.expect(201);
    let group = group["id"].as_str().expect("an id").to_owned();
    let client = json!({
        "id": "acme", "name": "acme", "display_name": "Acme", "note": "Ann", "groups": [group],
        "password": "secret-1", "password_confirmation": "secret-1",
    });
    admin.post("/api/v1/clients", client).await.expect(201);
    Shop { admin, anon: world.anon(), edge, group }
}

impl Shop {
    async fn terms(&self, access: Value) {
        let none = json!({ "validity": 0, "unit": "minutes", "uses": 0 });
        let settings = json!({
            "grant_types": ["client_credentials"], "access_token": access, "refresh_token": none,
            "redirect_urls": [],
        });
        self.admin.put("/api/v1/clients/acme/token-settings", settings).await.expect(200);
    }

    /// A new token's text.
    async fn token(&self) -> String {
        let path = "/oauth/token?grant_type=client_credentials&client_id=acme&client_secret=secret-1";
        let answer = self.anon.raw(Method::POST, path, &[], Body::empty()).await.expect(200);
        answer["access_token"].as_str().expect("a text").to_owned()
    }

    pub async fn exchange(&self, more: Value) -> ExchangeAnswer {
        let mut request = json!({
            "version": 1, "holder": "0123456789abcdef0123456789abcdef", "slot": 0, "filter_version": "0.1.0",
            "directory": 0, "feed": 0,
        });
        for (name, value) in more.as_object().expect("an object") {
            request[name] = value.clone();
        }
        serde_json::from_value(self.edge.post(EXCHANGE, request).await.expect(200)).expect("an answer")
    }

    async fn resolve(&self, token: &str) -> Resolved {
        let bearer = json!({ "kind": "bearer", "sha256": bearer::sha256_hex(token) });
        self.exchange(json!({ "resolve": [bearer] })).await.resolved.remove(0)
    }

    pub async fn grant(&self, token: &str) -> Grant {
        match self.resolve(token).await {
            Resolved::Known { grant } => *grant,
            Resolved::Unknown => panic!("unknown"),
        }
    }

    /// Asks for so many units; what was given.
    async fn take(&self, meter: &Meter, rec: u64, want: u32) -> u32 {
        let renewal = json!({ "meter": meter.id.0, "rec": rec, "seq": 1, "want": want });
        match self.exchange(json!({ "renew": [renewal] })).await.renewed[0].outcome {
            RenewalOutcome::Granted { units, .. } => units,
            _ => 0,
        }
    }
}

#[tokio::test]
async fn a_token_opens_what_its_scope_and_its_client_have_in_common() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let token = shop.token().await;
        let grant = shop.grant(&token).await;
        assert_eq!((grant.client.as_str(), &grant.proof, grant.active), ("acme", &Proof::Presented, true));
        assert_eq!((grant.revoked_at, grant.meters.len()), (None, 0));
        assert_eq!(grant.expires_at, Some(UnixMillis(World::START.0 + 600_000 - 1)));
        assert_eq!(grant.keep_s, 600, "no longer than it lives");
        let groups = |grant: &Grant| match &grant.permission {
            Permission::Groups { groups } => groups.iter().map(|group| group.0.clone()).collect::<Vec<_>>(),
            Permission::Apis { .. } => panic!("apis"),
        };
        assert_eq!(groups(&grant), [shop.group.as_str()]);

        // A group that the client gets later is none of the token's, one that it loses is lost at once.
        let later =
            shop.admin.post("/api/v1/groups", json!({ "name": "later", "apis": [] })).await.expect(201);
        let both = json!({ "groups": [shop.group, later["id"]] });
        shop.admin.patch("/api/v1/clients/acme", both).await.expect(200);
        assert_eq!(groups(&shop.grant(&token).await), [shop.group.as_str()]);
        shop.admin.patch("/api/v1/clients/acme", json!({ "groups": [later["id"]] })).await.expect(200);
        assert_eq!(groups(&shop.grant(&token).await), Vec::<String>::new());

        for other in ["", "nonsense", &format!("{token}x")] {
            assert!(matches!(shop.resolve(other).await, Resolved::Unknown), "{other}");
        }
        world.advance_ms(600_000);
        let ended = shop.grant(&token).await;
        assert!(ended.expires_at < Some(world.app.now()));
        assert_eq!(ended.keep_s, 60);
    }
}

#[tokio::test]
async fn an_access_token_serves_three_uses_within_one_day() {
    for world in World::both().await {
        let shop = shop(&world).await;
        shop.terms(json!({ "validity": 1, "unit": "days", "uses": 3 })).await;
        let token = shop.token().await;
        let grant = shop.grant(&token).await;
        // Within one day …
        assert_eq!(grant.expires_at, Some(UnixMillis(World::START.0 + 86_400_000 - 1)));
        // … three, by whichever gateway and worker, and none more.
        let [meter] = grant.meters.as_slice() else { panic!("{:?}", grant.meters) };
        assert_eq!((meter.kind, meter.limit, meter.window_s), (MeterKind::TokenUses, 3, None));
        let mut given = 0;
        for rec in 1..=9 {
            given += shop.take(meter, rec, 1).await;
        }
        assert_eq!(given, 3);
        // Another token has uses of its own.
        let other = shop.grant(&shop.token().await).await;
        assert_eq!(shop.take(&other.meters[0], 20, 1).await, 1);
    }
}

#[tokio::test]
async fn uses_of_a_token_are_leased_as_its_client_says() {
    for world in World::both().await {
        let shop = shop(&world).await;
        shop.terms(json!({ "validity": 1, "unit": "days", "uses": 1000 })).await;
        let token = shop.token().await;
        assert_eq!(shop.grant(&token).await.meters[0].horizon_s, 30);
        let terms = json!({ "lease_horizon_s": 300, "max_lease_percent": 7 });
        shop.admin.patch("/api/v1/clients/acme", terms).await.expect(200);
        let grant = shop.grant(&token).await;
        assert_eq!(grant.meters[0].horizon_s, 300);
        assert_eq!(shop.take(&grant.meters[0], 1, 1000).await, 70);
        shop.admin.patch("/api/v1/clients/acme", json!({ "max_lease_percent": 3 })).await.expect(200);
        assert_eq!(shop.take(&grant.meters[0], 2, 1000).await, 30);
    }
}

#[tokio::test]
async fn a_token_of_a_withdrawn_key_has_ended_and_a_new_one_serves() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let token = shop.token().await;
        let grant = shop.grant(&token).await;
        assert_eq!(grant.revoked_at, None);
        let kid = jsonwebtoken::decode_header(&token).expect("a header").kid.expect("a kid");
        let before = shop.exchange(json!({})).await.as_of;
        world.advance_ms(10);
        shop.admin.delete(&format!("/api/v1/token-keys/{kid}")).await.expect(204);
        // Whoever holds its grant is told of the client, whoever does not of the keys.
        let mut read = world.app.db.read().await.expect("a connection");
        let head = crate::changes::head(&mut read).await.expect("the head").revision;
        let crate::changes::Page::Changes(told) =
            crate::changes::page(&mut read, before, head, 9).await.expect("a page")
        else {
            panic!("too old")
        };
        drop(read);
        let told: Vec<_> = told.into_iter().map(|change| change.subject).collect();
        assert_eq!(told, [Subject::Client { client: "acme".into() }, Subject::Directory]);
        assert_eq!(shop.grant(&token).await.revoked_at, Some(world.app.now()));
        let seen = shop.admin.get(&format!("/api/v1/tokens/{}", grant.credential)).await.expect(200);
        assert_eq!(seen["ended_by"], "key_withdrawn");
        let question = format!("/oauth2/introspect?client_id=acme&client_secret=secret-1&token={token}");
        let seen = shop.anon.raw(Method::POST, &question, &[], Body::empty()).await.expect(200);
        assert_eq!(seen, json!({ "active": false }));
        let other = shop.token().await;
        assert_eq!(shop.grant(&other).await.revoked_at, None);
    }
}

#[tokio::test]
async fn a_token_of_a_stopped_user_says_so_while_that_lasts_and_has_ended_for_good() {
    for world in World::both().await {
        let shop = shop(&world).await;
        let user = json!({ "name": "rob", "password": "secret-of-rob" });
        let user = shop.admin.post("/api/v1/users", user).await.expect(201);
        let user = format!("/api/v1/users/{}", user["id"].as_str().expect("an id"));
        let path = "/oauth/token?grant_type=password&client_id=acme&client_secret=secret-1";
        let path = format!("{path}&username=rob&password=secret-of-rob");
        let token = shop.anon.raw(Method::POST, &path, &[], Body::empty()).await.expect(200);
        let token = token["access_token"].as_str().expect("a text");
        let mut seen = Vec::new();
        for status in ["active", "locked", "disabled", "active"] {
            shop.admin.patch(&user, json!({ "status": status })).await.expect(200);
            let grant = shop.grant(token).await;
            seen.push((grant.active, grant.revoked_at.is_some()));
        }
        assert_eq!(seen, [(true, false), (false, false), (false, false), (true, true)]);
    }
}
