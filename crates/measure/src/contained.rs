//! A library's panic as an error: what others wrote reaches libraries that panic over what they did not
//! expect, and one file must not end a run.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

/// The longest text of a panic that is kept, in characters: it may hold the whole file that it is about.
const LONGEST: usize = 200;

thread_local! {
    /// Whether this thread is within [`contained`].
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// A panic within a library.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a library panicked: {text}")]
pub struct LibraryPanic {
    /// What it said.
    pub text: String,
}

impl LibraryPanic {
    /// What a caught panic carries.
    pub(crate) fn from_payload(payload: &(dyn Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        let mut kept: String = text.chars().take(LONGEST).collect();
        if kept.len() < text.len() {
            kept.push('…');
        }
        Self { text: kept }
    }
}

/// What a library makes of something foreign, or its panic as an error, of which nothing is printed.
///
/// What `work` changes must not be used after an error, but for what is consistent at every moment. A
/// panic on another thread is caught where the library hands it on to this one, and printed.
pub fn contained<T>(work: impl FnOnce() -> T) -> Result<T, LibraryPanic> {
    static HOOK: Once = Once::new();
    // Hooks cannot be changed while a panic is under way.
    if !std::thread::panicking() {
        HOOK.call_once(|| {
            let others = take_hook();
            set_hook(Box::new(move |info| {
                if !CONTAINED.try_with(Cell::get).unwrap_or(false) {
                    others(info);
                }
            }));
        });
    }
    let outer = CONTAINED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(outer);
    result.map_err(|payload| LibraryPanic::from_payload(payload.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_words_and_what_is_sound_passes() {
        assert_eq!(contained(|| 7), Ok(7));
        let error = contained(|| -> u32 { panic!("byte {} of it", 3) }).unwrap_err();
        assert_eq!(error.to_string(), "a library panicked: byte 3 of it");
        let error = contained(|| std::panic::panic_any(3u8)).unwrap_err();
        assert_eq!(error.text, "no message");
    }

    #[test]
    fn a_panic_that_quotes_a_whole_file_is_cut() {
        let error = contained(|| panic!("{}", "é".repeat(5000))).unwrap_err();
        assert_eq!(error.text.chars().count(), LONGEST + 1);
    }

    #[test]
    fn only_what_is_contained_is_kept_from_the_hook() {
        assert!(!CONTAINED.get());
        let inner = contained(|| {
            let inner = contained(|| panic!("inner")).unwrap_err();
            assert!(CONTAINED.get());
            inner
        });
        assert_eq!(inner.unwrap().text, "inner");
        assert!(!CONTAINED.get());
    }
}
