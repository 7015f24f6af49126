//! Clients that write and read registers on all nodes at once, each waiting for one answer before it asks again.
//!
//! A register is a job that never fires, and its name is its value. Which register, node and operation a client takes next
//! follows from the seed; how they meet in time does not.

use crate::{
    Error,
    api::{Api, NOTHING_CHANGED, NewJob},
    client::{Answer, CallError, Client},
    history::{JobId, Operation, OperationKind, Outcome, Reply},
    time::steady_us,
};
use http::Method;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinSet, time::sleep};

/// An expression that is due on the first of January only.
const NEVER: &str = "0 0 1 1 *";
/// Operations on a register after its delete, to see that it stays away, before another takes its place.
const AFTERLIFE: u64 = 20;

/// How busy the clients are.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Registers at a time.
    pub registers: usize,
    /// Clients.
    pub processes: u64,
    /// Operations a second of all clients together, as long as answers are quick.
    pub per_second: u32,
    /// Of a thousand operations, how many end their register.
    pub deletes_per_thousand: u32,
    /// How long a client waits for an answer.
    pub timeout: Duration,
    /// What the choices follow from.
    pub seed: u64,
}

/// A node's number and its API.
pub type Node = (u64, Api);

/// The clients at work. Dropping it stops them where they are.
#[derive(Debug)]
pub struct Registers {
    scene: Arc<Scene>,
    processes: JoinSet<Result<(), Error>>,
}

/// What the clients share.
#[derive(Debug)]
struct Scene {
    settings: Settings,
    /// The register that is at each place now; none until a create was acknowledged.
    places: Vec<Mutex<Option<Register>>>,
    /// Counts registers and values, so that each is told from all others.
    next: AtomicU64,
    operations: Mutex<Vec<Operation>>,
    stop: AtomicBool,
}

#[derive(Clone, Debug)]
struct Register {
    number: u64,
    job: JobId,
    /// Operations until another register takes its place; none while nobody has asked for its end.
    left: Option<u64>,
}

impl Registers {
    /// Begins. `nodes` are all there are, also those that will be down at times.
    ///
    /// # Errors
    /// [`Error::Input`] without nodes, registers, processes or a pace.
    pub fn start(nodes: &[Node], settings: Settings) -> Result<Self, Error> {
        let Settings { registers, processes, per_second, .. } = settings;
        if nodes.is_empty() || registers == 0 || processes == 0 || per_second == 0 {
            return Err(Error::Input(format!("nothing to do for {} nodes and {settings:?}", nodes.len())));
        }
        let scene = Arc::new(Scene {
            settings,
            places: (0..registers).map(|_| Mutex::new(None)).collect(),
            next: AtomicU64::new(0),
            operations: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let mut tasks = JoinSet::new();
        for number in 0..processes {
            let client = Client::new(settings.timeout);
            let nodes = nodes.iter().map(|(id, api)| (*id, api.with_client(client.clone()))).collect();
            let random = StdRng::seed_from_u64(settings.seed.wrapping_mul(processes).wrapping_add(number));
            let process = Process { number, nodes, random, scene: Arc::clone(&scene) };
            tasks.spawn(process.run());
        }
        Ok(Self { scene, processes: tasks })
    }

    /// How many operations have been acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        let operations = self.scene.operations.lock().expect("nobody panics with it");
        let acknowledged = |operation: &&Operation| matches!(operation.outcome, Outcome::Acknowledged { .. });
        operations.iter().filter(acknowledged).count()
    }

    /// Lets every client finish its last operation, reads every register that there was on each of `nodes`, one after the
    /// other, and gives what happened in the order in which it ended.
    ///
    /// # Errors
    /// An answer that a client could make no sense of. [`Error::Input`] if one panicked.
    pub async fn stop(mut self, nodes: &[Node]) -> Result<Vec<Operation>, Error> {
        self.settle().await?;
        let mut operations = self.scene.take_operations();
        let is_create = |operation: &&Operation| matches!(operation.kind, OperationKind::Create { .. });
        let created: Vec<_> = operations
            .iter()
            .filter(is_create)
            .map(|operation| (operation.register, operation.job.clone()))
            .collect();
        // A client of its own, which asks after all others.
        let process = self.scene.settings.processes;
        for (register, job) in created {
            for node in nodes {
                operations.push(ask(node, process, register, &job, OperationKind::Read).await?);
            }
        }
        Ok(operations)
    }

    /// Waits until a client has met with an answer that it can make no sense of; for ever, if none does.
    pub async fn failure(&mut self) -> Error {
        while let Some(ended) = self.processes.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error,
                Err(error) => return Error::Input(error.to_string()),
            }
        }
        std::future::pending().await
    }

    /// Lets every client finish its last operation, and gives what happened, in whatever state the cluster is.
    pub async fn break_off(mut self) -> Vec<Operation> {
        // A client that made no sense of its last answer has said so, or would now.
        while self.settle().await.is_err() {}
        self.scene.take_operations()
    }

    /// Waits until every client has finished its last operation.
    async fn settle(&mut self) -> Result<(), Error> {
        self.scene.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.processes.join_next().await {
            ended.map_err(|error| Error::Input(error.to_string()))??;
        }
        Ok(())
    }
}

