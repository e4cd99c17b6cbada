//! What takes a mail out of the house: SMTP servers or a folder.
//!
//! The SMTP conversation is led step by step, because what a failure means depends on the step:
//! before the mail was handed over another attempt is harmless; after it, a lost answer means that
//! the mail may have arrived.

use std::fmt::Display;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use gate::time::UnixMillis;
use lettre::address::Envelope;
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, Message};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::model::{CLAIM_MS, SendError, Via};
use super::render::Rendered;
use super::settings::{MailSettings, SmtpSettings};
use crate::config::{Config, ConfigError, MailSecurity, MailTransport};

/// Greeting, TLS and sign-in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Sender, recipient and the leave to send.
const ENVELOPE_TIMEOUT: Duration = Duration::from_secs(30);
/// From the mail's first byte to the server's answer.
const DATA_TIMEOUT: Duration = Duration::from_secs(60);
/// One attempt at both servers, at most. A claim lasts longer.
const ATTEMPT_TIMEOUT_MS: i64 = 2 * (30 + 30 + 60) * 1_000;
const _: () = assert!(CLAIM_MS > ATTEMPT_TIMEOUT_MS);

/// By what mails go out, opened from the settings.
#[derive(Clone, Debug)]
pub enum Transport {
    /// They wait.
    None,
    /// Through a server, and another one if that fails.
    Smtp {
        /// Sender.
        from: Mailbox,
        /// Tried first.
        primary: Box<SmtpServer>,
        /// Tried at once when the first one fails.
        secondary: Option<Box<SmtpServer>>,
    },
    /// Into a folder.
    File {
        /// Sender.
        from: Mailbox,
        /// One `.eml` per mail.
        folder: PathBuf,
    },
}

/// One SMTP server.
#[derive(Clone)]
pub struct SmtpServer {
    host: String,
    port: u16,
    security: MailSecurity,
    tls: Option<TlsParameters>,
    credentials: Option<Credentials>,
    hello: ClientId,
}

impl std::fmt::Debug for SmtpServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SmtpServer({}:{}, {:?})", self.host, self.port, self.security)
    }
}

/// A mail as a transport takes it.
#[derive(Clone, Debug)]
pub struct Letter<'a> {
    /// Names file and Message-ID: the same at every attempt, so that a repeat can be told.
    pub id: &'a str,
    /// One address.
    pub recipient: &'a str,
    /// What is printed in it.
    pub rendered: &'a Rendered,
    /// For the header `Date`.
    pub written_at: UnixMillis,
}

impl Transport {
    /// Checks the settings, reads the files they name and makes the folder.
    pub fn open(config: &Config) -> Result<Self, ConfigError> {
        match MailSettings::of(config)? {
            MailSettings::None => Ok(Self::None),
            MailSettings::Smtp { from, primary, secondary } => Ok(Self::Smtp {
                from,
                primary: Box::new(SmtpServer::open(*primary)?),
                secondary: secondary.map(|server| SmtpServer::open(*server)).transpose()?.map(Box::new),
            }),
            MailSettings::File { from, folder } => {
                create_private_folder(&folder).map_err(|error| ConfigError::Setting {
                    setting: "mail_file_dir",
                    reason: format!("cannot make {}: {error}", folder.display()),
                })?;
                Ok(Self::File { from, folder })
            }
        }
    }

    /// Where that server (or folder) is, as its record in the database is found by.
    pub fn address(&self, via: Via) -> Option<String> {
        match (self, via) {
            (Self::Smtp { primary, .. }, Via::Primary) => Some(primary.address()),
            (Self::Smtp { secondary: Some(secondary), .. }, Via::Secondary) => Some(secondary.address()),
            (Self::File { folder, .. }, _) => Some(folder.display().to_string()),
            (_, _) => None,
        }
    }

    /// Its kind.
    pub fn kind(&self) -> MailTransport {
        match self {
            Self::None => MailTransport::None,
            Self::Smtp { .. } => MailTransport::Smtp,
            Self::File { .. } => MailTransport::File,
        }
    }

    /// One attempt at one mail.
    pub async fn send(&self, letter: &Letter<'_>) -> Result<Via, SendError> {
        match self {
            Self::None => Err(SendError::Retry("no mail transport is configured: set mail_transport".into())),
            Self::File { from, folder } => {
                write_file(folder, letter.id, &message(from, letter)?.formatted()).await?;
                Ok(Via::File)
            }
            Self::Smtp { from, primary, secondary } => {
                let message = message(from, letter)?;
                let bytes = message.formatted();
                let first = match primary.deliver(message.envelope(), &bytes).await {
                    Ok(()) => return Ok(Via::Primary),
                    Err(error) => error,
                };
                match (first, secondary) {
                    // Perhaps it has arrived: the other server would make two of it at once.
                    (error @ SendError::AnswerLost(_), _) | (error, None) => Err(error),
                    (first, Some(secondary)) => match secondary.deliver(message.envelope(), &bytes).await {
                        Ok(()) => Ok(Via::Secondary),
                        Err(second) => Err(both(&first, second)),
                    },
                }
            }
        }
    }
}

/// The failure of both servers as one: given up only if both refused.
fn both(first: &SendError, second: SendError) -> SendError {
    let text = format!("{first}; then {second}");
    match (first, second) {
        (_, SendError::AnswerLost(_)) => SendError::AnswerLost(text),
        (SendError::Refused(_), SendError::Refused(_)) => SendError::Refused(text),
        (_, _) => SendError::Retry(text),
    }
}

/// Answers to auto-generated mail are not wanted (RFC 3834).
#[derive(Clone, Debug)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".into())
    }
}

