//! A check of log filters that needs no logging library.
//!
//! The library reads a lone word that is no level as the name of a module, so `inof` would be
//! accepted and silence the log. Here a lone word is a level or wrong.

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// True for a level, or a comma list of directives such as `info,bzzz=debug`.
pub(super) fn check_filter(text: &str) -> bool {
    let printable = !text.is_empty() && !text.chars().any(char::is_control);
    // Directives with spans may hold commas and equal signs of their own; the library reads them.
    printable && (text.contains('[') || text.split(',').all(check_directive))
}

fn check_directive(directive: &str) -> bool {
    let (target, level) = directive.rsplit_once('=').unwrap_or(("any", directive));
    // The library takes blanks for a part of the name, which then never matches.
    !target.is_empty() && !directive.contains(' ') && is_level(level)
}

fn is_level(word: &str) -> bool {
    LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::check_filter;

    #[test]
    fn levels_and_directives_pass_and_misspelt_levels_do_not() {
        for text in
            ["info", "WARN", "off", "info,bzzz=debug", "a::b=trace", "bzzz[span{id=1,x=2}]=debug"]
        {
            assert!(check_filter(text), "{text}");
        }
        for text in ["", "inof", "bzzz", "bzzz=debgu", "=info", "info,", "info, a=warn", "in\nfo"] {
            assert!(!check_filter(text), "{text}");
        }
    }
}
