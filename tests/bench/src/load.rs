//! Calls over HTTP/1.1 with keep-alive, from threads of their own: each as soon as the one before is
//! answered, or at a steady rate whatever the answers do.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use e2e::client::{Body, Call};
use e2e::wait;
use hdrhistogram::Histogram;

/// No answer may take longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// When calls are made.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// Each connection has one under way at any time.
    Saturated,
    /// So many a second over all connections. One that is late counts from when it was due, so that
    /// a server that stalls is not asked less and thereby looks better.
    PerSecond(f64),
}

/// Calls to one address.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where to.
    pub address: SocketAddr,
    /// From which address of this host; none: whichever the system takes.
    pub from: Option<IpAddr>,
    /// Made by turns.
    pub calls: Vec<Vec<u8>>,
    /// How many connections, a thread each.
    pub connections: usize,
    /// For how long.
    pub lasts: Duration,
    /// How fast.
    pub pace: Pace,
}

/// What a load brought.
#[derive(Debug)]
pub struct Taken {
    /// Answers by status.
    pub statuses: Vec<(u16, u64)>,
    /// From the call, or when it was due, to the end of its answer, in nanoseconds.
    pub latency: Histogram<u64>,
    /// How long it took in all.
    pub took: Duration,
}

impl Taken {
    /// Answers, whatever they were.
    pub fn answers(&self) -> u64 {
        self.latency.len()
    }

    /// How many had this status.
    pub fn of(&self, status: u16) -> u64 {
        self.statuses.iter().filter(|(one, _)| *one == status).map(|(_, count)| count).sum()
    }

    /// Answers a second.
    pub fn rate(&self) -> f64 {
        self.answers() as f64 / self.took.as_secs_f64()
    }

    /// Microseconds within which that share of the calls was answered.
    pub fn quantile_us(&self, share: f64) -> f64 {
        self.latency.value_at_quantile(share) as f64 / 1_000.0
    }

    fn merge(&mut self, other: Self) {
        for (status, count) in other.statuses {
            self.count(status, count);
        }
        self.latency += other.latency;
    }

    fn count(&mut self, status: u16, count: u64) {
        match self.statuses.iter_mut().find(|(one, _)| *one == status) {
            Some((_, known)) => *known += count,
            None => self.statuses.push((status, count)),
        }
    }

    fn nothing() -> Result<Self> {
        let most = PATIENCE.as_nanos() as u64;
        let latency = Histogram::new_with_max(most, 3).context("a histogram of three digits")?;
        Ok(Self { statuses: Vec::new(), latency, took: Duration::ZERO })
    }
}

/// A call as it goes over the wire.
pub fn wire(call: &Call) -> Vec<u8> {
    let body: &[u8] = match &call.body {
        Body::Whole(body) => body,
        Body::None | Body::Pieces { .. } => b"",
    };
    let mut bytes = format!("{} {} HTTP/1.1\r\nhost: bench.example\r\n", call.method, call.path).into_bytes();
    for (name, value) in &call.headers {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
    if !body.is_empty() {
        bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

impl Load {
    /// Makes the calls.
    pub fn run(&self) -> Result<Taken> {
        let next = AtomicU64::new(0);
        let started = wait::now();
        let mut total = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..self.connections).map(|_| scope.spawn(|| self.connection(&next))).collect();
            let mut total = Taken::nothing()?;
            for thread in threads {
                total.merge(thread.join().map_err(|_| anyhow::anyhow!("a connection panicked"))??);
            }
            anyhow::Ok(total)
        })?;
        total.took = started.elapsed();
        Ok(total)
    }

    fn connection(&self, next: &AtomicU64) -> Result<Taken> {
        let mut taken = Taken::nothing()?;
        let mut stream = None;
        let mut buffer = Vec::with_capacity(16 * 1024);
        let started = wait::now();
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let begun = match self.pace {
                Pace::Saturated => wait::now(),
                Pace::PerSecond(rate) => {
                    let due = started + Duration::from_secs_f64(n as f64 / rate);
                    match due.checked_duration_since(wait::now()) {
                        // What the system oversleeps is not the server's.
                        Some(early) => {
                            std::thread::sleep(early);
                            wait::now()
                        }
                        None => due,
                    }
                }
            };
            if begun.duration_since(started) >= self.lasts {
                return Ok(taken);
            }
            let mut open = match stream.take() {
                Some(open) => open,
                None => self.open()?,
            };
            let call = &self.calls[n as usize % self.calls.len()];
            open.write_all(call).context("send a call")?;
            let answer = read_answer(&mut open, &mut buffer)?;
            taken.latency.saturating_record(begun.elapsed().as_nanos() as u64);
            taken.count(answer.status, 1);
            if !answer.closes {
                stream = Some(open);
            }
        }
    }

    fn open(&self) -> Result<TcpStream> {
        let socket = match self.from {
            Some(from) => connect_from(from, self.address)?,
            None => {
                TcpStream::connect(self.address).with_context(|| format!("connect to {}", self.address))?
            }
        };
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    }
}

/// The standard library binds no socket before it connects.
fn connect_from(from: IpAddr, to: SocketAddr) -> Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into()).with_context(|| format!("bind {from}"))?;
    socket.connect(&to.into()).with_context(|| format!("connect to {to} from {from}"))?;
    Ok(socket.into())
}

struct Answer {
    status: u16,
    /// The connection takes no further call.
    closes: bool,
}

/// Reads one answer with a `content-length`, or without a body.
fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Answer> {
    buffer.clear();
    let mut piece = [0; 16 * 1024];
    loop {
        let read = stream.read(&mut piece).context("wait for an answer")?;
        if read == 0 {
            bail!("the connection ended in the middle of an answer");
        }
        buffer.extend_from_slice(&piece[..read]);
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut headers);
        if let httparse::Status::Complete(head_bytes) = head.parse(buffer).context("read an answer")? {
            let status = head.code.context("an answer without a status")?;
            let mut answer = Answer { status, closes: false };
            let mut body = 0;
            for header in head.headers.iter() {
                let value = std::str::from_utf8(header.value).unwrap_or_default();
                if header.name.eq_ignore_ascii_case("content-length") {
                    body = value.parse().context("an answer's content-length")?;
                }
                answer.closes |= header.name.eq_ignore_ascii_case("connection") && value == "close";
            }
            let missing = (head_bytes + body).saturating_sub(buffer.len());
            if missing > 0 {
                std::io::copy(&mut stream.take(missing as u64), &mut std::io::sink())?;
            }
            return Ok(answer);
        }
    }
}
