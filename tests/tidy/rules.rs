//! The rules, one function each.

use super::lexer::{Name, Token, blank, is_name, paths, tokens};
use super::tables::*;

/// Stands on the line above tests.
const TEST_ONLY: &str = "#[cfg(test)]";

/// A Rust file, as the rules see it.
pub struct Source {
    /// From the root of the tree.
    pub path: String,
    text: String,
    /// The text with comments, strings and characters blanked out, line by line.
    code: String,
    /// Number of lines before the tests.
    product_lines: usize,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let code = blank(text);
        let tests_only = !(path.starts_with("src/") || path.starts_with("simulations/src/"))
            || path.contains("/tests/")
            || ["/tests.rs", "/guards.rs"].iter().any(|tests| path.ends_with(tests));
        let product_lines = match tests_start(&code) {
            _ if tests_only => 0,
            Some(lines) => lines,
            None => code.lines().count(),
        };
        Self { path: path.to_owned(), text: text.to_owned(), code, product_lines }
    }

    /// Name of the layer, for code of the product.
    fn layer(&self) -> Option<&str> {
        if self.path.starts_with("simulations/src/") {
            return Some("simulations");
        }
        let name = self.path.strip_prefix("src/")?.split('/').next()?;
        Some(name.strip_suffix(".rs").unwrap_or(name))
    }

    /// How many modules are around the code of this file.
    fn depth(&self) -> usize {
        let inside = self.path.strip_prefix("simulations/").unwrap_or(&self.path);
        let inside = inside.strip_prefix("src/").unwrap_or(inside);
        let inside = inside.trim_end_matches(".rs").trim_end_matches("/mod");
        if matches!(inside, "lib" | "main") { 0 } else { inside.split('/').count() }
    }

    /// Code that is no test.
    fn product(&self) -> String {
        self.code.lines().take(self.product_lines).fold(String::new(), |mut all, line| {
            all.push_str(line);
            all.push('\n');
            all
        })
    }
}

/// Number of lines before the first module of tests that stands in the file itself. One that is
/// declared with `mod tests;` has a file of its own; a lone item for tests ends nothing.
fn tests_start(code: &str) -> Option<usize> {
    let lines: Vec<&str> = code.lines().collect();
    let is_module = |line: &str| line.starts_with("mod ") && line.ends_with('{');
    lines.windows(2).position(|pair| pair[0] == TEST_ONLY && is_module(pair[1]))
}

/// What a rule finds: a line, what is wrong, and what to do.
pub type Findings = Vec<(usize, String)>;

/// A name and what it checks.
pub type Rule = (&'static str, fn(&Source) -> Findings);

pub const RULES: &[Rule] = &[
    ("layers", layers),
    ("banned-names", banned_names),
    ("messages-of-others", messages_of_others),
    ("versions-of-messages", versions_of_messages),
    ("routes-apart", routes_apart),
    ("module-doc", module_doc),
    ("file-length", file_length),
    ("function-length", function_length),
    ("left-behind", left_behind),
    ("ignored-tests", ignored_tests),
    ("tests-last", tests_last),
];

fn layers(source: &Source) -> Findings {
    let Some(layer) = source.layer() else { return vec![] };
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
        return vec![(1, format!("src/{layer} has no place in the table LAYERS; give it one"))];
    };
    let mut findings = vec![];
    for Name { line, segments } in paths(&source.code) {
        let supers = segments.iter().take_while(|segment| *segment == "super").count();
        // Tests stand in a module of their own.
        let depth = source.depth() + usize::from(line > source.product_lines);
        if supers > 0 && supers >= depth {
            findings.push((line, "`super` leads to the crate's root; write `crate::`".to_owned()));
        }
        let target = match segments.as_slice() {
            [first, target, ..] if first == "crate" => target,
            _ => continue,
        };
        if *allowed != ANY && !allowed.split(' ').any(|layer| layer == target) {
            findings.push((
                line,
                format!(
                    "{layer} must not use crate::{target}, only {}; move the type down, or go \
                     through a port or a message",
                    allowed.replace(' ', ", ")
                ),
            ));
        }
    }
    findings.dedup();
    findings
}

