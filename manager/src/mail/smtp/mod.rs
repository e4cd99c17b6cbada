//! A conversation with an SMTP server, led step by step: what a failure means, and what to do about
//! it, depends on the step. Before the mail was handed over another attempt is harmless; after it, a
//! lost answer means that the mail may have arrived.

mod conversation;
mod failure;
mod reply;
#[cfg(test)]
pub(in crate::mail) mod server;
#[cfg(test)]
mod tests;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use lettre::address::Envelope;
use rustls::ClientConfig;

pub use failure::{Failure, Step};

use super::settings::SmtpSettings;
use crate::config::{ConfigError, MailSecurity, Sensitive};
use conversation::Conversation;

/// How long the parts of a conversation may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// One of the server's network addresses, if it has several.
    pub address: Duration,
    /// Connection, greeting, TLS and sign-in together.
    pub prelude: Duration,
    /// Sender, recipient and the leave to send together.
    pub envelope: Duration,
    /// From the mail's first byte to the server's answer.
    pub message: Duration,
    /// The farewell, which nothing hangs on.
    pub farewell: Duration,
}

impl Limits {
    /// Shorter than RFC 5321 (section 4.5.3.2) grants, so that a claim on a mail need not be longer:
    /// another attempt follows.
    pub const USUAL: Self = Self {
        address: Duration::from_secs(10),
        prelude: Duration::from_secs(30),
        envelope: Duration::from_secs(30),
        message: Duration::from_secs(60),
        farewell: Duration::from_secs(5),
    };

    /// A conversation lasts no longer.
    pub const fn whole(self) -> Duration {
        Duration::from_millis(
            (self.prelude.as_millis()
                + self.envelope.as_millis()
                + self.message.as_millis()
                + self.farewell.as_millis()) as u64,
        )
    }
}

/// One SMTP server.
#[derive(Clone)]
pub struct SmtpServer {
    host: String,
    port: u16,
    security: MailSecurity,
    tls: Option<Arc<ClientConfig>>,
    account: Option<(String, Sensitive)>,
    hello_name: String,
    limits: Limits,
}

impl std::fmt::Debug for SmtpServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SmtpServer({}, {:?})", self.address(), self.security)
    }
}

/// A step that went well, for those who watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which one.
    pub step: Step,
    /// What was found or answered; never a secret.
    pub told: String,
}

/// Who watches a conversation.
pub type Watcher<'a> = &'a mut (dyn FnMut(Event) + Send);

impl SmtpServer {
    /// Reads the certificates that the settings name.
    pub fn open(settings: SmtpSettings) -> Result<Self, ConfigError> {
        let tls = match settings.security {
            MailSecurity::None => None,
            MailSecurity::Starttls | MailSecurity::Tls => {
                Some(Arc::new(tls::configuration(settings.ca_file.as_deref())?))
            }
        };
        Ok(Self {
            host: settings.host,
            port: settings.port,
            security: settings.security,
            tls,
            account: settings.account,
            hello_name: settings.hello_name.unwrap_or_else(this_machine),
            limits: Limits::USUAL,
        })
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// With other limits, for tests of servers that hang.
    #[cfg(test)]
    pub(in crate::mail) fn within(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Hands one mail over. `message` has lines that end with CRLF. Returns the server's answer, in
    /// one line.
    pub async fn deliver(
        &self,
        envelope: &Envelope,
        message: &[u8],
        watcher: Watcher<'_>,
    ) -> Result<String, Failure> {
        Conversation::new(self, watcher).deliver(envelope, message).await
    }
}

/// For EHLO: its name, or an address literal (RFC 5321, section 4.1.3) where that is no host name.
fn this_machine() -> String {
    let name = hostname::get().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    if name.is_empty() || !name.chars().all(is_name) { "[127.0.0.1]".into() } else { name }
}
