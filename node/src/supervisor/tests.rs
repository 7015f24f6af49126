use super::*;
use std::future::pending;
use tokio::sync::oneshot;

const SOON: Duration = Duration::from_secs(5);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("within seconds")
}

async fn check_stops(
    on_end: OnEnd,
    task: impl Future<Output = Result<(), TaskError>> + Send + 'static,
    expected: Cause,
) {
    let supervisor = Supervisor::new();
    supervisor.spawn("loop", Phase::Shards, on_end, |_| task);
    assert_eq!(soon(supervisor.failed()).await, StopReason { task: "loop", cause: expected });
    assert_eq!(soon(supervisor.drain(SOON)).await, Drained::default());
}

#[tokio::test]
async fn the_end_of_a_task_that_is_needed_stops_the_node() {
    check_stops(OnEnd::StopNode, async { Ok(()) }, Cause::Ended).await;
    check_stops(OnEnd::StopNode, async { Err("disk full".into()) }, Cause::Failed("disk full".to_owned()))
        .await;
}

#[tokio::test]
async fn a_panic_always_stops_the_node() {
    check_stops(OnEnd::StopNode, async { panic!("broken") }, Cause::Panicked("broken".to_owned())).await;
    check_stops(OnEnd::Log, async { panic!("broken {}", 2) }, Cause::Panicked("broken 2".to_owned())).await;
}

#[tokio::test]
async fn other_tasks_may_end() {
    let supervisor = Supervisor::new();
    supervisor.spawn("one", Phase::Executor, OnEnd::Log, |_| async { Ok(()) });
    supervisor.spawn("two", Phase::Executor, OnEnd::Log, |_| async { Err("refused".into()) });
    assert_eq!(soon(supervisor.drain(SOON)).await, Drained::default());
    assert_eq!(supervisor.failure(), None);
}

#[tokio::test]
async fn the_first_reason_stays() {
    let supervisor = Supervisor::new();
    supervisor.spawn("first", Phase::Api, OnEnd::StopNode, |_| async { Ok(()) });
    let reason = soon(supervisor.failed()).await;
    supervisor.spawn("second", Phase::Api, OnEnd::StopNode, |_| async { Ok(()) });
    soon(supervisor.drain(SOON)).await;
    assert_eq!(supervisor.failure(), Some(reason.clone()));
    assert_eq!(reason.to_string(), "task first ended unexpectedly");
}

#[tokio::test]
async fn phases_stop_one_after_the_other() {
    let supervisor = Supervisor::new();
    let order = Arc::new(Mutex::new(Vec::new()));
    for phase in Phase::ALL.into_iter().rev() {
        let order = Arc::clone(&order);
        supervisor.spawn("loop", phase, OnEnd::StopNode, move |stop| async move {
            stop.cancelled().await;
            // Whoever is stopped later must not have been told yet.
            tokio::task::yield_now().await;
            order.lock().push(phase);
            Ok(())
        });
    }
    assert_eq!(soon(supervisor.drain(SOON)).await, Drained::default());
    assert_eq!(*order.lock(), Phase::ALL);
    assert_eq!(supervisor.failure(), None, "they were told to end");
}

#[tokio::test]
async fn a_task_that_does_not_stop_is_dropped_and_named() {
    let supervisor = Supervisor::new();
    let (dropped, was_dropped) = oneshot::channel::<()>();
    supervisor.spawn("stubborn", Phase::Executor, OnEnd::StopNode, |_| async move {
        let _dropped = dropped;
        pending().await
    });
    supervisor.spawn("storage", Phase::Storage, OnEnd::StopNode, |stop| async move {
        stop.cancelled().await;
        Ok(())
    });
    let drained = supervisor.drain(Duration::ZERO).await;
    assert_eq!(drained.stuck, [(Phase::Executor, "stubborn")]);
    assert!(was_dropped.await.is_err(), "its future is gone");
    assert!(supervisor.running(Phase::Storage).is_empty());
    assert_eq!(supervisor.failure(), None);
}

#[tokio::test]
async fn what_comes_after_a_missed_deadline_still_gets_a_second() {
    let supervisor = Supervisor::new();
    supervisor.spawn("stubborn", Phase::Api, OnEnd::StopNode, |_| pending());
    let (flushed, was_flushed) = oneshot::channel();
    supervisor.spawn("storage", Phase::Storage, OnEnd::StopNode, |stop| async move {
        stop.cancelled().await;
        tokio::task::yield_now().await;
        flushed.send(()).map_err(|()| "nobody waits".into())
    });
    assert_eq!(supervisor.drain(Duration::ZERO).await.stuck, [(Phase::Api, "stubborn")]);
    assert_eq!(was_flushed.await, Ok(()));
}

#[tokio::test]
async fn tasks_are_counted_by_name_and_may_start_others() {
    let supervisor = Supervisor::new();
    let inner = supervisor.clone();
    let (ready, is_ready) = oneshot::channel();
    supervisor.spawn("loop", Phase::Shards, OnEnd::StopNode, |stop| async move {
        for _ in 0..3 {
            inner.spawn("attempt", Phase::Executor, OnEnd::Log, |stop| async move {
                stop.cancelled().await;
                Ok(())
            });
        }
        ready.send(()).map_err(|()| "nobody waits")?;
        stop.cancelled().await;
        Ok(())
    });
    soon(is_ready).await.unwrap();
    assert_eq!(supervisor.running(Phase::Executor), BTreeMap::from([("attempt", 3)]));
    assert_eq!(soon(supervisor.drain(SOON)).await, Drained::default());
    supervisor.spawn("late", Phase::Executor, OnEnd::StopNode, |_| async { panic!("must not run") });
    assert!(supervisor.running(Phase::Executor).is_empty());
    assert_eq!(supervisor.failure(), None);
}
