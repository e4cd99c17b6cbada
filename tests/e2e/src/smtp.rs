//! A mail server that keeps what it is given, or fails as told: the conversation is real SMTP.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use mail_parser::MessageParser;
use mailin::{Action, Handler, Response, SessionBuilder, response};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

use crate::wait;

/// Connections that wait to be taken.
const BACKLOG: u32 = 64;

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
    /// The `Message-ID`: the same for a mail that is sent again.
    pub id: String,
}

impl Mail {
    /// What follows `label` on a line of its own.
    pub fn value_of(&self, label: &str) -> Result<String> {
        let line = self.text.lines().find_map(|line| line.strip_prefix(label));
        let value = line.with_context(|| format!("a line `{label}…` in {}", self.text))?;
        Ok(value.trim().to_owned())
    }
}

/// How a server fails.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Where in the conversation.
    pub at: At,
    /// What it does there.
    pub does: Does,
    /// Only with mails to this recipient; none: with all.
    pub only: Option<&'static str>,
}

/// Where in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Before its first word.
    Greeting,
    /// At `RCPT TO`.
    Recipient,
    /// After the mail's last dot: it has the mail, unless it says no.
    Message,
}

/// What goes wrong there.
#[derive(Clone, Copy, Debug)]
pub enum Does {
    /// It answers so.
    Says(u16, &'static str),
    /// It falls silent until the other side has had enough.
    Hangs,
    /// It closes the connection without a word.
    HangsUp,
}

impl Fault {
    /// With all mails.
    pub fn new(at: At, does: Does) -> Self {
        Self { at, does, only: None }
    }

    /// With mails to this recipient alone.
    pub fn only(self, recipient: &'static str) -> Self {
        Self { only: Some(recipient), ..self }
    }
}

/// The catcher and what it caught.
#[derive(Clone)]
pub struct Catcher {
    /// Where it listens.
    pub address: SocketAddr,
    caught: Arc<Mutex<Caught>>,
    /// Who takes connections; none: it is dead.
    listening: Arc<Mutex<Option<JoinHandle<()>>>>,
    /// Keeps the port ours while nobody listens there.
    _place: Arc<TcpSocket>,
}

#[derive(Default)]
struct Caught {
    mails: Vec<Mail>,
    fault: Option<Fault>,
    before_accepting: Option<Errand>,
}

/// What is done once, before a mail is accepted.
type Errand = Box<dyn FnOnce() + Send>;

impl Catcher {
    /// Listens on a free port until the runtime ends.
    pub fn start() -> Result<Self> {
        let place = bound(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let address = place.local_addr()?;
        let catcher =
            Self { address, caught: Arc::default(), listening: Arc::default(), _place: Arc::new(place) };
        catcher.listen()?;
        Ok(catcher)
    }

    /// From now on nobody listens: connections are refused.
    pub async fn dies(&self) {
        let listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(listening) = listening {
            listening.abort();
            // Only what has ended has let go of its socket.
            drop(listening.await);
        }
    }

    /// Ends [`Catcher::dies`], at the same address.
    pub fn listen(&self) -> Result<()> {
        let listener = bound(self.address)?.listen(BACKLOG).context("listen for mail")?;
        let taking = tokio::spawn(take(listener, self.caught.clone()));
        *self.listening.lock().unwrap_or_else(PoisonError::into_inner) = Some(taking);
        Ok(())
    }

    /// From the next conversation on it fails like this; none: no longer.
    pub fn turns(&self, fault: Option<Fault>) {
        lock(&self.caught).fault = fault;
    }

    /// Runs `errand` once: when the next mail is there, before the sender is told that it is accepted.
    pub fn before_accepting(&self, errand: impl FnOnce() + Send + 'static) {
        lock(&self.caught).before_accepting = Some(Box::new(errand));
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
}

fn bound(address: SocketAddr) -> Result<TcpSocket> {
    let socket = TcpSocket::new_v4().context("make a socket for mail")?;
    // So that the one that keeps the place and the one that listens can share it.
    socket.set_reuseaddr(true)?;
    socket.bind(address).with_context(|| format!("bind {address} for mail"))?;
    Ok(socket)
}

async fn take(listener: TcpListener, caught: Arc<Mutex<Caught>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let caught = caught.clone();
        let talk = move || -> io::Result<()> {
            let stream = stream.into_std()?;
            stream.set_nonblocking(false)?;
            converse(&stream, caught)
        };
        // A conversation that is broken off is the sender's to repeat.
        std::thread::spawn(move || drop(talk()));
    }
}

fn lock(caught: &Mutex<Caught>) -> MutexGuard<'_, Caught> {
    caught.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The protocol's states are the library's; ours is to carry the lines, and to fail.
fn converse(stream: &TcpStream, caught: Arc<Mutex<Caught>>) -> io::Result<()> {
    let peer = stream.peer_addr()?.ip();
    let mut reader = BufReader::new(stream);
    let (fault, stuck) = (lock(&caught).fault, Arc::new(Mutex::new(None)));
    let session = Session { caught, fault, stuck: stuck.clone(), to: Vec::new(), message: Vec::new() };
    if let Some(does) = session.fault_at(At::Greeting) {
        return match does {
            Does::Says(code, text) => Response::custom(code, text.into()).write_to(&mut &*stream),
            Does::Hangs | Does::HangsUp => fall_silent(does, &mut reader),
        };
    }
    let mut session = SessionBuilder::new("mail.example").build(peer, session);
    session.greeting().write_to(&mut &*stream)?;
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        let answer = session.process(&line);
        line.clear();
        if let Some(does) = stuck.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return fall_silent(does, &mut reader);
        }
        match answer.action {
            Action::Reply => answer.write_to(&mut &*stream)?,
            Action::Close => return answer.write_to(&mut &*stream),
            Action::NoReply | Action::UpgradeTls => (),
        }
        (&*stream).flush()?;
    }
    Ok(())
}

