//! Where a WAV file's samples are, whatever its sizes say.
//!
//! Who writes to a pipe or is killed cannot go back to put the sizes right: they are 0, or as large as the
//! field holds. The end of the file counts then, as it does for ffmpeg, sox and Whisper. The decoder is
//! given a header with the sizes that are true. RF64 and BW64 (EBU Tech 3306, ITU-R BS.2088) keep sizes
//! beyond 4 GiB in a chunk of their own.

use std::fs::File;
use std::io::{Cursor, Read, Result, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

/// Bytes of a chunk's header: its name and its size.
const HEADER: u64 = 8;

/// The longest format chunk that is read: the longest that is in use has 50 bytes.
const LONGEST_FORMAT: u32 = 1024;

/// The most chunks before the samples: a file of empty chunks would keep the reader busy for its length.
const MOST_CHUNKS: usize = 10_000;

/// How near to 2 GiB or 4 GiB a size is that a writer to a pipe puts into its header: those of sox and
/// arecord are the size of a header off, and some are rounded to a page.
const PLACEHOLDER_WITHIN: u64 = 1 << 16;

/// A WAV file's format and the place of its samples.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wave {
    format: Vec<u8>,
    start: u64,
    /// Bytes of samples that the file holds.
    length: u64,
    /// Frames that the header promises, where they are more.
    pub(super) promised: Option<u64>,
    /// Bytes after the samples that are no chunks.
    pub(super) unread: u64,
}

/// The chunks of a file of so many bytes, from its first one on.
struct Chunks<'a> {
    file: &'a File,
    at: u64,
    length: u64,
}

/// A chunk's name, the place of its contents and their stated size.
struct Chunk {
    name: [u8; 4],
    start: u64,
    size: u32,
}

impl Chunks<'_> {
    fn next(&mut self) -> Result<Option<Chunk>> {
        if self.at + HEADER > self.length {
            return Ok(None);
        }
        let mut header = [0; HEADER as usize];
        self.file.read_exact_at(&mut header, self.at)?;
        let [a, b, c, d, size @ ..] = header;
        let size = u32::from_le_bytes(size);
        let start = self.at + HEADER;
        // Chunks begin at even places.
        self.at = start + u64::from(size) + u64::from(size % 2);
        Ok(Some(Chunk { name: [a, b, c, d], start, size }))
    }
}

/// Finds a WAV file's format and samples. `None`: it is no WAV file. The inner error says what is wrong
/// with it.
pub(super) fn find(
    file: &File,
    length: u64,
) -> Result<Option<std::result::Result<Wave, &'static str>>> {
    let mut first = [0; 12];
    if length < first.len() as u64 {
        return Ok(None);
    }
    file.read_exact_at(&mut first, 0)?;
    if !is_riff(&first[..4]) || &first[8..] != b"WAVE" {
        return Ok(None);
    }
    let mut chunks = Chunks { file, at: first.len() as u64, length };
    let (mut format, mut long) = (None, None);
    for _ in 0..MOST_CHUNKS {
        let Some(chunk) = chunks.next()? else { return Ok(Some(Err("it has no data chunk"))) };
        let inside = length - chunk.start;
        match &chunk.name {
            b"fmt " if chunk.size > LONGEST_FORMAT || u64::from(chunk.size) > inside => {
                return Ok(Some(Err("its fmt chunk is malformed")));
            }
            b"fmt " => {
                let mut bytes = vec![0; chunk.size as usize];
                file.read_exact_at(&mut bytes, chunk.start)?;
                format = Some(bytes);
            }
            b"ds64" if inside >= 16 => {
                // The RIFF chunk's size comes first, the data chunk's second.
                let mut bytes = [0; 8];
                file.read_exact_at(&mut bytes, chunk.start + 8)?;
                long = Some(u64::from_le_bytes(bytes));
            }
            b"data" => {
                let Some(format) = format else {
                    return Ok(Some(Err("it has no fmt chunk before its data")));
                };
                let stated = match long {
                    Some(long) if chunk.size == u32::MAX => long,
                    _ => u64::from(chunk.size),
                };
                return place(file, format, (chunk.start, length), stated).map(Some);
            }
            _ => {}
        }
    }
    Ok(Some(Err("it has too many chunks before its data")))
}

