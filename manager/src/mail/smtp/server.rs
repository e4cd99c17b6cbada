//! An SMTP server for tests: real sockets, real TLS, and as bad a manner as a test asks for.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Where in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Greeting,
    Hello,
    Starttls,
    Handshake,
    SignIn,
    Sender,
    Recipient,
    Data,
    /// After the first line of the mail.
    Body,
    /// The answer to the mail.
    Message,
}

/// What goes wrong there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It answers this; 421 ends the conversation.
    Says(&'static str),
    /// It takes this and never answers.
    Hangs,
    /// It hangs up.
    HangsUp,
    /// It answers like another protocol.
    Babbles,
    /// It answers with a line that does not end.
    RunsOn,
    /// It answers late, but well.
    Dawdles(Duration),
    /// It answers, and says more of the same in clear: who listens on the way may do so.
    SaysMore,
}

/// How a server behaves.
#[derive(Clone, Default)]
pub struct Manner {
    /// TLS from the first byte.
    pub begins_with_tls: bool,
    /// Offers STARTTLS.
    pub starttls: bool,
    /// For both.
    pub certificate: Option<Arc<ServerConfig>>,
    /// What EHLO offers besides.
    pub offers: Vec<&'static str>,
    /// Only for who signs in like this.
    pub account: Option<(&'static str, &'static str)>,
    pub fault: Option<(At, Fault)>,
    /// The fault is for this recipient alone.
    pub only_for: Option<&'static str>,
}

impl Manner {
    pub fn accepts() -> Self {
        Self::default()
    }

    pub fn fails(at: At, fault: Fault) -> Self {
        Self { fault: Some((at, fault)), ..Self::default() }
    }

    /// With STARTTLS, certified by `authority` for 127.0.0.1.
    pub fn starttls(authority: &Authority) -> Self {
        Self { starttls: true, certificate: Some(authority.certificate(&["127.0.0.1"])), ..Self::default() }
    }
}

/// A mail that was accepted.
#[derive(Clone, Debug)]
pub struct Taken {
    pub recipient: String,
    /// The message as it was before dots were doubled.
    pub bytes: Vec<u8>,
}

#[derive(Default)]
struct Records {
    conversations: usize,
    /// Every line of every client, and whether it came in TLS.
    heard: Vec<(bool, String)>,
    taken: Vec<Taken>,
}

/// The server. Clones are the same one; it ends with the test.
#[derive(Clone)]
pub struct Server {
    pub port: u16,
    manner: Arc<Mutex<Manner>>,
    records: Arc<Mutex<Records>>,
}

trait Line: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Line for T {}
type Io = BufReader<Box<dyn Line>>;

/// What a fault leaves to be done.
enum Then {
    GoOn,
    NextLine,
    End,
}

