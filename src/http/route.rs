//! Routes: the words in which they are declared.
//!
//! A row says everything about a route that can be said before a request comes: who may, what it may carry, how
//! large, what is answered. The router checks requests by it, `Allow` and 405 follow from it, the OpenAPI document
//! and the table in docs/api.md are made of it. What a row does not declare is refused.

use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;

use utoipa::ToSchema;

use super::answer::Answer;
use super::app::{Api, App, Setup};
use super::call::Call;
use super::codes;
use super::media;
use super::schema::{self, SchemaOf};
use crate::types::limits::HTTP_BODY_MAX;

/// What is answered, later.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// Who answers a route, and so in which phase there is an answer.
#[derive(Clone, Copy)]
pub enum Serve {
    /// Whatever the phase: it needs nothing of a node.
    Always(for<'a> fn(&'a Api, &'a mut Call) -> Answering<'a>),
    /// As long as this process is no member.
    Setup(for<'a> fn(&'a Setup, &'a mut Call) -> Answering<'a>),
    /// Once it is one.
    Running(for<'a> fn(&'a App, &'a mut Call) -> Answering<'a>),
}

/// Served in every phase, by an `async fn` over the API and the call.
macro_rules! always {
    ($serves:path) => {
        $crate::http::route::Serve::Always(|api, call| Box::pin($serves(api, call)))
    };
}
/// Served while this process is no member, by an `async fn` over the phase and the call.
macro_rules! setup {
    ($serves:path) => {
        $crate::http::route::Serve::Setup(|setup, call| Box::pin($serves(setup, call)))
    };
}
/// Served by a member, by an `async fn` over the app and the call.
macro_rules! running {
    ($serves:path) => {
        $crate::http::route::Serve::Running(|app, call| Box::pin($serves(app, call)))
    };
}
pub(super) use {always, running, setup};

/// A method of a route. HEAD is answered wherever GET is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Reads.
    Get,
    /// Makes something, or begins it.
    Post,
    /// Writes something that has a place.
    Put,
    /// Removes something.
    Delete,
}

impl Verb {
    /// As requests say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// Where a parameter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the path.
    Path,
    /// In the query.
    Query,
    /// In a header.
    Header,
}

