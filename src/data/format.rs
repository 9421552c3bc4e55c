//! What a file is by its first bytes, and what to do about one that is no image or none that is read.

use std::fmt;

/// Bytes that [`Format::of`] wants to see: a DICOM file is known by its bytes 128 to 131.
pub const HEAD: usize = 512;

/// The kinds of file that stand where an image should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    Jpeg,
    Png,
    Empty,
    WebP,
    Tiff,
    Gif,
    Bmp,
    Heic,
    Avif,
    Jpeg2000,
    JpegXl,
    Dicom,
    Nifti,
    LfsPointer,
    AnnexPointer,
    HtmlPage,
    Gzip,
    Zip,
    Pdf,
    /// `._x`, what macOS keeps beside a file `x` on foreign disks.
    AppleDouble,
    Zeros,
    Text,
    Unknown,
}

/// What a user does about a file that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cure {
    GetAgain,
    Convert,
    PullLfs,
    GetAnnex,
    SignIn,
    Unpack,
    Delete,
    Shrink,
}

impl Cure {
    /// An imperative sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::GetAgain => "Get this file again from its source, then run `medft data verify`.",
            Self::Convert => {
                "The file is whole, but of a kind that medft does not read: convert it to PNG (lossless) under the listed \
                 name, then run `medft data lock` again."
            }
            Self::PullLfs => {
                "Git LFS has not brought the file itself: run `git lfs pull` in the repository it came from, copy it here, \
                 then run `medft data verify`."
            }
            Self::GetAnnex => {
                "git-annex has not brought the file itself: run `git annex get` (or `datalad get`) in the repository it came \
                 from, then run `medft data verify`."
            }
            Self::SignIn => {
                "A page for people was saved in place of the file: sign in or accept the terms at its source, download it \
                 again, then run `medft data verify`."
            }
            Self::Unpack => "Unpack it in this place, then run `medft data lock` again.",
            Self::Delete => {
                "It is what macOS keeps beside a file: delete it, and bring the file itself if it is not there."
            }
            Self::Shrink => "Scale it down to fewer pixels and save it as PNG, then run `medft data lock` again.",
        }
    }
}

