//! No client gets at what is another's: every operation that the document describes for clients is
//! tried. One that is new here must be told how, or the test fails.

use std::collections::BTreeMap;

use axum::http::Method;

use super::*;
use crate::openapi;

/// What a body must hold to be looked at, and what a query may hold, by name. Whoever adds a field
/// says here whether it names something of a client's.
const NAMES_A_KEY: &str = "key";
const NAMES_A_CLIENT: &str = "client";
const NAMES_AN_API: &str = "apis";
const NAMES_NOTHING: [&str; 25] = [
    // An API and a credential in the query of usage narrow what is counted of one's own client alone.
    "api",
    "bucket",
    "credential",
    "format",
    "from",
    "group_by",
    "result",
    "until",
    "status",
    "comment",
    "cursor",
    "description",
    "effective_date",
    "expiry_date",
    "keyword",
    "limit",
    "name",
    "quota",
    "reset_usage",
    "source",
    "state",
    "type",
    // Of a form that asks for a client, which no client files.
    "bindings",
    "display_name",
    "emails",
];

/// An operation for clients.
struct Operation {
    id: &'static str,
    method: Method,
    path: &'static str,
    described: &'static Value,
}

impl Operation {
    fn variables(&self) -> Vec<&'static str> {
        self.path.split('/').filter(|part| part.starts_with('{')).collect()
    }

    /// Fields of the body, with their schemas resolved, and names of the query.
    fn inputs(&self) -> (Vec<&'static str>, Vec<&'static str>) {
        let parameters = self.described["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        let query = parameters.iter().filter(|parameter| parameter["in"] == "query");
        let query = query.map(|parameter| parameter["name"].as_str().expect("a name")).collect();
        let schema = &self.described["requestBody"]["content"]["application/json"]["schema"];
        let schema = match schema["$ref"].as_str().and_then(|to| to.strip_prefix('#')) {
            Some(place) => openapi::document().pointer(place).expect("a schema"),
            None => schema,
        };
        let body = schema["properties"].as_object().map(|fields| fields.keys().map(String::as_str).collect());
        (body.unwrap_or_default(), query)
    }

    fn takes_body(&self) -> bool {
        self.described.get("requestBody").is_some()
    }
}

fn operations_for_clients() -> Vec<Operation> {
    let paths = openapi::document()["paths"].as_object().expect("paths");
    let mut operations = Vec::new();
    for (path, item) in paths {
        for (method, described) in item.as_object().expect("operations") {
            let ways = described["security"].as_array().expect("security");
            if ways.iter().any(|way| way.get("client").is_some()) {
                operations.push(Operation {
                    id: described["operationId"].as_str().expect("an id"),
                    method: method.to_uppercase().parse().expect("a method"),
                    path,
                    described,
                });
            }
        }
    }
    operations
}

/// A stage with something of everything that acme has.
struct Filled {
    stage: Stage,
    /// What stands for each variable of a path, by the path as far as it: things of acme's.
    things: BTreeMap<&'static str, String>,
    key: String,
}

impl Filled {
    async fn new(world: World) -> Self {
        let stage = Stage::set(world).await;
        let token = stage.token("acme").await;
        let key = stage.key(&stage.acme).await;
        let form = stage.draft(&stage.acme, stage.form()).await;
        let things = BTreeMap::from([
            // Not of acme alone, but closed to the other.
            ("/client/v1/apis/{uid}", stage.apis[1].clone()),
            ("/client/v1/applications/{id}", form),
            ("/client/v1/keys/{id}", key.clone()),
            ("/client/v1/tokens/{id}", id_of_token(&token)),
        ]);
        Self { stage, things, key }
    }

