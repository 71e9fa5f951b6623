//! Kinds of values, and how each is read from text and from TOML.
//!
//! 1. A value that was read is in range; nothing later has to check it again.
//! 2. The text of a value, read again, is the same value.
//! 3. Why a value was refused is said in terms of what was expected instead.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use serde::Serialize;
use toml::Spanned;
use toml::de::DeValue;

use super::duration::{format_duration, parse_duration};
use super::filter::check_filter;
use crate::types::Address;
use crate::types::address::Host;
use crate::types::limits::{ADDRESSES_MAX, LABEL_LEN_MAX, LABELS_MAX, MEMBERS_MAX};

/// Bytes of a path or of a log filter.
const LONG_TEXT_MAX: usize = 4_096;
/// Longest duration that a key takes.
const DURATION_MAX: Duration = Duration::from_secs(365 * 86_400);

/// What values a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A name of letters, digits, dots, underscores and hyphens.
    Name {
        /// Most bytes.
        max: usize,
    },
    /// A line of text.
    Text {
        /// Most bytes.
        max: usize,
    },
    /// A path in the file system.
    Path,
    /// True or false.
    Bool,
    /// A whole number.
    Integer {
        /// Least value.
        min: u64,
        /// Largest value.
        max: u64,
    },
    /// A duration longer than zero.
    Duration,
    /// IP addresses to listen on.
    Listen,
    /// Addresses under which others reach this node.
    Reach,
    /// Addresses of other nodes.
    Peers,
    /// A socket address of the loopback interface.
    Loopback,
    /// Pairs of a name and a text.
    Labels,
    /// A level of the log or a filter directive.
    LogFilter,
    /// One of a few words.
    Choice(&'static [&'static str]),
}

/// A value that was read, in its canonical form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Anything that is written as one text.
    Text(String),
    /// True or false.
    Bool(bool),
    /// A whole number.
    Integer(u64),
    /// A list of addresses.
    Addresses(Vec<Address>),
    /// Labels by name.
    Labels(BTreeMap<String, String>),
}

/// Why a value in a file was refused, and the bytes of the file that are to blame.
pub(super) struct Refusal {
    pub(super) span: Range<usize>,
    pub(super) reason: String,
}

impl Kind {
    /// What a value should be, as it stands after "expected".
    pub fn expected(&self) -> String {
        match self {
            Self::Name { max } => {
                format!("a name of 1 to {max} letters, digits, dots, underscores or hyphens")
            }
            Self::Text { max } => format!("a text of 1 to {max} bytes on one line"),
            Self::Path => "a path".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Duration => "a duration such as 300ms, 90s, 15m or 24h, at most 365d".to_owned(),
            Self::Listen => format!("a list of up to {ADDRESSES_MAX} IP addresses with port"),
            Self::Reach => format!("a list of up to {ADDRESSES_MAX} addresses"),
            Self::Peers => format!("a list of up to {MEMBERS_MAX} addresses"),
            Self::Loopback => "a loopback IP and a port, such as 127.0.0.1:8080".to_owned(),
            Self::Labels => format!("up to {LABELS_MAX} labels, each with a text as its value"),
            Self::LogFilter => {
                "error, warn, info, debug, trace or a filter such as info,bzzz=debug".to_owned()
            }
            Self::Choice(words) => format!("one of {}", words.join(", ")),
        }
    }

    /// Reads a value from the text of a default, a variable or a flag.
    pub fn read(&self, text: &str) -> Result<Value, String> {
        match self {
            Self::Bool => match text {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                _ => Err(self.but_found(text)),
            },
            Self::Integer { .. } => {
                let number = text.parse().map_err(|_| self.but_found(text))?;
                self.check_integer(number)
            }
            Self::Listen | Self::Reach | Self::Peers => self.addresses(items(text)),
            Self::Labels => labels(items(text).map(|item| {
                item.split_once('=').ok_or_else(|| {
                    format!("expected labels such as zone=a,disk=ssd, found {}", quoted(item))
                })
            })),
            _ => self.scalar(text).map(Value::Text),
        }
    }

