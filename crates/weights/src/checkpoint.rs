//! The published files of a model, and what its family knows of the tensors in them.

use crate::Dtype;

/// The published files of a model, as its entry in the catalog pins them.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The model's id, after which the file of its synthetic weights is named.
    pub id: String,
    /// `owner/name` on the hub.
    pub repo: String,
    /// The pinned commit, forty lower-case hex digits; without one nothing is fetched from the hub.
    pub revision: Option<String>,
    /// The weight files in the repo; none where the entry names none of this format.
    pub files: Vec<String>,
    /// The SHA-256 of each of the files, in hex; empty where they are not pinned.
    pub sha256: Vec<String>,
    /// The tokenizer file in the repo.
    pub tokenizer: Option<String>,
    /// The dtype of plain files, in which synthetic weights are written too.
    pub dtype: Dtype,
    /// What a GGUF file calls the model's architecture.
    pub architecture: String,
    /// What the family passes over and renames.
    pub names: TensorNames,
}

/// What a family passes over and renames among the tensors of a checkpoint.
#[derive(Debug, Clone, Copy, Default)]
pub struct TensorNames {
    /// The prefix under which some checkpoints keep the whole net; it is cut off.
    pub prefix: &'static str,
    /// Tensors that files carry and the net does not ask for: whole names, or with a `*` that stands for
    /// any start or any end. Every other one that is not asked for is an error.
    pub ignored: &'static [&'static str],
    /// Parts of names that some files of a component write in another way.
    pub renamed: &'static [Renamed],
    /// Tensors in whose place another is computed with. One that is equal is passed over.
    pub copies: &'static [Copied],
    /// What the family's nets do not compute, by the end of the name of a tensor that shows it: one too many,
    /// or of another shape than the model's numbers make it.
    pub not_computed: &'static [(&'static str, &'static str)],
}

/// A tensor that a checkpoint may store again, and the one that is computed with in its place.
#[derive(Debug, Clone, Copy)]
pub struct Copied {
    /// The stored copy.
    pub copy: &'static str,
    /// The tensor that is loaded.
    pub of: &'static str,
    /// What to do where they differ.
    pub advice: &'static str,
}

/// A part of the names of a component's tensors that some files write in another way.
#[derive(Debug, Clone, Copy)]
pub struct Renamed {
    /// The component.
    pub component: &'static str,
    /// The part as it is stored.
    pub stored: &'static str,
    /// The part as the net calls it.
    pub called: &'static str,
}

impl TensorNames {
    /// Whether a tensor that the net does not ask for may be passed over.
    pub fn ignores(&self, name: &str) -> bool {
        self.ignored.iter().any(|pattern| {
            match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
                (Some(end), _) => name.ends_with(end),
                (None, Some(start)) => name.starts_with(start),
                (None, None) => name == *pattern,
            }
        })
    }

    /// What a tensor shows that is not computed.
    pub(crate) fn not_computed(&self, name: &str) -> Option<&'static str> {
        self.not_computed.iter().find(|(end, _)| name.ends_with(end)).map(|(_, what)| *what)
    }

    /// What is computed with in place of a stored tensor.
    pub(crate) fn copied(&self, name: &str) -> Option<&'static Copied> {
        self.copies.iter().find(|copied| copied.copy == name)
    }

    /// A stored tensor's name as the net calls it; those of a component begin with its name.
    pub(crate) fn called(&self, component: Option<&str>, stored: &str) -> String {
        let Some(component) = component else {
            return stored.strip_prefix(self.prefix).unwrap_or(stored).to_owned();
        };
        let of_component = self.renamed.iter().filter(|renamed| renamed.component == component);
        of_component.fold(format!("{component}.{stored}"), |name, renamed| {
            name.replace(renamed.stored, renamed.called)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: TensorNames = TensorNames {
        prefix: "transformer.",
        ignored: &["*.attn.bias", "vae.encoder.*", "lm_head.weight"],
        renamed: &[Renamed { component: "vae", stored: ".query.", called: ".to_q." }],
        copies: &[],
        not_computed: &[],
    };

    #[test]
    fn a_star_stands_for_any_start_or_any_end_and_nothing_else_is_passed_over() {
        for passed in ["h.0.attn.bias", "vae.encoder.conv_in.bias", "lm_head.weight"] {
            assert!(NAMES.ignores(passed), "{passed}");
        }
        for kept in
            ["h.0.attn.bias.x", "vae.decoder.conv_in.bias", "x.lm_head.weight", "unet.encoder.x"]
        {
            assert!(!NAMES.ignores(kept), "{kept}");
        }
        assert!(!TensorNames::default().ignores("lm_head.weight"));
    }

    #[test]
    fn names_are_replaced_in_their_component_alone() {
        assert_eq!(NAMES.called(Some("vae"), "a.query.bias"), "vae.a.to_q.bias");
        assert_eq!(NAMES.called(Some("text_encoder"), "a.query.bias"), "text_encoder.a.query.bias");
        assert_eq!(NAMES.called(None, "transformer.wte"), "wte");
        assert_eq!(NAMES.called(None, "wte"), "wte");
    }
}
