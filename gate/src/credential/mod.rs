//! Credentials: their grammar and their proof.

/// Bytes of an API key or X-Api-Key at most (ours have 56 and 48).
pub const MAX_API_KEY_BYTES: usize = 255;
