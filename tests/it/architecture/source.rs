//! What the architecture test reads out of a Rust file: which modules it declares, what it names of
//! the crate, which types and functions it has. It works on tokens and not on lines, so that `use`
//! trees over several lines, names inside macros and text inside comments or strings are all taken
//! for what they are.

use std::collections::BTreeMap;

/// A piece of the source text; comments are gone, and of a literal only its place is left.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Word(String),
    Mark(char),
    Literal,
}

#[derive(Clone, Debug)]
struct Token {
    piece: Piece,
    line: usize,
}

/// A path that the file names, with `crate`, `self`, `super` and imported names resolved to the
/// path from the crate's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// From the crate's root, without `crate`.
    pub path: Vec<String>,
    /// Where.
    pub line: usize,
    /// The path ends with `*`.
    pub glob: bool,
}

/// A type or a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its name.
    pub name: String,
    /// First line.
    pub line: usize,
    /// How many lines it has. Only counted for functions.
    pub lines: usize,
}

/// What one file holds.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// What it names.
    pub named: Vec<Named>,
    /// What it shows under a name of its own: `pub use`.
    pub shows: BTreeMap<String, Vec<String>>,
    /// Types that are `pub` or `pub(crate)`.
    pub types: Vec<Item>,
    /// Functions, also those of tests.
    pub functions: Vec<Item>,
    /// Modules in files of their own that are compiled for tests alone.
    pub tests: Vec<String>,
}

/// Reads a file. `module` is its path from the crate's root, `children` the modules below it that
/// are files.
pub fn read(module: &[String], children: &[String], text: &str) -> Source {
    let tokens = tokens(text);
    let mut reader = Reader { tokens: &tokens, module: module.to_vec(), children, source: Source::default() };
    reader.functions();
    let kept = reader.without_tests();
    let mut reader = Reader { tokens: &kept, ..reader };
    let aliases = reader.imports();
    reader.paths(&aliases);
    reader.types();
    reader.source
}

/// A `use` with what it is about.
struct Import {
    path: Vec<String>,
    name: String,
    glob: bool,
    line: usize,
}

struct Reader<'a> {
    tokens: &'a [Token],
    module: Vec<String>,
    children: &'a [String],
    source: Source,
}

