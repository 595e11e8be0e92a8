/* Real GPS tracks into a topic and back.
 *
 *     gpsraw 127.0.0.1:9092 examples/data/gpsraw.jsonl
 *
 * Each line of the file is one point, its track the key, so that all points of a track keep their order in one partition. The program
 * sends all of them, reads its delivery reports, reads the topic from its beginning, and says what came of each track.
 */
#include <ottla.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PARTITIONS = 2, TRACKS = 16, NAME = 64, LINE = 512 };

static const char *topic = "gpsraw";

static void die(const char *what, ottla_error *error) {
    fprintf(stderr, "%s: %s\n", what, error ? ottla_error_text(error) : "failed");
    ottla_error_free(error);
    exit(1);
}

/* The text between `before` and the next quote. */
static ottla_bytes field(const char *line, size_t len, const char *before) {
    ottla_bytes found = {NULL, 0};
    size_t skip = strlen(before);
    for (size_t i = 0; i + skip < len; i++) {
        if (memcmp(line + i, before, skip) != 0) continue;
        const char *text = line + i + skip, *end = memchr(text, '"', len - i - skip);
        found.data = text;
        found.len = end ? (size_t)(end - text) : 0;
        break;
    }
    return found;
}

static size_t failed, delivered;

static void reports(ottla_producer *producer, int32_t timeout_ms) {
    ottla_report told[256] = {OTTLA_REPORT_INIT};
    ottla_error *error = NULL;
    size_t count = 0;
    do {
        if (ottla_producer_poll(producer, told, 256, timeout_ms, &count, &error) != OTTLA_OK) die("poll", error);
        for (size_t i = 0; i < count; i++) {
            if (told[i].code == OTTLA_OK) {
                delivered++;
            } else {
                failed++;
                fprintf(stderr, "%s: written: %s\n", ottla_error_text(told[i].error),
                        told[i].persisted == OTTLA_PERSISTED_NO ? "no" : "possibly");
            }
        }
        timeout_ms = 0;
    } while (count == 256);
}

static size_t produce(const ottla_config *config, const char *path) {
    ottla_producer *producer = NULL;
    ottla_error *error = NULL;
    char line[LINE];
    size_t sent = 0;
    FILE *file = fopen(path, "r");
    if (!file) die(path, NULL);
    if (ottla_producer_new(config, &producer, &error) != OTTLA_OK) die("producer", error);
    while (fgets(line, sizeof line, file)) {
        size_t len = strcspn(line, "\n");
        ottla_record record = OTTLA_RECORD_INIT;
        record.topic = topic;
        record.key = field(line, len, "\"track\":\"");
        record.value.data = line;
        record.value.len = len;
        int32_t code;
        while ((code = ottla_producer_send(producer, &record, &error)) == OTTLA_ERROR_QUEUE_FULL) {
            ottla_error_free(error);
            error = NULL;
            reports(producer, 100);
        }
        if (code != OTTLA_OK) die("send", error);
        if (++sent % 64 == 0) reports(producer, 0);
    }
    fclose(file);
    ottla_counts counts = OTTLA_COUNTS_INIT;
    if (ottla_producer_close(producer, 30000, &counts, &error) != OTTLA_OK) die("close", error);
    if (delivered + failed < sent) reports(producer, 0);
    ottla_producer_free(producer);
    printf("produced    %zu points: %zu delivered, %zu failed\n", sent, delivered, failed);
    return sent;
}

struct track {
    char name[NAME], last[NAME];
    size_t points;
    int32_t partition;
    int in_order;
};

static struct track *track_of(struct track *tracks, ottla_bytes key) {
    for (int i = 0; i < TRACKS; i++) {
        if (!tracks[i].points && key.len < NAME) memcpy(tracks[i].name, key.data, key.len);
        if (strlen(tracks[i].name) == key.len && memcmp(tracks[i].name, key.data, key.len) == 0) return &tracks[i];
    }
    die("more tracks than expected", NULL);
    return NULL;
}

static size_t consume(const ottla_config *config, size_t expected) {
    ottla_consumer *consumer = NULL;
    ottla_error *error = NULL;
    struct track tracks[TRACKS];
    size_t got = 0;
    memset(tracks, 0, sizeof tracks);
    if (ottla_consumer_new(config, &consumer, &error) != OTTLA_OK) die("consumer", error);
    if (ottla_consumer_assign_topics(consumer, &topic, 1, 30000, &error) != OTTLA_OK) die("assign", error);
    for (int32_t i = 0; i < PARTITIONS; i++)
        if (ottla_consumer_seek_to_beginning(consumer, topic, i, &error) != OTTLA_OK) die("seek", error);
    while (got < expected) {
        ottla_batch *batch = NULL;
        if (ottla_consumer_poll(consumer, 30000, &batch, &error) != OTTLA_OK) die("poll", error);
        if (!batch) die("nothing came for 30 seconds", NULL);
        for (size_t i = 0; i < ottla_batch_len(batch); i++, got++) {
            ottla_message message = OTTLA_MESSAGE_INIT;
            if (ottla_batch_get(batch, i, &message, &error) != OTTLA_OK) die("get", error);
            struct track *track = track_of(tracks, message.key);
            ottla_bytes time = field(message.value.data, message.value.len, "\"time\":\"");
            char now[NAME] = "";
            if (time.len < NAME) memcpy(now, time.data, time.len);
            if (!track->points++) track->in_order = 1;
            if (strcmp(now, track->last) < 0 || (track->points > 1 && track->partition != message.partition)) track->in_order = 0;
            memcpy(track->last, now, NAME);
            track->partition = message.partition;
        }
        ottla_batch_free(batch);
    }
    ottla_consumer_free(consumer);
    printf("consumed    %zu points, from the beginning\n\n%-20s %8s %10s %11s\n", got, "track", "points", "partition", "order held");
    int all = 1;
    for (int i = 0; i < TRACKS && tracks[i].points; i++) {
        printf("%-20s %8zu %10" PRId32 " %11s\n", tracks[i].name, tracks[i].points, tracks[i].partition,
               tracks[i].in_order ? "yes" : "no");
        all &= tracks[i].in_order;
    }
    if (!all) exit(1);
    return got;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: %s BOOTSTRAP_SERVERS FILE\n", argv[0]);
        return 2;
    }
    ottla_error *error = NULL;
    ottla_config *config = ottla_config_new();
    if (ottla_config_set(config, "bootstrap.servers", argv[1], &error) != OTTLA_OK) die("config", error);
    ottla_admin *admin = NULL;
    if (ottla_admin_new(config, &admin, &error) != OTTLA_OK) die("admin", error);
    if (ottla_admin_create_topic(admin, topic, PARTITIONS, -1, NULL, 30000, &error) != OTTLA_OK) die("create topic", error);
    ottla_admin_free(admin);
    size_t sent = produce(config, argv[2]);
    int right = failed == 0 && consume(config, sent) == sent;
    ottla_config_free(config);
    return right ? 0 : 1;
}
