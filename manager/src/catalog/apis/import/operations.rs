//! The operations of a document as planned APIs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::access::access;
use super::document::Document;
use super::model::{MAX_OPERATIONS, Options, Planned, Reading, Refused, Unsupported};
use super::paths::path_rule;
use super::servers::{self, Chosen};
use super::texts::{folded, lines, one_line, shortened};
use crate::catalog::apis::model::{ApiName, MAX_API_NAME, parse_methods};
use crate::catalog::model::MAX_DESCRIPTION;

/// Fields of a path item that are operations, in the order in which they are listed.
const METHODS: [&str; 9] = ["get", "put", "post", "delete", "options", "head", "patch", "trace", "query"];

/// Reads all operations of a document.
pub(super) fn read(document: &Document, options: &Options) -> Result<Reading, Refused> {
    let root = document.root();
    check_version(root)?;
    let info = root.get("info").unwrap_or(&Value::Null);
    let title = info["title"].as_str().unwrap_or_default();
    let mut reading = Reading {
        module: module(options.module.as_deref(), title)?,
        title: title.to_string(),
        version: info["version"].as_str().unwrap_or_default().to_string(),
        apis: Vec::new(),
        unsupported: Vec::new(),
        warnings: BTreeSet::new(),
    };
    let chosen = Chosen::parse(options)?;
    let paths = match root.get("paths") {
        Some(Value::Object(paths)) => paths,
        None => return Err(Refused::NoOperations),
        Some(_) => return Err(Refused::Structure { at: "#/paths", reason: "is no object".into() }),
    };
    let items = || paths.iter().filter(|(path, _)| !path.starts_with("x-"));
    if items().count() > MAX_OPERATIONS {
        return Err(Refused::TooManyOperations);
    }
    for (path, item) in items() {
        let item = match PathItem::parse(document, item) {
            Ok(item) => item,
            Err(reason) => {
                require_room(&reading)?;
                let operation = path.clone();
                reading.unsupported.push(Unsupported { operation, id: None, reason });
                continue;
            }
        };
        for (method, operation) in item.operations() {
            require_room(&reading)?;
            let source = Source { document, options, chosen: &chosen, path, item: &item, method, operation };
            match source.planned(&mut reading.warnings) {
                Ok(planned) => reading.apis.push(planned),
                Err(unsupported) => reading.unsupported.push(unsupported),
            }
        }
    }
    if reading.apis.is_empty() && reading.unsupported.is_empty() {
        return Err(Refused::NoOperations);
    }
    set_apart_shared_ids(&mut reading);
    tell_who_answers_instead(&mut reading);
    Ok(reading)
}

fn check_version(root: &Value) -> Result<(), Refused> {
    if root.get("swagger").is_some() {
        return Err(Refused::Swagger2);
    }
    let found = root.get("openapi");
    let known = |version: &str| {
        ["3.0", "3.1", "3.2"].iter().any(|known| {
            version.strip_prefix(known).is_some_and(|patch| patch.is_empty() || patch.starts_with('.'))
        })
    };
    match found.and_then(Value::as_str) {
        Some(version) if known(version) => Ok(()),
        Some(_) | None => Err(Refused::Version { found: found.map(ToString::to_string) }),
    }
}

fn module(named: Option<&str>, title: &str) -> Result<ApiName, Refused> {
    let refused = |reason| Refused::Option { option: "module", reason };
    match named {
        Some(name) => ApiName::module(name).map_err(refused),
        None => ApiName::module(&folded(title)).map_err(|_| {
            refused(format!(
                "must be named: the document's title {:?} makes no module's name (1 to 150 letters, digits, \
                 `_`, `-` and `.`)",
                shortened(title, 150)
            ))
        }),
    }
}

/// For one operation more.
fn require_room(reading: &Reading) -> Result<(), Refused> {
    if reading.apis.len() + reading.unsupported.len() >= MAX_OPERATIONS {
        return Err(Refused::TooManyOperations);
    }
    Ok(())
}

