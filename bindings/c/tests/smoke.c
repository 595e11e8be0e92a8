/* Everything once, as its documentation says: produce, reports, consume, headers, offsets, topics, metrics, log, partitions. */
#include "check.h"

static const char *topic = "gpsraw";

static void produce(ottla_cluster *cluster) {
    ottla_config *config = config_of(cluster);
    set(config, "linger.ms", "10000"); /* flush counts what is still to be delivered when it is called: all four */
    ottla_producer *producer = producer_with(config);
    OK(ottla_producer_connected(producer, 30000, &error));
    int opaques[4];

    ottla_header headers[] = {{OTTLA_BYTES("source"), OTTLA_BYTES("smoke")}, {OTTLA_BYTES("none"), {NULL, 0}}};
    ottla_record record = OTTLA_RECORD_INIT;
    record.topic = topic;
    record.partition = 0;
    record.key = bytes("truck-7");
    record.value = bytes("45.77,14.35");
    record.headers = headers;
    record.header_count = 2;
    record.timestamp_ms = 1280000000000;
    record.opaque = &opaques[0];
    OK(ottla_producer_send(producer, &record, &error));

    ottla_record more[3] = {OTTLA_RECORD_INIT, OTTLA_RECORD_INIT, OTTLA_RECORD_INIT};
    for (int i = 0; i < 3; i++) {
        more[i].topic = topic;
        more[i].partition = 0;
        more[i].opaque = &opaques[i + 1];
    }
    more[0].key = bytes("truck-8"); /* and no value: a tombstone */
    more[1].value = bytes("");
    more[2].value = bytes("last");
    size_t sent = 0;
    OK(ottla_producer_send_batch(producer, more, 3, &sent, &error));
    CHECK(sent == 3);

    ottla_counts counts = OTTLA_COUNTS_INIT;
    OK(ottla_producer_flush(producer, 30000, &counts, &error));
    CHECK(counts.delivered == 4 && counts.failed == 0 && counts.unknown == 0 && counts.pending == 0);

    ottla_report reports[3] = {OTTLA_REPORT_INIT};
    size_t count = 0, told = 0;
    while (told < 4) { /* more than the array holds: the rest comes next time */
        OK(ottla_producer_poll(producer, reports, 3, 30000, &count, &error));
        CHECK(count > 0 && count <= 3);
        for (size_t i = 0; i < count; i++, told++) {
            CHECK(reports[i].struct_size == sizeof(ottla_report));
            CHECK(reports[i].code == OTTLA_OK && reports[i].error == NULL);
            CHECK(reports[i].opaque == &opaques[told] && reports[i].offset == (int64_t)told);
            CHECK(reports[i].partition == 0 && strcmp(reports[i].topic, topic) == 0);
        }
    }
    OK(ottla_producer_poll(producer, reports, 3, 0, &count, &error));
    CHECK(count == 0);

    char *metrics = NULL;
    OK(ottla_producer_metrics(producer, &metrics, &error));
    CHECK(strstr(metrics, "4") != NULL && strstr(metrics, topic) != NULL);
    ottla_string_free(metrics);

    ottla_counts all = OTTLA_COUNTS_INIT;
    OK(ottla_producer_close(producer, 30000, &all, &error));
    CHECK(all.delivered == 4 && all.pending == 0);
    CHECK(ottla_producer_free(producer) == OTTLA_OK);
}

static size_t take(ottla_consumer *consumer, ottla_batch **batch) {
    do {
        *batch = NULL;
        OK(ottla_consumer_poll(consumer, 30000, batch, &error));
    } while (*batch == NULL);
    return ottla_batch_len(*batch);
}

