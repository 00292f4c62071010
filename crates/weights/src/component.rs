//! Models that come in components: a folder for each net, and the same tensor names in several of them.
//!
//! The rule: a weight file that an entry lists below a folder, `unet/x.safetensors`, holds the component
//! of that name, and its tensors are called `unet.` and what the file calls them. Synthetic weights are
//! written under these names into one file.

/// The component of a file of a repository, by its path there; `None` for one that lies in no folder.
pub(super) fn of(file: &str) -> Option<&str> {
    file.split_once('/').map(|(folder, _)| folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_names_the_component_and_a_bare_file_has_none() {
        assert_eq!(of("unet/model.safetensors"), Some("unet"));
        assert_eq!(of("model.safetensors"), None);
    }
}
