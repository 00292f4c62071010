//! What a recording holds, in words, for whoever looked for something else in it.

use std::collections::BTreeSet;

use warpmark_record::{BenchmarkId, Group};

/// What there is, for a sentence that says what was not found: each group and subject once, no more than
/// eight of them. `nothing` where there are no rows.
pub fn of<'a>(ids: impl IntoIterator<Item = &'a BenchmarkId>) -> String {
    listed(ids.into_iter().map(|id| format!("{}/{}", id.group(), id.subject())))
}

/// The phases that rows of a model are of, in the order of their names.
pub fn phases<'a>(ids: impl IntoIterator<Item = &'a BenchmarkId>, model: &str) -> Vec<String> {
    let of_model = ids.into_iter().filter(|id| is_of_a_model(id) && id.subject() == model);
    let phases: BTreeSet<&String> = of_model.filter_map(|id| id.segments().get(2)).collect();
    phases.into_iter().cloned().collect()
}

/// The models that rows are of.
pub fn models<'a>(ids: impl IntoIterator<Item = &'a BenchmarkId>) -> Vec<String> {
    let models = ids.into_iter().filter(|id| is_of_a_model(id)).map(BenchmarkId::subject);
    models.collect::<BTreeSet<_>>().into_iter().map(str::to_owned).collect()
}

fn is_of_a_model(id: &BenchmarkId) -> bool {
    Group::usual_phase_of(id.group()).is_some()
}

/// Names, each once, no more than eight of them.
pub fn listed<S: Into<String>>(names: impl IntoIterator<Item = S>) -> String {
    const MOST: usize = 8;
    let names: BTreeSet<String> = names.into_iter().map(Into::into).collect();
    let more = names.len().saturating_sub(MOST);
    let shown: Vec<String> = names.into_iter().take(MOST).collect();
    match (shown.is_empty(), more) {
        (true, _) => "nothing".to_owned(),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_is_named_once_and_not_without_end() {
        let ids: Vec<BenchmarkId> = [
            "text/a/prefill/f32/b1@x",
            "text/a/decode/f32/b1@x",
            "text/a/prefill/f32/b2@x",
            "micro/matmul/f32@x",
        ]
        .map(|id| id.parse().unwrap())
        .into();
        assert_eq!(of(&ids), "micro/matmul, text/a");
        assert_eq!(phases(&ids, "a"), ["decode", "prefill"]);
        assert_eq!(phases(&ids, "matmul"), Vec::<String>::new());
        assert_eq!(models(&ids), ["a"]);
        assert_eq!(of(&[]), "nothing");
        let many = (0..20).map(|at| format!("{at:02}"));
        assert_eq!(listed(many), "00, 01, 02, 03, 04, 05, 06, 07 and 12 more");
    }
}
