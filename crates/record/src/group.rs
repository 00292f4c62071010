//! The groups of benchmarks: the first segment of an id, and what follows from it wherever rows are read.

/// A group of benchmarks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// The first segment of its ids, and its bench target.
    pub name: &'static str,
    /// The phase of a model that a decision is about where none is named; `None` where what is measured is
    /// no phase of a model.
    pub usual_phase: Option<&'static str>,
    /// Its colour among the eight of a page, from 1; `None` where its parts have colours of their own.
    pub color: Option<usize>,
}

/// Every group that has a bench target, in the order of their names, in which cargo runs them.
pub const GROUPS: [Group; 6] = [
    Group { name: "image", usual_phase: Some("generate"), color: Some(4) },
    Group { name: "load", usual_phase: None, color: Some(6) },
    Group { name: "micro", usual_phase: None, color: None },
    Group { name: "speech", usual_phase: Some("transcribe"), color: Some(5) },
    Group { name: "text", usual_phase: Some("decode"), color: Some(2) },
    Group { name: "vision", usual_phase: Some("classify"), color: Some(8) },
];

impl Group {
    /// The group of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        GROUPS.iter().find(|group| group.name == name)
    }

    /// Every usual phase, for a message: `a, b or c`.
    pub fn usual_phases() -> String {
        let phases: Vec<&str> = GROUPS.iter().filter_map(|group| group.usual_phase).collect();
        match phases.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => phases.concat(),
        }
    }

    /// The usual phase of a group of models; `None` for every other group.
    pub fn usual_phase_of(name: &str) -> Option<&'static str> {
        Self::named(name)?.usual_phase
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_in_the_order_of_their_names_and_of_different_colours() {
        assert!(GROUPS.windows(2).all(|pair| pair[0].name < pair[1].name));
        let mut colors: Vec<usize> = GROUPS.iter().filter_map(|group| group.color).collect();
        colors.sort_unstable();
        colors.dedup();
        assert_eq!(colors.len(), GROUPS.len() - 1, "micro's parts have their own");
        // Of the eight that a page has; 1, 3 and 7 are those of parts of micro and of load on services.
        assert!(colors.iter().all(|color| [2, 4, 5, 6, 8].contains(color)), "{colors:?}");
    }

    #[test]
    fn only_models_have_a_usual_phase() {
        assert_eq!(Group::usual_phase_of("text"), Some("decode"));
        assert_eq!(Group::usual_phase_of("micro"), None);
        assert_eq!(Group::usual_phase_of("x"), None);
        assert_eq!(Group::usual_phases(), "generate, transcribe, decode or classify");
    }
}
