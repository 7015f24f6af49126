//! Every bound, with its reason.

use std::time::Duration;

/// Characters of a job's name (documented).
pub const JOB_NAME_CHARS_MAX: usize = 100;
/// Characters of a space's name (documented).
pub const SPACE_NAME_CHARS_MAX: usize = 50;
/// Tags of one job (documented).
pub const TAGS_MAX: usize = 10;
/// Characters of one tag: a label, not a text.
pub const TAG_CHARS_MAX: usize = 50;
/// Bytes of a target URL; what common servers and proxies accept in a request line.
pub const URL_BYTES_MAX: usize = 2_048;
/// Custom headers of one job; with the size below this stays under the 16 KiB that common servers accept.
pub const HEADERS_MAX: usize = 50;
/// Bytes of all custom header names and values of one job together.
pub const HEADERS_BYTES_MAX: usize = 12 * 1024;
/// Bytes of a job's request body. A request to our API may have 1 MiB in all, and the body of a job
/// is kept in memory by every node while it is replicated.
pub const REQUEST_BODY_BYTES_MAX: usize = 512 * 1024;
/// Bytes of a request to the REST API (documented).
pub const API_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Seconds a target may take for the whole exchange (documented), default and bounds.
pub const TIMEOUT_SEC_DEFAULT: u32 = 30;
/// See [`TIMEOUT_SEC_DEFAULT`].
pub const TIMEOUT_SEC_MIN: u32 = 1;
/// See [`TIMEOUT_SEC_DEFAULT`].
pub const TIMEOUT_SEC_MAX: u32 = 300;
/// Retries of one execution (documented).
pub const RETRY_MAX_MAX: u32 = 10;
/// Seconds of the base delay between retries (documented default).
pub const RETRY_DELAY_SEC_DEFAULT: u32 = 60;
/// Seconds of the base delay at most: the longest wait there is.
pub const RETRY_DELAY_SEC_MAX: u32 = 86_400;
/// The longest wait before a retry (documented).
pub const RETRY_WAIT_MAX: Duration = Duration::from_secs(86_400);
/// Bytes of a response body that are kept (documented).
pub const RESPONSE_BODY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of an error text that are kept in the history.
pub const ERROR_BYTES_MAX: usize = 500;
/// Attempts that the history of one execution shows. Retries are at most 10; more come only from
/// nodes that died under it, and of those the newest are kept.
pub const ATTEMPTS_KEPT_MAX: usize = 32;
/// Unfinished executions of one job. A target that hangs for 300 s under a job that fires every second
/// has 300; beyond this bound further firings are recorded as skipped instead of piling up.
pub const OPEN_EXECUTIONS_MAX: usize = 512;
/// Results of the last page size (documented), default and maximum.
pub const PER_PAGE_DEFAULT: u32 = 20;
/// See [`PER_PAGE_DEFAULT`].
pub const PER_PAGE_MAX: u32 = 100;

