//! The least a key filter does, on the proxy-wasm SDK: hash the X-Api-Key, find it, take one
//! unit from a shared counter by compare-and-swap, name the client upstream. No directory, no
//! policy, no leases: it is the lower bound of what the SDK costs, for `cargo xtask bench`. Without
//! a key in its configuration it lets everything pass, which is what the SDK costs by itself.
#![expect(missing_docs, reason = "the SDK's macro exports functions without")]

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, Status};
use sha2::{Digest, Sha256};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Warn);
    proxy_wasm::set_root_context(|_| Box::new(Root { known: None }));
}}

struct Root {
    /// SHA-256 of the one key that is let in: the plugin's configuration. None: everything is.
    known: Option<[u8; 32]>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        self.known = self.get_plugin_configuration().map(|key| Sha256::digest(&key).into());
        true
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Request { known: self.known }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Request {
    known: Option<[u8; 32]>,
}

impl Context for Request {}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let Some(known) = self.known else { return Action::Continue };
        let presented = self.get_http_request_header_bytes("x-api-key").unwrap_or_default();
        let digest: [u8; 32] = Sha256::digest(&presented).into();
        if digest != known || !self.take_a_unit() {
            self.send_http_response(401, vec![], None);
            return Action::Pause;
        }
        self.set_http_request_header("x-keygate-client-id", Some("baseline"));
        Action::Continue
    }
}

impl Request {
    fn take_a_unit(&self) -> bool {
        loop {
            let (value, cas) = self.get_shared_data("baseline:units");
            let used = value.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
            match self.set_shared_data("baseline:units", Some(&(used + 1).to_le_bytes()), cas) {
                Ok(()) => return true,
                Err(Status::CasMismatch) => {}
                Err(_) => return false,
            }
        }
    }
}
