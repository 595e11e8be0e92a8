/* Ottla's C library in the peer benchmark. See ../../README.md for the argument list; beside it --batch-size, --in-flight and --buffer-memory set the keys of these names. Modes: produce, consume. */
#define _GNU_SOURCE
#include <ottla.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static int argument_count;
static char **arguments;

static const char *arg(const char *name, const char *otherwise) {
    for (int i = 1; i + 1 < argument_count; i += 2)
        if (strcmp(arguments[i] + 2, name) == 0) return arguments[i + 1];
    return otherwise;
}

static double now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void must(int32_t code, ottla_error *error) {
    if (code == OTTLA_OK) return;
    fprintf(stderr, "%s\n", ottla_error_text(error));
    exit(1);
}

static void set(ottla_config *config, const char *key, const char *value) {
    ottla_error *error = NULL;
    if (value) must(ottla_config_set(config, key, value, &error), error);
}

static size_t delivered, failed;
static ottla_report reports[1024] = {OTTLA_REPORT_INIT};

static void take(ottla_producer *producer, int timeout_ms) {
    ottla_error *error = NULL;
    size_t count = 0;
    must(ottla_producer_poll(producer, reports, 1024, timeout_ms, &count, &error), error);
    for (size_t i = 0; i < count; i++) *(reports[i].code == OTTLA_OK ? &delivered : &failed) += 1;
}

static void produce(ottla_config *config, size_t messages, size_t size) {
    ottla_error *error = NULL;
    FILE *file = fopen(arg("payload", ""), "rb");
    if (!file) must(-1, NULL);
    fseek(file, 0, SEEK_END);
    size_t len = (size_t)ftell(file), pool = len / size;
    char *bytes = malloc(len);
    rewind(file);
    if (fread(bytes, 1, len, file) != len) exit(1);
    fclose(file);
    static char keys[1000][8];
    for (int i = 0; i < 1000; i++) snprintf(keys[i], 8, "key-%03d", i);
    int keyed = atoi(arg("keys", "0"));
    set(config, "acks", arg("acks", "all"));
    set(config, "linger.ms", arg("linger", "5"));
    set(config, "compression.type", arg("compression", "none"));
    set(config, "enable.idempotence", atoi(arg("idempotence", "0")) ? "true" : "false");
    set(config, "batch.size", arg("batch-size", NULL));
    set(config, "max.in.flight.requests.per.connection", arg("in-flight", NULL));
    set(config, "buffer.memory", arg("buffer-memory", NULL));
    ottla_producer *producer = NULL;
    must(ottla_producer_new(config, &producer, &error), error);
    must(ottla_producer_connected(producer, 30000, &error), error);
    ottla_record record = OTTLA_RECORD_INIT;
    record.topic = arg("topic", "t");
    record.value.len = size;
    double cpu = now(CLOCK_PROCESS_CPUTIME_ID), start = now(CLOCK_MONOTONIC);
    for (size_t i = 0; i < messages; i++) {
        record.value.data = bytes + i % pool * size;
        record.opaque = (void *)i;
        if (keyed) {
            record.key.data = keys[i * 7919 % 1000];
            record.key.len = 7;
        }
        int32_t code;
        while ((code = ottla_producer_send(producer, &record, NULL)) == OTTLA_ERROR_QUEUE_FULL) take(producer, 100);
        must(code, NULL);
        if ((i & 63) == 0) take(producer, 0);
    }
    while (delivered + failed < messages) take(producer, 1000);
    double seconds = now(CLOCK_MONOTONIC) - start;
    cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    printf("{\"client\":\"ottla-c\",\"version\":\"%s\",\"messages\":%zu,\"failed\":%zu,\"bytes\":%zu,\"seconds\":%.6f,\"cpu_s\":%.6f}\n",
           ottla_version(), delivered, failed, delivered * size, seconds, cpu);
    fflush(stdout);
    must(ottla_producer_close(producer, 10000, NULL, &error), error);
    ottla_producer_free(producer);
}

static double assigned; /* when the group first assigned partitions */

static void heard(ottla_consumer *consumer, const ottla_event *event, void *opaque) {
    (void)consumer;
    (void)opaque;
    if (event->kind == OTTLA_EVENT_ASSIGNED && assigned == 0) assigned = now(CLOCK_MONOTONIC);
}

static void consume(ottla_config *config, size_t messages) {
    ottla_error *error = NULL;
    int in_group = !atoi(arg("assign", "0"));
    double cpu = now(CLOCK_PROCESS_CPUTIME_ID), start = now(CLOCK_MONOTONIC), first = 0;
    ottla_consumer *consumer = NULL;
    const char *topic = arg("topic", "t");
    set(config, "auto.offset.reset", "earliest");
    if (in_group) set(config, "group.id", arg("group", topic));
    must(ottla_consumer_new(config, &consumer, &error), error);
    if (in_group) {
        must(ottla_consumer_set_event_cb(consumer, heard, NULL, &error), error);
        must(ottla_consumer_subscribe(consumer, &topic, 1, &error), error);
    } else {
        must(ottla_consumer_assign_topics(consumer, &topic, 1, 30000, &error), error);
    }
    ottla_message message[64] = {OTTLA_MESSAGE_INIT};
    size_t got = 0, bytes = 0;
    while (got < messages) {
        ottla_batch *batch = NULL;
        must(ottla_consumer_poll(consumer, 1000, &batch, &error), error);
        size_t count = ottla_batch_len(batch);
        if (count && first == 0) first = now(CLOCK_MONOTONIC);
        for (size_t i = 0, read; i < count; i += read) {
            must(ottla_batch_messages(batch, i, message, sizeof message / sizeof *message, &read, &error), error);
            for (size_t k = 0; k < read; k++) bytes += message[k].value.len;
        }
        got += count;
        ottla_batch_free(batch);
    }
    double last = now(CLOCK_MONOTONIC);
    if (in_group) must(ottla_consumer_commit(consumer, 30000, &error), error);
    cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    printf("{\"client\":\"ottla-c\",\"version\":\"%s\",\"messages\":%zu,\"bytes\":%zu,\"seconds\":%.6f,\"join_s\":%.6f,\"cpu_s\":%.6f",
           ottla_version(), got, bytes, last - first, first - start, cpu);
    if (in_group) printf(",\"assigned_s\":%.6f,\"commit_s\":%.6f", assigned - start, now(CLOCK_MONOTONIC) - last);
    puts("}");
    fflush(stdout);
    ottla_consumer_free(consumer);
}

int main(int argc, char **argv) {
    argument_count = argc;
    arguments = argv;
    size_t messages = strtoul(arg("messages", "1000000"), NULL, 10), size = strtoul(arg("size", "100"), NULL, 10);
    ottla_config *config = ottla_config_new();
    set(config, "bootstrap.servers", arg("bootstrap", "127.0.0.1:9092"));
    if (strcmp(arg("mode", "produce"), "consume") == 0) consume(config, messages);
    else produce(config, messages, size);
    ottla_config_free(config);
    return 0;
}
