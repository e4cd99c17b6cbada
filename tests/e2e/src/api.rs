//! The management API as an operator uses it: JSON over HTTP with a token.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::client::{self, Answer, Call};

/// An operator who has signed in.
#[derive(Clone, Debug)]
pub struct Operator {
    /// Where the manager is.
    pub manager: SocketAddr,
    /// What the operator signs in with.
    pub name: String,
    token: String,
}

impl Operator {
    /// Signs in with a password.
    pub async fn sign_in(manager: SocketAddr, name: &str, password: &str) -> Result<Self> {
        let call =
            Call::post("/api/v1/session", json!({ "operator": name, "password": password }).to_string());
        let answer = client::http1(manager, &call).await?;
        let token = answer.json().get("token").and_then(Value::as_str).map(str::to_owned);
        let token =
            token.with_context(|| format!("sign in as {name}: {} {}", answer.status, answer.text()))?;
        Ok(Self { manager, name: name.to_owned(), token })
    }

    /// Signs in for the first time, with a password that somebody else has set, and sets `own`.
    pub async fn sign_in_first(manager: SocketAddr, name: &str, given: &str, own: &str) -> Result<Self> {
        let operator = Self::sign_in(manager, name, given).await?;
        let body = json!({ "old_password": given, "new_password": own, "new_password_confirmation": own })
            .to_string();
        let call = Call::new("PUT", "/api/v1/session/password").header("content-type", "application/json");
        operator.done(call.body(body)).await?;
        Ok(operator)
    }

    /// With an API token.
    pub fn with_token(manager: SocketAddr, name: &str, token: &str) -> Self {
        Self { manager, name: name.to_owned(), token: token.to_owned() }
    }

    /// For showing it in an installation that is thrown away.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Any call.
    pub async fn call(&self, call: Call) -> Result<Answer> {
        client::http1(self.manager, &self.signed_in(call)).await
    }

    /// The call with this operator's token.
    pub fn signed_in(&self, call: Call) -> Call {
        call.header("authorization", format!("Bearer {}", self.token))
    }

    /// `POST`, which must succeed; its JSON, or null.
    pub async fn post(&self, path: &str, body: Value) -> Result<Value> {
        self.done(Call::post(path, body.to_string())).await
    }

    /// `GET`, which must succeed; its JSON.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.done(Call::get(path)).await
    }

    /// Reads the resource's version, then sends `method` to it or to its `action` with that version
    /// in `If-Match`.
    pub async fn write(&self, method: &str, resource: &str, action: &str, body: Value) -> Result<Value> {
        let present = self.call(Call::get(resource)).await?;
        let version =
            present.header("etag").with_context(|| format!("{resource} has no ETag: {}", present.text()))?;
        let mut call = Call::new(method, &format!("{resource}{action}")).header("if-match", version);
        if !body.is_null() {
            call = call.header("content-type", "application/json").body(body.to_string());
        }
        self.done(call).await
    }

    /// `PATCH` of the present version, which must succeed.
    pub async fn patch(&self, path: &str, body: Value) -> Result<Value> {
        self.write("PATCH", path, "", body).await
    }

    /// `DELETE`, which must succeed.
    pub async fn delete(&self, path: &str) -> Result<Value> {
        self.done(Call::new("DELETE", path)).await
    }

    async fn done(&self, call: Call) -> Result<Value> {
        let (method, path) = (call.method.clone(), call.path.clone());
        let answer = self.call(call).await?;
        if !(200..300).contains(&answer.status) {
            bail!("{method} {path} as {}: {} {}", self.name, answer.status, answer.text());
        }
        Ok(answer.json())
    }
}

/// A text field of an answer.
pub fn text(value: &Value, field: &str) -> Result<String> {
    match value.get(field).and_then(Value::as_str) {
        Some(text) => Ok(text.to_owned()),
        None => bail!("no `{field}` in {value}"),
    }
}