/// One client.
struct Process {
    number: u64,
    nodes: Vec<Node>,
    random: StdRng,
    scene: Arc<Scene>,
}

impl Process {
    async fn run(mut self) -> Result<(), Error> {
        let Settings { processes, per_second, deletes_per_thousand, .. } = self.scene.settings;
        let pause = Duration::from_secs(processes) / per_second;
        while !self.scene.stop.load(Ordering::Relaxed) {
            let place = self.random.random_range(0..self.scene.places.len());
            let node = self.nodes[self.random.random_range(0..self.nodes.len())].clone();
            let roll = self.random.random_range(0..1_000);
            let done = match self.scene.take(place) {
                None => self.create(place, &node).await?,
                Some(register) => {
                    let kind = match roll {
                        roll if roll < deletes_per_thousand => OperationKind::Delete,
                        roll if roll % 2 == 0 => OperationKind::Read,
                        _ => OperationKind::Write { value: self.scene.number().to_string() },
                    };
                    let done = ask(&node, self.number, register.number, &register.job, kind).await?;
                    self.scene.note_end(place, &done);
                    Some(done)
                }
            };
            self.scene.operations.lock().expect("nobody panics with it").extend(done);
            // Of random length, so that clients meet in ever new ways.
            sleep(pause.mul_f64(self.random.random_range(0.0..2.0))).await;
        }
        Ok(())
    }

    /// Puts a new register in its place. One whose create has no answer is left alone for ever: nobody knows its id.
    async fn create(&self, place: usize, (node, api): &Node) -> Result<Option<Operation>, Error> {
        let (number, value) = (self.scene.number(), self.scene.number().to_string());
        let asked_us = steady_us();
        let job = match api.create(&NewJob::new(value.clone(), NEVER, "http://127.0.0.1:1/")).await {
            Ok(created) => created.job,
            Err(Error::Call(_)) => return Ok(None),
            Err(Error::Answered { status, .. }) if status >= 500 => return Ok(None),
            Err(error) => return Err(error),
        };
        let outcome = Outcome::Acknowledged { reply: Reply::Done, answered_us: steady_us() };
        let register = Register { number, job: job.clone(), left: None };
        *self.scene.places[place].lock().expect("nobody panics with it") = Some(register);
        let (process, kind) = (self.number, OperationKind::Create { value });
        Ok(Some(Operation { register: number, job, process, node: *node, kind, asked_us, outcome }))
    }
}

