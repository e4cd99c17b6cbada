//! `keygate.wasm`: Envoy on one side, the gate on the other.
//!
//! The filter decides nothing. What it branches on is what the host returned or what
//! [`gate::gate::Gate`] told it to do. Read [`request`] first, then [`root`]; [`host`] is the ABI.
//!
//! This file is what Envoy calls. One VM runs on one thread, and the host does not call back into
//! it while it runs (what could come early is delivered after the call), so that one cell holds
//! everything.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::unreachable
)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod config;
pub mod host;
pub mod request;
pub mod root;
pub mod shared;

use std::cell::RefCell;

use gate::sorted::Sorted;
use host::LogLevel;
use request::Action;
use root::Root;
use shared::Envoy;

/// All that this VM holds.
#[derive(Default)]
struct Vm {
    roots: Sorted<u32, Root>,
    /// To which root a stream belongs.
    streams: Sorted<u32, u32>,
}

thread_local! {
    static VM: RefCell<Vm> = RefCell::default();
}

/// Runs `work` on the VM's state; None if the host called us within a call.
fn with_vm<T>(work: impl FnOnce(&mut Vm) -> T) -> Option<T> {
    VM.with(|vm| match vm.try_borrow_mut() {
        Ok(mut vm) => Some(work(&mut vm)),
        Err(_) => {
            host::log(LogLevel::Error, "keygate: the host called back within a call");
            None
        }
    })
}

/// Runs `work` on the root of a stream; None if there is none.
fn with_root_of<T>(stream: u32, work: impl FnOnce(&mut Root, &mut Envoy) -> T) -> Option<T> {
    with_vm(|vm| {
        let root = vm.roots.get_mut(vm.streams.get(&stream)?)?;
        Some(work(root, &mut Envoy::calling(stream)))
    })
    .flatten()
}

fn with_root<T>(root: u32, work: impl FnOnce(&mut Root, &mut Envoy) -> T) -> Option<T> {
    with_vm(|vm| vm.roots.get_mut(&root).map(|found| work(found, &mut Envoy::calling(root)))).flatten()
}

/// A stream without a root is held: there is nobody to decide on it.
const UNDECIDED: u32 = Action::StopAllAndWatermark as u32;

/// Names the version of the ABI.
#[cfg_attr(target_arch = "wasm32", expect(unsafe_code, reason = "an export"), unsafe(no_mangle))]
pub extern "C" fn proxy_abi_version_0_2_1() {}

/// The VM starts. There is nothing to do: a gate begins with its first request.
#[cfg_attr(target_arch = "wasm32", expect(unsafe_code, reason = "an export"), unsafe(no_mangle))]
pub extern "C" fn proxy_on_vm_start(_root: u32, _configuration_size: usize) -> u32 {
    1
}

/// A root context is configured. 0 refuses the configuration.
#[cfg_attr(target_arch = "wasm32", expect(unsafe_code, reason = "an export"), unsafe(no_mangle))]
pub extern "C" fn proxy_on_configure(root: u32, configuration_size: usize) -> u32 {
    match Root::configure(root, configuration_size) {
        Ok(configured) => with_vm(|vm| vm.roots.insert(root, configured)).map_or(0, |_| 1),
        Err(why) => {
            host::log(
                LogLevel::Error,
                &format!("keygate: the configuration of the filter is refused: {why}"),
            );
            0
        }
    }
}

/// A context begins: a root context (without parent), or a stream of one.
#[cfg_attr(target_arch = "wasm32", expect(unsafe_code, reason = "an export"), unsafe(no_mangle))]
pub extern "C" fn proxy_on_context_create(context: u32, parent: u32) {
    if parent != 0 {
        with_vm(|vm| vm.streams.insert(context, parent));
    }
}

