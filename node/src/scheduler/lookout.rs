//! Looks at the state for what decides whether an execution starts. Asked twice: when it has got a
//! place among the requests in flight, which may be much later than its instant, and again at the moment of sending. Of a job that must not
//! overlap also at its instant.

use super::holding::Holding;
use super::plans::{Plan, Plans};
use super::start::{self, Facts, Start};
use domain::execution::Execution;
use domain::id::{ExecutionId, NodeId};
use domain::node::Incarnation;
use domain::time::Timestamp;
use std::sync::Arc;
use storage::schema::{Executions, JobStates, Jobs, Spaces};
use storage::{Read, State};

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Lookout {
    state: State,
    node: NodeId,
    holding: Holding,
    plans: Plans,
}

/// An execution that this process holds.
#[derive(Debug)]
pub(crate) struct Sight {
    pub(crate) execution: Execution,
    pub(crate) plan: Arc<Plan>,
    pub(crate) start: Start,
}

impl Lookout {
    pub(crate) fn new(state: State, node: NodeId, holding: Holding) -> Self {
        Self { state, node, holding, plans: Plans::default() }
    }

    /// Plans that were parsed for looks, for whoever needs them as well.
    pub(crate) fn plans(&self) -> &Plans {
        &self.plans
    }

    /// How an execution stands; `None` when its job is gone or this process no longer holds it under `incarnation`.
    /// See [`start::decide`] for `as_of`.
    pub(crate) fn look(
        &self,
        id: ExecutionId,
        incarnation: Incarnation,
        as_of: Timestamp,
    ) -> Result<Option<Sight>, storage::Error> {
        let view = self.state.view();
        let execution =
            view.get::<Executions>(&id)?.filter(|execution| execution.is_held_by(self.node, incarnation));
        let Some(execution) = execution else { return Ok(None) };
        let Some(state) = view.get::<JobStates>(&id.job)? else { return Ok(None) };
        let plan = self.plans.get(id.job, state.generation, || view.get::<Jobs>(&id.job))?;
        let Some(plan) = plan else { return Ok(None) };
        let space = match plan.job.space {
            Some(space) => view.get::<Spaces>(&space)?,
            None => None,
        };
        let space_paused = space.is_some_and(|space| space.is_paused());
        let facts = Facts { execution: &execution, state: &state, space_paused, plan: &plan };
        let start = start::decide(&facts, as_of, |open| self.holding.is_settled(*open));
        Ok(Some(Sight { execution, plan, start }))
    }
}

#[cfg(test)]
mod tests;
