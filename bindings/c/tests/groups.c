/* Groups: members that share, what is committed and what not, callbacks inside of polls, closing by a deadline. */
#include "check.h"

typedef struct {
    int assigned, revoked, lost, partitions;
    int commit_failed, stalled;
    int commits; /* whether to commit offset 7 of what is revoked */
} heard;

static void listen(ottla_consumer *consumer, const ottla_event *event, void *opaque) {
    heard *all = opaque;
    CHECK(event->struct_size == sizeof *event);
    switch (event->kind) {
    case OTTLA_EVENT_ASSIGNED:
        all->assigned++;
        all->partitions += (int)event->partition_count;
        break;
    case OTTLA_EVENT_REVOKED:
        all->revoked++;
        all->partitions -= (int)event->partition_count;
        for (size_t i = 0; all->commits && i < event->partition_count; i++) {
            ottla_offset offset = { event->partitions[i].topic, "mine", 7, event->partitions[i].partition, -1 };
            OK(ottla_consumer_commit_offsets(consumer, &offset, 1, -1, &error));
        }
        break;
    case OTTLA_EVENT_LOST:
        CHECK(event->error != NULL && ottla_error_text(event->error) != NULL);
        all->lost++;
        break;
    case OTTLA_EVENT_COMMIT_FAILED:
        CHECK(event->partition_count == 0 && ottla_error_code(event->error) == 30);
        all->commit_failed++;
        break;
    case OTTLA_EVENT_STALLED:
        CHECK(event->partition_count == 1 && strstr(event->detail, "\"state\":") != NULL);
        all->stalled++;
        break;
    default: break;
    }
}

static ottla_consumer *member(ottla_cluster *cluster, const char *group, const char *more, const char *value) {
    ottla_config *config = config_of(cluster);
    set(config, "group.id", group);
    set(config, "auto.offset.reset", "earliest");
    set(config, "heartbeat.interval.ms", "50");
    if (more) set(config, more, value);
    ottla_consumer *consumer = NULL;
    OK(ottla_consumer_new(config, &consumer, &error));
    ottla_config_free(config);
    const char *topics[] = { "t" };
    OK(ottla_consumer_subscribe(consumer, topics, 1, &error));
    return consumer;
}

static size_t poll_once(ottla_consumer *consumer, int timeout_ms) {
    ottla_batch *batch = NULL;
    OK(ottla_consumer_poll(consumer, timeout_ms, &batch, &error));
    size_t count = ottla_batch_len(batch);
    ottla_batch_free(batch);
    return count;
}

static size_t assigned(ottla_consumer *consumer) {
    ottla_partitions *partitions = NULL;
    OK(ottla_consumer_assignment(consumer, &partitions, &error));
    size_t count = ottla_partitions_len(partitions);
    for (size_t i = 0; i < count; i++) CHECK(strcmp(ottla_partitions_get(partitions, i).topic, "t") == 0);
    CHECK(ottla_partitions_get(partitions, count).topic == NULL);
    ottla_partitions_free(partitions);
    return count;
}

static int64_t committed(ottla_consumer *consumer) {
    ottla_topic_partition partitions[] = { { "t", 0 }, { "t", 1 } };
    ottla_offsets *offsets = NULL;
    OK(ottla_consumer_committed(consumer, partitions, 2, -1, &offsets, &error));
    CHECK(ottla_offsets_len(offsets) == 2 && ottla_offsets_get(offsets, 2).topic == NULL);
    int64_t sum = 0;
    for (size_t i = 0; i < 2; i++) {
        ottla_offset one = ottla_offsets_get(offsets, i);
        CHECK(strcmp(one.topic, "t") == 0 && one.partition == (int32_t)i);
        CHECK((one.metadata == NULL) == (one.offset < 0));
        sum += one.offset < 0 ? 0 : one.offset;
    }
    ottla_offsets_free(offsets);
    return sum;
}

static void says(char *json, const char *words) {
    CHECK(json != NULL && strstr(json, words) != NULL);
    ottla_string_free(json);
}

