use super::*;
use crate::clock::SystemClock;
use crate::executor::egress::EgressPolicy;
use crate::executor::http::HttpSettings;
use crate::samples;
use crate::scheduler::Plan;
use domain::execution::ExecutionStatus;
use domain::id::{AccountId, ExecutionId, JobId};
use domain::job::{Delivery, Request, Retry, RetryPolicy};
use parking_lot::Mutex;
use std::collections::HashMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::timeout;

const NODE: NodeId = NodeId(1);
const INCARNATION: Incarnation = Incarnation(7);
const SOON: Duration = Duration::from_secs(10);

fn job(url: String) -> Job {
    let job = samples::job(JobId(7));
    Job { request: Request { url, ..job.request }, ..job }
}

fn id(secs: u64) -> ExecutionId {
    ExecutionId::scheduled(JobId(7), Timestamp::from_secs(secs))
}

/// What the state says of executions.
type Book = Arc<Mutex<HashMap<ExecutionId, (Execution, Arc<Plan>)>>>;

/// An order for an execution, which goes into the book.
fn order_of(book: &Book, execution: Execution, job: Job, ordered_at: Timestamp) -> Order {
    let order = Order {
        execution: execution.id,
        incarnation: INCARNATION,
        account: job.account,
        host: "http://target".into(),
        due: execution.due,
        ordered_at,
    };
    book.lock().insert(execution.id, (execution, Arc::new(Plan::of(job))));
    order
}

fn executor(
    book: &Book,
    may_start: MayStart,
    recorder: RecorderHandle,
    holding: Holding,
    bounds: Bounds,
) -> (Executor<HttpClient>, ExecutorHandle) {
    let egress = EgressPolicy { allow_private: true, allow_http: true, ..EgressPolicy::default() };
    let client = HttpClient::new(HttpSettings::new(egress)).unwrap();
    let book = Arc::clone(book);
    let look: Look = Arc::new(move |order| {
        let found = book.lock().get(&order.execution).cloned();
        Ok(found.map(|(execution, plan)| Sight { execution, plan, start: Start::Go }))
    });
    Executor::new(NODE, client, Arc::new(SystemClock::new()), (look, may_start), recorder, holding, bounds)
}

/// Answers one request after the other, each when it is told to, and counts them.
async fn answer_when_told(listener: TcpListener, seen: Arc<Mutex<usize>>, tell: Arc<Notify>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut head).await.unwrap();
        }
        *seen.lock() += 1;
        tell.notified().await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        stream.write_all(answer).await.unwrap();
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waited = timeout(SOON, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("waited in vain for {what}"));
}

/// What the state says of each execution, and as of when it was asked.
#[derive(Default)]
struct State {
    withheld: HashMap<ExecutionId, fn() -> Withheld>,
    asked: Vec<(ExecutionId, Timestamp)>,
}

