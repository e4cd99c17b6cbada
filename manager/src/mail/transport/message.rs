//! A letter as a message of RFC 5322: headers, text and HTML, all of it ASCII with short lines.

use std::time::{Duration, SystemTime};

use gate::time::UnixMillis;
use lettre::Address;
use lettre::address::Envelope;
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};

use super::super::model::SendError;
use super::super::settings::Sender;
use super::super::templates::Rendered;

/// Bytes of a whole message: what every server takes.
pub const MAX_MAIL_BYTES: usize = 5 << 20;

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

/// A letter, written out.
pub struct Message {
    /// The mail's id.
    pub(super) id: String,
    pub(super) envelope: Envelope,
    pub(super) bytes: Vec<u8>,
}

impl Message {
    pub(super) fn compose(sender: &Sender, letter: &Letter<'_>) -> Result<Self, SendError> {
        let recipient: Address = letter
            .recipient
            .parse()
            .map_err(|error| SendError::Refused(format!("the recipient is not a mail address: {error}")))?;
        let written_at = u64::try_from(letter.written_at.0).unwrap_or_default();
        let mut message = lettre::Message::builder()
            .message_id(Some(format!("<{}@{}>", letter.id, sender.from.email.domain())))
            .date(SystemTime::UNIX_EPOCH + Duration::from_millis(written_at))
            .header(AutoSubmitted)
            .from(sender.from.clone())
            .to(Mailbox::new(None, recipient))
            .subject(&letter.rendered.subject);
        if let Some(reply_to) = &sender.reply_to {
            message = message.reply_to(reply_to.clone());
        }
        let Rendered { subject: _, text, html } = letter.rendered;
        let message = message
            .multipart(MultiPart::alternative_plain_html(text.clone(), html.clone()))
            .map_err(|error| SendError::Refused(format!("the mail cannot be written: {error}")))?;
        let bytes = message.formatted();
        if bytes.len() > MAX_MAIL_BYTES {
            let told = format!("the mail has {} bytes, {MAX_MAIL_BYTES} are sent at most", bytes.len());
            return Err(SendError::Refused(told));
        }
        Ok(Self { id: letter.id.into(), envelope: message.envelope().clone(), bytes })
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