    /// The path with acme's thing in it, and with one that is nobody's.
    fn paths(&self, operation: &Operation) -> (String, String, String) {
        let end = operation.path.find('}').expect("a variable") + 1;
        let (place, rest) = operation.path.split_at(end);
        let thing = self.things.get(place).unwrap_or_else(|| {
            panic!("{}: say in Filled::new which thing of acme's {place} names", operation.id)
        });
        assert_eq!(operation.variables().len(), 1, "{}: say how its second variable is tried", operation.id);
        let base = &place[..place.rfind('/').expect("a slash") + 1];
        let nobody = format!("{}_nobody", thing.split('_').next().expect("a prefix"));
        (format!("{base}{thing}{rest}"), format!("{base}{nobody}{rest}"), thing.clone())
    }

    /// A body that is read to its end.
    fn body(&self, operation: &Operation) -> Option<Value> {
        operation.takes_body().then(|| match operation.id {
            "client_portal_save_application" => self.stage.form(),
            "client_portal_edit_application" => {
                let mut form = self.stage.form();
                form.as_object_mut().expect("a form").remove("type");
                form
            }
            "client_portal_withdraw_application" | "client_portal_stop_application" => {
                json!({ "comment": "x" })
            }
            unknown => panic!("{unknown}: say in Filled::body what it takes"),
        })
    }

    /// All that acme and the operators see of what is acme's.
    async fn of_acme(&self) -> Value {
        let mut seen = Vec::new();
        for path in [
            "/client/v1/profile".to_owned(),
            "/client/v1/keys".into(),
            "/client/v1/x-api-keys".into(),
            "/client/v1/tokens".into(),
            "/client/v1/meters".into(),
            "/client/v1/applications".into(),
            format!("/client/v1/keys/{}", self.key),
            format!("/client/v1/keys/{}/history", self.key),
            format!("/client/v1/applications/{}", self.things["/client/v1/applications/{id}"]),
        ] {
            seen.push(self.stage.acme.get(&path).await.expect(200));
        }
        seen.push(self.stage.admin.get("/api/v1/clients/acme").await.expect(200));
        seen.push(self.stage.admin.get("/api/v1/audit?subject=client:acme&limit=200").await.expect(200));
        Value::Array(seen)
    }
}

/// A refusal without the id of the call, and with one name for what was asked for.
fn read(answer: Answer, thing: &str) -> (u16, String) {
    let mut body = answer.body;
    if let Some(body) = body.as_object_mut() {
        body.remove("instance");
    }
    (answer.status, body.to_string().replace(thing, "…"))
}

#[tokio::test]
async fn what_is_another_clients_is_answered_as_what_nobody_has() {
    for world in World::both().await {
        let filled = Filled::new(world).await;
        let stage = &filled.stage;
        let before = filled.of_acme().await;
        let mut tried = 0;
        for operation in operations_for_clients() {
            if operation.variables().is_empty() {
                continue;
            }
            let (of_acme, of_nobody, thing) = filled.paths(&operation);
            let nobody = of_nobody.split('/').find(|part| part.ends_with("_nobody")).expect("an id");
            let call = async |client: &Caller, path: &str| {
                client.send(operation.method.clone(), path, &[], filled.body(&operation)).await
            };
            let refused = call(&stage.other, &of_acme).await;
            assert_eq!(refused.status, 404, "{}: {:#}", operation.id, refused.body);
            let unknown = call(&stage.other, &of_nobody).await;
            assert_eq!(read(refused, &thing), read(unknown, nobody), "{}", operation.id);
            // With a version that is right, too, and one that is wrong.
            for seen in ["\"1\"", "\"9\""] {
                let headers = [("if-match", seen)];
                let body = filled.body(&operation);
                let refused = stage.other.send(operation.method.clone(), &of_acme, &headers, body).await;
                assert_eq!(refused.status, 404, "{}: {:#}", operation.id, refused.body);
            }
            tried += 1;
        }
        assert!(tried >= 10, "{tried}");
        assert_eq!(filled.of_acme().await, before, "nothing was changed");
        // The same calls are acme's to make, or they would show nothing.
        for operation in operations_for_clients().iter().filter(|one| !one.variables().is_empty()) {
            if operation.method == Method::DELETE {
                continue;
            }
            let (path, _, _) = filled.paths(operation);
            let own = stage.acme.send(operation.method.clone(), &path, &[], filled.body(operation)).await;
            assert_ne!(own.status, 404, "{}: {:#}", operation.id, own.body);
        }
    }
}