impl Format {
    /// The format of a file that begins with `head`, its first [`HEAD`] bytes or all of it.
    pub fn of(head: &[u8]) -> Self {
        let at = |from: usize, what: &[u8]| head.get(from..).is_some_and(|b| b.starts_with(what));
        let brand = |names: &[&[u8]]| at(4, b"ftyp") && names.iter().any(|n| at(8, n));
        let text = head.trim_ascii_start();
        let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
        let says = |start: &[u8]| text.get(..start.len()).is_some_and(|t| t.eq_ignore_ascii_case(start));
        match head {
            [] => Self::Empty,
            [0xFF, 0xD8, ..] => Self::Jpeg,
            [0x89, b'P', b'N', b'G', ..] => Self::Png,
            [b'R', b'I', b'F', b'F', ..] if at(8, b"WEBP") => Self::WebP,
            // Before TIFF: the 128 bytes ahead are free, and scanners write the head of a TIFF file there, so that both kinds of reader open it.
            _ if at(128, b"DICM") => Self::Dicom,
            [b'I', b'I', b'*' | b'+', 0, ..] | [b'M', b'M', 0, b'*' | b'+', ..] => Self::Tiff,
            [b'G', b'I', b'F', b'8', ..] => Self::Gif,
            _ if brand(&[b"avif", b"avis"]) => Self::Avif,
            _ if brand(&[b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"]) => Self::Heic,
            _ if at(4, b"jP  \r\n\x87\n") || at(0, b"\xFF\x4F\xFF\x51") => Self::Jpeg2000,
            _ if at(4, b"JXL \r\n\x87\n") || at(0, b"\xFF\x0A") => Self::JpegXl,
            _ if at(344, b"n+1\0") || at(344, b"ni1\0") => Self::Nifti,
            [0, 5, 0x16, 7 | 0, ..] => Self::AppleDouble,
            [0x1F, 0x8B, ..] => Self::Gzip,
            [b'P', b'K', 3 | 5, 4 | 6, ..] => Self::Zip,
            [b'%', b'P', b'D', b'F', ..] => Self::Pdf,
            [b'B', b'M', ..] if at(6, &[0; 4]) => Self::Bmp,
            _ if at(0, b"version https://git-lfs") => Self::LfsPointer,
            _ if at(0, b"/annex/objects/") || at(0, b"../.git/annex/") => Self::AnnexPointer,
            _ if says(b"<!doctype html") || says(b"<html") || says(b"<head") || says(b"<?xml") => Self::HtmlPage,
            _ if head.iter().all(|&b| b == 0) => Self::Zeros,
            _ if head
                .iter()
                .all(|b| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..=0x7E | 0x80..)) =>
            {
                Self::Text
            }
            _ => Self::Unknown,
        }
    }

    /// Whether files of this kind are decoded.
    pub fn is_read(self) -> bool {
        matches!(self, Self::Jpeg | Self::Png | Self::Tiff) || (cfg!(feature = "dicom") && self == Self::Dicom)
    }

    /// In words, as what was found in place of an image.
    pub fn as_found(self) -> String {
        match self.cure() {
            Cure::Convert if self == Self::Dicom => {
                format!("{self}, which this build of medft does not read (cargo build --features dicom)")
            }
            Cure::Convert => format!("{self}, which medft does not read"),
            _ => self.to_string(),
        }
    }

    /// What to do about such a file.
    pub fn cure(self) -> Cure {
        match self {
            Self::WebP
            | Self::Gif
            | Self::Bmp
            | Self::Heic
            | Self::Avif
            | Self::Jpeg2000
            | Self::JpegXl
            | Self::Dicom
            | Self::Nifti
            | Self::Pdf => Cure::Convert,
            Self::LfsPointer => Cure::PullLfs,
            Self::AnnexPointer => Cure::GetAnnex,
            Self::HtmlPage => Cure::SignIn,
            Self::Gzip | Self::Zip => Cure::Unpack,
            Self::AppleDouble => Cure::Delete,
            Self::Jpeg | Self::Png | Self::Tiff | Self::Empty | Self::Zeros | Self::Text | Self::Unknown => {
                Cure::GetAgain
            }
        }
    }
}

/// With its article, as what was found.
impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "a JPEG image",
            Self::Png => "a PNG image",
            Self::Empty => "an empty file",
            Self::WebP => "a WebP image",
            Self::Tiff => "a TIFF image",
            Self::Gif => "a GIF image",
            Self::Bmp => "a BMP image",
            Self::Heic => "a HEIC image",
            Self::Avif => "an AVIF image",
            Self::Jpeg2000 => "a JPEG 2000 image",
            Self::JpegXl => "a JPEG XL image",
            Self::Dicom => "a DICOM file",
            Self::Nifti => "a NIfTI file",
            Self::LfsPointer => "a Git LFS pointer",
            Self::AnnexPointer => "a git-annex pointer",
            Self::HtmlPage => "a web page (HTML)",
            Self::Gzip => "a gzip archive",
            Self::Zip => "a zip archive",
            Self::Pdf => "a PDF document",
            Self::AppleDouble => "an AppleDouble file, which macOS keeps beside another",
            Self::Zeros => "a file of zeros",
            Self::Text => "a text file",
            Self::Unknown => "a file of an unknown kind",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signatures as the formats' specifications and Debian's `file` (magic 5.46) give them.
    #[test]
    fn formats_are_known_by_their_first_bytes() {
        let dicom = [&[0; 128][..], b"DICM\x02\0"].concat();
        let nifti = [&[0x5C, 1, 0, 0][..], &[0; 340], b"n+1\0"].concat();
        for (bytes, format, cure) in [
            (&b""[..], Format::Empty, Cure::GetAgain),
            (b"RIFF\x24\0\0\0WEBPVP8 ", Format::WebP, Cure::Convert),
            (b"GIF87a", Format::Gif, Cure::Convert),
            (b"GIF89a", Format::Gif, Cure::Convert),
            (b"BM\x36\0\0\0\0\0\0\0\x36\0", Format::Bmp, Cure::Convert),
            (b"\0\0\0\x18ftypheic", Format::Heic, Cure::Convert),
            (b"\0\0\0\x1cftypavif", Format::Avif, Cure::Convert),
            (b"\0\0\0\x0cjP  \r\n\x87\n", Format::Jpeg2000, Cure::Convert),
            (b"\xFF\x0A\x00", Format::JpegXl, Cure::Convert),
            (&dicom, Format::Dicom, Cure::Convert),
            (&nifti, Format::Nifti, Cure::Convert),
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:",
                Format::LfsPointer,
                Cure::PullLfs,
            ),
            (
                b"/annex/objects/SHA256E-s3--x.jpg\n",
                Format::AnnexPointer,
                Cure::GetAnnex,
            ),
            (b"\n <!DOCTYPE html><html>", Format::HtmlPage, Cure::SignIn),
            (b"<HTML>", Format::HtmlPage, Cure::SignIn),
            (b"\x1f\x8b\x08\0", Format::Gzip, Cure::Unpack),
            (b"PK\x03\x04", Format::Zip, Cure::Unpack),
            (b"\0\x05\x16\x07\0\x02\0\0Mac OS X", Format::AppleDouble, Cure::Delete),
            (b"\0\0\0\0", Format::Zeros, Cure::GetAgain),
            (b"{\"error\": 403}", Format::Text, Cure::GetAgain),
            (b"\x01\x02\x03", Format::Unknown, Cure::GetAgain),
        ] {
            assert_eq!(
                (Format::of(bytes), Format::of(bytes).cure()),
                (format, cure),
                "{bytes:?}"
            );
            assert_eq!(format.is_read(), format == Format::Dicom && cfg!(feature = "dicom"));
        }
        for tiff in [&b"II*\0\x08\0\0\0"[..], b"MM\0*\0\0\0\x08", b"II+\0\x08\0\0\0"] {
            assert!(Format::of(tiff) == Format::Tiff && Format::Tiff.is_read());
        }
        let both = [&b"II*\0"[..], &[0; 124], b"DICM\x02\0"].concat();
        assert_eq!(Format::of(&both), Format::Dicom);
        assert!(Format::of(b"\xFF\xD8\xFF\xE0").is_read() && Format::of(b"\x89PNG\r\n").is_read());
    }
}
