//! The conversation itself (RFC 5321, 3207, 4954), up to the answer to one mail.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use lettre::address::Envelope;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use super::failure::{Cause, Failure, Step};
use super::reply::Reply;
use super::{Event, SmtpServer, Watcher, tls};
use crate::config::MailSecurity;

/// What is sent may be waited for behind this many addresses of one name.
const MAX_ADDRESSES: usize = 8;

pub(super) struct Conversation<'a> {
    server: &'a SmtpServer,
    watcher: Watcher<'a>,
    /// Where it stands: a time-out names it.
    step: Step,
    stream: BufReader<Stream>,
    /// What the last EHLO offered, in upper case.
    offers: Vec<String>,
}

impl<'a> Conversation<'a> {
    pub fn new(server: &'a SmtpServer, watcher: Watcher<'a>) -> Self {
        let stream = BufReader::new(Stream::None);
        Self { server, watcher, step: Step::Resolving, stream, offers: Vec::new() }
    }

    pub async fn deliver(mut self, envelope: &Envelope, message: &[u8]) -> Result<String, Failure> {
        let limits = self.server.limits;
        let outcome = async {
            match timeout(limits.prelude, self.prelude()).await {
                Ok(done) => done?,
                Err(_elapsed) => return Err(Cause::Silent(limits.prelude)),
            }
            match timeout(limits.envelope, self.envelope(envelope)).await {
                Ok(done) => done?,
                Err(_elapsed) => return Err(Cause::Silent(limits.envelope)),
            }
            match timeout(limits.message, self.message(message)).await {
                Ok(done) => done,
                Err(_elapsed) => Err(Cause::Silent(limits.message)),
            }
        }
        .await;
        // However the farewell goes: what was answered stands.
        if matches!(outcome, Ok(_) | Err(Cause::Said(_))) {
            let _ = timeout(limits.farewell, self.ask("QUIT")).await;
        }
        match outcome {
            Ok(reply) => Ok(reply.to_string()),
            Err(cause) => Err(Failure { server: self.server.address(), step: self.step, cause }),
        }
    }

    /// From nothing to a server that knows who calls.
    async fn prelude(&mut self) -> Result<(), Cause> {
        let tcp = self.connect().await?;
        self.stream = BufReader::new(Stream::Clear(tcp));
        if self.server.security == MailSecurity::Tls {
            self.encrypt().await?;
        }
        self.step = Step::Greeting;
        let greeting = self.answer().await?;
        self.went(greeting.to_string());
        self.hello().await?;
        if self.server.security == MailSecurity::Starttls {
            self.step = Step::Starttls;
            if !self.offers("STARTTLS") {
                return Err(Cause::NotOffered("STARTTLS"));
            }
            let granted = self.ask("STARTTLS").await?;
            self.went(granted.to_string());
            // What lies here was said in clear, but would be taken for said in TLS.
            if !self.stream.buffer().is_empty() {
                return Err(Cause::Injected);
            }
            self.encrypt().await?;
            self.hello().await?;
        }
        self.sign_in().await
    }

    async fn connect(&mut self) -> Result<TcpStream, Cause> {
        let SmtpServer { host, port, limits, .. } = self.server;
        let addresses: Vec<_> = tokio::net::lookup_host((host.as_str(), *port))
            .await
            .map_err(Cause::Broken)?
            .take(MAX_ADDRESSES)
            .collect();
        self.step = Step::Connecting;
        let mut failed = Cause::Broken(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        for address in addresses {
            match timeout(limits.address, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    self.went(format!("connected to {address}"));
                    return Ok(stream);
                }
                Ok(Err(error)) => failed = Cause::Broken(error),
                Err(_elapsed) => failed = Cause::Silent(limits.address),
            }
        }
        Err(failed)
    }

    async fn encrypt(&mut self) -> Result<(), Cause> {
        self.step = Step::Tls;
        let tls = self.server.tls.clone().expect("opened with TLS where the settings want it");
        let name = tls::name(&self.server.host)?;
        let Stream::Clear(tcp) = std::mem::replace(self.stream.get_mut(), Stream::None) else {
            return Err(Cause::Tls("TLS has begun already".into()));
        };
        let stream = TlsConnector::from(tls).connect(name, tcp).await.map_err(tls::cause)?;
        self.went(tls::agreed(stream.get_ref().1));
        self.stream = BufReader::new(Stream::Encrypted(Box::new(stream)));
        Ok(())
    }

    async fn hello(&mut self) -> Result<(), Cause> {
        self.step = Step::Hello;
        let reply = self.ask(&format!("EHLO {}", self.server.hello_name)).await?;
        // The first line is the server's name.
        self.offers = reply.lines.iter().skip(1).map(|line| line.trim().to_ascii_uppercase()).collect();
        let offers = if self.offers.is_empty() { "nothing".into() } else { self.offers.join(", ") };
        self.went(format!("offers {offers}"));
        Ok(())
    }

    fn offers(&self, extension: &str) -> bool {
        self.offers.iter().any(|offer| offer.split([' ', '=']).next() == Some(extension))
    }

