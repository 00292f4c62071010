//! What the user says of a run.

use std::collections::BTreeMap;

use clap::Args;
use warpmark_record::Tag;

use super::WrongUsage;

/// `--tag KEY=VALUE`, and several at once from the environment.
#[derive(Debug, Clone, Default, Args)]
pub struct TagOption {
    /// Say something of the run that its record keeps, such as `node=gpu-17`; once for each
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    tag: Vec<Tag>,
    /// Several at once, for the environment of a job; of one key `--tag` counts
    #[arg(long = "tags", value_name = "KEY=VALUE,...", env = "WARPMARK_TAGS")]
    #[arg(value_delimiter = ',', hide_short_help = true)]
    tags: Vec<Tag>,
}

impl TagOption {
    /// The value of each key.
    ///
    /// # Errors
    /// A key is given two values in one place.
    pub fn by_key(&self) -> Result<BTreeMap<String, String>, WrongUsage> {
        let mut all = once(&self.tags)?;
        all.extend(once(&self.tag)?);
        Ok(all)
    }
}

fn once(tags: &[Tag]) -> Result<BTreeMap<String, String>, WrongUsage> {
    let mut all = BTreeMap::new();
    for Tag { key, value } in tags {
        if let Some(other) = all.insert(key.clone(), value.clone()) {
            return Err(WrongUsage(format!(
                "the tag {key:?} has two values, {other:?} and {value:?}: leave one out"
            )));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_goes_before_the_environment_and_no_key_has_two_values() {
        let tags = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let both = TagOption { tag: tags(&["node=a"]), tags: tags(&["node=b", "zone=c"]) };
        let found: Vec<(String, String)> = both.by_key().unwrap().into_iter().collect();
        assert_eq!(
            found,
            [("node", "a"), ("zone", "c")].map(|(k, v)| (k.to_owned(), v.to_owned()))
        );
        let twice = TagOption { tag: tags(&["node=a", "node=b"]), tags: Vec::new() };
        assert!(twice.by_key().unwrap_err().0.contains("two values"));
    }
}