/// A path item, with what its `$ref` names beside its own fields. Many may name the same large one:
/// nothing is copied.
struct PathItem<'d> {
    own: &'d Map<String, Value>,
    named: Option<&'d Map<String, Value>>,
}

impl<'d> PathItem<'d> {
    fn parse(document: &'d Document, item: &'d Value) -> Result<Self, String> {
        let own = item.as_object().ok_or("is no object")?;
        if !own.contains_key("$ref") {
            return Ok(Self { own, named: None });
        }
        let named = document.resolve(item)?.as_object().ok_or("its $ref names no object")?;
        let twice = own.iter().find(|(field, value)| named.get(*field).is_some_and(|named| named != *value));
        match twice {
            Some((field, _)) => {
                Err(format!("has `{field}` both beside its $ref and in what that names: keep one of them"))
            }
            None => Ok(Self { own, named: Some(named) }),
        }
    }

    fn get(&self, field: &str) -> Option<&'d Value> {
        self.own.get(field).or_else(|| self.named?.get(field))
    }

    /// By their methods.
    fn operations(&self) -> Vec<(&'d str, &'d Value)> {
        let fixed = METHODS.iter().filter_map(|method| Some((*method, self.get(method)?)));
        // OpenAPI 3.2.
        let more = self.get("additionalOperations").and_then(Value::as_object);
        fixed
            .chain(more.into_iter().flatten().map(|(method, operation)| (method.as_str(), operation)))
            .collect()
    }
}

/// An operation where it stands.
struct Source<'d> {
    document: &'d Document,
    options: &'d Options,
    chosen: &'d Chosen,
    path: &'d str,
    item: &'d PathItem<'d>,
    method: &'d str,
    operation: &'d Value,
}

impl Source<'_> {
    fn planned(&self, warnings: &mut BTreeSet<String>) -> Result<Planned, Unsupported> {
        let title = self.title();
        let id = self.id();
        let reason = match &id {
            Ok(id) => match self.planned_as(id.clone(), &title, warnings) {
                Ok(planned) => return Ok(planned),
                Err(reason) => reason,
            },
            Err(reason) => reason.clone(),
        };
        Err(Unsupported { operation: title, id: id.ok(), reason })
    }

    fn planned_as(
        &self,
        id: ApiName,
        title: &str,
        warnings: &mut BTreeSet<String>,
    ) -> Result<Planned, String> {
        if !self.operation.is_object() {
            return Err("is no object".into());
        }
        let methods = parse_methods(&[self.method.to_string()])?;
        let servers =
            [self.operation.get("servers"), self.item.get("servers"), self.document.root().get("servers")];
        let place = servers::place(servers.into_iter().flatten().next(), self.chosen, warnings)?;
        let path = path_rule(&place.base_path, self.path)?;
        self.check_parameters()?;
        let text = |field: &str| self.operation.get(field).and_then(Value::as_str).unwrap_or_default();
        let names = [text("summary"), text("operationId"), title].map(one_line);
        let name = names.iter().find(|name| !name.is_empty()).map_or("", String::as_str);
        Ok(Planned {
            operation: title.to_string(),
            id,
            name: shortened(name, MAX_API_NAME),
            description: shortened(&lines(text("description")), MAX_DESCRIPTION),
            hosts: place.hosts,
            methods,
            path,
            tags: self.tags(),
            access: access(self.document, self.operation, self.options)?,
            takes_forms: self.takes_forms()?,
        })
    }

    /// `GET /orders/{id}`
    fn title(&self) -> String {
        format!("{} {}", self.method.to_ascii_uppercase(), self.path)
    }

    /// From `operationId`; without one `get.orders._id_`.
    fn id(&self) -> Result<ApiName, String> {
        let named = match self.operation.get("operationId") {
            None => None,
            Some(Value::String(id)) => Some(folded(id)).filter(|id| !id.is_empty()),
            Some(other) => return Err(format!("has the operationId {other}, which is no text")),
        };
        let id = named.unwrap_or_else(|| {
            let segments = self
                .path
                .trim_start_matches('/')
                .split('/')
                .map(|segment| folded(&segment.replace(['{', '}'], "_")));
            let parts: Vec<_> =
                std::iter::once(folded(&self.method.to_ascii_lowercase())).chain(segments).collect();
            parts.join(".")
        });
        ApiName::api_id(&id)
            .map_err(|reason| format!("makes the id {:?}, which {reason}", shortened(&id, 64)))
    }

    fn tags(&self) -> Vec<String> {
        let tags = self.operation.get("tags").and_then(Value::as_array);
        tags.into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(one_line)
            .filter(|tag| !tag.is_empty())
            .collect()
    }

    /// Whether a gate could take what its parameters make of the path.
    fn check_parameters(&self) -> Result<(), String> {
        // Those of the operation stand in place of those of its path.
        let mut styles = BTreeMap::new();
        for list in [self.item.get("parameters"), self.operation.get("parameters")].into_iter().flatten() {
            for parameter in list.as_array().ok_or("`parameters` is no list")? {
                let parameter = self.document.resolve(parameter)?;
                if parameter["in"] == "path" {
                    styles.insert(parameter["name"].as_str(), parameter["style"] == "matrix");
                }
            }
        }
        match styles.into_iter().find(|(_, matrix)| *matrix) {
            Some((name, _)) => Err(format!(
                "parameter {:?} has style matrix (`/;name=value`), and gates refuse `;` in paths",
                name.unwrap_or_default()
            )),
            None => Ok(()),
        }
    }

    fn takes_forms(&self) -> Result<bool, String> {
        let Some(body) = self.operation.get("requestBody") else { return Ok(false) };
        let content = self.document.resolve(body)?.get("content").and_then(Value::as_object);
        Ok(content.into_iter().flat_map(Map::keys).any(|kind| {
            let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            matches!(kind.as_str(), "application/x-www-form-urlencoded" | "multipart/form-data")
        }))
    }
}

