/* Reads a topic as a member of the group "workers" and works on several records at a time, those of a key in order.
 *
 *     parallel 127.0.0.1:9092 gpsraw
 *
 * Each key has its worker, and all workers read the same batch: nothing is copied. The next poll says that the batch before is
 * processed, so it comes when all workers are done with it. */
#include <ottla.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { WORKERS = 4 };

static void die(const char *what, ottla_error *error) {
    fprintf(stderr, "%s: %s\n", what, error ? ottla_error_text(error) : "failed");
    ottla_error_free(error);
    exit(1);
}

typedef struct worker {
    pthread_t thread;
    int32_t number;
    const ottla_batch *batch;
    size_t done;
} worker;

static void *work(void *opaque) {
    worker *self = opaque;
    for (size_t i = 0; i < ottla_batch_len(self->batch); i++) {
        ottla_message message = OTTLA_MESSAGE_INIT;
        int32_t number = 0;
        ottla_error *error = NULL;
        if (ottla_batch_get(self->batch, i, &message, &error) != OTTLA_OK) die("batch", error);
        if (message.key.data && ottla_partition_for_key("default", message.key, WORKERS, &number, &error) != OTTLA_OK) die("key", error);
        if (number == self->number) self->done++; /* the work */
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: %s BOOTSTRAP_SERVERS TOPIC\n", argv[0]);
        return 2;
    }
    const char *keys[][2] = { { "bootstrap.servers", argv[1] }, { "group.id", "workers" }, { "auto.offset.reset", "earliest" } };
    ottla_error *error = NULL;
    ottla_config *config = ottla_config_new();
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (ottla_config_set(config, keys[i][0], keys[i][1], &error) != OTTLA_OK) die("configuration", error);
    ottla_consumer *consumer = NULL;
    if (ottla_consumer_new(config, &consumer, &error) != OTTLA_OK) die("consumer", error);
    ottla_config_free(config);
    const char *topics[] = { argv[2] };
    if (ottla_consumer_subscribe(consumer, topics, 1, &error) != OTTLA_OK) die("subscribe", error);

    worker workers[WORKERS] = { 0 };
    size_t points = 0;
    for (;;) {
        ottla_batch *batch = NULL;
        /* Silence for two seconds ends this program; a service would simply go on. */
        int32_t code = ottla_consumer_poll(consumer, points ? 2000 : 30000, &batch, &error);
        if (code == OTTLA_ERROR_FENCED || (code != OTTLA_OK && ottla_error_retriable(error))) {
            fprintf(stderr, "%s\n", ottla_error_text(error));
            ottla_error_free(error);
            error = NULL;
            continue;
        }
        if (code != OTTLA_OK) die("poll", error);
        if (!batch) break;
        for (int32_t i = 0; i < WORKERS; i++) {
            workers[i].number = i;
            workers[i].batch = batch;
            if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) die("a thread", NULL);
        }
        for (int32_t i = 0; i < WORKERS; i++) pthread_join(workers[i].thread, NULL);
        points += ottla_batch_len(batch);
        ottla_batch_free(batch);
    }
    ottla_closed closed = OTTLA_CLOSED_INIT;
    if (ottla_consumer_close_within(consumer, 10000, &closed, &error) != OTTLA_OK) die("close", error);
    ottla_consumer_free(consumer);
    size_t done = 0;
    for (int32_t i = 0; i < WORKERS; i++) done += workers[i].done;
    printf("%zu points, %zu worked on; left in time: %s\n", points, done, closed.finished ? "yes" : "no");
    return 0;
}
