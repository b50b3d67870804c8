//! Methods of strings. Places and lengths count characters, as everywhere in Starlark.

use std::sync::Arc;

use crate::call::{Given, Taken};
use crate::eval::Interp;
use crate::meter::{Eval, Fault};
use crate::val::{Data, VAL, Val};

pub(crate) const METHODS: &[&str] = &[
    "capitalize",
    "codepoints",
    "count",
    "elems",
    "endswith",
    "find",
    "format",
    "index",
    "isalnum",
    "isalpha",
    "isdigit",
    "islower",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "title",
    "upper",
];

impl Interp<'_> {
    #[inline(never)]
    pub(crate) fn string_method(&mut self, text: &Arc<str>, name: &str, given: Given) -> Eval<Val> {
        // Every method looks at the whole text at least once.
        self.meter.scan(text.len())?;
        match name {
            "format" => self.format_method(text, &given),
            "join" => self.join(text, given),
            "split" | "rsplit" => self.split(text, name == "rsplit", given),
            "replace" => self.replace(text, given),
            "startswith" | "endswith" => self.affix(text, name == "startswith", given),
            "find" | "rfind" | "index" | "rindex" | "count" => self.search(text, name, given),
            "partition" | "rpartition" => self.partition(text, name == "partition", given),
            "strip" | "lstrip" | "rstrip" => self.strip(text, name, given),
            "removeprefix" | "removesuffix" => {
                let mut args = Taken::new("removeprefix", given);
                let part = self.string(&args.need("part")?)?;
                args.done()?;
                let rest = match name {
                    "removeprefix" => text.strip_prefix(part.as_ref()),
                    _ => text.strip_suffix(part.as_ref()),
                };
                self.piece(text, rest.unwrap_or(text))
            }
            "splitlines" => self.splitlines(text, given),
            "elems" | "codepoints" => {
                Taken::new("elems", given).done()?;
                self.elems(text, name == "codepoints")
            }
            "lower" | "upper" | "capitalize" | "title" => {
                Taken::new("lower", given).done()?;
                // A character becomes at most three.
                self.meter.alloc(text.len() * 3)?;
                Ok(Val::text(match name {
                    "lower" => text.to_lowercase(),
                    "upper" => text.to_uppercase(),
                    "capitalize" => titled(text, false),
                    _ => titled(text, true),
                }))
            }
            _ if name.starts_with("is") && METHODS.contains(&name) => {
                Taken::new("is…", given).done()?;
                Ok(Val::bool(is(text, name)))
            }
            _ => {
                let value = Data::Str(text.clone()).into();
                Err(self.no_method(&value, name))
            }
        }
    }

    /// A part of a text, shared if it is the whole.
    fn piece(&mut self, whole: &Arc<str>, part: &str) -> Eval<Val> {
        if part.len() == whole.len() {
            return Ok(Val::text(whole.clone()));
        }
        self.meter.alloc(part.len())?;
        Ok(Val::text(part))
    }

    fn pieces<'t>(&mut self, parts: impl Iterator<Item = &'t str>) -> Eval<Vec<Val>> {
        let mut pieces = Vec::new();
        for part in parts {
            self.meter.alloc(VAL + 16 + part.len())?;
            pieces.push(Val::text(part));
        }
        Ok(pieces)
    }

    fn join(&mut self, separator: &str, given: Given) -> Eval<Val> {
        let mut args = Taken::new("join", given);
        let parts = args.need("iterable")?;
        args.done()?;
        let parts = self.collect(&parts)?;
        let mut size = separator.len().saturating_mul(parts.len().saturating_sub(1));
        for part in &parts {
            match &part.data {
                Data::Str(text) => size = size.saturating_add(text.len()),
                other => {
                    let message = format!("`join` needs strings, not a {}", other.type_name());
                    return Err(self.absent(part, message).hint("`[str(x) for x in …]` makes them strings"));
                }
            }
        }
        self.meter.alloc(size)?;
        let mut text = String::with_capacity(size);
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                text.push_str(separator);
            }
            if let Data::Str(part) = &part.data {
                text.push_str(part);
            }
        }
        Ok(Val::text(text))
    }

    fn split(&mut self, text: &str, from_end: bool, given: Given) -> Eval<Val> {
        let mut args = Taken::new("split", given);
        let separator = args.maybe(None)?.filter(|value| !matches!(value.data, Data::None));
        let most = self.bound(args.maybe(None)?.as_ref())?;
        args.done()?;
        let most = most.and_then(|most| usize::try_from(most).ok()).map(|most| most.saturating_add(1));
        let mut pieces = match (&separator, most) {
            (None, None) => self.pieces(text.split_whitespace())?,
            (None, Some(most)) => self.pieces(words(text, most, from_end).into_iter())?,
            (Some(separator), most) => {
                let separator = self.string(separator)?;
                let separator = separator.as_ref();
                match (from_end, most) {
                    (false, None) => self.pieces(text.split(separator))?,
                    (false, Some(most)) => self.pieces(text.splitn(most, separator))?,
                    (true, None) => self.pieces(text.rsplit(separator))?,
                    (true, Some(most)) => self.pieces(text.rsplitn(most, separator))?,
                }
            }
        };
        if from_end && separator.is_some() {
            pieces.reverse();
        }
        self.heap.list(&mut self.meter, pieces)
    }

    fn replace(&mut self, text: &Arc<str>, given: Given) -> Eval<Val> {
        let mut args = Taken::new("replace", given);
        let old = self.string(&args.need("old")?)?;
        let new = self.string(&args.need("new")?)?;
        let most = args.maybe(None)?.map(|most| self.integer(&most)).transpose()?;
        args.done()?;
        let most = match most {
            None => usize::MAX,
            Some(most) => {
                usize::try_from(most).map_err(|_| Fault::new("`replace` cannot replace fewer than none"))?
            }
        };
        let times = text.matches(old.as_ref()).take(most).count();
        let grown = (times as u64).saturating_mul(new.len() as u64).saturating_add(text.len() as u64);
        self.meter.alloc_wide(grown)?;
        Ok(Val::text(text.replacen(old.as_ref(), &new, most)))
    }

    fn affix(&mut self, text: &str, front: bool, given: Given) -> Eval<Val> {
        let mut args = Taken::new(if front { "startswith" } else { "endswith" }, given);
        let part = args.need("part")?;
        let start = self.bound(args.maybe(None)?.as_ref())?;
        let stop = self.bound(args.maybe(None)?.as_ref())?;
        args.done()?;
        let parts = match part.data {
            Data::Tuple(_) => self.collect(&part)?,
            _ => vec![part],
        };
        let within = window(text, start, stop).map(|(_, within)| within);
        let mut found = false;
        for part in &parts {
            let part = self.string(part)?;
            self.meter.scan(part.len())?;
            found |= within.is_some_and(|text| {
                if front { text.starts_with(part.as_ref()) } else { text.ends_with(part.as_ref()) }
            });
        }
        Ok(Val::bool(found))
    }

    fn search(&mut self, text: &str, name: &str, given: Given) -> Eval<Val> {
        let mut args = Taken::new("find", given);
        let needle = self.string(&args.need("part")?)?;
        let start = self.bound(args.maybe(None)?.as_ref())?;
        let stop = self.bound(args.maybe(None)?.as_ref())?;
        args.done()?;
        let within = window(text, start, stop);
        if name == "count" {
            return Ok(Val::int(within.map_or(0, |(_, text)| text.matches(needle.as_ref()).count())));
        }
        let found = within.and_then(|(offset, text)| {
            let at =
                if name.starts_with('r') { text.rfind(needle.as_ref()) } else { text.find(needle.as_ref()) };
            at.map(|at| offset + text.get(..at).unwrap_or_default().chars().count())
        });
        match found {
            Some(at) => Ok(Val::int(at)),
            None if name.ends_with("find") => Ok(Data::Int(-1).into()),
            None => {
                let needle = self.excerpt(&Data::Str(needle).into());
                Err(Fault::new(format!("{needle} is not in the string")))
            }
        }
    }

    fn partition(&mut self, text: &Arc<str>, first: bool, given: Given) -> Eval<Val> {
        let mut args = Taken::new("partition", given);
        let separator = self.string(&args.need("separator")?)?;
        args.done()?;
        if separator.is_empty() {
            return Err(Fault::new("the separator cannot be empty"));
        }
        let parts =
            if first { text.split_once(separator.as_ref()) } else { text.rsplit_once(separator.as_ref()) };
        let (before, middle, after) = match parts {
            Some((before, after)) => (before, separator.as_ref(), after),
            None if first => (text.as_ref(), "", ""),
            None => ("", "", text.as_ref()),
        };
        let parts = self.pieces([before, middle, after].into_iter())?;
        self.heap.tuple(&mut self.meter, parts)
    }

    fn strip(&mut self, text: &Arc<str>, name: &str, given: Given) -> Eval<Val> {
        let mut args = Taken::new("strip", given);
        let set = args.maybe(None)?.map(|set| self.string(&set)).transpose()?;
        args.done()?;
        let inside = |character: char| match &set {
            None => character.is_whitespace(),
            Some(set) => set.contains(character),
        };
        if let Some(set) = &set {
            // Each character is looked for in the set.
            self.meter.step((text.len() as u64).saturating_mul(set.len() as u64) / 32)?;
        }
        let rest = match name {
            "lstrip" => text.trim_start_matches(inside),
            "rstrip" => text.trim_end_matches(inside),
            _ => text.trim_matches(inside),
        };
        self.piece(text, rest)
    }

    fn splitlines(&mut self, text: &str, given: Given) -> Eval<Val> {
        let mut args = Taken::new("splitlines", given);
        let keep = args.maybe(Some("keepends"))?.is_some_and(|keep| self.truth(&keep));
        args.done()?;
        let mut lines = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(['\n', '\r']).unwrap_or(rest.len());
            let ending = match rest.get(end..) {
                Some(tail) if tail.starts_with("\r\n") => 2,
                Some("") | None => 0,
                Some(_) => 1,
            };
            lines.push(rest.get(..if keep { end + ending } else { end }).unwrap_or_default());
            rest = rest.get(end + ending..).unwrap_or_default();
        }
        let lines = self.pieces(lines.into_iter())?;
        self.heap.list(&mut self.meter, lines)
    }

    fn elems(&mut self, text: &str, codes: bool) -> Eval<Val> {
        let mut items = Vec::new();
        for character in text.chars() {
            self.meter.alloc(VAL + 16)?;
            items.push(if codes {
                Data::Int(i64::from(u32::from(character))).into()
            } else {
                Val::text(String::from(character))
            });
        }
        self.heap.list(&mut self.meter, items)
    }
}

