//! How the fields of a client read in the API's description: their bounds are the constants of
//! `model`.

use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::model::{
    MAX_APPLICATION_NUMBER, MAX_BINDING_ADDRESS, MAX_BINDING_NAME, MAX_EMAILS, MAX_ID, MAX_NAME, MAX_NOTE,
    MAX_REMARK,
};
use crate::openapi::schema::{line, one_of, text, text_of};
use crate::quotas::Period;

macro_rules! schemas {
    ($($(#[doc = $doc:literal])+ $type:ident: $schema:expr,)+) => {
        $(
            $(#[doc = $doc])+
            pub enum $type {}

            impl PartialSchema for $type {
                fn schema() -> RefOr<Schema> {
                    $schema.into()
                }
            }

            impl ToSchema for $type {}
        )+
    };
}

schemas! {
    /// The id of a client; empty where one is to be made.
    ClientId: text_of("A-Za-z0-9_=-", 0, MAX_ID),
    /// The code of a client.
    ClientCode: text_of("A-Za-z0-9_-", 1, MAX_NAME),
    /// What people call a client.
    ClientDisplayName: line(MAX_NAME),
    /// The number of its application.
    ApplicationNumber: line(MAX_APPLICATION_NUMBER),
    /// The owner of a client.
    ClientNote: line(MAX_NOTE),
    /// A remark on a client, of several lines if need be.
    ClientRemark: text(1, MAX_REMARK),
    /// Addresses, separated by commas.
    ClientEmails: text(1, MAX_EMAILS),
    /// What people call an address.
    BindingName: line(MAX_BINDING_NAME),
    /// IPv4, IPv6, CIDR or host name.
    BindingAddress: line(MAX_BINDING_ADDRESS),
    /// `HH:mm`
    TimeOfDay: text(5, 5).pattern(Some("^([01][0-9]|2[0-3]):[0-5][0-9]$")),
    /// When the quota begins again.
    QuotaPeriod: one_of([Period::Day, Period::Week, Period::Month, Period::Total].map(Period::as_str)),
}