impl Server {
    pub async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let server = Self { port, manner: Arc::new(Mutex::new(manner)), records: Arc::default() };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serving.records.lock().expect("a test's lock").conversations += 1;
                // A connection that breaks is the test's intention or the client's affair.
                let serving = serving.clone();
                tokio::spawn(async move { drop(serving.converse(stream).await) });
            }
        });
        server
    }

    pub fn turns(&self, manner: Manner) {
        *self.manner.lock().expect("a test's lock") = manner;
    }

    pub fn conversations(&self) -> usize {
        self.records.lock().expect("a test's lock").conversations
    }

    /// What clients said, and whether in TLS.
    pub fn lines(&self) -> Vec<(bool, String)> {
        self.records.lock().expect("a test's lock").heard.clone()
    }

    /// The same without TLS being told.
    pub fn said(&self) -> Vec<String> {
        self.lines().into_iter().map(|(_, line)| line).collect()
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.records.lock().expect("a test's lock").taken.clone()
    }

    /// The mails, parsed.
    pub fn mails(&self) -> Vec<mail_parser::Message<'static>> {
        let parser = mail_parser::MessageParser::default();
        self.taken().iter().map(|mail| parser.parse(&mail.bytes).expect("a mail").into_owned()).collect()
    }

    async fn converse(self, tcp: TcpStream) -> io::Result<()> {
        let manner = self.manner.lock().expect("a test's lock").clone();
        let mut io: Io = BufReader::new(Box::new(tcp));
        let mut encrypted = false;
        let mut signed_in = manner.account.is_none();
        let mut recipient = String::new();
        if manner.begins_with_tls {
            if let Then::End = misbehaves(&manner, At::Handshake, "", &mut io).await? {
                return Ok(());
            }
            io = encrypt(&manner, io).await?;
            encrypted = true;
        }
        match misbehaves(&manner, At::Greeting, "", &mut io).await? {
            Then::GoOn => io.write_all(b"220 mx.test ESMTP\r\n").await?,
            Then::NextLine => {}
            Then::End => return Ok(()),
        }
        loop {
            io.flush().await?;
            let mut line = String::new();
            if io.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_string();
            self.hears(encrypted, &line);
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            if verb == "RCPT" {
                recipient = line.trim_start_matches("RCPT TO:<").trim_end_matches('>').to_string();
            }
            let at = match verb.as_str() {
                "EHLO" => Some(At::Hello),
                "STARTTLS" => Some(At::Starttls),
                "AUTH" => Some(At::SignIn),
                "MAIL" => Some(At::Sender),
                "RCPT" => Some(At::Recipient),
                "DATA" => Some(At::Data),
                _ => None,
            };
            if let Some(at) = at {
                match misbehaves(&manner, at, &recipient, &mut io).await? {
                    Then::GoOn => {}
                    Then::NextLine => continue,
                    Then::End => return Ok(()),
                }
            }
            match verb.as_str() {
                "EHLO" => {
                    let mut offers = vec!["mx.test", "8BITMIME"];
                    offers.extend(&manner.offers);
                    if manner.starttls && !encrypted {
                        offers.push("STARTTLS");
                    }
                    let last = offers.len() - 1;
                    for (n, offer) in offers.iter().enumerate() {
                        let dash = if n == last { ' ' } else { '-' };
                        io.write_all(format!("250{dash}{offer}\r\n").as_bytes()).await?;
                    }
                }
                "STARTTLS" => {
                    io.write_all(b"220 go ahead\r\n").await?;
                    io.flush().await?;
                    if let Then::End = misbehaves(&manner, At::Handshake, "", &mut io).await? {
                        return Ok(());
                    }
                    io = encrypt(&manner, io).await?;
                    encrypted = true;
                }
                "AUTH" => {
                    signed_in = self.signs_in(&manner, encrypted, &line, &mut io).await?;
                    let answer: &[u8] =
                        if signed_in { b"235 2.7.0 welcome\r\n" } else { b"535 5.7.8 wrong\r\n" };
                    io.write_all(answer).await?;
                }
                "MAIL" if !signed_in => io.write_all(b"530 5.7.0 sign in first\r\n").await?,
                "DATA" => {
                    io.write_all(b"354 go on\r\n").await?;
                    io.flush().await?;
                    let Some(bytes) = self.reads_mail(&manner, encrypted, &recipient, &mut io).await? else {
                        return Ok(());
                    };
                    match misbehaves(&manner, At::Message, &recipient, &mut io).await? {
                        Then::GoOn => {
                            let mut records = self.records.lock().expect("a test's lock");
                            records.taken.push(Taken { recipient: recipient.clone(), bytes });
                        }
                        Then::NextLine => continue,
                        Then::End => {
                            // The mail is there; it is the answer that is lost.
                            if !matches!(manner.fault, Some((_, Fault::Says(_)))) {
                                let mut records = self.records.lock().expect("a test's lock");
                                records.taken.push(Taken { recipient: recipient.clone(), bytes });
                            }
                            return Ok(());
                        }
                    }
                    io.write_all(b"250 2.0.0 taken\r\n").await?;
                }
                "QUIT" => {
                    io.write_all(b"221 bye\r\n").await?;
                    return io.flush().await;
                }
                _ => io.write_all(b"250 fine\r\n").await?,
            }
        }
    }

    fn hears(&self, encrypted: bool, line: &str) {
        self.records.lock().expect("a test's lock").heard.push((encrypted, line.to_string()));
    }

    async fn signs_in(&self, manner: &Manner, encrypted: bool, line: &str, io: &mut Io) -> io::Result<bool> {
        let decoded = |text: &str| {
            let bytes = BASE64.decode(text.trim()).expect("Base64");
            String::from_utf8(bytes).expect("UTF-8")
        };
        let given = match line.split(' ').collect::<Vec<_>>()[..] {
            ["AUTH", "PLAIN", response] => decoded(response),
            ["AUTH", "LOGIN"] => {
                let mut given = String::new();
                for challenge in ["334 VXNlcm5hbWU6\r\n", "334 UGFzc3dvcmQ6\r\n"] {
                    io.write_all(challenge.as_bytes()).await?;
                    io.flush().await?;
                    let mut answer = String::new();
                    io.read_line(&mut answer).await?;
                    self.hears(encrypted, answer.trim_end());
                    given.push('\0');
                    given.push_str(&decoded(&answer));
                }
                given
            }
            _ => String::new(),
        };
        Ok(manner.account.is_some_and(|(user, password)| given == format!("\0{user}\0{password}")))
    }

    /// The mail up to its end; none if the fault came in between.
    async fn reads_mail(
        &self,
        manner: &Manner,
        encrypted: bool,
        recipient: &str,
        io: &mut Io,
    ) -> io::Result<Option<Vec<u8>>> {
        let mut mail = Vec::new();
        loop {
            let mut line = Vec::new();
            if io.read_until(b'\n', &mut line).await? == 0 {
                return Ok(None);
            }
            if line == b".\r\n" {
                self.hears(encrypted, ".");
                return Ok(Some(mail));
            }
            mail.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            if let Then::End = misbehaves(manner, At::Body, recipient, io).await? {
                return Ok(None);
            }
        }
    }
}