/// The part of a text between two bounds, and how many characters stand before it.
fn window(text: &str, start: Option<i64>, stop: Option<i64>) -> Option<(usize, &str)> {
    if start.is_none() && stop.is_none() {
        return Some((0, text));
    }
    let len = text.chars().count();
    let first = start.unwrap_or(0);
    // A start past the end finds nothing; beside a bound from the end it is kept inside, as in the `starlark` crate.
    if stop.is_none_or(|stop| stop >= 0) && first > i64::try_from(len).unwrap_or(i64::MAX) {
        return None;
    }
    let (start, stop) =
        (crate::methods::clamp(first, len), stop.map_or(len, |stop| crate::methods::clamp(stop, len)));
    if start > stop {
        return None;
    }
    let begin = text.char_indices().nth(start).map_or(text.len(), |(at, _)| at);
    let rest = text.get(begin..)?;
    let end = rest.char_indices().nth(stop - start).map_or(rest.len(), |(at, _)| at);
    Some((start, rest.get(..end)?))
}

/// Words, of which the last (or first) keeps what is left of the text.
fn words(text: &str, most: usize, from_end: bool) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = if from_end { text.trim_end() } else { text.trim_start() };
    while !rest.is_empty() {
        if words.len() + 1 >= most {
            words.push(rest);
            break;
        }
        let at = if from_end { rest.rfind(char::is_whitespace) } else { rest.find(char::is_whitespace) };
        let Some(at) = at else {
            words.push(rest);
            break;
        };
        let width = rest.get(at..).and_then(|tail| tail.chars().next()).map_or(1, char::len_utf8);
        let (before, after) =
            (rest.get(..at).unwrap_or_default(), rest.get(at + width..).unwrap_or_default());
        if from_end {
            words.push(after);
            rest = before.trim_end();
        } else {
            words.push(before);
            rest = after.trim_start();
        }
    }
    if from_end {
        words.reverse();
    }
    words
}

