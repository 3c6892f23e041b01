//! URLs as text: their path, their query, and forms, which are written as queries are.

use crate::encoding::{decode_form, encode_uri};

/// A URL of the gate's, with another path and the same query. `None` where the path would be more, or
/// part of the host.
pub(crate) fn with_path(url: &str, path: &str) -> Option<String> {
    if !path.starts_with('/') || path.contains(['?', '#']) {
        return None;
    }
    let (before, query) = match url.split_once('?') {
        Some((before, query)) => (before, Some(query)),
        None => (url, None),
    };
    // After the scheme, the first `/` begins the path: the gate writes no URL without one.
    let (scheme, rest) = before.split_once("://").unwrap_or(("", before));
    let authority = rest.split('/').next().unwrap_or_default();
    Some(with_query(&format!("{scheme}://{authority}{path}"), query))
}

/// A URL with another query, or none.
pub(crate) fn with_query(url: &str, query: Option<&str>) -> String {
    let before = url.split('?').next().unwrap_or_default();
    match query {
        Some(query) => format!("{before}?{query}"),
        None => before.to_owned(),
    }
}

/// The first value of a parameter, decoded.
pub(crate) fn param(query: &str, name: &str) -> Option<String> {
    let mut params = query.split('&').map(|part| part.split_once('=').unwrap_or((part, "")));
    params.find(|(known, _)| decode_form(known) == name).map(|(_, value)| decode_form(value))
}

/// The query with one parameter in place of all of that name, at its end.
pub(crate) fn with_param(query: Option<&str>, name: &str, value: &str) -> String {
    let others = query.and_then(|query| without_param(query, name));
    let param = format!("{}={}", encode_uri(name), encode_uri(value));
    match others {
        Some(others) => format!("{others}&{param}"),
        None => param,
    }
}

/// The query without the parameters of that name; `None` where nothing is left.
pub(crate) fn without_param(query: &str, name: &str) -> Option<String> {
    let has_other_name = |part: &&str| decode_form(part.split('=').next().unwrap_or_default()) != name;
    let others: Vec<&str> = query.split('&').filter(|part| !part.is_empty()).filter(has_other_name).collect();
    (!others.is_empty()).then(|| others.join("&"))
}

/// Fields as a form.
pub(crate) fn form(fields: &[(&str, &str)]) -> String {
    let field = |(name, value): &(&str, &str)| format!("{}={}", encode_uri(name), encode_uri(value));
    fields.iter().map(field).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_changes_and_the_query_stays() {
        let with_path = |url, path| with_path(url, path).unwrap();
        assert_eq!(with_path("https://a.test/b/c?d=/e", "/f"), "https://a.test/f?d=/e");
        assert_eq!(with_path("http://[::1]:8080/", "/x"), "http://[::1]:8080/x");
    }

    #[test]
    fn a_path_does_not_become_a_host_or_a_query() {
        for path in ["", ".evil.test/", "@evil.test/", ":81/", "/a?b", "/a#b"] {
            assert_eq!(with_path("https://a.test/", path), None, "{path:?}");
        }
    }

    #[test]
    fn the_query_changes_and_the_path_stays() {
        assert_eq!(with_query("https://a.test/b?c", Some("d=e")), "https://a.test/b?d=e");
        assert_eq!(with_query("https://a.test/b?c?d", None), "https://a.test/b");
    }

    #[test]
    fn params_are_found_decoded() {
        assert_eq!(param("a=1&b=2&a=3", "a").as_deref(), Some("1"));
        assert_eq!(param("a+b=%C3%A9+x", "a b").as_deref(), Some("é x"));
        assert_eq!(param("a", "a").as_deref(), Some(""));
        assert_eq!(param("a=1", "b"), None);
    }

    #[test]
    fn one_param_stands_in_place_of_all_of_its_name() {
        assert_eq!(with_param(None, "k", "a b&c"), "k=a%20b%26c");
        assert_eq!(with_param(Some("k=1&x=2&%6B=3"), "k", "4"), "x=2&k=4");
        assert_eq!(without_param("k=1&x=2&k", "k").as_deref(), Some("x=2"));
        assert_eq!(without_param("k=1", "k"), None);
    }

    #[test]
    fn what_stands_for_a_secret_stays_whole() {
        let placeholder = "sluicegate_secret_00ff_0_";
        assert_eq!(with_param(None, "key", placeholder), format!("key={placeholder}"));
        assert_eq!(form(&[("a", "b c"), ("key", placeholder)]), format!("a=b%20c&key={placeholder}"));
    }
}
