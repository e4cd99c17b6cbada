//! What went wrong in which step, what that means for the mail, and what to do.

use std::fmt;
use std::time::Duration;

use super::super::model::SendError;
use super::reply::{Reply, Unread};

/// The steps of a conversation, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Name to network address.
    Resolving,
    /// The TCP connection.
    Connecting,
    /// TLS, from the start or after STARTTLS.
    Tls,
    /// The server's first words.
    Greeting,
    /// EHLO: what it offers.
    Hello,
    /// The request to go on in TLS.
    Starttls,
    /// AUTH.
    SignIn,
    /// MAIL FROM.
    Sender,
    /// RCPT TO.
    Recipient,
    /// DATA: the leave to send.
    Data,
    /// The mail, and the answer to it.
    Message,
}

impl Step {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Resolving => "resolving",
            Self::Connecting => "connecting",
            Self::Tls => "TLS",
            Self::Greeting => "greeting",
            Self::Hello => "EHLO",
            Self::Starttls => "STARTTLS",
            Self::SignIn => "AUTH",
            Self::Sender => "MAIL FROM",
            Self::Recipient => "RCPT TO",
            Self::Data => "DATA",
            Self::Message => "message",
        }
    }
}

/// Why a conversation did not end with the mail accepted.
#[derive(Debug)]
pub struct Failure {
    pub(super) server: String,
    pub(super) step: Step,
    pub(super) cause: Cause,
}

#[derive(Debug)]
pub(super) enum Cause {
    /// The server refused.
    Said(Reply),
    /// No answer in time.
    Silent(Duration),
    /// It hung up.
    Closed,
    /// The network's words.
    Broken(std::io::Error),
    /// No answer of SMTP, but this.
    Garbled(String),
    /// More came in clear after the order to begin with TLS: somebody in between speaks for the server.
    Injected,
    /// It does not offer what must be there: STARTTLS, SMTPUTF8.
    NotOffered(&'static str),
    /// None of its ways to sign in is ours.
    NoMechanism(String),
    /// The certificate is for others.
    WrongName(Vec<String>),
    /// Nobody who is trusted vouches for the certificate.
    UnknownAuthority,
    /// The certificate is not valid today.
    Expired,
    /// No TLS on this port.
    NotTls,
    /// TLS does not come about for another reason.
    Tls(String),
}

impl From<Unread> for Cause {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Broken(error) => Self::Broken(error),
            Unread::Closed => Self::Closed,
            Unread::Garbled(what) => Self::Garbled(what),
        }
    }
}

impl Failure {
    /// In which step.
    pub fn step(&self) -> Step {
        self.step
    }

    /// What it means for the mail.
    pub fn verdict(&self) -> SendError {
        let told = self.to_string();
        match (&self.cause, self.step) {
            // All that comes before the recipient is the same for every mail.
            (_, step) if step < Step::Recipient => SendError::Unavailable(told),
            (Cause::Said(reply), _) if reply.is_permanent() && !reply.is_about_the_sender() => {
                SendError::Refused(told)
            }
            (Cause::NotOffered(_), _) => SendError::Refused(told),
            (Cause::Said(_), _) => SendError::Retry(told),
            (_, Step::Message) => SendError::AnswerLost(told),
            // It may be this very mail that it stumbles over: the next attempt is another one's.
            (_, _) => SendError::Retry(told),
        }
    }

    /// Whether the server would treat other mails alike, as far as can be told: it gets a rest.
    pub fn is_of_the_server(&self) -> bool {
        match &self.cause {
            Cause::Said(reply) => self.step < Step::Recipient || reply.is_farewell(),
            Cause::NotOffered(_) => self.step < Step::Recipient,
            _ => true,
        }
    }

