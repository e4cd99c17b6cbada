//! Lets every request pass, on the proxy-wasm ABI 0.2.1 without an SDK: what is left of a filter's
//! costs when it does nothing, for `cargo xtask bench`.
#![expect(unsafe_code, reason = "what the host calls is exported by name")]

/// The ABI's version, told by being there.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_abi_version_0_2_1() {}

/// Room for what the host hands over; nothing here reads it.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    Box::leak(vec![0; size].into_boxed_slice()).as_mut_ptr()
}

/// A root or a stream begins.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_context_create(_context: u32, _parent: u32) {}

/// Ready.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_vm_start(_root: u32, _bytes: usize) -> u32 {
    1
}

/// Whatever it is.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_configure(_root: u32, _bytes: usize) -> u32 {
    1
}

/// Go on.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_request_headers(_stream: u32, _headers: u32, _end: u32) -> u32 {
    0
}

/// Nothing is left to do.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_done(_context: u32) -> u32 {
    1
}

/// A root or a stream is gone.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_delete(_context: u32) {}
