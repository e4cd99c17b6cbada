//! The persons whom the rules are asked about, as they are now.

use gate::time::UnixMillis;

use super::model::{Circle, FourEyes, Person, StandIn};
use crate::approvals::delegations;
use crate::config::Config;
use crate::db::{Conn, DbError};
use crate::operators::{self, Permission};

/// Everybody who could sign at `now`, and on whose behalf.
pub async fn circle(conn: &mut Conn, config: &Config, now: UnixMillis) -> Result<Circle, DbError> {
    let active = operators::active(conn).await?;
    let since = |id: &str| active.iter().find(|one| one.id == id).map(|one| one.active_since);
    let mut stand_ins = Vec::new();
    for delegation in delegations::begun(conn, now).await? {
        if delegation.standing(&since, now).is_in_effect() {
            stand_ins.push(StandIn { principal: delegation.principal, delegate: delegation.delegate });
        }
    }
    let rules =
        FourEyes { own_forms: config.allow_self_approval, two_levels: config.allow_signing_two_levels };
    let people = active.into_iter().map(|operator| Person {
        reviews: operator.permissions.contains(&Permission::ApplicationsReview),
        manages: operator.permissions.contains(&Permission::OperatorsManage),
        id: operator.id,
        name: operator.name,
        email: operator.email,
        roles: operator.roles,
    });
    Ok(Circle::new(people.collect(), stand_ins, rules))
}
