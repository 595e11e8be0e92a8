/* The scenario runner for C: reads the stories of tests/scenarios, does what they say with ottla.h, and prints the transcript. The format
 * is described in tests/scenarios/README.md. Everything that a file needs is kept until its end. */
#include <ottla.h>

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { WORDS = 256, CLIENTS = 64, PARTITIONS = 256, PATIENCE_MS = 30000 };

static void stop(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fflush(stdout);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void *room(size_t size) {
    void *got = calloc(1, size ? size : 1);
    if (!got) stop("no memory");
    return got;
}

static char *copy_of(const char *text) { return strcpy(room(strlen(text) + 1), text); }

/* ------------------------------------------------------------------ words */

typedef struct word {
    char *name;      /* before the = */
    char *raw;       /* behind it, as written */
    unsigned char *value; /* behind it, read; a NUL follows */
    size_t len;
} word;

static word words[WORDS];
static int word_count;

static int hex(char digit) {
    if (digit >= '0' && digit <= '9') return digit - '0';
    if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
    if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
    return -1;
}

/* Reads a value as it is written; its length into *len. */
static unsigned char *read_value(const char *text, size_t *len) {
    size_t times = 1, used = 0;
    int repeated = text[0] == '@';
    if (repeated) {
        char *end;
        times = strtoul(text + 1, &end, 10);
        if (*end != '*') stop("no value: %s", text);
        text = end + 1;
    }
    unsigned char *bytes = room(strlen(text) + times + 1);
    for (; *text; text++) {
        if (*text == '%' && text[1] && text[2] && hex(text[1]) >= 0 && hex(text[2]) >= 0) {
            bytes[used++] = (unsigned char)(hex(text[1]) * 16 + hex(text[2]));
            text += 2;
        } else if (*text == '%') {
            stop("no value: %s", text);
        } else {
            bytes[used++] = (unsigned char)*text;
        }
    }
    if (repeated) {
        if (used != 1) stop("one byte is repeated, not %zu", used);
        memset(bytes, bytes[0], times);
        used = times;
    }
    bytes[used] = 0;
    *len = used;
    return bytes;
}

static void split(char *line) {
    word_count = 0;
    for (char *at = strtok(line, " "); at; at = strtok(NULL, " ")) {
        if (word_count == WORDS) stop("too many words");
        word *next = &words[word_count++];
        memset(next, 0, sizeof *next);
        next->name = at;
        char *equals = strchr(at, '=');
        if (!equals) continue;
        *equals = 0;
        next->raw = equals + 1;
        if (strcmp(at, "header") != 0) next->value = read_value(next->raw, &next->len);
    }
}

static const word *find(const char *name) {
    for (int i = 0; i < word_count; i++)
        if (words[i].raw && strcmp(words[i].name, name) == 0) return &words[i];
    return NULL;
}

static const char *text_of(const char *name) {
    const word *found = find(name);
    if (!found) stop("the word %s= is missing", name);
    return (const char *)found->value;
}

static int64_t number_of(const char *name, int64_t otherwise) {
    const word *found = find(name);
    return found ? strtoll((const char *)found->value, NULL, 10) : otherwise;
}

static ottla_bytes bytes_of(const char *name) {
    const word *found = find(name);
    ottla_bytes bytes = {found ? found->value : NULL, found ? found->len : 0};
    return bytes;
}

/* ------------------------------------------------------------------ topics, which have other names at the broker */

static char prefix[512];

static char *outside(const char *topic) {
    char *name = room(strlen(prefix) + strlen(topic) + 1);
    return strcat(strcpy(name, prefix), topic);
}

static const char *inside(const char *topic) {
    return strncmp(topic, prefix, strlen(prefix)) == 0 ? topic + strlen(prefix) : topic;
}

static ottla_topic_partition partitions[PARTITIONS];
static size_t partition_count;

static int by_partition(const void *left, const void *right) {
    const ottla_topic_partition *a = left, *b = right;
    int topics = strcmp(a->topic, b->topic);
    return topics ? topics : (a->partition > b->partition) - (a->partition < b->partition);
}

static void read_partitions(const char *name) {
    partition_count = 0;
    char *list = copy_of(text_of(name));
    for (char *at = list, *end; at; at = end) {
        end = strchr(at, ',');
        if (end) *end++ = 0;
        char *colon = strrchr(at, ':');
        if (!colon || partition_count == PARTITIONS) stop("no partition: %s", at);
        *colon = 0;
        partitions[partition_count].topic = outside(at);
        partitions[partition_count++].partition = atoi(colon + 1);
    }
    qsort(partitions, partition_count, sizeof partitions[0], by_partition);
}

/* ------------------------------------------------------------------ what is printed */

static char *last_text;

static void print_error(ottla_error *error, int of_a_send, const ottla_error *borrowed) {
    const ottla_error *told = borrowed ? borrowed : error;
    static const char *const persisted[] = {"no", "possibly", "yes"};
    last_text = copy_of(ottla_error_text(told));
    printf("error kind=%s code=", ottla_kind_name(ottla_error_kind(told)));
    if (ottla_error_code(told) <= -1000) printf("none");
    else printf("%" PRId32, ottla_error_code(told));
    printf(" retriable=%s", ottla_error_retriable(told) ? "yes" : "no");
    if (of_a_send) printf(" persisted=%s", persisted[ottla_error_persisted(told)]);
    printf("\n");
    ottla_error_free(error);
}

/* The error of a call, if it failed. */
static int tell(int32_t code, ottla_error **error) {
    if (code == OTTLA_OK) return 1;
    printf("-> ");
    print_error(*error, 0, NULL);
    return 0;
}

static uint32_t crc32(const unsigned char *bytes, size_t len) {
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < len; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

static void print_bytes(const void *data, size_t len, int shorten) {
    const unsigned char *bytes = data;
    if (shorten && len > 64) {
        printf("@%zu~%08" PRIx32, len, crc32(bytes, len));
        return;
    }
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = bytes[i];
        int plain = (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') ||
                    (byte && strchr("-._~", byte));
        if (plain) putchar(byte);
        else printf("%%%02X", byte);
    }
}

/* ------------------------------------------------------------------ clients */

typedef struct outcome {
    int known;
    int32_t partition;
    int64_t offset;
    char *error; /* the line, if it failed */
} outcome;

typedef struct client {
    char *name;
    ottla_producer *producer;
    ottla_consumer *consumer;
    ottla_admin *admin;
    outcome *outcomes;
    size_t sent, awaited;
    int is_member;
    struct happening *events; /* what the listener heard and was not told yet */
    size_t event_count;
    struct line *kept; /* records that came while something else was awaited */
    size_t kept_count;
} client;

static client clients[CLIENTS];
static int client_count;

static client *client_of(const char *name) {
    for (int i = 0; i < client_count; i++)
        if (strcmp(clients[i].name, name) == 0) return &clients[i];
    stop("no client %s", name);
    return NULL;
}

static client *new_client(const char *name) {
    for (int i = 0; i < client_count; i++)
        if (strcmp(clients[i].name, name) == 0) {
            memset(&clients[i], 0, sizeof clients[i]);
            clients[i].name = copy_of(name);
            return &clients[i];
        }
    if (client_count == CLIENTS) stop("too many clients");
    memset(&clients[client_count], 0, sizeof clients[0]);
    clients[client_count].name = copy_of(name);
    return &clients[client_count++];
}

/* The words that are keys of a configuration. */
static ottla_config *config_of(const char *const *not_keys, const char *bootstrap) {
    ottla_config *config = ottla_config_new();
    if (bootstrap) ottla_config_set(config, "bootstrap.servers", bootstrap, NULL);
    for (int i = 2; i < word_count; i++) {
        int is_key = words[i].raw != NULL;
        for (const char *const *not_key = not_keys; *not_key; not_key++) is_key &= strcmp(words[i].name, *not_key) != 0;
        if (!is_key) continue;
        const char *value = (const char *)words[i].value;
        if (strcmp(words[i].name, "group.id") == 0 && *value) value = outside(value);
        ottla_config_set(config, words[i].name, value, NULL);
    }
    return config;
}

static const char *bootstrap;

static void listen_to(ottla_consumer *consumer, const ottla_event *event, void *name);

static void do_client(void) {
    static const char *const not_keys[] = {"assign", NULL};
    ottla_error *error = NULL;
    ottla_config *config = config_of(not_keys, bootstrap);
    client made = {0};
    int32_t code;
    if (strcmp(words[0].name, "producer") == 0) {
        code = ottla_producer_new(config, &made.producer, &error);
        if (code == OTTLA_OK) code = ottla_producer_connected(made.producer, -1, &error);
    } else if (strcmp(words[0].name, "consumer") == 0) {
        made.is_member = find("group.id") && find("group.id")->len > 0;
        code = ottla_consumer_new(config, &made.consumer, &error);
        if (code == OTTLA_OK && made.is_member)
            code = ottla_consumer_set_event_cb(made.consumer, listen_to, copy_of(words[1].name), &error);
        if (code == OTTLA_OK) code = ottla_consumer_connected(made.consumer, -1, &error);
        if (code == OTTLA_OK && find("assign")) {
            read_partitions("assign");
            code = ottla_consumer_assign(made.consumer, partitions, partition_count, &error);
        }
    } else {
        code = ottla_admin_new(config, &made.admin, &error);
        if (code == OTTLA_OK) code = ottla_admin_connected(made.admin, -1, &error);
    }
    ottla_config_free(config);
    if (!tell(code, &error)) {
        ottla_producer_free(made.producer);
        ottla_consumer_free(made.consumer);
        ottla_admin_free(made.admin);
        return;
    }
    client *kept = new_client(words[1].name);
    char *name = kept->name;
    *kept = made;
    kept->name = name;
}

static char *printed_error(const ottla_error *error) {
    /* The line is printed later, by `await`: it is written into memory now. */
    char *line = NULL;
    size_t len = 0;
    FILE *kept = stdout;
    fflush(stdout);
    FILE *memory = open_memstream(&line, &len);
    if (!memory) stop("no memory");
    stdout = memory;
    print_error(NULL, 1, error);
    stdout = kept;
    fclose(memory);
    return line;
}

static void take_reports(client *of, int32_t timeout_ms) {
    ottla_report reports[64] = {OTTLA_REPORT_INIT};
    size_t count = 0;
    do {
        if (ottla_producer_poll(of->producer, reports, 64, timeout_ms, &count, NULL) != OTTLA_OK) return;
        for (size_t i = 0; i < count; i++) {
            outcome *one = &of->outcomes[(uintptr_t)reports[i].opaque - 1];
            one->known = 1;
            one->partition = reports[i].partition;
            one->offset = reports[i].offset;
            if (reports[i].code != OTTLA_OK) one->error = printed_error(reports[i].error);
        }
        timeout_ms = 0;
    } while (count > 0);
}

static void do_send(void) {
    client *by = client_of(words[1].name);
    ottla_header *headers = room(sizeof *headers * WORDS);
    ottla_record record = OTTLA_RECORD_INIT;
    record.topic = outside(text_of("topic"));
    record.key = bytes_of("key");
    record.value = bytes_of("value");
    record.partition = (int32_t)number_of("partition", -1);
    record.timestamp_ms = number_of("timestamp", -1);
    record.headers = headers;
    for (int i = 0; i < word_count; i++) {
        if (!words[i].raw || strcmp(words[i].name, "header") != 0) continue;
        ottla_header *header = &headers[record.header_count++];
        char *key = copy_of(words[i].raw), *colon = strchr(key, ':');
        if (colon) {
            *colon = 0;
            header->value.data = read_value(colon + 1, &header->value.len);
        }
        header->key.data = read_value(key, &header->key.len);
    }
    by->outcomes = realloc(by->outcomes, sizeof(outcome) * (by->sent + 1));
    outcome *one = &by->outcomes[by->sent++];
    memset(one, 0, sizeof *one);
    record.opaque = (void *)(uintptr_t)by->sent;
    ottla_error *error = NULL;
    while (ottla_producer_send(by->producer, &record, &error) != OTTLA_OK) {
        if (ottla_error_kind(error) != OTTLA_ERROR_QUEUE_FULL) {
            one->known = 1;
            one->error = printed_error(error);
            ottla_error_free(error);
            return;
        }
        ottla_error_free(error);
        error = NULL;
        ottla_producer_ready(by->producer, PATIENCE_MS, NULL);
    }
}

static void do_await(void) {
    client *by = client_of(words[1].name);
    ottla_producer_flush(by->producer, -1, NULL, NULL);
    take_reports(by, 0);
    for (; by->awaited < by->sent; by->awaited++) {
        outcome *one = &by->outcomes[by->awaited];
        for (int turn = 0; !one->known && turn < 30; turn++) take_reports(by, 1000);
        if (!one->known) stop("send %zu has no outcome", by->awaited + 1);
        printf("-> %zu ", by->awaited + 1);
        if (one->error) fputs(one->error, stdout);
        else if (one->offset < 0) printf("partition=%" PRId32 " offset=none\n", one->partition);
        else printf("partition=%" PRId32 " offset=%" PRId64 "\n", one->partition, one->offset);
    }
}

static void do_close(void) {
    client *which = client_of(words[1].name);
    ottla_error *error = NULL;
    if (which->producer) {
        ottla_counts counts = OTTLA_COUNTS_INIT;
        int32_t timeout = (int32_t)number_of("timeout_ms", PATIENCE_MS);
        if (tell(ottla_producer_close(which->producer, timeout, &counts, &error), &error))
            printf("-> closed delivered=%" PRIu64 " failed=%" PRIu64 " unknown=%" PRIu64 "\n", counts.delivered, counts.failed,
                   counts.unknown);
    } else if (which->is_member) {
        ottla_closed closed = OTTLA_CLOSED_INIT;
        if (tell(ottla_consumer_close_within(which->consumer, PATIENCE_MS, &closed, &error), &error))
            printf("-> closed committed=%zu unprocessed=%zu finished=%s\n", closed.committed, closed.unprocessed,
                   closed.finished ? "yes" : "no");
    } else if (which->consumer) {
        tell(ottla_consumer_close(which->consumer, &error), &error);
    } else {
        tell(ottla_admin_close(which->admin, &error), &error);
    }
}

/* ------------------------------------------------------------------ consumers */

typedef struct line {
    ottla_topic_partition from;
    int64_t offset;
    char *text;
} line;

static int by_place(const void *left, const void *right) {
    const line *a = left, *b = right;
    int partition = by_partition(&a->from, &b->from);
    return partition ? partition : (a->offset > b->offset) - (a->offset < b->offset);
}

static char *printed_record(const ottla_batch *batch, size_t index, const ottla_message *message, int timestamps) {
    char *text = NULL;
    size_t len = 0, count = 0;
    FILE *kept = stdout;
    FILE *memory = open_memstream(&text, &len);
    if (!memory) stop("no memory");
    stdout = memory;
    printf("%s:%" PRId32 " offset=%" PRId64, inside(message->topic), message->partition, message->offset);
    if (message->key.data) {
        printf(" key=");
        print_bytes(message->key.data, message->key.len, 1);
    }
    if (message->value.data) {
        printf(" value=");
        print_bytes(message->value.data, message->value.len, 1);
    }
    ottla_header *headers = room(sizeof *headers * message->header_count);
    ottla_batch_headers(batch, index, headers, message->header_count, &count, NULL);
    for (size_t i = 0; i < count; i++) {
        printf(" header=");
        print_bytes(headers[i].key.data, headers[i].key.len, 1);
        if (!headers[i].value.data) continue;
        putchar(':');
        print_bytes(headers[i].value.data, headers[i].value.len, 1);
    }
    if (timestamps) printf(" timestamp=%" PRId64, message->timestamp_ms);
    stdout = kept;
    fclose(memory);
    return text;
}

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Polls once; what comes is kept. */
static int32_t poll_once(client *by, int32_t timeout_ms, int timestamps, ottla_error **error) {
    ottla_batch *batch = NULL;
    int32_t code = ottla_consumer_poll(by->consumer, timeout_ms, &batch, error);
    for (size_t i = 0; i < ottla_batch_len(batch); i++) {
        ottla_message message = OTTLA_MESSAGE_INIT;
        ottla_batch_get(batch, i, &message, NULL);
        by->kept = realloc(by->kept, sizeof(line) * (by->kept_count + 1));
        line *next = &by->kept[by->kept_count++];
        next->from.topic = copy_of(inside(message.topic));
        next->from.partition = message.partition;
        next->offset = message.offset;
        next->text = printed_record(batch, i, &message, timestamps);
    }
    ottla_batch_free(batch);
    return code;
}

static void do_poll(void) {
    client *by = client_of(words[1].name);
    size_t wanted = (size_t)number_of("until", 1);
    int timestamps = find("timestamps") != NULL;
    ottla_error *error = NULL;
    int32_t code = OTTLA_OK;
    int64_t end = now_ms() + PATIENCE_MS;
    while (by->kept_count < wanted && now_ms() < end && code == OTTLA_OK)
        code = poll_once(by, (int32_t)(end - now_ms()), timestamps, &error);
    size_t got = by->kept_count;
    qsort(by->kept, got, sizeof(line), by_place);
    for (size_t i = 0; i < got; i++) printf("-> %s\n", by->kept[i].text);
    by->kept_count = 0;
    if (ottla_error_kind(error) == OTTLA_ERROR_CLOSED) {
        printf("-> closed\n");
        ottla_error_free(error);
    } else if (tell(code, &error) && got < wanted) {
        printf("-> nothing more\n");
    }
}

static void do_seek(const char *command) {
    client *by = client_of(words[1].name);
    ottla_error *error = NULL;
    int32_t code;
    read_partitions("partition");
    const char *topic = partitions[0].topic;
    int32_t partition = partitions[0].partition;
    if (strcmp(command, "seek") == 0) code = ottla_consumer_seek(by->consumer, topic, partition, number_of("offset", 0), &error);
    else if (strcmp(command, "seek_to_beginning") == 0) code = ottla_consumer_seek_to_beginning(by->consumer, topic, partition, &error);
    else if (strcmp(command, "seek_to_end") == 0) code = ottla_consumer_seek_to_end(by->consumer, topic, partition, &error);
    else code = ottla_consumer_seek_to_timestamp(by->consumer, topic, partition, number_of("timestamp", 0), &error);
    tell(code, &error);
}

static void do_position(void) {
    client *by = client_of(words[1].name);
    ottla_error *error = NULL;
    int64_t offset = 0;
    read_partitions("partition");
    if (tell(ottla_consumer_position(by->consumer, partitions[0].topic, partitions[0].partition, PATIENCE_MS, &offset, &error), &error))
        printf("-> %s:%" PRId32 " position=%" PRId64 "\n", inside(partitions[0].topic), partitions[0].partition, offset);
}

static void do_offsets(int at_end) {
    client *by = client_of(words[1].name);
    ottla_error *error = NULL;
    int64_t offsets[PARTITIONS];
    read_partitions("partitions");
    int32_t code = at_end ? ottla_consumer_end_offsets(by->consumer, partitions, partition_count, PATIENCE_MS, offsets, &error)
                          : ottla_consumer_beginning_offsets(by->consumer, partitions, partition_count, PATIENCE_MS, offsets, &error);
    if (!tell(code, &error)) return;
    for (size_t i = 0; i < partition_count; i++)
        printf("-> %s:%" PRId32 " offset=%" PRId64 "\n", inside(partitions[i].topic), partitions[i].partition, offsets[i]);
}

static void do_partitions(const char *command) {
    client *by = client_of(words[1].name);
    ottla_error *error = NULL;
    read_partitions("partitions");
    int32_t code = strcmp(command, "assign") == 0  ? ottla_consumer_assign(by->consumer, partitions, partition_count, &error)
                   : strcmp(command, "pause") == 0 ? ottla_consumer_pause(by->consumer, partitions, partition_count, &error)
                                                   : ottla_consumer_resume(by->consumer, partitions, partition_count, &error);
    tell(code, &error);
}

/* ------------------------------------------------------------------ groups */

enum { TURN_MS = 10 };

typedef struct happening {
    const char *what;
    char *partitions;
} happening;

/* Partitions in order, as the scenario calls them. */
static char *listed(ottla_topic_partition *all, size_t count) {
    char *text = NULL;
    size_t len = 0;
    FILE *memory = open_memstream(&text, &len);
    if (!memory) stop("no memory");
    qsort(all, count, sizeof *all, by_partition);
    for (size_t i = 0; i < count; i++) fprintf(memory, "%s%s:%" PRId32, i ? "," : "", inside(all[i].topic), all[i].partition);
    if (!count) fputs("none", memory);
    fclose(memory);
    return text;
}

static void listen_to(ottla_consumer *consumer, const ottla_event *event, void *name) {
    static const char *const names[] = {"assigned", "revoked", "lost"};
    (void)consumer;
    if (event->kind > OTTLA_EVENT_LOST || event->partition_count == 0) return;
    client *of = client_of(name);
    ottla_topic_partition *all = room(sizeof *all * event->partition_count);
    memcpy(all, event->partitions, sizeof *all * event->partition_count);
    of->events = realloc(of->events, sizeof(happening) * (of->event_count + 1));
    of->events[of->event_count].what = names[event->kind];
    of->events[of->event_count++].partitions = listed(all, event->partition_count);
    free(all);
}

/* The topics of a list without their commas. */
static size_t read_topics(const char *text, const char **topics) {
    size_t count = 0;
    for (char *at = strtok(copy_of(text), ","); at; at = strtok(NULL, ",")) {
        if (count == PARTITIONS) stop("too many topics: %s", text);
        topics[count++] = outside(at);
    }
    return count;
}

static void do_subscribe(void) {
    client *by = client_of(words[1].name);
    ottla_error *error = NULL;
    const char *topics[PARTITIONS];
    if (!find("pattern")) {
        size_t count = read_topics(text_of("topics"), topics);
        tell(ottla_consumer_subscribe(by->consumer, topics, count, &error), &error);
        return;
    }
    char *pattern = room(2 * strlen(prefix) + strlen(text_of("pattern")) + 1), *end = pattern;
    for (const char *at = prefix; *at; at++) {
        if (*at == '.') *end++ = '\\';
        *end++ = *at;
    }
    strcpy(end, text_of("pattern"));
    tell(ottla_consumer_subscribe_pattern(by->consumer, pattern, &error), &error);
}

static void do_subscription(void) {
    ottla_error *error = NULL;
    ottla_topics *topics = NULL;
    if (!tell(ottla_consumer_subscription(client_of(words[1].name)->consumer, &topics, &error), &error)) return;
    size_t count = ottla_topics_len(topics);
    printf("-> %s", count ? "" : "none");
    for (size_t i = 0; i < count; i++) printf("%s%s", i ? "," : "", inside(ottla_topics_get(topics, i)));
    printf("\n");
    ottla_topics_free(topics);
}

/* What is assigned, behind what is in `all` already. */
static int32_t add_assignment(client *of, ottla_topic_partition *all, size_t *count, ottla_error **error) {
    ottla_partitions *assigned = NULL;
    int32_t code = ottla_consumer_assignment(of->consumer, &assigned, error);
    for (size_t i = 0; i < ottla_partitions_len(assigned); i++) {
        if (*count == PARTITIONS) stop("too many partitions");
        all[*count] = ottla_partitions_get(assigned, i);
        all[*count].topic = copy_of(all[*count].topic);
        ++*count;
    }
    ottla_partitions_free(assigned);
    return code;
}

static void do_assignment(void) {
    ottla_error *error = NULL;
    ottla_topic_partition all[PARTITIONS];
    size_t count = 0;
    if (tell(add_assignment(client_of(words[1].name), all, &count, &error), &error)) printf("-> %s\n", listed(all, count));
}

static int by_name(const void *left, const void *right) {
    client *const *a = left, *const *b = right;
    return strcmp((*a)->name, (*b)->name);
}

static void do_share(void) {
    client *readers[CLIENTS];
    size_t reader_count = 0;
    for (char *at = strtok(copy_of(words[1].name), ","); at; at = strtok(NULL, ",")) readers[reader_count++] = client_of(at);
    qsort(readers, reader_count, sizeof readers[0], by_name);
    read_partitions("partitions");
    char *wanted = listed(partitions, partition_count);
    ottla_error *error = NULL;
    int64_t end = now_ms() + PATIENCE_MS;
    for (;;) {
        ottla_topic_partition all[PARTITIONS];
        size_t count = 0, least = PARTITIONS, most = 0, counts[CLIENTS];
        for (size_t i = 0; i < reader_count; i++) {
            size_t before = count;
            if (!tell(add_assignment(readers[i], all, &count, &error), &error)) return;
            counts[i] = count - before;
            least = counts[i] < least ? counts[i] : least;
            most = counts[i] > most ? counts[i] : most;
        }
        char *got = listed(all, count);
        /* Once more in the end, so that each has heard of what it got. */
        for (size_t i = 0; i < reader_count; i++)
            if (!tell(poll_once(readers[i], TURN_MS, 0, &error), &error)) return;
        if (strcmp(got, wanted) == 0 && most - least <= 1) {
            printf("->");
            for (size_t i = 0; i < reader_count; i++) printf(" %s=%zu", readers[i]->name, counts[i]);
            printf("\n");
            return;
        }
        if (now_ms() > end) {
            printf("-> not shared: %s of %s\n", got, wanted);
            return;
        }
    }
}

static void do_events(void) {
    client *by = client_of(words[1].name);
    size_t until = (size_t)number_of("until", 0);
    ottla_error *error = NULL;
    int32_t code = OTTLA_OK;
    int64_t end = now_ms() + PATIENCE_MS;
    while (by->event_count < until && now_ms() < end && code == OTTLA_OK) code = poll_once(by, TURN_MS, 0, &error);
    size_t count = by->event_count;
    for (size_t i = 0; i < count; i++) printf("-> %s %s\n", by->events[i].what, by->events[i].partitions);
    by->event_count = 0;
    if (tell(code, &error) && count < until) printf("-> nothing more\n");
}

/* The words offset=TOPIC:PARTITION:OFFSET:METADATA, the last part of which may be missing. */
static size_t read_offsets(ottla_offset *offsets) {
    size_t count = 0, len;
    for (int i = 0; i < word_count; i++) {
        if (!words[i].raw || strcmp(words[i].name, "offset") != 0) continue;
        if (count == PARTITIONS) stop("too many offsets");
        ottla_offset *next = &offsets[count++];
        char *topic = copy_of(words[i].raw), *partition = strchr(topic, ':');
        char *offset = partition ? strchr(partition + 1, ':') : NULL, *metadata = offset ? strchr(offset + 1, ':') : NULL;
        if (!offset) stop("no offset: %s", words[i].raw);
        *partition = *offset = 0;
        next->topic = outside(topic);
        next->partition = atoi(partition + 1);
        next->offset = strtoll(offset + 1, NULL, 10);
        next->metadata = metadata ? (const char *)read_value(metadata + 1, &len) : NULL;
        next->leader_epoch = -1;
    }
    return count;
}

static void do_commit(int stores) {
    client *by = client_of(words[1].name);
    ottla_error *error = NULL;
    ottla_offset offsets[PARTITIONS];
    size_t count = read_offsets(offsets);
    int32_t code = stores  ? ottla_consumer_store_offsets(by->consumer, offsets, count, &error)
                   : count ? ottla_consumer_commit_offsets(by->consumer, offsets, count, PATIENCE_MS, &error)
                           : ottla_consumer_commit(by->consumer, PATIENCE_MS, &error);
    tell(code, &error);
}

static void do_committed(void) {
    client *by = client_of(words[1].name);
    ottla_error *error = NULL;
    ottla_offsets *offsets = NULL;
    read_partitions("partitions");
    int32_t code = ottla_consumer_committed(by->consumer, partitions, partition_count, PATIENCE_MS, &offsets, &error);
    if (!tell(code, &error)) return;
    for (size_t i = 0; i < ottla_offsets_len(offsets); i++) {
        ottla_offset one = ottla_offsets_get(offsets, i);
        printf("-> %s:%" PRId32 " committed=", inside(one.topic), one.partition);
        if (one.offset < 0) printf("none");
        else printf("%" PRId64, one.offset);
        if (one.metadata && *one.metadata) {
            printf(" metadata=");
            print_bytes(one.metadata, strlen(one.metadata), 1);
        }
        printf("\n");
    }
    ottla_offsets_free(offsets);
}

/* The text of a member of a JSON object, as far as no mark is escaped in it; "none" for null. */
static char *json_text(const char *json, const char *name) {
    char *marked = room(strlen(name) + 5);
    sprintf(marked, "\"%s\":", name);
    const char *at = strstr(json, marked);
    if (!at) stop("no %s in %s", name, json);
    at += strlen(marked);
    if (*at != '"') return copy_of("none");
    char *text = copy_of(at + 1);
    text[strcspn(text, "\"")] = 0;
    return text;
}

static void do_membership(void) {
    ottla_error *error = NULL;
    char *json = NULL;
    if (!tell(ottla_consumer_group_metadata(client_of(words[1].name)->consumer, &json, &error), &error)) return;
    printf("-> group=%s instance=%s member=%s generation=%s\n", inside(json_text(json, "group_id")),
           json_text(json, "group_instance_id"), *json_text(json, "member_id") ? "yes" : "no",
           strstr(json, "\"generation_id\":-1") ? "no" : "yes");
    ottla_string_free(json);
}

/* Gives 0 for what is no command of groups. */
static int obey_group(const char *command) {
    ottla_error *error = NULL;
    ottla_consumer *consumer = word_count > 1 && !words[1].raw && !strchr(words[1].name, ',') ? client_of(words[1].name)->consumer : NULL;
#define IS(name) (strcmp(command, name) == 0)
    if (IS("subscribe")) do_subscribe();
    else if (IS("unsubscribe")) tell(ottla_consumer_unsubscribe(consumer, PATIENCE_MS, &error), &error);
    else if (IS("subscription")) do_subscription();
    else if (IS("assignment")) do_assignment();
    else if (IS("share")) do_share();
    else if (IS("events")) do_events();
    else if (IS("commit") || IS("store_offsets")) do_commit(IS("store_offsets"));
    else if (IS("committed")) do_committed();
    else if (IS("membership")) do_membership();
    else if (IS("enforce_rebalance")) {
        const char *reason = find("reason") ? text_of("reason") : NULL;
        tell(ottla_consumer_enforce_rebalance(consumer, reason, &error), &error);
    } else return 0;
    return 1;
}

/* ------------------------------------------------------------------ topics, partitioners */

static void do_topic(int create) {
    static const char *const not_keys[] = {"topic", "partitions", NULL};
    client *by = client_of(words[1].name);
    ottla_error *error = NULL;
    char *topic = outside(text_of("topic"));
    if (!create) {
        tell(ottla_admin_delete_topic(by->admin, topic, PATIENCE_MS, &error), &error);
        return;
    }
    ottla_config *settings = config_of(not_keys, NULL);
    int32_t count = (int32_t)number_of("partitions", -1);
    tell(ottla_admin_create_topic(by->admin, topic, count, -1, settings, PATIENCE_MS, &error), &error);
    ottla_config_free(settings);
}

static void do_partition_for(void) {
    ottla_error *error = NULL;
    int32_t partition = 0;
    int32_t code = ottla_partition_for_key(text_of("rule"), bytes_of("key"), (int32_t)number_of("partitions", 0), &partition, &error);
    if (!tell(code, &error)) return;
    if (partition < 0) printf("-> any\n");
    else printf("-> %" PRId32 "\n", partition);
}

static void do_partition_vectors(void) {
    const char *path = text_of("file");
    FILE *file = fopen(path, "r");
    if (!file) stop("%s: %s", path, strerror(errno));
    static char text[65536];
    size_t lines = 0;
    while (fgets(text, sizeof text, file)) {
        char rule[64], key[32768], answer[32], own[32];
        int32_t count = 0, partition = -1;
        if (text[0] == '#' || sscanf(text, "%63s %32767s %" SCNd32 " %31s", rule, key, &count, answer) != 4) continue;
        lines++;
        ottla_bytes bytes = {key, 0};
        if (strcmp(key, "null") == 0) {
            bytes.data = NULL;
        } else if (strcmp(key, "empty") != 0) {
            unsigned char *binary = room(strlen(key) / 2);
            for (; key[bytes.len * 2]; bytes.len++)
                binary[bytes.len] = (unsigned char)(hex(key[bytes.len * 2]) * 16 + hex(key[bytes.len * 2 + 1]));
            bytes.data = binary;
        }
        if (ottla_partition_for_key(rule, bytes, count, &partition, NULL) != OTTLA_OK) stop("no rule %s", rule);
        if (partition < 0) strcpy(own, "any");
        else snprintf(own, sizeof own, "%" PRId32, partition);
        if (strcmp(own, answer) != 0) printf("-> %s %s %" PRId32 " is %s\n", rule, key, count, own);
    }
    fclose(file);
    printf("-> %zu lines\n", lines);
}

/* ------------------------------------------------------------------ the stage */

static FILE *stage;

static void open_stage(const char *address) {
    char *host = copy_of(address), *port = strrchr(host, ':');
    struct addrinfo hints, *found = NULL;
    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_STREAM;
    if (!port) stop("no address: %s", address);
    *port++ = 0;
    if (getaddrinfo(host, port, &hints, &found) != 0 || !found) stop("no address: %s", address);
    int connection = socket(found->ai_family, SOCK_STREAM, 0);
    if (connection < 0 || connect(connection, found->ai_addr, found->ai_addrlen) != 0) stop("the stage: %s", strerror(errno));
    freeaddrinfo(found);
    stage = fdopen(connection, "r+");
}

static void say(const char *text) {
    char answer[4096];
    size_t len = strlen(text);
    char *whole = strcat(strcpy(room(len + 2), text), "\n");
    if (write(fileno(stage), whole, len + 1) != (ssize_t)(len + 1)) stop("the stage: %s", strerror(errno));
    if (!fgets(answer, sizeof answer, stage)) stop("the stage is gone");
    answer[strcspn(answer, "\n")] = 0;
    if (strncmp(answer, "ok", 2) != 0) stop("stage %s: %s", text, answer);
    if (answer[2] == ' ') printf("-> %s\n", answer + 3);
}

/* ------------------------------------------------------------------ files */

static void obey(char *text) {
    if (strncmp(text, "stage ", 6) == 0) {
        say(text + 6);
        return;
    }
    split(text);
    const char *command = words[0].name;
    if (word_count < 1) return;
    if (IS("producer") || IS("consumer") || IS("admin")) do_client();
    else if (IS("close")) do_close();
    else if (IS("error_has")) printf("-> %s\n", last_text && strstr(last_text, text_of("text")) ? "yes" : "no");
    else if (IS("create_topic")) do_topic(1);
    else if (IS("delete_topic")) do_topic(0);
    else if (IS("send")) do_send();
    else if (IS("flush")) ottla_producer_flush(client_of(words[1].name)->producer, -1, NULL, NULL);
    else if (IS("await")) do_await();
    else if (IS("poll")) do_poll();
    else if (IS("assign") || IS("pause") || IS("resume")) do_partitions(command);
    else if (IS("seek") || IS("seek_to_beginning") || IS("seek_to_end") || IS("seek_to_timestamp")) do_seek(command);
    else if (IS("position")) do_position();
    else if (IS("beginning_offsets")) do_offsets(0);
    else if (IS("end_offsets")) do_offsets(1);
    else if (IS("partition_for")) do_partition_for();
    else if (IS("partition_vectors")) do_partition_vectors();
    else if (!obey_group(command)) stop("no command %s", command);
}

static void end_file(void) {
    for (int i = 0; i < client_count; i++) {
        if (clients[i].producer) ottla_producer_close(clients[i].producer, 0, NULL, NULL);
        ottla_producer_free(clients[i].producer);
        ottla_consumer_free(clients[i].consumer);
        ottla_admin_free(clients[i].admin);
    }
    client_count = 0;
    last_text = NULL;
}

static void run(const char *path) {
    const char *base = strrchr(path, '/');
    char *stem = copy_of(base ? base + 1 : path), *dot = strstr(stem, ".txt"), begin[512], *text = NULL;
    size_t size = 0;
    if (dot) *dot = 0;
    FILE *file = fopen(path, "r");
    if (!file) stop("%s: %s", path, strerror(errno));
    snprintf(prefix, sizeof prefix, "%s.%s.", getenv("OTTLA_PREFIX"), stem);
    snprintf(begin, sizeof begin, "begin %s", stem);
    say(begin);
    printf("=== %s\n", stem);
    while (getline(&text, &size, file) >= 0) {
        size_t len = strlen(text);
        while (len && strchr(" \r\n\t", text[len - 1])) text[--len] = 0;
        if (!len || text[0] == '#' || strncmp(text, "->", 2) == 0) continue;
        printf("%s\n", text);
        obey(copy_of(text));
        fflush(stdout);
    }
    fclose(file);
    free(text);
    end_file();
    fflush(stdout);
}

int main(int argc, char **argv) {
    bootstrap = getenv("OTTLA_BOOTSTRAP");
    if (!bootstrap || !getenv("OTTLA_STAGE") || !getenv("OTTLA_PREFIX")) stop("OTTLA_BOOTSTRAP, OTTLA_STAGE and OTTLA_PREFIX say what to talk to");
    open_stage(getenv("OTTLA_STAGE"));
    for (int i = 1; i < argc; i++) run(argv[i]);
    return 0;
}