#[tokio::test]
async fn what_changes_while_an_order_waits_for_its_place_counts() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let job = job(format!("http://{}/", listener.local_addr().unwrap()));
    let state = Arc::new(Mutex::new(State::default()));
    let asked = Arc::clone(&state);
    let may_start: MayStart = Arc::new(move |execution, _, as_of| {
        let mut state = asked.lock();
        state.asked.push((execution.id, as_of));
        state.withheld.get(&execution.id).map_or(Ok(()), |withheld| Err(withheld()))
    });
    let holding = Holding::default();
    let book = Book::default();
    let (recorder, mut outcomes) = RecorderHandle::for_test(holding.clone());
    // One place, so that all but the first order wait.
    let bounds = Bounds { per_host: 1, ..Bounds::default() };
    let (executor, handle) = executor(&book, may_start, recorder, holding.clone(), bounds);
    let (seen, tell, stop) = (Arc::new(Mutex::new(0)), Arc::new(Notify::new()), CancellationToken::new());

    let scenario = async {
        let ordered_at = Timestamp::from_secs(60);
        for secs in [60, 120, 180, 240] {
            let execution = Execution::scheduled(id(secs), ordered_at, NODE, INCARNATION);
            handle.start(order_of(&book, execution, job.clone(), ordered_at)).await;
        }
        until("the first request", || *seen.lock() == 1).await;
        {
            let mut state = state.lock();
            assert_eq!(state.asked, [(id(60), ordered_at)], "the others have no place yet");
            state.withheld.insert(id(120), || Withheld::Skip("The job was paused"));
            state.withheld.insert(id(180), || Withheld::Gone);
            state.withheld.insert(id(240), || Withheld::Wait);
        }
        tell.notify_one();

        let sent = timeout(SOON, outcomes.recv()).await.unwrap().unwrap();
        assert!(matches!(sent.result, AttemptResult::Sent { .. }) && sent.execution == id(60), "{sent:?}");
        let skipped = timeout(SOON, outcomes.recv()).await.unwrap().unwrap();
        let AttemptResult::Skipped { reason, .. } = skipped.result else { panic!("{skipped:?}") };
        assert_eq!((skipped.execution, reason.as_str()), (id(120), "The job was paused"));
        let is_asked = |secs| state.lock().asked.iter().any(|(asked, _)| *asked == id(secs));
        until("the third to be dropped", || is_asked(180) && !holding.has_begun(id(180), 1)).await;

        // Out of touch, it waits without holding up others, and is then judged by the time that took.
        let waits = || state.lock().asked.iter().filter(|(asked, _)| *asked == id(240)).count();
        until("a second look", || waits() >= 2).await;
        state.lock().withheld.remove(&id(240));
        until("the request that waited", || *seen.lock() == 2).await;
        tell.notify_one();
        let sent = timeout(SOON, outcomes.recv()).await.unwrap().unwrap();
        assert_eq!(sent.execution, id(240));
        let as_of: Vec<_> = {
            let state = state.lock();
            state.asked.iter().filter(|(asked, _)| *asked == id(240)).map(|(_, as_of)| *as_of).collect()
        };
        assert_eq!(as_of[0], ordered_at, "waiting for a place makes nothing missed");
        assert!(as_of[1] > ordered_at);
        stop.cancel();
    };
    let target = answer_when_told(listener, Arc::clone(&seen), Arc::clone(&tell));
    tokio::select! {
        () = target => unreachable!("it never ends"),
        (ran, ()) = async { tokio::join!(executor.run(stop.clone()), scenario) } => ran.unwrap(),
    }
    assert_eq!(*seen.lock(), 2);
    assert!(outcomes.recv().await.is_none(), "nothing else came of it");
}

#[tokio::test]
async fn a_burst_of_one_account_does_not_hold_up_another() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let job = job(format!("http://{}/", listener.local_addr().unwrap()));
    let book = Book::default();
    let order = |account, secs| {
        let at = Timestamp::from_secs(secs);
        let execution = Execution::scheduled(id(secs), at, NODE, INCARNATION);
        let job = Job { account: AccountId(account), ..job.clone() };
        order_of(&book, execution, job, at)
    };
    let (recorder, mut outcomes) = RecorderHandle::for_test(Holding::default());
    let may_start: MayStart = Arc::new(|_, _, _| Ok(()));
    let bounds = Bounds { per_host: 1, ..Bounds::default() };
    let (executor, handle) = executor(&book, may_start, recorder, Holding::default(), bounds);
    let (seen, tell, stop) = (Arc::new(Mutex::new(0)), Arc::new(Notify::new()), CancellationToken::new());
    let scenario = async {
        for secs in 0..50 {
            handle.start(order(1, 60 + secs)).await;
        }
        handle.start(order(2, 600)).await;
        // That is given only before the end, not while it works off what it has.
        stop.cancel();
        let mut order = Vec::new();
        while order.len() < 51 {
            tell.notify_one();
            order.push(timeout(SOON, outcomes.recv()).await.unwrap().unwrap().execution);
        }
        // The first had its place, and the second its turn, before the other account came.
        assert_eq!(order.remove(2), id(600), "one request of each in turn");
        assert!(order.is_sorted(), "{order:?}");
    };
    let target = answer_when_told(listener, Arc::clone(&seen), Arc::clone(&tell));
    tokio::select! {
        () = target => unreachable!("it never ends"),
        (ran, ()) = async { tokio::join!(executor.run(stop.clone()), scenario) } => ran.unwrap(),
    }
}

#[tokio::test]
async fn while_more_is_to_be_sent_than_starts_at_once_it_says_so() {
    let book = Book::default();
    let (recorder, _outcomes) = RecorderHandle::for_test(Holding::default());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let may_start: MayStart = {
        let (recorder, seen) = (recorder.clone(), Arc::clone(&seen));
        Arc::new(move |_, _, _| {
            seen.lock().push(recorder.is_rush());
            Err(Withheld::Gone)
        })
    };
    let (executor, handle) =
        executor(&book, may_start, recorder.clone(), Holding::default(), Bounds::default());
    for secs in 0..STARTED_TOGETHER as u64 + 2 {
        let at = Timestamp::from_secs(60 + secs);
        let execution = Execution::scheduled(id(60 + secs), at, NODE, INCARNATION);
        handle.start(order_of(&book, execution, job("http://127.0.0.1:1/".to_owned()), at)).await;
    }
    let stop = CancellationToken::new();
    stop.cancel();
    timeout(SOON, executor.run(stop)).await.unwrap().unwrap();
    let mut expected = vec![true; STARTED_TOGETHER];
    expected.extend([false; 2]);
    assert_eq!((seen.lock().clone(), recorder.is_rush()), (expected, false));
}

