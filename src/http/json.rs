//! JSON as requests may carry it: an object where one is meant, and each name once.
//!
//! serde takes a list for a struct, field by field, and the last of two equal names in a map; and its messages name
//! types of the source. So its visitors are wrapped: what they expect is said in words, lists are let in where lists
//! are meant, names are looked at before they are handed on, and a trail says where it stopped.
//!
//! Types of requests keep out of `flatten` and of enums with tags: serde reads these through a buffer of its own, behind
//! which a list passes for a struct again.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::value::StringDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, Expected, IntoDeserializer as _,
    MapAccess, SeqAccess, Unexpected, Visitor,
};

use super::api::FieldError;
use crate::types::limits::HTTP_SHOWN_MAX;

/// A step into an object or a list.
enum Step {
    Name(String),
    Item(usize),
}

/// Where reading is.
type Trail = RefCell<Vec<Step>>;

/// Reads an object.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FieldError> {
    let trail = Trail::default();
    let mut inner = serde_json::Deserializer::from_slice(bytes);
    let read = T::deserialize(Strict { inner: &mut inner, trail: &trail });
    let read = read.and_then(|value| inner.end().map(|()| value));
    read.map_err(|error| {
        let mut steps = trail.borrow_mut();
        let text = error.to_string();
        let missing = text.strip_prefix("missing field `").and_then(|text| text.split_once('`'));
        let Some((name, _)) = missing.filter(|_| error.is_data()) else {
            return FieldError { field: path(&steps), reason: reason(&error) };
        };
        steps.push(Step::Name(name.to_owned()));
        FieldError { field: path(&steps), reason: "it is missing".to_owned() }
    })
}

/// Such as `set.zone` or `tags[3]`.
fn path(steps: &[Step]) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Name(name) if path.is_empty() => path.push_str(name),
            Step::Name(name) => path.extend([".", name]),
            Step::Item(at) => path.push_str(&format!("[{at}]")),
        }
    }
    if path.is_empty() { "body".to_owned() } else { cut(&path) }
}

fn cut(text: &str) -> String {
    text.chars().take(HTTP_SHOWN_MAX).collect()
}

/// What is wrong, in words of people.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if !error.is_data() {
        return format!("it is no JSON: {}", cut(&text));
    }
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    if let Some((name, known)) = text.strip_prefix("unknown field `").and_then(parted) {
        return cut(&format!("there is no field `{name}` here; {known}"));
    }
    if let Some((word, known)) = text.strip_prefix("unknown variant `").and_then(parted) {
        return cut(&format!("{known}, found `{word}`"));
    }
    let mismatch = text.strip_prefix("invalid type: ").or(text.strip_prefix("invalid value: "));
    let mismatch = mismatch.and_then(|rest| rest.rsplit_once(", expected "));
    match mismatch {
        Some((found, wanted)) => format!("expected {wanted}, found {}", found_in_words(found)),
        None => cut(text),
    }
}

/// What stands before the next backtick, and behind the comma that follows.
fn parted(text: &str) -> Option<(&str, &str)> {
    text.split_once("`, ")
}

/// What serde calls by the names of its types.
fn found_in_words(found: &str) -> String {
    for (name, words) in [("map", "an object"), ("sequence", "a list"), ("null", "null")] {
        if found == name {
            return words.to_owned();
        }
    }
    for (name, words) in [
        ("string ", "the text"),
        ("integer ", "the number"),
        ("floating point ", "the number"),
        ("boolean ", "the word"),
    ] {
        if let Some(value) = found.strip_prefix(name) {
            return format!("{words} {}", cut(value));
        }
    }
    cut(found)
}

/// A deserializer whose visitors are wrapped.
struct Strict<'t, D> {
    inner: D,
    trail: &'t Trail,
}

