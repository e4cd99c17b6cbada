//! By what mails go out, as the settings `mail_*` and `smtp_*` say it. Without a transport mails
//! are written and wait where the mail log shows them.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use lettre::message::Mailbox;

use super::model::Via;
use crate::config::{Config, ConfigError, MailSecurity, MailTransport, Sensitive};

/// The mail settings, checked as far as they can be without looking at files or servers.
#[derive(Clone, Debug)]
pub enum MailSettings {
    /// Mails wait.
    None,
    /// Through a server.
    Smtp {
        /// As whom.
        sender: Sender,
        /// Tried first.
        primary: Box<SmtpSettings>,
        /// Tried at once when the first one fails.
        secondary: Option<Box<SmtpSettings>>,
    },
    /// Into a folder.
    File {
        /// As whom.
        sender: Sender,
        /// One `.eml` per mail (mode 0600).
        folder: PathBuf,
    },
}

/// As whom mails go out.
#[derive(Clone, Debug)]
pub struct Sender {
    /// `From`, and the sender of the envelope.
    pub from: Mailbox,
    /// Where answers go; absent: to `from`.
    pub reply_to: Option<Mailbox>,
}

/// One SMTP server.
#[derive(Clone)]
pub struct SmtpSettings {
    /// Name or address; with TLS its certificate must be for it.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub security: MailSecurity,
    /// Name and password to sign in with.
    pub account: Option<(String, Sensitive)>,
    /// PEM file of a certificate authority that is trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// What to say in EHLO; absent: this machine's name.
    pub hello_name: Option<String>,
}

impl fmt::Debug for SmtpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SmtpSettings({}:{}, {:?})", self.host, self.port, self.security)
    }
}

impl MailSettings {
    /// From the installation's settings.
    pub fn of(config: &Config) -> Result<Self, ConfigError> {
        let sender = || {
            let reply_to = config.mail_reply_to.as_deref();
            Ok(Sender {
                from: mailbox("mail_from", &config.mail_from)?,
                reply_to: reply_to.map(|text| mailbox("mail_reply_to", text)).transpose()?,
            })
        };
        match config.mail_transport {
            MailTransport::None => Ok(Self::None),
            MailTransport::File => Ok(Self::File { sender: sender()?, folder: config.mail_file_dir.clone() }),
            MailTransport::Smtp => Ok(Self::Smtp {
                sender: sender()?,
                primary: Box::new(primary(config)?),
                secondary: secondary(config)?.map(Box::new),
            }),
        }
    }
}

impl MailSettings {
    /// The servers (or the folder) in the order in which they are asked, with their addresses: what
    /// their records in the database are found by.
    pub fn servers(&self) -> Vec<(Via, String)> {
        match self {
            Self::None => Vec::new(),
            Self::Smtp { sender: _, primary, secondary } => {
                let secondary = secondary.iter().map(|server| (Via::Secondary, server.address()));
                std::iter::once((Via::Primary, primary.address())).chain(secondary).collect()
            }
            Self::File { sender: _, folder } => vec![(Via::File, folder.display().to_string())],
        }
    }
}

fn primary(config: &Config) -> Result<SmtpSettings, ConfigError> {
    let host =
        config.smtp_host.clone().ok_or_else(|| wrong("smtp_host", "is needed to send mails by SMTP"))?;
    let account = account(&config.smtp_username, &config.smtp_password)
        .ok_or_else(|| wrong("smtp_password", "goes with smtp_username: set both, or neither"))?;
    let server = SmtpSettings {
        host,
        port: config.smtp_port,
        security: config.smtp_security,
        account,
        ca_file: config.smtp_ca_file.clone(),
        hello_name: config.smtp_hello_name.clone(),
    };
    server.check("smtp_security")?;
    Ok(server)
}

fn secondary(config: &Config) -> Result<Option<SmtpSettings>, ConfigError> {
    let Some(host) = config.smtp_secondary_host.clone() else { return Ok(None) };
    let account =
        account(&config.smtp_secondary_username, &config.smtp_secondary_password).ok_or_else(|| {
            wrong("smtp_secondary_password", "goes with smtp_secondary_username: set both, or neither")
        })?;
    let server = SmtpSettings {
        host,
        port: config.smtp_secondary_port,
        security: config.smtp_secondary_security,
        account,
        ca_file: config.smtp_ca_file.clone(),
        hello_name: config.smtp_hello_name.clone(),
    };
    server.check("smtp_secondary_security")?;
    Ok(Some(server))
}

fn mailbox(setting: &'static str, text: &str) -> Result<Mailbox, ConfigError> {
    text.parse().map_err(|error| ConfigError::Setting {
        setting,
        reason: format!("{text:?} is not an address such as `Keygate <keygate@example.com>`: {error}"),
    })
}

/// `None`: one of the two is missing.
fn account(username: &Option<String>, password: &Option<Sensitive>) -> Option<Option<(String, Sensitive)>> {
    match (username, password) {
        (None, None) => Some(None),
        (Some(username), Some(password)) => Some(Some((username.clone(), password.clone()))),
        (Some(_), None) | (None, Some(_)) => None,
    }
}

impl SmtpSettings {
    /// `host:port`.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn check(&self, setting: &'static str) -> Result<(), ConfigError> {
        if self.security == MailSecurity::None && !self.is_loopback() {
            return Err(wrong(
                setting,
                &format!(
                    "`none` would send key pairs over the network in clear; use `starttls` or `tls` for {}",
                    self.host
                ),
            ));
        }
        Ok(())
    }

    fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

fn wrong(setting: &'static str, reason: &str) -> ConfigError {
    ConfigError::Setting { setting, reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(settings: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let variable = |name: &str| format!("KEYGATE_{}", name.to_uppercase());
        Config::load(None, |name| {
            settings.iter().find(|(n, _)| variable(n) == name).map(|(_, value)| value.to_string())
        })
    }

    #[test]
    fn contradictions_are_named_by_setting() {
        let smtp = ("mail_transport", "smtp");
        let host = ("smtp_host", "mx.example");
        let here = ("smtp_host", "127.0.0.1");
        for (settings, refused) in [
            (&[][..], None),
            (&[("mail_transport", "file"), ("mail_from", "Key Gate <a@example.com>")], None),
            (&[("mail_transport", "file"), ("mail_from", "nobody")], Some("mail_from")),
            (&[smtp, host], None),
            (&[smtp, host, ("smtp_security", "none")], Some("smtp_security")),
            (&[smtp, here, ("smtp_security", "none")], None),
            (&[smtp, ("smtp_host", "::1"), ("smtp_security", "none")], None),
            (&[smtp, host, ("smtp_username", "u")], Some("smtp_password")),
            (&[smtp, host, ("smtp_password", "p")], Some("smtp_password")),
            (&[smtp, host, ("smtp_username", "u"), ("smtp_password", "p")], None),
            (
                &[smtp, host, ("smtp_secondary_host", "mx2"), ("smtp_secondary_security", "none")],
                Some("smtp_secondary_security"),
            ),
            (
                &[smtp, host, ("smtp_secondary_host", "mx2"), ("smtp_secondary_username", "u")],
                Some("smtp_secondary_password"),
            ),
        ] {
            let found = match load(settings) {
                Ok(_) => None,
                Err(ConfigError::Setting { setting, .. }) => Some(setting),
                Err(other) => panic!("{other}"),
            };
            assert_eq!(found, refused, "{settings:?}");
        }
    }
}