fn message(from: &Mailbox, letter: &Letter<'_>) -> Result<Message, SendError> {
    let recipient: Address = letter
        .recipient
        .parse()
        .map_err(|error| SendError::Refused(format!("the recipient is not a mail address: {error}")))?;
    let written_at = u64::try_from(letter.written_at.0).unwrap_or_default();
    Message::builder()
        .message_id(Some(format!("<{}@{}>", letter.id, from.email.domain())))
        .date(SystemTime::UNIX_EPOCH + Duration::from_millis(written_at))
        .header(AutoSubmitted)
        .from(from.clone())
        .to(Mailbox::new(None, recipient))
        .subject(&letter.rendered.subject)
        .multipart(MultiPart::alternative_plain_html(
            letter.rendered.text.clone(),
            letter.rendered.html.clone(),
        ))
        .map_err(|error| SendError::Refused(format!("the mail cannot be written: {error}")))
}

impl SmtpServer {
    fn open(settings: SmtpSettings) -> Result<Self, ConfigError> {
        let wrong = |reason: String| ConfigError::Setting { setting: "smtp_ca_file", reason };
        let tls = match settings.security {
            MailSecurity::None => None,
            MailSecurity::Starttls | MailSecurity::Tls => {
                let mut tls = TlsParameters::builder(settings.host.clone());
                if let Some(path) = &settings.ca_file {
                    let pem = std::fs::read(path)
                        .map_err(|error| wrong(format!("cannot read {}: {error}", path.display())))?;
                    let authority = Certificate::from_pem(&pem).map_err(|error| {
                        wrong(format!("{} holds no certificate: {error}", path.display()))
                    })?;
                    tls = tls.add_root_certificate(authority);
                }
                Some(tls.build_rustls().map_err(|error| wrong(error.to_string()))?)
            }
        };
        Ok(Self {
            host: settings.host,
            port: settings.port,
            security: settings.security,
            tls,
            credentials: settings
                .account
                .map(|(username, password)| Credentials::new(username, password.reveal().into())),
            hello: settings.hello_name.map_or_else(ClientId::default, ClientId::Domain),
        })
    }

    fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// One conversation with this server.
    async fn deliver(&self, envelope: &Envelope, bytes: &[u8]) -> Result<(), SendError> {
        let mut connection = self.step("connecting", CONNECT_TIMEOUT, self.connect()).await?.map_err(
            // Nothing was said about this mail yet: a wrong password or certificate is no verdict on it.
            |error| SendError::Retry(self.told("connecting", &error)),
        )?;

        let said = async {
            connection
                .command(Mail::new(envelope.from().cloned(), vec![]))
                .await
                .map_err(|error| SendError::Retry(self.told("sender", &error)))?;
            for recipient in envelope.to() {
                connection
                    .command(Rcpt::new(recipient.clone(), vec![]))
                    .await
                    .map_err(|error| self.verdict("recipient", &error))?;
            }
            connection.command(Data).await.map_err(|error| self.verdict("data", &error))?;
            Ok(())
        };
        self.step("envelope", ENVELOPE_TIMEOUT, said).await??;

        let answer = match timeout(DATA_TIMEOUT, connection.message(bytes)).await {
            Ok(Ok(_accepted)) => Ok(()),
            Ok(Err(error)) if error.status().is_some() => Err(self.verdict("mail", &error)),
            Ok(Err(error)) => Err(SendError::AnswerLost(self.told("mail", &error))),
            Err(_elapsed) => Err(SendError::AnswerLost(self.told("mail", &"no answer in time"))),
        };
        if answer.is_ok() {
            // Accepted is accepted, however the farewell goes.
            let _ = timeout(ENVELOPE_TIMEOUT, connection.quit()).await;
        }
        answer
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, lettre::transport::smtp::Error> {
        let wrapper = match self.security {
            MailSecurity::Tls => self.tls.clone(),
            MailSecurity::Starttls | MailSecurity::None => None,
        };
        let address = (self.host.as_str(), self.port);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(address, Some(CONNECT_TIMEOUT), &self.hello, wrapper, None)
                .await?;
        if let (MailSecurity::Starttls, Some(tls)) = (self.security, &self.tls) {
            connection.starttls(tls.clone(), &self.hello).await?;
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(&[Mechanism::Plain, Mechanism::Login], credentials).await?;
        }
        Ok(connection)
    }

    async fn step<T>(
        &self,
        name: &str,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, SendError> {
        timeout(limit, work).await.map_err(|_elapsed| SendError::Retry(self.told(name, &"no answer in time")))
    }

    /// 5xx is the server's last word on this mail; everything else may change.
    fn verdict(&self, step: &str, error: &lettre::transport::smtp::Error) -> SendError {
        if error.is_permanent() {
            SendError::Refused(self.told(step, error))
        } else {
            SendError::Retry(self.told(step, error))
        }
    }

    fn told(&self, step: &str, error: &dyn Display) -> String {
        format!("{}:{}, {step}: {error}", self.host, self.port)
    }
}

/// Writes `<id>.eml` beside a temporary name first, so that no reader sees half a mail. A repeat
/// replaces the file.
async fn write_file(folder: &Path, id: &str, bytes: &[u8]) -> Result<(), SendError> {
    let (temporary, finished) = (folder.join(format!(".{id}.tmp")), folder.join(format!("{id}.eml")));
    let written = async {
        let mut options = tokio::fs::OpenOptions::new();
        options.create(true).truncate(true).write(true);
        #[cfg(unix)]
        options.mode(0o600);
        let mut file = options.open(&temporary).await?;
        file.write_all(bytes).await?;
        file.sync_all().await?;
        tokio::fs::rename(&temporary, &finished).await
    };
    written
        .await
        .map_err(|error: std::io::Error| SendError::Retry(format!("{}: {error}", finished.display())))
}

fn create_private_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
