//! What is shown of a meter wherever one is shown.

use serde::Serialize;
use utoipa::ToSchema;

use super::model::{LeaseTerms, Meter};

/// How large the leases of a quota are, as its client or the installation has it.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = QuotaLeases)]
pub struct LeasesView {
    /// Seconds of demand that a gateway's lease is meant to last for.
    lease_horizon_s: u32,
    /// Calls of one lease at most. A gateway has two of them, which a crash may cost.
    max_lease: u64,
}

impl LeasesView {
    /// Those of `meter`.
    pub fn of(meter: &Meter, installation: LeaseTerms<u32>) -> Self {
        let terms = meter.leases.or(installation);
        Self { lease_horizon_s: terms.horizon_s, max_lease: terms.max_units(meter.limit.units) }
    }
}
