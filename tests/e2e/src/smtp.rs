//! A mail server that keeps what it is given: the conversation is real SMTP.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use mail_parser::MessageParser;
use mailin::{Action, Handler, Response, SessionBuilder, response};

use crate::wait;

/// A mail as it arrived.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Envelope recipients.
    pub to: Vec<String>,
    /// Decoded.
    pub subject: String,
    /// The plain text part, decoded.
    pub text: String,
    /// The HTML part if there is one, decoded.
    pub html: Option<String>,
}

impl Mail {
    /// What follows `label` on a line of its own.
    pub fn value_of(&self, label: &str) -> Result<String> {
        let line = self.text.lines().find_map(|line| line.strip_prefix(label));
        let value = line.with_context(|| format!("a line `{label}…` in {}", self.text))?;
        Ok(value.trim().to_owned())
    }
}

/// The catcher and what it caught.
#[derive(Clone)]
pub struct Catcher {
    /// Where it listens.
    pub address: SocketAddr,
    caught: Arc<Mutex<Caught>>,
}

#[derive(Default)]
struct Caught {
    mails: Vec<Mail>,
    /// Refuse this many mails with a temporary error before taking the next.
    refuse: u32,
}

impl Catcher {
    /// Listens on a free port; its threads end with the process.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("listen for mail")?;
        let address = listener.local_addr()?;
        let caught = Arc::new(Mutex::new(Caught::default()));
        let keep = caught.clone();
        std::thread::Builder::new()
            .name("smtp".into())
            .spawn(move || {
                for stream in listener.incoming().flatten() {
                    let session = Session { caught: keep.clone(), to: Vec::new(), message: Vec::new() };
                    // A conversation that is broken off is the sender's to repeat.
                    std::thread::spawn(move || drop(converse(&stream, session)));
                }
            })
            .context("start the mail server")?;
        Ok(Self { address, caught })
    }

    /// Everything caught so far, in order.
    pub fn mails(&self) -> Vec<Mail> {
        lock(&self.caught).mails.clone()
    }

    /// Waits for a mail to `recipient` whose subject or text contains `needle`.
    pub async fn mail_to(&self, recipient: &str, needle: &str, limit: Duration) -> Result<Mail> {
        let what = format!("a mail to {recipient} about {needle:?}");
        wait::until(&what, limit, || async {
            self.mails().into_iter().find(|mail| {
                mail.to.iter().any(|to| to == recipient)
                    && (mail.subject.contains(needle) || mail.text.contains(needle))
            })
        })
        .await
    }

    /// The next `count` mails are answered 451.
    pub fn refuse_next(&self, count: u32) {
        lock(&self.caught).refuse = count;
    }
}

fn lock(caught: &Mutex<Caught>) -> MutexGuard<'_, Caught> {
    caught.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The protocol's states are the library's; ours is to carry the lines.
fn converse(stream: &TcpStream, session: Session) -> io::Result<()> {
    let peer = stream.peer_addr()?.ip();
    let mut reader = BufReader::new(stream);
    let mut session = SessionBuilder::new("mail.example").build(peer, session);
    session.greeting().write_to(&mut &*stream)?;
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        let answer = session.process(&line);
        line.clear();
        match answer.action {
            Action::Reply => answer.write_to(&mut &*stream)?,
            Action::Close => return answer.write_to(&mut &*stream),
            Action::NoReply | Action::UpgradeTls => (),
        }
        (&*stream).flush()?;
    }
    Ok(())
}

struct Session {
    caught: Arc<Mutex<Caught>>,
    to: Vec<String>,
    message: Vec<u8>,
}

impl Handler for Session {
    fn mail(&mut self, _ip: IpAddr, _domain: &str, _from: &str) -> Response {
        self.to.clear();
        self.message.clear();
        let mut caught = lock(&self.caught);
        if caught.refuse > 0 {
            caught.refuse -= 1;
            return Response::custom(451, "4.3.0 Try again later".into());
        }
        response::OK
    }

    fn rcpt(&mut self, to: &str) -> Response {
        self.to.push(to.trim_matches(['<', '>']).to_owned());
        response::OK
    }

    fn data(&mut self, buffer: &[u8]) -> io::Result<()> {
        self.message.extend_from_slice(buffer);
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        let Some(message) = MessageParser::default().parse(&self.message) else {
            return Response::custom(554, "5.6.0 This is no message".into());
        };
        let mail = Mail {
            to: self.to.clone(),
            subject: message.subject().unwrap_or_default().to_owned(),
            text: message.body_text(0).unwrap_or_default().into_owned(),
            html: message.body_html(0).map(|html| html.into_owned()),
        };
        lock(&self.caught).mails.push(mail);
        response::OK
    }
}
