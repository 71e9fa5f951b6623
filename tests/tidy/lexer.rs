//! Just enough of Rust's grammar to see names, paths and braces.

/// The text with comments, strings and characters replaced by blanks; lines stay where they are.
pub fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match blank_end(&chars, at) {
            Some(end) => {
                out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
                end
            }
            None => {
                // A whole word, so that the r of `for"` does not begin a raw string.
                let rest = chars[at..].iter().skip(1);
                let word =
                    if is_word(chars[at]) { rest.take_while(|c| is_word(**c)).count() } else { 0 };
                out.extend(&chars[at..=at + word]);
                at + word + 1
            }
        };
        at = end;
    }
    out
}

/// Where the comment, string or character that begins at `at` ends, if one does.
fn blank_end(chars: &[char], at: usize) -> Option<usize> {
    let peek = |offset: usize| chars.get(at + offset).copied().unwrap_or('\0');
    let find = |from: usize, what: &[char]| {
        let mut rest = chars[from.min(chars.len())..].windows(what.len());
        rest.position(|window| window == what).map_or(chars.len(), |found| from + found)
    };
    match (peek(0), peek(1)) {
        ('/', '/') => Some(find(at, &['\n'])),
        ('/', '*') => Some(comment_end(chars, at)),
        ('"', _) => Some(quoted_end(chars, at)),
        ('\'', '\\') => Some(quoted_end(chars, at)),
        ('\'', _) if peek(2) == '\'' => Some(at + 3),
        ('r', _) | ('b' | 'c', 'r') => {
            let prefix = if peek(0) == 'r' { 1 } else { 2 };
            let hashes = chars[at + prefix..].iter().take_while(|c| **c == '#').count();
            let close: Vec<char> = std::iter::once('"').chain(vec!['#'; hashes]).collect();
            let open = peek(prefix + hashes) == '"';
            open.then(|| (find(at + prefix + hashes + 1, &close) + close.len()).min(chars.len()))
        }
        _ => None,
    }
}

/// Where a block comment ends; such comments nest.
fn comment_end(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') if depth == 1 => return at + 2,
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    chars.len()
}

/// Where a string or character with escapes ends, given where it begins.
fn quoted_end(chars: &[char], from: usize) -> usize {
    let mut at = from + 1;
    while at < chars.len() && chars[at] != chars[from] {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// A word, `::`, or any other single character that is no blank.
pub struct Token {
    pub line: usize,
    pub text: String,
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

pub fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

pub fn tokens(code: &str) -> Vec<Token> {
    let mut tokens = vec![];
    for (at, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let len = if is_word(first) {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") || rest.starts_with("!=") {
                2
            } else {
                first.len_utf8()
            };
            tokens.push(Token { line: at + 1, text: rest[..len].to_owned() });
            rest = rest[len..].trim_start();
        }
    }
    tokens
}

/// A path in the code, or a single word. A macro's ends in `!`, a glob's is `*`.
#[derive(Debug)]
pub struct Name {
    pub line: usize,
    pub segments: Vec<String>,
}

impl Name {
    /// True if the segments of `pattern` are among the segments of this, side by side.
    pub fn has(&self, pattern: &str) -> bool {
        let pattern: Vec<&str> = pattern.split("::").collect();
        self.segments.windows(pattern.len()).any(|window| {
            let mut pairs = window.iter().zip(&pattern);
            pairs.all(|(have, want)| have == want || have.strip_suffix('!') == Some(*want))
        })
    }
}

/// All paths in the code, with the groups of `use` declarations spelled out.
pub fn paths(code: &str) -> Vec<Name> {
    let tokens = tokens(code);
    let mut names = vec![];
    let mut at = 0;
    while at < tokens.len() {
        at = path(&tokens, at, &[], &mut names).max(at + 1);
    }
    names
}

/// Reads the path that begins at `at` after `prefix`, and returns where it ends.
fn path(tokens: &[Token], mut at: usize, prefix: &[String], names: &mut Vec<Name>) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut segments = prefix.to_vec();
    let line = tokens[at].line;
    loop {
        match text(at) {
            "{" if !segments.is_empty() => return group(tokens, at + 1, &segments, names),
            name if is_name(name) || (name == "*" && !segments.is_empty()) => {
                segments.push(name.to_owned());
            }
            _ => break,
        }
        at += 1;
        if text(at) != "::" {
            break;
        }
        at += 1;
    }
    if let (Some(last), "!") = (segments.last_mut(), text(at)) {
        last.push('!');
    }
    if segments.len() > prefix.len() {
        names.push(Name { line, segments });
    }
    at
}

/// Reads the group of a `use` declaration after its opening brace, and returns where it ends.
fn group(tokens: &[Token], mut at: usize, prefix: &[String], names: &mut Vec<Name>) -> usize {
    while at < tokens.len() && tokens[at].text != "}" {
        at = path(tokens, at, prefix, names).max(at + 1);
        while at < tokens.len() && !matches!(tokens[at].text.as_str(), "," | "}") {
            at += 1;
        }
        at += usize::from(at < tokens.len() && tokens[at].text == ",");
    }
    at + 1
}
