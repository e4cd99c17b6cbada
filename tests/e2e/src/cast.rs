//! Who and what a test needs on record: clients, APIs, groups, keys; made through the management
//! API and the command line, never through the database.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::api::{self, Operator};
use crate::client::Call;
use crate::smtp::Mail;
use crate::wait;
use crate::world::World;

/// Of every client, unless a test says otherwise.
pub const CLIENT_PASSWORD: &str = "a-password-2026";

/// A DGRK pair, brought in or mailed.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The manager's id of the key; empty for one that was read in a mail.
    pub id: String,
    /// 56 characters.
    pub api_key: String,
    /// 88 characters.
    pub secret_key: String,
}

impl Pair {
    /// A pair in the documented format; the same for the same name.
    pub fn named(name: &str) -> Self {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let digest = hex(&Sha256::digest(name));
        let api_key = STANDARD.encode(digest.get(..40).unwrap_or_default());
        let secret_key = STANDARD.encode(hex(&Sha256::digest(&digest)));
        Self { id: String::new(), api_key, secret_key }
    }

    /// The pair of a mail with credentials. Such a mail does not name the key's id.
    pub fn in_mail(mail: &Mail) -> Result<Self> {
        let (api_key, secret_key) = (mail.value_of("API Key: ")?, mail.value_of("Secret Key: ")?);
        ensure!(api_key.len() == 56 && secret_key.len() == 88, "the documented lengths: {}", mail.text);
        Ok(Self { id: String::new(), api_key, secret_key })
    }

    /// The call, signed over its present body.
    pub fn sign(&self, call: Call) -> Call {
        call.signed(&self.api_key, &self.secret_key)
    }
}

/// An X-Api-Key.
#[derive(Clone, Debug)]
pub struct XApiKey {
    /// The manager's id of it.
    pub id: String,
    /// What a request presents.
    pub text: String,
}

/// What a DGRK key may do.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Whose.
    pub client: String,
    /// Uids.
    pub apis: Vec<String>,
    /// First day.
    pub effective: String,
    /// Last day.
    pub expiry: String,
    /// Uses; -1 = unlimited.
    pub quota: i64,
}

impl Terms {
    /// From today for a month, without limit.
    pub fn new(client: &str, apis: &[&str]) -> Self {
        Self {
            client: client.to_owned(),
            apis: apis.iter().map(|uid| (*uid).to_owned()).collect(),
            effective: wait::day(0),
            expiry: wait::day(30),
            quota: -1,
        }
    }

    /// With a use quota.
    pub fn quota(self, quota: i64) -> Self {
        Self { quota, ..self }
    }

    /// With other days, relative to today.
    pub fn days(self, effective: i64, expiry: i64) -> Self {
        Self { effective: wait::day(effective), expiry: wait::day(expiry), ..self }
    }
}

impl World {
    /// An API below `path`, for any method, DGRK and X-Api-Key; `more` replaces or adds fields.
    pub async fn api(&self, id: &str, path: &str, more: Value) -> Result<String> {
        let api = merged(
            json!({
                "module": "e2e",
                "id": id,
                "path": { "prefix": path },
                "accepts": ["dgrk", "x_api_key"],
            }),
            more,
        );
        api::text(&self.admin.post("/api/v1/apis", api).await?, "uid")
    }

    /// A group of APIs.
    pub async fn group(&self, name: &str, apis: &[&str]) -> Result<String> {
        let group = json!({ "name": name, "apis": apis });
        api::text(&self.admin.post("/api/v1/groups", group).await?, "id")
    }

    /// A client without limits; `more` replaces or adds fields.
    pub async fn client(&self, name: &str, more: Value) -> Result<String> {
        let client = merged(
            json!({
                "name": name,
                "display_name": name,
                "password": CLIENT_PASSWORD,
                "password_confirmation": CLIENT_PASSWORD,
                "note": "end-to-end tests",
                "emails": format!("{name}@example.com"),
                "tps": 0,
            }),
            more,
        );
        api::text(&self.admin.post("/api/v1/clients", client).await?, "id")
    }

    /// An X-Api-Key from today for a month; `more` replaces or adds fields.
    pub async fn x_api_key(&self, client: &str, groups: &[&str], more: Value) -> Result<XApiKey> {
        let key = merged(
            json!({
                "client": client,
                "alias": "end-to-end",
                "effective_date": wait::day(0),
                "expiry_date": wait::day(30),
                "groups": groups,
            }),
            more,
        );
        let made = self.admin.post("/api/v1/x-api-keys", key).await?;
        Ok(XApiKey { id: api::text(&made, "id")?, text: api::text(&made, "x_api_key")? })
    }

    /// Brings a pair in that exists elsewhere, as an operator would on the command line.
    pub fn import(&self, pair: Pair, name: &str, terms: &Terms) -> Result<Pair> {
        let quota = terms.quota.to_string();
        let mut arguments = vec!["keys", "import", "--client", &terms.client, "--name", name];
        arguments.extend(["--api-key", &pair.api_key, "--secret-file", "-", "--quota", &quota]);
        arguments.extend(["--effective-date", &terms.effective, "--expiry-date", &terms.expiry]);
        for api in &terms.apis {
            arguments.extend(["--api", api]);
        }
        let printed = self.manager.run_with(&arguments, &pair.secret_key)?;
        let id = printed.lines().find_map(|line| line.strip_prefix("key: ")).map(str::to_owned);
        Ok(Pair {
            id: id.with_context(|| format!("`keygate keys import` printed no id:\n{printed}"))?,
            ..pair
        })
    }

    /// The operator who made all of it.
    pub fn operator(&self) -> &Operator {
        &self.admin
    }
}

fn merged(base: Value, more: Value) -> Value {
    let (Value::Object(mut fields), Value::Object(more)) = (base.clone(), more) else { return base };
    fields.extend(more);
    Value::Object(fields)
}
