//! Zip: the central directory decides; what the entries themselves say must not go beyond it.

use super::Out;
use crate::fetch::error::FetchError;
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

/// The bits of a Unix mode that tell what an entry is, and those of a plain file and a folder.
const KIND: u32 = 0o170_000;
const PLAIN: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;

pub(super) fn unpack(file: File, out: &mut Out) -> Result<(), FetchError> {
    let mut directory = BufReader::with_capacity(1 << 16, file.try_clone().map_err(|e| out.damaged(&e))?);
    let mut archive = crate::zipfile::open(BufReader::with_capacity(1 << 16, file)).map_err(|e| out.damaged(&e))?;
    if archive.len() as u64 > out.caps.entries {
        return Err(out.refuse(
            &format!("at most {} entries", out.caps.entries),
            format!("{}", archive.len()),
        ));
    }
    if archive.has_duplicate_names() {
        // The reader keeps one of the two: the name is found in the directory itself.
        let name = first_twice(&mut directory, archive.central_directory_start()).unwrap_or_default();
        return Err(out.refuse_entry(
            &name,
            "a name of a new file below the folder",
            "a name that occurred before",
        ));
    }
    if archive.has_overlapping_files().map_err(|e| out.damaged(&e))? {
        return Err(out.refuse(
            "entries beside each other",
            "entries that share bytes, as of an archive made to fill the disk",
        ));
    }
    let sizes = (0..archive.len()).map(|i| archive.by_index_raw(i).map(|f| f.size()));
    let total = sizes.collect::<Result<Vec<_>, _>>();
    let mut archive_total = 0u64;
    for size in total.map_err(|e| out.damaged(&e))? {
        archive_total = archive_total.saturating_add(size);
    }
    out.within(b"(all)", archive_total)?;
    out.room(archive_total)?;
    let mut taken = 0;
    for i in 0..archive.len() {
        let (name, size, packed, folder) = {
            let f = archive.by_index_raw(i).map_err(|e| out.damaged(&e))?;
            let name = f.name_raw().to_vec();
            if f.encrypted() {
                return Err(out.refuse_entry(&name, "a plain file or folder", "an encrypted entry"));
            }
            let kind = f.unix_mode().map_or(0, |m| m & KIND);
            let folder = name.ends_with(b"/");
            let plain = kind == 0 || kind == if folder { FOLDER } else { PLAIN };
            if !plain || f.is_symlink() {
                let what = if f.is_symlink() {
                    "a link"
                } else {
                    "neither, by its mode"
                };
                return Err(out.refuse_entry(&name, "a plain file or folder", what));
            }
            (name, f.size(), f.compressed_size(), folder)
        };
        if folder && size == 0 {
            out.folder(&name)?;
        } else {
            let mut f = archive
                .by_index(i)
                .map_err(|e| out.refuse_entry(&name, "an undamaged archive", e.to_string()))?;
            out.file(&name, size, &mut f)?;
        }
        taken += packed;
        out.tell(taken);
    }
    Ok(())
}

/// The first name that the central directory has twice.
fn first_twice(file: &mut (impl Read + Seek), start: u64) -> Option<Vec<u8>> {
    file.seek(SeekFrom::Start(start)).ok()?;
    let mut seen = HashSet::new();
    loop {
        let mut head = [0; 46];
        file.read_exact(&mut head).ok()?;
        if &head[..4] != b"PK\x01\x02" {
            return None;
        }
        let length = |at: usize| u64::from(u16::from_le_bytes([head[at], head[at + 1]]));
        let mut name = vec![0; length(28) as usize];
        file.read_exact(&mut name).ok()?;
        let rest = length(30) + length(32);
        std::io::copy(&mut file.take(rest), &mut std::io::sink()).ok()?;
        if !seen.insert(name.clone()) {
            return Some(name);
        }
    }
}
