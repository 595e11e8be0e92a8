/* Many threads on one producer, and threads that make and free clients meanwhile: nothing is lost, told twice, or mixed up. */
#include "check.h"

#include <pthread.h>

enum { THREADS = 4, PARTITIONS = 3 };

static const char *topic = "threads";
static ottla_cluster *cluster;
static ottla_producer *producer;
static int each;

static void *send_many(void *argument) {
    uintptr_t thread = (uintptr_t)argument;
    char value[32];
    ottla_record record = OTTLA_RECORD_INIT;
    record.topic = topic;
    record.value.data = value;
    for (int i = 0; i < each; i++) {
        record.value.len = (size_t)snprintf(value, sizeof value, "%d:%d", (int)thread, i);
        record.opaque = (void *)(thread * (uintptr_t)each + (uintptr_t)i);
        record.partition = i % PARTITIONS;
        int32_t code;
        while ((code = ottla_producer_send(producer, &record, NULL)) == OTTLA_ERROR_QUEUE_FULL)
            OK(ottla_producer_ready(producer, 30000, &error));
        CHECK(code == OTTLA_OK);
    }
    return NULL;
}

static void *come_and_go(void *argument) {
    (void)argument;
    for (int i = 0; i < scaled(100) + 2; i++) {
        ottla_producer *own = producer_with(config_of(cluster));
        ottla_record record = OTTLA_RECORD_INIT;
        record.topic = "elsewhere";
        CHECK(ottla_producer_send(own, &record, NULL) == OTTLA_OK);
        CHECK(ottla_producer_free(own) == OTTLA_OK);
        CHECK(ottla_producer_send(own, &record, NULL) == OTTLA_ERROR_ARGUMENT);
    }
    return NULL;
}

static void read_back(int total) {
    ottla_config *config = config_of(cluster);
    set(config, "auto.offset.reset", "earliest");
    ottla_consumer *consumer = NULL;
    OK(ottla_consumer_new(config, &consumer, &error));
    CHECK(ottla_config_free(config) == OTTLA_OK);
    OK(ottla_consumer_assign_topics(consumer, &topic, 1, 30000, &error));
    int last[THREADS][PARTITIONS], got = 0;
    memset(last, 0xff, sizeof last); /* -1 */
    while (got < total) {
        ottla_batch *batch = NULL;
        OK(ottla_consumer_poll(consumer, 30000, &batch, &error));
        for (size_t i = 0; i < ottla_batch_len(batch); i++, got++) {
            ottla_message message = OTTLA_MESSAGE_INIT;
            OK(ottla_batch_get(batch, i, &message, &error));
            char value[32] = "";
            int thread = -1, number = -1;
            CHECK(message.value.len < sizeof value);
            memcpy(value, message.value.data, message.value.len);
            CHECK(sscanf(value, "%d:%d", &thread, &number) == 2 && number % PARTITIONS == message.partition);
            CHECK(number > last[thread][message.partition]); /* the order of each thread's calls */
            last[thread][message.partition] = number;
        }
        ottla_batch_free(batch);
    }
    CHECK(ottla_consumer_free(consumer) == OTTLA_OK);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    each = scaled(20000) + 500;
    int total = each * THREADS, told = 0;
    cluster = cluster_with_topic(topic, PARTITIONS);
    ottla_config *config = config_of(cluster);
    set(config, "buffer.memory", "1000000");
    producer = producer_with(config);

    pthread_t threads[THREADS + 1];
    for (uintptr_t i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, send_many, (void *)i) == 0);
    CHECK(pthread_create(&threads[THREADS], NULL, come_and_go, NULL) == 0);
    char *seen = calloc((size_t)total, 1);
    ottla_report reports[512] = {OTTLA_REPORT_INIT};
    while (told < total) {
        size_t count = 0;
        OK(ottla_producer_poll(producer, reports, 512, 30000, &count, &error));
        CHECK(count > 0);
        for (size_t i = 0; i < count; i++, told++) {
            uintptr_t number = (uintptr_t)reports[i].opaque;
            CHECK(reports[i].code == OTTLA_OK && number < (uintptr_t)total && !seen[number]++);
        }
    }
    free(seen);
    for (int i = 0; i <= THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    ottla_counts counts = OTTLA_COUNTS_INIT;
    OK(ottla_producer_close(producer, 30000, &counts, &error));
    CHECK(counts.delivered == (uint64_t)total);
    CHECK(ottla_producer_free(producer) == OTTLA_OK);
    read_back(total);
    OK(ottla_cluster_stop(cluster, &error));
    printf("threads: %d records of %d threads\n", total, THREADS);
    return 0;
}
