/* Waiting in the manner of C: descriptors in poll(2) and epoll, callbacks, wake-ups from threads and signal handlers, a full
 * buffer, deadlines, faults. */
#include "check.h"

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static const char *topic = "events";

static int readable(int fd, int timeout_ms) {
    struct pollfd watched = {fd, POLLIN, 0};
    return poll(&watched, 1, timeout_ms) == 1;
}

static void send_one(ottla_producer *producer, void *opaque) {
    ottla_record record = OTTLA_RECORD_INIT;
    record.topic = topic;
    record.partition = 0;
    record.value = bytes("event");
    record.opaque = opaque;
    OK(ottla_producer_send(producer, &record, &error));
}

/* The descriptor is readable when there are reports, and silent when they were taken. */
static void reports_by_descriptor(ottla_cluster *cluster) {
    ottla_producer *producer = producer_with(config_of(cluster));
    int fd = ottla_producer_fd(producer);
    CHECK(fd >= 0 && !readable(fd, 0));
    for (uintptr_t i = 0; i < 10; i++) send_one(producer, (void *)(i * 3));
    ottla_report reports[4] = {OTTLA_REPORT_INIT};
    uintptr_t told = 0;
    while (told < 10) {
        CHECK(readable(fd, 30000));
        size_t count = 0;
        OK(ottla_producer_poll(producer, reports, 4, 0, &count, &error));
        for (size_t i = 0; i < count; i++) CHECK(reports[i].opaque == (void *)(told++ * 3));
    }
    size_t count = 1;
    OK(ottla_producer_poll(producer, reports, 4, 0, &count, &error));
    CHECK(count == 0);
    /* Whoever rang for reports that are taken already may still be about to: it is silent after a poll or two more. */
    while (readable(fd, 0)) OK(ottla_producer_poll(producer, reports, 4, 0, &count, &error));
    CHECK(count == 0);
    CHECK(ottla_producer_free(producer) == OTTLA_OK);
}

struct told {
    ottla_producer *producer;
    pthread_t thread;
    int count;
};

static void on_delivery(const ottla_report *report, void *user_data) {
    struct told *told = user_data;
    CHECK(pthread_equal(pthread_self(), told->thread));
    CHECK(report->code == OTTLA_OK && report->opaque == told);
    size_t count = 0;
    ottla_report more = OTTLA_REPORT_INIT;
    FAILS(OTTLA_ERROR_ARGUMENT, "callback", ottla_producer_poll(told->producer, &more, 1, 0, &count, &error));
    if (++told->count == 1) send_one(told->producer, told); /* sending from inside is allowed */
}

static void reports_by_callback(ottla_cluster *cluster) {
    struct told told = {producer_with(config_of(cluster)), pthread_self(), 0};
    OK(ottla_producer_set_delivery_callback(told.producer, on_delivery, &told, &error));
    send_one(told.producer, &told);
    size_t count = 0, all = 0;
    while (told.count < 2) {
        OK(ottla_producer_poll(told.producer, NULL, 0, 30000, &count, &error));
        all += count;
    }
    CHECK(all == 2);
    CHECK(ottla_producer_free(told.producer) == OTTLA_OK);
}

static ottla_consumer *consumer_at_end(ottla_cluster *cluster) {
    ottla_config *config = config_of(cluster);
    ottla_consumer *consumer = NULL;
    OK(ottla_consumer_new(config, &consumer, &error));
    CHECK(ottla_config_free(config) == OTTLA_OK);
    ottla_topic_partition partition = {topic, 0};
    OK(ottla_consumer_assign(consumer, &partition, 1, &error));
    OK(ottla_consumer_seek_to_end(consumer, topic, 0, &error));
    int64_t position = 0;
    OK(ottla_consumer_position(consumer, topic, 0, 30000, &position, &error)); /* so that the end is that of now */
    return consumer;
}

