use std::path::Path;

use super::*;

fn get(variables: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
    |name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
}

fn token(variables: &[(&str, &str)]) -> Result<Option<String>, String> {
    let get = get(variables);
    let token = Environment(&get).token().map_err(|error| error.to_string())?;
    Ok(token.map(|token| token.text))
}

#[test]
fn the_caches_folder_is_that_of_the_hubs_own_tools() {
    let home = ("HOME", "/h");
    for (variables, folder) in [
        (&[home][..], "/h/.cache/huggingface/hub"),
        (&[home, ("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
        (&[home, ("XDG_CACHE_HOME", "x")], "/h/.cache/huggingface/hub"),
        (&[home, ("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/hf")], "/hf/hub"),
        (&[home, ("HF_HOME", "")], "/h/.cache/huggingface/hub"),
        (&[home, ("HF_HOME", "~/hf")], "/h/hf/hub"),
        (&[home, ("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/c")], "/c"),
        (&[home, ("HUGGINGFACE_HUB_CACHE", "/old")], "/old"),
    ] {
        let found = Environment(&get(variables)).cache_folder();
        assert_eq!(found.as_deref(), Some(Path::new(folder)), "{variables:?}");
    }
    assert_eq!(Environment(&get(&[])).cache_folder(), None);
}

#[test]
fn the_network_is_off_where_either_variable_says_yes() {
    for (variables, offline) in [
        (&[("HF_HUB_OFFLINE", "1")][..], true),
        (&[("HF_HUB_OFFLINE", "True")], true),
        (&[("HF_HUB_OFFLINE", "yes")], true),
        (&[("HF_HUB_OFFLINE", "ON")], true),
        (&[("TRANSFORMERS_OFFLINE", "1")], true),
        (&[("HF_HUB_OFFLINE", ""), ("TRANSFORMERS_OFFLINE", "1")], true),
        (&[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")], false),
        (&[("HF_HUB_OFFLINE", "0")], false),
        (&[], false),
    ] {
        assert_eq!(Environment(&get(variables)).is_offline(), offline, "{variables:?}");
    }
}

#[test]
fn a_token_loses_the_white_space_around_it_wherever_it_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().to_str().unwrap();
    assert_eq!(token(&[("HF_TOKEN", "hf_abc\n")]).unwrap().unwrap(), "hf_abc");
    assert_eq!(token(&[("HF_TOKEN", " hf_\r\nabc\t")]).unwrap().unwrap(), "hf_abc");
    assert_eq!(token(&[("HUGGING_FACE_HUB_TOKEN", "hf_abc ")]).unwrap().unwrap(), "hf_abc");
    assert_eq!(token(&[("HF_TOKEN", " \n"), ("HF_HOME", home)]).unwrap(), None);
    std::fs::write(folder.path().join("token"), "hf_saved\n").unwrap();
    assert_eq!(token(&[("HF_HOME", home)]).unwrap().unwrap(), "hf_saved");
    let path = folder.path().join("elsewhere");
    std::fs::write(&path, "hf_named\n").unwrap();
    let named = ("HF_TOKEN_PATH", path.to_str().unwrap());
    assert_eq!(token(&[("HF_HOME", home), named]).unwrap().unwrap(), "hf_named");
}

#[test]
fn a_malformed_token_is_named_by_its_source_and_not_shown() {
    for text in ["hf_a b", "hf_é", "hf_\u{7}"] {
        let error = token(&[("HF_TOKEN", text)]).unwrap_err();
        assert!(error.contains("HF_TOKEN is malformed"), "{error}");
        assert!(!error.contains(text), "{error}");
    }
    let error = token(&[("HF_TOKEN_PATH", "/nowhere/token")]).unwrap_err();
    assert!(error.contains("/nowhere/token") && error.contains("HF_TOKEN_PATH"), "{error}");
}
