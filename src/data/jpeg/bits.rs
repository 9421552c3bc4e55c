//! Bits out of entropy-coded data, and the Huffman codes in them.

use super::markers::Reader;
use crate::data::fault::Fault;

/// Codes of up to this many bits are found with one look.
const LOOK: u32 = 9;
/// Codes that together with the value that follows them have up to this many bits give the value with one look.
const LOOK_VALUE: u32 = 10;

/// Reads bits from a scan, from the most significant; stops at the next marker and gives zeros from there on.
///
/// `Copy`, so that a loop can work on its own copy in registers.
#[derive(Clone, Copy)]
pub struct Bits<'a> {
    bytes: &'a [u8],
    pos: usize,
    /// The next bits, left-aligned.
    next: u64,
    /// How many of them are there, counting `zeros`.
    count: u32,
    /// How many of those are not from the file.
    zeros: u32,
    /// Whether whole bytes before a marker were not used.
    extra: bool,
}

impl<'a> Bits<'a> {
    pub fn new(bytes: &'a [u8], pos: usize) -> Self {
        Self {
            bytes,
            pos,
            next: 0,
            count: 0,
            zeros: 0,
            extra: false,
        }
    }

    /// Makes sure of 32 bits: a code and its value.
    #[inline(always)]
    pub fn fill(&mut self) {
        if self.count < 32 {
            self.refill();
        }
    }

    #[inline(always)]
    fn refill(&mut self) {
        if let Some(word) = self.bytes.get(self.pos..).and_then(|b| b.first_chunk::<8>()) {
            let word = u64::from_be_bytes(*word);
            // A zero byte in the complement is a 0xFF in the word.
            let c = !word;
            if c.wrapping_sub(0x0101_0101_0101_0101) & !c & 0x8080_8080_8080_8080 == 0 {
                // The bits beyond the last whole byte are those that the next refill puts there again.
                self.next |= word >> self.count;
                let bytes = (64 - self.count) / 8;
                self.pos += bytes as usize;
                self.count += bytes * 8;
                return;
            }
        }
        self.refill_slowly();
    }

