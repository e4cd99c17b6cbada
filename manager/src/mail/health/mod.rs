//! Whether mails go out: for probes, metrics, and as a warning in the answers of whoever causes mails.

mod model;
mod store;
#[cfg(test)]
mod tests;

pub(super) use model::without_addresses;
pub use model::{Health, Warning};

use crate::app::App;
use crate::db::{Conn, DbError};
use crate::mail::MailSettings;

/// How mails fare now, as far as all replicas know it together.
pub async fn health(conn: &mut Conn, app: &App) -> Result<Health, DbError> {
    let now = app.now();
    let servers = MailSettings::of(&app.config).expect("checked when the settings were loaded").servers();
    let queue = store::queue(conn, now).await?;
    let mut fared = Vec::with_capacity(servers.len());
    for (_, address) in &servers {
        fared.push(store::server(conn, address).await?);
    }
    Ok(Health::of(app.config.mail_transport, queue, &fared, now))
}

/// What whoever causes a mail should know at once: empty while mails go out.
pub async fn warnings(conn: &mut Conn, app: &App) -> Result<Vec<Warning>, DbError> {
    let warnings = health(conn, app).await?.warnings;
    Ok(warnings.into_iter().filter(Warning::stops_mails).collect())
}
