//! Which client calls: one that proves it by its password, or one that has none and names itself.

use gate::wire::exchange::ClientStatus;

use super::call::Call;
use super::presented::{Credentials, TwoWays};
use super::refusal::Refusal;
use crate::clients::{self, Client, PasswordState};

/// The client whose password was presented, if it is right and nobody has stopped the client.
pub(super) async fn proven(call: &Call, two_ways: TwoWays) -> Result<Client, Refusal> {
    let credentials = Credentials::read(&call.headers, &call.parameters, two_ways)?;
    let Credentials { client: id, secret } = &credentials;
    let checked = clients::check_secret(&call.app, &call.from, id, secret, &credentials.readings()).await?;
    unless_stopped(checked.ok_or_else(|| Refusal::wrong_secret(id))?)
}

/// As [`proven`]; a client that has no password names itself alone. It is for calls that present
/// besides what nobody else can have: a code with its proof, a token.
pub(super) async fn proven_or_public(call: &Call, two_ways: TwoWays) -> Result<Client, Refusal> {
    let Some(id) = Credentials::id_alone(&call.headers, &call.parameters) else {
        return proven(call, two_ways).await;
    };
    let client = clients::by_id(&mut *call.app.db.snapshot().await?, id).await?;
    unless_stopped(client.filter(is_public).ok_or_else(Refusal::no_secret)?)
}

/// Whether it has no password, not even one that was mailed to it.
pub(super) fn is_public(client: &Client) -> bool {
    client.password == PasswordState::None
}

fn unless_stopped(client: Client) -> Result<Client, Refusal> {
    match client.status {
        ClientStatus::Active => Ok(client),
        ClientStatus::Disabled => Err(Refusal::stopped(client.id.as_str(), "disable")),
        ClientStatus::Locked => Err(Refusal::stopped(client.id.as_str(), "locked")),
    }
}