async fn encrypt(manner: &Manner, io: Io) -> io::Result<Io> {
    let config = manner.certificate.clone().expect("a certificate where TLS is spoken");
    let stream = TlsAcceptor::from(config).accept(io.into_inner()).await?;
    Ok(BufReader::new(Box::new(stream)))
}

async fn misbehaves(manner: &Manner, at: At, recipient: &str, io: &mut Io) -> io::Result<Then> {
    let Some((where_, fault)) = manner.fault else { return Ok(Then::GoOn) };
    if where_ != at || manner.only_for.is_some_and(|only| only != recipient) {
        return Ok(Then::GoOn);
    }
    match fault {
        Fault::Says(answer) => {
            io.write_all(format!("{answer}\r\n").as_bytes()).await?;
            io.flush().await?;
            Ok(if answer.starts_with("421") { Then::End } else { Then::NextLine })
        }
        Fault::Hangs => {
            // Until the client has had enough.
            io.read_to_end(&mut Vec::new()).await?;
            Ok(Then::End)
        }
        Fault::HangsUp => Ok(Then::End),
        Fault::Babbles => {
            io.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await?;
            io.flush().await?;
            Ok(Then::End)
        }
        Fault::RunsOn => {
            io.write_all(b"250 ").await?;
            io.write_all(&vec![b'x'; 1 << 16]).await?;
            io.flush().await?;
            io.read_to_end(&mut Vec::new()).await?;
            Ok(Then::End)
        }
        Fault::Dawdles(time) => {
            tokio::time::sleep(time).await;
            Ok(Then::GoOn)
        }
        Fault::SaysMore => {
            io.write_all(b"220 go ahead\r\n250-mx.test\r\n250 AUTH PLAIN\r\n").await?;
            io.flush().await?;
            Ok(Then::End)
        }
    }
}

/// Issues certificates; its own lies in a file for `smtp_ca_file`.
pub struct Authority {
    params: CertificateParams,
    key: KeyPair,
    folder: tempfile::TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let folder = tempfile::tempdir().expect("a folder");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        std::fs::write(folder.path().join("ca.pem"), pem).expect("written");
        Self { params, key, folder }
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// For a server of these names or addresses.
    pub fn certificate(&self, names: &[&str]) -> Arc<ServerConfig> {
        self.certificate_until(names, 2100)
    }

    /// That ended, or ends, with the beginning of that year.
    pub fn certificate_until(&self, names: &[&str], year: i32) -> Arc<ServerConfig> {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .expect("a certificate and its key");
        Arc::new(config)
    }
}