/// What a parameter may say.
#[derive(Clone, Copy)]
pub enum Form {
    /// A whole number of this range, in digits without zeros in front.
    Number {
        /// The least.
        min: u64,
        /// The greatest.
        max: u64,
        /// What counts if it is not there.
        default: Option<u64>,
    },
    /// `true` or `false`; false if it is not there.
    Flag,
    /// One of these words.
    Word(fn() -> Vec<&'static str>),
    /// Some of these words, with commas.
    Words(fn() -> Vec<&'static str>),
    /// A text of this many bytes that `check` takes. The pattern says the same to other programs, as far as one can.
    Text {
        /// The least.
        min: usize,
        /// The most.
        max: usize,
        /// For other programs.
        pattern: Option<&'static str>,
        /// Why it can't be taken.
        check: fn(&str) -> Result<(), String>,
    },
}

impl Form {
    /// Why a text does not say what it may.
    pub fn check(&self, text: &str) -> Result<(), String> {
        match self {
            Self::Number { min, max, .. } => {
                match number(text).filter(|number| (min..=max).contains(&number)) {
                    Some(_) => Ok(()),
                    None => Err(format!("expected a whole number from {min} to {max}")),
                }
            }
            Self::Flag if matches!(text, "true" | "false") => Ok(()),
            Self::Flag => Err("expected true or false".to_owned()),
            Self::Word(words) => one_of(text, &words()),
            Self::Words(words) => {
                let words = words();
                text.split(',').try_for_each(|word| one_of(word, &words))
            }
            Self::Text { min, max, check, .. } if (*min..=*max).contains(&text.len()) => {
                check(text)
            }
            Self::Text { min, max, .. } => {
                Err(format!("expected {min} to {max} bytes, found {}", text.len()))
            }
        }
    }
}

fn one_of(word: &str, words: &[&str]) -> Result<(), String> {
    match words.contains(&word) {
        true => Ok(()),
        false => Err(format!("expected one of {}", words.join(", "))),
    }
}

/// Digits alone, and one way to write each number.
pub fn number(text: &str) -> Option<u64> {
    let is_plain =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

/// The check of a text that a `T` can be read from.
pub fn reads<T: FromStr<Err: Display>>(text: &str) -> Result<(), String> {
    text.parse::<T>().map(drop).map_err(|error| error.to_string())
}

/// The check of a text that may say anything; the route itself says what is wrong with it.
pub fn anything(_: &str) -> Result<(), String> {
    Ok(())
}

/// Something that a request may carry beside its body.
#[derive(Clone, Copy)]
pub struct Param {
    /// Where it stands.
    pub place: Place,
    /// Its name; of headers in small letters.
    pub name: &'static str,
    /// What it may say.
    pub form: Form,
    /// What it is for.
    pub help: &'static str,
    /// What it may look like.
    pub example: Option<&'static str>,
}

impl Param {
    /// A part of the path.
    pub const fn path(name: &'static str, help: &'static str, form: Form) -> Self {
        Self { place: Place::Path, name, form, help, example: None }
    }

    /// A parameter of the query.
    pub const fn query(name: &'static str, help: &'static str, form: Form) -> Self {
        Self { place: Place::Query, name, form, help, example: None }
    }

    /// A header.
    pub const fn header(name: &'static str, help: &'static str, form: Form) -> Self {
        Self { place: Place::Header, name, form, help, example: None }
    }

    /// Shows what it may look like.
    #[must_use]
    pub const fn example(mut self, text: &'static str) -> Self {
        self.example = Some(text);
        self
    }

    /// True if both are the same parameter of a route.
    pub fn is(&self, other: &Self) -> bool {
        (self.place, self.name) == (other.place, other.name)
    }
}

/// What a request may carry as its body.
#[derive(Clone, Copy)]
pub struct Body {
    /// Its content type, which also counts where none is named.
    pub content_type: &'static str,
    /// Bytes.
    pub most: u64,
    /// Code of the refusal where there are more.
    pub over: &'static str,
    /// False if a request without one says something, too.
    pub is_required: bool,
    /// What it looks like.
    pub schema: SchemaOf,
    /// Name of the type that it is read as, none for bytes.
    pub type_name: Option<fn() -> &'static str>,
}

impl Body {
    /// An object.
    pub const fn json<T: ToSchema>() -> Self {
        Self {
            content_type: media::JSON,
            most: HTTP_BODY_MAX,
            over: "BODY_TOO_LARGE",
            is_required: true,
            schema: schema::of::<T>,
            type_name: Some(std::any::type_name::<T>),
        }
    }

    /// Bytes; none are bytes, too.
    pub const fn bytes(most: usize) -> Self {
        Self {
            content_type: media::BYTES,
            most: most as u64,
            over: "BODY_TOO_LARGE",
            is_required: false,
            schema: schema::bytes,
            type_name: None,
        }
    }

    /// So many bytes.
    #[must_use]
    pub const fn most(mut self, most: usize) -> Self {
        self.most = most as u64;
        self
    }

    /// Refused with this code where there are more.
    #[must_use]
    pub const fn over(mut self, code: &'static str) -> Self {
        self.over = code;
        self
    }

    /// A request without one counts as one with `{}`.
    #[must_use]
    pub const fn optional(mut self) -> Self {
        self.is_required = false;
        self
    }
}

/// One of the good answers of a route.
#[derive(Clone, Copy)]
pub struct Reply {
    /// Status.
    pub status: u16,
    /// Content type.
    pub content_type: &'static str,
    /// What it looks like.
    pub schema: SchemaOf,
    /// What it says.
    pub help: &'static str,
    /// Headers of its own.
    pub headers: &'static [&'static str],
}

impl Reply {
    /// An object.
    pub const fn json<T: ToSchema>(status: u16, help: &'static str) -> Self {
        Self::other(status, media::JSON, schema::of::<T>, help)
    }

    /// Something else.
    pub const fn other(
        status: u16,
        content_type: &'static str,
        schema: SchemaOf,
        help: &'static str,
    ) -> Self {
        Self { status, content_type, schema, help, headers: &[] }
    }

    /// It has these headers.
    #[must_use]
    pub const fn headers(mut self, names: &'static [&'static str]) -> Self {
        self.headers = names;
        self
    }
}

/// A route.
#[derive(Clone, Copy)]
pub struct Route {
    /// Its method.
    pub method: Verb,
    /// Its path; `{name}` stands for one segment, `{name..}` at the end for one or more.
    pub path: &'static str,
    /// Names the operation for programs.
    pub id: &'static str,
    /// What it does.
    pub help: &'static str,
    /// What somebody must be allowed to, as `values:read`; nothing if no token is asked for. It is named only, so far:
    /// whoever has the token, and the operator at the socket, is allowed everything.
    pub permission: Option<&'static str>,
    /// Parts of the path, parameters of the query and headers.
    pub params: &'static [&'static Param],
    /// What it takes.
    pub body: Option<Body>,
    /// What it answers when all goes well.
    pub replies: &'static [Reply],
    /// Groups of codes that it refuses with, beside those of all routes.
    pub refuses: &'static [&'static [&'static str]],
    /// True if its answers carry an ETag: reads are answered 304 by it.
    pub is_tagged: bool,
    /// True if whoever asks it under any name, from any page, gets an answer. It tells nothing.
    pub is_for_all_hosts: bool,
    /// True if it ends something for good. Tools that try everything leave these out.
    pub is_drastic: bool,
    /// Who answers.
    pub serve: Serve,
}

impl Route {
    const fn new(
        method: Verb,
        path: &'static str,
        id: &'static str,
        help: &'static str,
        serve: Serve,
    ) -> Self {
        Self {
            method,
            path,
            id,
            help,
            permission: None,
            params: &[],
            body: None,
            replies: &[],
            refuses: &[],
            is_tagged: false,
            is_for_all_hosts: false,
            is_drastic: false,
            serve,
        }
    }

