//! DescribeTopicPartitions (key 75), version 0.
//!
//! - Topics by name, sorted, each once; all of them if none is named. What does not fit into the limit of partitions
//!   (the smaller of the client's and `max.request.partition.size.limit`, at least 1) follows when the client sends the
//!   cursor of the answer back.
//! - Shows what Metadata shows, and the eligible leader replicas (KIP-966).
//! - Errors of a topic that is named: UNKNOWN_TOPIC_OR_PARTITION, INVALID_TOPIC_EXCEPTION. A cursor with a negative
//!   partition makes every topic INVALID_REQUEST.
//!
//! Not supported: authorized operations (the answer is -2147483648, "not known").

use super::metadata::{Asker, leader_error, offline_replicas, reachable_leader};
use super::{Context, Reply};
use ottla_broker_state::controller::{ClusterImage, PartitionImage, TopicImage, names};
use ottla_protocol::ErrorCode;
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use ottla_protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};
use std::collections::BTreeSet;

/// Carries out one request.
pub async fn handle(
    context: &Context,
    header: &RequestHeader<'_>,
    request: DescribeTopicPartitionsRequest<'_>,
) -> Reply {
    let image = context.broker.image();
    let asker = Asker {
        version: i16::MAX,
        listener: &context.listener,
    };
    let limit_max = context.broker.config.max_request_partition_size_limit;
    context.reply(header, &respond(&image, &asker, limit_max, &request))
}

fn respond<'a>(
    image: &'a ClusterImage,
    asker: &Asker<'_>,
    limit_max: usize,
    request: &DescribeTopicPartitionsRequest<'a>,
) -> DescribeTopicPartitionsResponse<'a> {
    let first = request.cursor.as_ref().map_or("", |cursor| cursor.topic_name);
    let named: BTreeSet<&'a str> = request.topics.iter().map(|topic| topic.name).collect();
    let Ok(first_partition) = usize::try_from(request.cursor.as_ref().map_or(0, |cursor| cursor.partition_index))
    else {
        let topics = named
            .into_iter()
            .map(|name| error(name, ErrorCode::InvalidRequest))
            .collect();
        return DescribeTopicPartitionsResponse {
            topics,
            ..DescribeTopicPartitionsResponse::default()
        };
    };
    let wanted: Vec<&'a str> = if named.is_empty() {
        image.topics_from(first).map(|topic| &*topic.name).collect()
    } else {
        named.range(first..).copied().collect()
    };
    let limit = usize::try_from(request.response_partition_limit)
        .unwrap_or(0)
        .min(limit_max)
        .max(1);
    let mut page = Page {
        left: limit,
        topics: Vec::new(),
        next: None,
    };
    for name in wanted {
        let Some(topic) = image.topic(name) else {
            let code = names::check(name)
                .err()
                .map_or(ErrorCode::UnknownTopicOrPartition, |error| error.code);
            page.topics.push(error(name, code));
            continue;
        };
        page.add(image, asker, topic, if name == first { first_partition } else { 0 });
        if page.next.is_some() {
            break;
        }
    }
    DescribeTopicPartitionsResponse {
        topics: page.topics,
        next_cursor: page.next,
        ..DescribeTopicPartitionsResponse::default()
    }
}

struct Page<'a> {
    /// Partitions that may still be added.
    left: usize,
    topics: Vec<DescribeTopicPartitionsResponseTopic<'a>>,
    /// Where the next page begins; set when this one is full.
    next: Option<Cursor<'a>>,
}

impl<'a> Page<'a> {
    fn add(&mut self, image: &ClusterImage, asker: &Asker<'_>, topic: &'a TopicImage, from: usize) {
        let end = topic.partitions.len().min(from.saturating_add(self.left));
        if end < topic.partitions.len() {
            let partition_index = i32::try_from(end).unwrap_or(i32::MAX);
            self.next = Some(Cursor {
                topic_name: &topic.name,
                partition_index,
            });
        }
        // A page that was full before this topic does not mention it.
        if self.left == 0 {
            return;
        }
        let shown = topic.partitions.iter().enumerate().take(end).skip(from);
        let partitions: Vec<_> = shown
            .map(|(index, partition)| describe(image, asker, index, partition))
            .collect();
        self.left = self.left.saturating_sub(partitions.len());
        self.topics.push(DescribeTopicPartitionsResponseTopic {
            name: Some(&topic.name),
            topic_id: topic.id,
            is_internal: names::is_internal(&topic.name),
            partitions,
            ..DescribeTopicPartitionsResponseTopic::default()
        });
    }
}