    #[cold]
    fn refill_slowly(&mut self) {
        while self.count <= 56 {
            let byte = match self.byte() {
                Some(b) => b,
                None => {
                    self.zeros += 8;
                    0
                }
            };
            self.next |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// The next byte with the stuffing undone; `None` at a marker and at the end of the file.
    fn byte(&mut self) -> Option<u8> {
        let b = *self.bytes.get(self.pos)?;
        if b != 0xFF {
            self.pos += 1;
            return Some(b);
        }
        let fill = self.bytes[self.pos..].iter().take_while(|&&b| b == 0xFF).count();
        if *self.bytes.get(self.pos + fill)? != 0 {
            return None;
        }
        self.pos += fill + 1;
        Some(0xFF)
    }

    #[inline(always)]
    fn peek(&self, n: u32) -> usize {
        (self.next >> (64 - n)) as usize
    }

    #[inline(always)]
    fn skip(&mut self, n: u32) {
        self.next <<= n;
        self.count -= n;
    }

    /// `n` bits, 1 to 16, as a number; [`Bits::fill`] must have been called.
    #[inline(always)]
    pub fn take(&mut self, n: u32) -> i32 {
        let v = self.peek(n) as i32;
        self.skip(n);
        v
    }

    /// One bit, at any time.
    #[inline(always)]
    pub fn bit(&mut self) -> bool {
        self.fill();
        self.take(1) != 0
    }

    /// A value of category `n` (the standard's RECEIVE and EXTEND), `n` up to 15.
    #[inline(always)]
    pub fn value(&mut self, n: u32) -> i32 {
        if n == 0 {
            return 0;
        }
        let v = self.take(n);
        if v < 1 << (n - 1) { v - (1 << n) + 1 } else { v }
    }

    /// The next symbol; [`Bits::fill`] must have been called.
    #[inline(always)]
    pub fn symbol(&mut self, table: &Huffman) -> Result<u8, Fault> {
        let found = table.look[self.peek(LOOK)];
        if found.0 != 0 {
            self.skip(u32::from(found.0));
            return Ok(found.1);
        }
        self.long_symbol(table)
    }

    #[cold]
    fn long_symbol(&mut self, table: &Huffman) -> Result<u8, Fault> {
        let code = self.peek(16) as i32;
        for n in LOOK + 1..=16 {
            let (end, offset) = table.long[n as usize];
            if code < end {
                self.skip(n);
                let symbol = table.symbols.get((offset + (code >> (16 - n))) as usize);
                return symbol.copied().ok_or(Fault::Corrupt("a code that is in no table"));
            }
        }
        Err(Fault::Corrupt("a code that is in no table"))
    }

    /// An AC run and value together, if they are short: (zeros before it, value).
    #[inline(always)]
    pub fn short_value(&mut self, table: &Huffman) -> Option<(usize, i16)> {
        let found = table.values[self.peek(LOOK_VALUE)];
        let bits = found & 15;
        if bits == 0 {
            return None;
        }
        self.skip(bits as u32);
        Some((usize::from(found as u16 >> 4 & 15), found >> 8))
    }

    /// An error when more bits were taken than the file has before the next marker.
    pub fn check(&self) -> Result<(), Fault> {
        if self.count < self.zeros {
            Err(Fault::Truncated)
        } else {
            Ok(())
        }
    }

    /// Whether a whole byte of the file is still there to be read.
    fn left_over(&self) -> bool {
        self.count.saturating_sub(self.zeros) >= 8
    }

    /// Throws the rest of the byte away and goes behind restart marker `number` (0 to 7).
    pub fn restart(&mut self, number: usize) -> Result<(), Fault> {
        self.check()?;
        let mut at = Reader {
            bytes: self.bytes,
            pos: self.pos,
            skipped: self.extra || self.left_over(),
        };
        if usize::from(at.marker()?) != 0xD0 + number {
            return Err(Fault::Corrupt("a restart marker is missing"));
        }
        *self = Self {
            extra: at.skipped,
            ..Self::new(self.bytes, at.pos)
        };
        Ok(())
    }

    /// Where the marker after the scan is to be looked for, and whether bytes of the scan were not used.
    pub fn end(&self) -> Result<(usize, bool), Fault> {
        self.check()?;
        Ok((self.pos, self.extra || self.left_over()))
    }
}

/// A Huffman table, ready for decoding.
#[derive(Clone)]
pub struct Huffman {
    symbols: Vec<u8>,
    /// By the next [`LOOK`] bits: (length of the code, symbol); length 0 where the code is longer.
    look: Box<[(u8, u8); 1 << LOOK]>,
    /// By length: the left-aligned 16-bit code that is too large, and the offset from code to index.
    long: [(i32, i32); 17],
    /// By the next [`LOOK_VALUE`] bits: value << 8 | run << 4 | bits of code and value; 0 where that is not possible.
    values: Box<[i16; 1 << LOOK_VALUE]>,
}

impl Huffman {
    /// From the numbers of codes of 1 to 16 bits and the symbols in the order of the codes; `None` when they form no code.
    pub fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut look = Box::new([(0, 0); 1 << LOOK]);
        let mut long = [(0, 0); 17];
        let (mut code, mut index) = (0usize, 0usize);
        for (bits, &count) in (1u32..).zip(counts) {
            let count = usize::from(count);
            if code + count > 1 << bits {
                return None;
            }
            let mine = symbols.get(index..index + count)?;
            if bits <= LOOK {
                let span = 1 << (LOOK - bits);
                for (i, &symbol) in mine.iter().enumerate() {
                    look[(code + i) * span..][..span].fill((bits as u8, symbol));
                }
            }
            long[bits as usize].1 = index as i32 - code as i32;
            code += count;
            index += count;
            long[bits as usize].0 = (code << (16 - bits)) as i32;
            code <<= 1;
        }
        let mut values = Box::new([0; 1 << LOOK_VALUE]);
        for (next, slot) in values.iter_mut().enumerate() {
            let (length, symbol) = look[next >> (LOOK_VALUE - LOOK)];
            let (run, size) = (symbol >> 4, u32::from(symbol & 15));
            let bits = u32::from(length) + size;
            if length == 0 || size == 0 || bits > LOOK_VALUE {
                continue;
            }
            let raw = (next >> (LOOK_VALUE - bits)) as i32 & ((1 << size) - 1);
            let value = if raw < 1 << (size - 1) {
                raw - (1 << size) + 1
            } else {
                raw
            };
            if let Ok(value) = i8::try_from(value) {
                *slot = i16::from(value) << 8 | i16::from(run) << 4 | bits as i16;
            }
        }
        Some(Self {
            symbols: symbols.to_vec(),
            look,
            long,
            values,
        })
    }
}
