//! Content types, as requests and routes name them.

/// Objects.
pub const JSON: &str = "application/json";
/// Bytes.
pub const BYTES: &str = "application/octet-stream";
/// What is encrypted with age.
pub const AGE: &str = "application/age-encryption";
/// The page of Prometheus.
pub const METRICS: &str = "text/plain; version=0.0.4";
/// Events as they happen.
pub const EVENTS: &str = "text/event-stream";

/// The type and subtype, in small letters, and the parameters.
fn parts(text: &str) -> (String, impl Iterator<Item = (String, &str)>) {
    let mut parts = text.split(';');
    let essence = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let params = parts.filter_map(|param| {
        let (name, value) = param.split_once('=')?;
        Some((name.trim().to_ascii_lowercase(), value.trim().trim_matches('"')))
    });
    (essence, params)
}

/// True if a content type is the one that is wanted. JSON is UTF-8, whatever else it is called.
pub fn is(text: &str, wanted: &str) -> bool {
    let (essence, mut params) = parts(text);
    let is_utf8 =
        |name: &str, value: &str| name != "charset" || value.eq_ignore_ascii_case("utf-8");
    essence == wanted && (wanted != JSON || params.all(|(name, value)| is_utf8(&name, value)))
}

/// True if a client says in `Accept` that it takes this type, by its name.
pub fn accepts(accept: &str, wanted: &str) -> bool {
    accept.split(',').any(|item| {
        let (essence, mut params) = parts(item);
        let is_refused = |value: &str| value.parse::<f32>().is_ok_and(|quality| quality <= 0.0);
        essence == wanted && !params.any(|(name, value)| name == "q" && is_refused(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_compared_by_its_name() {
        for good in ["application/json", "Application/JSON", "application/json; charset=UTF-8"] {
            assert!(is(good, JSON), "{good}");
        }
        for bad in ["", "text/json", "application/json; charset=latin1", "application/jsonp", "*/*"]
        {
            assert!(!is(bad, JSON), "{bad}");
        }
        assert!(is("application/octet-stream; charset=x", BYTES));
    }

    #[test]
    fn a_client_has_what_it_names_and_does_not_refuse() {
        for good in ["application/json", "text/html, application/json;q=0.5", "APPLICATION/json"] {
            assert!(accepts(good, JSON), "{good}");
        }
        for bad in
            ["*/*", "application/json;q=0", "application/json; q=0.0", "text/application/json"]
        {
            assert!(!accepts(bad, JSON), "{bad}");
        }
    }
}
