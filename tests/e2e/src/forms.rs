//! Forms as people fill them in, hand them in and sign them.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::api::{self, Operator};
use crate::client::{self, Answer, Call};
use crate::wait;
use crate::world::World;

/// Who takes part: an applicant, and one reviewer for each of two levels.
pub struct Team {
    /// `applicant`.
    pub ann: Operator,
    /// `reviewer_1`.
    pub bob: Operator,
    /// `reviewer_2`.
    pub eve: Operator,
}

impl World {
    /// Three operators, and flows of two levels for all form types.
    pub async fn team(&self) -> Result<Team> {
        let mut operators = Vec::new();
        for (name, role) in [("ann", "applicant"), ("bob", "reviewer_1"), ("eve", "reviewer_2")] {
            let body = json!({ "name": name, "email": format!("{name}@example.com"), "roles": [role] });
            let id = api::text(&self.admin.post("/api/v1/operators", body).await?, "id")?;
            let token = json!({ "name": "story" });
            let issued = self.admin.post(&format!("/api/v1/operators/{id}/tokens"), token).await?;
            operators.push(Operator::with_token(self.manager.address, name, &api::text(&issued, "token")?));
        }
        for form in ["KA", "KU", "KR", "CR"] {
            let levels = json!({ "levels": [["reviewer_1"], ["reviewer_2"]] });
            self.admin.write("PUT", &format!("/api/v1/approval-flows/{form}"), "", levels).await?;
        }
        let [ann, bob, eve] =
            <[Operator; 3]>::try_from(operators).map_err(|_| anyhow::anyhow!("three were created"))?;
        Ok(Team { ann, bob, eve })
    }

    /// Signs in as a client, below `/client/v1`.
    pub async fn client_signs_in(&self, id: &str, password: &str) -> Result<Operator> {
        let body = json!({ "client": id, "password": password }).to_string();
        let answer = client::http1(self.manager.address, &Call::post("/client/v1/session", body)).await?;
        ensure!(answer.status == 201, "sign in as client {id}: {} {}", answer.status, answer.text());
        Ok(Operator::with_token(self.manager.address, id, &api::text(&answer.json(), "token")?))
    }
}

/// An application for a key from today for a year.
pub fn apply(client: &str, quota: i64, apis: &[&str]) -> Value {
    json!({
        "type": "KA",
        "client": client,
        "name": "orders key",
        "effective_date": wait::day(0),
        "expiry_date": wait::day(365),
        "quota": quota,
        "description": "Orders from the Acme shop",
        "apis": apis,
    })
}

/// A form on its way.
pub struct Form {
    /// `/api/v1/applications/<id>`, or the same below `/client/v1`.
    pub path: String,
    /// Its id.
    pub id: String,
}

impl Form {
    /// Saves a draft below `/api/v1` or `/client/v1`.
    pub async fn save(door: &str, applicant: &Operator, form: Value) -> Result<Self> {
        let saved = applicant.post(&format!("{door}/applications"), form).await?;
        let id = api::text(&saved, "id")?;
        Ok(Self { path: format!("{door}/applications/{id}"), id })
    }

    /// The same form as operators find it.
    pub fn for_operators(&self) -> Self {
        Self { path: format!("/api/v1/applications/{}", self.id), id: self.id.clone() }
    }

    /// `submit`, `resubmit`: without a body.
    pub async fn hand_in(&self, applicant: &Operator, action: &str) -> Result<Value> {
        applicant.write("POST", &self.path, &format!("/{action}"), Value::Null).await
    }

    /// `approve`, `return`, `reject` of the present version, which must succeed.
    pub async fn sign(&self, reviewer: &Operator, action: &str, comment: &str) -> Result<Value> {
        reviewer.write("POST", &self.path, &format!("/{action}"), json!({ "comment": comment })).await
    }

    /// Both levels approve.
    pub async fn approve(&self, team: &Team) -> Result<Value> {
        self.sign(&team.bob, "approve", "level 1").await?;
        let form = self.sign(&team.eve, "approve", "level 2").await?;
        ensure!(form["state"] == "approved", "after the second signature: {form}");
        Ok(form)
    }

    /// The approval of the present version as a call, to be sent as often as one likes.
    pub async fn approval(&self, reviewer: &Operator, idempotency_key: &str) -> Result<Call> {
        let present = reviewer.call(Call::get(&self.path)).await?;
        let version = present.header("etag").context("a form has a version")?;
        let call = Call::post(&format!("{}/approve", self.path), json!({}).to_string());
        Ok(reviewer.signed_in(call.header("if-match", version).header("idempotency-key", idempotency_key)))
    }

    /// The form as it is.
    pub async fn show(&self, reader: &Operator) -> Result<Value> {
        reader.get(&self.path).await
    }
}

/// A call of the management API that is repeated, as it is, until it is no longer being carried out.
pub async fn settled(world: &World, call: &Call) -> Result<Answer> {
    let limit = std::time::Duration::from_secs(30);
    wait::until("the end of a call that is repeated", limit, || async {
        let answer = client::http1(world.manager.address, call).await.ok()?;
        (answer.code() != "request_in_progress").then_some(answer)
    })
    .await
}