/// Bytes of an import (documented).
pub const IMPORT_BYTES_MAX: usize = 5 * 1024 * 1024;
/// Jobs of an import (documented).
pub const IMPORT_JOBS_MAX: usize = 1_000;
/// Jobs of a bulk action (documented).
pub const BULK_JOBS_MAX: usize = 100;
/// Alert channels of one account; lists come whole.
pub const CHANNELS_MAX: usize = 100;
/// API keys of one account; lists come whole.
pub const KEYS_MAX: usize = 100;
/// Spaces of one account; lists come whole.
pub const SPACES_MAX: usize = 500;
/// Characters of the name of a key or a channel: a label, not a text.
pub const LABEL_CHARS_MAX: usize = 100;
/// Characters of an email address: what the protocols of mail can carry.
pub const EMAIL_CHARS_MAX: usize = 254;
/// Characters of a password: the least that is worth guessing at, and the most anybody types.
pub const PASSWORD_CHARS_MIN: usize = 8;
/// See [`PASSWORD_CHARS_MIN`].
pub const PASSWORD_CHARS_MAX: usize = 200;
/// How long a session token is good for: a week of work without signing in again.
pub const SESSION_LASTS: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How long the answer to a request with an idempotency key is kept (documented).
pub const ANSWER_KEPT_FOR: Duration = Duration::from_secs(24 * 3_600);
/// How long it is remembered that an event of the payment service has taken effect. Longer than the three days for
/// which it repeats one.
pub const PAYMENT_EVENT_KEPT_FOR: Duration = Duration::from_secs(7 * 86_400);
/// Answers that have outlived their time and go with each new one.
pub const ANSWERS_FORGOTTEN_MAX: usize = 4;
/// Jobs that one proposal of an import makes, so that no single apply takes long.
pub const IMPORTED_TOGETHER_MAX: usize = 100;
/// Jobs whose cursors one step of a pause or resumption of their space moves.
pub const ALIGNED_TOGETHER_MAX: usize = 256;
/// Jobs' unfinished executions that one such step looks through.
pub const ALIGNED_OPEN_MAX: usize = 2_048;
/// Results of a job that its sparkline shows (documented).
pub const SPARKLINE_MAX: usize = 60;
/// How far back a sparkline goes (documented).
pub const SPARKLINE_SPAN: Duration = Duration::from_secs(24 * 3_600);
/// Days that an uptime is computed over (documented).
pub const UPTIME_DAYS: u32 = 30;
/// How long a message to a channel is tried again. Channels are promised at least a day (documented), so
/// this is a day and the longest wait between two attempts.
pub const DELIVERY_TRIED_FOR: Duration = Duration::from_secs(26 * 3_600);
/// The longest wait between two attempts, unless the receiver asks for a longer one.
pub const DELIVERY_WAIT_MAX: Duration = Duration::from_secs(3_600);
/// The longest wait that a receiver may ask for: beyond it, what it asks for is taken as a mistake.
pub const DELIVERY_WAIT_ASKED_MAX: Duration = Duration::from_secs(6 * 3_600);
/// Attempts during which a message holds up those that must not overtake it. A receiver that is down for a
/// few minutes still hears all in order; one that will not take a certain message hears the others.
pub const DELIVERY_ATTEMPTS_IN_ORDER: u32 = 4;
/// Addresses of one mail channel; a team, not a mailing list.
pub const ADDRESSES_MAX: usize = 20;
/// Bytes of what a webhook's messages are signed with.
pub const CHANNEL_SECRET_BYTES_MAX: usize = 256;
/// How often the use of one API key is written down at most (documented).
pub const KEY_USE_NOTED_EVERY: Duration = Duration::from_secs(60);

/// How early a firing is claimed, by default. Longer than an election, so that one costs no lateness.
pub const CLAIM_AHEAD_DEFAULT: Duration = Duration::from_millis(2_000);
/// A node that the leader has not heard of for this long is dead; its executions go to others.
pub const NODE_TIMEOUT: Duration = Duration::from_millis(2_500);
/// How far the wall clock of a node may be from those of the others. Synchronised clocks are within a tenth of it; beyond it
/// firings would be early or late by more than anybody expects.
pub const CLOCK_ERROR_MAX: Duration = Duration::from_millis(1_000);
/// How often a node reports to the leader.
pub const PING_INTERVAL: Duration = Duration::from_millis(250);
/// A firing this late was missed, and the job's misfire policy decides what happens to it. Longer
/// than any failover and than the restart of the whole cluster with a full state, so that neither makes a firing a missed one.
pub const MISFIRE_AFTER: Duration = Duration::from_secs(30);
/// Due instants of one job counted one by one after an outage; beyond it the record says "at least".
pub const MISSED_COUNT_MAX: u64 = 100_000;
/// Executions removed by one command, so that no single apply takes long.
pub const SWEEP_MAX: usize = 500;
/// Changes of a job's schedule that are read at once when its history is pruned. Few jobs have more.
pub const TIMETABLES_TOGETHER: usize = 100;
/// Records that one step of a restore removes, or whose indexes it makes anew.
pub const RESTORED_TOGETHER_MAX: usize = 500;

// A node stops starting requests after claim-ahead without the leader; only after that may its
// executions be given to others.
const _: () = assert!(CLAIM_AHEAD_DEFAULT.as_millis() < NODE_TIMEOUT.as_millis());
// A lost report or two must not make a live node look dead.
const _: () = assert!(PING_INTERVAL.as_millis() * 4 < NODE_TIMEOUT.as_millis());
// An attempt that fails just within the day is followed by another, jitter included.
const _: () = assert!(DELIVERY_TRIED_FOR.as_secs() > 24 * 3_600 + DELIVERY_WAIT_MAX.as_secs() * 6 / 5);
const _: () = assert!(REQUEST_BODY_BYTES_MAX < API_BODY_BYTES_MAX);
// One step looks through at least one job.
const _: () = assert!(OPEN_EXECUTIONS_MAX <= ALIGNED_OPEN_MAX);
