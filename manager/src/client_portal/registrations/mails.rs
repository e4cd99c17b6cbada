//! What a visitor is asked to confirm.

use gate::time::UnixMillis;

use super::model::Registration;
use crate::app::App;
use crate::db::Conn;
use crate::mail::contexts::RegistrationConfirmation;
use crate::mail::{self, About, MailError, NewMail};
use crate::validity::print_instant;

/// Mails the token to who asks. At once: somebody waits for it.
pub(super) async fn confirmation(
    conn: &mut Conn,
    app: &App,
    registration: &Registration,
    token: &str,
    now: UnixMillis,
) -> Result<(), MailError> {
    let context = RegistrationConfirmation {
        product_name: app.config.product_name.clone(),
        client_name: registration.asked.display_name.clone().unwrap_or_default(),
        token: token.to_owned(),
        expires_at: print_instant(registration.expires_at, &app.config.zone()),
        url: format!("{}/client/v1/registrations/confirm", app.config.base_url()),
    };
    let mail = NewMail {
        recipients: vec![registration.email.as_str().to_owned().into()],
        context,
        not_before: now,
        about: About::new("registration", &registration.id),
    };
    mail::enqueue(conn, app, mail, now).await.map(drop)
}
