//! The OpenAPI document: what the table of routes says, in the words of OpenAPI 3.1.

use std::collections::{BTreeMap, BTreeSet};

use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem,
    PathsBuilder,
};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ArrayBuilder, ComponentsBuilder, ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    InfoBuilder, OpenApi, OpenApiBuilder, OpenApiVersion, Required, Schema, ServerBuilder,
};

use super::api::{
    INDEX_HEADER, PROBLEM_TYPE, Problem, READ_ONLY_HEADER, REQUEST_ID_HEADER, STALE_HEADER,
};
use super::codes;
use super::route::{Body, Form, Param, Place, Route, Verb};
use super::schema::Schemas;

/// Where the API of a version begins.
const BASE: &str = "/api/v1/";

/// Headers of answers, and what they say.
const HEADERS: &[(&str, &str)] = &[
    ("allow", "Methods that the path takes"),
    ("etag", "Tag of what was read or written, for If-None-Match and If-Match"),
    ("retry-after", "Seconds after which to ask again"),
    ("www-authenticate", "That a token is asked for"),
    (INDEX_HEADER, "Index in the log that the answer reflects"),
    (READ_ONLY_HEADER, "That this side of the cluster takes no writes"),
    (REQUEST_ID_HEADER, "Id of the request, for finding it in logs"),
    (STALE_HEADER, "Whether something may be missing that was acknowledged before"),
];

/// What a reader may say that has something already. Whatever it is, it is no reason to refuse.
fn if_none_match() -> Parameter {
    let help = "Tags of what the reader has: it is answered 304 if one of them still holds";
    ParameterBuilder::new()
        .name("if-none-match")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(help))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build()
}

fn required(is_required: bool) -> Required {
    if is_required { Required::True } else { Required::False }
}

/// What a parameter looks like.
fn form(form: &Form) -> Schema {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let words = |words: &[&str]| text().enum_values(Some(words.iter().copied())).build();
    match form {
        Form::Number { min, max, default } => {
            let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(*min));
            // Past that, JSON's numbers are not exact.
            let max = Some(*max).filter(|max| *max < 1 << 53);
            number.maximum(max).default(default.map(Into::into)).build().into()
        }
        Form::Flag => ObjectBuilder::new().schema_type(Type::Boolean).build().into(),
        Form::Word(all) => words(&all()).into(),
        Form::Words(all) => {
            ArrayBuilder::new().items(words(&all())).min_items(Some(1)).build().into()
        }
        Form::Text { min, max, pattern, .. } => {
            text().min_length(Some(*min)).max_length(Some(*max)).pattern(*pattern).build().into()
        }
    }
}

fn parameter(param: &Param) -> Parameter {
    let (place, is_required) = match param.place {
        Place::Path => (ParameterIn::Path, true),
        Place::Query => (ParameterIn::Query, false),
        Place::Header => (ParameterIn::Header, false),
    };
    let parameter = ParameterBuilder::new()
        .name(param.name)
        .parameter_in(place)
        .required(required(is_required))
        .description(Some(param.help))
        .schema(Some(form(&param.form)))
        .example(param.example.map(Into::into));
    match param.form {
        // Words stand in one parameter, with commas.
        Form::Words(_) => parameter.explode(Some(false)).build(),
        _ => parameter.build(),
    }
}

fn body(schemas: &mut Schemas, body: &Body) -> RequestBody {
    let schema = (body.schema)(schemas);
    RequestBodyBuilder::new()
        .content(body.content_type, ContentBuilder::new().schema(Some(schema)).build())
        .required(Some(required(body.is_required)))
        .description(Some(format!("At most {} bytes", body.most)))
        .extensions(Some(ExtensionsBuilder::new().add("x-bzzz-body-max", body.most).build()))
        .build()
}

fn header(help: &str) -> utoipa::openapi::Header {
    let text = ObjectBuilder::new().schema_type(Type::String);
    HeaderBuilder::new().schema(Some(text)).description(Some(help)).build()
}

/// What can be answered with one status.
#[derive(Default)]
struct Status {
    help: Vec<String>,
    contents: BTreeMap<&'static str, super::schema::SchemaOf>,
    headers: BTreeSet<&'static str>,
}