    async fn sign_in(&mut self) -> Result<(), Cause> {
        let Some((user, password)) = &self.server.account else { return Ok(()) };
        self.step = Step::SignIn;
        // `AUTH PLAIN LOGIN`, and as old servers say it, `AUTH=PLAIN LOGIN`.
        let offered: Vec<&str> = self
            .offers
            .iter()
            .map(|offer| offer.split([' ', '=']).collect::<Vec<_>>())
            .filter(|words| words.first() == Some(&"AUTH"))
            .flat_map(|words| words.into_iter().skip(1))
            .collect();
        let mechanism = if offered.contains(&"PLAIN") {
            // RFC 4616: NUL, name, NUL, password.
            let response = encoded(&format!("\0{user}\0{}", password.reveal()));
            self.ask(&format!("AUTH PLAIN {}", *response)).await?;
            "PLAIN"
        } else if offered.contains(&"LOGIN") {
            self.ask("AUTH LOGIN").await?;
            self.ask(&encoded(user)).await?;
            self.ask(&encoded(password.reveal())).await?;
            "LOGIN"
        } else {
            return Err(Cause::NoMechanism(offered.join(", ")));
        };
        self.went(format!("signed in as {user} ({mechanism})"));
        Ok(())
    }

    async fn envelope(&mut self, envelope: &Envelope) -> Result<(), Cause> {
        let (from, to) = (envelope.from(), envelope.to());
        let text = AsRef::<str>::as_ref;
        let beyond_ascii = from.into_iter().chain(to).any(|address| !text(address).is_ascii());
        let utf8 = if beyond_ascii { " SMTPUTF8" } else { "" };
        // What only some mails ask for may fail for those alone.
        self.step = if beyond_ascii { Step::Recipient } else { Step::Sender };
        if beyond_ascii && !self.offers("SMTPUTF8") {
            return Err(Cause::NotOffered("SMTPUTF8"));
        }
        let sender = from.map_or("", text);
        let reply = self.ask(&format!("MAIL FROM:<{sender}>{utf8}")).await?;
        self.went(format!("{sender}: {reply}"));
        for recipient in to {
            self.step = Step::Recipient;
            let reply = self.ask(&format!("RCPT TO:<{recipient}>")).await?;
            self.went(format!("{recipient}: {reply}"));
        }
        self.step = Step::Data;
        let leave = self.ask("DATA").await?;
        if leave.code != 354 {
            return Err(Cause::Garbled(leave.to_string()));
        }
        Ok(())
    }

    async fn message(&mut self, message: &[u8]) -> Result<Reply, Cause> {
        // Until its end was sent, no server can have accepted it: a break before is one of DATA.
        self.say(&stuffed(message)).await?;
        self.step = Step::Message;
        self.say(b".\r\n").await?;
        let reply = self.answer().await?;
        self.went(reply.to_string());
        Ok(reply)
    }

    /// One command and its answer, if that is positive.
    async fn ask(&mut self, command: &str) -> Result<Reply, Cause> {
        let line = Zeroizing::new(format!("{command}\r\n"));
        self.say(line.as_bytes()).await?;
        self.answer().await
    }

    async fn answer(&mut self) -> Result<Reply, Cause> {
        let reply = Reply::read(&mut self.stream).await?;
        if reply.is_positive() { Ok(reply) } else { Err(Cause::Said(reply)) }
    }

    async fn say(&mut self, bytes: &[u8]) -> Result<(), Cause> {
        let stream = self.stream.get_mut();
        stream.write_all(bytes).await.map_err(Cause::Broken)?;
        stream.flush().await.map_err(Cause::Broken)
    }

    fn went(&mut self, told: String) {
        (self.watcher)(Event { step: self.step, told });
    }
}

fn encoded(text: &str) -> Zeroizing<String> {
    Zeroizing::new(BASE64.encode(text))
}

/// The message as it goes over the wire: every line ends with CRLF, whatever it ended with, and one
/// that begins with a dot has another in front (RFC 5321, section 4.5.2). So the end of the mail is
/// ours alone to say.
fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + message.len() / 64 + 2);
    let mut bytes = message.iter().copied().peekable();
    let mut line_begins = true;
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' | b'\n' => {
                if byte == b'\r' {
                    bytes.next_if_eq(&b'\n');
                }
                out.extend_from_slice(b"\r\n");
                line_begins = true;
            }
            _ => {
                if line_begins && byte == b'.' {
                    out.push(b'.');
                }
                out.push(byte);
                line_begins = false;
            }
        }
    }
    if !line_begins {
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// The connection, which changes under way.
enum Stream {
    /// Not connected, or between clear and TLS.
    None,
    Clear(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

fn no_connection() -> io::Error {
    io::Error::from(io::ErrorKind::NotConnected)
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::None => Poll::Ready(Err(no_connection())),
            Self::Clear(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Encrypted(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::None => Poll::Ready(Err(no_connection())),
            Self::Clear(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Encrypted(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::None => Poll::Ready(Err(no_connection())),
            Self::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Self::Encrypted(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::None => Poll::Ready(Err(no_connection())),
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Encrypted(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_mail_can_end_it() {
        for (message, expected) in [
            (&b"a\r\nb\r\n"[..], &b"a\r\nb\r\n"[..]),
            (b"a", b"a\r\n"),
            (b".\r\n", b"..\r\n"),
            (b"a\r\n.\r\nb", b"a\r\n..\r\nb\r\n"),
            (b"a\n.\nb\r.\rc\n", b"a\r\n..\r\nb\r\n..\r\nc\r\n"),
            (b"a.b\r\n..c\r\n", b"a.b\r\n...c\r\n"),
            (b"", b""),
        ] {
            assert_eq!(String::from_utf8_lossy(&stuffed(message)), String::from_utf8_lossy(expected));
        }
    }
}
