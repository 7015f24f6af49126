//! The cursors of a space's jobs follow its pause or resumption: the steps, and who takes them.
//!
//! Whoever turns a space takes them to the end before answering. Should that node die, the leader does so
//! some time later; both at once do no harm, since a step names what it was computed from.

use domain::id::{JobId, SpaceId};
use domain::job::JobState;
use domain::limits;
use domain::rejection::Rejection;
use domain::schedule::Schedule;
use domain::space::Space;
use domain::time::Timestamp;
use raft::command::{AlignSpace, Command, Overdue};
use raft::{Cluster, ProposeError};
use storage::schema::{JobStates, Jobs, SpaceJobs, Spaces, UnalignedSpaces};
use storage::{Read, State};

/// Passes over one space. The first moves cursors and the second finds nothing left; more are needed only while
/// others change the same jobs.
const PASSES_MAX: usize = 10;

/// Why the cursors have not all followed.
#[derive(Debug, thiserror::Error)]
pub enum AlignError {
    /// A step was not taken.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// The state cannot be read.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// Others kept changing the jobs; the leader will come back to it.
    #[error("the jobs of the space are changing too fast")]
    Restless,
}

/// Moves the cursors of the space's jobs to where its last turn wants them, until all stand there.
///
/// # Errors
/// [`AlignError`]; what has been done stays done, and the space stays on the leader's list.
pub async fn align_space(cluster: &Cluster, space: SpaceId) -> Result<(), AlignError> {
    for _ in 0..PASSES_MAX {
        let Pass::Quiet { generation } = pass(cluster, space).await? else { continue };
        let Some(generation) = generation else { return Ok(()) };
        if step(cluster, AlignSpace { space, generation, jobs: Vec::new(), done: true, overdue: Vec::new() })
            .await?
        {
            return Ok(());
        }
    }
    Err(AlignError::Restless)
}

/// What one look at every job of a space came to.
enum Pass {
    /// Some cursor was moved, or the space turned meanwhile: look again.
    Moved,
    /// Every cursor stands right since the turn with this number; without one there is nothing to do any more.
    Quiet { generation: Option<u64> },
}

async fn pass(cluster: &Cluster, id: SpaceId) -> Result<Pass, AlignError> {
    let mut moved = false;
    let mut turn = None;
    let mut after = None;
    loop {
        let Some(look) = look(cluster.state(), id, after)? else {
            return Ok(Pass::Quiet { generation: None });
        };
        let generation = look.space.generation;
        if *turn.get_or_insert(generation) != generation {
            return Ok(Pass::Moved);
        }
        let mut jobs = Vec::with_capacity(look.unlike.len());
        let mut overdue = Vec::new();
        for (job, state) in look.unlike {
            if let Some(cursor) = cursor(cluster.state(), &look.space, job, &state)? {
                jobs.push((job, state.version(), cursor));
                overdue.extend(left_behind(cluster.state(), &look.space, job, &state)?);
            }
        }
        if !jobs.is_empty() {
            moved = true;
            if !step(cluster, AlignSpace { space: id, generation, jobs, done: false, overdue }).await? {
                return Ok(Pass::Moved);
            }
        }
        match look.last {
            Some(last) => after = Some(last),
            None if moved => return Ok(Pass::Moved),
            None => return Ok(Pass::Quiet { generation: turn }),
        }
        tokio::task::yield_now().await;
    }
}

/// Takes one step. False when the space has turned since it was computed.
async fn step(cluster: &Cluster, command: AlignSpace) -> Result<bool, AlignError> {
    match cluster.propose(Command::AlignSpace(command)).await {
        Ok(_) => Ok(true),
        Err(ProposeError::Rejected(Rejection::Stale)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Some of the jobs of a space.
struct Look {
    space: Space,
    /// Those whose cursor may have to move.
    unlike: Vec<(JobId, JobState)>,
    /// Where the next look begins, if there is more.
    last: Option<(SpaceId, JobId)>,
}

/// `None` when the space is gone or all cursors have followed.
fn look(state: &State, id: SpaceId, after: Option<(SpaceId, JobId)>) -> Result<Option<Look>, storage::Error> {
    let view = state.view();
    let Some(space) = view.get::<Spaces>(&id)? else { return Ok(None) };
    if !view.contains::<UnalignedSpaces>(&id)? {
        return Ok(None);
    }
    let prefix = id.0.to_be_bytes();
    let keys = view.keys_prefix::<SpaceJobs>(&prefix, after.as_ref(), limits::ALIGNED_TOGETHER_MAX)?;
    let mut look = Look { space, unlike: Vec::new(), last: None };
    let mut open = 0;
    for key in &keys {
        let (_, job) = *key;
        let Some(state) = view.get::<JobStates>(&job)? else { continue };
        if look.space.is_followed_by(&state) {
            continue;
        }
        // Applying a step looks through the unfinished executions of the jobs it moves.
        open += state.open.len();
        look.unlike.push((job, state));
        if open > limits::ALIGNED_OPEN_MAX - limits::OPEN_EXECUTIONS_MAX {
            look.last = Some(*key);
            return Ok(Some(look));
        }
    }
    if keys.len() == limits::ALIGNED_TOGETHER_MAX {
        look.last = keys.last().copied();
    }
    Ok(Some(look))
}

/// The cursor that a job should get; `None` when it has it.
fn cursor(
    states: &State,
    space: &Space,
    job: JobId,
    state: &JobState,
) -> Result<Option<Option<Timestamp>>, storage::Error> {
    let cursor = if space.is_paused() {
        None
    } else {
        let Some(config) = states.view().get::<Jobs>(&job)? else { return Ok(None) };
        let Ok(schedule) = Schedule::parse(&config.cron_expression, &config.timezone) else {
            tracing::error!(%job, "a stored schedule cannot be read; the job does not fire");
            return Ok(None);
        };
        space.cursor(state, &schedule)
    };
    Ok((cursor != state.next_run_at).then_some(cursor))
}

/// What a job's cursor leaves behind when it moves: what was due before the space turned and nobody has claimed.
fn left_behind(
    states: &State,
    space: &Space,
    job: JobId,
    state: &JobState,
) -> Result<Option<(JobId, Overdue)>, storage::Error> {
    // Hardly ever: the configuration is read only then.
    if state.next_run_at.is_none_or(|cursor| cursor > space.turned_at) {
        return Ok(None);
    }
    let config = states.view().get::<Jobs>(&job)?;
    let overdue = config.and_then(|config| Overdue::of(&config, state, space.turned_at));
    Ok(overdue.map(|overdue| (job, overdue)))
}
