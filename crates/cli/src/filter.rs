//! Filters against what there is: a slip in one is told of before it costs anything.

use std::collections::BTreeSet;

use warpmark_analyze::holdings;
use warpmark_record::filter::{FilterPart, Word, segment_matches};
use warpmark_record::{BenchmarkId, Filter};

use crate::arguments::{Selection, WrongUsage};
use crate::output::warn;

/// How alike two words have to be for one to be taken for the other.
const ALIKE: f64 = 0.75;

/// So many slips are told of one by one.
const MOST: usize = 5;

/// Whether what is to be measured has a benchmark in it.
pub(crate) fn selects(selection: &Selection, id: &BenchmarkId) -> bool {
    selection.filter.as_ref().is_none_or(|filter| filter.selects(id))
}

/// Warns of each part of a filter that none of these ids matches; `listing` says where all of them are
/// listed.
///
/// # Errors
/// Nothing is selected.
pub(crate) fn look_for<'a>(
    filter: Option<&Filter>,
    ids: impl IntoIterator<Item = &'a BenchmarkId>,
    listing: &str,
) -> Result<(), WrongUsage> {
    let Some(filter) = filter else { return Ok(()) };
    let ids: Vec<&BenchmarkId> = ids.into_iter().collect();
    let idle = idle(filter, &ids);
    if ids.iter().any(|id| filter.selects(id)) {
        for remark in idle {
            warn(&format!("{remark}; {listing}"));
        }
        return Ok(());
    }
    let why = if idle.is_empty() {
        "it leaves out everything that it chooses".to_owned()
    } else {
        idle.join("; ")
    };
    Err(WrongUsage(format!("the filter selects no benchmark: {why}; {listing}")))
}

/// The same of recorded rows, with what there is.
///
/// # Errors
/// Those of [`look_for`].
pub(crate) fn look_for_rows<'a>(
    filter: Option<&Filter>,
    ids: impl IntoIterator<Item = &'a BenchmarkId> + Clone,
) -> Result<(), WrongUsage> {
    if filter.is_none() {
        return Ok(());
    }
    let listing = format!("there is {}", holdings::of(ids.clone()));
    look_for(filter, ids, &listing)
}

/// What is to be said of the parts that no id matches.
fn idle(filter: &Filter, ids: &[&BenchmarkId]) -> Vec<String> {
    let matched = |part: &&FilterPart| ids.iter().any(|id| part.matches(id));
    let parts: Vec<&FilterPart> = filter.parts().iter().filter(|part| !matched(part)).collect();
    let mut remarks: Vec<String> = parts
        .iter()
        .take(MOST)
        .map(|part| match nearest(part, ids) {
            Some(other) => format!("nothing here matches `{part}` of the filter; is it `{other}`?"),
            None => format!("nothing here matches `{part}` of the filter"),
        })
        .collect();
    if parts.len() > MOST {
        remarks.push(format!("nor do {} other parts match anything", parts.len() - MOST));
    }
    remarks
}

/// The part with the words that are nearest to its own, if that matches anything.
fn nearest(part: &FilterPart, ids: &[&BenchmarkId]) -> Option<FilterPart> {
    let other = part.with_words(|pattern, kind| {
        let words = vocabulary(ids, kind);
        if words.iter().any(|word| segment_matches(pattern, word)) {
            return None;
        }
        let alike = |word: &&str| strsim::jaro_winkler(&pattern.to_lowercase(), word);
        let best = words.iter().copied().max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
        (alike(&best) >= ALIKE).then(|| best.to_owned())
    });
    (other != *part && ids.iter().any(|id| other.matches(id))).then_some(other)
}

/// The words of these ids, and their beginnings: `gpt2` stands for `gpt2-124m`, too.
fn vocabulary<'a>(ids: &[&'a BenchmarkId], kind: Word) -> BTreeSet<&'a str> {
    let mut words = BTreeSet::new();
    for id in ids {
        match kind {
            Word::Segment => words.extend(id.segments().iter().map(String::as_str)),
            Word::Engine => drop(words.insert(id.engine())),
        }
    }
    let beginnings = |word: &'a str| {
        let ends = word.match_indices(|c: char| !c.is_ascii_alphanumeric());
        ends.filter_map(|(at, _)| word.get(..at)).filter(|beginning| !beginning.is_empty())
    };
    let short: Vec<&str> = words.iter().flat_map(|word| beginnings(word)).collect();
    words.extend(short);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remarks(filter: &str) -> Vec<String> {
        let ids = ["text/gpt2-124m/prefill/f16@candle", "text/whisper-tiny/decode/f32@fused"];
        let ids: Vec<BenchmarkId> = ids.iter().map(|id| id.parse().unwrap()).collect();
        idle(&filter.parse().unwrap(), &ids.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_slip_is_told_of_with_the_nearest_name() {
        let says = |filter: &str, nearest: &str| {
            let remarks = remarks(filter);
            assert!(remarks.len() == 1 && remarks[0].contains(nearest), "{filter}: {remarks:?}");
        };
        says("prefill,whispr", "`whispr` of the filter; is it `whisper`?");
        says("gpt2/prefil", "is it `gpt2/prefill`?");
        says("@cndle", "is it `@candle`?");
        says("!decod", "`!decod` of the filter; is it `!decode`?");
        says("GPT2", "is it `gpt2`?");
        assert_eq!(remarks("zzz"), ["nothing here matches `zzz` of the filter"]);
        // Each word is there, and never with the other.
        assert_eq!(remarks("gpt2/decode"), ["nothing here matches `gpt2/decode` of the filter"]);
        assert!(remarks("gpt2,@fused,!f16").is_empty());
        assert_eq!(remarks("a,b,c,d,e,f,g,h").len(), MOST + 1);
    }
}
