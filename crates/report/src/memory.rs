//! A GPU's memory in words: what holds it, count by count.

use warpmark_analyze::RowAnalysis;
use warpmark_record::{Bytes, Field, Memory};

/// The counts of the row that held most, where any tells them: the row's name and the words.
pub(crate) fn most<'r>(
    rows: &[&'r RowAnalysis<'_>],
    name: impl Fn(&'r RowAnalysis<'_>) -> String,
) -> Option<String> {
    let counted = rows.iter().filter_map(|row| {
        let memory = row.record.memory.as_ref().filter(|memory| memory.device.is_some())?;
        Some((*row, memory))
    });
    let held = |memory: &Memory| memory.peak.known().map_or(0.0, |peak| peak.get());
    let (row, memory) = counted.max_by(|(_, a), (_, b)| held(a).total_cmp(&held(b)))?;
    Some(format!("most memory, {}: {}", name(row), words(memory)?))
}

/// What a memory consists of: the pool's marks first, then what is beside them.
fn words(memory: &Memory) -> Option<String> {
    let counts = memory.device.as_ref()?;
    let mut parts = Vec::new();
    // What was counted from tensors, against what the pool held once they were there.
    if let Field::Known(weights) = &memory.weights {
        parts.push(format!("weights {}", weights.binary()));
    }
    parts.push(part("held before it ran", &counts.loaded));
    let run = match (memory.peak.known(), counts.loaded.known()) {
        (Some(peak), Some(loaded)) => Field::Known((*peak - *loaded).max(Bytes(0.0))),
        _ => Field::absent(memory.peak.reason().or(counts.loaded.reason()).unwrap_or_default()),
    };
    parts.push(part("by the run at most", &run));
    parts.push(part("graphs", &counts.graphs));
    parts.push(part("context", &counts.context));
    parts.push(part("libraries", &counts.libraries));
    parts.push(part("in all by NVML", &counts.process));
    Some(format!("{} ({})", parts.join(", "), memory.method))
}

fn part(name: &str, bytes: &Field<Bytes>) -> String {
    match bytes {
        Field::Known(bytes) => format!("{name} {}", bytes.binary()),
        Field::Absent { absent } => format!("{name} unknown ({absent})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warpmark_record::DeviceMemory;

    #[test]
    fn every_count_is_named_and_what_is_unknown_says_why() {
        let mib = |count: f64| Field::Known(Bytes(count * 1024.0 * 1024.0));
        let memory = Memory {
            method: "cuda pool high-water mark".to_owned(),
            weights: mib(200.0),
            peak: mib(300.0),
            device: Some(Box::new(DeviceMemory {
                loaded: mib(202.0),
                pool_reserved: mib(320.0),
                graphs: mib(0.0),
                graphs_reserved: mib(0.0),
                context: mib(350.0),
                libraries: mib(34.0),
                process: Field::absent("NVML hides processes here"),
            })),
        };
        assert_eq!(
            words(&memory).unwrap(),
            "weights 200 MiB, held before it ran 202 MiB, by the run at most 98.0 MiB, graphs 0 B, \
             context 350 MiB, libraries 34.0 MiB, in all by NVML unknown (NVML hides processes \
             here) (cuda pool high-water mark)"
        );
    }
}