impl Scene {
    fn take_operations(&self) -> Vec<Operation> {
        std::mem::take(&mut *self.operations.lock().expect("nobody panics with it"))
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The register at a place, for one operation.
    fn take(&self, place: usize) -> Option<Register> {
        let mut found = self.places[place].lock().expect("nobody panics with it");
        if let Some(register) = found.as_mut()
            && let Some(left) = &mut register.left
        {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => *found = None,
            }
        }
        found.clone()
    }

    /// Counts the rest of a register from its first delete that may have taken effect.
    fn note_end(&self, place: usize, done: &Operation) {
        let mut found = self.places[place].lock().expect("nobody panics with it");
        if done.kind == OperationKind::Delete
            && !matches!(done.outcome, Outcome::Refused { .. })
            && let Some(register) = found.as_mut().filter(|register| register.number == done.register)
        {
            register.left.get_or_insert(AFTERLIFE);
        }
    }
}

/// One operation from its question to its outcome.
async fn ask(
    (node, api): &Node,
    process: u64,
    register: u64,
    job: &JobId,
    kind: OperationKind,
) -> Result<Operation, Error> {
    let path = format!("/v1/jobs/{job}");
    let (method, body) = match &kind {
        OperationKind::Create { .. } => return Err(Error::Input("a create has no id yet".to_owned())),
        OperationKind::Write { value } => (Method::PATCH, Some(json!({ "name": value }))),
        OperationKind::Read => (Method::GET, None),
        OperationKind::Delete => (Method::DELETE, None),
    };
    let asked_us = steady_us();
    let answer = api.send(method.clone(), &path, body.as_ref()).await;
    let answered_us = steady_us();
    let outcome = outcome(&kind, &answer, answered_us).map_err(|missing| Error::Contract {
        request: format!("{method} {path} on node {node}"),
        missing,
        body: answer.map(|answer| format!("{} {}", answer.status, answer.excerpt())).unwrap_or_default(),
    })?;
    Ok(Operation { register, job: job.clone(), process, node: *node, kind, asked_us, outcome })
}

