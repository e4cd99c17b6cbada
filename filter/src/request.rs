//! A request's stream: what the host has of it goes to the gate, what the gate says is done.

use gate::gate::{Admission, BodyStep, Step, StreamId};
use gate::request::{RequestHead, is_identity_header};

use crate::host::{self, BufferKind, LogLevel, MapKind, Pairs};
use crate::root::{Root, mono, now};
use crate::shared::Envoy;

/// What a stream callback returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Action {
    /// Go on.
    Continue = 0,
    /// Hold this; what follows still arrives here. (On headers this needs
    /// `allow_on_headers_stop_iteration`, or the body never comes.)
    StopIteration = 1,
    /// Hold everything, and let the sender feel it: an upload of any size waits so.
    StopAllAndWatermark = 4,
}

/// A piece of the body is read at a time: wasm memory never shrinks.
const BODY_WINDOW: usize = 64 << 10;
/// Header of the test build that makes the VM trap.
#[cfg(feature = "trap")]
const TRAP_HEADER: &str = "x-keygate-test-trap";

/// The head of a request is here.
pub fn on_headers(root: &mut Root, stream: u32, end_of_stream: bool, envoy: &mut Envoy) -> Action {
    let Ok(pairs) = host::pairs(MapKind::RequestHeaders) else {
        host::log(LogLevel::Error, "keygate: the headers of a request cannot be read");
        respond(&root.gate.refuse_unreadable(StreamId(stream), envoy, now()));
        return Action::StopAllAndWatermark;
    };
    let head = read_head(&pairs, end_of_stream);
    #[cfg(feature = "trap")]
    if head.values(TRAP_HEADER).next().is_some() {
        keygate_test_trap();
    }
    let step = root.gate.handle_request(StreamId(stream), &head, None, envoy, now());
    let action = match step {
        Step::Admit(admission) => {
            admit(&admission);
            root.keep_answer_headers(stream, admission);
            Action::Continue
        }
        Step::Respond(response) => {
            respond(&response);
            Action::StopAllAndWatermark
        }
        Step::Wait => Action::StopAllAndWatermark,
        // The body is never here together with the head.
        Step::WaitForBody | Step::ReadBody => Action::StopIteration,
    };
    if matches!(action, Action::StopAllAndWatermark | Action::StopIteration) && end_of_stream {
        root.remember_end(stream);
    }
    root.carry_out(envoy);
    action
}

/// A piece of the body is here: `size` bytes so far.
pub fn on_body(root: &mut Root, stream: u32, size: usize, complete: bool, envoy: &mut Envoy) -> Action {
    match root.gate.handle_body(StreamId(stream), size, complete) {
        BodyStep::Pass => Action::Continue,
        BodyStep::Hold => Action::StopIteration,
        BodyStep::Decide => on_complete(root, stream, envoy),
    }
}

/// Trailers are here; the body is complete with them.
pub fn on_trailers(root: &mut Root, stream: u32, envoy: &mut Envoy) -> Action {
    strip_trailers();
    match root.gate.handle_trailers(StreamId(stream)) {
        BodyStep::Pass => Action::Continue,
        BodyStep::Hold => Action::StopIteration,
        BodyStep::Decide => on_complete(root, stream, envoy),
    }
}

fn on_complete(root: &mut Root, stream: u32, envoy: &mut Envoy) -> Action {
    let action = match decide(root, stream, envoy) {
        Step::Admit(admission) => {
            admit(&admission);
            root.keep_answer_headers(stream, admission);
            Action::Continue
        }
        Step::Respond(response) => {
            respond(&response);
            Action::StopIteration
        }
        Step::Wait | Step::WaitForBody | Step::ReadBody => Action::StopIteration,
    };
    root.carry_out(envoy);
    action
}

/// What a held stream waited for is here, or will not come. The host acts in its name.
pub fn decide_again(root: &mut Root, stream: u32, envoy: &mut Envoy) {
    match decide(root, stream, envoy) {
        Step::Admit(admission) => {
            admit(&admission);
            root.keep_answer_headers(stream, admission);
            if host::continue_request().is_err() {
                host::log(LogLevel::Error, "keygate: a held request cannot go on");
            }
        }
        Step::Respond(response) => respond(&response),
        Step::Wait | Step::WaitForBody | Step::ReadBody => {}
    }
}

/// Has the gate decide a held stream, with its body if it asks for it.
fn decide(root: &mut Root, stream: u32, envoy: &mut Envoy) -> Step {
    let Ok(pairs) = host::pairs(MapKind::RequestHeaders) else {
        // The host has taken the stream down.
        root.gate.handle_end(StreamId(stream), mono());
        return Step::Wait;
    };
    let head = read_head(&pairs, root.has_ended(stream));
    let step = root.gate.handle_request(StreamId(stream), &head, None, envoy, now());
    if step != Step::ReadBody {
        return step;
    }
    let mut body = std::mem::take(&mut root.body);
    read_body(&mut body);
    let step = root.gate.handle_request(StreamId(stream), &head, Some(&body), envoy, now());
    body.clear();
    body.shrink_to(BODY_WINDOW);
    root.body = body;
    step
}

