//! What a client may send of a channel, as the document says it. The reader is [`super::input`]; every request that a
//! test sends successfully is compared with what stands here.

use super::input::{READ_ONLY, REQUIRED};
use crate::openapi::shape::{
    self, body, label, list, map_of_texts, text, text_or_null, with_read_only, word,
};
use crate::openapi::words::{ChannelTypeWord, EventWord};
use domain::channel::EventKind;
use domain::limits;
use utoipa::PartialSchema;
use utoipa::openapi::schema::{OneOfBuilder, SchemaType, Type};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};

shape::schema! {
    /// The body of `POST /v1/alerts/channels`.
    NewChannel, "NewChannel" => {
        let body = fields(body("Where to send what."), [chat(true), email(true), webhook(true)]);
        with_read_only(REQUIRED.into_iter().fold(body, ObjectBuilder::required), &READ_ONLY)
    }
}

shape::schema! {
    /// The body of `PATCH /v1/alerts/channels/{id}`.
    ChannelChanges, "ChannelChanges" => {
        let about = "Only the fields to change, also within `config`.";
        with_read_only(fields(body(about), [chat(false), email(false), webhook(false)]), &READ_ONLY)
    }
}

fn fields(body: ObjectBuilder, configs: [ObjectBuilder; 3]) -> ObjectBuilder {
    let config: RefOr<Schema> = configs
        .into_iter()
        .fold(OneOfBuilder::new(), |all, config| all.item(config))
        .description(Some("Type-specific configuration"))
        .into();
    body.property("type", word::<ChannelTypeWord>(None))
        .property("name", label("Display name for the channel", limits::LABEL_CHARS_MAX))
        .property("config", config)
        .property(
            "events",
            list(
                "What the channel is told of. Default, also for null: all three for `webhook`, `job.failed` and \
                 `job.recovered` for others",
                EventWord::schema(),
                EventKind::ALL.len(),
            )
            .min_items(Some(1))
            .schema_type(SchemaType::from_iter([Type::Array, Type::Null])),
        )
}

fn chat(whole: bool) -> ObjectBuilder {
    let url = shape::url("The incoming webhook that Slack or Discord gives you")
        .examples(["https://hooks.slack.com/services/T00/B00/xxx"]);
    config("slack, discord", whole, "webhook_url").property("webhook_url", url)
}

fn email(whole: bool) -> ObjectBuilder {
    let address = text("An email address").examples(["oncall@example.com"]);
    let addresses = list("Who gets the mail", address, limits::ADDRESSES_MAX).min_items(Some(1));
    config("email", whole, "addresses").property("addresses", addresses)
}

fn webhook(whole: bool) -> ObjectBuilder {
    let secret =
        |about| text_or_null(about).min_length(Some(1)).max_length(Some(limits::CHANNEL_SECRET_BYTES_MAX));
    config("webhook", whole, "url")
        .property("url", shape::url("Where to POST"))
        .property("headers", map_of_texts("Headers to send along").max_properties(Some(limits::HEADERS_MAX)))
        .property(
            "secret",
            secret("What deliveries are signed with. Without one, one is made and shown once"),
        )
        .property("routing_key", secret("With PagerDuty only: the integration's key"))
}

fn config(title: &str, whole: bool, required: &str) -> ObjectBuilder {
    let body = body("").description(None::<String>).title(Some(title));
    if whole { body.required(required) } else { body }
}