/// The end of a conversation in which nothing more is said.
fn fall_silent(does: Does, reader: &mut BufReader<&TcpStream>) -> io::Result<()> {
    if matches!(does, Does::Hangs) {
        io::copy(reader, &mut io::sink())?;
    }
    Ok(())
}

struct Session {
    caught: Arc<Mutex<Caught>>,
    fault: Option<Fault>,
    /// Set when nothing more is to be said.
    stuck: Arc<Mutex<Option<Does>>>,
    to: Vec<String>,
    message: Vec<u8>,
}

impl Session {
    fn fault_at(&self, at: At) -> Option<Does> {
        let fault = self.fault.filter(|fault| fault.at == at)?;
        fault.only.is_none_or(|only| self.to.iter().any(|to| to == only)).then_some(fault.does)
    }

    /// The answer at a place of the conversation, or none if the server fails there without one.
    fn answer(&self, at: At) -> Response {
        match self.fault_at(at) {
            Some(Does::Says(code, text)) => Response::custom(code, text.into()),
            Some(does) => {
                *self.stuck.lock().unwrap_or_else(PoisonError::into_inner) = Some(does);
                response::OK
            }
            None => response::OK,
        }
    }
}

impl Handler for Session {
    fn mail(&mut self, _ip: IpAddr, _domain: &str, _from: &str) -> Response {
        self.to.clear();
        self.message.clear();
        response::OK
    }

    fn rcpt(&mut self, to: &str) -> Response {
        self.to.push(to.trim_matches(['<', '>']).to_owned());
        self.answer(At::Recipient)
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
            id: message.message_id().unwrap_or_default().to_owned(),
        };
        let answer = self.answer(At::Message);
        if !matches!(self.fault_at(At::Message), Some(Does::Says(..))) {
            let mut caught = lock(&self.caught);
            caught.mails.push(mail);
            if let Some(errand) = caught.before_accepting.take() {
                errand();
            }
        }
        answer
    }
}