/* Two clients in one epoll loop. */
static void loop(ottla_cluster *cluster) {
    ottla_producer *producer = producer_with(config_of(cluster));
    ottla_consumer *consumer = consumer_at_end(cluster);
    int loop = epoll_create1(EPOLL_CLOEXEC);
    CHECK(loop >= 0);
    struct epoll_event producing = {.events = EPOLLIN, .data.u32 = 1}, consuming = {.events = EPOLLIN, .data.u32 = 2}, event;
    CHECK(epoll_ctl(loop, EPOLL_CTL_ADD, ottla_producer_fd(producer), &producing) == 0);
    CHECK(epoll_ctl(loop, EPOLL_CTL_ADD, ottla_consumer_fd(consumer), &consuming) == 0);
    int sent = 0, reported = 0, received = 0;
    send_one(producer, &sent);
    while (++sent < 20) send_one(producer, &sent);
    while (reported < sent || received < sent) {
        CHECK(epoll_wait(loop, &event, 1, 30000) == 1);
        if (event.data.u32 == 1) {
            ottla_report reports[8] = {OTTLA_REPORT_INIT};
            size_t count = 0;
            OK(ottla_producer_poll(producer, reports, 8, 0, &count, &error));
            reported += (int)count;
        } else {
            ottla_batch *batch = NULL;
            OK(ottla_consumer_poll(consumer, 0, &batch, &error));
            received += (int)ottla_batch_len(batch);
            ottla_batch_free(batch);
        }
    }
    CHECK(reported == sent && received == sent);
    close(loop);
    CHECK(ottla_producer_free(producer) == OTTLA_OK && ottla_consumer_free(consumer) == OTTLA_OK);
}

struct wakes {
    ottla_producer *producer;
    ottla_consumer *consumer;
};

static void *wake_both(void *argument) {
    struct wakes *wakes = argument;
    CHECK(ottla_consumer_wake(wakes->consumer) == OTTLA_OK);
    CHECK(ottla_producer_wake(wakes->producer) == OTTLA_OK);
    return NULL;
}

static ottla_consumer *volatile interrupted_consumer;
static ottla_producer *volatile interrupted_producer;
static void on_alarm(int signal_number) {
    (void)signal_number;
    if (interrupted_consumer) ottla_consumer_wake(interrupted_consumer);
    if (interrupted_producer) ottla_producer_wake(interrupted_producer);
}

static volatile sig_atomic_t seen;
static void only_seen(int signal_number) {
    (void)signal_number;
    seen = 1;
}

static void alarm_in(int ms) {
    struct itimerval timer = {{0, 0}, {0, ms * 1000}};
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

/* Waits for ever are ended from a thread and from a signal handler; a wake-up before the wait counts; signals alone end nothing. */
static void wake_ups(ottla_cluster *cluster) {
    struct wakes wakes = {producer_with(config_of(cluster)), consumer_at_end(cluster)};
    ottla_batch *batch = NULL;
    ottla_report report = OTTLA_REPORT_INIT;
    size_t count = 77;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, wake_both, &wakes) == 0);
    FAILS(OTTLA_ERROR_INTERRUPTED, "ended", ottla_consumer_poll(wakes.consumer, -1, &batch, &error));
    FAILS(OTTLA_ERROR_INTERRUPTED, "ended", ottla_producer_poll(wakes.producer, &report, 1, -1, &count, &error));
    CHECK(pthread_join(thread, NULL) == 0);
    OK(ottla_consumer_poll(wakes.consumer, 0, &batch, &error)); /* once woken, once told */
    CHECK(batch == NULL && count == 77);

    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm;
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    interrupted_consumer = wakes.consumer;
    alarm_in(20);
    FAILS(OTTLA_ERROR_INTERRUPTED, "ended", ottla_consumer_poll(wakes.consumer, -1, &batch, &error));
    interrupted_consumer = NULL;
    interrupted_producer = wakes.producer;
    alarm_in(20);
    FAILS(OTTLA_ERROR_INTERRUPTED, "ended", ottla_producer_poll(wakes.producer, &report, 1, -1, &count, &error));
    /* A flush that hangs, because the broker does not answer. */
    OK(ottla_cluster_fault(cluster, "api=Produce drop_response", &error));
    send_one(wakes.producer, NULL);
    alarm_in(20);
    FAILS(OTTLA_ERROR_INTERRUPTED, "ended", ottla_producer_flush(wakes.producer, -1, NULL, &error));
    interrupted_producer = NULL;
    OK(ottla_cluster_clear_faults(cluster, &error));
    /* What was sent is in the log before somebody looks for its end. */
    while (batch == NULL) OK(ottla_consumer_poll(wakes.consumer, 30000, &batch, &error));
    ottla_batch_free(batch);
    batch = NULL;

    ottla_consumer *quiet = consumer_at_end(cluster);
    action.sa_handler = only_seen;
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    alarm_in(20);
    OK(ottla_consumer_poll(quiet, 200, &batch, &error));
    CHECK(seen && batch == NULL && ottla_consumer_free(quiet) == OTTLA_OK);
    CHECK(ottla_producer_free(wakes.producer) == OTTLA_OK && ottla_consumer_free(wakes.consumer) == OTTLA_OK);
}

