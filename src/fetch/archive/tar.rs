//! tar in gzip: one stream, so every promise of a header is checked while it goes by.
//!
//! Long names (GNU `L` entries, pax `path` records) are read here and not by the library, which would take in as many
//! bytes as a header asks for.

use super::Out;
use crate::fetch::error::FetchError;
use flate2::read::MultiGzDecoder;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read};
use tar::{Archive, Entry, EntryType, PaxExtensions};

/// The longest list of pax records or long name.
const MAX_RECORD: u64 = 64 << 10;

/// Counts what goes through.
struct Counted<'a, R> {
    inner: R,
    count: &'a Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.count.set(self.count.get() + n as u64);
        Ok(n)
    }
}

pub(super) fn unpack(file: File, out: &mut Out) -> Result<(), FetchError> {
    let (taken, unpacked) = (Cell::new(0), Cell::new(0));
    let packed = Counted {
        inner: BufReader::with_capacity(1 << 16, file),
        count: &taken,
    };
    let stream = Counted {
        inner: MultiGzDecoder::new(packed),
        count: &unpacked,
    };
    let mut archive = Archive::new(stream);
    let mut long_name: Option<Vec<u8>> = None;
    let entries = archive.entries().map_err(|e| out.damaged(&e))?.raw(true);
    for entry in entries {
        let mut entry = entry.map_err(|e| out.damaged(&e))?;
        let name = long_name.take();
        let own = name.clone().unwrap_or_else(|| entry.header().path_bytes().into_owned());
        // Between entries too: padding and records count as unpacked bytes of a bomb.
        out.ratio(unpacked.get()).map_err(|found| {
            out.refuse_entry(
                &own,
                &format!("at most {} bytes unpacked for each packed one", out.caps.ratio),
                found,
            )
        })?;
        let size = entry
            .header()
            .entry_size()
            .map_err(|e| out.refuse_entry(&own, "a size in its header", e.to_string()))?;
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous if own.ends_with(b"/") && size == 0 => out.folder(&own)?,
            EntryType::Regular | EntryType::Continuous => out.file(&own, size, &mut entry)?,
            EntryType::Directory => out.folder(&own)?,
            EntryType::GNULongName => {
                let mut n = record(&mut entry, &own, out)?;
                while n.last() == Some(&0) {
                    n.pop();
                }
                long_name = Some(n);
            }
            EntryType::XHeader => {
                let records = record(&mut entry, &own, out)?;
                // A list without a name leaves a GNU long name in force.
                long_name = pax_name(&records, &own, out)?.or(name);
            }
            EntryType::XGlobalHeader => long_name = name,
            other => {
                let what = match other {
                    EntryType::Symlink | EntryType::Link | EntryType::GNULongLink => "a link",
                    EntryType::Char | EntryType::Block => "a device",
                    EntryType::Fifo => "a pipe",
                    EntryType::GNUSparse => "a sparse file",
                    _ => "an entry of unknown kind",
                };
                return Err(out.refuse_entry(&own, "a plain file or folder", what));
            }
        }
        out.tell(taken.get());
    }
    // The rest of the stream holds the checksum of gzip: a cut archive ends here.
    let mut rest = archive.into_inner();
    let mut piece = vec![0; 64 << 10];
    loop {
        match rest.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(_) => out
                .ratio(unpacked.get())
                .map_err(|found| out.refuse("an archive that ends after its entries", found))?,
            Err(e) => return Err(out.damaged(&e)),
        }
    }
}

fn record(entry: &mut Entry<impl Read>, name: &[u8], out: &Out) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    let limit = MAX_RECORD + 1;
    entry
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|e| out.refuse_entry(name, "an undamaged archive", e.to_string()))?;
    if bytes.len() as u64 == limit {
        return Err(out.refuse_entry(name, &format!("at most {MAX_RECORD} bytes of records"), "more"));
    }
    Ok(bytes)
}

fn pax_name(records: &[u8], name: &[u8], out: &Out) -> Result<Option<Vec<u8>>, FetchError> {
    let mut found = None;
    for r in PaxExtensions::new(records) {
        let r = r.map_err(|e| out.refuse_entry(name, "pax records", e.to_string()))?;
        match r.key_bytes() {
            b"path" => found = Some(r.value_bytes().to_vec()),
            // They would change what the header says: no set needs them.
            b"size" | b"linkpath" => {
                let what = format!("a record `{}`", String::from_utf8_lossy(r.key_bytes()));
                return Err(out.refuse_entry(name, "pax records of names and times", what));
            }
            k if k.starts_with(b"GNU.sparse") => {
                return Err(out.refuse_entry(name, "a plain file or folder", "a sparse file"));
            }
            _ => {}
        }
    }
    Ok(found)
}
