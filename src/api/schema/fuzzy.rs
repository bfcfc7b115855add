//! The nearest of some names, for hints such as "Perhaps you meant …".
//!
//! It scores as the upstream API does, because clients compare its hints with snapshots: names that share a gram of three
//! (else two) characters are ranked by the cosine of their gram vectors, the best fifty are scored anew by edit distance,
//! and the score is `1 - distance / length of the longer`. Grams see letters, digits, spaces and commas only, so `_` is
//! not one of them; the distance sees the whole name in lower case.

use std::collections::HashMap;

/// The lowest score that is a match where a guess gives nothing away, and for functions, whose hints the published clients
/// hold against snapshots.
pub const LIKELY: f64 = 0.33;

/// The lowest score for names of tables, which a caller may not be meant to learn by guessing.
pub const SURE: f64 = 0.75;

/// More names than this are not searched: the work would grow with the schema on each mistaken request.
const MOST_NAMES: usize = 500;

/// Candidates that are scored by distance.
const MOST_SCORED: usize = 50;

/// The best of `names` for `wanted` whose score reaches `least`, with its score. Of equals the first one wins.
pub fn best<'a>(names: impl IntoIterator<Item = &'a str>, wanted: &str, least: f64) -> Option<(f64, &'a str)> {
    let names: Vec<&str> = names.into_iter().take(MOST_NAMES + 1).collect();
    if names.len() > MOST_NAMES {
        return None;
    }
    let key = wanted.to_lowercase();
    let lower: Vec<String> = names.iter().map(|name| name.to_lowercase()).collect();
    if let Some(at) = lower.iter().position(|name| *name == key) {
        return Some((1.0, names[at]));
    }
    [3, 2].into_iter().find_map(|size| best_by_grams(&names, &lower, &key, size, least))
}

fn best_by_grams<'a>(
    names: &[&'a str],
    lower: &[String],
    key: &str,
    size: usize,
    least: f64,
) -> Option<(f64, &'a str)> {
    let wanted = Grams::of(key, size);
    let mut ranked: Vec<(f64, usize)> = lower
        .iter()
        .enumerate()
        .filter_map(|(at, name)| wanted.cosine(&Grams::of(name, size)).map(|cosine| (cosine, at)))
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut best: Option<(f64, &'a str)> = None;
    for (_, at) in ranked.into_iter().take(MOST_SCORED) {
        let score = likeness(key, &lower[at]);
        if score >= least && best.is_none_or(|(highest, _)| score > highest) {
            best = Some((score, names[at]));
        }
    }
    best
}

/// How often each run of `size` characters occurs in a name between hyphens.
struct Grams {
    counts: HashMap<Vec<char>, u32>,
    norm: f64,
}

impl Grams {
    fn of(name: &str, size: usize) -> Self {
        let mut text = vec!['-'];
        text.extend(name.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == ','));
        text.push('-');
        let mut counts = HashMap::new();
        for gram in text.windows(size) {
            *counts.entry(gram.to_vec()).or_insert(0) += 1;
        }
        let norm = counts.values().map(|count| f64::from(*count).powi(2)).sum::<f64>().sqrt();
        Self { counts, norm }
    }

    /// The cosine of the angle between the two, if they have a gram in common.
    fn cosine(&self, other: &Self) -> Option<f64> {
        let shared: f64 = self
            .counts
            .iter()
            .filter_map(|(gram, count)| other.counts.get(gram).map(|of_other| f64::from(count * of_other)))
            .sum();
        (shared > 0.0).then(|| shared / (self.norm * other.norm))
    }
}

/// 1 for equal texts, 0 for those that share nothing.
fn likeness(a: &str, b: &str) -> f64 {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let longer = a.len().max(b.len());
    if longer == 0 {
        return 1.0;
    }
    1.0 - strsim::generic_levenshtein(&a, &b) as f64 / longer as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(names: &[&'static str], wanted: &str, least: f64) -> Option<&'static str> {
        best(names.iter().copied(), wanted, least).map(|(_, name)| name)
    }

    #[test]
    fn the_nearest_name_is_found() {
        let names = ["films", "directors", "roles", "actors"];
        assert_eq!(hint(&names, "film", LIKELY), Some("films"));
        assert_eq!(hint(&names, "role", LIKELY), Some("roles"));
        assert_eq!(hint(&names, "noclosealternative", LIKELY), None);
        assert_eq!(hint(&[], "film", LIKELY), None);
        assert_eq!(hint(&names, "", LIKELY), None);
    }

    #[test]
    fn an_exact_name_scores_one_in_any_case() {
        assert_eq!(best(["Films", "films_old"], "fIlms", LIKELY), Some((1.0, "Films")));
    }

    #[test]
    fn argument_lists_are_compared_as_text() {
        let lists = ["(name, param, val)", "(attr, id)"];
        assert_eq!(hint(&lists, "(nam, pqaram, vall)", LIKELY), Some("(name, param, val)"));
        assert_eq!(hint(&lists, "(param, val)", LIKELY), Some("(name, param, val)"));
        assert_eq!(hint(&lists, "(attrs, id)", LIKELY), Some("(attr, id)"));
        assert_eq!(hint(&lists, "(id)", LIKELY), Some("(attr, id)"));
        assert_eq!(hint(&lists, "(noclosealternative)", LIKELY), None);
    }

    #[test]
    fn a_sure_match_is_nearer_than_a_likely_one() {
        assert_eq!(hint(&["projects"], "video_projects", LIKELY), Some("projects"));
        assert_eq!(hint(&["projects"], "video_projects", SURE), None);
        assert_eq!(hint(&["projects"], "project", SURE), Some("projects"));
    }

    #[test]
    fn a_large_schema_is_not_searched() {
        let names: Vec<String> = (0..=MOST_NAMES).map(|at| format!("table_{at}")).collect();
        assert_eq!(best(names.iter().map(String::as_str), "table_1", LIKELY), None);
        assert!(best(names.iter().skip(1).map(String::as_str), "table_1", LIKELY).is_some());
    }
}