/// The samples of a data chunk from `start` in a file of `end` bytes, whose header states a size.
fn place(
    file: &File,
    format: Vec<u8>,
    (start, end): (u64, u64),
    stated: u64,
) -> Result<std::result::Result<Wave, &'static str>> {
    let held = end - start;
    let frame = match format.get(12..14) {
        Some(&[low, high]) => u64::from(u16::from_le_bytes([low, high])).max(1),
        _ => return Ok(Err("its fmt chunk is malformed")),
    };
    let whole = |length: u64| length - length % frame;
    let wave = |length: u64| Wave { format, start, length, promised: None, unread: 0 };
    if stated > held {
        let promised = (!is_placeholder(stated)).then_some(stated / frame);
        return Ok(Ok(Wave { promised, ..wave(whole(held)) }));
    }
    let mut rest = Chunks { file, at: start + stated + stated % 2, length: end };
    let after = rest.at;
    let mut next = rest.next()?;
    if stated == 0 {
        return Ok(Ok(wave(if all_named(&mut rest, next)? { 0 } else { whole(held) })));
    }
    if next.as_ref().is_some_and(|chunk| is_riff(&chunk.name)) {
        return Ok(Err(
            "another WAV file follows in it, which players leave out; make one file of \
                       them, as with sox or ffmpeg",
        ));
    }
    let mut read = after;
    for _ in 0..MOST_CHUNKS {
        match next {
            Some(chunk) if is_named(&chunk) && rest.at <= end + 1 => read = rest.at,
            _ => break,
        }
        next = rest.next()?;
    }
    Ok(Ok(Wave { unread: end.saturating_sub(read), ..wave(whole(stated)) }))
}

/// Whether nothing but chunks stands between here and the end.
fn all_named(rest: &mut Chunks<'_>, mut next: Option<Chunk>) -> Result<bool> {
    for _ in 0..MOST_CHUNKS {
        match next {
            None => return Ok(true),
            Some(chunk) if is_named(&chunk) && rest.at <= rest.length + 1 => {}
            Some(_) => return Ok(false),
        }
        next = rest.next()?;
    }
    Ok(false)
}

fn is_riff(name: &[u8]) -> bool {
    matches!(name, b"RIFF" | b"RF64" | b"BW64")
}

/// Chunks have names of printable characters; samples seldom look like that.
fn is_named(chunk: &Chunk) -> bool {
    chunk.name.iter().all(|byte| (b' '..=b'~').contains(byte))
}

/// Whether a size stands for one that was not known yet.
fn is_placeholder(size: u64) -> bool {
    let near = |bits: u32| size.abs_diff(1 << bits) <= PLACEHOLDER_WITHIN;
    near(31) || near(32) || size >= 1 << 62
}

impl Wave {
    /// The file as a decoder reads it: its format, and its samples with their true size. Sizes beyond the
    /// field's range are left open, and the end of the stream is the end of the samples.
    pub(super) fn stream(&self, mut file: File) -> Result<impl Read + Send + Sync + use<>> {
        let mut head = Vec::with_capacity(self.format.len() + 28);
        let size = u32::try_from(self.length).unwrap_or(u32::MAX);
        head.extend(b"RIFF\xff\xff\xff\xffWAVEfmt ");
        head.extend((self.format.len() as u32).to_le_bytes());
        head.extend(&self.format);
        head.resize(head.len().next_multiple_of(2), 0);
        head.extend(b"data");
        head.extend(size.to_le_bytes());
        file.seek(SeekFrom::Start(self.start))?;
        Ok(Cursor::new(head).chain(file.take(self.length)))
    }

    /// Whether the size of the samples fits the header that the decoder is given.
    pub(super) fn is_open_ended(&self) -> bool {
        self.length >= u64::from(u32::MAX)
    }
}