fn describe(
    image: &ClusterImage,
    asker: &Asker<'_>,
    index: usize,
    partition: &PartitionImage,
) -> DescribeTopicPartitionsResponsePartition {
    DescribeTopicPartitionsResponsePartition {
        error_code: leader_error(image, asker, partition).code(),
        partition_index: i32::try_from(index).unwrap_or(i32::MAX),
        leader_id: reachable_leader(image, asker, partition).unwrap_or(-1),
        leader_epoch: partition.leader_epoch,
        replica_nodes: partition.replicas.clone(),
        isr_nodes: partition.isr.clone(),
        eligible_leader_replicas: Some(partition.eligible_leader_replicas.clone()),
        last_known_elr: Some(partition.last_known_elr.clone()),
        offline_replicas: offline_replicas(image, asker, partition),
    }
}

fn error(name: &str, code: ErrorCode) -> DescribeTopicPartitionsResponseTopic<'_> {
    DescribeTopicPartitionsResponseTopic {
        error_code: code.code(),
        name: Some(name),
        is_internal: names::is_internal(name),
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::tests::fixtures::{controller, create_with};
    use ottla_protocol::messages::describe_topic_partitions_request::{Cursor as RequestCursor, TopicRequest};

    const ASKER: Asker<'static> = Asker {
        version: i16::MAX,
        listener: "PLAINTEXT",
    };

    /// Reads page after page and gives every partition seen, and the number of pages.
    fn read_all(image: &ClusterImage, names: &[&str], limit: i32) -> (Vec<(String, i32)>, usize) {
        let mut seen = Vec::new();
        let mut cursor: Option<(String, i32)> = None;
        for page in 1..100 {
            let request = DescribeTopicPartitionsRequest {
                topics: names.iter().map(|&name| TopicRequest { name }).collect(),
                response_partition_limit: limit,
                cursor: cursor.as_ref().map(|(topic_name, partition_index)| RequestCursor {
                    topic_name,
                    partition_index: *partition_index,
                }),
            };
            let response = respond(image, &ASKER, 2000, &request);
            for topic in &response.topics {
                assert_eq!(topic.error_code, 0);
                let name = topic.name.unwrap().to_owned();
                seen.extend(
                    topic
                        .partitions
                        .iter()
                        .map(|partition| (name.clone(), partition.partition_index)),
                );
            }
            let next = response
                .next_cursor
                .map(|next| (next.topic_name.to_owned(), next.partition_index));
            if next.is_none() {
                return (seen, page);
            }
            cursor = next;
        }
        panic!("the cursor never ends");
    }

    #[tokio::test]
    async fn pages_of_any_size_show_every_partition_once() {
        let broker = controller(&[]).await;
        let mut expected = Vec::new();
        for (name, partitions) in [("a", 3), ("b", 1), ("c", 4)] {
            create_with(&broker, name, partitions).await;
            expected.extend((0..partitions).map(|index| (name.to_owned(), index)));
        }
        let image = broker.controller.image();
        for limit in 1..10 {
            let (seen, pages) = read_all(&image, &[], limit);
            assert_eq!(seen, expected, "limit {limit}");
            assert!(
                pages <= 8_usize.div_ceil(usize::try_from(limit).unwrap()) + 1,
                "limit {limit}: {pages} pages"
            );
            assert_eq!(read_all(&image, &["c", "a", "b", "a"], limit).0, expected);
        }
        assert_eq!(read_all(&image, &[], 0).0, expected);
        assert_eq!(read_all(&image, &["b"], -5).0, [("b".to_owned(), 0)]);
    }

    #[tokio::test]
    async fn unknown_names_and_wrong_cursors_are_errors_of_their_topics() {
        let broker = controller(&[]).await;
        create_with(&broker, "t", 1).await;
        let image = broker.controller.image();
        let names = ["u", "a b", "t"];
        let mut request = DescribeTopicPartitionsRequest {
            topics: names.into_iter().map(|name| TopicRequest { name }).collect(),
            ..DescribeTopicPartitionsRequest::default()
        };
        let codes = |request: &DescribeTopicPartitionsRequest<'_>| {
            let response = respond(&image, &ASKER, 2000, request);
            response
                .topics
                .iter()
                .map(|topic| ErrorCode::from_code(topic.error_code).unwrap())
                .collect::<Vec<_>>()
        };
        let expected = [
            ErrorCode::InvalidTopicException,
            ErrorCode::None,
            ErrorCode::UnknownTopicOrPartition,
        ];
        assert_eq!(codes(&request), expected);
        request.cursor = Some(RequestCursor {
            topic_name: "t",
            partition_index: -1,
        });
        assert_eq!(codes(&request), [ErrorCode::InvalidRequest; 3]);
        // A topic that is gone meanwhile is passed over.
        request.topics.clear();
        request.cursor = Some(RequestCursor {
            topic_name: "s",
            partition_index: 7,
        });
        assert_eq!(codes(&request), [ErrorCode::None]);
    }
}
