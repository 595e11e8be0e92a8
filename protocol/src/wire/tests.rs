//! Tests of the primitives: what is written is read, and what is not true is refused.

use super::*;
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

const PLACE: Place = Place::new("M", "inner.");

type Read<T> = fn(&mut Reader<'_>) -> Result<T, WireError>;

/// Written bytes are read back, completely, and no shorter prefix of them is.
fn comes_back<T: PartialEq + std::fmt::Debug>(value: T, write: impl Fn(&mut Writer), read: Read<T>) {
    let mut w = Writer::new();
    write(&mut w);
    let bytes = w.into_vec().unwrap();
    let mut reader = Reader::new(&bytes);
    assert_eq!(read(&mut reader), Ok(value));
    assert_eq!(reader.position(), bytes.len());
    assert_eq!(reader.finish(), Ok(()));
    for end in 0..bytes.len() {
        assert!(
            read(&mut Reader::new(&bytes[..end])).is_err(),
            "{end} of {} bytes",
            bytes.len()
        );
    }
}

proptest! {
    #[test]
    fn every_fixed_width_value_comes_back(bits: u64, float: f64) {
        comes_back(bits as i8, |w| { w.i8(bits as i8); }, |r| r.i8());
        comes_back(bits as u8, |w| { w.u8(bits as u8); }, |r| r.u8());
        comes_back(bits as i16, |w| { w.i16(bits as i16); }, |r| r.i16());
        comes_back(bits as u16, |w| { w.u16(bits as u16); }, |r| r.u16());
        comes_back(bits as i32, |w| { w.i32(bits as i32); }, |r| r.i32());
        comes_back(bits as u32, |w| { w.u32(bits as u32); }, |r| r.u32());
        comes_back(bits as i64, |w| { w.i64(bits as i64); }, |r| r.i64());
        comes_back(bits & 1 == 1, |w| { w.bool(bits & 1 == 1); }, |r| r.bool());
        comes_back(float, |w| { w.f64(float); }, |r| r.f64());
        let uuid = Uuid::from_u128(u128::from(bits) << 40);
        comes_back(uuid, |w| { w.uuid(uuid); }, |r| r.uuid());
    }

    #[test]
    fn every_varint_comes_back(value: u64, shift in 0..64) {
        let value = value >> shift;
        comes_back(value as u32, |w| { w.unsigned_varint(value as u32); }, |r| r.unsigned_varint());
        comes_back(value as i32, |w| { w.varint(value as i32); }, |r| r.varint());
        comes_back(value as i64, |w| { w.varlong(value as i64); }, |r| r.varlong());
        comes_back(-(value as i64 >> 1), |w| { w.varlong(-(value as i64 >> 1)); }, |r| r.varlong());
    }

    #[test]
    fn every_string_and_every_bytes_come_back(text in proptest::option::of(".{0,200}"), flexible: bool) {
        let mut w = Writer::new();
        w.opt_str(text.as_deref(), flexible).opt_bytes(text.as_deref().map(str::as_bytes), flexible);
        let bytes = w.into_vec().unwrap();
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(reader.opt_str(flexible), Ok(text.as_deref()));
        prop_assert_eq!(reader.opt_bytes(flexible), Ok(text.as_deref().map(str::as_bytes)));
        prop_assert_eq!(reader.finish(), Ok(()));
        for end in 0..bytes.len() {
            let mut reader = Reader::new(&bytes[..end]);
            prop_assert!(reader.opt_str(flexible).and_then(|_| reader.opt_bytes(flexible)).is_err());
        }
    }

    #[test]
    fn every_array_comes_back(values in proptest::option::of(vec(any::<i32>(), 0..200)), flexible: bool) {
        let mut w = Writer::new();
        w.opt_array(values.as_deref(), flexible, |w, value| { w.i32(*value); });
        let bytes = w.into_vec().unwrap();
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(reader.opt_array(flexible, 4, Reader::i32).unwrap(), values);
        prop_assert_eq!(reader.finish(), Ok(()));
        for end in 0..bytes.len() {
            prop_assert!(Reader::new(&bytes[..end]).opt_array(flexible, 4, Reader::i32).is_err());
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes: Vec<u8>, flexible: bool) {
        let r = || Reader::new(&bytes);
        let _ = (r().unsigned_varint(), r().varint(), r().varlong(), r().uuid(), r().f64());
        let _ = (r().str(flexible), r().bytes(flexible), r().records(flexible), r().skip_tags());
        let _ = r().array(flexible, 1, |r| r.array(flexible, 2, |r| r.str(flexible)));
        let _ = r().opt_struct(Reader::i64);
        let _ = r().opt_tagged_struct(Reader::i64);
    }

    #[test]
    fn spliced_and_copied_records_are_the_same_on_the_wire(
        lengths in vec(0..3 * SPLICE_THRESHOLD_BYTES, 0..5), flexible: bool, before: Vec<u8>,
    ) {
        let pieces: Vec<Bytes> = lengths.iter().map(|length| Bytes::from(vec![*length as u8; *length])).collect();
        let whole = pieces.concat();
        let forms = [
            Records::Chain(pieces.clone()),
            Records::Bytes(Bytes::from(whole.clone())),
            Records::Slice(&whole),
        ];
        let written = forms.map(|form| {
            let mut w = Writer::new();
            w.raw(&before).records(&form, flexible).i16(7);
            let length = w.len();
            let pieces = w.into_pieces().unwrap();
            assert_eq!(pieces.len(), length);
            pieces.into_vec()
        });
        prop_assert_eq!(&written[0], &written[1]);
        prop_assert_eq!(&written[0], &written[2]);
        let mut reader = Reader::new(&written[0]);
        prop_assert_eq!(reader.take(before.len()).unwrap(), &before[..]);
        prop_assert_eq!(reader.records(flexible).unwrap(), Records::Slice(&whole));
        prop_assert_eq!(reader.i16(), Ok(7));
    }

    #[test]
    fn every_uuid_is_read_as_it_is_printed(bytes: [u8; 16]) {
        let uuid = Uuid(bytes);
        prop_assert_eq!(uuid.to_string().parse(), Ok(uuid));
        let random = Uuid::from_random_bytes(bytes);
        prop_assert_eq!((random.0[6] >> 4, random.0[8] >> 6), (4, 2));
    }

    #[test]
    fn a_tagged_field_of_any_size_comes_back(length in 0..20_000usize) {
        let value = vec![7u8; length];
        let mut w = Writer::new();
        let mut tags = w.begin_tags();
        tags.field(&mut w, 3, |w| { w.raw(&value); });
        tags.field(&mut w, 300, |w| { w.records(&Records::Bytes(Bytes::from(value.clone())), true); });
        w.u8(9);
        let bytes = w.into_pieces().unwrap().into_vec();
        let mut reader = Reader::new(&bytes);
        let mut seen = Vec::new();
        reader.tags(|tag, r| {
            seen.push((tag, if tag == 300 { r.bytes(true)?.len() } else { r.take_rest().len() }));
            Ok(())
        }).unwrap();
        prop_assert_eq!(seen, [(3, length), (300, length)]);
        prop_assert_eq!(reader.u8(), Ok(9));
    }
}

#[test]
fn a_count_that_cannot_be_true_is_refused_before_anything_is_read() {
    let mut bytes = vec![0x7f, 0xff, 0xff, 0xff];
    bytes.extend([0; 100]);
    let refused = Reader::new(&bytes).array(false, 4, |_| -> Result<u32, WireError> { panic!("read an element") });
    assert_eq!(
        refused.unwrap_err().error,
        WireError::CountTooLarge {
            count: 0x7fff_ffff,
            left: 100
        }
    );
    // 26 elements of 4 bytes do not fit into 100 bytes, 25 do.
    bytes[..4].copy_from_slice(&26i32.to_be_bytes());
    assert!(Reader::new(&bytes).array(false, 4, Reader::i32).is_err());
    bytes[..4].copy_from_slice(&25i32.to_be_bytes());
    assert_eq!(Reader::new(&bytes).array(false, 4, Reader::i32).unwrap().len(), 25);
}

#[test]
fn varints_with_too_many_bits_are_refused() {
    assert_eq!(
        Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]).unsigned_varint(),
        Ok(u32::MAX)
    );
    assert_eq!(
        Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x1f]).unsigned_varint(),
        Err(WireError::VarintTooLong)
    );
    assert_eq!(Reader::new(&[0xff; 6]).unsigned_varint(), Err(WireError::VarintTooLong));
    let longest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    assert_eq!(Reader::new(&longest).varlong(), Ok(i64::MIN));
    assert_eq!(Reader::new(&[0xff; 11]).varlong(), Err(WireError::VarintTooLong));
}

