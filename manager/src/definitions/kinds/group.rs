//! Groups and scopes: two kinds of sets of APIs that have the same fields.

use std::collections::BTreeMap;

use gate::id::ApiUid;

use super::{PAGE, names, spec};
use crate::catalog::groups::{self, GroupFields, GroupFilter, GroupKind};
use crate::catalog::{Group, SecurityLevel};
use crate::db::{Conn, DbError};
use crate::definitions::model::{Defined, Kind, Reference, Wanted};
use crate::definitions::plan::{Kept, Plan, Present, Steps};
use crate::definitions::work::{Managed, Names, Refusal, Work};

macro_rules! set {
    ($(#[$doc:meta])* $name:ident, $kind:ident, $list:ident) => {
        spec! {
            $(#[$doc])*
            pub struct $name {
                /// Its name.
                name: String,
                /// For people.
                alias: String,
                /// For people.
                description: String,
                /// Which clients may be given it.
                security_level: SecurityLevel,
                /// Its APIs, `module/id` each.
                apis: Vec<String>,
            }

            impl Spec {
                const KIND: Kind = Kind::$kind;
                const IDENTITY: &'static [&'static str] = &["name"];
                const REQUIRED: &'static [&'static str] = &[];

                fn id(&self) -> String {
                    self.name.clone().unwrap_or_default()
                }

                fn arrange(&mut self) {
                    names(&mut self.apis);
                }

                fn references(&self) -> Vec<Reference<'_>> {
                    let names = self.apis.as_deref().unwrap_or_default();
                    vec![Reference { field: "apis", kind: Kind::Api, names }]
                }
            }
        }

        impl Managed for $name {
            fn wanted(wanted: &Wanted) -> &[Defined<Self>] {
                &wanted.$list
            }

            fn present(present: &mut Present) -> &mut BTreeMap<String, Kept<Self>> {
                &mut present.$list
            }

            fn steps(plan: &Plan) -> &Steps<Self> {
                &plan.$list
            }

            async fn read_all(conn: &mut Conn, names: &Names) -> Result<Vec<Kept<Self>>, DbError> {
                let all = read_all(conn, GroupKind::$kind).await?;
                Ok(all.into_iter().map(|group| Self::kept(group, names)).collect())
            }

            async fn create(&self, conn: &mut Conn, work: &mut Work<'_>) -> Result<Kept<Self>, Refusal> {
                let (app, by, now, fields) = (work.app, work.by, work.now, self.entered(&work.names)?);
                let made = groups::create_in(conn, work.held(), app, by, GroupKind::$kind, fields, now).await?;
                Ok(Self::kept(made, &work.names))
            }

            async fn update(
                &self,
                kept: &Kept<Self>,
                conn: &mut Conn,
                work: &mut Work<'_>,
            ) -> Result<Kept<Self>, Refusal> {
                let (by, now, fields) = (work.by, work.now, self.entered(&work.names)?);
                let which = (GroupKind::$kind, kept.handle.as_str());
                let expected = Some(kept.version);
                let changed = groups::update_in(conn, work.held(), by, which, expected, fields, now).await?;
                Ok(Self::kept(changed, &work.names))
            }

            async fn delete(kept: &Kept<Self>, conn: &mut Conn, work: &mut Work<'_>) -> Result<(), Refusal> {
                let (by, now) = (work.by, work.now);
                let which = (GroupKind::$kind, kept.handle.as_str());
                Ok(groups::delete_in(conn, work.held(), by, which, Some(kept.version), now).await?)
            }
        }

        impl $name {
            /// As it would be sent over HTTP.
            fn entered(&self, names: &Names) -> Result<GroupFields, Refusal> {
                Ok(GroupFields {
                    name: self.name.clone(),
                    alias: self.alias.clone(),
                    description: self.description.clone(),
                    security_level: self.security_level,
                    apis: names.handles(Kind::Api, self.apis.as_ref(), ApiUid)?,
                })
            }

            fn kept(group: Group, names: &Names) -> Kept<Self> {
                // Every field is named, so that a new one is not forgotten.
                let Group {
                    id,
                    kind: _,
                    name,
                    alias,
                    description,
                    security_level,
                    apis,
                    created_at: _,
                    updated_at: _,
                    version,
                } = group;
                let spec = Self {
                    name: Some(name),
                    alias: Some(alias),
                    description: Some(description),
                    security_level: Some(security_level),
                    apis: Some(names.names_of(Kind::Api, apis.iter().map(ApiUid::as_str))),
                };
                Kept { spec, handle: id.as_str().to_owned(), version, aside: 0 }
            }
        }
    };
}

set! {
    /// A group, as `POST /api/v1/groups` takes it.
    GroupSpec, Group, groups
}
set! {
    /// A scope, as `POST /api/v1/scopes` takes it.
    ScopeSpec, Scope, scopes
}

async fn read_all(conn: &mut Conn, kind: GroupKind) -> Result<Vec<Group>, DbError> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = groups::groups(conn, kind, &GroupFilter::default(), &after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(all) };
        after = last.name.clone();
        all.extend(page);
    }
}