/// Operations that make the same id are all set apart: which of them meant the API that is there
/// could not be told.
fn set_apart_shared_ids(reading: &mut Reading) {
    let mut users: BTreeMap<ApiName, Vec<String>> = BTreeMap::new();
    for planned in &reading.apis {
        users.entry(planned.id.clone()).or_default().push(planned.operation.clone());
    }
    users.retain(|_, operations| operations.len() > 1);
    let (shared, apart) =
        std::mem::take(&mut reading.apis).into_iter().partition(|planned| users.contains_key(&planned.id));
    reading.apis = apart;
    for planned in shared as Vec<Planned> {
        let others = users[&planned.id].iter().filter(|other| **other != planned.operation);
        let others: Vec<_> = others.map(String::as_str).take(3).collect();
        reading.unsupported.push(Unsupported {
            reason: format!(
                "makes the id {}, and so does {}: give each an operationId of its own",
                planned.id,
                others.join(", ")
            ),
            operation: planned.operation,
            id: Some(planned.id),
        });
    }
}

/// An operation such as `/files/{name}.json` is set apart, but its requests may mean another
/// API whose last segment is any text: whoever imports must know.
fn tell_who_answers_instead(reading: &mut Reading) {
    let shape = |operation: &str| -> Option<(String, Vec<Option<String>>)> {
        let (method, path) = operation.split_once(' ')?;
        let segment = |segment: &str| (!segment.contains('{')).then(|| segment.to_string());
        Some((method.to_string(), path.split('/').map(segment).collect()))
    };
    let whole: BTreeMap<_, _> =
        reading.apis.iter().filter_map(|planned| Some((shape(&planned.operation)?, planned))).collect();
    let mixed = |operation: &str| {
        let whole = |segment: &str| segment.starts_with('{') && segment.ends_with('}');
        operation.split('/').any(|segment| segment.contains('{') && !whole(segment))
    };
    for unsupported in reading.unsupported.iter_mut().filter(|one| mixed(&one.operation)) {
        if let Some(planned) = shape(&unsupported.operation).and_then(|shape| whole.get(&shape)) {
            let need = if planned.access.accepts.is_empty() {
                "anybody may call it"
            } else {
                "they need what that API needs"
            };
            unsupported.reason.push_str(&format!(
                ". Requests for it are taken for {}, whose parameter is any text: {need}",
                planned.id
            ));
        }
    }
}

