//! Short ways to say what a field of a request body takes. Bounds come from where the readers of bodies have them.

use domain::id::{ChannelId, ExecutionId, JobId, KeyId, SpaceId};
use utoipa::ToSchema;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{AdditionalProperties, ArrayBuilder, SchemaType};
use utoipa::openapi::{ObjectBuilder, RefOr, Required, Schema, SchemaFormat, Type};

/// A string.
pub(crate) fn text(about: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).description(Some(about))
}

/// A string of one line, not blank, of `chars_max` characters at most.
pub(crate) fn label(about: &str, chars_max: usize) -> ObjectBuilder {
    text(about).min_length(Some(1)).max_length(Some(chars_max))
}

/// A string or null.
pub(crate) fn text_or_null(about: &str) -> ObjectBuilder {
    text(about).schema_type(SchemaType::from_iter([Type::String, Type::Null]))
}

/// A target's URL.
pub(crate) fn url(about: &str) -> ObjectBuilder {
    let bytes_max = domain::limits::URL_BYTES_MAX;
    text(about)
        .format(Some(SchemaFormat::Custom("uri".to_owned())))
        .min_length(Some(1))
        .max_length(Some(bytes_max))
}

/// An integer between two bounds.
pub(crate) fn integer(about: &str, min: u32, max: u32, default: u32) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .description(Some(about))
        .minimum(Some(min))
        .maximum(Some(max))
        .default(Some(default.into()))
}

/// True or false.
pub(crate) fn boolean(about: &str, default: bool) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Boolean).description(Some(about)).default(Some(default.into()))
}

/// One of a few words.
pub(crate) fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words.into_iter().map(str::to_owned)))
}

/// One of the words of `W`, and which of them it is when none is given.
pub(crate) fn word<W: ToSchema>(default: Option<&str>) -> RefOr<Schema> {
    match W::schema() {
        RefOr::T(Schema::Object(mut words)) => {
            words.default = default.map(Into::into);
            words.into()
        }
        other => other,
    }
}

/// An array of at most `count_max` of `items`.
pub(crate) fn list(about: &str, items: impl Into<RefOr<Schema>>, count_max: usize) -> ArrayBuilder {
    ArrayBuilder::new().items(items.into()).description(Some(about)).max_items(Some(count_max))
}

/// An object whose values are strings, such as headers.
pub(crate) fn map_of_texts(about: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some(about))
        .additional_properties(Some(ObjectBuilder::new().schema_type(Type::String)))
}

/// A request body: an object that takes no fields but its own.
pub(crate) fn body(about: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some(about))
        .additional_properties(Some(AdditionalProperties::FreeForm(false)))
}

/// Adds fields that a client may send but not set, so that what was read can be sent again.
pub(crate) fn with_read_only(mut body: ObjectBuilder, names: &[&str]) -> ObjectBuilder {
    for name in names {
        let ignored = ObjectBuilder::new()
            .schema_type(SchemaType::AnyValue)
            .description(Some("Shown by the API; ignored here."))
            .read_only(true);
        body = body.property(*name, ignored);
    }
    body
}

/// What has an id, and what one looks like.
pub(crate) trait Example {
    /// The documentation's own.
    const ID: &'static str;
}

impl Example for JobId {
    const ID: &'static str = "job_7kR3mNxQ2v1";
}

impl Example for SpaceId {
    const ID: &'static str = "sp_nR4kLm8wQ21";
}

impl Example for ChannelId {
    const ID: &'static str = "ch_nR4kLm8wQ21";
}

impl Example for KeyId {
    const ID: &'static str = "key_mN4kPw9xR21";
}

impl Example for ExecutionId {
    const ID: &'static str = "exec_8nK2pWxR4m8nK2pWxR4m11";
}

/// The id of a `T` in a request.
pub(crate) fn id<T: Example>(about: &str) -> ObjectBuilder {
    text(about).examples([T::ID])
}

/// A parameter of the query.
pub(crate) fn query(name: &str, schema: impl Into<RefOr<Schema>>) -> Parameter {
    let mut schema = schema.into();
    let about = match &mut schema {
        RefOr::T(Schema::Object(object)) => object.description.take(),
        _ => None,
    };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(about)
        .schema(Some(schema))
        .build()
}

/// The id of a `T` in the path.
pub(crate) struct IdInPath<T>(std::marker::PhantomData<T>);

impl<T: Example> utoipa::IntoParams for IdInPath<T> {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let id = ParameterBuilder::new()
            .name("id")
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
            .example(Some(T::ID.into()));
        vec![id.build()]
    }
}

/// Gives a type that exists in the document only its schema.
macro_rules! schema {
    ($(#[doc = $doc:literal])+ $name:ident, $as:literal => $schema:expr) => {
        $(#[doc = $doc])+
        pub(crate) enum $name {}

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                ($schema).into()
            }
        }

        impl utoipa::ToSchema for $name {
            fn name() -> std::borrow::Cow<'static, str> {
                $as.into()
            }
        }
    };
}

pub(crate) use schema;