fn statuses(route: &Route) -> BTreeMap<u16, Status> {
    let mut statuses: BTreeMap<u16, Status> = BTreeMap::new();
    for reply in route.replies {
        let status = statuses.entry(reply.status).or_default();
        status.help.push(reply.help.to_owned());
        status.contents.insert(reply.content_type, reply.schema);
        status.headers.extend(reply.headers);
        if route.is_tagged {
            status.headers.insert("etag");
        }
    }
    if route.is_tagged {
        statuses.entry(304).or_default().help.push("It is what If-None-Match names".to_owned());
    }
    for code in route.codes().into_iter().collect::<BTreeSet<_>>() {
        let Some(row) = codes::find(code) else { continue };
        let status = statuses.entry(row.status).or_default();
        status.help.push(format!("`{code}`"));
        status.contents.insert(PROBLEM_TYPE, super::schema::of::<Problem>);
        status.headers.extend(match code {
            "METHOD_NOT_ALLOWED" => Some("allow"),
            "UNAUTHORIZED" => Some("www-authenticate"),
            "BUSY" | "STARTING" | "JOINING" => Some("retry-after"),
            "READ_ONLY_MINORITY" => Some(READ_ONLY_HEADER),
            _ => None,
        });
    }
    statuses
}

fn operation(schemas: &mut Schemas, route: &Route) -> Operation {
    let family = route.path.trim_start_matches(BASE).trim_start_matches('/');
    let family = family.split(['/', '{']).next().unwrap_or_default();
    let mut operation = OperationBuilder::new()
        .operation_id(Some(route.id))
        .summary(Some(route.help))
        .tag(if route.path.starts_with(BASE) { family } else { "process" });
    if route.is_drastic {
        operation = operation.tag("drastic");
    }
    for param in route.params {
        operation = operation.parameter(parameter(param));
    }
    if route.is_tagged && route.method == Verb::Get {
        operation = operation.parameter(if_none_match());
    }
    if let Some(taken) = &route.body {
        operation = operation.request_body(Some(body(schemas, taken)));
    }
    // No range and no default: what is not named here is a fault.
    for (status, said) in statuses(route) {
        let mut response = ResponseBuilder::new().description(said.help.join(", "));
        for (content_type, schema) in said.contents {
            let schema = schema(schemas);
            response =
                response.content(content_type, ContentBuilder::new().schema(Some(schema)).build());
        }
        for name in said.headers.into_iter().chain([REQUEST_ID_HEADER]) {
            let help = HEADERS.iter().find(|(known, _)| *known == name);
            response = response.header(name, header(help.map_or("", |(_, help)| help)));
        }
        operation = operation.response(status.to_string(), response.build());
    }
    if let Some(permission) = route.permission {
        operation =
            operation.security(SecurityRequirement::new("token", Vec::<String>::new())).extensions(
                Some(ExtensionsBuilder::new().add("x-bzzz-permission", permission).build()),
            );
    }
    operation.build()
}

/// The document of these routes.
pub fn document<'a>(routes: impl IntoIterator<Item = &'a Route>) -> OpenApi {
    let mut schemas = Schemas::default();
    let mut paths = PathsBuilder::new();
    for route in routes {
        let method = match route.method {
            Verb::Get => HttpMethod::Get,
            Verb::Put => HttpMethod::Put,
            Verb::Post => HttpMethod::Post,
            Verb::Delete => HttpMethod::Delete,
        };
        // A second call with the same path adds to what is there.
        let item = PathItem::new(method, operation(&mut schemas, route));
        paths = paths.path(route.path.replace("..}", "}"), item);
    }
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("The token in `api.token` of the node's data directory"));
    let components = ComponentsBuilder::new()
        .schemas_from_iter(schemas.0)
        .security_scheme("token", SecurityScheme::Http(token.build()));
    OpenApiBuilder::new()
        .openapi(OpenApiVersion::Version31)
        .info(InfoBuilder::new().title("BZZZ").version(env!("CARGO_PKG_VERSION")).build())
        .servers(Some([ServerBuilder::new().url("/").build()]))
        .paths(paths)
        .components(Some(components.build()))
        .build()
}
