//! Approval flows.

use std::collections::BTreeMap;

use super::spec;
use crate::approvals::{self, ApprovalError, FormKind, KeptFlow};
use crate::db::{Conn, DbError};
use crate::definitions::model::{Defined, Kind, Spec, Wanted};
use crate::definitions::plan::{Kept, Plan, Present, Steps};
use crate::definitions::work::{Managed, Names, Refusal, Work};

spec! {
    /// A flow, as `PUT /api/v1/approval-flows/{type}` takes it.
    pub struct FlowSpec {
        /// `KA`, `KU`, `KR` or `CR`.
        r#type: String,
        /// Level after level the roles that sign it.
        levels: Vec<Vec<String>>,
    }

    impl Spec {
        const KIND: Kind = Kind::ApprovalFlow;
        const IDENTITY: &'static [&'static str] = &["type"];
        const REQUIRED: &'static [&'static str] = &["levels"];

        fn id(&self) -> String {
            self.r#type.clone().unwrap_or_default()
        }

        fn arrange(&mut self) {
            for level in self.levels.iter_mut().flatten() {
                // A role that stands twice is refused, not taken as one.
                level.sort_unstable();
            }
        }
    }
}

impl Managed for FlowSpec {
    fn wanted(wanted: &Wanted) -> &[Defined<Self>] {
        &wanted.flows
    }

    fn present(present: &mut Present) -> &mut BTreeMap<String, Kept<Self>> {
        &mut present.flows
    }

    fn steps(plan: &Plan) -> &Steps<Self> {
        &plan.flows
    }

    async fn read_all(conn: &mut Conn, _: &Names) -> Result<Vec<Kept<Self>>, DbError> {
        let mut all = Vec::new();
        for kind in FormKind::ALL {
            all.extend(approvals::find(conn, kind).await?.map(kept));
        }
        Ok(all)
    }

    async fn create(&self, conn: &mut Conn, work: &mut Work<'_>) -> Result<Kept<Self>, Refusal> {
        self.configure(conn, work, 0).await
    }

    async fn update(
        &self,
        before: &Kept<Self>,
        conn: &mut Conn,
        work: &mut Work<'_>,
    ) -> Result<Kept<Self>, Refusal> {
        let whole = Self { r#type: before.spec.r#type.clone(), levels: self.levels.clone() };
        whole.configure(conn, work, before.version).await
    }

    async fn delete(_: &Kept<Self>, _: &mut Conn, _: &mut Work<'_>) -> Result<(), Refusal> {
        Err(Refusal::Whole("a flow is changed, never deleted: no form of its type could be submitted".into()))
    }
}

impl FlowSpec {
    /// Keeps others from the flow until the transaction ends; as it is now, if there is one.
    pub async fn take(conn: &mut Conn, code: &str) -> Result<Option<Kept<Self>>, DbError> {
        let Some(kind) = FormKind::parse(code) else { return Ok(None) };
        Ok(approvals::hold(conn, kind).await?.map(kept))
    }

    async fn configure(&self, conn: &mut Conn, work: &Work<'_>, seen: i64) -> Result<Kept<Self>, Refusal> {
        let code = self.id();
        let Some(kind) = FormKind::parse(&code) else {
            let all = FormKind::ALL.map(FormKind::code).join(", ");
            return Err(Refusal::Field(
                "type",
                format!("is {code:?}, which does not exist: the types are {all}"),
            ));
        };
        let levels = self.levels.clone().unwrap_or_default();
        let config = &work.app.config;
        Ok(kept(approvals::configure_in(conn, config, work.by, kind, levels, Some(seen), work.now).await?))
    }
}

fn kept(flow: KeptFlow) -> Kept<FlowSpec> {
    let levels = flow.flow.levels().iter().map(|roles| roles.iter().cloned().collect()).collect();
    let code = flow.kind.code().to_owned();
    let spec = FlowSpec { r#type: Some(code.clone()), levels: Some(levels) };
    Kept { spec, handle: code, version: flow.version, aside: 0 }
}

impl From<ApprovalError> for Refusal {
    fn from(error: ApprovalError) -> Self {
        match error {
            ApprovalError::Fault(fault) => Self::Field("levels", fault.to_string()),
            ApprovalError::Changed { .. } => Self::changed_meanwhile(),
            ApprovalError::NoSigner(_)
            | ApprovalError::FormLeft { .. }
            | ApprovalError::RoleNamed { .. }
            | ApprovalError::Operator(_) => Self::Whole(error.to_string()),
            ApprovalError::Db(error) => Self::Db(error),
        }
    }
}