macro_rules! forward {
    ($($method:ident $wanted:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method(Checked { visitor, wanted: $wanted, lists: true, trail: self.trail })
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<'_, D> {
    type Error = D::Error;

    forward! {
        deserialize_any "a value";
        deserialize_bool "true or false";
        deserialize_i8 "a whole number from -128 to 127";
        deserialize_i16 "a whole number from -32768 to 32767";
        deserialize_i32 "a whole number from -2147483648 to 2147483647";
        deserialize_i64 "a whole number";
        deserialize_u8 "a whole number from 0 to 255";
        deserialize_u16 "a whole number from 0 to 65535";
        deserialize_u32 "a whole number from 0 to 4294967295";
        deserialize_u64 "a whole number, not below 0";
        deserialize_f32 "a number";
        deserialize_f64 "a number";
        deserialize_char "a character";
        deserialize_str "a text";
        deserialize_string "a text";
        deserialize_bytes "a list of bytes";
        deserialize_byte_buf "a list of bytes";
        deserialize_option "a value or null";
        deserialize_unit "null";
        deserialize_seq "a list";
        deserialize_map "an object";
        deserialize_identifier "a name";
        deserialize_ignored_any "a value";
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = Checked { visitor, wanted: "a value", lists: true, trail: self.trail };
        self.inner.deserialize_newtype_struct(name, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = Checked { visitor, wanted: "an object", lists: false, trail: self.trail };
        self.inner.deserialize_map(visitor)
    }

    /// Words only.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_string(Word(visitor))
    }
}

/// Hands a word on to the visitor of an enum.
struct Word<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Word<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<V::Value, E> {
        self.0.visit_enum(word.into_deserializer())
    }
}

/// What a visitor says to a plain value, before it is put into words.
#[derive(Debug)]
enum Said {
    /// That it wants another one.
    Mismatch,
    /// Something of its own.
    Own(String),
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mismatch => f.write_str("it does not fit"),
            Self::Own(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Said {}

impl Error for Said {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::Own(text.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, _: &dyn Expected) -> Self {
        Self::Mismatch
    }

    fn invalid_value(_: Unexpected<'_>, _: &dyn Expected) -> Self {
        Self::Mismatch
    }
}

/// A visitor that lets in what is meant.
struct Checked<'t, V> {
    visitor: V,
    /// What is meant.
    wanted: &'static str,
    /// False for structs, which serde would also fill from a list.
    lists: bool,
    trail: &'t Trail,
}

macro_rules! plain {
    ($($method:ident $kind:ty, $shown:expr;)*) => {$(
        fn $method<E: Error>(self, value: $kind) -> Result<V::Value, E> {
            let wanted = self.wanted;
            self.visitor.$method::<Said>(value).map_err(|said| match said {
                Said::Mismatch => E::invalid_type($shown(value), &wanted),
                Said::Own(text) => E::custom(text),
            })
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Checked<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.wanted)
    }

    plain! {
        visit_bool bool, Unexpected::Bool;
        visit_i64 i64, Unexpected::Signed;
        visit_u64 u64, Unexpected::Unsigned;
        visit_f64 f64, Unexpected::Float;
        visit_str &str, Unexpected::Str;
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        let wanted = self.wanted;
        self.visitor.visit_unit::<Said>().map_err(|said| match said {
            Said::Mismatch => E::invalid_type(Unexpected::Other("null"), &wanted),
            Said::Own(text) => E::custom(text),
        })
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_some(Strict { inner, trail: self.trail })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_newtype_struct(Strict { inner, trail: self.trail })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        if !self.lists {
            return Err(Error::invalid_type(Unexpected::Seq, &self));
        }
        self.visitor.visit_seq(Items { inner, trail: self.trail, next: 0 })
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(Fields { inner, trail: self.trail, seen: BTreeSet::new() })
    }
}

/// A seed whose value is read strictly.
struct Within<'t, S> {
    seed: S,
    trail: &'t Trail,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Within<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.seed.deserialize(Strict { inner, trail: self.trail })
    }
}

/// The items of a list.
struct Items<'t, A> {
    inner: A,
    trail: &'t Trail,
    next: usize,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Items<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.trail.borrow_mut().push(Step::Item(self.next));
        self.next += 1;
        let item = self.inner.next_element_seed(Within { seed, trail: self.trail })?;
        // After a fault the trail is left where it was.
        self.trail.borrow_mut().pop();
        Ok(item)
    }
}

