//! Random samples of a message, written by walking its schema.
//!
//! Takes: a message, a version and a seed. Gives: valid bytes, the way Kafka writes them, and the places of all counts.
//! This is a second writer beside the generated one and shares none of its code, so that a sample which survives
//! reading and writing says something about both.

use crate::schema::{Default, Field, Fixed, Message, Type};

/// A valid message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The message.
    pub bytes: Vec<u8>,
    /// Where the counts of arrays and of tagged fields and the lengths of strings, bytes, records and tagged fields stand.
    pub counts: Vec<Count>,
}

/// A count or a length in a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Where it starts.
    pub offset: usize,
    /// How many bytes it takes.
    pub width: usize,
    /// True for an unsigned varint (of the count plus one, but for those of tagged fields).
    pub compact: bool,
}

/// A random sample of `message` in `version`; the same seed gives the same sample.
#[must_use]
pub fn sample(message: &Message, version: i16, seed: u64) -> Sample {
    write(message, version, seed, false)
}

/// The same message as [`sample`] with the same seed, but with tagged fields that no version knows.
#[must_use]
pub fn sample_with_unknown_tags(message: &Message, version: i16, seed: u64) -> Sample {
    write(message, version, seed, true)
}

fn write(message: &Message, version: i16, seed: u64, unknown_tags: bool) -> Sample {
    let flexible = message.flexible.contains(version);
    let random = Random(seed ^ 0x9e37_79b9_7f4a_7c15);
    let mut sampler = Sampler {
        message,
        version,
        flexible,
        unknown_tags,
        random,
        out: Vec::new(),
        counts: Vec::new(),
    };
    sampler.structure(&message.name, 0, false);
    Sample {
        bytes: sampler.out,
        counts: sampler.counts,
    }
}

/// SplitMix64: small, and the same on every machine.
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> usize {
        (self.next() % bound) as usize
    }

    /// Mostly short, sometimes long enough for a length of two bytes.
    fn length(&mut self) -> usize {
        if self.below(16) == 0 {
            self.below(300)
        } else {
            self.below(12)
        }
    }
}

#[derive(Debug, Clone)]
struct Sampler<'m> {
    message: &'m Message,
    version: i16,
    flexible: bool,
    unknown_tags: bool,
    random: Random,
    out: Vec<u8>,
    counts: Vec<Count>,
}

