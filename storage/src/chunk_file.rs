//! A file of changes: a mark, then puts and removes in chunks.
//!
//! ```text
//! magic, 8 bytes: what the file is for
//! mark:    length u32, crc32 u32, bytes
//! chunk:   length u32 (> 0), crc32 u32, an LZ4 block with its size in front
//!          holding: kind u8 (1 put, 0 remove), key length u32, key, [value length u32, value] …
//! trailer: 0 u32, crc32 u32 of the next 12 bytes, count u64, crc32 u32 of all chunk checksums
//! ```
//!
//! All numbers are little-endian. The trailer tells a whole file from the beginning of one.

use bytes::Bytes;
use std::io::{self, Read, Write};

/// What such a file is for: the first bytes of a snapshot or of changes on their way to disk.
pub(crate) const MAGIC: &[u8; 8] = b"JRCHUNK1";
/// Bytes of changes gathered before a chunk is written.
const CHUNK_BYTES: usize = 256 * 1024;
/// No chunk or mark is longer; a length beyond it is damage. One value may be a large request body.
const CHUNK_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Writes such a file to anything.
pub(crate) struct ChunkWriter<W> {
    to: W,
    buffer: Vec<u8>,
    count: u64,
    all: crc32fast::Hasher,
}

fn length(bytes: &[u8]) -> io::Result<u32> {
    u32::try_from(bytes.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a record is too long"))
}

impl<W: Write> ChunkWriter<W> {
    pub(crate) fn new(to: W, mark: &[u8]) -> io::Result<Self> {
        Self::with_magic(to, MAGIC, mark)
    }

    /// A file that is for something else.
    pub(crate) fn with_magic(mut to: W, magic: &[u8; 8], mark: &[u8]) -> io::Result<Self> {
        to.write_all(magic)?;
        to.write_all(&length(mark)?.to_le_bytes())?;
        to.write_all(&crc32fast::hash(mark).to_le_bytes())?;
        to.write_all(mark)?;
        Ok(Self { to, buffer: Vec::with_capacity(CHUNK_BYTES * 2), count: 0, all: crc32fast::Hasher::new() })
    }

    pub(crate) fn push(&mut self, key: &[u8], value: Option<&[u8]>) -> io::Result<()> {
        self.buffer.push(u8::from(value.is_some()));
        self.buffer.extend_from_slice(&length(key)?.to_le_bytes());
        self.buffer.extend_from_slice(key);
        if let Some(value) = value {
            self.buffer.extend_from_slice(&length(value)?.to_le_bytes());
            self.buffer.extend_from_slice(value);
        }
        self.count += 1;
        if self.buffer.len() >= CHUNK_BYTES { self.write_chunk() } else { Ok(()) }
    }

    fn write_chunk(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let block = lz4_flex::compress_prepend_size(&self.buffer);
        let checksum = crc32fast::hash(&block).to_le_bytes();
        self.all.update(&checksum);
        self.to.write_all(&length(&block)?.to_le_bytes())?;
        self.to.write_all(&checksum)?;
        self.to.write_all(&block)?;
        self.buffer.clear();
        Ok(())
    }

    /// Writes the trailer and gives back what was written to.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.write_chunk()?;
        let mut trailer = self.count.to_le_bytes().to_vec();
        trailer.extend_from_slice(&self.all.finalize().to_le_bytes());
        self.to.write_all(&0u32.to_le_bytes())?;
        self.to.write_all(&crc32fast::hash(&trailer).to_le_bytes())?;
        self.to.write_all(&trailer)?;
        self.to.flush()?;
        Ok(self.to)
    }
}

/// One change.
pub(crate) type Change = (Vec<u8>, Option<Vec<u8>>);

/// Reads such a file, refusing whatever is damaged.
#[derive(Debug)]
pub(crate) struct ChunkReader<R> {
    from: R,
    mark: Bytes,
    count: u64,
    all: crc32fast::Hasher,
}

fn damaged(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}

