//! Kernels' signatures: read from CUDA C++, written as the text that stands for a compiled module, and
//! read from that again.

use std::collections::HashMap;
use std::fmt::Write;

/// What a compiled module begins with.
const HEADER: &str = "//simgpu ";

/// One kernel: what a launch has to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) parameters: Vec<Parameter>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parameter {
    pub(crate) bytes: usize,
    pub(crate) pointer: bool,
}

/// All kernels of a source, or what is wrong with it as a compiler would say it.
pub(crate) fn compile(name: &str, source: &str) -> Result<Vec<Entry>, String> {
    let text = without_comments(source);
    if let Some((line, _)) = text.lines().enumerate().find(|(_, l)| l.trim().starts_with("#error"))
    {
        let said = text.lines().nth(line).unwrap_or_default().trim();
        return Err(format!("{name}({}): catastrophic error: {said}\n", line + 1));
    }
    let types = typedefs(&text);
    let pieces: Vec<&str> = text.split("__global__").collect();
    let mut entries = Vec::new();
    for pair in pieces.windows(2) {
        let external = pair[0].trim_end().ends_with("extern \"C\"");
        let found = entry(pair[1], external, &types);
        entries.push(found.map_err(|error| format!("{name}: error: {error}\n"))?);
    }
    Ok(entries)
}

/// The signature that follows `__global__`.
fn entry(text: &str, external: bool, types: &HashMap<String, usize>) -> Result<Entry, String> {
    // The bounds stand before or behind `void`.
    let mut rest = text;
    if let Some(at) = rest.find("__launch_bounds__").filter(|at| !rest[..*at].contains('(')) {
        let end = rest[at..].find(')').ok_or("__launch_bounds__ has no end")?;
        rest = &rest[at + end + 1..];
    }
    let open = rest.find('(').ok_or("a kernel has no parameters")?;
    let close = open + rest[open..].find(')').ok_or("a kernel's parameters have no end")?;
    let name = rest[..open].split_whitespace().last().ok_or("a kernel has no name")?;
    let list =
        rest[open + 1..close].split(',').map(str::trim).filter(|parameter| !parameter.is_empty());
    let parameters = list.map(|text| parameter(text, types)).collect::<Result<_, _>>()?;
    // Without `extern "C"` a C++ compiler adds the types to the name.
    let name = if external { name.to_owned() } else { format!("_Z{}{name}", name.len()) };
    Ok(Entry { name, parameters })
}

fn parameter(text: &str, types: &HashMap<String, usize>) -> Result<Parameter, String> {
    if text.contains('*') {
        return Ok(Parameter { bytes: 8, pointer: true });
    }
    let mut words: Vec<&str> = text.split_whitespace().filter(|word| *word != "const").collect();
    words.pop();
    let bytes = size_of(&words.join(" "), types);
    let bytes =
        bytes.ok_or_else(|| format!("the simulator does not know the type of \"{text}\""))?;
    Ok(Parameter { bytes, pointer: false })
}

fn size_of(name: &str, types: &HashMap<String, usize>) -> Option<usize> {
    Some(match name {
        "char" | "signed char" | "unsigned char" | "bool" => 1,
        "short" | "unsigned short" | "__half" | "__nv_bfloat16" => 2,
        "int" | "unsigned" | "unsigned int" | "float" => 4,
        "long" | "unsigned long" | "long long" | "unsigned long long" | "size_t" | "double"
        | "float2" | "uint2" | "int2" => 8,
        "float4" | "uint4" | "int4" => 16,
        other => return types.get(other).copied(),
    })
}

fn typedefs(text: &str) -> HashMap<String, usize> {
    let mut types = HashMap::new();
    for line in text.lines() {
        let Some(rest) = line.trim().strip_prefix("typedef ") else { continue };
        if let Some((old, new)) = rest.trim_end_matches(';').rsplit_once(' ')
            && let Some(size) = size_of(old.trim(), &types)
        {
            types.insert(new.to_owned(), size);
        }
    }
    types
}

