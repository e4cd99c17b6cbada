//! Section `[mail]` of the configuration: by what mails go out. Without a transport they are
//! written and wait where the mail log shows them.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;

/// Section `[mail]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MailSettings {
    /// `none` (default), `smtp` or `file`.
    pub transport: TransportKind,
    /// Sender, such as `Keygate <keygate@example.com>`. Needed unless `transport = "none"`.
    pub from: Option<String>,
    /// Where `transport = "file"` writes one `.eml` per mail (mode 0600).
    pub folder: Option<PathBuf>,
    /// The server of `transport = "smtp"`.
    pub smtp: Option<SmtpSettings>,
    /// The server that is tried at once when the first one fails.
    pub secondary: Option<SmtpSettings>,
}

/// By what mails go out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransportKind {
    /// They wait.
    #[default]
    None,
    /// Through a server.
    Smtp,
    /// Into a folder.
    File,
}

impl TransportKind {
    /// As in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Smtp => "smtp",
            Self::File => "file",
        }
    }
}

/// Sections `[mail.smtp]` and `[mail.secondary]`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmtpSettings {
    /// Name or address of the server; with TLS its certificate must be for it.
    pub host: String,
    /// Default 587, with `security = "tls"` 465, with `"none"` 25.
    pub port: Option<u16>,
    /// `starttls` (default), `tls`, or `none` for a server on this machine.
    #[serde(default)]
    pub security: SmtpSecurity,
    /// Name to sign in with; absent = do not sign in.
    pub username: Option<String>,
    /// Password in clear; prefer `password_file` or the environment.
    pub password: Option<String>,
    /// File that holds the password.
    pub password_file: Option<PathBuf>,
    /// PEM file of a certificate authority that is trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// What to say in EHLO; default: this machine's name.
    pub hello_name: Option<String>,
}

impl fmt::Debug for SmtpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SmtpSettings({}:{}, {:?}, [redacted])", self.host, self.port(), self.security)
    }
}

/// How the connection to a server is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SmtpSecurity {
    /// Plain until STARTTLS, which the server must offer.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Tls,
    /// Not at all: accepted for loopback addresses only.
    None,
}

/// A mistake in the section, in the operator's terms.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {mistake}")]
pub struct SettingError {
    /// The setting, as `mail.smtp.host`.
    pub setting: String,
    /// What is wrong and what to write instead.
    pub mistake: String,
}

fn mistake(setting: impl Into<String>, mistake: impl Into<String>) -> SettingError {
    SettingError { setting: setting.into(), mistake: mistake.into() }
}

impl MailSettings {
    /// Contradictions and gaps. Files are looked at when the transport is opened.
    pub fn check(&self) -> Result<(), SettingError> {
        if let Some(from) = &self.from {
            from.parse::<lettre::message::Mailbox>().map_err(|error| {
                mistake(
                    "mail.from",
                    format!("`{from}` is not a sender such as `Keygate <keygate@example.com>`: {error}"),
                )
            })?;
        } else if self.transport != TransportKind::None {
            return Err(mistake(
                "mail.from",
                "is needed to send mails, such as `Keygate <keygate@example.com>`",
            ));
        }
        match self.transport {
            TransportKind::None => {}
            TransportKind::File if self.folder.is_none() => {
                return Err(mistake(
                    "mail.folder",
                    "is needed for `transport = \"file\"`: where to write the mails",
                ));
            }
            TransportKind::Smtp if self.smtp.is_none() => {
                return Err(mistake(
                    "mail.smtp",
                    "is needed for `transport = \"smtp\"`: at least its `host`",
                ));
            }
            TransportKind::File | TransportKind::Smtp => {}
        }
        for (section, server) in [("mail.smtp", &self.smtp), ("mail.secondary", &self.secondary)] {
            if let Some(server) = server {
                server.check(section)?;
            }
        }
        if self.secondary.is_some() && self.smtp.is_none() {
            return Err(mistake("mail.secondary", "is the stand-in of `mail.smtp`, which is missing"));
        }
        Ok(())
    }
}

impl SmtpSettings {
    /// The port, or the one that is usual for the kind of protection.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.security {
            SmtpSecurity::Starttls => 587,
            SmtpSecurity::Tls => 465,
            SmtpSecurity::None => 25,
        })
    }

    fn check(&self, section: &str) -> Result<(), SettingError> {
        if self.host.is_empty() {
            return Err(mistake(format!("{section}.host"), "must not be empty"));
        }
        if self.security == SmtpSecurity::None && !self.is_loopback() {
            return Err(mistake(
                format!("{section}.security"),
                format!(
                    "`none` would send key pairs over the network in clear; use `starttls` or `tls` for {}",
                    self.host
                ),
            ));
        }
        if self.password.is_some() && self.password_file.is_some() {
            return Err(mistake(
                format!("{section}.password"),
                "stands beside `password_file`; keep one of them",
            ));
        }
        let has_password = self.password.is_some() || self.password_file.is_some();
        if self.username.is_some() != has_password {
            return Err(mistake(
                format!("{section}.username"),
                "goes with `password_file` (or `password`): give both, or neither for a server without sign-in",
            ));
        }
        Ok(())
    }

    fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_named_by_setting() {
        let smtp = |rest: &str| {
            format!("transport = \"smtp\"\nfrom = \"a@example.com\"\n[smtp]\nhost = \"mx.example\"\n{rest}")
        };
        for (toml, setting) in [
            (String::new(), None),
            ("transport = \"smtp\"".into(), Some("mail.from")),
            ("transport = \"smtp\"\nfrom = \"nobody\"".into(), Some("mail.from")),
            ("transport = \"smtp\"\nfrom = \"a@example.com\"".into(), Some("mail.smtp")),
            ("transport = \"file\"\nfrom = \"a@example.com\"".into(), Some("mail.folder")),
            ("transport = \"file\"\nfrom = \"Key Gate <a@example.com>\"\nfolder = \"mails\"".into(), None),
            (smtp(""), None),
            (smtp("security = \"none\""), Some("mail.smtp.security")),
            (smtp("security = \"none\"").replace("mx.example", "127.0.0.1"), None),
            (smtp("security = \"none\"").replace("mx.example", "::1"), None),
            (smtp("username = \"u\""), Some("mail.smtp.username")),
            (smtp("password = \"p\""), Some("mail.smtp.username")),
            (smtp("username = \"u\"\npassword = \"p\""), None),
            (smtp("username = \"u\"\npassword = \"p\"\npassword_file = \"f\""), Some("mail.smtp.password")),
            (smtp("[secondary]\nhost = \"\""), Some("mail.secondary.host")),
            ("[secondary]\nhost = \"mx2.example\"".into(), Some("mail.secondary")),
        ] {
            let settings: MailSettings = toml::from_str(&toml).expect("parses");
            let refused = settings.check().err().map(|error| error.setting);
            assert_eq!(refused.as_deref(), setting, "{toml}");
        }
        assert!(toml::from_str::<MailSettings>("transprot = \"smtp\"").is_err());
    }

    #[test]
    fn ports_follow_the_protection_and_passwords_are_not_printed() {
        let settings: MailSettings =
            toml::from_str("[smtp]\nhost = \"mx\"\nusername = \"u\"\npassword = \"hunter2\"\n[secondary]\nhost = \"mx\"\nsecurity = \"tls\"")
                .expect("parses");
        assert_eq!(settings.smtp.as_ref().map(SmtpSettings::port), Some(587));
        assert_eq!(settings.secondary.as_ref().map(SmtpSettings::port), Some(465));
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
