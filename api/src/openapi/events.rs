//! What the owner of a webhook channel is sent.

use utoipa::openapi::path::{
    HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn, PathItem, Paths, PathsBuilder,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{ContentBuilder, ObjectBuilder, OpenApi, Ref, Required, Response, Type};
use utoipa::{Modify, PartialSchema, ToSchema};

/// Every webhook delivery has a consistent envelope with the event type, a unique delivery ID, a timestamp, and the
/// event-specific payload.
#[derive(ToSchema)]
#[expect(dead_code, reason = "is written elsewhere, and described here")]
struct WebhookEvent {
    /// The delivery's id. A repetition has the same.
    #[schema(example = "evt_xR7nLp2wM4")]
    id: String,
    /// What happened: `job.executed`, `job.failed` or `job.recovered`; `channel.test` when you test the channel.
    #[schema(example = "job.failed")]
    r#type: String,
    #[schema(format = DateTime)]
    created_at: String,
    data: WebhookData,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "is written elsewhere, and described here")]
struct WebhookData {
    /// Null in a test.
    #[schema(required)]
    job_id: Option<String>,
    job_name: String,
    /// Null in a test.
    #[schema(required)]
    execution_id: Option<String>,
    /// Null when the target could not be reached.
    #[schema(required)]
    status_code: Option<u16>,
    /// Of the last attempt.
    #[schema(required)]
    duration_ms: Option<u64>,
    /// Why it failed; null when it did not.
    #[schema(required)]
    error: Option<String>,
    #[schema(format = DateTime)]
    executed_at: String,
}

/// Adds them to the document.
pub(super) struct Events;

impl Modify for Events {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        let mut schemas = vec![(WebhookEvent::name().into_owned(), WebhookEvent::schema())];
        WebhookEvent::schemas(&mut schemas);
        components.schemas.extend(schemas);
        document.webhooks = Some(webhooks());
    }
}

fn webhooks() -> Paths {
    let header = |name: &str, about: &str| {
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Header)
            .required(Required::True)
            .description(Some(about))
            .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
    };
    let operation = OperationBuilder::new()
        .operation_id(Some("jobEvent"))
        .tag("Alert Channels")
        .summary(Some("Something happened to a job"))
        .description(Some(
            "Sent to webhook channels. Any 2xx answer within 15 seconds counts as delivered; everything else is tried \
             again with growing waits for more than 24 hours. Always verify the signature with a constant-time \
             comparison.",
        ))
        .parameter(header(
            "X-JustRun-Signature",
            "`sha256=` and the hex-encoded HMAC-SHA256 of the raw request body, keyed with the whole signing secret.",
        ))
        .parameter(header("X-JustRun-Delivery", "The event's id."))
        .request_body(Some(
            RequestBodyBuilder::new()
                .required(Some(Required::True))
                .content("application/json", ContentBuilder::new().schema(Some(Ref::from_schema_name("WebhookEvent"))).build())
                .build(),
        ))
        .response("2XX", Response::new("The delivery is taken."))
        .securities(Some([SecurityRequirement::default()]));
    PathsBuilder::new().path("jobEvent", PathItem::new(HttpMethod::Post, operation)).build()
}