    /// Reads.
    pub const fn get(
        path: &'static str,
        id: &'static str,
        help: &'static str,
        serve: Serve,
    ) -> Self {
        Self::new(Verb::Get, path, id, help, serve)
    }

    /// Makes or begins something.
    pub const fn post(
        path: &'static str,
        id: &'static str,
        help: &'static str,
        serve: Serve,
    ) -> Self {
        Self::new(Verb::Post, path, id, help, serve)
    }

    /// Writes something.
    pub const fn put(
        path: &'static str,
        id: &'static str,
        help: &'static str,
        serve: Serve,
    ) -> Self {
        Self::new(Verb::Put, path, id, help, serve)
    }

    /// Removes something.
    pub const fn delete(
        path: &'static str,
        id: &'static str,
        help: &'static str,
        serve: Serve,
    ) -> Self {
        Self::new(Verb::Delete, path, id, help, serve)
    }

    /// What somebody must be allowed to.
    #[must_use]
    pub const fn permission(mut self, name: &'static str) -> Self {
        self.permission = Some(name);
        self
    }

    /// What it may carry beside a body.
    #[must_use]
    pub const fn params(mut self, params: &'static [&'static Param]) -> Self {
        self.params = params;
        self
    }

    /// What it takes.
    #[must_use]
    pub const fn body(mut self, body: Body) -> Self {
        self.body = Some(body);
        self
    }

    /// What it answers.
    #[must_use]
    pub const fn replies(mut self, replies: &'static [Reply]) -> Self {
        self.replies = replies;
        self
    }

    /// What it refuses with.
    #[must_use]
    pub const fn refuses(mut self, groups: &'static [&'static [&'static str]]) -> Self {
        self.refuses = groups;
        self
    }

    /// Its answers carry an ETag.
    #[must_use]
    pub const fn tagged(mut self) -> Self {
        self.is_tagged = true;
        self
    }

    /// Anybody may ask, under any name.
    #[must_use]
    pub const fn for_all_hosts(mut self) -> Self {
        self.is_for_all_hosts = true;
        self
    }

    /// It ends something for good.
    #[must_use]
    pub const fn drastic(mut self) -> Self {
        self.is_drastic = true;
        self
    }

    /// Its parameters of this place, in the order of their declaration.
    pub fn params_of(&self, place: Place) -> impl Iterator<Item = &'static Param> {
        self.params.iter().copied().filter(move |param| param.place == place)
    }

    /// True if it declares this parameter.
    pub fn declares(&self, param: &Param) -> bool {
        self.params.iter().any(|declared| declared.is(param))
    }

    /// Every code that it can refuse with.
    pub fn codes(&self) -> Vec<&'static str> {
        let mut codes = self.own_codes();
        codes.extend(codes::ALL);
        if !self.is_for_all_hosts {
            codes.extend(codes::HOSTS);
        }
        if self.permission.is_some() {
            codes.push("UNAUTHORIZED");
        }
        if matches!(self.serve, Serve::Running(_)) {
            codes.extend(codes::BEFORE);
        }
        if matches!(self.serve, Serve::Setup(_)) {
            codes.push("NOT_FOUND");
        }
        codes
    }

    /// Those of them that not every path has.
    pub fn own_codes(&self) -> Vec<&'static str> {
        let mut codes: Vec<&str> = self.refuses.concat();
        if let Some(body) = &self.body {
            codes.extend(codes::BODY);
            codes.push(body.over);
        }
        codes
    }
}