/// What an answer says about a read, write or delete. The error is what an answer lacks that is against the contract.
fn outcome(
    kind: &OperationKind,
    answer: &Result<Answer, CallError>,
    answered_us: i64,
) -> Result<Outcome, &'static str> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error @ CallError::NotSent { .. }) => return Ok(Outcome::Refused { reason: error.to_string() }),
        Err(error @ CallError::Unknown { .. }) => return Ok(Outcome::Unknown { reason: error.to_string() }),
    };
    let acknowledged = |reply| Ok(Outcome::Acknowledged { reply, answered_us });
    let reason = format!("{} {}", answer.status, answer.excerpt());
    let json = answer.json();
    let error = |field| json["error"][field].as_str().unwrap_or_default();
    match (answer.status, kind) {
        (200, OperationKind::Read) => match json["data"]["name"].as_str() {
            Some(value) => acknowledged(Reply::Value(value.to_owned())),
            None => Err("data.name"),
        },
        (200, OperationKind::Write { .. }) | (204, OperationKind::Delete) => acknowledged(Reply::Done),
        (404, _) if error("code") == "not_found" => acknowledged(Reply::Absent),
        (404, _) => Err("the code not_found"),
        (400..500, _) => Ok(Outcome::Refused { reason }),
        (503, _) if error("message").contains(NOTHING_CHANGED) => Ok(Outcome::Refused { reason }),
        (500.., _) => Ok(Outcome::Unknown { reason }),
        _ => Err("a status that fits"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::HeaderMap;

    fn answered(status: u16, body: &str) -> Result<Answer, CallError> {
        Ok(Answer { status, headers: HeaderMap::new(), body: Bytes::from(body.to_owned()) })
    }

    fn refusal(status: u16, code: &str, message: &str) -> Result<Answer, CallError> {
        answered(status, &json!({"error": {"code": code, "message": message}}).to_string())
    }

    #[test]
    fn an_answer_is_an_effect_a_refusal_or_neither() {
        let write = || OperationKind::Write { value: "1".to_owned() };
        let acknowledged = |reply| Outcome::Acknowledged { reply, answered_us: 7 };
        let of = |kind, answer| outcome(&kind, &answer, 7).unwrap();
        let found = of(OperationKind::Read, answered(200, r#"{"data":{"name":"1"}}"#));
        assert_eq!(found, acknowledged(Reply::Value("1".to_owned())));
        assert_eq!(of(write(), answered(200, "{}")), acknowledged(Reply::Done));
        assert_eq!(of(OperationKind::Delete, answered(204, "")), acknowledged(Reply::Done));
        for kind in [OperationKind::Read, write(), OperationKind::Delete] {
            assert_eq!(of(kind, refusal(404, "not_found", "no such job")), acknowledged(Reply::Absent));
        }

        let request = || "PATCH /".to_owned();
        let reason = || "closed".to_owned();
        for refused in [
            Err(CallError::NotSent { request: request(), reason: reason() }),
            refusal(409, "conflict", "it is being changed by others, try again"),
            refusal(429, "rate_limit_exceeded", "Too many requests."),
            refusal(
                503,
                "no_leader",
                "this node found no leader in time, or is too far behind it; nothing was changed, try again",
            ),
        ] {
            let found = of(write(), refused);
            assert!(matches!(found, Outcome::Refused { .. }), "{found:?}");
        }
        let late =
            "the cluster did not answer in time; the change may still take effect, look before trying again";
        for unknown in [
            Err(CallError::Unknown { request: request(), reason: reason() }),
            refusal(503, "no_leader", late),
            refusal(503, "not_ready", "this node cannot serve requests at the moment, try again"),
            refusal(500, "internal", "internal error"),
            answered(502, "a proxy's words"),
        ] {
            let found = of(write(), unknown);
            assert!(matches!(found, Outcome::Unknown { .. }), "{found:?}");
        }
    }

    #[test]
    fn an_answer_against_the_contract_is_no_outcome() {
        for (kind, answer) in [
            (OperationKind::Read, answered(200, "{}")),
            (OperationKind::Read, answered(204, "")),
            (OperationKind::Read, answered(302, "")),
            (OperationKind::Delete, answered(404, "no such page")),
        ] {
            assert!(outcome(&kind, &answer, 7).is_err(), "{kind:?}");
        }
    }

    #[test]
    fn a_register_is_replaced_some_operations_after_its_end() {
        let settings = Settings {
            registers: 1,
            processes: 1,
            per_second: 1,
            deletes_per_thousand: 5,
            timeout: Duration::ZERO,
            seed: 1,
        };
        let register = Register { number: 7, job: "a".to_owned(), left: None };
        let scene = Scene {
            settings,
            places: vec![Mutex::new(Some(register))],
            next: AtomicU64::new(8),
            operations: Mutex::default(),
            stop: AtomicBool::new(false),
        };
        let delete = |register, outcome| {
            let (job, kind) = ("a".to_owned(), OperationKind::Delete);
            Operation { register, job, process: 1, node: 1, kind, asked_us: 1, outcome }
        };
        let unknown = || Outcome::Unknown { reason: String::new() };
        // Neither what was refused nor another register's end counts.
        scene.note_end(0, &delete(7, Outcome::Refused { reason: String::new() }));
        scene.note_end(0, &delete(6, unknown()));
        assert!((0..100).all(|_| scene.take(0).is_some()));
        scene.note_end(0, &delete(7, unknown()));
        assert!(scene.take(0).is_some());
        // A second delete does not lengthen it.
        scene.note_end(0, &delete(7, unknown()));
        let taken = (0..100).take_while(|_| scene.take(0).is_some()).count();
        assert_eq!(u64::try_from(taken), Ok(AFTERLIFE - 1));
    }
}