#[cfg(test)]
mod unit {
    use super::super::document::Format;
    use super::super::model::{Accepts, DEFAULT_ACCEPTS};
    use super::*;
    use gate::request::CredentialKind;
    use gate::wire::directory::PathRule;
    use serde_json::json;

    const PETSTORE: &str = include_str!("samples/petstore.yaml");
    const ORDERS: &str = include_str!("samples/orders.yaml");
    const LEDGER: &str = include_str!("samples/ledger.json");

    fn read_text(text: &str, options: &Options) -> Result<Reading, Refused> {
        read(&Document::read(text.as_bytes(), Format::guess(text.as_bytes()))?, options)
    }

    fn reading(text: &str) -> Reading {
        read_text(text, &Options::default()).expect("an OpenAPI document")
    }

    /// A document of one operation, `GET path`.
    fn one(path: &str, operation: Value) -> Result<Planned, String> {
        let text =
            json!({ "openapi": "3.0.3", "info": { "title": "T" }, "paths": { path: { "get": operation } } });
        let mut reading = read_text(&text.to_string(), &Options::default()).expect("an OpenAPI document");
        match (reading.apis.pop(), reading.unsupported.pop()) {
            (Some(planned), None) => Ok(planned),
            (None, Some(unsupported)) => Err(unsupported.reason),
            other => panic!("{other:?}"),
        }
    }

    fn places(reading: &Reading) -> Vec<(&str, &str, String)> {
        let place = |planned: &Planned| match &planned.path {
            PathRule::Exact(path) => format!("= {path}"),
            PathRule::Prefix(path) => format!("^ {path}"),
            PathRule::Template(path) => format!("~ {path}"),
        };
        reading.apis.iter().map(|api| (api.id.as_str(), api.methods[0].as_str(), place(api))).collect()
    }

    fn unsupported(reading: &Reading) -> Vec<(&str, &str)> {
        reading.unsupported.iter().map(|one| (one.operation.as_str(), one.reason.as_str())).collect()
    }

    #[test]
    fn the_pet_store_becomes_apis() {
        let reading = reading(PETSTORE);
        assert_eq!((reading.module.as_str(), reading.version.as_str()), ("Pet-Store-Public-API", "1.4.0"));
        let template = |path: &str| format!("~ /v1{path}");
        assert_eq!(
            places(&reading),
            [
                ("get.health", "GET", "= /v1/health".into()),
                ("listPets", "GET", "= /v1/pets".into()),
                ("createPet", "POST", "= /v1/pets".into()),
                ("showPet", "GET", template("/pets/{petId}")),
                ("removePet", "DELETE", template("/pets/{petId}")),
                ("uploadPhoto", "POST", template("/pets/{petId}/photo")),
            ]
        );
        assert!(reading.apis.iter().all(|api| api.hosts == ["api.petstore.example"]));
        let show = &reading.apis[3];
        assert_eq!(
            (show.operation.as_str(), show.name.as_str(), show.description.as_str(), show.tags.as_slice()),
            (
                "GET /pets/{petId}",
                "One pet",
                "Shows one pet.\n\nPets that are sold are shown, too.",
                &["pets".to_string()][..]
            )
        );
        assert_eq!(reading.apis[4].name, "removePet", "without a summary its id names it");
        assert_eq!(reading.apis[0].name, "Is it up?");
        let forms: Vec<_> =
            reading.apis.iter().filter(|api| api.takes_forms).map(|api| api.id.as_str()).collect();
        assert_eq!(forms, ["uploadPhoto"]);
        let [(operation, reason)] = unsupported(&reading)[..] else { panic!("{:?}", reading.unsupported) };
        assert_eq!(operation, "GET /pets/{petId}.json");
        assert!(reason.contains("`{petId}.json` is a parameter and more"), "{reason}");
        assert!(reason.contains("taken for showPet"), "{reason}");
        assert!(reading.warnings.is_empty());
    }