impl Sampler<'_> {
    /// A struct with random values, or with its defaults only.
    fn structure(&mut self, name: &str, depth: usize, defaults: bool) {
        let message = self.message;
        let fields = message
            .get(name)
            .fields
            .iter()
            .filter(|field| field.versions.contains(self.version));
        let (tagged, plain): (Vec<_>, Vec<_>) = fields.partition(|field| field.tag.is_some());
        for field in plain {
            if defaults {
                self.default(field);
            } else {
                self.value(field, depth);
            }
        }
        if self.flexible {
            self.tags(tagged, depth, defaults);
        }
    }

    fn tags(&mut self, mut tagged: Vec<&Field>, depth: usize, defaults: bool) {
        tagged.sort_by_key(|field| field.tag.map(|(tag, _)| tag));
        let mut values = Vec::new();
        for field in tagged {
            if defaults || self.random.below(2) == 0 {
                continue;
            }
            let (default, _) = self.apart(|sampler| sampler.default(field));
            let (value, counts) = self.apart(|sampler| sampler.value(field, depth));
            // A default is never written as a tagged field.
            if value != default {
                values.push((field.tag.map_or(0, |(tag, _)| tag), value, counts));
            }
        }
        if self.unknown_tags {
            values.push((200, vec![0xff; depth], vec![]));
            values.push((70_000, vec![1, 2, 3], vec![]));
        }
        self.counted(values.len());
        for (tag, value, counts) in values {
            self.unsigned_varint(tag as usize);
            self.counted(value.len());
            let at = self.out.len();
            self.out.extend_from_slice(&value);
            self.counts.extend(counts.into_iter().map(|count| Count {
                offset: count.offset + at,
                ..count
            }));
        }
    }

    /// A count that is written as it is.
    fn counted(&mut self, count: usize) {
        let offset = self.out.len();
        self.unsigned_varint(count);
        self.counts.push(Count {
            offset,
            width: self.out.len() - offset,
            compact: true,
        });
    }

    /// What `write` writes, in a buffer of its own, and the counts in it by their place there.
    fn apart(&mut self, write: impl FnOnce(&mut Self)) -> (Vec<u8>, Vec<Count>) {
        let mut inner = Sampler {
            out: Vec::new(),
            counts: Vec::new(),
            ..self.clone()
        };
        write(&mut inner);
        self.random = inner.random;
        (inner.out, inner.counts)
    }

    fn value(&mut self, field: &Field, depth: usize) {
        if field.nullable.contains(self.version) && self.random.below(4) == 0 {
            self.null(field);
            return;
        }
        match &field.of {
            Type::Struct(name) => {
                if !field.nullable.is_empty() {
                    self.out.push(1);
                }
                self.structure(name, depth + 1, false);
            }
            Type::Array(element) => {
                let count = self.random.below(if depth > 1 { 3 } else { 4 });
                self.count(count, 4, self.flexible);
                for _ in 0..count {
                    match &**element {
                        Type::Struct(name) => self.structure(name, depth + 1, false),
                        other => self.plain(other, self.flexible),
                    }
                }
            }
            other => self.plain(other, self.flexible && field.follows_flexible),
        }
    }

    fn plain(&mut self, of: &Type, flexible: bool) {
        match of {
            Type::Fixed(Fixed::Bool) => {
                let value = self.random.below(2) as u8;
                self.out.push(value);
            }
            Type::Fixed(Fixed::Float64) => {
                let value = self.random.next() as i64 as f64 / 7.0;
                self.out.extend(value.to_be_bytes());
            }
            Type::Fixed(fixed) => {
                for _ in 0..width(*fixed) {
                    let byte = self.random.next() as u8;
                    self.out.push(byte);
                }
            }
            Type::Str => {
                let letters = ['a', 'Z', '-', '\u{e9}', '\u{65e5}', '\u{1f9a6}'];
                let length = self.random.length();
                let text: String = (0..length).map(|_| letters[self.random.below(6)]).collect();
                self.count(text.len(), 2, flexible);
                self.out.extend(text.as_bytes());
            }
            _ => {
                let length = self.random.length();
                self.count(length, 4, flexible);
                for _ in 0..length {
                    let byte = self.random.next() as u8;
                    self.out.push(byte);
                }
            }
        }
    }

    fn null(&mut self, field: &Field) {
        match &field.of {
            Type::Struct(_) if field.tag.is_some() => self.out.push(0),
            Type::Struct(_) => self.out.push(0xff),
            _ if self.flexible && field.follows_flexible => self.out.push(0),
            Type::Str => self.out.extend([0xff; 2]),
            _ => self.out.extend([0xff; 4]),
        }
    }

    fn default(&mut self, field: &Field) {
        let flexible = self.flexible && field.follows_flexible;
        match (&field.default, &field.of) {
            (Default::Null, _) => self.null(field),
            (Default::True, _) => self.out.push(1),
            (Default::Number(number), Type::Fixed(fixed)) => {
                let number: i128 = number.parse().unwrap_or_default();
                let bytes = number.to_be_bytes();
                self.out.extend(&bytes[16 - width(*fixed)..]);
            }
            (Default::Text(text), _) => {
                self.count(text.len(), 2, flexible);
                self.out.extend(text.as_bytes());
            }
            (_, Type::Fixed(fixed)) => self.out.extend(vec![0; width(*fixed)]),
            (_, Type::Str) => self.count(0, 2, flexible),
            (_, Type::Struct(name)) => {
                if !field.nullable.is_empty() {
                    self.out.push(1);
                }
                self.structure(name, 0, true);
            }
            (_, Type::Bytes | Type::Records | Type::Array(_)) => self.count(0, 4, flexible),
        }
    }

    fn count(&mut self, count: usize, width: usize, compact: bool) {
        let offset = self.out.len();
        if compact {
            self.unsigned_varint(count + 1);
        } else {
            let bytes = (count as u32).to_be_bytes();
            self.out.extend(&bytes[4 - width..]);
        }
        self.counts.push(Count {
            offset,
            width: self.out.len() - offset,
            compact,
        });
    }

    fn unsigned_varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }
}

fn width(of: Fixed) -> usize {
    match of {
        Fixed::Bool | Fixed::Int8 => 1,
        Fixed::Int16 | Fixed::Uint16 => 2,
        Fixed::Int32 | Fixed::Uint32 => 4,
        Fixed::Int64 | Fixed::Float64 => 8,
        Fixed::Uuid => 16,
    }
}