impl Reader<'_> {
    fn word(&self, at: usize) -> Option<&str> {
        match self.tokens.get(at).map(|token| &token.piece) {
            Some(Piece::Word(word)) => Some(word),
            _ => None,
        }
    }

    fn mark(&self, at: usize, mark: char) -> bool {
        self.tokens.get(at).is_some_and(|token| token.piece == Piece::Mark(mark))
    }

    fn double_colon(&self, at: usize) -> bool {
        self.mark(at, ':') && self.mark(at + 1, ':')
    }

    fn line(&self, at: usize) -> usize {
        self.tokens.get(at).or(self.tokens.last()).map_or(0, |token| token.line)
    }

    /// The place after the group that opens at `at`.
    fn after_group(&self, at: usize) -> usize {
        let mut depth = 0_usize;
        for (n, token) in self.tokens.iter().enumerate().skip(at) {
            match token.piece {
                Piece::Mark('(' | '[' | '{') => depth += 1,
                Piece::Mark(')' | ']' | '}') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return n + 1;
            }
        }
        self.tokens.len()
    }

    fn opens(&self, at: usize) -> bool {
        ['(', '[', '{'].into_iter().any(|mark| self.mark(at, mark))
    }

    fn closes(&self, at: usize) -> bool {
        [')', ']', '}'].into_iter().any(|mark| self.mark(at, mark))
    }

    fn functions(&mut self) {
        for at in 0..self.tokens.len() {
            let (Some("fn"), Some(name)) = (self.word(at), self.word(at + 1)) else { continue };
            let mut end = at + 2;
            while end < self.tokens.len() && !self.mark(end, ';') && !self.mark(end, '{') {
                end = if self.opens(end) { self.after_group(end) } else { end + 1 };
            }
            if self.mark(end, '{') {
                let (first, last) = (self.line(at), self.line(self.after_group(end) - 1));
                self.source.functions.push(Item { name: name.to_owned(), line: first, lines: last - first + 1 });
            }
        }
    }

    /// The tokens without what is compiled for tests alone; modules among it are noted.
    fn without_tests(&mut self) -> Vec<Token> {
        let (mut kept, mut at) = (Vec::new(), 0);
        while at < self.tokens.len() {
            if !(self.mark(at, '#') && self.mark(at + 1, '[')) {
                kept.push(self.tokens[at].clone());
                at += 1;
                continue;
            }
            let end = self.after_group(at + 1);
            if !self.is_for_tests(at + 2, end) {
                kept.extend_from_slice(&self.tokens[at..end]);
                at = end;
                continue;
            }
            let mut start = end;
            while self.mark(start, '#') && self.mark(start + 1, '[') {
                start = self.after_group(start + 1);
            }
            at = self.after_item(start);
            let mod_at = (start..at).find(|at| self.word(*at) == Some("mod"));
            if let (Some(mod_at), true) = (mod_at, self.mark(at - 1, ';')) {
                self.source.tests.extend(self.word(mod_at + 1).map(str::to_owned));
            }
        }
        kept
    }

    /// `cfg(test)` or `cfg(all(test, …))`; what is compiled outside of tests too is none of it.
    fn is_for_tests(&self, from: usize, to: usize) -> bool {
        let words: Vec<_> = (from..to).filter_map(|at| self.word(at)).collect();
        words.first() == Some(&"cfg") && words.contains(&"test") && !words.contains(&"not") && !words.contains(&"any")
    }

    fn after_item(&self, start: usize) -> usize {
        let mut at = start;
        while matches!(self.word(at), Some("pub" | "async" | "unsafe" | "extern")) || self.mark(at, '(') && at > start {
            at = if self.mark(at, '(') { self.after_group(at) } else { at + 1 };
        }
        let to_semicolon = matches!(self.word(at), Some("use" | "static" | "type" | "let"))
            || self.word(at) == Some("const") && self.word(at + 1) != Some("fn");
        let item = matches!(
            self.word(at),
            Some("fn" | "struct" | "enum" | "impl" | "trait" | "mod" | "macro_rules" | "const")
        );
        while at < self.tokens.len() {
            if self.mark(at, ';') {
                return at + 1;
            }
            if self.mark(at, '{') && !to_semicolon {
                return self.after_group(at);
            }
            if !item && !to_semicolon && self.mark(at, ',') {
                return at + 1;
            }
            if self.closes(at) {
                return at;
            }
            at = if self.opens(at) { self.after_group(at) } else { at + 1 };
        }
        at
    }

    /// Calls `visit` with each place outside of attributes and the module, with modules in braces,
    /// that it is in.
    fn walk(&mut self, mut visit: impl FnMut(&mut Self, usize, &[String]) -> Option<usize>) {
        let mut module = self.module.clone();
        let mut ends: Vec<usize> = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            if ends.last() == Some(&at) {
                ends.pop();
                module.pop();
            }
            if let (Some("mod"), Some(name), true) = (self.word(at), self.word(at + 1), self.mark(at + 2, '{')) {
                module.push(name.to_owned());
                ends.push(self.after_group(at + 2) - 1);
                at += 3;
                continue;
            }
            at = visit(self, at, &module).unwrap_or(at + 1);
        }
    }

    /// Notes every `use` and gives what the names of this file stand for.
    fn imports(&mut self) -> BTreeMap<String, Vec<String>> {
        let mut aliases = BTreeMap::new();
        self.walk(|reader, at, module| {
            if reader.word(at) != Some("use") || reader.mark(at + 1, '<') {
                return None;
            }
            let mut found = Vec::new();
            let end = reader.tree(at + 1, &mut Vec::new(), &mut found);
            let shown = reader.shown(at);
            for import in found {
                let Some(path) = reader.rooted(&import.path, module) else { continue };
                if !import.glob && import.name != "_" {
                    if shown && module == reader.module {
                        reader.source.shows.insert(import.name.clone(), path.clone());
                    }
                    aliases.insert(import.name, path.clone());
                }
                reader.source.named.push(Named { path, line: import.line, glob: import.glob });
            }
            Some(end)
        });
        aliases
    }

    /// The `use` at `at` is seen by others.
    fn shown(&self, at: usize) -> bool {
        at > 0 && (self.word(at - 1) == Some("pub") || self.mark(at - 1, ')'))
    }

    /// Reads a `use` tree from `at` on, and gives the place after it.
    fn tree(&self, mut at: usize, prefix: &mut Vec<String>, found: &mut Vec<Import>) -> usize {
        let depth = prefix.len();
        if self.double_colon(at) {
            prefix.push("::".to_owned()); // another crate
            at += 2;
        }
        loop {
            if self.mark(at, '{') {
                let end = self.after_group(at);
                at += 1;
                while at < end - 1 {
                    at = self.tree(at, prefix, found);
                    at += usize::from(self.mark(at, ','));
                }
                at = end;
                break;
            }
            if self.mark(at, '*') {
                let path = prefix.clone();
                found.push(Import { path, name: String::new(), glob: true, line: self.line(at) });
                at += 1;
                break;
            }
            let Some(word) = self.word(at) else { break };
            let line = self.line(at);
            prefix.push(word.to_owned());
            at += 1;
            if self.double_colon(at) {
                at += 2;
                continue;
            }
            let mut path = prefix.clone();
            if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
                path.pop();
            }
            let mut name = path.last().cloned().unwrap_or_default();
            if self.word(at) == Some("as") {
                name = self.word(at + 1).unwrap_or("_").to_owned();
                at += 2;
            }
            found.push(Import { path, name, glob: false, line });
            break;
        }
        prefix.truncate(depth);
        at
    }

    /// A path from the crate's root; `None`: it leads into another crate, or is of this file alone.
    fn rooted(&self, path: &[String], module: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some([module, rest].concat()),
            "super" => {
                let ups = path.iter().take_while(|word| *word == "super").count();
                let up = &module[..module.len().checked_sub(ups)?];
                Some([up, &path[ups..]].concat())
            }
            child if self.children.iter().any(|name| name == child) => Some([&self.module[..], path].concat()),
            _ => None,
        }
    }

    /// Notes every path outside of `use`.
    fn paths(&mut self, aliases: &BTreeMap<String, Vec<String>>) {
        self.walk(|reader, at, module| {
            if reader.word(at) == Some("use") && !reader.mark(at + 1, '<') {
                return Some(reader.tree(at + 1, &mut Vec::new(), &mut Vec::new()));
            }
            let follows = at > 0 && reader.mark(at - 1, '.') || at > 1 && reader.double_colon(at - 2);
            if follows || reader.word(at).is_none() || !reader.double_colon(at + 1) {
                return None;
            }
            // `pub(in crate::…)` says who may look in; it needs nothing of there.
            if at > 0 && reader.word(at - 1) == Some("in") && at > 1 && reader.mark(at - 2, '(') {
                let mut end = at;
                while !reader.mark(end, ')') {
                    end += 1;
                }
                return Some(end);
            }
            let (mut path, mut end) = (Vec::new(), at);
            while let Some(word) = reader.word(end) {
                path.push(word.to_owned());
                end += 1;
                if !(reader.double_colon(end) && reader.word(end + 2).is_some()) {
                    break;
                }
                end += 2;
            }
            let line = reader.line(at);
            let resolved = match aliases.get(&path[0]) {
                Some(alias) => Some([alias, &path[1..]].concat()),
                None => reader.rooted(&path, module),
            };
            if let Some(path) = resolved {
                reader.source.named.push(Named { path, line, glob: false });
            }
            Some(end)
        });
    }

    fn types(&mut self) {
        for at in 0..self.tokens.len() {
            if self.word(at) != Some("pub") {
                continue;
            }
            let mut kind = at + 1;
            if self.mark(kind, '(') {
                if self.word(kind + 1) != Some("crate") {
                    continue;
                }
                kind += 3;
            }
            if let (Some("struct" | "enum" | "trait" | "type" | "union"), Some(name)) =
                (self.word(kind), self.word(kind + 1))
            {
                self.source.types.push(Item { name: name.to_owned(), line: self.line(at), lines: 0 });
            }
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let text: Vec<char> = text.chars().collect();
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    while let Some(&c) = text.get(at) {
        let next = text.get(at + 1).copied().unwrap_or(' ');
        let start = at;
        let piece = match c {
            '/' if next == '/' => {
                at = end_of(&text, at, |text, at| text[at] == '\n');
                None
            }
            '/' if next == '*' => {
                at = after_comment(&text, at);
                None
            }
            '"' => {
                at = after_string(&text, at + 1);
                Some(Piece::Literal)
            }
            '\'' => {
                at = after_quote(&text, at);
                Some(Piece::Literal)
            }
            c if is_word(c) => {
                at = end_of(&text, at, |text, at| !is_word(text[at]));
                let word: String = text[start..at].iter().collect();
                match (word.as_str(), text.get(at)) {
                    ("r" | "br" | "cr", Some('#' | '"')) if raw_string(&text, at).is_some() => {
                        at = raw_string(&text, at).unwrap_or(at);
                        Some(Piece::Literal)
                    }
                    ("b" | "c", Some('"')) => {
                        at = after_string(&text, at + 1);
                        Some(Piece::Literal)
                    }
                    ("b", Some('\'')) => {
                        at = after_quote(&text, at);
                        Some(Piece::Literal)
                    }
                    ("r", Some('#')) => {
                        let from = at + 1;
                        at = end_of(&text, from, |text, at| !is_word(text[at]));
                        Some(Piece::Word(text[from..at].iter().collect()))
                    }
                    _ if c.is_ascii_digit() => Some(Piece::Literal),
                    _ => Some(Piece::Word(word)),
                }
            }
            c => {
                at += 1;
                (!c.is_whitespace()).then_some(Piece::Mark(c))
            }
        };
        tokens.extend(piece.map(|piece| Token { piece, line }));
        line += text[start..at].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

fn end_of(text: &[char], from: usize, ends: impl Fn(&[char], usize) -> bool) -> usize {
    (from..text.len()).find(|at| ends(text, *at)).unwrap_or(text.len())
}

fn after_comment(text: &[char], from: usize) -> usize {
    let (mut depth, mut at) = (0_usize, from);
    while at + 1 < text.len() {
        match (text[at], text[at + 1]) {
            ('/', '*') => {
                depth += 1;
                at += 2;
            }
            ('*', '/') => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    text.len()
}

/// `from` is behind the opening quote.
fn after_string(text: &[char], from: usize) -> usize {
    let mut at = from;
    while at < text.len() {
        match text[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// Behind a character, or behind the quote of a lifetime.
fn after_quote(text: &[char], at: usize) -> usize {
    match (text.get(at + 1), text.get(at + 2)) {
        (Some('\\'), _) => end_of(text, at + 3, |text, at| text[at] == '\'') + 1,
        (Some(_), Some('\'')) => at + 3,
        _ => at + 1,
    }
}

/// The place behind a raw string whose `#` or `"` is at `at`.
fn raw_string(text: &[char], at: usize) -> Option<usize> {
    let open = end_of(text, at, |text, at| text[at] != '#');
    if text.get(open) != Some(&'"') {
        return None;
    }
    let marks = open - at;
    let closes = |text: &[char], at: usize| {
        text[at] == '"' && text.len() > at + marks && text[at + 1..=at + marks].iter().all(|c| *c == '#')
    };
    Some((end_of(text, open + 1, closes) + 1 + marks).min(text.len()))
}