    /// Reads a value from a file.
    pub(super) fn read_toml(&self, value: &Spanned<DeValue<'_>>) -> Result<Value, Refusal> {
        let refuse = |at: &Spanned<DeValue<'_>>, reason| Refusal { span: at.span(), reason };
        let wrong = |at| refuse(at, format!("expected {}, found {}", self.expected(), found(at)));
        match (self, value.get_ref()) {
            (Self::Bool, DeValue::Boolean(yes)) => Ok(Value::Bool(*yes)),
            (Self::Integer { .. }, DeValue::Integer(number)) => {
                u64::from_str_radix(number.as_str(), number.radix())
                    .map_err(|_| self.but_found(&number.to_string()))
                    .and_then(|number| self.check_integer(number))
                    .map_err(|reason| refuse(value, reason))
            }
            (Self::Listen | Self::Reach | Self::Peers, DeValue::Array(array)) => {
                let mut texts = Vec::with_capacity(array.len());
                for (index, item) in array.iter().enumerate() {
                    let DeValue::String(text) = item.get_ref() else {
                        let found = found(item);
                        let entry = index + 1;
                        return Err(refuse(
                            item,
                            format!("entry {entry}: expected an address as text, found {found}"),
                        ));
                    };
                    // Read one by one first, so that the line is the one of the wrong entry.
                    self.address(index, text).map_err(|reason| refuse(item, reason))?;
                    texts.push(text.as_ref());
                }
                self.addresses(texts.into_iter()).map_err(|reason| refuse(value, reason))
            }
            (Self::Labels, DeValue::Table(table)) => {
                let mut pairs = Vec::with_capacity(table.len());
                for (name, item) in table {
                    let DeValue::String(text) = item.get_ref() else { return Err(wrong(item)) };
                    pairs.push(Ok((name.get_ref().as_ref(), text.as_ref())));
                }
                labels(pairs.into_iter()).map_err(|reason| refuse(value, reason))
            }
            (kind, DeValue::String(text)) if kind.is_scalar() => {
                self.scalar(text).map(Value::Text).map_err(|reason| refuse(value, reason))
            }
            _ => Err(wrong(value)),
        }
    }

    /// True for kinds whose values are one text.
    fn is_scalar(&self) -> bool {
        !matches!(
            self,
            Self::Bool
                | Self::Integer { .. }
                | Self::Listen
                | Self::Reach
                | Self::Peers
                | Self::Labels
        )
    }

    fn but_found(&self, text: &str) -> String {
        format!("expected {}, found {}", self.expected(), quoted(text))
    }

    fn check_integer(&self, number: u64) -> Result<Value, String> {
        match self {
            Self::Integer { min, max } if (min..=max).contains(&&number) => {
                Ok(Value::Integer(number))
            }
            _ => Err(self.but_found(&number.to_string())),
        }
    }

    /// Checks a value that is one text and returns its canonical form.
    fn scalar(&self, text: &str) -> Result<String, String> {
        let fits = match self {
            Self::Name { max } => {
                (1..=*max).contains(&text.len())
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            }
            Self::Text { max } => {
                (1..=*max).contains(&text.len()) && is_line(text) && text.trim() == text
            }
            Self::Path => (1..=LONG_TEXT_MAX).contains(&text.len()) && !text.contains('\0'),
            Self::Choice(words) => words.contains(&text),
            Self::Duration => return self.duration(text),
            Self::Loopback => return loopback(text),
            Self::LogFilter => text.len() <= LONG_TEXT_MAX && check_filter(text),
            _ => false,
        };
        if fits { Ok(text.to_owned()) } else { Err(self.but_found(text)) }
    }

    fn duration(&self, text: &str) -> Result<String, String> {
        let duration =
            parse_duration(text).map_err(|error| format!("{error}, found {}", quoted(text)))?;
        if duration.is_zero() || duration > DURATION_MAX {
            return Err(self.but_found(text));
        }
        Ok(format_duration(duration))
    }

