//! A line between two processes that can be cut or go silent: bytes pass as they are.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A running line; its tasks live as long as the runtime.
#[derive(Clone)]
pub struct Line {
    /// Where it listens.
    pub address: SocketAddr,
    cuts: watch::Sender<u64>,
    silent: watch::Sender<bool>,
}

impl Line {
    /// Forwards to `server` (`host:port`).
    pub async fn start(server: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen as a line")?;
        let line = Self {
            address: listener.local_addr()?,
            cuts: watch::Sender::new(0),
            silent: watch::Sender::new(false),
        };
        let (server, cuts, silent) = (server.to_owned(), line.cuts.clone(), line.silent.clone());
        tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                let (server, mut cut, silent) = (server.clone(), cuts.subscribe(), silent.clone());
                tokio::spawn(async move {
                    // Whichever ends first ends both; a cut ends them whatever they do.
                    tokio::select! {
                        _ = cut.changed() => {}
                        ended = connection(caller, &server, &silent) => drop(ended),
                    }
                });
            }
        });
        Ok(line)
    }

    /// Breaks off every connection that is open now; new ones pass.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Nothing passes, in either direction, until [`Line::speak`]; connections stay open.
    pub fn fall_silent(&self) {
        self.silent.send_replace(true);
    }

    /// Ends [`Line::fall_silent`]: what was said meanwhile arrives.
    pub fn speak(&self) {
        self.silent.send_replace(false);
    }
}

async fn connection(caller: TcpStream, server: &str, silent: &watch::Sender<bool>) -> Result<()> {
    let server = TcpStream::connect(server).await?;
    caller.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_caller, to_caller) = caller.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        ended = pass(from_caller, to_server, silent) => ended,
        ended = pass(from_server, to_caller, silent) => ended,
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, silent: &watch::Sender<bool>) -> Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        silent.subscribe().wait_for(|silent| !silent).await.context("the line is gone")?;
        to.write_all(buffer.get(..count).unwrap_or_default()).await?;
    }
}