fn banned_names(source: &Source) -> Findings {
    let Some(layer) = source.layer() else { return vec![] };
    let names = paths(&source.product());
    let bans = BANS.iter().filter(|ban| {
        ban.layers.split(' ').any(|banned| banned == layer)
            && !ban.except.contains(&source.path.as_str())
    });
    bans.flat_map(|ban| {
        names.iter().filter_map(|name| {
            let banned = ban.names.iter().find(|banned| name.has(banned))?;
            let fine = ban.but.iter().any(|but| name.has(but));
            let found = || (name.line, format!("{layer} must not use `{banned}`; {}", ban.instead));
            (!fine).then(found)
        })
    })
    .collect()
}

/// What a machine is told is its own affair: whoever names it has to change with it.
fn messages_of_others(source: &Source) -> Findings {
    if !source.path.starts_with("src/") || TELLS.iter().any(|(path, _)| *path == source.path) {
        return vec![];
    }
    let names = paths(&source.product()).into_iter();
    names
        .filter_map(|name| {
            let told = name.segments.iter().position(|segment| *segment == "Msg")?;
            let machine = name.segments.get(told.checked_sub(1)?)?;
            let (machine, folder) = MACHINES.iter().find(|(known, _)| known == machine)?;
            let own = [format!("src/core/{folder}/"), format!("src/core/{folder}.rs")];
            let found = format!(
                "`{machine}::Msg` is for src/core/{folder} alone; tell news, or call a function \
                 of {machine}"
            );
            (!own.iter().any(|own| source.path.starts_with(own))).then_some((name.line, found))
        })
        .collect()
}

/// Whoever names a version of a message has to be changed with every new one.
fn versions_of_messages(source: &Source) -> Findings {
    if source.path.starts_with("src/messages/") {
        return vec![];
    }
    let is_version = |segment: &str| {
        segment.strip_prefix('v').is_some_and(|number| number.parse::<u8>().is_ok())
    };
    let names = paths(&source.code).into_iter();
    names
        .filter(|name| {
            let after_wire = name.segments.iter().skip_while(|segment| **segment != "wire");
            after_wire.skip(1).any(|segment| is_version(segment))
        })
        .map(|name| {
            let found = "versions of messages are src/messages/'s own; name the newest type";
            (name.line, found.to_owned())
        })
        .collect()
}

/// A route knows its objects and what it asks, and nothing of other routes or of how it was found.
fn routes_apart(source: &Source) -> Findings {
    let is_route = source.path.strip_prefix(ROUTES).is_some_and(|file| file != "mod.rs");
    if !is_route {
        return vec![];
    }
    let names = paths(&source.product()).into_iter();
    names
        .filter(|name| {
            let segments: Vec<&str> = name.segments.iter().map(String::as_str).collect();
            match segments.as_slice() {
                ["super", ..] => true,
                ["crate", "http"] => true,
                ["crate", "http", module, ..] => !FOR_ROUTES.contains(module),
                _ => false,
            }
        })
        .map(|name| {
            let found = format!("a route may name {} of http", FOR_ROUTES.join(", "));
            (name.line, found)
        })
        .collect()
}

pub fn module_doc(source: &Source) -> Findings {
    if source.text.starts_with("//! ") {
        return vec![];
    }
    vec![(1, "the file must begin with `//! ` and what it is for".to_owned())]
}

fn file_length(source: &Source) -> Findings {
    let lines = source.product().lines().filter(|line| !line.trim().is_empty()).count();
    if lines <= FILE_LINES_MAX {
        return vec![];
    }
    let found = format!("{lines} lines of code, at most {FILE_LINES_MAX}; split it by meaning");
    vec![(source.product_lines, found)]
}

fn function_length(source: &Source) -> Findings {
    let tokens = tokens(&source.code);
    let mut findings = vec![];
    for (at, pair) in tokens.windows(2).enumerate() {
        if pair[0].text != "fn" || !is_name(&pair[1].text) {
            continue;
        }
        let Some(last_line) = body_end(&tokens[at..]) else { continue };
        let lines = last_line - pair[0].line + 1;
        if lines > FUNCTION_LINES_MAX {
            let name = &pair[1].text;
            let found =
                format!("fn {name} has {lines} lines, at most {FUNCTION_LINES_MAX}; split it");
            findings.push((pair[0].line, found));
        }
    }
    findings
}

