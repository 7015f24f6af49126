//! What there is to tell, before any channel gives it its form.

use crate::executor::http::rfc3339;
use domain::channel::{Channel, EventKind};
use domain::delivery::Delivery;
use domain::id::DeliveryId;
use domain::time::Timestamp;
use url::Url;

/// What a message tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// The end of an execution.
    Event(EventKind),
    /// That the channel works.
    Test,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The same on every attempt.
    pub(super) id: String,
    pub(super) notice: Notice,
    pub(super) created_at: Timestamp,
    /// None in a test.
    pub(super) about: Option<About>,
    /// The job's, or the channel's in a test.
    pub(super) name: String,
    /// When the execution started.
    pub(super) executed_at: Timestamp,
}

/// The execution that a message is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct About {
    pub(super) job_id: String,
    pub(super) execution_id: String,
    /// Where the request went: no more of it, since the rest may hold secrets.
    pub(super) host: String,
    pub(super) status_code: Option<u16>,
    pub(super) duration_ms: u64,
    pub(super) error: Option<String>,
}

impl Message {
    pub(super) fn of(delivery: &Delivery) -> Self {
        let id = delivery.id;
        let host = Url::parse(&delivery.job_url).ok().and_then(|url| url.host_str().map(str::to_owned));
        Self {
            id: id.to_string(),
            notice: Notice::Event(id.event),
            created_at: delivery.created_at,
            about: Some(About {
                job_id: id.execution.job.to_string(),
                execution_id: id.execution.to_string(),
                host: host.unwrap_or_default(),
                status_code: delivery.status_code,
                duration_ms: delivery.duration_ms,
                error: delivery.error.clone(),
            }),
            name: delivery.job_name.clone(),
            executed_at: delivery.executed_at,
        }
    }

    pub(super) fn test(id: DeliveryId, channel: &Channel, at: Timestamp) -> Self {
        Self {
            id: id.to_string(),
            notice: Notice::Test,
            created_at: at,
            about: None,
            name: channel.name.clone(),
            executed_at: at,
        }
    }

    /// What happened, in a few words that follow the job's name.
    pub(super) fn verb(&self) -> &'static str {
        match self.notice {
            Notice::Event(EventKind::Executed) if self.error().is_some() => "ran and failed",
            Notice::Event(EventKind::Executed) => "ran",
            Notice::Event(EventKind::Failed) => "failed",
            Notice::Event(EventKind::Recovered) => "recovered",
            Notice::Test => "works",
        }
    }

    /// What happened, in one line without markup.
    pub(super) fn headline(&self) -> String {
        match self.notice {
            Notice::Event(_) => format!("{} {}", self.name, self.verb()),
            Notice::Test => format!("Test notification for {}", self.name),
        }
    }

    pub(super) fn error(&self) -> Option<&str> {
        self.about.as_ref().and_then(|about| about.error.as_deref())
    }

    /// What follows the headline, if anything does.
    pub(super) fn explanation(&self) -> Option<&str> {
        match self.notice {
            Notice::Event(_) => self.error(),
            Notice::Test => {
                Some("JustRun can reach this channel. Messages about your jobs will look like this.")
            }
        }
    }

    /// The details, each with its label.
    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        let Some(about) = &self.about else { return vec![("Sent at", rfc3339(self.executed_at))] };
        let mut facts = Vec::new();
        facts.extend(about.status_code.map(|code| ("Status code", code.to_string())));
        facts.push(("Duration", format!("{} ms", about.duration_ms)));
        facts.push(("Started at", rfc3339(self.executed_at)));
        facts.push(("Target", about.host.clone()));
        facts.push(("Execution", about.execution_id.clone()));
        facts
    }
}

/// The first `chars_max` characters, with a mark when there were more.
pub(super) fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        None => text.to_owned(),
        Some(_) => text.chars().take(chars_max.saturating_sub(1)).chain(['…']).collect(),
    }
}