static void *wait_for_records(void *consumer) {
    ottla_batch *batch = NULL;
    ottla_error *error = NULL;
    int32_t code = ottla_consumer_poll(consumer, -1, &batch, &error);
    CHECK(code == OTTLA_ERROR_CLOSED || code == OTTLA_ERROR_INTERRUPTED || code == OTTLA_ERROR_ARGUMENT);
    ottla_error_free(error);
    return NULL;
}

/* Whoever waits is let go when another thread closes or frees the client; it may as well come too late, and is told so. */
static void closed_meanwhile(ottla_cluster *cluster) {
    for (int frees = 0; frees < 2; frees++) {
        ottla_consumer *consumer = consumer_at_end(cluster);
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, wait_for_records, consumer) == 0);
        if (frees) {
            ottla_batch *batch = NULL;
            CHECK(ottla_consumer_free(consumer) == OTTLA_OK);
            FAILS(OTTLA_ERROR_ARGUMENT, "freed", ottla_consumer_poll(consumer, -1, &batch, &error));
        } else {
            OK(ottla_consumer_close(consumer, &error));
        }
        CHECK(pthread_join(thread, NULL) == 0);
        if (!frees) CHECK(ottla_consumer_free(consumer) == OTTLA_OK);
    }
}

/* A full buffer refuses, and says when there is room again; nothing is lost or told twice. */
static void full_buffer(ottla_cluster *cluster) {
    ottla_config *config = config_of(cluster);
    set(config, "buffer.memory", "65536");
    set(config, "batch.size", "16384");
    ottla_producer *producer = producer_with(config);
    OK(ottla_producer_connected(producer, 30000, &error));
    char value[1000];
    memset(value, 'v', sizeof value);
    ottla_record record = OTTLA_RECORD_INIT;
    record.topic = topic;
    record.partition = 0;
    record.value.data = value;
    record.value.len = sizeof value;
    size_t sent = 0, told = 0, refused = 0, count = 0, wanted = (size_t)scaled(2000) + 200;
    ottla_report reports[100] = {OTTLA_REPORT_INIT};
    while (sent < wanted) {
        record.opaque = (void *)(uintptr_t)sent;
        ottla_error *error = NULL;
        int32_t code = ottla_producer_send(producer, &record, &error);
        if (code == OTTLA_OK) {
            sent++;
            continue;
        }
        CHECK(code == OTTLA_ERROR_QUEUE_FULL && ottla_error_retriable(error));
        ottla_error_free(error);
        refused++;
        OK(ottla_producer_ready(producer, 30000, &error));
    }
    CHECK(refused > 0);
    OK(ottla_producer_flush(producer, 30000, NULL, &error));
    while (told < wanted) {
        OK(ottla_producer_poll(producer, reports, 100, 30000, &count, &error));
        for (size_t i = 0; i < count; i++) CHECK(reports[i].opaque == (void *)(uintptr_t)told++);
    }
    CHECK(ottla_producer_free(producer) == OTTLA_OK);
}

/* Until one request is on its way. */
static void await_request(ottla_producer *producer) {
    for (int under_way = 0; under_way != 1;) {
        char *metrics = NULL;
        OK(ottla_producer_metrics(producer, &metrics, &error));
        const char *value = strstr(metrics, "\nottla_producer_requests_in_flight{");
        CHECK(value != NULL && (value = strstr(value, "} ")) != NULL);
        under_way = atoi(value + 2);
        ottla_string_free(metrics);
    }
}