#[tokio::test]
async fn what_a_body_names_of_another_client_is_refused_as_what_nobody_has() {
    for world in World::both().await {
        let filled = Filled::new(world).await;
        let stage = &filled.stage;
        let before = filled.of_acme().await;
        let mut tried = Vec::new();
        for operation in operations_for_clients() {
            let (body, query) = operation.inputs();
            for name in &query {
                assert!(NAMES_NOTHING.contains(name), "{}: say what {name} in its query names", operation.id);
            }
            let own = stage.draft(&stage.other, stage.form()).await;
            let path = operation.path.replace("{id}", &own);
            for field in body {
                let (of_acme, of_nobody) = match field {
                    NAMES_A_KEY => (json!(filled.key), json!("key_nobody")),
                    NAMES_A_CLIENT => (json!("acme"), json!("nobody")),
                    NAMES_AN_API => (json!([stage.apis[1]]), json!(["api_nobody"])),
                    harmless if NAMES_NOTHING.contains(&harmless) => continue,
                    unknown => panic!("{}: say what {unknown} in its body names", operation.id),
                };
                let call = async |value: &Value| {
                    let mut sent = with(filled.body(&operation).expect("a body"), field, value.clone());
                    if field == NAMES_A_KEY && sent.get("type").is_some() {
                        sent = json!({
                            "type": "KR", "key": value, "effective_date": "2026-01-15", "description": "x",
                        });
                    }
                    let answer = stage.other.send(operation.method.clone(), &path, &[], Some(sent)).await;
                    let named = value.as_str().or(value[0].as_str()).expect("a name").to_owned();
                    read(answer, &named)
                };
                let (refused, unknown) = (call(&of_acme).await, call(&of_nobody).await);
                assert_eq!(refused, unknown, "{} {field}", operation.id);
                // A draft for a key takes no key: there is nothing to be refused.
                if !(field == NAMES_A_KEY && operation.method == Method::PUT) {
                    assert_eq!(refused.0, 422, "{} {field}: {}", operation.id, refused.1);
                }
                tried.push(format!("{} {field}", operation.id));
            }
        }
        assert!(tried.len() >= 6, "{tried:?}");
        assert_eq!(filled.of_acme().await, before, "nothing was changed");
    }
}

#[tokio::test]
async fn lists_hold_nothing_of_another_client() {
    let filled = Filled::new(World::sqlite().await).await;
    let mut read = 0;
    for operation in operations_for_clients() {
        if operation.method != Method::GET || !operation.variables().is_empty() {
            continue;
        }
        let answer = filled.stage.other.get(operation.path).await.expect(200).to_string();
        for thing in filled.things.values().map(String::as_str).chain(["acme"]) {
            assert!(!answer.contains(thing), "{}: {answer}", operation.id);
        }
        read += 1;
    }
    assert!(read >= 8, "{read}");
}

#[tokio::test]
async fn a_session_of_a_client_opens_none_of_the_operators_operations() {
    let stage = Stage::set(World::sqlite().await).await;
    let mut tried = 0;
    for (path, item) in openapi::document()["paths"].as_object().expect("paths") {
        for (method, described) in item.as_object().expect("operations") {
            let ways = described["security"].as_array().expect("security");
            if !ways.iter().any(|way| way.get("bearer").is_some()) {
                continue;
            }
            let path: Vec<_> =
                path.split('/').map(|part| if part.starts_with('{') { "acme" } else { part }).collect();
            let method: Method = method.to_uppercase().parse().expect("a method");
            let answer = stage.acme.send(method, &path.join("/"), &[], Some(json!({}))).await;
            answer.problem(401, "unauthenticated");
            tried += 1;
        }
    }
    assert!(tried > 80, "{tried}");
}
