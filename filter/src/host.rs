//! The only calls to the host: proxy-wasm ABI 0.2.1, and three functions of WASI preview 1
//! (monotonic clock, random bytes, environment). See `docs/decisions/0001-raw-abi.md`.
//!
//! Every answer of the host is a status to be looked at, every text is bytes, and nothing here
//! panics: what a caller can send must not be able to stop the VM. On other targets than wasm32
//! all calls answer [`Status::Unimplemented`], so that the crate compiles and lints there.
#![expect(unsafe_code, reason = "the host is reached through foreign functions, which stand here alone")]

use std::ptr::null_mut;

/// What the host says of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Ok,
    /// No such key, header, property or queue.
    NotFound,
    /// An argument the host does not take: an unknown cluster, a stream that is gone.
    BadArgument,
    /// The queue is empty.
    Empty,
    /// Another writer was faster.
    CasMismatch,
    /// The host could not, e.g. a cluster without endpoints or with a full circuit breaker.
    InternalFailure,
    /// Not a host at all.
    Unimplemented,
    /// Another number than this ABI has.
    Other(u32),
}

impl From<u32> for Status {
    fn from(number: u32) -> Self {
        match number {
            0 => Self::Ok,
            1 => Self::NotFound,
            2 => Self::BadArgument,
            7 => Self::Empty,
            8 => Self::CasMismatch,
            10 => Self::InternalFailure,
            12 => Self::Unimplemented,
            other => Self::Other(other),
        }
    }
}

/// Level of a log line, as the ABI numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum LogLevel {
    /// For an operator who looks closer.
    Info = 2,
    /// Something is not as it should be, and the filter goes on.
    Warn = 3,
    /// A person should look.
    Error = 4,
}

/// Which headers or trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MapKind {
    /// Of the request.
    RequestHeaders = 0,
    /// Of the request.
    RequestTrailers = 1,
    /// Of the response.
    ResponseHeaders = 2,
    /// Of the answer to a call.
    CallHeaders = 6,
}

/// Which buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum BufferKind {
    /// Body of the request, as far as it is buffered.
    RequestBody = 0,
    /// Body of the answer to a call.
    CallBody = 4,
    /// Configuration of the plugin.
    PluginConfiguration = 7,
}

/// Kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MetricKind {
    /// Only grows.
    Counter = 0,
    /// Goes up and down.
    Gauge = 1,
}

/// Header names and values as the host gave them, in one block of its memory.
#[derive(Debug, Default)]
pub struct Pairs {
    block: Vec<u8>,
}

impl Pairs {
    /// The pairs in order. A block that is not one ends early.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let count = read_u32(&self.block, 0).unwrap_or(0) as usize;
        let mut at = count.saturating_mul(8).saturating_add(4);
        (0..count).map_while(move |i| {
            let name_len = read_u32(&self.block, 4 + i * 8)? as usize;
            let value_len = read_u32(&self.block, 8 + i * 8)? as usize;
            let name = self.block.get(at..at.checked_add(name_len)?)?;
            at += name_len + 1;
            let value = self.block.get(at..at.checked_add(value_len)?)?;
            at += value_len + 1;
            Some((name, value))
        })
    }
}