    #[test]
    fn the_order_service_becomes_apis() {
        let reading = read_text(ORDERS, &Options { accepts: Some(Accepts::Document), ..Options::default() });
        let reading = reading.expect("an OpenAPI document");
        assert_eq!(reading.module.as_str(), "Orders");
        assert_eq!(
            places(&reading),
            [
                ("sizes", "GET", "= /v2/Gr%C3%B6%C3%9Fe%20tabelle".into()),
                ("orders-list", "GET", "= /v2/orders".into()),
                ("orders-create", "POST", "= /v2/orders".into()),
                ("orders-change", "POST", "~ /v2/orders/{order-id}".into()),
                ("orders-line", "GET", "~ /v2/orders/{order-id}/lines/{line_no}".into()),
                ("upload", "PUT", "= /uploads".into()),
            ]
        );
        let by_id = |id: &str| reading.apis.iter().find(|api| api.id.as_str() == id).expect("planned");
        assert_eq!(
            by_id("orders-list").hosts,
            ["eu.orders.example", "no.orders.example", "us.orders.example"]
        );
        assert_eq!(by_id("upload").hosts, ["uploads.orders.example"]);
        assert_eq!(by_id("orders-line").name, "Orders of a customer", "merged in, on one line");
        assert_eq!(by_id("orders-list").access.accepts, [CredentialKind::Bearer]);
        assert_eq!(by_id("orders-create").access.accepts, [CredentialKind::Bearer, CredentialKind::Basic]);
        assert!(by_id("orders-create").takes_forms && by_id("upload").takes_forms);
        let reasons: BTreeMap<_, _> = unsupported(&reading).into_iter().collect();
        assert_eq!(reasons.len(), 2, "{reasons:?}");
        assert!(reasons["GET /exports"].contains("cookie \"session\""), "{reasons:?}");
        assert!(reasons["POST /orders/{order-id}:cancel"].contains("taken for orders-change"), "{reasons:?}");
        assert_eq!(reading.warnings.len(), 1, "{:?}", reading.warnings);
        assert!(reading.warnings.first().is_some_and(|told| told.contains("{version}")));
    }

    #[test]
    fn the_ledger_of_openapi_3_1_becomes_apis() {
        let reading = reading(LEDGER);
        assert_eq!(
            places(&reading),
            [
                ("account", "GET", "~ /ledger/accounts/{id}".into()),
                ("accountExists", "HEAD", "~ /ledger/accounts/{id}".into()),
                ("accountFolder", "GET", "~ /ledger/accounts/{id}/".into()),
                ("twice", "GET", "~ /ledger/entries/{a}/{a_}".into()),
            ]
        );
        assert!(reading.apis.iter().all(|api| api.hosts.is_empty()), "a relative server is every host");
        let reasons: BTreeMap<_, _> = unsupported(&reading).into_iter().collect();
        assert_eq!(reasons.len(), 3, "{reasons:?}");
        assert!(reasons["GET /points/{point}"].contains("style matrix"), "{reasons:?}");
        for (operation, other) in [("GET /accounts", "PATCH /accounts"), ("PATCH /accounts", "GET /accounts")]
        {
            let reason = reasons[operation];
            assert!(
                reason.contains("makes the id accounts, and so does ") && reason.contains(other),
                "{reason}"
            );
        }
    }