static void commits_and_goes_on(ottla_cluster *cluster) {
    ottla_consumer *one = member(cluster, "g1", "max.poll.records", "4");
    ottla_batch *batch = NULL;
    while (batch == NULL) OK(ottla_consumer_poll(one, -1, &batch, &error));
    CHECK(committed(one) == 0);
    OK(ottla_consumer_commit_records(one, batch, 1, -1, &error));
    CHECK(committed(one) == 1);
    OK(ottla_consumer_store_records(one, batch, 2, &error));
    OK(ottla_consumer_commit_async(one, &error));
    OK(ottla_consumer_commit(one, -1, &error));
    size_t first = ottla_batch_len(batch);
    CHECK(committed(one) == (int64_t)first);
    ottla_batch_free(batch);
    /* The records of the last poll are not processed. */
    size_t last = poll_once(one, -1);
    ottla_closed closed = OTTLA_CLOSED_INIT;
    OK(ottla_consumer_close_within(one, 10000, &closed, &error));
    CHECK(closed.finished && closed.committed == 0 && closed.unprocessed >= 1 && last > 0);
    FAILS(OTTLA_ERROR_CLOSED, "closed", ottla_consumer_poll(one, 0, &batch, &error));
    OK(ottla_consumer_free(one));

    ottla_consumer *two = member(cluster, "g1", NULL, NULL);
    size_t rest = 0;
    while (rest < 20 - first) rest += poll_once(two, -1);
    CHECK(rest == 20 - first);
    poll_once(two, 0);
    OK(ottla_consumer_close_within(two, 10000, &closed, &error));
    CHECK(closed.committed >= 1 && closed.unprocessed == 0);
    OK(ottla_consumer_free(two));
}

static void shares_and_takes_over(ottla_cluster *cluster) {
    heard ears = { .commits = 1 };
    ottla_consumer *one = member(cluster, "g2", "enable.auto.commit", "false");
    OK(ottla_consumer_set_event_cb(one, listen, &ears, &error));
    while (assigned(one) < 2) poll_once(one, 50);
    ottla_consumer *two = member(cluster, "g2", NULL, NULL);
    while (assigned(two) < 1) {
        poll_once(one, 50);
        poll_once(two, 50);
    }
    CHECK(ears.assigned >= 1 && ears.revoked >= 1);
    CHECK(committed(two) == 14);
    OK(ottla_consumer_close_within(two, 10000, NULL, &error));
    OK(ottla_consumer_free(two));
    while (assigned(one) < 2) poll_once(one, 50);
    OK(ottla_consumer_close_within(one, 10000, NULL, &error));
    CHECK(ears.partitions == 0 && ears.lost == 0);
    OK(ottla_consumer_free(one));
}

static void says_how_it_is(ottla_cluster *cluster) {
    ottla_consumer *one = member(cluster, "g3", "enable.auto.offset.store", "false");
    while (assigned(one) < 2) poll_once(one, 50);
    char *json = NULL;
    OK(ottla_consumer_group_metadata(one, &json, &error));
    says(json, "\"group_id\":\"g3\"");
    OK(ottla_consumer_progress(one, &json, &error));
    says(json, "\"state\"");
    OK(ottla_consumer_health(one, &json, &error));
    says(json, "\"phase\":\"stable\"");
    OK(ottla_consumer_extend_poll(one, 1000, &error));
    OK(ottla_consumer_enforce_rebalance(one, NULL, &error));
    ottla_topics *topics = NULL;
    OK(ottla_consumer_subscription(one, &topics, &error));
    CHECK(ottla_topics_len(topics) == 1);
    ottla_topics_free(topics);
    ottla_offset offset = { "t", NULL, 5, 0, -1 };
    OK(ottla_consumer_store_offsets(one, &offset, 1, &error));
    OK(ottla_consumer_commit(one, -1, &error));
    CHECK(committed(one) == 5);
    OK(ottla_consumer_unsubscribe(one, -1, &error));
    CHECK(assigned(one) == 0);
    OK(ottla_consumer_subscribe_pattern(one, "t+", &error));
    while (assigned(one) < 2) poll_once(one, 50);
    FAILS(OTTLA_ERROR_ARGUMENT, "NULL", ottla_consumer_subscribe_pattern(one, NULL, &error));
    /* Whoever waits is woken in the middle of a rebalance. */
    ottla_consumer *two = member(cluster, "g3", NULL, NULL);
    ottla_batch *batch = NULL;
    CHECK(ottla_consumer_wake(two) == OTTLA_OK);
    FAILS(OTTLA_ERROR_INTERRUPTED, "elsewhere", ottla_consumer_poll(two, -1, &batch, &error));
    OK(ottla_consumer_free(two));
    OK(ottla_consumer_free(one));
}

