//! Envoy's shared data, and the caller's address, as the gate asks for them.

use gate::gate::{Host, Signature, StreamId};
use gate::shared::{CREATE, Cas, CasMismatch, Shared};

use crate::host::{self, LogLevel, Status};

/// The host, with the context in whose name it is asked.
pub struct Envoy {
    context: u32,
}

impl Envoy {
    /// The host calls us in the name of `context`.
    pub fn calling(context: u32) -> Self {
        Self { context }
    }

    /// In whose name we act.
    pub fn context(&self) -> u32 {
        self.context
    }

    /// Acts in the name of another context from here on. `false`: it is gone.
    pub fn act_as(&mut self, context: u32) -> bool {
        if self.context != context {
            if host::act_as(context).is_err() {
                return false;
            }
            self.context = context;
        }
        true
    }
}

impl Shared for Envoy {
    fn get(&mut self, key: &[u8]) -> Option<(Vec<u8>, Cas)> {
        host::shared_data(key).ok().map(|(value, cas)| (value, Cas(cas)))
    }

    fn set(&mut self, key: &[u8], value: &[u8], cas: Cas) -> Result<(), CasMismatch> {
        host::set_shared_data(key, value, cas.0).map_err(|_: Status| CasMismatch)
    }

    fn create(&mut self, key: &[u8], value: &[u8]) -> Result<(), CasMismatch> {
        // Number 0 would overwrite what another worker has created in between; a number that
        // cannot match inserts where there is nothing and fails where there is something.
        host::set_shared_data(key, value, CREATE.0).map_err(|_: Status| CasMismatch)
    }
}

impl Host for Envoy {
    fn source(&mut self, stream: StreamId) -> String {
        let before = self.context;
        if !self.act_as(stream.0) {
            return String::new();
        }
        let address = host::property(b"source\0address").unwrap_or_default();
        self.act_as(before);
        String::from_utf8(address).unwrap_or_default()
    }

    fn verify_rs256(&mut self, spki: &[u8], signature: &[u8], text: &[u8]) -> Signature {
        match host::verify_signature("sha256", spki, signature, text) {
            Ok(true) => Signature::Correct,
            Ok(false) => Signature::Incorrect,
            Err(status) => {
                host::log(LogLevel::Error, &format!("keygate: Envoy cannot verify a token: {status:?}"));
                Signature::Unchecked
            }
        }
    }
}