/* What failed says why, and whether it may have been written; close returns in time with everything told. */
static void faults(ottla_cluster *cluster) {
    ottla_config *config = config_of(cluster);
    set(config, "enable.idempotence", "false");
    set(config, "retries", "0");
    ottla_producer *producer = producer_with(config);
    OK(ottla_producer_connected(producer, 30000, &error));
    OK(ottla_cluster_fault(cluster, "api=Produce error_after=NOT_LEADER_OR_FOLLOWER times=1", &error));
    int opaque;
    send_one(producer, &opaque);
    ottla_report report = OTTLA_REPORT_INIT;
    size_t count = 0;
    OK(ottla_producer_poll(producer, &report, 1, 30000, &count, &error));
    CHECK(count == 1 && report.code == 6 && report.opaque == &opaque && report.offset == -1);
    CHECK(ottla_error_code(report.error) == 6 && strcmp(ottla_error_name(report.error), "NOT_LEADER_OR_FOLLOWER") == 0);
    CHECK(ottla_error_retriable(report.error) && strcmp(ottla_error_topic(report.error), topic) == 0);
    CHECK(report.persisted == ottla_error_persisted(report.error));

    OK(ottla_cluster_fault(cluster, "api=Produce error_before=INVALID_RECORD times=1", &error));
    ottla_record record = OTTLA_RECORD_INIT;
    record.topic = topic;
    record.partition = 0;
    record.flags = OTTLA_RECORD_NO_REPORT;
    OK(ottla_producer_send(producer, &record, &error));
    ottla_counts counts = OTTLA_COUNTS_INIT;
    OK(ottla_producer_flush(producer, 30000, &counts, &error));
    CHECK(counts.delivered == 0 && counts.failed + counts.unknown <= 1); /* it may have failed before the call */
    uint64_t failures = 0;
    ottla_error *first = NULL;
    OK(ottla_producer_failures(producer, &failures, &first, &error));
    CHECK(failures == 1 && ottla_error_code(first) == 87);
    ottla_error_free(first);
    OK(ottla_producer_failures(producer, &failures, &first, &error));
    CHECK(failures == 0 && first == NULL);

    OK(ottla_cluster_fault(cluster, "api=Produce drop_response", &error));
    send_one(producer, &opaque);
    FAILS(OTTLA_ERROR_TIMEOUT, "not settled", ottla_producer_flush(producer, 50, &counts, &error));
    CHECK(counts.pending == 1);
    await_request(producer);
    OK(ottla_producer_close(producer, 50, &counts, &error));
    CHECK(counts.unknown >= 1);
    OK(ottla_producer_poll(producer, &report, 1, 0, &count, &error));
    CHECK(count == 1 && report.persisted == OTTLA_PERSISTED_POSSIBLY && ottla_error_kind(report.error) == OTTLA_ERROR_CLOSED);
    FAILS(OTTLA_ERROR_CLOSED, "closed", ottla_producer_poll(producer, &report, 1, -1, &count, &error));
    CHECK(ottla_producer_free(producer) == OTTLA_OK);
    OK(ottla_cluster_clear_faults(cluster, &error));
}

static ottla_producer *producer_at(const char *servers) {
    ottla_config *config = ottla_config_new();
    set(config, "bootstrap.servers", servers);
    return producer_with(config);
}

/* A producer without a broker takes records, and tells of them when it gives up. */
static void nobody_there(void) {
    ottla_producer *producer = producer_at("127.0.0.1:1");
    FAILS(OTTLA_ERROR_CONNECT, "127.0.0.1:1", ottla_producer_connected(producer, -1, &error));
    CHECK(ottla_producer_free(producer) == OTTLA_OK);

    /* Somebody who takes the call and says nothing. */
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int silent = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(silent >= 0 && bind(silent, (struct sockaddr *)&address, sizeof address) == 0 && listen(silent, 8) == 0);
    CHECK(getsockname(silent, (struct sockaddr *)&address, &size) == 0);
    char servers[64];
    snprintf(servers, sizeof servers, "127.0.0.1:%d", ntohs(address.sin_port));
    producer = producer_at(servers);
    send_one(producer, NULL);
    FAILS(OTTLA_ERROR_TIMEOUT, "connecting", ottla_producer_connected(producer, 20, &error));
    ottla_counts counts = OTTLA_COUNTS_INIT;
    OK(ottla_producer_close(producer, 50, &counts, &error));
    CHECK(counts.failed == 1);
    ottla_report report = OTTLA_REPORT_INIT;
    size_t count = 0;
    OK(ottla_producer_poll(producer, &report, 1, -1, &count, &error));
    CHECK(count == 1 && report.code == OTTLA_ERROR_CLOSED && report.partition == -1 && report.persisted == OTTLA_PERSISTED_NO);
    CHECK(ottla_producer_free(producer) == OTTLA_OK);
    close(silent);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    ottla_cluster *cluster = cluster_with_topic(topic, 1);
    reports_by_descriptor(cluster);
    reports_by_callback(cluster);
    loop(cluster);
    wake_ups(cluster);
    closed_meanwhile(cluster);
    full_buffer(cluster);
    faults(cluster);
    nobody_there();
    OK(ottla_cluster_stop(cluster, &error));
    printf("events: all told\n");
    return 0;
}