    /// What to do, for an operator.
    pub fn advice(&self) -> &'static str {
        match (&self.cause, self.step) {
            (Cause::WrongName(_), _) => {
                "set smtp_host to a name that stands in the certificate, or have the server's certificate issued for \
                 smtp_host"
            }
            (Cause::UnknownAuthority, _) => {
                "set smtp_ca_file to the PEM file of the authority that issued the server's certificate"
            }
            (Cause::Expired, _) => "have the server's certificate renewed, or set this machine's clock",
            (Cause::NotTls, _) => {
                "the server does not begin with TLS on this port: set smtp_security = \"starttls\" (mostly port 587) or \
                 the port for TLS (mostly 465)"
            }
            (Cause::Tls(_), _) => {
                "the server must speak TLS 1.2 or 1.3 with a certificate that this machine trusts"
            }
            (Cause::NotOffered("STARTTLS"), _) => {
                "the server offers no TLS here, and in clear nothing is sent: use its port for STARTTLS (mostly 587), or \
                 smtp_security = \"tls\" with its port for TLS (mostly 465); if it should offer it, somebody in between \
                 may be taking it away"
            }
            (Cause::NotOffered(_), _) => {
                "the address has letters beyond ASCII, which this server does not take"
            }
            (Cause::Injected, _) => {
                "somebody between here and the server may be tampering: use smtp_security = \"tls\" (mostly port 465)"
            }
            (Cause::NoMechanism(_), _) => {
                "the server signs nobody in with PLAIN or LOGIN here: ask its operator, or leave out smtp_username if it \
                 needs no sign-in"
            }
            (Cause::Silent(_) | Cause::Closed | Cause::Garbled(_) | Cause::Broken(_), Step::Greeting) => {
                "something else than SMTP answers there, TLS is expected from the first byte (smtp_security = \"tls\", \
                 mostly port 465), or a firewall is in between: check smtp_host and smtp_port"
            }
            (_, Step::Resolving) => "check smtp_host, and that this machine's name server knows it",
            (_, Step::Connecting) => {
                "check smtp_host and smtp_port, that the server runs, and that no firewall is in between"
            }
            (_, Step::SignIn) => {
                "check smtp_username and smtp_password (some providers want a password made for programs)"
            }
            (_, Step::Sender) => {
                "check mail_from: the server must allow this account or machine to send as it"
            }
            (Cause::Said(reply), Step::Recipient | Step::Data | Step::Message)
                if reply.is_about_the_sender() =>
            {
                "the server does not take mails for others from here: set smtp_username and smtp_password, or have this \
                 machine allowed as a sender; check mail_from"
            }
            (Cause::Said(reply), Step::Recipient) if reply.is_permanent() => "check the recipient's address",
            (Cause::Said(reply), Step::Data | Step::Message) if reply.is_permanent() => {
                "the server refused the mail itself: its answer says why"
            }
            (Cause::Said(_), _) => {
                "the server cannot take it now: mails are tried again without anybody's doing"
            }
            (_, Step::Message) => {
                "whether the mail was accepted is not known: look whether it arrived, and into the server's log"
            }
            (_, _) => "look into the server's log, and whether a firewall or proxy ends the connection",
        }
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}: ", self.server, self.step.name())?;
        match &self.cause {
            Cause::Said(reply) => write!(f, "{reply}"),
            Cause::Silent(limit) => write!(f, "no answer in time ({} s)", limit.as_secs_f32()),
            Cause::Closed => f.write_str("the server hung up"),
            Cause::Broken(error) => write!(f, "{error}"),
            Cause::Garbled(what) => write!(f, "no answer of an SMTP server, but {what:?}"),
            Cause::Injected => f.write_str("more came in clear after STARTTLS was granted"),
            Cause::NotOffered(what) => write!(f, "the server does not offer {what}"),
            Cause::NoMechanism(offered) if offered.is_empty() => f.write_str("the server offers no sign-in"),
            Cause::NoMechanism(offered) => write!(f, "the server offers only {offered}"),
            Cause::WrongName(names) if names.is_empty() => {
                f.write_str("the certificate is for no name at all")
            }
            Cause::WrongName(names) => write!(f, "the certificate is for {} instead", names.join(", ")),
            Cause::UnknownAuthority => {
                f.write_str("the certificate comes from an authority that is not trusted here")
            }
            Cause::Expired => f.write_str("the certificate is not valid today"),
            Cause::NotTls => f.write_str("what answers is not TLS"),
            Cause::Tls(what) => f.write_str(what),
        }
    }
}