/// The fields of an object.
struct Fields<'t, A> {
    inner: A,
    trail: &'t Trail,
    seen: BTreeSet<String>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Fields<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let Some(name) = self.inner.next_key::<String>()? else { return Ok(None) };
        self.trail.borrow_mut().push(Step::Name(name.clone()));
        if !self.seen.insert(name.clone()) {
            return Err(Error::custom("the name is there twice"));
        }
        let name: StringDeserializer<A::Error> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let value = self.inner.next_value_seed(Within { seed, trail: self.trail })?;
        self.trail.borrow_mut().pop();
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Color {
        Red,
        Blue,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        count: u8,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Outer {
        name: String,
        inner: Option<Inner>,
        all: Vec<Inner>,
        set: BTreeMap<String, String>,
        color: Option<Color>,
        size: i64,
        share: f64,
        on: bool,
        data: serde_json::Value,
    }

    fn fault(text: &str) -> (String, String) {
        let FieldError { field, reason } = read::<Outer>(text.as_bytes()).unwrap_err();
        (field, reason)
    }

    #[test]
    fn an_object_is_read() {
        let text = r#"{"name":"n","inner":{"count":255},"all":[{"count":1}],"set":{"a":"b"},"color":"blue",
            "size":-3,"share":0.5,"on":true,"data":{"x":[1,null,{"y":"z"}]}}"#;
        let outer: Outer = read(text.as_bytes()).unwrap();
        assert_eq!(outer.inner, Some(Inner { count: 255 }));
        assert_eq!((outer.all.len(), outer.color, outer.size), (1, Some(Color::Blue), -3));
        assert_eq!(outer.data, serde_json::json!({"x": [1, null, {"y": "z"}]}));
        assert_eq!(read::<Outer>(br#"{"inner":null,"data":null}"#).unwrap(), Outer::default());
        assert_eq!(read::<Outer>(br#" {"share":1} "#).unwrap().share, 1.0);
    }

    #[test]
    fn a_list_is_no_object_at_any_depth() {
        assert_eq!(fault("[]"), ("body".into(), "expected an object, found a list".into()));
        assert_eq!(fault(r#"["n"]"#).0, "body");
        assert_eq!(fault(r#"{"inner":[1]}"#).0, "inner");
        assert_eq!(fault(r#"{"all":[{"count":1},[1]]}"#).0, "all[1]");
        assert_eq!(fault(r#"{"set":[]}"#).0, "set");
        assert_eq!(fault(r#"{"all":{}}"#).1, "expected a list, found an object");
    }

    #[test]
    fn a_name_stands_once() {
        for (text, field) in [
            (r#"{"name":"a","name":"a"}"#, "name"),
            (r#"{"set":{"a":"b","a":"c"}}"#, "set.a"),
            (r#"{"data":{"x":{"y":1,"y":2}}}"#, "data.x.y"),
        ] {
            assert_eq!(fault(text), (field.into(), "the name is there twice".into()));
        }
    }

    #[test]
    fn faults_say_where_and_in_words_of_people() {
        for (text, field, reason) in [
            (r#""x""#, "body", "expected an object, found the text \"x\""),
            (r#"{"name":1}"#, "name", "expected a text, found the number `1`"),
            (r#"{"name":null}"#, "name", "expected a text, found null"),
            (
                r#"{"inner":{"count":"1"}}"#,
                "inner.count",
                "expected a whole number from 0 to 255, found the text \"1\"",
            ),
            (
                r#"{"inner":{"count":256}}"#,
                "inner.count",
                "expected a whole number from 0 to 255, found the number `256`",
            ),
            (
                r#"{"inner":{"count":-1}}"#,
                "inner.count",
                "expected a whole number from 0 to 255, found the number `-1`",
            ),
            (
                r#"{"inner":{"count":1.5}}"#,
                "inner.count",
                "expected a whole number from 0 to 255, found the number `1.5`",
            ),
            (r#"{"inner":{}}"#, "inner.count", "it is missing"),
            (r#"{"set":{"zone":5}}"#, "set.zone", "expected a text, found the number `5`"),
            (r#"{"color":"green"}"#, "color", "expected `red` or `blue`, found `green`"),
            (r#"{"color":5}"#, "color", "expected a word, found the number `5`"),
            (r#"{"color":{"red":null}}"#, "color", "expected a word, found an object"),
            (r#"{"on":"true"}"#, "on", "expected true or false, found the text \"true\""),
            (r#"{"size":{}}"#, "size", "expected a whole number, found an object"),
            (r#"{"share":"1"}"#, "share", "expected a number, found the text \"1\""),
        ] {
            assert_eq!(fault(text), (field.into(), reason.into()), "{text}");
        }
        let (field, reason) = fault(r#"{"nam":"x"}"#);
        assert!(
            field == "nam" && reason.starts_with("there is no field `nam` here; expected one of"),
            "{reason}"
        );
        for text in ["", "{", "{\"name\"", "{} {}", "{\"name\":\"\u{1}\"}", "nul", "{}x"] {
            assert!(fault(text).1.starts_with("it is no JSON: "), "{text}");
        }
        let deep = format!("{{\"data\":{}{}}}", "[".repeat(200), "]".repeat(200));
        assert!(fault(&deep).1.starts_with("it is no JSON: "));
        let long = format!("{{\"size\":\"{}\"}}", "x".repeat(5_000));
        assert!(fault(&long).1.len() < 2 * HTTP_SHOWN_MAX);
    }
}