fn read_body(body: &mut Vec<u8>) {
    body.clear();
    while let Ok(window) = host::buffer(BufferKind::RequestBody, body.len(), BODY_WINDOW) {
        body.extend_from_slice(&window);
        if window.len() < BODY_WINDOW {
            break;
        }
    }
}

fn read_head(pairs: &Pairs, end_of_stream: bool) -> RequestHead<'_> {
    let mut head = RequestHead { end_of_stream, ..RequestHead::default() };
    head.headers.reserve(16);
    for (name, value) in pairs.iter() {
        match name {
            b":method" => head.method = value,
            b":path" => head.path = value,
            b":authority" => head.host = value,
            _ => head.headers.push((name, value)),
        }
    }
    head
}

/// Names of the headers by which the API behind learns who calls.
const CLIENT_HEADER: &[u8] = b"x-keygate-client-id";
const CREDENTIAL_HEADER: &[u8] = b"x-keygate-credential";
const GROUPS_HEADER: &[u8] = b"x-keygate-groups";

fn admit(admission: &Admission) {
    for name in &admission.remove {
        if host::remove_header(MapKind::RequestHeaders, name).is_err() {
            host::log(LogLevel::Error, "keygate: a header cannot be removed");
        }
    }
    if let Some(identity) = &admission.identity {
        let set = |name, value: &str| host::set_header(MapKind::RequestHeaders, name, value.as_bytes());
        let groups = identity.groups.as_ref().map_or(Ok(()), |groups| set(GROUPS_HEADER, groups));
        if set(CLIENT_HEADER, &identity.client)
            .and(set(CREDENTIAL_HEADER, &identity.credential))
            .and(groups)
            .is_err()
        {
            host::log(LogLevel::Error, "keygate: the identity headers cannot be set");
        }
        // Access logs read these: %FILTER_STATE(wasm.keygate_client:PLAIN)%. Nothing depends on them.
        let _ = host::set_property("keygate_client", identity.client.as_bytes());
        let _ = host::set_property("keygate_credential", identity.credential.as_bytes());
    }
    if let Some(api) = &admission.api {
        let _ = host::set_property("keygate_api", api.uid.as_str().as_bytes());
    }
}

fn respond(response: &gate::denial::Response) {
    let headers: Vec<(&str, &[u8])> =
        response.headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    if let Some(decision) = &response.decision {
        // As above; with it `keygate explain` says what led to the refusal.
        let _ = host::set_property("keygate_decision", decision.as_bytes());
    }
    if let Some(client) = &response.client {
        let _ = host::set_property("keygate_client", client.as_str().as_bytes());
    }
    if let Some(api) = &response.api {
        let _ = host::set_property("keygate_api", api.as_str().as_bytes());
    }
    let details = format!("keygate_{}", response.code);
    let sent = host::respond(
        u32::from(response.status),
        &details,
        &headers,
        response.body.as_bytes(),
        response.grpc_status,
    );
    if sent.is_err() {
        host::log(LogLevel::Error, "keygate: a refusal cannot be sent; the request stays held");
    }
}

/// Trailers that could be read as ours go, whoever sent them.
fn strip_trailers() {
    let Ok(pairs) = host::pairs(MapKind::RequestTrailers) else { return };
    for (name, _) in pairs.iter().filter(|(name, _)| is_identity_header(name)) {
        if host::remove_header(MapKind::RequestTrailers, name).is_err() {
            host::log(LogLevel::Error, "keygate: a trailer cannot be removed");
        }
    }
}

/// The headers of an answer pass: those that the gate wants added are.
pub fn on_answer_headers(root: &mut Root, stream: u32) {
    if !root.gate.knows(StreamId(stream)) {
        return;
    }
    let status = host::header(MapKind::ResponseHeaders, b":status").unwrap_or_default();
    root.gate.handle_answer_head(StreamId(stream), &status);
    for (name, value) in root.take_answer_headers(stream) {
        if host::set_header(MapKind::ResponseHeaders, name.as_bytes(), value.as_bytes()).is_err() {
            host::log(LogLevel::Warn, "keygate: a RateLimit header cannot be set");
        }
    }
}

/// Exported, so that a look at a file tells which build it is.
#[cfg(feature = "trap")]
#[cfg_attr(target_arch = "wasm32", expect(unsafe_code, reason = "an export"), unsafe(no_mangle))]
extern "C" fn keygate_test_trap() {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
}
