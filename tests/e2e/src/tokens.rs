//! How a program obtains and presents tokens, as digiRunner's do.

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::cast::CLIENT_PASSWORD;
use crate::client::{self, Call};
use crate::world::World;

impl World {
    /// Lets a client obtain access tokens for itself and for users, of these terms: `{validity, unit, uses}`.
    pub async fn may_obtain_tokens(&self, client: &str, access: Value) -> Result<()> {
        let settings = json!({
            "grant_types": ["client_credentials", "password"], "access_token": access, "redirect_urls": [],
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

impl World {
    /// An access token of a user by way of a client that may use the grant `password`.
    pub async fn token_of(&self, client: &str, user: &str, password: &str) -> Result<String> {
        let asks = format!("grant_type=password&username={user}&password={password}");
        let answer = client::http1(self.manager.address, &form(client, "/oauth/token", &asks)).await?;
        ensure!(answer.status == 200, "a token for {user}: {} {}", answer.status, answer.text());
        Ok(answer.json()["access_token"].as_str().context("a token")?.to_owned())
    }
}

/// A token with another signature, which is well encoded.
pub fn forged(token: &str) -> Result<String> {
    let (signed, signature) = token.rsplit_once('.').context("three parts")?;
    // The bits of the last characters that mean nothing are zeros.
    let (most, end) = signature.split_at_checked(signature.len().saturating_sub(2)).context("a signature")?;
    Ok(format!("{signed}.{}{end}", most.chars().rev().collect::<String>()))
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
