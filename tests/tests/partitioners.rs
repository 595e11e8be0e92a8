//! The same key goes to the same partition as in Kafka's Java producer and in librdkafka: both are asked, by their own
//! functions, about random keys and about the published vectors.
//!
//! `UPDATE=1` writes `tests/vectors/partitioners.txt` anew, from what Java and librdkafka answer.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use ottla::Partitioner;
use ottla_tests::peer::lines::to_hex;
use ottla_tests::place;
use ottla_tests::rng::Rng;

const RANDOM_KEYS: usize = 10_000;
const LONGEST: usize = 200;

/// Keys whose hash is the smallest number there is, -2^31: it has no absolute value of its own type.
const MURMUR2_SMALLEST: &[u8] = b"key-\xa4\x8b\x80\xe9";
const FNV1A_SMALLEST: &[u8] = b"key-pujaalt";

/// The rules that librdkafka has too.
const LIBRDKAFKAS: [Partitioner; 6] = [
    Partitioner::Consistent,
    Partitioner::ConsistentRandom,
    Partitioner::Murmur2,
    Partitioner::Murmur2Random,
    Partitioner::Fnv1a,
    Partitioner::Fnv1aRandom,
];

/// Which partition does this rule give to this key (`None`: null), of so many?
#[derive(Debug, Clone, PartialEq)]
struct Question {
    rule: Partitioner,
    key: Option<Vec<u8>>,
    partitions: i32,
}

#[test]
fn random_keys_go_where_java_sends_them() {
    let keys = random_keys("random keys for Java");
    for kafka in ["4.3.1", "4.4.0"] {
        let questions = keys
            .iter()
            .map(|(key, partitions)| question(Partitioner::Default, key, *partitions));
        agree(&questions.collect::<Vec<_>>(), |questions| java(kafka, questions));
    }
}

#[test]
fn random_keys_go_where_librdkafka_sends_them() {
    let keys = random_keys("random keys for librdkafka");
    let of_rule = |rule| {
        keys.iter()
            .map(move |(key, partitions)| question(rule, key, *partitions))
    };
    agree(
        &LIBRDKAFKAS.into_iter().flat_map(of_rule).collect::<Vec<_>>(),
        librdkafka,
    );
}

#[test]
fn keys_that_librdkafka_places_at_random_are_left_open_and_no_others() {
    let mut questions = vec![];
    for rule in LIBRDKAFKAS.into_iter().chain([Partitioner::Random]) {
        for partitions in [2, 3, 12, 1000] {
            questions.push(Question {
                rule,
                key: None,
                partitions,
            });
            questions.push(question(rule, b"", partitions));
        }
    }
    agree(&questions, librdkafka);
}

#[test]
fn the_published_vectors_are_javas_and_librdkafkas_answers() {
    let questions = published();
    let (of_java, of_librdkafka): (Vec<_>, Vec<_>) = questions
        .into_iter()
        .partition(|question| question.rule == Partitioner::Default);
    // Java's producer does not ask the hash about a record without a key; all other lines are asked as they are.
    let (keyed, open): (Vec<_>, Vec<_>) = of_java.into_iter().partition(|question| question.key.is_some());
    let mut vectors: Vec<_> = open.into_iter().map(|question| (question, None)).collect();
    let answers = java("4.4.0", &keyed);
    vectors.extend(keyed.into_iter().zip(answers));
    let answers = librdkafka(&of_librdkafka);
    vectors.extend(of_librdkafka.into_iter().zip(answers));

    let path = place::repository().join("tests/vectors/partitioners.txt");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let mut expected: String = text
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    for (question, answer) in &vectors {
        writeln!(
            expected,
            "{} {} {} {}",
            question.rule,
            word(question),
            question.partitions,
            or_any(*answer)
        )
        .unwrap();
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &expected).unwrap();
        return;
    }
    let difference = text
        .lines()
        .zip(expected.lines())
        .find(|(published, asked)| published != asked);
    assert_eq!(difference, None, "published, and as the others answer");
    assert_eq!(text.len(), expected.len());
}

