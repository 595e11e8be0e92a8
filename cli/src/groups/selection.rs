//! Which partitions: `--topic gpsraw`, `--topic gpsraw:0,1`, repeated.
//!
//! In: the options' texts. Out: partitions in order, each once. A number that is none is refused with its option.

use std::collections::BTreeSet;

use ottla::{Admin, TopicPartition};

use crate::Failure;

/// One `--topic`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    topic: String,
    /// `None`: all of them.
    partitions: Option<Vec<i32>>,
}

/// Reads the options.
pub fn parse(options: &[String]) -> Result<Vec<Selected>, Failure> {
    options.iter().map(|option| parse_one(option)).collect()
}

fn parse_one(option: &str) -> Result<Selected, Failure> {
    let refused = || {
        Failure::new(format!(
            "--topic {option}: write TOPIC, or TOPIC:0,1 for some of its partitions"
        ))
    };
    let (topic, partitions) = match option.split_once(':') {
        None => (option, None),
        Some((topic, numbers)) => {
            let numbers = numbers.split(',').map(|number| number.trim().parse::<i32>());
            let numbers: Vec<i32> = numbers.collect::<Result<_, _>>().map_err(|_| refused())?;
            (topic, Some(numbers))
        }
    };
    let negative = partitions.iter().flatten().any(|number| *number < 0);
    if topic.is_empty() || negative {
        return Err(refused());
    }
    Ok(Selected {
        topic: topic.to_owned(),
        partitions,
    })
}

/// The partitions, asking the cluster how many a topic has.
pub async fn resolve(admin: &Admin, selected: &[Selected]) -> Result<Vec<TopicPartition>, Failure> {
    let mut found = BTreeSet::new();
    for one in selected {
        match &one.partitions {
            Some(numbers) => found.extend(numbers.iter().map(|n| TopicPartition::new(one.topic.as_str(), *n))),
            None => {
                let described = admin.describe_topics(&[&one.topic]).await?;
                for answer in described.into_values() {
                    let partitions = answer?.partitions;
                    found.extend(
                        partitions
                            .iter()
                            .map(|p| TopicPartition::new(one.topic.as_str(), p.partition)),
                    );
                }
            }
        }
    }
    Ok(found.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_may_name_its_partitions() {
        let read = parse(&["a".into(), "b:0, 2".into()]).unwrap();
        let expected = [("a", None), ("b", Some(vec![0, 2]))].map(|(topic, partitions)| Selected {
            topic: topic.into(),
            partitions,
        });
        assert_eq!(read, expected);
    }

    #[test]
    fn what_is_no_partition_is_refused_with_its_option() {
        for wrong in ["b:x", "b:", "b:-1", ":0", ""] {
            let error = parse(&[wrong.into()]).unwrap_err();
            assert!(error.0.starts_with(&format!("--topic {wrong}: ")), "{}", error.0);
        }
    }
}
