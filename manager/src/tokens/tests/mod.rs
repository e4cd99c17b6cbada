//! Tokens through the router, on both databases.

mod discovery;
mod endings;
mod forged;
mod issue;
mod kept;
mod owners;
mod proof;
mod public;
mod refresh;
mod refusals;
mod second_form;
mod sent;
mod together;

use axum::body::Body;
use axum::http::{Method, header};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::testing::{Answer, Caller, World};

/// The reference's own.
pub(super) const PASSWORD: &str = "tsp123abcd";
/// The same in Base64.
pub(super) const ENCODED: &str = "dHNwMTIzYWJjZA==";

/// Who calls: an administrator, and a client without a session.
pub(super) struct Shop {
    pub admin: Caller,
    pub anon: Caller,
    pub group: String,
}

/// A client `acme` with a group that holds an API.
pub(super) async fn shop(world: &World) -> Shop {
    let admin = world.operator("ann", &["admin"]).await;
    let api = json!({
        "module": "orders", "id": "list", "name": "Orders", "path": {"prefix": "/orders"},
        "accepts": ["bearer"],
    });
    let api = admin.post("/api/v1/apis", api).await.expect(201);
    let group = json!({ "name": "orders", "apis": [api["uid"]] });
    let group = admin.post("/api/v1/groups", group).await.expect(201);
    let group = group["id"].as_str().expect("an id").to_owned();
    let shop = Shop { admin, anon: world.anon(), group };
    shop.client("acme").await;
    shop
}

impl Shop {
    /// A client with the password [`PASSWORD`] and the group.
    pub async fn client(&self, id: &str) {
        let client = json!({
            "id": id, "name": id, "display_name": id, "note": "Ann", "groups": [self.group],
            "password": PASSWORD, "password_confirmation": PASSWORD,
        });
        self.admin.post("/api/v1/clients", client).await.expect(201);
    }

    /// Sets a client's token settings.
    pub async fn settings(&self, client: &str, grants: &[&str], access: Value, refresh: Value) {
        let settings = json!({
            "grant_types": grants, "access_token": access, "refresh_token": refresh, "redirect_urls": [],
        });
        self.admin.put(&format!("/api/v1/clients/{client}/token-settings"), settings).await.expect(200);
    }

    /// A token of `acme`.
    pub async fn token(&self) -> Value {
        self.ask("grant_type=client_credentials", Some(&format!("acme:{ENCODED}"))).await.expect(200)
    }

    /// Calls the token endpoint with a form, and `basic` in Base64.
    pub async fn ask(&self, form: &str, basic: Option<&str>) -> Answer {
        let basic = basic.map(|basic| format!("Basic {}", STANDARD.encode(basic)));
        self.call("/oauth/token", form, basic.as_deref()).await
    }

    pub async fn call(&self, path: &str, form: &str, authorization: Option<&str>) -> Answer {
        let mut headers = vec![("content-type", "application/x-www-form-urlencoded")];
        headers.extend(authorization.map(|value| (header::AUTHORIZATION.as_str(), value)));
        self.anon.raw(Method::POST, path, &headers, Body::from(form.to_owned())).await
    }
}

pub(super) fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

pub(super) fn text<'a>(answer: &'a Value, member: &str) -> &'a str {
    answer[member].as_str().expect("a text")
}

#[track_caller]
pub(super) fn refused(answer: Answer, status: u16, error: &str, description: &str) {
    let expected = json!({ "error": error, "error_description": description });
    assert_eq!((answer.status, answer.body), (status, expected));
}

/// What a token says, whoever signed it.
pub(super) fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("Base64")).expect("JSON")
}