#[test]
fn null_is_not_empty() {
    let mut w = Writer::new();
    w.opt_str(None, false)
        .str("", false)
        .opt_bytes(None, true)
        .bytes(b"", true);
    w.records(&Records::Null, false).records(&Records::EMPTY, false);
    let bytes = w.into_vec().unwrap();
    assert_eq!(bytes, [0xff, 0xff, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    let mut reader = Reader::new(&bytes);
    assert_eq!(reader.opt_str(false), Ok(None));
    assert_eq!(reader.opt_str(false), Ok(Some("")));
    assert_eq!(reader.opt_bytes(true), Ok(None));
    assert_eq!(reader.opt_bytes(true), Ok(Some(&b""[..])));
    assert_eq!(reader.opt_records(false), Ok(Records::Null));
    assert_eq!(reader.records(false), Ok(Records::EMPTY));
    assert_ne!(Records::Null, Records::EMPTY);
    assert_eq!(Reader::new(&[0xff, 0xff]).str(false), Err(WireError::NullNotAllowed));
}

#[test]
fn the_first_refusal_is_the_one_that_is_told() {
    let long = "x".repeat(MAX_STRING_BYTES + 1);
    let mut w = Writer::new();
    w.str(&long, true)
        .at(PLACE, "first")
        .not_null(3, true)
        .at(PLACE, "second")
        .i32(1);
    let error = w.into_vec().unwrap_err();
    assert_eq!((error.place, error.field), (PLACE, "first"));
    assert_eq!(
        error.to_string(),
        "M.inner.first: is a string of 32768 bytes, more than the allowed 32767"
    );
    assert_eq!(error.refusal, Refusal::StringTooLong { length: 32768 });
}

#[test]
fn a_tagged_field_that_leaves_bytes_over_is_refused() {
    let mut tags = Reader::new(&[1, 0, 2, 5, 6]);
    let error = tags.tags(|_, r| r.u8().map(|_| ()).map_err(Into::into)).unwrap_err();
    assert_eq!(error.error, WireError::TrailingBytes { left: 1 });
    let mut bomb = Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]);
    let error = bomb.skip_tags().unwrap_err();
    assert_eq!(
        error.error,
        WireError::CountTooLarge {
            count: u32::MAX as usize,
            left: 2
        }
    );
}