fn read_u32(block: &[u8], at: usize) -> Option<u32> {
    let bytes = block.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// Pairs in the form in which the host reads them.
fn write_pairs(pairs: &[(&str, &[u8])]) -> Vec<u8> {
    let size = pairs.iter().map(|(name, value)| name.len() + value.len() + 10).sum::<usize>() + 4;
    let mut block = Vec::with_capacity(size);
    block.extend((pairs.len() as u32).to_le_bytes());
    for (name, value) in pairs {
        block.extend((name.len() as u32).to_le_bytes());
        block.extend((value.len() as u32).to_le_bytes());
    }
    for (name, value) in pairs {
        block.extend(name.as_bytes());
        block.push(0);
        block.extend(*value);
        block.push(0);
    }
    block
}

/// Memory that the host fills for us.
struct Returned {
    data: *mut u8,
    size: usize,
}

impl Returned {
    const fn none() -> Self {
        Self { data: null_mut(), size: 0 }
    }

    fn take(self) -> Vec<u8> {
        if self.data.is_null() || self.size == 0 {
            return Vec::new();
        }
        // SAFETY: the host got this block from `malloc` below, with exactly this size and
        // alignment 1, and gives it away with the answer.
        unsafe { Vec::from_raw_parts(self.data, self.size, self.size) }
    }
}

/// Gives the host memory for what it returns; owned again by whoever reads the answer.
#[cfg_attr(target_arch = "wasm32", unsafe(no_mangle))]
pub extern "C" fn malloc(size: usize) -> *mut u8 {
    let Ok(layout) = std::alloc::Layout::array::<u8>(size.max(1)) else {
        return null_mut();
    };
    // SAFETY: the layout is not empty.
    unsafe { std::alloc::alloc(layout) }
}

/// Writes a line into Envoy's log.
pub fn log(level: LogLevel, message: &str) {
    // SAFETY: the host reads `message` within the call.
    unsafe { abi::proxy_log(level as u32, message.as_ptr(), message.len()) };
}

/// All pairs of a map in one call.
pub fn pairs(kind: MapKind) -> Result<Pairs, Status> {
    let mut out = Returned::none();
    // SAFETY: both pointers are to live variables.
    let status = unsafe { abi::proxy_get_header_map_pairs(kind as u32, &mut out.data, &mut out.size) };
    ok(status).map(|()| Pairs { block: out.take() })
}

/// The value of one header.
pub fn header(kind: MapKind, name: &[u8]) -> Result<Vec<u8>, Status> {
    let mut out = Returned::none();
    // SAFETY: the slice is read within the call, both pointers are to live variables.
    let status = unsafe {
        abi::proxy_get_header_map_value(kind as u32, name.as_ptr(), name.len(), &mut out.data, &mut out.size)
    };
    ok(status).map(|()| out.take())
}

/// Sets one header, whatever was there under that name.
pub fn set_header(kind: MapKind, name: &[u8], value: &[u8]) -> Result<(), Status> {
    // SAFETY: the host reads both slices within the call.
    ok(unsafe {
        abi::proxy_replace_header_map_value(
            kind as u32,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    })
}

/// Removes every header of a name.
pub fn remove_header(kind: MapKind, name: &[u8]) -> Result<(), Status> {
    // SAFETY: the host reads the slice within the call.
    ok(unsafe { abi::proxy_remove_header_map_value(kind as u32, name.as_ptr(), name.len()) })
}

/// A part of a buffer.
pub fn buffer(kind: BufferKind, start: usize, size: usize) -> Result<Vec<u8>, Status> {
    let mut out = Returned::none();
    // SAFETY: both pointers are to live variables.
    let status =
        unsafe { abi::proxy_get_buffer_bytes(kind as u32, start, size, &mut out.data, &mut out.size) };
    ok(status).map(|()| out.take())
}

/// A property of the stream, its parts joined by NUL.
pub fn property(path: &[u8]) -> Result<Vec<u8>, Status> {
    let mut out = Returned::none();
    // SAFETY: the slice is read within the call, both pointers are to live variables.
    let status = unsafe { abi::proxy_get_property(path.as_ptr(), path.len(), &mut out.data, &mut out.size) };
    ok(status).map(|()| out.take())
}

/// Writes filter state `wasm.<name>` for access logs.
pub fn set_property(name: &str, value: &[u8]) -> Result<(), Status> {
    // SAFETY: the host reads both slices within the call.
    ok(unsafe { abi::proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

/// A value that all workers share, and the number that a compare-and-swap names it by.
pub fn shared_data(key: &[u8]) -> Result<(Vec<u8>, u32), Status> {
    let mut out = Returned::none();
    let mut cas = 0;
    // SAFETY: the slice is read within the call, the pointers are to live variables.
    let status = unsafe {
        abi::proxy_get_shared_data(key.as_ptr(), key.len(), &mut out.data, &mut out.size, &mut cas)
    };
    ok(status).map(|()| (out.take(), cas))
}

/// Sets a shared value; `cas` 0 overwrites, another number must be the one last read. (On a key
/// that does not exist the host inserts whatever the number: see `shared.rs`.)
pub fn set_shared_data(key: &[u8], value: &[u8], cas: u32) -> Result<(), Status> {
    // SAFETY: the host reads both slices within the call.
    ok(unsafe { abi::proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) })
}

/// Registers the queue `name` for this root context and gives its number.
pub fn register_queue(name: &[u8]) -> Result<u32, Status> {
    let mut queue = 0;
    // SAFETY: the slice is read within the call, the pointer is to a live variable.
    let status = unsafe { abi::proxy_register_shared_queue(name.as_ptr(), name.len(), &mut queue) };
    ok(status).map(|()| queue)
}

/// The number of the queue `name` of the VMs `vm_id`.
pub fn resolve_queue(vm_id: &[u8], name: &[u8]) -> Result<u32, Status> {
    let mut queue = 0;
    // SAFETY: the slices are read within the call, the pointer is to a live variable.
    let status = unsafe {
        abi::proxy_resolve_shared_queue(vm_id.as_ptr(), vm_id.len(), name.as_ptr(), name.len(), &mut queue)
    };
    ok(status).map(|()| queue)
}

/// Puts an item into a queue and wakes who registered it.
pub fn enqueue(queue: u32, item: &[u8]) -> Result<(), Status> {
    // SAFETY: the host reads the slice within the call.
    ok(unsafe { abi::proxy_enqueue_shared_queue(queue, item.as_ptr(), item.len()) })
}

/// Takes an item out of a queue.
pub fn dequeue(queue: u32) -> Result<Vec<u8>, Status> {
    let mut out = Returned::none();
    // SAFETY: both pointers are to live variables.
    let status = unsafe { abi::proxy_dequeue_shared_queue(queue, &mut out.data, &mut out.size) };
    ok(status).map(|()| out.take())
}

/// Sends an HTTP call in the name of the effective context and gives its token.
pub fn http_call(
    cluster: &str,
    headers: &[(&str, &[u8])],
    body: &[u8],
    timeout_ms: u32,
) -> Result<u32, Status> {
    let headers = write_pairs(headers);
    let trailers = write_pairs(&[]);
    let mut token = 0;
    // SAFETY: the slices are read within the call, the pointer is to a live variable.
    let status = unsafe {
        abi::proxy_http_call(
            cluster.as_ptr(),
            cluster.len(),
            headers.as_ptr(),
            headers.len(),
            body.as_ptr(),
            body.len(),
            trailers.as_ptr(),
            trailers.len(),
            timeout_ms,
            &mut token,
        )
    };
    ok(status).map(|()| token)
}

/// Answers the stream of the effective context ourselves. `details` shows in access logs.
pub fn respond(
    status: u32,
    details: &str,
    headers: &[(&str, &[u8])],
    body: &[u8],
    grpc_status: Option<u32>,
) -> Result<(), Status> {
    let headers = write_pairs(headers);
    let grpc_status = grpc_status.map_or(-1, |s| s as i32);
    // SAFETY: the host reads all slices within the call.
    ok(unsafe {
        abi::proxy_send_local_response(
            status,
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            grpc_status,
        )
    })
}

/// Lets the held request of the effective context go on.
pub fn continue_request() -> Result<(), Status> {
    // SAFETY: scalars only.
    ok(unsafe { abi::proxy_continue_stream(0) })
}

/// Acts in the name of another context from here on.
pub fn act_as(context: u32) -> Result<(), Status> {
    // SAFETY: scalars only.
    ok(unsafe { abi::proxy_set_effective_context(context) })
}

/// Asks for a tick of the effective root context in each period; 0 = no more.
pub fn tick_every(millis: u32) -> Result<(), Status> {
    // SAFETY: scalars only.
    ok(unsafe { abi::proxy_set_tick_period_milliseconds(millis) })
}

/// Ends a root context whose `proxy_on_done` answered "not yet".
pub fn done() -> Result<(), Status> {
    // SAFETY: no arguments.
    ok(unsafe { abi::proxy_done() })
}

/// Names a metric and gives its number.
pub fn metric(kind: MetricKind, name: &[u8]) -> Result<u32, Status> {
    let mut id = 0;
    // SAFETY: the slice is read within the call, the pointer is to a live variable.
    let status = unsafe { abi::proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &mut id) };
    ok(status).map(|()| id)
}

/// Adds to a counter.
pub fn count(metric: u32, by: i64) {
    // SAFETY: scalars only.
    unsafe { abi::proxy_increment_metric(metric, by) };
}

/// Sets a gauge.
pub fn gauge(metric: u32, value: u64) {
    // SAFETY: scalars only.
    unsafe { abi::proxy_record_metric(metric, value) };
}

/// Nanoseconds of the wall clock since 1970, 0 if the host has none.
pub fn wall_clock_ns() -> u64 {
    let mut nanos = 0;
    // SAFETY: the pointer is to a live variable.
    unsafe { abi::proxy_get_current_time_nanoseconds(&mut nanos) };
    nanos
}

/// Nanoseconds of the machine's monotonic clock.
pub fn monotonic_ns() -> u64 {
    const MONOTONIC: u32 = 1;
    let mut nanos = 0;
    // SAFETY: the pointer is to a live variable.
    unsafe { wasi::clock_time_get(MONOTONIC, 1, &mut nanos) };
    nanos
}

/// Random bytes of the host; an error must not be answered by going on without.
pub fn random<const N: usize>() -> Result<[u8; N], Status> {
    let mut bytes = [0; N];
    // SAFETY: the pointer is to a live array of that length.
    ok(unsafe { wasi::random_get(bytes.as_mut_ptr(), N) }).map(|()| bytes)
}

/// The value of an environment variable that the VM's configuration lets through.
pub fn environment(name: &str) -> Option<Vec<u8>> {
    let (mut count, mut size) = (0_usize, 0_usize);
    // SAFETY: both pointers are to live variables.
    ok(unsafe { wasi::environ_sizes_get(&mut count, &mut size) }).ok()?;
    let mut starts = vec![null_mut::<u8>(); count];
    let mut block = vec![0_u8; size];
    // SAFETY: both arrays have the sizes that the host asked for.
    ok(unsafe { wasi::environ_get(starts.as_mut_ptr(), block.as_mut_ptr()) }).ok()?;
    block.split(|byte| *byte == 0).find_map(|entry| {
        entry.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")).map(<[u8]>::to_vec)
    })
}

/// Whether `signature` fits `text` under the public key `spki` (DER): Envoy's foreign function
/// `verify_signature`, whose arguments and answer are protobuf messages.
pub fn verify_signature(hash: &str, spki: &[u8], signature: &[u8], text: &[u8]) -> Result<bool, Status> {
    const NAME: &[u8] = b"verify_signature";
    let arguments = message(&[(1, hash.as_bytes()), (2, spki), (3, signature), (4, text)]);
    let mut out = Returned::none();
    // SAFETY: the slices are read within the call, the pointers are to live variables.
    let status = unsafe {
        abi::proxy_call_foreign_function(
            NAME.as_ptr(),
            NAME.len(),
            arguments.as_ptr(),
            arguments.len(),
            &mut out.data,
            &mut out.size,
        )
    };
    ok(status).map(|()| begins_with_true(&out.take()))
}

/// A protobuf message of strings and bytes.
fn message(fields: &[(u8, &[u8])]) -> Vec<u8> {
    /// Wire type of what is as long as it says.
    const DELIMITED: u8 = 2;
    let mut message = Vec::with_capacity(fields.iter().map(|(_, value)| value.len() + 6).sum());
    for (number, value) in fields {
        message.push(number << 3 | DELIMITED);
        let mut size = value.len();
        while size >= 0x80 {
            message.push((size & 0x7f) as u8 | 0x80);
            size >>= 7;
        }
        message.push(size as u8);
        message.extend_from_slice(value);
    }
    message
}

/// Whether the first field of a message is a true: a false is left out, and a reason may follow.
fn begins_with_true(message: &[u8]) -> bool {
    message.starts_with(&[1 << 3, 1])
}

fn ok(status: u32) -> Result<(), Status> {
    match Status::from(status) {
        Status::Ok => Ok(()),
        other => Err(other),
    }
}

macro_rules! foreign {
    ($module:ident from $import:literal { $(fn $name:ident($($arg:ident: $type:ty),* $(,)?) -> u32;)* }) => {
        mod $module {
            #[cfg(target_arch = "wasm32")]
            #[link(wasm_import_module = $import)]
            unsafe extern "C" {
                $(pub fn $name($($arg: $type),*) -> u32;)*
            }

            $(
                #[cfg(not(target_arch = "wasm32"))]
                #[allow(clippy::too_many_arguments, reason = "the host's signature, of some")]
                pub unsafe fn $name($(_: $type),*) -> u32 {
                    12
                }
            )*
        }
    };
}

foreign! { abi from "env" {
    fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
    fn proxy_get_header_map_pairs(kind: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_header_map_value(
        kind: u32, name: *const u8, name_size: usize, data: *mut *mut u8, size: *mut usize,
    ) -> u32;
    fn proxy_replace_header_map_value(
        kind: u32, name: *const u8, name_size: usize, value: *const u8, value_size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(kind: u32, name: *const u8, name_size: usize) -> u32;
    fn proxy_get_buffer_bytes(
        kind: u32, start: usize, max: usize, data: *mut *mut u8, size: *mut usize,
    ) -> u32;
    fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;
    fn proxy_get_shared_data(
        key: *const u8, key_size: usize, data: *mut *mut u8, size: *mut usize, cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(
        key: *const u8, key_size: usize, value: *const u8, value_size: usize, cas: u32,
    ) -> u32;
    fn proxy_register_shared_queue(name: *const u8, name_size: usize, queue: *mut u32) -> u32;
    fn proxy_resolve_shared_queue(
        vm: *const u8, vm_size: usize, name: *const u8, name_size: usize, queue: *mut u32,
    ) -> u32;
    fn proxy_enqueue_shared_queue(queue: u32, item: *const u8, item_size: usize) -> u32;
    fn proxy_dequeue_shared_queue(queue: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_http_call(
        cluster: *const u8, cluster_size: usize,
        headers: *const u8, headers_size: usize,
        body: *const u8, body_size: usize,
        trailers: *const u8, trailers_size: usize,
        timeout_ms: u32, token: *mut u32,
    ) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8, details_size: usize,
        body: *const u8, body_size: usize,
        headers: *const u8, headers_size: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_call_foreign_function(
        name: *const u8, name_size: usize,
        arguments: *const u8, arguments_size: usize,
        data: *mut *mut u8, size: *mut usize,
    ) -> u32;
    fn proxy_continue_stream(kind: u32) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_set_tick_period_milliseconds(millis: u32) -> u32;
    fn proxy_done() -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, by: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
    fn proxy_get_current_time_nanoseconds(nanos: *mut u64) -> u32;
}}

foreign! { wasi from "wasi_snapshot_preview1" {
    fn clock_time_get(id: u32, precision: u64, nanos: *mut u64) -> u32;
    fn random_get(bytes: *mut u8, size: usize) -> u32;
    fn environ_sizes_get(count: *mut usize, size: *mut usize) -> u32;
    fn environ_get(starts: *mut *mut u8, block: *mut u8) -> u32;
}}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_as_they_are_written() {
        let written = [("a", b"1".as_slice()), ("name", b""), ("c", b"\xff\0x")];
        let pairs = Pairs { block: write_pairs(&written) };
        let read: Vec<_> = pairs.iter().collect();
        assert_eq!(read, written.map(|(name, value)| (name.as_bytes(), value)));
    }

    /// As protoc writes and reads them (`protoc --encode` of Envoy's `verify_signature.proto`).
    #[test]
    fn a_signature_is_asked_about_in_protobuf() {
        let asked = message(&[(1, b"sha256"), (2, b"\x30\x00"), (3, &[7; 256]), (4, b"")]);
        let mut expected = b"\x0a\x06sha256\x12\x02\x30\x00\x1a\x80\x02".to_vec();
        expected.extend([7; 256]);
        expected.extend(b"\x22\x00");
        assert_eq!(asked, expected);
        let long = message(&[(4, &[1; 20_000])]);
        assert_eq!(long.get(..4), Some(&b"\x22\xa0\x9c\x01"[..]));
        assert_eq!(long.len(), 20_004);
    }

    #[test]
    fn only_a_true_is_a_correct_signature() {
        assert!(begins_with_true(b"\x08\x01"));
        assert!(begins_with_true(b"\x08\x01\x12\x00"));
        let refused: [&[u8]; 6] = [b"", b"\x08\x00", b"\x12\x05wrong", b"\x08", b"\x01", b"\x12\x02\x08\x01"];
        for answer in refused {
            assert!(!begins_with_true(answer), "{answer:?}");
        }
        // Outside of Envoy nothing is verified.
        assert_eq!(verify_signature("sha256", b"", b"", b""), Err(Status::Unimplemented));
    }

    #[test]
    fn a_block_that_is_none_ends_early() {
        for block in
            [vec![], vec![9], vec![0xff; 4], vec![0xff; 64], vec![1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]]
        {
            assert_eq!(Pairs { block }.iter().count(), 0);
        }
    }
}