#[tokio::test]
async fn a_retry_comes_no_sooner_than_the_target_asks() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let book = Book::default();
    let retry = Retry { policy: RetryPolicy::Fixed, max: 1, delay_sec: 5 };
    let at = Timestamp::from_secs(60);
    let execution = Execution::scheduled(id(60), at, NODE, INCARNATION);
    let order = order_of(&book, execution, Job { retry, ..job(url) }, at);
    let (recorder, mut outcomes) = RecorderHandle::for_test(Holding::default());
    let may_start: MayStart = Arc::new(|_, _, _| Ok(()));
    let (executor, handle) = executor(&book, may_start, recorder, Holding::default(), Bounds::default());
    handle.start(order).await;
    let stop = CancellationToken::new();
    stop.cancel();
    let target = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_buf(&mut Vec::new()).await.unwrap();
        let answer = b"HTTP/1.1 503 Busy\r\nretry-after: 120\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        stream
    };
    let (ran, _stream) = timeout(SOON, async { tokio::join!(executor.run(stop), target) }).await.unwrap();
    ran.unwrap();
    let outcome = outcomes.recv().await.unwrap();
    let AttemptResult::Sent { attempt, retry_at, .. } = outcome.result else { panic!("{outcome:?}") };
    assert_eq!(retry_at, Some(attempt.finished_at.plus(Duration::from_secs(120))));
}

/// The scheduler ends before the executor is told to, and an end before that stops the node.
#[tokio::test]
async fn it_ends_when_it_is_told_to_and_not_when_nobody_is_left_to_give_orders() {
    let (recorder, _outcomes) = RecorderHandle::for_test(Holding::default());
    let may_start: MayStart = Arc::new(|_, _, _| Ok(()));
    let (executor, handle) =
        executor(&Book::default(), may_start, recorder, Holding::default(), Bounds::default());
    drop(handle);
    let stop = CancellationToken::new();
    let mut running = std::pin::pin!(executor.run(stop.clone()));
    assert!(futures::poll!(running.as_mut()).is_pending());
    stop.cancel();
    timeout(SOON, running).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_state_that_cannot_be_read_ends_the_executor() {
    let may_start: MayStart =
        Arc::new(|_, _, _| Err(Withheld::Failed(storage::Error::Inconsistent("for the test"))));
    let holding = Holding::default();
    let book = Book::default();
    let (recorder, _outcomes) = RecorderHandle::for_test(holding.clone());
    let (executor, handle) = executor(&book, may_start, recorder, holding, Bounds::default());
    let at = Timestamp::from_secs(60);
    let execution = Execution::scheduled(id(60), at, NODE, INCARNATION);
    let job = job("http://127.0.0.1:1/".to_owned());
    handle.start(order_of(&book, execution, job, at)).await;
    let ended = timeout(SOON, executor.run(CancellationToken::new())).await.unwrap();
    assert!(matches!(ended, Err(storage::Error::Inconsistent(_))), "{ended:?}");
}

#[tokio::test]
async fn executions_are_counted_once_by_how_they_end() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let rendered = recorder.handle();
    let execution = Execution::scheduled(id(60), Timestamp::from_secs(60), NODE, INCARNATION);
    let lost = {
        let mut lost = execution.clone();
        lost.orphan(Timestamp::from_secs(600), Timestamp::from_secs(600), Delivery::AtLeastOnce);
        lost
    };
    let _guard = metrics::set_default_local_recorder(&recorder);
    let (handle, _outcomes) = RecorderHandle::for_test(Holding::default());
    let at = Timestamp::from_secs(601);
    handle.skip(&execution, NODE, INCARNATION, at, "The job was paused").await;
    handle.skip(&lost, NODE, INCARNATION, at, "Missed while the cluster was down").await;
    let text = rendered.render();
    for status in [ExecutionStatus::Skipped, ExecutionStatus::Failed] {
        let line =
            format!("justrun_executions_total{{status=\"{}\",trigger=\"schedule\"}} 1", status.as_str());
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
}