fn titled(text: &str, every_word: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut starts = true;
    for character in text.chars() {
        if starts && (character.is_alphabetic() || !every_word) {
            out.extend(character.to_uppercase());
        } else {
            out.extend(character.to_lowercase());
        }
        starts = every_word && !character.is_alphabetic();
    }
    out
}

fn is(text: &str, what: &str) -> bool {
    let all = |test: fn(char) -> bool| !text.is_empty() && text.chars().all(test);
    let cased = |wanted: fn(char) -> bool, other: fn(char) -> bool| {
        text.chars().any(wanted) && !text.chars().any(other)
    };
    match what {
        "isalnum" => all(char::is_alphanumeric),
        "isalpha" => all(char::is_alphabetic),
        "isdigit" => all(char::is_numeric),
        "isspace" => all(char::is_whitespace),
        "islower" => cased(char::is_lowercase, char::is_uppercase),
        "isupper" => cased(char::is_uppercase, char::is_lowercase),
        _ => {
            let (mut starts, mut any) = (true, false);
            for character in text.chars() {
                if !character.is_alphabetic() {
                    starts = true;
                    continue;
                }
                if (starts && character.is_lowercase()) || (!starts && character.is_uppercase()) {
                    return false;
                }
                (starts, any) = (false, true);
            }
            any
        }
    }
}