fn without_comments(source: &str) -> String {
    let mut text = String::new();
    let mut rest = source;
    while let Some(at) = rest.find('/') {
        text += &rest[..at];
        rest = &rest[at..];
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if rest.starts_with("/*") {
            let end = rest.find("*/").map_or(rest.len(), |end| end + 2);
            text.extend(rest[..end].chars().filter(|c| *c == '\n'));
            rest = &rest[end..];
        } else {
            text.push('/');
            rest = &rest[1..];
        }
    }
    text + rest
}

/// A module as text.
pub(crate) fn image(target: &str, entries: &[Entry]) -> String {
    let mut text = format!("{HEADER}{target}\n");
    for entry in entries {
        let list: Vec<String> = entry
            .parameters
            .iter()
            .map(|p| format!("{}{}", if p.pointer { ".ptr " } else { "" }, p.bytes))
            .collect();
        let _ = writeln!(text, ".visible .entry {}({})", entry.name, list.join(", "));
    }
    text
}

/// The target and kernels of a module's text; `None` if it is none of ours.
pub(crate) fn parse(image: &str) -> Option<(String, Vec<Entry>)> {
    let mut lines = image.lines();
    let target = lines.next()?.strip_prefix(HEADER)?.to_owned();
    // The signatures of candle's kernels tell their version of PTX and their target as well.
    let entries =
        lines.filter(|line| !line.starts_with(".version ") && !line.starts_with(".target "));
    let entries = entries.map(|line| {
        let (name, rest) = line.strip_prefix(".visible .entry ")?.split_once('(')?;
        let list = rest.strip_suffix(')')?.split(", ").filter(|parameter| !parameter.is_empty());
        let parameters = list.map(|text| {
            let pointer = text.starts_with(".ptr ");
            let bytes = text.trim_start_matches(".ptr ").parse().ok()?;
            Some(Parameter { bytes, pointer })
        });
        Some(Entry { name: name.to_owned(), parameters: parameters.collect::<Option<_>>()? })
    });
    Some((target, entries.collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_found_past_bounds_comments_and_typedefs() {
        let source = "typedef unsigned long long u64; // __global__ void no(int a)\n\
            extern \"C\" __global__ void __launch_bounds__(256, 2)\n one(const float4* __restrict__ a,\n u64 n, float4 p) {}\n\
            __global__ void two() {}";
        let entries = compile("x.cu", source).unwrap();
        let p = |bytes, pointer| Parameter { bytes, pointer };
        assert_eq!(entries[0].name, "one");
        assert_eq!(entries[0].parameters, [p(8, true), p(8, false), p(16, false)]);
        assert_eq!(entries[1], Entry { name: "_Z3two".to_owned(), parameters: Vec::new() });
        let text = image("sm_75", &entries);
        assert_eq!(parse(&text), Some(("sm_75".to_owned(), entries)));
    }

    #[test]
    fn an_error_line_stops_the_compiler_with_its_place() {
        let log = compile("x.cu", "\n#error not today\n").unwrap_err();
        assert_eq!(log, "x.cu(2): catastrophic error: #error not today\n");
    }

    #[test]
    fn the_signatures_of_candles_kernels_are_read_and_are_those_of_its_version() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let folder = format!("{root}/scripts/simulated-cuda/signatures");
        let mut found = Vec::new();
        for file in std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()) {
            if file.extension().is_some_and(|kind| kind == "ptx") {
                let (target, entries) = parse(&std::fs::read_to_string(file).unwrap()).unwrap();
                assert_eq!(target, "compute_75");
                found.extend(entries);
            }
        }
        let softmax = found.iter().find(|entry| entry.name == "softmax_f16").unwrap();
        let pointers: Vec<bool> = softmax.parameters.iter().map(|p| p.pointer).collect();
        assert_eq!((pointers, found.len()), (vec![true, true, false], 591));
        let version = std::fs::read_to_string(format!("{folder}/VERSION")).unwrap();
        let lock = std::fs::read_to_string(format!("{root}/Cargo.lock")).unwrap();
        let locked = format!("name = \"candle-kernels\"\nversion = \"{}\"", version.trim());
        assert!(lock.contains(&locked), "scripts/fixtures/kernel_signatures.py makes them anew");
    }
}
