//! What a client may send of a job, as the document says it. The reader is [`super::input`]; every request that a test
//! sends successfully is compared with what stands here.

use super::input::{CHANNELS_MAX, READ_ONLY, REQUIRED};
use super::write::DEFAULT_TIMEZONE;
use crate::openapi::shape::{
    self, body, boolean, id, integer, label, list, map_of_texts, text, text_or_null, with_read_only, word,
};
use crate::openapi::words::{
    BulkActionWord, DeliveryWord, MethodWord, MisfirePolicyWord, OverlapPolicyWord, RetryPolicyWord,
    StatusWord,
};
use domain::id::{ChannelId, JobId, SpaceId};
use domain::limits;
use utoipa::openapi::ObjectBuilder;
use utoipa::openapi::schema::{SchemaType, Type};

shape::schema! {
    /// The body of `POST /v1/jobs`.
    NewJob, "NewJob" => with_read_only(new_job(), &READ_ONLY)
}

shape::schema! {
    /// The body of `PATCH /v1/jobs/{id}`.
    JobChanges, "JobChanges" =>
        with_read_only(fields(body("Only the fields to change. Those that are absent keep their value.")), &READ_ONLY)
}

shape::schema! {
    /// One job of an import.
    ImportedJob, "ImportedJob" => {
        // An import takes the status, so that a backup comes back as it was.
        let others: Vec<_> = READ_ONLY.into_iter().filter(|name| *name != "status").collect();
        with_read_only(new_job().property("status", word::<StatusWord>(Some("active"))), &others)
    }
}

shape::schema! {
    /// The body of `POST /v1/jobs/bulk`.
    BulkRequest, "BulkRequest" =>
        body("Which jobs, and what to do with them.")
            .property(
                "job_ids",
                list("Array of job IDs to act on", id::<JobId>("A job ID"), limits::BULK_JOBS_MAX).min_items(Some(1)),
            )
            .property("action", word::<BulkActionWord>(None))
            .property(
                "space_id",
                nullable(id::<SpaceId>("Required when action is `move_to_space`; null takes the jobs out of any space")),
            )
            .property(
                "tags",
                list(
                    "Required when action is `add_tags` or `remove_tags`",
                    label("A tag", limits::TAG_CHARS_MAX),
                    limits::TAGS_MAX,
                )
                .min_items(Some(1)),
            )
            .required("job_ids")
            .required("action")
}

fn new_job() -> ObjectBuilder {
    let about = "At minimum you need a name, cron expression, and target URL.";
    REQUIRED.into_iter().fold(fields(body(about)), ObjectBuilder::required)
}

fn fields(body: ObjectBuilder) -> ObjectBuilder {
    body.property("name", label("Human-readable name for the job", limits::JOB_NAME_CHARS_MAX))
        .property(
            "cron_expression",
            text(
                "Standard 5-field cron expression, in Vixie/Debian semantics, or one of `@hourly @daily @midnight \
                 @weekly @monthly @yearly @annually` or `@every <n>s|m|h` (at least `1s`)",
            )
            .min_length(Some(1))
            .examples(["*/5 * * * *"]),
        )
        .property(
            "url",
            shape::url(
                "Target URL to call. Must be HTTPS in production. Placeholders such as `{{execution_id}}` are filled \
                 in in its query",
            )
            .examples(["https://api.example.com/health"]),
        )
        .property("method", word::<MethodWord>(Some("GET")))
        .property(
            "timezone",
            text("IANA timezone for the cron expression (default: that of the space, else UTC)")
                .examples(["Europe/Stockholm", DEFAULT_TIMEZONE]),
        )
        .property(
            "timeout_sec",
            integer(
                "Max seconds to wait for a response",
                limits::TIMEOUT_SEC_MIN,
                limits::TIMEOUT_SEC_MAX,
                limits::TIMEOUT_SEC_DEFAULT,
            ),
        )
        .property("retry_policy", word::<RetryPolicyWord>(Some("none")))
        .property("retry_max", integer("Max retry attempts", 0, limits::RETRY_MAX_MAX, 0))
        .property(
            "retry_delay_sec",
            integer(
                "Base delay between retries in seconds",
                0,
                limits::RETRY_DELAY_SEC_MAX,
                limits::RETRY_DELAY_SEC_DEFAULT,
            ),
        )
        .property(
            "tags",
            list("Tags for organizing jobs", label("A tag", limits::TAG_CHARS_MAX), limits::TAGS_MAX),
        )
        .property("space_id", nullable(id::<SpaceId>("Assign the job to a space; null to none")))
        .property(
            "headers",
            map_of_texts(
                "Custom HTTP headers to send with the request. `{{execution_id}}`, `{{job_id}}`, `{{job_name}}`, \
                 `{{scheduled_at}}` and `{{attempt}}` are filled in in their values. Headers that belong to the \
                 connection, such as `Host`, are refused",
            )
            .max_properties(Some(limits::HEADERS_MAX)),
        )
        .property(
            "body",
            text_or_null("Request body (for POST/PUT/PATCH). Sent as-is.")
                .max_length(Some(limits::REQUEST_BODY_BYTES_MAX)),
        )
        .property("store_response_body", boolean("Store the response body for each execution", false))
        .property(
            "alert_channel_ids",
            list(
                "The channels that hear of this job; null, the default, means every channel of the account",
                id::<ChannelId>("A channel ID"),
                CHANNELS_MAX,
            )
            .schema_type(SchemaType::from_iter([Type::Array, Type::Null])),
        )
        .property("overlap_policy", word::<OverlapPolicyWord>(Some("allow")))
        .property("misfire_policy", word::<MisfirePolicyWord>(Some("run_once")))
        .property("delivery", word::<DeliveryWord>(Some("at_least_once")))
}

fn nullable(schema: ObjectBuilder) -> ObjectBuilder {
    schema.schema_type(SchemaType::from_iter([Type::String, Type::Null]))
}
