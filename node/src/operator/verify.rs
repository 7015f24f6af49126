//! Whether the histories of all jobs are complete, by a backup: a file, or the bytes of one as a cluster sends them.

mod render; // what was found, for people and for scripts
mod stream; // bytes that arrive, as a file that is read

use super::OperateError;
use crate::config::{VerifySettings, VerifySource};
use domain::execution::Execution;
use domain::id::{ExecutionId, JobId};
use domain::ledger::{self, Entry, Fault, Findings, Instants, Span, Timetable};
use domain::time::Timestamp;
use raft::Operator;
use raft::backup::inspect_with;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::time::Duration;
use storage::backup::Record;
use storage::schema::{Executions, JobStates, Jobs, Metas, Timetables};
use stream::Arriving;

/// How far back is looked when nobody says.
const SPAN_DEFAULT: Duration = Duration::from_secs(3_600);
/// Findings of one kind that are named; there may be more, and all are counted.
const NAMED_MAX: usize = 1_000;

/// What a verification came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What is to be shown.
    pub text: String,
    /// Whether it is complete, not, or nobody can tell.
    pub verdict: Verdict,
}

/// What a verification came to, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything that was due is accounted for.
    Complete,
    /// Something is not.
    Gaps,
    /// Of some jobs nobody can tell.
    Unknown,
}

/// Looks at what the settings say.
///
/// # Errors
/// [`OperateError`], also when the file is damaged or its bytes did not arrive: then nothing is proven.
pub async fn run(settings: VerifySettings) -> Result<Verified, OperateError> {
    let VerifySettings { source, from, to, output } = settings;
    let (report, summary) = match source {
        VerifySource::File(path) => {
            let file = File::open(&path).map_err(|source| OperateError::File {
                doing: "read",
                path: path.clone(),
                source,
            })?;
            let mut report = Report::new(from, to);
            let summary = inspect_with(BufReader::new(file), |record| report.take(record))
                .map_err(|reason| OperateError::Backup { path, reason })?;
            (report, summary)
        }
        VerifySource::Cluster { rpc_addr, cluster_secret, rpc_tls } => {
            let secret = raft::Secret::new(cluster_secret.expose());
            let node = Operator::connect(&rpc_addr, &secret, rpc_tls.as_ref()).await?;
            let (arriving, feed) = Arriving::new();
            let inspected = tokio::task::spawn_blocking(move || {
                let mut report = Report::new(from, to);
                inspect_with(arriving, |record| report.take(record)).map(|summary| (report, summary))
            });
            // What the connection says of a stream that ended early explains more than that it did.
            feed.all(node.backup().await?).await?;
            let inspected = inspected.await.map_err(|error| OperateError::Refused(error.to_string()))?;
            inspected.map_err(OperateError::Arrived)?
        }
    };
    let found = report.end();
    Ok(Verified { text: render::found(output, &found, &summary), verdict: found.verdict() })
}

/// What is known of a job before its history comes.
#[derive(Debug, Default)]
struct Known {
    name: String,
    /// Absent when the job was deleted.
    cursor: Option<Option<Timestamp>>,
    /// Newest first, as they come.
    timetables: Vec<Timetable>,
}

/// Takes the records of a backup in their order and compares as soon as all of a job is there.
struct Report {
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    span: Span,
    jobs: BTreeMap<JobId, Known>,
    /// The job whose history comes, newest first.
    history: Option<(JobId, Vec<Entry>)>,
    found: Found,
}

/// What was found of all jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    span: Span,
    jobs: u64,
    proven: u64,
    open: Named<Timestamp>,
    waiting: Named<Instants>,
    given_up: Named<Instants>,
    faults: Named<Fault>,
    unknown: Named<ledger::Unknown>,
}

/// Findings of one kind, each with its job.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named<T> {
    first: Vec<(JobId, String, T)>,
    count: u64,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self { first: Vec::new(), count: 0 }
    }
}

impl<T> Named<T> {
    fn add(&mut self, job: JobId, name: &str, found: impl IntoIterator<Item = T>) {
        for one in found {
            self.count += 1;
            if self.first.len() < NAMED_MAX {
                self.first.push((job, name.to_owned(), one));
            }
        }
    }
}

impl Found {
    fn verdict(&self) -> Verdict {
        if self.faults.count > 0 {
            Verdict::Gaps
        } else if self.unknown.count > 0 {
            Verdict::Unknown
        } else {
            Verdict::Complete
        }
    }
}

impl Report {
    fn new(from: Option<Timestamp>, to: Option<Timestamp>) -> Self {
        let span = Span { from: Timestamp::EPOCH, to: Timestamp::EPOCH };
        let found = Found {
            span,
            jobs: 0,
            proven: 0,
            open: Named::default(),
            waiting: Named::default(),
            given_up: Named::default(),
            faults: Named::default(),
            unknown: Named::default(),
        };
        Self { from, to, span, jobs: BTreeMap::new(), history: None, found }
    }

    fn take(&mut self, record: &Record) -> Result<(), storage::Error> {
        if let Some((id, execution)) = record.read::<Executions>()? {
            self.take_execution(id, &execution);
        } else if let Some((id, job)) = record.read::<Jobs>()? {
            self.jobs.entry(id).or_default().name = job.name;
        } else if let Some((id, state)) = record.read::<JobStates>()? {
            self.jobs.entry(id).or_default().cursor = Some(state.next_run_at);
        } else if let Some((key, timetable)) = record.read::<Timetables>()? {
            self.jobs.entry(key.job).or_default().timetables.push(timetable);
        } else if let Some(((), meta)) = record.read::<Metas>()? {
            // Nothing is known of what came later than the state.
            let to = self.to.map_or(meta.now, |to| to.min(meta.now));
            self.span = Span { from: self.from.unwrap_or_else(|| to.minus(SPAN_DEFAULT)), to };
            self.found.span = self.span;
        }
        Ok(())
    }

    fn take_execution(&mut self, id: ExecutionId, execution: &Execution) {
        if self.history.as_ref().is_none_or(|(job, _)| *job != id.job) {
            self.close();
            self.history = Some((id.job, Vec::new()));
        }
        let Some(entry) = Entry::of(execution) else { return };
        if let Some((_, entries)) = &mut self.history
            && entry.until() >= self.span.from
            && entry.at < self.span.to
        {
            entries.push(entry);
        }
    }

    /// All of a job's history has come.
    fn close(&mut self) {
        if let Some((job, mut entries)) = self.history.take()
            && let Some(known) = self.jobs.remove(&job)
        {
            entries.reverse();
            self.compare(job, known, &entries);
        }
    }

    fn compare(&mut self, job: JobId, mut known: Known, entries: &[Entry]) {
        // The history of a job that was deleted is on its way out.
        let Some(cursor) = known.cursor else { return };
        known.timetables.reverse();
        let name = known.name.as_str();
        self.found.jobs += 1;
        match ledger::verify(&known.timetables, cursor, entries, self.span) {
            Ok(Findings { proven, open, waiting, given_up, faults }) => {
                self.found.proven += proven;
                self.found.open.add(job, name, open);
                self.found.waiting.add(job, name, waiting);
                self.found.given_up.add(job, name, given_up);
                self.found.faults.add(job, name, faults);
            }
            Err(unknown) => self.found.unknown.add(job, name, [unknown]),
        }
    }

    /// What was found, once the backup has turned out to be whole.
    fn end(mut self) -> Found {
        self.close();
        for (job, known) in std::mem::take(&mut self.jobs) {
            self.compare(job, known, &[]);
        }
        self.found
    }
}
