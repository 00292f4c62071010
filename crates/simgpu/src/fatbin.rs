//! What nvcc puts into a program: a "fat binary" of texts and machine code, one for each architecture.
//!
//! A header of 16 bytes tells its own size and that of what follows: entries, each behind a header that tells
//! its kind, the size of both, and the architecture. A text ends with a zero.

/// What the header begins with.
const MAGIC: u32 = 0xBA55_ED50;

/// The kind of an entry that is PTX.
const PTX: u16 = 1;

/// Flags of an entry whose text is packed: nvcc leaves it as it is with `--no-compress`.
const PACKED: u64 = 0x1_A000;

/// An entry that is PTX.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Text<'a> {
    /// 80 for `compute_80`.
    pub(crate) architecture: u32,
    pub(crate) ptx: &'a str,
}

fn number<const BYTES: usize>(bytes: &[u8], at: usize) -> Option<[u8; BYTES]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    number(bytes, at).map(|bytes| usize::from(u16::from_le_bytes(bytes)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    number(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    number(bytes, at).map(u64::from_le_bytes)
}

/// The length of a fat binary, header and all, by its header.
pub(crate) fn len(header: &[u8; 16]) -> Option<usize> {
    let of_one = u32_at(header, 0)? == MAGIC;
    let len = usize::try_from(u64_at(header, 8)?).ok()?.checked_add(u16_at(header, 6)?)?;
    of_one.then_some(len)
}

/// The texts of a fat binary; `None` where it is none, or not as its headers say.
pub(crate) fn texts(binary: &[u8]) -> Option<Vec<Text<'_>>> {
    let end = len(binary.first_chunk()?)?;
    let binary = binary.get(..end)?;
    let (mut at, mut found) = (u16_at(binary, 6)?, Vec::new());
    while at < end {
        let entry = &binary[at..];
        let (header, len) = (u32_at(entry, 4)? as usize, u64_at(entry, 8)?);
        let len = usize::try_from(len).ok()?;
        let body = entry.get(header..header.checked_add(len)?)?;
        if u16_at(entry, 0)? == usize::from(PTX) {
            if u64_at(entry, 40)? & PACKED != 0 {
                return None;
            }
            let body = &body[..body.iter().position(|byte| *byte == 0).unwrap_or(len)];
            let ptx = std::str::from_utf8(body).ok()?;
            found.push(Text { architecture: u32_at(entry, 28)?, ptx });
        }
        at += (header + len).max(1);
    }
    Some(found)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn entry(kind: u16, architecture: u32, flags: u64, text: &str) -> Vec<u8> {
        let mut entry = vec![0; 64];
        entry[..2].copy_from_slice(&kind.to_le_bytes());
        entry[4..8].copy_from_slice(&64_u32.to_le_bytes());
        let len = (text.len() + 1).next_multiple_of(8);
        entry[8..16].copy_from_slice(&(len as u64).to_le_bytes());
        entry[28..32].copy_from_slice(&architecture.to_le_bytes());
        entry[40..48].copy_from_slice(&flags.to_le_bytes());
        entry.extend(text.bytes());
        entry.resize(64 + len, 0);
        entry
    }

    pub(crate) fn binary(entries: &[Vec<u8>]) -> Vec<u8> {
        let body = entries.concat();
        let mut binary = MAGIC.to_le_bytes().to_vec();
        binary.extend([1, 0, 16, 0]);
        binary.extend((body.len() as u64).to_le_bytes());
        binary.extend(body);
        binary
    }

    #[test]
    fn texts_are_found_beside_machine_code() {
        let made =
            [entry(2, 75, 17, "ELF"), entry(PTX, 75, 17, "seven"), entry(PTX, 80, 17, "eight")];
        let mut bytes = binary(&made);
        // What lies behind it in the program is none of it.
        bytes.extend([1; 20]);
        let of = |architecture, ptx| Text { architecture, ptx };
        assert_eq!(texts(&bytes).unwrap(), [of(75, "seven"), of(80, "eight")]);
    }

    #[test]
    fn what_is_torn_packed_or_foreign_has_none() {
        let bytes = binary(&[entry(PTX, 75, 17, "seven")]);
        for end in 0..bytes.len() {
            assert_eq!(texts(&bytes[..end]), None, "{end}");
        }
        assert_eq!(texts(&binary(&[entry(PTX, 75, 0x2011, "seven")])), None);
        assert_eq!(texts(&[0; 64]), None);
    }
}
