//! Models that come in components: a folder for each net, and the same tensor names in several of them.
//!
//! The rule: a weight file that a stanza lists below a folder, `unet/x.safetensors`, holds the component
//! of that name, and its tensors are called `unet.` and what the file calls them. Synthetic weights are
//! written under these names into one file.

/// The component of a file of a repository, by its path there; `None` for one that lies in no folder.
pub(super) fn of(file: &str) -> Option<&str> {
    file.split_once('/').map(|(folder, _)| folder)
}

/// The name of a component's tensor, as the nets call it.
///
/// Auto-encoders of 2022 store the products of their attention under other names, which diffusers
/// renames too when it reads them.
pub(super) fn canonical(component: &str, name: &str) -> String {
    const RENAMED: [(&str, &str); 4] = [
        (".query.", ".to_q."),
        (".key.", ".to_k."),
        (".value.", ".to_v."),
        (".proj_attn.", ".to_out.0."),
    ];
    let mut name = format!("{component}.{name}");
    if component == "vae" {
        for (old, new) in RENAMED {
            name = name.replace(old, new);
        }
    }
    name
}

/// Whether a tensor belongs to the half of an auto-encoder that reads images, which no text-to-image run
/// needs.
pub(super) fn is_unused(name: &str) -> bool {
    ["vae.encoder.", "vae.quant_conv."].iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_names_the_component_and_a_bare_file_has_none() {
        assert_eq!(of("unet/model.safetensors"), Some("unet"));
        assert_eq!(of("model.safetensors"), None);
    }

    #[test]
    fn attention_names_of_old_are_those_of_today_in_the_auto_encoder_alone() {
        let old = "decoder.mid_block.attentions.0.proj_attn.weight";
        let new = "vae.decoder.mid_block.attentions.0.to_out.0.weight";
        assert_eq!(canonical("vae", old), new);
        assert_eq!(canonical("vae", "a.query.bias"), "vae.a.to_q.bias");
        assert_eq!(canonical("text_encoder", "a.query.bias"), "text_encoder.a.query.bias");
    }

    #[test]
    fn the_reading_half_of_an_auto_encoder_is_passed_over() {
        assert!(is_unused("vae.encoder.conv_in.bias") && is_unused("vae.quant_conv.weight"));
        assert!(!is_unused("vae.decoder.conv_in.bias") && !is_unused("unet.encoder.x"));
    }
}