static void read_first(ottla_batch *batch) {
    ottla_message message = OTTLA_MESSAGE_INIT;
    OK(ottla_batch_get(batch, 0, &message, &error));
    CHECK(message.offset == 0 && message.partition == 0 && strcmp(message.topic, topic) == 0);
    CHECK(is(message.key, "truck-7") && is(message.value, "45.77,14.35"));
    CHECK(message.timestamp_ms == 1280000000000 && message.timestamp_type == OTTLA_TIMESTAMP_CREATE_TIME);
    CHECK(message.header_count == 2);
    ottla_header headers[2];
    size_t count = 0;
    OK(ottla_batch_headers(batch, 0, headers, 2, &count, &error));
    CHECK(count == 2 && is(headers[0].key, "source") && is(headers[0].value, "smoke"));
    CHECK(is(headers[1].key, "none") && headers[1].value.data == NULL);
    OK(ottla_batch_headers(batch, 0, headers, 1, &count, &error));
    CHECK(count == 1);

    OK(ottla_batch_get(batch, 1, &message, &error));
    CHECK(is(message.key, "truck-8") && message.value.data == NULL && message.value.len == 0);
    OK(ottla_batch_get(batch, 2, &message, &error));
    CHECK(message.key.data == NULL && message.value.data != NULL && message.value.len == 0);
    FAILS(OTTLA_ERROR_ARGUMENT, "no record 4", ottla_batch_get(batch, 4, &message, &error));

    /* Several at once: as many as there is room for, then what is left, then none. */
    ottla_message messages[3] = {OTTLA_MESSAGE_INIT};
    OK(ottla_batch_messages(batch, 0, messages, 3, &count, &error));
    CHECK(count == 3 && is(messages[0].key, "truck-7") && is(messages[1].key, "truck-8") && messages[2].offset == 2);
    CHECK(messages[2].struct_size == sizeof *messages && messages[0].header_count == 2);
    OK(ottla_batch_messages(batch, 3, messages, 3, &count, &error));
    CHECK(count == 1 && messages[0].offset == 3 && messages[1].offset == 1);
    OK(ottla_batch_messages(batch, 4, messages, 3, &count, &error));
    CHECK(count == 0);
    OK(ottla_batch_messages(batch, 0, NULL, 0, &count, &error));
    CHECK(count == 0);
    FAILS(OTTLA_ERROR_ARGUMENT, "no record 5", ottla_batch_messages(batch, 5, messages, 3, &count, &error));

    ottla_topic_partition partition;
    int64_t next = -1;
    OK(ottla_batch_next_offsets(batch, &partition, &next, 1, &count, &error));
    CHECK(count == 1 && next == 4 && partition.partition == 0 && strcmp(partition.topic, topic) == 0);
}