    #[test]
    fn documents_that_are_no_openapi_3_are_refused() {
        let of =
            |text: Value| read_text(&text.to_string(), &Options::default()).expect_err("refused").to_string();
        for (document, told) in [
            (json!({ "swagger": "2.0", "paths": {} }), "convert it to OpenAPI 3"),
            (json!({ "openapi": "4.0.0" }), "it has \"4.0.0\""),
            (json!({ "openapi": "3.10.0" }), "it has \"3.10.0\""),
            (json!({ "openapi": 3.1 }), "it has 3.1"),
            (json!({}), "3.0, 3.1 or 3.2"),
            (json!([]), "3.0, 3.1 or 3.2"),
            (json!("openapi"), "3.0, 3.1 or 3.2"),
            (json!({ "openapi": "3.0.3", "info": { "title": "T" } }), "no operation"),
            (json!({ "openapi": "3.0.3", "info": { "title": "T" }, "paths": { "/a": {} } }), "no operation"),
            (json!({ "openapi": "3.0.3", "info": { "title": "T" }, "paths": [] }), "#/paths is no object"),
            (json!({ "openapi": "3.0.3", "paths": {} }), "module must be named"),
            (json!({ "openapi": "3.0.3", "info": { "title": "訂單" }, "paths": {} }), "module must be named"),
        ] {
            let error = of(document.clone());
            assert!(error.contains(told), "{document}: {error}");
        }
        let unfit = Options { module: Some("a b".into()), ..Options::default() };
        assert!(matches!(read_text(PETSTORE, &unfit), Err(Refused::Option { option: "module", .. })));
        let named = Options { module: Some("pets".into()), ..Options::default() };
        assert_eq!(read_text(PETSTORE, &named).map(|reading| reading.module.to_string()), Ok("pets".into()));
    }

    #[test]
    fn what_is_wrong_with_one_operation_is_told_of_it() {
        for (operation, told) in [
            (json!(7), "is no object"),
            (json!({ "operationId": 7 }), "no text"),
            (json!({ "operationId": "a".repeat(256) }), "1 to 255"),
            (json!({ "parameters": {} }), "no list"),
            (json!({ "parameters": [{ "$ref": "#/nowhere" }] }), "#/nowhere"),
            (json!({ "requestBody": { "$ref": "#/nowhere" } }), "#/nowhere"),
            (json!({ "servers": {} }), "no list"),
            (json!({ "security": {} }), "no list"),
        ] {
            let reason = one("/a", operation.clone()).expect_err("unsupported");
            assert!(reason.contains(told), "{operation}: {reason}");
        }
        assert_eq!(
            one("/a", json!({ "operationId": "a".repeat(255) })).map(|api| api.id.as_str().len()),
            Ok(255)
        );
    }

    #[test]
    fn path_items_follow_their_references() {
        let text = json!({
            "openapi": "3.1.0", "info": { "title": "T" },
            "paths": {
                "/a": { "$ref": "#/components/pathItems/A", "post": {} },
                "/b": { "$ref": "#/components/pathItems/A", "get": { "operationId": "other" } },
                "/c": { "$ref": "#/paths/~1d" }, "/d": { "$ref": "#/paths/~1c" },
                "/e": { "$ref": "#/info/title" }, "/f": 7, "x-g": { "get": {} },
            },
            "components": { "pathItems": { "A": { "get": {} } } },
        });
        let reading = reading(&text.to_string());
        assert_eq!(places(&reading), [("get.a", "GET", "= /a".into()), ("post.a", "POST", "= /a".into())]);
        let told = unsupported(&reading);
        for (at, (path, reason)) in [
            ("/b", "both beside its $ref"),
            ("/c", "circle"),
            ("/d", "circle"),
            ("/e", "no object"),
            ("/f", "no object"),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(told[at].0, path);
            assert!(told[at].1.contains(reason), "{told:?}");
        }
    }

    #[test]
    fn who_answers_in_place_of_an_operation_is_told() {
        let text = json!({ "openapi": "3.0.3", "info": { "title": "T" }, "paths": {
            "/f/{name}": { "get": { "operationId": "open", "security": [] }, "put": { "operationId": "closed" } },
            "/f/{name}.json": { "get": {}, "put": {}, "post": {} },
        } });
        let options = Options { allow_no_auth: true, ..Options::default() };
        let reading = read_text(&text.to_string(), &options).expect("an OpenAPI document");
        let told: BTreeMap<_, _> = unsupported(&reading).into_iter().collect();
        for (operation, end) in [
            ("GET /f/{name}.json", "taken for open, whose parameter is any text: anybody may call it"),
            (
                "PUT /f/{name}.json",
                "taken for closed, whose parameter is any text: they need what that API needs",
            ),
            ("POST /f/{name}.json", "change the document"),
        ] {
            assert!(told[operation].ends_with(end), "{}", told[operation]);
        }
    }

