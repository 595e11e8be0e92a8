/* Reads a topic as a member of the group "maps", until it has been silent for a second. Start it twice: both share.
 *
 *     group 127.0.0.1:9092 gpsraw
 */
#include <ottla.h>

#include <stdio.h>
#include <stdlib.h>

static void die(const char *what, ottla_error *error) {
    fprintf(stderr, "%s: %s\n", what, error ? ottla_error_text(error) : "failed");
    ottla_error_free(error);
    exit(1);
}

/* Runs inside of the poll; partitions go to another member when it has returned. */
static void listen(ottla_consumer *consumer, const ottla_event *event, void *opaque) {
    (void)consumer;
    (void)opaque;
    if (event->kind == OTTLA_EVENT_ASSIGNED) fprintf(stderr, "assigned %zu partitions\n", event->partition_count);
    if (event->kind == OTTLA_EVENT_REVOKED) fprintf(stderr, "gave %zu partitions up\n", event->partition_count);
    if (event->kind == OTTLA_EVENT_LOST) fprintf(stderr, "lost: %s\n", ottla_error_text(event->error));
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: %s BOOTSTRAP_SERVERS TOPIC\n", argv[0]);
        return 2;
    }
    const char *keys[][2] = { { "bootstrap.servers", argv[1] }, { "group.id", "maps" }, { "auto.offset.reset", "earliest" } };
    ottla_error *error = NULL;
    ottla_config *config = ottla_config_new();
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (ottla_config_set(config, keys[i][0], keys[i][1], &error) != OTTLA_OK) die("configuration", error);
    ottla_consumer *consumer = NULL;
    if (ottla_consumer_new(config, &consumer, &error) != OTTLA_OK) die("consumer", error);
    ottla_config_free(config);
    if (ottla_consumer_set_event_cb(consumer, listen, NULL, &error) != OTTLA_OK) die("callback", error);
    const char *topics[] = { argv[2] };
    if (ottla_consumer_subscribe(consumer, topics, 1, &error) != OTTLA_OK) die("subscribe", error);

    size_t points = 0;
    for (;;) {
        ottla_batch *batch = NULL;
        /* The next poll says that what this one gave is processed. */
        int32_t code = ottla_consumer_poll(consumer, points ? 1000 : 30000, &batch, &error);
        if (code == OTTLA_ERROR_FENCED || (code != OTTLA_OK && ottla_error_retriable(error))) {
            fprintf(stderr, "%s\n", ottla_error_text(error));
            ottla_error_free(error);
            error = NULL;
            continue;
        }
        if (code != OTTLA_OK) die("poll", error);
        if (!batch) break;
        points += ottla_batch_len(batch);
        ottla_batch_free(batch);
    }
    ottla_closed closed = OTTLA_CLOSED_INIT;
    if (ottla_consumer_close_within(consumer, 10000, &closed, &error) != OTTLA_OK) die("close", error);
    ottla_consumer_free(consumer);
    printf("%zu points; left in time: %s\n", points, closed.finished ? "yes" : "no");
    return 0;
}