static void consume(ottla_cluster *cluster) {
    ottla_config *config = config_of(cluster);
    set(config, "auto.offset.reset", "earliest");
    ottla_consumer *consumer = NULL;
    OK(ottla_consumer_new(config, &consumer, &error));
    CHECK(ottla_config_free(config) == OTTLA_OK);
    ottla_topic_partition both[] = {{topic, 0}, {topic, 1}};
    OK(ottla_consumer_assign(consumer, both, 2, &error));

    ottla_batch *batch = NULL;
    CHECK(take(consumer, &batch) == 4);
    read_first(batch);

    int64_t offsets[2], position = -1, lag = -2;
    OK(ottla_consumer_beginning_offsets(consumer, both, 2, 30000, offsets, &error));
    CHECK(offsets[0] == 0 && offsets[1] == 0);
    OK(ottla_consumer_end_offsets(consumer, both, 2, 30000, offsets, &error));
    CHECK(offsets[0] == 4 && offsets[1] == 0);
    int64_t times[] = {1280000000001, 0};
    OK(ottla_consumer_offsets_for_times(consumer, both, times, 2, 30000, offsets, &error));
    CHECK(offsets[0] == 1 && offsets[1] == -1);
    OK(ottla_consumer_position(consumer, topic, 0, 30000, &position, &error));
    CHECK(position == 4);
    OK(ottla_consumer_lag(consumer, topic, 0, &lag, &error));
    CHECK(lag == 0);

    ottla_batch *again = NULL;
    OK(ottla_consumer_seek(consumer, topic, 0, 3, &error));
    CHECK(take(consumer, &again) == 1);
    ottla_batch_free(again);
    OK(ottla_consumer_seek_to_beginning(consumer, topic, 0, &error));
    CHECK(take(consumer, &again) == 4);
    ottla_batch_free(again);
    OK(ottla_consumer_seek_to_timestamp(consumer, topic, 0, 1280000000001, &error));
    CHECK(take(consumer, &again) == 3);
    ottla_batch_free(again);
    OK(ottla_consumer_seek_to_end(consumer, topic, 0, &error));
    OK(ottla_consumer_poll(consumer, 0, &again, &error));
    CHECK(again == NULL);
    OK(ottla_consumer_pause(consumer, both, 1, &error));
    OK(ottla_consumer_resume(consumer, both, 1, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, "nowhere", ottla_consumer_seek(consumer, "nowhere", 0, 0, &error));

    int32_t partitions = 0;
    OK(ottla_consumer_partition_count(consumer, topic, 30000, &partitions, &error));
    CHECK(partitions == 2);
    OK(ottla_consumer_assign_topics(consumer, &topic, 1, 30000, &error));

    OK(ottla_consumer_close(consumer, &error));
    CHECK(ottla_consumer_free(consumer) == OTTLA_OK);
    read_first(batch); /* a batch outlives its consumer */
    ottla_batch_free(batch);
}

static void topics(ottla_cluster *cluster) {
    ottla_config *config = config_of(cluster);
    ottla_admin *admin = NULL;
    OK(ottla_admin_new(config, &admin, &error));
    CHECK(ottla_config_free(config) == OTTLA_OK);
    ottla_error *refused = NULL;
    int32_t code = ottla_admin_create_topic(admin, topic, 1, 1, NULL, 30000, &refused);
    CHECK(code == 36 && strcmp(ottla_error_name(refused), "TOPIC_ALREADY_EXISTS") == 0);
    CHECK(ottla_error_kind(refused) == OTTLA_ERROR_BROKER && !ottla_error_retriable(refused));
    ottla_error_free(refused);

    ottla_config *settings = ottla_config_new();
    set(settings, "retention.ms", "1000");
    OK(ottla_admin_create_topic(admin, "another", -1, -1, settings, 30000, &error));
    CHECK(ottla_config_free(settings) == OTTLA_OK);
    OK(ottla_admin_create_partitions(admin, "another", 5, 30000, &error));
    int32_t partitions = 0;
    OK(ottla_admin_partition_count(admin, "another", 30000, &partitions, &error));
    CHECK(partitions == 5);

    ottla_topics *names = NULL;
    OK(ottla_admin_list_topics(admin, 30000, &names, &error));
    CHECK(ottla_topics_len(names) == 2 && strcmp(ottla_topics_get(names, 0), "another") == 0);
    CHECK(strcmp(ottla_topics_get(names, 1), topic) == 0 && ottla_topics_get(names, 2) == NULL);
    ottla_topics_free(names);
    OK(ottla_admin_delete_topic(admin, "another", 30000, &error));
    FAILS(OTTLA_ERROR_UNKNOWN_TOPIC, "another", ottla_admin_delete_topic(admin, "another", 30000, &error));
    CHECK(ottla_admin_free(admin) == OTTLA_OK);
}

static void partitions(void) {
    int32_t partition = -2;
    ottla_bytes key = OTTLA_BYTES("truck-7"), null = {NULL, 0};
    OK(ottla_partition_for_key(NULL, key, 12, &partition, &error));
    CHECK(partition == 3); /* as in Java */
    OK(ottla_partition_for_key("consistent", key, 50, &partition, &error));
    CHECK(partition == 15); /* as in librdkafka */
    OK(ottla_partition_for_key("default", null, 12, &partition, &error));
    CHECK(partition == -1);
    FAILS(OTTLA_ERROR_ARGUMENT, "murmur3", ottla_partition_for_key("murmur3", key, 12, &partition, &error));
    CHECK(partition == -1); /* results are written only on success */
}

static void configuration(void) {
    ottla_config *config = ottla_config_new();
    ottla_producer *producer = NULL;
    set(config, "bootstrap.servers", "127.0.0.1:1");
    set(config, "linger.mz", "5");
    FAILS(OTTLA_ERROR_CONFIG, "linger.ms", ottla_producer_new(config, &producer, &error));
    CHECK(producer == NULL);
    CHECK(ottla_config_free(config) == OTTLA_OK);
}

static void on_line(const ottla_log_line *line, void *user_data) {
    CHECK(strncmp(line->target, "ottla", 5) == 0 && line->level <= OTTLA_LOG_DEBUG && line->time_ms > 0);
    ++*(int *)user_data;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    OK(ottla_log_start(OTTLA_LOG_DEBUG, &error));
    ottla_cluster *cluster = cluster_with_topic(topic, 2);
    produce(cluster);
    consume(cluster);
    topics(cluster);
    partitions();
    configuration();
    OK(ottla_cluster_stop(cluster, &error));
    int lines = 0;
    CHECK(ottla_log_fd() >= 0);
    CHECK(ottla_log_poll(on_line, &lines) == (size_t)lines && lines > 0);
    printf("smoke: all well with libottla %s\n", ottla_version());
    return 0;
}
