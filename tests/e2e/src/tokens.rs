//! How a program obtains and presents tokens, as digiRunner's do.

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::cast::CLIENT_PASSWORD;
use crate::client::{self, Call};
use crate::world::World;

impl World {
    /// Lets a client obtain access tokens for itself, of these terms: `{validity, unit, uses}`.
    pub async fn may_obtain_tokens(&self, client: &str, access: Value) -> Result<()> {
        let settings = json!({
            "grant_types": ["client_credentials"], "access_token": access, "redirect_urls": [],
            "refresh_token": { "validity": 0, "unit": "minutes", "uses": 0 },
        });
        let path = format!("/api/v1/clients/{client}/token-settings");
        self.operator().write("PUT", &path, "", settings).await?;
        Ok(())
    }

    /// An access token, from the manager itself.
    pub async fn token(&self, client: &str) -> Result<String> {
        let answer = client::http1(self.manager.address, &asking(client)).await?;
        ensure!(answer.status == 200, "a token for {client}: {} {}", answer.status, answer.text());
        Ok(answer.json()["access_token"].as_str().context("a token")?.to_owned())
    }
}

/// Asks for a token by the client's own password.
pub fn asking(client: &str) -> Call {
    form(client, "/oauth/token", "grant_type=client_credentials")
}

/// A form with the client's password in its header, encoded twice as digiRunner's programs do.
pub fn form(client: &str, path: &str, body: &str) -> Call {
    let pair = STANDARD.encode(format!("{client}:{}", STANDARD.encode(CLIENT_PASSWORD)));
    Call::new("POST", path)
        .body(body.to_owned())
        .header("content-type", "application/x-www-form-urlencoded")
        .header("authorization", format!("Basic {pair}"))
}

impl Call {
    /// With a token.
    pub fn bearing(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }
}