/// The line on which the body of the function that `tokens` begin with ends, if it has a body.
fn body_end(tokens: &[Token]) -> Option<usize> {
    let (mut brackets, mut braces) = (0_usize, 0_usize);
    for token in tokens {
        match token.text.as_str() {
            "(" | "[" => brackets += 1,
            ")" | "]" => brackets = brackets.saturating_sub(1),
            ";" if brackets == 0 && braces == 0 => return None,
            "{" => braces += 1,
            "}" if braces <= 1 => return Some(token.line),
            "}" => braces -= 1,
            _ => {}
        }
    }
    None
}

fn left_behind(source: &Source) -> Findings {
    let macros = paths(&source.code).into_iter().filter_map(|name| {
        let found = LEFT_BEHIND.iter().find(|left| name.has(left))?;
        Some((name.line, format!("`{found}` must not stay; finish it or take it out")))
    });
    let markers = source.text.lines().enumerate().filter_map(|(at, line)| {
        let words = || line.split(|c: char| !c.is_alphanumeric() && c != '_');
        let found = MARKERS.iter().find(|marker| words().any(|word| word == **marker))?;
        Some((at + 1, format!("`{found}` must not stay; do it, or say what is and why")))
    });
    macros.chain(markers).collect()
}

fn ignored_tests(source: &Source) -> Findings {
    let ignored = |line: &str| {
        let line: String = line.chars().filter(|c| !c.is_whitespace()).collect();
        line.contains("#[ignore") || (line.contains("cfg_attr(") && line.contains(",ignore"))
    };
    let found = "an ignored test tests nothing; make it run, or take it out";
    let lines = source.code.lines().enumerate().filter(|(_, line)| ignored(line));
    lines.map(|(at, _)| (at + 1, found.to_owned())).collect()
}

/// Whatever follows the first module of tests is exempt from other rules, so it must be tests.
fn tests_last(source: &Source) -> Findings {
    let lines: Vec<&str> = source.code.lines().collect();
    let marked = |at: usize| at > 0 && lines[at - 1] == TEST_ONLY;
    let is_tests = |at: usize| match lines[at] {
        line if line.starts_with("mod ") => marked(at),
        line => line.is_empty() || line.starts_with([' ', '}', ')', '#']),
    };
    let product = source.product_lines;
    let unmarked = (0..product).find(|at| lines[*at].ends_with("mod tests;") && !marked(*at));
    let late = (product..lines.len()).find(|at| product > 0 && !is_tests(*at));
    let unmarked = unmarked.map(|at| (at, "put `#[cfg(test)]` on the line above `mod tests;`"));
    let late = late.map(|at| (at, "code after the tests; move it above them"));
    let findings = unmarked.into_iter().chain(late);
    findings.map(|(at, found)| (at + 1, found.to_owned())).collect()
}

pub fn forbidden_words(path: &str, text: &str) -> Findings {
    let begins = |line: &str, at: usize| {
        let before = line[..at].chars().next_back().unwrap_or(' ');
        !(before.is_alphanumeric() || "._-~*/})]$".contains(before))
    };
    let words = text.lines().enumerate().filter_map(|(at, line)| {
        let mut found = FORBIDDEN.iter().flat_map(|word| line.match_indices(word));
        let (_, word) = found.find(|(column, _)| begins(line, *column))?;
        Some((at + 1, format!("`{word}` is a place on one machine; say what you mean without it")))
    });
    let lock = LOCK_FILES.iter().find(|(name, ..)| path.rsplit('/').next() == Some(name));
    let lines = lock.map(|_| text.lines().enumerate()).into_iter().flatten();
    let sources = lines.filter_map(|(at, line)| {
        let (_, before, expected) = lock?;
        let (_, place) = line.split_once(before)?;
        let found = || (at + 1, format!("packages come from {expected} only"));
        (!place.starts_with(expected)).then(found)
    });
    words.chain(sources).collect()
}

/// True if a line of `cargo tree` names a crate that the simulator must not have.
pub fn is_outside(line: &str) -> bool {
    let name = line.split(' ').next().unwrap_or_default();
    OUTSIDE_SIMULATOR.iter().any(|outside| {
        name.strip_prefix(outside).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    })
}
