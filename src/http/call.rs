//! What a route gets of a request.

use std::fmt::Display;
use std::str::FromStr;

use serde::de::DeserializeOwned;

use super::json;
use super::media;
use super::params::IDEMPOTENCY_KEY;
use super::problem::ApiError;
use super::route::{Form, Param, Route, number};
use super::server::Connection;

/// A request that was checked against its row: a route reads it, and need not check it again.
pub struct Call {
    /// The row.
    pub route: &'static Route,
    /// What the path, the query and the headers say, by declared parameter.
    pub given: Vec<(&'static Param, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// What the client would like to get.
    pub accept: String,
    /// Path, decoded.
    pub path: String,
    /// The connection that it came on.
    pub connection: Connection,
    /// True if it came from the operator of this machine.
    pub is_local: bool,
    /// True if only the head of the answer is wanted.
    pub is_head: bool,
}

impl Call {
    /// What a parameter says.
    pub fn text(&self, param: &Param) -> Option<&str> {
        debug_assert!(self.route.declares(param), "{} lacks {}", self.route.id, param.name);
        let given = self.given.iter().find(|(known, _)| known.is(param));
        given.map(|(_, text)| text.as_str())
    }

    /// What a parameter says, read from its text.
    pub fn parsed<T: FromStr<Err: Display>>(&self, param: &Param) -> Result<Option<T>, ApiError> {
        let invalid = |error: T::Err| ApiError::invalid(param.name, error.to_string());
        self.text(param).map(|text| text.parse().map_err(invalid)).transpose()
    }

    /// The same of one that has to be there, as parts of the path are.
    pub fn needed<T: FromStr<Err: Display>>(&self, param: &Param) -> Result<T, ApiError> {
        self.parsed(param)?.ok_or_else(|| ApiError::invalid(param.name, "it is missing"))
    }

    /// A number, or its default.
    pub fn number(&self, param: &Param) -> Option<u64> {
        let default = match param.form {
            Form::Number { default, .. } => default,
            _ => None,
        };
        self.text(param).and_then(number).or(default)
    }

    /// True if a flag is set.
    pub fn flag(&self, param: &Param) -> bool {
        self.text(param) == Some("true")
    }

    /// The body as an object; one that may be missing is `{}` then.
    pub fn json<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        let declared = self.route.body.and_then(|body| body.type_name).map(|name| name());
        debug_assert_eq!(declared, Some(std::any::type_name::<T>()), "{}", self.route.id);
        let body = std::mem::take(&mut self.body);
        let is_optional = self.route.body.is_some_and(|body| !body.is_required);
        let text: &[u8] = if body.is_empty() && is_optional { b"{}" } else { &body };
        json::read(text).map_err(ApiError::of_field)
    }

    /// The body as it is.
    pub fn bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.body)
    }

    /// True if the client names this type among those that it takes.
    pub fn accepts(&self, content_type: &str) -> bool {
        media::accepts(&self.accept, content_type)
    }

    /// A hash of the key under which this request may be repeated, whichever node it is sent to; none if the client
    /// names none. `domain` keeps different kinds of keys apart.
    pub fn key(&self, domain: &str) -> Option<[u8; 32]> {
        let key = self.text(&IDEMPOTENCY_KEY)?;
        // The key holds no zero byte, so no two triples give the same input.
        Some(*blake3::hash([domain, key, &self.path].join("\0").as_bytes()).as_bytes())
    }
}

#[cfg(test)]
impl Call {
    /// A call of this route.
    pub fn for_test(route: &'static Route, given: &[(&'static Param, &str)], body: &[u8]) -> Self {
        let given = given.iter().map(|(param, text)| (*param, (*text).to_owned())).collect();
        Self {
            route,
            given,
            body: body.to_vec(),
            accept: String::new(),
            path: route.path.to_owned(),
            connection: Connection::default(),
            is_local: false,
            is_head: false,
        }
    }
}
