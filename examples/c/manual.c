/* Reads a topic and keeps the positions itself, beside its result, in a file.
 *
 *     manual 127.0.0.1:9092 gpsraw state.txt
 *
 * The file is replaced as a whole, so no record is counted twice or left out, whenever this program ends. A database does the same
 * with one transaction. Run it again: it goes on there. */
#include <ottla.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { PARTITIONS = 64 };

static void die(const char *what, ottla_error *error) {
    fprintf(stderr, "%s: %s\n", what, error ? ottla_error_text(error) : "failed");
    ottla_error_free(error);
    exit(1);
}

static void save(const char *file, uint64_t points, const int64_t *positions, int32_t count) {
    char name[4096];
    snprintf(name, sizeof name, "%s.new", file);
    FILE *out = fopen(name, "w");
    if (!out) die(name, NULL);
    fprintf(out, "%" PRIu64 "\n", points);
    for (int32_t i = 0; i < count; i++) fprintf(out, "%" PRId64 "\n", positions[i]);
    if (fclose(out) != 0 || rename(name, file) != 0) die(file, NULL);
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: %s BOOTSTRAP_SERVERS TOPIC FILE\n", argv[0]);
        return 2;
    }
    const char *topic = argv[2], *file = argv[3];
    ottla_error *error = NULL;
    ottla_consumer *consumer = NULL;
    ottla_config *config = ottla_config_new();
    if (ottla_config_set(config, "bootstrap.servers", argv[1], &error) != OTTLA_OK) die("configuration", error);
    if (ottla_consumer_new(config, &consumer, &error) != OTTLA_OK) die("consumer", error);
    ottla_config_free(config);

    int32_t count = 0;
    if (ottla_consumer_partition_count(consumer, topic, -1, &count, &error) != OTTLA_OK) die(topic, error);
    if (count > PARTITIONS) die("too many partitions for an example", NULL);
    ottla_topic_partition partitions[PARTITIONS];
    for (int32_t i = 0; i < count; i++) partitions[i] = (ottla_topic_partition){ topic, i };
    if (ottla_consumer_assign(consumer, partitions, (size_t)count, &error) != OTTLA_OK) die("assign", error);

    uint64_t points = 0;
    int64_t positions[PARTITIONS] = { 0 };
    FILE *in = fopen(file, "r");
    if (in && fscanf(in, "%" SCNu64, &points) != 1) die("the file has no number", NULL);
    for (int32_t i = 0; in && i < count && fscanf(in, "%" SCNd64, &positions[i]) == 1; i++) {}
    if (in) fclose(in);
    for (int32_t i = 0; i < count; i++)
        if (ottla_consumer_seek(consumer, topic, i, positions[i], &error) != OTTLA_OK) die("seek", error);

    uint64_t before = points;
    for (;;) {
        ottla_batch *batch = NULL;
        /* Silence for two seconds ends this program; a service would simply go on. */
        if (ottla_consumer_poll(consumer, 2000, &batch, &error) != OTTLA_OK) die("poll", error);
        if (!batch) break;
        ottla_topic_partition read[PARTITIONS];
        int64_t next[PARTITIONS];
        size_t partitions_read = 0;
        if (ottla_batch_next_offsets(batch, read, next, PARTITIONS, &partitions_read, &error) != OTTLA_OK) die("batch", error);
        for (size_t i = 0; i < partitions_read; i++) positions[read[i].partition] = next[i];
        points += ottla_batch_len(batch);
        ottla_batch_free(batch);
        save(file, points, positions, count);
    }
    ottla_consumer_free(consumer);
    printf("%" PRIu64 " points more, %" PRIu64 " in all\n", points - before, points);
    return 0;
}
