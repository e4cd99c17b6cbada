//! Requests with keys that nobody has, each with another one, as many as can be: written by hand, because a
//! client that reads answers properly takes the machine from those whom the flood is to hit.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::wait;

/// An answer that takes longer does not come.
const SILENCE: Duration = Duration::from_secs(30);

/// What a flood brought.
#[derive(Clone, Debug, Default)]
pub struct Flood {
    /// Requests that were answered.
    pub sent: u64,
    /// Answers by status.
    pub answers: BTreeMap<u16, u64>,
}

/// Calls one after the other for `duration`, over one connection from each of `sources` to one of
/// `addresses` in turn, all together no more often than `per_s` a second. With `known`
/// all present that key, to compare.
pub async fn run(
    addresses: &[SocketAddr],
    sources: &[IpAddr],
    path: &str,
    known: Option<&str>,
    per_s: u64,
    duration: Duration,
) -> Result<Flood> {
    let pause = Duration::from_secs(1) * u32::try_from(sources.len())? / u32::try_from(per_s)?;
    let mut callers = Vec::new();
    for (number, (source, address)) in sources.iter().zip(addresses.iter().cycle()).enumerate() {
        let known = known.map(str::to_owned);
        let caller = calls(*source, *address, path.to_owned(), known, number, pause, duration);
        callers.push(tokio::spawn(caller));
    }
    let mut flood = Flood::default();
    for caller in callers {
        for (status, count) in caller.await.context("a flood's caller")?? {
            flood.sent += count;
            *flood.answers.entry(status).or_default() += count;
        }
    }
    Ok(flood)
}

async fn calls(
    source: IpAddr,
    address: SocketAddr,
    path: String,
    known: Option<String>,
    caller: usize,
    pause: Duration,
    duration: Duration,
) -> Result<BTreeMap<u16, u64>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source, 0)).context("a source on loopback")?;
    let mut stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    let (began, mut answers, mut buffer) = (wait::now(), BTreeMap::new(), vec![0; 16 * 1024]);
    let mut ticks = tokio::time::interval(pause.max(Duration::from_millis(1)));
    for number in 0_u64.. {
        if began.elapsed() >= duration {
            break;
        }
        ticks.tick().await;
        let key = known.clone().unwrap_or_else(|| format!("{caller:08x}-0000-4000-8000-{number:012x}"));
        let request = format!("GET {path} HTTP/1.1\r\nhost: e2e\r\nx-api-key: {key}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut kept = Vec::new();
        while !is_whole(&kept) {
            let read = tokio::time::timeout(SILENCE, stream.read(&mut buffer)).await;
            let count = read.context("no answer")??;
            ensure!(count > 0, "broken off: {}", String::from_utf8_lossy(&kept));
            kept.extend_from_slice(buffer.get(..count).unwrap_or_default());
        }
        let status = std::str::from_utf8(kept.get(9..12).unwrap_or_default())?.parse().context("a status")?;
        *answers.entry(status).or_default() += 1;
    }
    Ok(answers)
}

/// Whether these are a head and all of its body.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(answer.get(..end).unwrap_or_default());
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
    answer.len() >= end + 4 + length.unwrap_or(0_usize)
}