impl<R: Read> ChunkReader<R> {
    pub(crate) fn new(mut from: R) -> io::Result<Self> {
        let mut magic = [0; 8];
        from.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(damaged("it does not begin as such a file does"));
        }
        Self::behind_magic(from)
    }

    /// A file whose first bytes have been looked at.
    pub(crate) fn behind_magic(mut from: R) -> io::Result<Self> {
        let (length, checksum) = read_header(&mut from)?;
        let mark = read_checked(&mut from, length, checksum)?;
        Ok(Self { from, mark: Bytes::from(mark), count: 0, all: crc32fast::Hasher::new() })
    }

    pub(crate) fn mark(&self) -> &Bytes {
        &self.mark
    }

    /// The next chunk's changes; `None` at the end of a whole file.
    pub(crate) fn next_chunk(&mut self) -> io::Result<Option<Vec<Change>>> {
        Ok(self.next_block()?.map(|(_, changes)| changes))
    }

    /// As [`ChunkReader::next_chunk`], with the chunk as it stands in the file.
    pub(crate) fn next_block(&mut self) -> io::Result<Option<(Vec<u8>, Vec<Change>)>> {
        let (length, checksum) = read_header(&mut self.from)?;
        if length == 0 {
            let trailer = read_checked(&mut self.from, 12, checksum)?;
            let (count, all) = trailer.split_at(8);
            let whole = count == self.count.to_le_bytes() && all == self.all.clone().finalize().to_le_bytes();
            if !whole || self.from.read(&mut [0])? != 0 {
                return Err(damaged("chunks are missing or out of place"));
            }
            return Ok(None);
        }
        let block = read_checked(&mut self.from, length, checksum)?;
        self.all.update(&checksum.to_le_bytes());
        let changes = unpack(&block)?;
        self.count += changes.len() as u64;
        Ok(Some((block, changes)))
    }

    /// A checksum over all chunks read so far.
    pub(crate) fn checksum(&self) -> u32 {
        self.all.clone().finalize()
    }
}

/// The changes of a chunk as it stands in the file.
pub(crate) fn unpack(block: &[u8]) -> io::Result<Vec<Change>> {
    let size = block.first_chunk().copied().map_or(0, u32::from_le_bytes);
    if usize::try_from(size).map_or(true, |size| size > CHUNK_BYTES_MAX) {
        return Err(damaged("a chunk is too long"));
    }
    let plain =
        lz4_flex::decompress_size_prepended(block).map_err(|_| damaged("a chunk cannot be unpacked"))?;
    parse(&plain).ok_or_else(|| damaged("a chunk holds no list of changes"))
}

fn read_header(from: &mut impl Read) -> io::Result<(usize, u32)> {
    let mut header = [0; 8];
    from.read_exact(&mut header)?;
    let [a, b, c, d, e, f, g, h] = header;
    let length =
        usize::try_from(u32::from_le_bytes([a, b, c, d])).map_err(|_| damaged("a length is too large"))?;
    if length > CHUNK_BYTES_MAX {
        return Err(damaged("a length is too large"));
    }
    Ok((length, u32::from_le_bytes([e, f, g, h])))
}

fn read_checked(from: &mut impl Read, length: usize, checksum: u32) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    if crc32fast::hash(&bytes) != checksum {
        return Err(damaged("a checksum does not match"));
    }
    Ok(bytes)
}

fn parse(mut bytes: &[u8]) -> Option<Vec<Change>> {
    let mut changes = Vec::new();
    while let Some((kind, rest)) = bytes.split_first() {
        bytes = rest;
        let key = take(&mut bytes)?;
        let value = match kind {
            1 => Some(take(&mut bytes)?),
            0 => None,
            _ => return None,
        };
        changes.push((key, value));
    }
    Some(changes)
}

fn take(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (taken, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    *bytes = rest;
    Some(taken.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(values: usize) -> Vec<u8> {
        let mut writer = ChunkWriter::new(Vec::new(), b"mark").unwrap();
        for n in 0..values {
            let value = vec![u8::try_from(n % 251).unwrap(); n % 4_000];
            writer.push(&n.to_be_bytes(), (n % 3 != 0).then_some(&value[..])).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<Change>> {
        let mut reader = ChunkReader::new(bytes)?;
        let mut changes = Vec::new();
        while let Some(chunk) = reader.next_chunk()? {
            changes.extend(chunk);
        }
        Ok(changes)
    }

    #[test]
    fn what_was_written_is_read() {
        for values in [0, 1, 2_000] {
            let changes = read(&file(values)).unwrap();
            assert_eq!(changes.len(), values);
            for (n, (key, value)) in changes.iter().enumerate() {
                assert_eq!(key, &n.to_be_bytes());
                assert_eq!(value.as_ref().map(Vec::len), (n % 3 != 0).then_some(n % 4_000));
            }
        }
        assert_eq!(ChunkReader::new(&file(1)[..]).unwrap().mark(), &b"mark"[..]);
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed() {
        let whole = file(300);
        for at in (0..whole.len()).step_by(97) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(read(&flipped).is_err(), "bit flipped at {at}");
            assert!(read(&whole[..at]).is_err(), "cut at {at}");
        }
        assert!(read(&[&whole[..], b"x"].concat()).is_err(), "something behind the end");
    }
}
