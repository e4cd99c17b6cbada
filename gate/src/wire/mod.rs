//! What filter and manager say to each other: JSON over HTTP/2 below `/gateway/v1`, versioned
//! from the first day. Durations travel for everything that runs out by itself (leases, waits);
//! calendar instants only where a calendar decided them (validity, service time).
//!
//! Unknown fields are refused on the way to the manager and ignored on the way back, so that a
//! newer manager can serve an older filter. The other way round it cannot: managers are upgraded first,
//! all of them.
//!
//! What the filter reads has its variants outside (`{"known": {"grant": …}}`): a tag among the fields
//! would be read into a buffer first, and the code for that was a tenth of the filter.

pub mod changes;
pub mod decisions;
pub mod directory;
pub mod exchange;

/// Version of this contract; both sides refuse another one.
pub const WIRE_VERSION: u32 = 1;

/// Header that every answer of the manager's gateway API carries, with the value
/// [`MANAGER_MARK_VALUE`]: Envoy's own 503 is otherwise indistinguishable from the manager's.
pub const MANAGER_MARK: &str = "x-keygate-manager";
/// See [`MANAGER_MARK`].
pub const MANAGER_MARK_VALUE: &str = "1";

/// `GET`: the snapshot, a delta or 304; query `revision`.
pub const DIRECTORY_PATH: &str = "/gateway/v1/directory";
/// `GET`: the long poll; query `epoch`, `since` and `wait_ms`.
pub const CHANGES_PATH: &str = "/gateway/v1/changes";
/// `POST`: everything else in one batched call.
pub const EXCHANGE_PATH: &str = "/gateway/v1/exchange";
/// `POST`: what led to refusals.
pub const DECISIONS_PATH: &str = "/gateway/v1/decisions";