/// The head of a request.
#[cfg_attr(target_arch = "wasm32", expect(unsafe_code, reason = "an export"), unsafe(no_mangle))]
pub extern "C" fn proxy_on_request_headers(stream: u32, _headers: u32, end_of_stream: u32) -> u32 {
    with_root_of(stream, |root, envoy| request::on_headers(root, stream, end_of_stream != 0, envoy))
        .map_or(UNDECIDED, |action| action as u32)
}

/// A piece of a request's body.
#[cfg_attr(target_arch = "wasm32", expect(unsafe_code, reason = "an export"), unsafe(no_mangle))]
pub extern "C" fn proxy_on_request_body(stream: u32, size: usize, end_of_stream: u32) -> u32 {
    with_root_of(stream, |root, envoy| request::on_body(root, stream, size, end_of_stream != 0, envoy))
        .map_or(Action::StopIteration as u32, |action| action as u32)
}

/// The trailers of a request.
#[cfg_attr(target_arch = "wasm32", expect(unsafe_code, reason = "an export"), unsafe(no_mangle))]
pub extern "C" fn proxy_on_request_trailers(stream: u32, _trailers: u32) -> u32 {
    with_root_of(stream, |root, envoy| request::on_trailers(root, stream, envoy))
        .map_or(Action::StopIteration as u32, |action| action as u32)
}

/// The head of an answer.
#[cfg_attr(target_arch = "wasm32", expect(unsafe_code, reason = "an export"), unsafe(no_mangle))]
pub extern "C" fn proxy_on_response_headers(stream: u32, _headers: u32, _end_of_stream: u32) -> u32 {
    with_root_of(stream, |root, _| request::on_answer_headers(root, stream));
    Action::Continue as u32
}

/// A tick of a root context.
#[cfg_attr(target_arch = "wasm32", expect(unsafe_code, reason = "an export"), unsafe(no_mangle))]
pub extern "C" fn proxy_on_tick(root: u32) {
    with_root(root, |root, envoy| root.tick(envoy));
    end_if_left(root);
}

/// Something is in a queue of a root context.
#[cfg_attr(target_arch = "wasm32", expect(unsafe_code, reason = "an export"), unsafe(no_mangle))]
pub extern "C" fn proxy_on_queue_ready(root: u32, queue: u32) {
    with_root(root, |root, envoy| root.wake(queue, envoy));
}

/// The answer to a call of a root context.
#[cfg_attr(target_arch = "wasm32", expect(unsafe_code, reason = "an export"), unsafe(no_mangle))]
pub extern "C" fn proxy_on_http_call_response(
    root: u32,
    token: u32,
    _headers: u32,
    body_size: usize,
    _trailers: u32,
) {
    with_root(root, |root, envoy| root.answered(token, body_size, envoy));
}

/// A context ends: a stream, or a root context that is replaced. 0: not yet, see [`end_if_left`].
#[cfg_attr(target_arch = "wasm32", expect(unsafe_code, reason = "an export"), unsafe(no_mangle))]
pub extern "C" fn proxy_on_done(context: u32) -> u32 {
    with_vm(|vm| {
        if let Some(parent) = vm.streams.remove(&context) {
            if let Some(root) = vm.roots.get_mut(&parent) {
                root.end(context, &mut Envoy::calling(context));
            }
        } else if let Some(root) = vm.roots.get_mut(&context) {
            if !root.gate.retire(&mut Envoy::calling(context), root::mono()) {
                return 0;
            }
            vm.roots.remove(&context);
        }
        1
    })
    .unwrap_or(1)
}

/// Ends a root context that was to end and has nothing more to do. Its context is the present one.
fn end_if_left(root: u32) {
    let ended = with_vm(|vm| {
        let has_left = vm.roots.get(&root).is_some_and(|found| found.gate.has_left());
        has_left && vm.roots.remove(&root).is_some()
    });
    if ended == Some(true) && host::done().is_err() {
        host::log(LogLevel::Warn, "keygate: the host does not end a root context that has left");
    }
}
