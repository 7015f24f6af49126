use super::*;
use crate::samples;
use bytes::Bytes;
use domain::id::{JobId, SpaceId};
use domain::job::{Delivery, Job, JobState};
use domain::space::Space;
use storage::{Settings, StateTxn, Storage};
use tempfile::TempDir;

const NODE: NodeId = NodeId(1);
const INCARNATION: Incarnation = Incarnation(7);
const SPACE: SpaceId = SpaceId(3);
const JOB: JobId = JobId(9);
const DUE: Timestamp = Timestamp::from_secs(120);

fn job() -> Job {
    Job { space: Some(SPACE), ..samples::job(JOB) }
}

fn space(paused_at: Option<Timestamp>) -> Space {
    Space { paused_at, ..samples::space(SPACE) }
}

fn change(state: &State, change: impl FnOnce(&mut StateTxn<'_>) -> Result<(), storage::Error>) {
    let mut txn = state.begin();
    change(&mut txn).unwrap();
    txn.commit(Bytes::from_static(b"mark")).unwrap();
}

#[test]
fn a_look_sees_the_state_as_it_is_now() {
    let dir = TempDir::new().unwrap();
    let storage = Storage::open(dir.path(), Settings::default()).unwrap();
    let state = &storage.state;
    let id = ExecutionId::scheduled(JOB, DUE);
    let execution = Execution::scheduled(id, DUE, NODE, INCARNATION);
    change(state, |txn| {
        txn.put::<Jobs>(&JOB, &job())?;
        txn.put::<JobStates>(&JOB, &JobState { generation: 1, ..JobState::default() })?;
        txn.put::<Spaces>(&SPACE, &space(None))?;
        txn.put::<Executions>(&id, &execution)
    });
    let lookout = Lookout::new(state.clone(), NODE, Holding::default());
    let look = || lookout.look(id, INCARNATION, DUE).unwrap().map(|sight| sight.start);
    assert_eq!(look(), Some(Start::Go));
    assert!(lookout.look(id, Incarnation(8), DUE).unwrap().is_none(), "another process's");

    let skipped = Some(Start::Skip("The job was paused"));
    let pause = |paused_at| {
        change(state, |txn| {
            txn.put::<JobStates>(&JOB, &JobState { generation: 2, paused_at, ..JobState::default() })
        });
    };
    pause(Some(DUE));
    assert_eq!(look(), skipped);
    pause(None);
    assert_eq!(look(), Some(Start::Go));
    change(state, |txn| txn.put::<Spaces>(&SPACE, &space(Some(DUE))));
    assert_eq!(look(), Some(Start::Skip("The space was paused")));
    change(state, |txn| txn.put::<Spaces>(&SPACE, &space(None)));

    // The schedule of the new generation counts, not the plan of the old.
    change(state, |txn| {
        let cron_expression = "0 3 * * *".to_owned();
        txn.put::<Jobs>(&JOB, &Job { cron_expression, ..job() })?;
        txn.put::<JobStates>(&JOB, &JobState { generation: 3, ..JobState::default() })
    });
    assert_eq!(look(), Some(Start::Skip("The schedule was changed")));

    change(state, |txn| {
        let mut execution = execution.clone();
        execution.orphan(
            DUE.minus(std::time::Duration::from_secs(1)),
            DUE.minus(std::time::Duration::from_secs(1)),
            Delivery::AtLeastOnce,
        );
        execution.claim(NodeId(2), Incarnation(9));
        txn.put::<Executions>(&id, &execution)
    });
    assert_eq!(look(), None, "given to another node");
    change(state, |txn| {
        txn.put::<Executions>(&id, &execution)?;
        txn.remove::<Jobs>(&JOB)?;
        txn.remove::<JobStates>(&JOB)
    });
    assert_eq!(look(), None, "deleted");
}