    fn addresses<'a>(&self, texts: impl Iterator<Item = &'a str>) -> Result<Value, String> {
        let most = if *self == Self::Peers { MEMBERS_MAX } else { ADDRESSES_MAX };
        let mut list = Vec::new();
        for (index, text) in texts.enumerate() {
            if index == most {
                return Err(format!("expected {}, found more", self.expected()));
            }
            list.push(self.address(index, text)?);
        }
        Ok(Value::Addresses(list))
    }

    fn address(&self, index: usize, text: &str) -> Result<Address, String> {
        let entry = index + 1;
        let address: Address = text.parse().map_err(|error| format!("entry {entry}: {error}"))?;
        let complaint = match self {
            Self::Listen if matches!(address.host, Host::Dns(_)) => {
                "names a host, use the IP address to listen on"
            }
            Self::Reach | Self::Peers if address.is_unspecified() => {
                "cannot be dialled, use the address under which the node is reached"
            }
            Self::Reach | Self::Peers if address.port == 0 => {
                "has port 0, use the port on which the node listens"
            }
            _ => return Ok(address),
        };
        Err(format!("entry {entry}: address {} {complaint}", quoted(text)))
    }
}

impl Value {
    /// The text that, in a variable or a flag, gives this value.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Bool(yes) => yes.to_string(),
            Self::Integer(number) => number.to_string(),
            Self::Addresses(list) => {
                list.iter().map(Address::to_string).collect::<Vec<_>>().join(",")
            }
            Self::Labels(labels) => {
                labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",")
            }
        }
    }
}

/// The parts of a comma list; an empty text has none.
fn items(text: &str) -> impl Iterator<Item = &str> {
    let text = text.trim();
    text.split(',').map(str::trim).filter(move |_| !text.is_empty())
}

fn labels<'a>(
    pairs: impl Iterator<Item = Result<(&'a str, &'a str), String>>,
) -> Result<Value, String> {
    let mut labels = BTreeMap::new();
    for pair in pairs {
        let (name, value) = pair?;
        // What the text form of labels could not carry is refused in files as well.
        let clean = |text: &str| is_line(text) && text.trim() == text && !text.contains(',');
        if name.is_empty() || name.len() > LABEL_LEN_MAX || name.contains('=') || !clean(name) {
            return Err(format!(
                "expected label names of 1 to {LABEL_LEN_MAX} bytes without = and comma, found {}",
                quoted(name)
            ));
        }
        if value.len() > LABEL_LEN_MAX || !clean(value) {
            return Err(format!(
                "expected label values of up to {LABEL_LEN_MAX} bytes without comma, found {} \
                 for {name}",
                quoted(value)
            ));
        }
        if labels.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(format!("label {name} is given twice, remove one"));
        }
    }
    if labels.len() > LABELS_MAX {
        return Err(format!("expected up to {LABELS_MAX} labels, found {}", labels.len()));
    }
    Ok(Value::Labels(labels))
}

fn loopback(text: &str) -> Result<String, String> {
    let local =
        text.strip_prefix("localhost:").map(|port| format!("{}:{port}", Ipv4Addr::LOCALHOST));
    let socket: SocketAddr =
        local.as_deref().unwrap_or(text).parse().map_err(|_| {
            format!("expected {}, found {}", Kind::Loopback.expected(), quoted(text))
        })?;
    if socket.ip().is_loopback() {
        return Ok(socket.to_string());
    }
    Err(format!(
        "plain HTTP is only served on loopback and {} is not; HTTPS for other addresses is not \
         available yet, use 127.0.0.1:{}",
        socket.ip(),
        socket.port()
    ))
}

fn is_line(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// A text in quotes, cut to a printable length.
fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(80).collect::<String>())
}

/// What stands in a file where something else was expected.
fn found(value: &Spanned<DeValue<'_>>) -> String {
    match value.get_ref() {
        DeValue::String(text) => format!("the text {}", quoted(text)),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
