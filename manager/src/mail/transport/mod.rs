//! What takes a mail out of the house: SMTP servers or a folder.

mod folder;
mod message;

use std::path::PathBuf;

use super::model::{SendError, Via};
use super::settings::{MailSettings, Sender};
use super::smtp::{Failure, Limits, SmtpServer, Watcher};
use crate::config::{Config, ConfigError};
pub use message::{Letter, Message};

/// One attempt at both servers lasts no longer.
pub const LONGEST_ATTEMPT_MS: i64 = 2 * Limits::USUAL.whole().as_millis() as i64;

/// By what mails go out, opened from the settings.
#[derive(Clone, Debug)]
pub enum Transport {
    /// They wait.
    None,
    /// Through servers, asked in this order.
    Smtp {
        /// As whom.
        sender: Sender,
        /// One or two.
        servers: Vec<(Via, SmtpServer)>,
    },
    /// Into a folder.
    File {
        /// As whom.
        sender: Sender,
        /// One `.eml` per mail.
        folder: PathBuf,
    },
}

/// Why a server did not take a mail.
#[derive(Debug)]
pub struct Refusal {
    /// What it means for the mail.
    pub error: SendError,
    /// Other mails would fare alike: the server is left in peace for a while.
    pub of_the_server: bool,
    /// What to do, for an operator.
    pub advice: &'static str,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { error: failure.verdict(), of_the_server: failure.is_of_the_server(), advice: failure.advice() }
    }
}

impl Transport {
    /// Checks the settings, reads the files they name and makes the folder.
    pub fn open(config: &Config) -> Result<Self, ConfigError> {
        match MailSettings::of(config)? {
            MailSettings::None => Ok(Self::None),
            MailSettings::Smtp { sender, primary, secondary } => {
                let mut servers = vec![(Via::Primary, SmtpServer::open(*primary)?)];
                if let Some(secondary) = secondary {
                    servers.push((Via::Secondary, SmtpServer::open(*secondary)?));
                }
                Ok(Self::Smtp { sender, servers })
            }
            MailSettings::File { sender, folder } => {
                folder::create(&folder).map_err(|error| ConfigError::Setting {
                    setting: "mail_file_dir",
                    reason: format!("cannot make {}: {error}", folder.display()),
                })?;
                Ok(Self::File { sender, folder })
            }
        }
    }

    /// Whom it asks, in this order, and where they are: what their records in the database are found by.
    pub fn servers(&self) -> Vec<(Via, String)> {
        match self {
            Self::None => Vec::new(),
            Self::Smtp { sender: _, servers } => {
                servers.iter().map(|(via, server)| (*via, server.address())).collect()
            }
            Self::File { sender: _, folder } => vec![(Via::File, folder.display().to_string())],
        }
    }

    /// The letter as a server takes it.
    pub fn compose(&self, letter: &Letter<'_>) -> Result<Message, SendError> {
        match self {
            Self::None => {
                Err(SendError::Unavailable("no mail transport is configured: set mail_transport".into()))
            }
            Self::Smtp { sender, .. } | Self::File { sender, .. } => Message::compose(sender, letter),
        }
    }

    /// Hands it to one of [`Transport::servers`]; its answer.
    pub async fn hand_over(
        &self,
        via: Via,
        message: &Message,
        watcher: Watcher<'_>,
    ) -> Result<String, Refusal> {
        match self {
            Self::Smtp { sender: _, servers }
                if let Some((_, server)) = servers.iter().find(|(it, _)| *it == via) =>
            {
                Ok(server.deliver(&message.envelope, &message.bytes, watcher).await?)
            }
            Self::File { sender: _, folder } if via == Via::File => {
                folder::write(folder, message).await.map_err(|error| Refusal {
                    error: SendError::Unavailable(error),
                    of_the_server: true,
                    advice: "check mail_file_dir: this program must be able to write there",
                })
            }
            Self::None | Self::Smtp { .. } | Self::File { .. } => Err(Refusal {
                error: SendError::Unavailable(format!("no {} mail server is configured", via.name())),
                of_the_server: true,
                advice: "set mail_transport = \"smtp\" and smtp_host (the second server: smtp_secondary_host)",
            }),
        }
    }

    /// With other limits, for tests of servers that hang.
    #[cfg(test)]
    pub(in crate::mail) fn within(self, limits: Limits) -> Self {
        match self {
            Self::Smtp { sender, servers } => {
                let servers = servers.into_iter().map(|(via, server)| (via, server.within(limits))).collect();
                Self::Smtp { sender, servers }
            }
            other => other,
        }
    }
}