/// The questions of the published file.
fn published() -> Vec<Question> {
    let mut keys: Vec<Option<Vec<u8>>> = vec![None, Some(vec![])];
    let words = [
        "a",
        "21",
        "abc",
        "kafka",
        "1234",
        "foobar",
        "truck-7",
        "giberish123456789",
        "a-little-bit-long-string",
        "a-little-bit-longer-string",
        "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
        "ključ",
        "鍵",
    ];
    keys.extend(words.iter().map(|word| Some(word.as_bytes().to_vec())));
    keys.extend([MURMUR2_SMALLEST, FNV1A_SMALLEST].map(|key| Some(key.to_vec())));
    keys.extend([vec![0], vec![0xff], vec![0x80; 3], vec![0; 4], vec![0xff; 8]].map(Some));
    for len in [2_u8, 5, 6, 7, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 200] {
        keys.push(Some((0..len).map(|at| at.wrapping_mul(37).wrapping_add(len)).collect()));
    }
    let counts = [
        1,
        2,
        3,
        5,
        6,
        7,
        8,
        10,
        12,
        16,
        24,
        50,
        64,
        100,
        1000,
        1_000_003,
        i32::MAX,
    ];
    let mut questions = vec![];
    for rule in [Partitioner::Default].into_iter().chain(LIBRDKAFKAS) {
        for (number, key) in keys.iter().enumerate() {
            for at in 0..6 {
                let partitions = counts[(number + 3 * at) % counts.len()];
                // With one partition, what is left open and what is chosen look the same from outside.
                if partitions > 1 || key.as_ref().is_some_and(|key| !key.is_empty()) {
                    questions.push(Question {
                        rule,
                        key: key.clone(),
                        partitions,
                    });
                }
            }
        }
    }
    questions
}

fn question(rule: Partitioner, key: &[u8], partitions: i32) -> Question {
    Question {
        rule,
        key: Some(key.to_vec()),
        partitions,
    }
}

/// Random keys, each with a number of partitions: small ones, round ones and any.
fn random_keys(what: &str) -> Vec<(Vec<u8>, i32)> {
    let mut rng = Rng::announced(what);
    let mut keys = vec![];
    for _ in 0..RANDOM_KEYS {
        let len = rng.index(LONGEST + 1);
        // At least 2: with one partition, a choice at random looks like any other.
        let partitions = match rng.below(3) {
            0 => 2 + rng.below(20),
            1 => 2 << rng.below(30),
            _ => 2 + rng.below(i32::MAX as u64 - 1),
        };
        keys.push((rng.bytes(len), partitions as i32));
    }
    keys
}

/// Every question has our answer.
fn agree(questions: &[Question], ask: impl Fn(&[Question]) -> Vec<Option<i32>>) {
    let theirs = ask(questions);
    assert_eq!(theirs.len(), questions.len());
    for (question, theirs) in questions.iter().zip(theirs) {
        let ours = question
            .rule
            .partition_for_key(question.key.as_deref(), question.partitions);
        assert_eq!(
            ours,
            theirs,
            "{} {} of {}",
            question.rule,
            word(question),
            question.partitions
        );
    }
}

fn java(kafka: &str, questions: &[Question]) -> Vec<Option<i32>> {
    let input: String = questions
        .iter()
        .map(|one| format!("{} {}\n", one.partitions, word(one)))
        .collect();
    let mut command = Command::new("java");
    command.arg("-cp").arg(place::peer(&format!("kafka-{kafka}")).join("*"));
    command.arg(place::repository().join("tests/java/Partitions.java"));
    run(command, input)
}

fn librdkafka(questions: &[Question]) -> Vec<Option<i32>> {
    let line = |one: &Question| format!("{} {} {}\n", one.rule, one.partitions, word(one));
    let mut command = Command::new(place::peer("py").join("bin/python"));
    command.arg(script());
    run(command, questions.iter().map(line).collect())
}

fn script() -> PathBuf {
    place::repository().join("tests/peers/partitioners.py")
}

/// The first word of each line that the program answers.
fn run(mut command: Command, input: String) -> Vec<Option<i32>> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input.as_bytes()));
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{command:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let first = |line: &str| match line.split(' ').next() {
        Some("any") => None,
        word => Some(word.unwrap().parse().unwrap()),
    };
    text.lines().map(first).collect()
}

/// The key as the file and the other programs write it.
fn word(question: &Question) -> String {
    match question.key.as_deref() {
        None => "null".to_owned(),
        Some([]) => "empty".to_owned(),
        Some(key) => to_hex(key),
    }
}

fn or_any(partition: Option<i32>) -> String {
    partition.map_or_else(|| "any".to_owned(), |partition| partition.to_string())
}
