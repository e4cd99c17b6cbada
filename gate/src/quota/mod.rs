//! Quotas and rates: the shared record, and both halves of the lease protocol.
