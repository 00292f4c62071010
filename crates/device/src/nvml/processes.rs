//! Which of the processes that NVML lists are others, and which is this one.

use std::collections::{BTreeMap, BTreeSet};

use warpmark_record::{Bytes, Field};

/// The memory of process `own` among those listed; the only one there is, is this one under the number of
/// another PID namespace.
pub(super) fn memory_of(own: u32, list: &BTreeMap<u32, Option<Bytes>>) -> Field<Bytes> {
    let found = list.get(&own).or_else(|| list.values().next().filter(|_| list.len() == 1));
    match found {
        Some(Some(bytes)) => Field::Known(*bytes),
        Some(None) => Field::absent("NVML tells no memory of single processes here"),
        None => Field::absent(
            "NVML does not list this process under its own number, so that its memory cannot be told from \
             that of others",
        ),
    }
}

/// How many of the listed processes are others, while process `own` has a context on the card.
///
/// NVML's numbers may be those of another PID namespace, as in a container: then this process is in the
/// list under a number that is not its own, so that one of them does not count. A list without anybody
/// does not even show this process, and so tells nothing of others.
pub(super) fn others_beside(own: u32, pids: &BTreeSet<u32>) -> Field<u32> {
    if pids.is_empty() {
        return Field::absent(
            "NVML lists no process at all, not even this one: from inside this container it cannot be \
             seen whether others use the card",
        );
    }
    let others = pids.iter().filter(|pid| **pid != own).count();
    // Without its own number it is one of those that seem to be others.
    Field::Known((others - usize::from(others == pids.len())) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_never_one_of_the_others_whatever_number_it_has_in_the_list() {
        let others = |pids: &[u32]| others_beside(7, &pids.iter().copied().collect());
        assert_eq!(others(&[7]), Field::Known(0));
        assert_eq!(others(&[7, 8, 9]), Field::Known(2));
        // Under the number of another namespace.
        assert_eq!(others(&[4711]), Field::Known(0));
        assert_eq!(others(&[4711, 4712]), Field::Known(1));
        assert!(others(&[]).reason().unwrap().contains("not even this one"));
    }

    #[test]
    fn the_memory_of_this_process_is_never_that_of_another() {
        let (ours, theirs) = (Some(Bytes(7.0)), Some(Bytes(9.0)));
        let list = |entries: &[(u32, Option<Bytes>)]| entries.iter().copied().collect();
        assert_eq!(memory_of(7, &list(&[(7, ours), (8, theirs)])), Field::Known(Bytes(7.0)));
        assert_eq!(memory_of(7, &list(&[(4711, ours)])), Field::Known(Bytes(7.0)));
        let mixed = memory_of(7, &list(&[(4711, ours), (8, theirs)]));
        assert!(mixed.reason().unwrap().contains("cannot be told"), "{mixed:?}");
        assert!(memory_of(7, &list(&[])).reason().is_some());
        let silent = memory_of(7, &list(&[(7, None)]));
        assert!(silent.reason().unwrap().contains("no memory of single processes"), "{silent:?}");
    }
}
