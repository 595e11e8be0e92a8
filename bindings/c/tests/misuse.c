/* What a program must not do, done: every case is an error, and none a crash. Run under valgrind and sanitizers as well. */
#include "check.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void producer_errors(ottla_producer *producer, const char *words) {
    ottla_record record = OTTLA_RECORD_INIT;
    record.topic = "misuse";
    ottla_report report = OTTLA_REPORT_INIT;
    ottla_counts counts = OTTLA_COUNTS_INIT;
    size_t count = 77;
    char *text = NULL;
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_producer_send(producer, &record, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_producer_send_batch(producer, &record, 1, &count, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_producer_poll(producer, &report, 1, -1, &count, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_producer_connected(producer, -1, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_producer_ready(producer, -1, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_producer_flush(producer, -1, &counts, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_producer_close(producer, -1, &counts, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_producer_metrics(producer, &text, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_producer_failures(producer, NULL, NULL, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_producer_set_delivery_callback(producer, NULL, NULL, &error));
    CHECK(ottla_producer_wake(producer) == OTTLA_ERROR_ARGUMENT);
    CHECK(ottla_producer_fd(producer) == -1);
    CHECK(count == 77 && text == NULL);
}

static void consumer_errors(ottla_consumer *consumer, const char *words) {
    ottla_topic_partition partition = {"misuse", 0};
    ottla_batch *batch = NULL;
    const char *topic = "misuse";
    int64_t offset = 77;
    int32_t count = 77;
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_consumer_connected(consumer, -1, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_consumer_assign(consumer, &partition, 1, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_consumer_assign_topics(consumer, &topic, 1, -1, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_consumer_poll(consumer, -1, &batch, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_consumer_seek(consumer, "misuse", 0, 0, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_consumer_seek_to_beginning(consumer, "misuse", 0, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_consumer_seek_to_end(consumer, "misuse", 0, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_consumer_seek_to_timestamp(consumer, "misuse", 0, 0, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_consumer_position(consumer, "misuse", 0, -1, &offset, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_consumer_lag(consumer, "misuse", 0, &offset, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_consumer_pause(consumer, &partition, 1, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_consumer_resume(consumer, &partition, 1, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_consumer_beginning_offsets(consumer, &partition, 1, -1, &offset, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_consumer_end_offsets(consumer, &partition, 1, -1, &offset, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_consumer_offsets_for_times(consumer, &partition, &offset, 1, -1, &offset, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_consumer_partition_count(consumer, "misuse", -1, &count, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_consumer_close(consumer, &error));
    CHECK(ottla_consumer_wake(consumer) == OTTLA_ERROR_ARGUMENT);
    CHECK(ottla_consumer_fd(consumer) == -1);
    CHECK(batch == NULL && offset == 77 && count == 77);
}

static void admin_errors(ottla_admin *admin, const char *words) {
    int32_t count = 77;
    ottla_topics *topics = NULL;
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_admin_create_topic(admin, "t", 1, 1, NULL, -1, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_admin_delete_topic(admin, "t", -1, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_admin_create_partitions(admin, "t", 2, -1, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_admin_partition_count(admin, "t", -1, &count, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_admin_list_topics(admin, -1, &topics, &error));
    CHECK(ottla_admin_wake(admin) == OTTLA_ERROR_ARGUMENT);
    CHECK(count == 77 && topics == NULL);
}

static void cluster_errors(ottla_cluster *cluster, const char *words) {
    CHECK(ottla_cluster_bootstrap_servers(cluster) == NULL);
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_cluster_fault(cluster, "api=Produce drop", &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_cluster_clear_faults(cluster, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_cluster_disconnect_all(cluster, &error));
}

static void config_errors(ottla_config *config, const char *words) {
    ottla_producer *producer = NULL;
    ottla_consumer *consumer = NULL;
    ottla_admin *admin = NULL;
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_config_set(config, "linger.ms", "5", &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_producer_new(config, &producer, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_consumer_new(config, &consumer, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, words, ottla_admin_new(config, &admin, &error));
    CHECK(producer == NULL && consumer == NULL && admin == NULL);
}

/* NULL, garbage and handles of another type. */
static void wrong_handles(ottla_config *config) {
    producer_errors(NULL, "producer is NULL");
    consumer_errors(NULL, "consumer is NULL");
    admin_errors(NULL, "admin client is NULL");
    cluster_errors(NULL, "cluster is NULL");
    config_errors(NULL, "configuration is NULL");
    CHECK(ottla_producer_free(NULL) == OTTLA_OK && ottla_consumer_free(NULL) == OTTLA_OK);
    CHECK(ottla_admin_free(NULL) == OTTLA_OK && ottla_cluster_free(NULL) == OTTLA_OK && ottla_config_free(NULL) == OTTLA_OK);
    ottla_error_free(NULL);
    ottla_batch_free(NULL);
    ottla_topics_free(NULL);
    ottla_string_free(NULL);
    CHECK(ottla_batch_len(NULL) == 0 && ottla_topics_len(NULL) == 0 && ottla_topics_get(NULL, 0) == NULL);
    CHECK(ottla_error_code(NULL) == OTTLA_OK && strcmp(ottla_error_text(NULL), "") == 0);

    char on_the_stack[64];
    memset(on_the_stack, 0x5a, sizeof on_the_stack);
    void *garbage[] = {on_the_stack, on_the_stack + 1, (void *)(uintptr_t)1, (void *)(uintptr_t)0xdeadbeef, (void *)UINTPTR_MAX,
                       config};
    for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
        producer_errors((ottla_producer *)garbage[i], "no producer");
        consumer_errors((ottla_consumer *)garbage[i], "no consumer");
        admin_errors((ottla_admin *)garbage[i], "no admin client");
        cluster_errors((ottla_cluster *)garbage[i], "no cluster");
        if (garbage[i] != (void *)config) config_errors((ottla_config *)garbage[i], "no configuration");
        CHECK(ottla_producer_free((ottla_producer *)garbage[i]) == OTTLA_ERROR_ARGUMENT);
        CHECK(ottla_consumer_free((ottla_consumer *)garbage[i]) == OTTLA_ERROR_ARGUMENT);
    }
}

/* Arguments that are NULL or senseless, on clients that are right. */
static void wrong_arguments(ottla_producer *producer, ottla_consumer *consumer, ottla_config *config) {
    ottla_record record = OTTLA_RECORD_INIT;
    FAILS(OTTLA_ERROR_ARGUMENT, "record is NULL", ottla_producer_send(producer, NULL, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, "topic is NULL", ottla_producer_send(producer, &record, &error));
    CHECK(ottla_producer_send(producer, &record, NULL) == OTTLA_ERROR_ARGUMENT); /* nobody wants the error */
    record.topic = "\xff\xfe";
    FAILS(OTTLA_ERROR_ARGUMENT, "UTF-8", ottla_producer_send(producer, &record, &error));
    record.topic = "misuse";
    record.partition = -7;
    FAILS(OTTLA_ERROR_ARGUMENT, "-7", ottla_producer_send(producer, &record, &error));
    record.partition = -1;
    record.header_count = 3;
    FAILS(OTTLA_ERROR_ARGUMENT, "headers is NULL", ottla_producer_send(producer, &record, &error));
    record.header_count = 0;
    record.struct_size = 0;
    FAILS(OTTLA_ERROR_ARGUMENT, "struct_size", ottla_producer_send(producer, &record, &error));
    record.struct_size = (size_t)-1;
    FAILS(OTTLA_ERROR_ARGUMENT, "struct_size", ottla_producer_send(producer, &record, &error));

    ottla_report report = OTTLA_REPORT_INIT;
    size_t count = 77;
    FAILS(OTTLA_ERROR_ARGUMENT, "count is NULL", ottla_producer_poll(producer, &report, 1, 0, NULL, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, "reports is NULL", ottla_producer_poll(producer, NULL, 1, 0, &count, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, "capacity", ottla_producer_poll(producer, &report, 0, 0, &count, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, "key is NULL", ottla_config_set(config, NULL, "5", &error));
    FAILS(OTTLA_ERROR_ARGUMENT, "value is NULL", ottla_config_set(config, "linger.ms", NULL, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, "producer is NULL", ottla_producer_new(config, NULL, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, "batch is NULL", ottla_consumer_poll(consumer, 0, NULL, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, "partitions is NULL", ottla_consumer_assign(consumer, NULL, 1, &error));
    ottla_message message = OTTLA_MESSAGE_INIT;
    FAILS(OTTLA_ERROR_ARGUMENT, "batch is NULL", ottla_batch_get(NULL, 0, &message, &error));
    size_t read = 0;
    FAILS(OTTLA_ERROR_ARGUMENT, "batch is NULL", ottla_batch_messages(NULL, 0, &message, 1, &read, &error));
    FAILS(OTTLA_ERROR_ARGUMENT, "99", ottla_log_start(99, &error));
    CHECK(ottla_kind_name(OTTLA_OK) == NULL && strcmp(ottla_kind_name(OTTLA_ERROR_QUEUE_FULL), "queue_full") == 0);
}

/* A program that was compiled when the structures were smaller, and one when they are larger. */
static void other_sizes(ottla_producer *producer) {
    struct {
        ottla_record record;
        char added_later[64];
    } larger = {OTTLA_RECORD_INIT, {0}};
    larger.record.struct_size = sizeof larger;
    larger.record.topic = "misuse";
    OK(ottla_producer_send(producer, &larger.record, &error));

    /* Up to the value, as if headers and all that follows were not invented yet; behind it, what must not be read. */
    ottla_record smaller = OTTLA_RECORD_INIT;
    smaller.topic = "misuse";
    smaller.header_count = 1000;
    smaller.partition = -99;
    smaller.struct_size = offsetof(ottla_record, headers);
    OK(ottla_producer_send(producer, &smaller, &error));

    ottla_counts counts = OTTLA_COUNTS_INIT;
    counts.struct_size = offsetof(ottla_counts, pending);
    counts.pending = 4711;
    OK(ottla_producer_flush(producer, 30000, &counts, &error));
    CHECK(counts.delivered <= 2); /* one may have been delivered before the call */
    CHECK(counts.pending == 4711 && counts.struct_size == offsetof(ottla_counts, pending));
    OK(ottla_producer_close(producer, 30000, &counts, &error));
    CHECK(counts.delivered == 3); /* and the one before the fork */
    CHECK(counts.pending == 4711 && counts.struct_size == offsetof(ottla_counts, pending));
}

static void closed(ottla_producer *producer, ottla_consumer *consumer) {
    ottla_counts counts = OTTLA_COUNTS_INIT;
    ottla_record record = OTTLA_RECORD_INIT;
    record.topic = "misuse";
    OK(ottla_producer_close(producer, 30000, &counts, &error));
    CHECK(counts.delivered == 3 && counts.pending == 0);
    FAILS(OTTLA_ERROR_CLOSED, "closed", ottla_producer_send(producer, &record, &error));
    ottla_report reports[8] = {OTTLA_REPORT_INIT};
    size_t count = 0;
    OK(ottla_producer_poll(producer, reports, 8, -1, &count, &error)); /* what was delivered before is still told */
    CHECK(count == 2);
    FAILS(OTTLA_ERROR_CLOSED, "closed", ottla_producer_poll(producer, reports, 8, -1, &count, &error));

    ottla_batch *batch = NULL;
    int64_t offset = 0;
    OK(ottla_consumer_close(consumer, &error));
    OK(ottla_consumer_close(consumer, &error));
    FAILS(OTTLA_ERROR_CLOSED, "closed", ottla_consumer_poll(consumer, -1, &batch, &error));
    FAILS(OTTLA_ERROR_CLOSED, "closed", ottla_consumer_position(consumer, "misuse", 0, -1, &offset, &error));
    FAILS(OTTLA_ERROR_CLOSED, "closed", ottla_consumer_seek(consumer, "misuse", 0, 0, &error));
    CHECK(batch == NULL);
}

static int readable(int fd, int timeout_ms) {
    struct pollfd watched = {fd, POLLIN, 0};
    return poll(&watched, 1, timeout_ms) == 1;
}

/* A descriptor may be readable for nothing, but not for ever. */
static void silence(ottla_consumer *consumer, int fd) {
    for (int polls = 0; readable(fd, 0); polls++) {
        ottla_batch *some = NULL;
        OK(ottla_consumer_poll(consumer, 0, &some, &error));
        ottla_batch_free(some);
        CHECK(polls < 1000);
    }
}

static void forked(ottla_cluster *cluster, ottla_producer *producer, ottla_consumer *consumer) {
    char servers[256];
    snprintf(servers, sizeof servers, "%s", ottla_cluster_bootstrap_servers(cluster));
    /* The parent watches both: reports that it has not taken yet, and a consumer that has nothing. */
    int reports = ottla_producer_fd(producer), records = ottla_consumer_fd(consumer);
    ottla_record told = OTTLA_RECORD_INIT;
    told.topic = "misuse";
    told.opaque = servers;
    OK(ottla_producer_send(producer, &told, &error));
    CHECK(readable(reports, 30000));
    silence(consumer, records);
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        ottla_record record = OTTLA_RECORD_INIT;
        record.topic = "misuse";
        ottla_batch *batch = NULL;
        FAILS(OTTLA_ERROR_FORKED, "fork", ottla_producer_send(producer, &record, &error));
        FAILS(OTTLA_ERROR_FORKED, "fork", ottla_producer_flush(producer, -1, NULL, &error));
        FAILS(OTTLA_ERROR_FORKED, "fork", ottla_consumer_poll(consumer, -1, &batch, &error));
        ottla_report report = OTTLA_REPORT_INIT;
        size_t count = 0;
        FAILS(OTTLA_ERROR_FORKED, "fork", ottla_producer_poll(producer, &report, 1, 0, &count, &error));
        FAILS(OTTLA_ERROR_FORKED, "fork", ottla_cluster_disconnect_all(cluster, &error));
        CHECK(ottla_producer_free(producer) == OTTLA_OK);
        CHECK(ottla_consumer_free(consumer) == OTTLA_OK);
        producer_errors(producer, "freed");
        /* A client of its own works. */
        ottla_config *config = ottla_config_new();
        set(config, "bootstrap.servers", servers);
        ottla_producer *own = producer_with(config);
        ottla_counts counts = OTTLA_COUNTS_INIT;
        OK(ottla_producer_send(own, &record, &error));
        OK(ottla_producer_close(own, 30000, &counts, &error));
        CHECK(counts.delivered == 1);
        CHECK(ottla_producer_free(own) == OTTLA_OK);
        /* Not by exit: what only the parent's threads pointed to looks like a leak in a process that has not got them. */
        raise(SIGKILL);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    /* What the child did with its copies neither rang the parent's descriptors nor silenced them. */
    CHECK(readable(reports, 0));
    silence(consumer, records);
    ottla_report report = OTTLA_REPORT_INIT;
    size_t count = 0;
    OK(ottla_producer_poll(producer, &report, 1, 0, &count, &error));
    CHECK(count == 1 && report.opaque == servers);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    ottla_cluster *cluster = cluster_with_topic("misuse", 1);
    ottla_config *config = config_of(cluster);
    ottla_producer *producer = NULL;
    ottla_consumer *consumer = NULL;
    OK(ottla_producer_new(config, &producer, &error));
    OK(ottla_consumer_new(config, &consumer, &error));
    OK(ottla_consumer_connected(consumer, 30000, &error));

    wrong_handles(config);
    wrong_arguments(producer, consumer, config);
    forked(cluster, producer, consumer);
    other_sizes(producer); /* and the parent's producer was not hurt by the child */
    closed(producer, consumer);

    CHECK(ottla_producer_free(producer) == OTTLA_OK);
    producer_errors(producer, "freed");
    CHECK(ottla_producer_free(producer) == OTTLA_ERROR_ARGUMENT);
    CHECK(ottla_consumer_free(consumer) == OTTLA_OK);
    consumer_errors(consumer, "freed");
    CHECK(ottla_consumer_free(consumer) == OTTLA_ERROR_ARGUMENT);
    CHECK(ottla_config_free(config) == OTTLA_OK);
    config_errors(config, "freed");
    CHECK(ottla_config_free(config) == OTTLA_ERROR_ARGUMENT);
    OK(ottla_cluster_stop(cluster, &error));
    cluster_errors(cluster, "freed");
    FAILS(OTTLA_ERROR_ARGUMENT, "freed", ottla_cluster_stop(cluster, &error));
    printf("misuse: all of it refused\n");
    return 0;
}
