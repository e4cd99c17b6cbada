//! A name server on loopback that says what a test told it, over UDP.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;

/// A running name server; its task lives as long as the runtime.
pub struct NameServer {
    /// Where it listens.
    pub address: SocketAddr,
    names: Arc<Mutex<BTreeMap<String, IpAddr>>>,
}

impl NameServer {
    /// Listens on a free port.
    pub async fn start() -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.context("a name server's port")?;
        let address = socket.local_addr()?;
        let names = Arc::<Mutex<BTreeMap<String, IpAddr>>>::default();
        let known = names.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 1_500];
            while let Ok((size, peer)) = socket.recv_from(&mut buffer).await {
                let question = buffer.get(..size).unwrap_or_default();
                // What is no question gets no answer.
                let Some(answer) = answer(&known, question) else { continue };
                drop(socket.send_to(&answer, peer).await);
            }
        });
        Ok(Self { address, names })
    }

    /// From now on `name` has this address and no other.
    pub fn points(&self, name: &str, address: &str) {
        let address = address.parse().expect("an address");
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), address);
    }
}

fn answer(known: &Mutex<BTreeMap<String, IpAddr>>, question: &[u8]) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let query = question.queries.first()?.clone();
    let name = query.name().to_ascii().trim_end_matches('.').to_lowercase();
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    match known.lock().unwrap_or_else(PoisonError::into_inner).get(&name) {
        Some(address) if address.is_ipv4() == (query.query_type() == RecordType::A) => {
            answer.add_answer(Record::from_rdata(query.name().clone(), 3_600, RData::from(*address)));
        }
        Some(_) => (),
        None => answer.metadata.response_code = ResponseCode::NXDomain,
    }
    answer.add_query(query);
    answer.to_vec().ok()
}