static void tells_what_nobody_waits_for(ottla_cluster *cluster) {
    heard ears = { 0 };
    ottla_consumer *one = member(cluster, "g4", "stalled.partition.timeout.ms", "200");
    OK(ottla_consumer_set_event_cb(one, listen, &ears, &error));
    while (poll_once(one, -1) == 0) {}
    OK(ottla_cluster_fault(cluster, "api=OffsetCommit error_before=30 times=1", &error));
    OK(ottla_consumer_commit_async(one, &error));
    while (ears.commit_failed == 0) poll_once(one, 50);
    /* Where a fetch fails again and again nothing moves. */
    OK(ottla_cluster_fault(cluster, "api=Fetch error_before=6", &error));
    ottla_consumer *two = member(cluster, "g5", "stalled.partition.timeout.ms", "200");
    OK(ottla_consumer_set_event_cb(two, listen, &ears, &error));
    while (ears.stalled < 2) poll_once(two, 50);
    OK(ottla_cluster_clear_faults(cluster, &error));
    OK(ottla_consumer_free(two));
    OK(ottla_consumer_free(one));
}

static void looks_after_groups(ottla_cluster *cluster) {
    ottla_config *config = config_of(cluster);
    ottla_admin *admin = NULL;
    OK(ottla_admin_new(config, &admin, &error));
    ottla_config_free(config);
    char *json = NULL;
    OK(ottla_admin_list_groups(admin, -1, &json, &error));
    says(json, "\"g1\"");
    OK(ottla_admin_describe_group(admin, "g1", -1, &json, &error));
    says(json, "\"state\":\"Empty\"");
    ottla_offset offset = { "t", "words", 3, 1, -1 };
    OK(ottla_admin_alter_group_offsets(admin, "g1", &offset, 1, -1, &error));
    OK(ottla_admin_list_group_offsets(admin, "g1", -1, &json, &error));
    says(json, "\"words\"");
    ottla_topic_partition partition = { "t", 1 };
    OK(ottla_admin_delete_group_offsets(admin, "g1", &partition, 1, -1, &error));
    OK(ottla_admin_delete_group(admin, "g1", -1, &error));
    CHECK(ottla_admin_delete_group(admin, "g1", -1, NULL) != OTTLA_OK);
    OK(ottla_admin_free(admin));
}

int main(int argc, char **argv) {
    begin(argc, argv);
    ottla_cluster *cluster = cluster_with_topic("t", 2);
    ottla_config *config = config_of(cluster);
    ottla_producer *producer = NULL;
    OK(ottla_producer_new(config, &producer, &error));
    ottla_config_free(config);
    for (int i = 0; i < 20; i++) {
        ottla_record record = OTTLA_RECORD_INIT;
        ottla_bytes value = OTTLA_BYTES("v");
        record.topic = "t";
        record.partition = i % 2;
        record.value = value;
        OK(ottla_producer_send(producer, &record, &error));
    }
    OK(ottla_producer_flush(producer, -1, NULL, &error));
    OK(ottla_producer_free(producer));
    commits_and_goes_on(cluster);
    shares_and_takes_over(cluster);
    says_how_it_is(cluster);
    tells_what_nobody_waits_for(cluster);
    looks_after_groups(cluster);
    OK(ottla_cluster_stop(cluster, &error));
    return 0;
}