#[test]
fn uuids_are_printed_as_kafka_prints_them() {
    assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!(Uuid::from_u128(1).to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
    assert_eq!(Uuid([0xff; 16]).to_string(), "_____________________w");
    assert!("".parse::<Uuid>().is_err());
    assert!("AAAAAAAAAAAAAAAAAAAAA+".parse::<Uuid>().is_err());
    assert!("AAAAAAAAAAAAAAAAAAAAAAA".parse::<Uuid>().is_err());
}

#[test]
fn large_shared_records_are_not_copied() {
    let large = Bytes::from(vec![1; SPLICE_THRESHOLD_BYTES]);
    let small = Bytes::from(vec![2; SPLICE_THRESHOLD_BYTES - 1]);
    let mut w = Writer::new();
    w.i32(5)
        .records(&Records::Chain(vec![large.clone(), small, large.clone()]), true)
        .i32(6);
    let pieces: Vec<Bytes> = w.into_pieces().unwrap().into_iter().collect();
    let lengths: Vec<usize> = pieces.iter().map(Bytes::len).collect();
    assert_eq!(lengths, [4 + 2, 4096, 4095, 4096, 4]);
    assert_eq!(pieces[1].as_ptr(), large.as_ptr());
    assert_eq!(pieces[3].as_ptr(), large.as_ptr());
}

#[test]
fn a_frame_of_minimal_elements_is_refused_before_it_takes_many_times_its_size() {
    // Empty strings: one byte each on the wire, sixteen in memory.
    let count = 4 << 20;
    let mut w = Writer::new();
    w.unsigned_varint(count + 1);
    let mut bytes = w.into_vec().unwrap();
    bytes.resize(bytes.len() + count as usize, 1);
    let strings = |budget: Option<usize>| {
        let reader = Reader::new(&bytes);
        let mut reader = budget.map_or(reader.clone(), |budget| reader.with_budget(budget));
        reader.array(true, 1, |r| r.str(true)).map(|strings| strings.len())
    };
    let refused = strings(None).unwrap_err();
    assert!(matches!(refused.error, WireError::MemoryTooLarge { .. }), "{refused}");
    assert_eq!(strings(Some(count as usize * 16)), Ok(count as usize));
    assert!(strings(Some(count as usize * 16 - 1)).is_err());
}

#[test]
fn nested_and_tagged_arrays_share_one_budget() {
    // Two arrays of two numbers, the second one in a tagged field: sixteen bytes in all.
    let mut w = Writer::new();
    w.unsigned_varint(3).i32(1).i32(2);
    w.unsigned_varint(1).unsigned_varint(0).unsigned_varint(9);
    w.unsigned_varint(3).i32(3).i32(4);
    let bytes = w.into_vec().unwrap();
    let read = |budget| {
        let mut reader = Reader::new(&bytes).with_budget(budget);
        let mut all = reader.array(true, 4, Reader::i32)?;
        reader.tags(|_, value| {
            all.extend(value.array(true, 4, Reader::i32)?);
            Ok(())
        })?;
        Ok::<_, DecodeError>(all)
    };
    assert_eq!(read(16), Ok(vec![1, 2, 3, 4]));
    assert!(read(15).is_err());
}