    #[test]
    fn methods_of_openapi_3_2_are_known() {
        let text = json!({ "openapi": "3.2.0", "info": { "title": "T" }, "paths": { "/a": {
            "query": {}, "additionalOperations": { "COPY": {}, "BAD METHOD": {} }, "summary": "s"
        } } });
        let reading = reading(&text.to_string());
        assert_eq!(
            places(&reading),
            [("query.a", "QUERY", "= /a".into()), ("copy.a", "COPY", "= /a".into())]
        );
        assert!(unsupported(&reading)[0].1.contains("no HTTP method"));
    }

    #[test]
    fn texts_are_brought_within_bounds() {
        let api = one(
            "/a",
            json!({ "summary": "a\u{0}b\r\nc", "description": "d\u{7}".repeat(600), "tags": ["x", 7, " "] }),
        );
        let api = api.expect("held");
        assert_eq!((api.name.as_str(), api.tags.as_slice()), ("a b c", &["x".to_string()][..]));
        assert_eq!(api.description.chars().count(), MAX_DESCRIPTION);
        assert!(api.description.ends_with("d…"));
        let name = |chars: usize| one("/a", json!({ "summary": "ä".repeat(chars) })).expect("held").name;
        assert_eq!(name(MAX_API_NAME), "ä".repeat(MAX_API_NAME));
        assert_eq!(name(MAX_API_NAME + 1), format!("{}…", "ä".repeat(MAX_API_NAME - 1)));
        assert_eq!(api.access.accepts, DEFAULT_ACCEPTS);
        // Without a summary, the path: whatever stands in it.
        for (path, name) in [("/a\nb", "GET /a b"), ("/a\u{1}", "GET /a"), ("/a \t b", "GET /a b")] {
            assert_eq!(one(path, json!({})).map(|api| api.name), Ok(name.into()), "{path:?}");
        }
    }

    #[test]
    fn operations_and_paths_are_bounded() {
        let paths = |items: &[(&str, usize, Value)]| {
            let each = |(name, count, item): &(&str, usize, Value)| {
                (0..*count).map(|n| (format!("/{name}{n:04}"), item.clone())).collect::<Vec<_>>()
            };
            let paths: Map<String, Value> = items.iter().flat_map(each).collect();
            json!({ "openapi": "3.0.3", "info": { "title": "T" }, "paths": paths }).to_string()
        };
        let (one, two) = (json!({ "get": {} }), json!({ "get": {}, "put": {} }));
        let (bad, empty) = (json!(7), json!({ "summary": "" }));
        let half = MAX_OPERATIONS / 2;
        for (what, items, taken) in [
            ("one each", vec![("p", MAX_OPERATIONS, one.clone())], true),
            ("one more", vec![("p", MAX_OPERATIONS + 1, one.clone())], false),
            ("two each", vec![("p", half, two.clone())], true),
            ("and one", vec![("p", half, two.clone()), ("q", 1, one.clone())], false),
            ("and a bad one", vec![("p", half, two.clone()), ("q", 1, bad.clone())], false),
            (
                "a bad one between",
                vec![("p", half, two.clone()), ("q", 1, bad.clone()), ("r", 1, two)],
                false,
            ),
            ("bad alone", vec![("p", MAX_OPERATIONS, bad.clone())], true),
            ("one bad more", vec![("p", MAX_OPERATIONS + 1, bad)], false),
            ("paths of none", vec![("p", MAX_OPERATIONS - 1, empty.clone()), ("q", 1, one.clone())], true),
            ("too many of none", vec![("p", MAX_OPERATIONS, empty), ("q", 1, one)], false),
        ] {
            match read_text(&paths(&items), &Options::default()) {
                Ok(reading) => {
                    assert!(taken, "{what}");
                    let read = reading.apis.len() + reading.unsupported.len();
                    assert!(read == MAX_OPERATIONS || what == "paths of none", "{what}: {read}");
                }
                Err(refused) => assert_eq!((refused, taken), (Refused::TooManyOperations, false), "{what}"),
            }
        }
    }
}
