//! The name that was probably meant.

use std::fmt::Write as _;

/// The nearest of some names, if one is near enough to be worth a hint.
pub(crate) fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Names come from data: neither their number nor their length is bounded.
    const MANY: usize = 1000;
    const LONG: usize = 64;
    if name.len() > LONG {
        return None;
    }
    let allowed = (name.chars().count() / 3).max(1);
    names
        .into_iter()
        .take(MANY)
        .filter(|candidate| candidate.len() <= LONG && *candidate != name)
        .map(|candidate| {
            let same = candidate.eq_ignore_ascii_case(name);
            (if same { 0 } else { strsim::damerau_levenshtein(name, candidate) }, candidate)
        })
        .filter(|(distance, _)| *distance <= allowed)
        // Of two as near, always the same: names may come in any order, and what is said is recorded.
        .min()
        .map(|(_, candidate)| candidate)
}

/// Some names for a message: `a, b, c and 7 more`.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 12;
    const LONG: usize = 40;
    let mut text = String::new();
    let mut more = 0_usize;
    for (index, name) in names.into_iter().enumerate() {
        if index >= SHOWN {
            more += 1;
            continue;
        }
        if index > 0 {
            text.push_str(", ");
        }
        text.extend(name.chars().take(LONG));
        if name.chars().nth(LONG).is_some() {
            text.push('…');
        }
    }
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    if text.is_empty() { "nothing".to_owned() } else { text }
}
