/* The library without the broker for tests: its clients work, here on an address where nobody listens. */
#include <ottla.h>
#include <stdio.h>
#include <string.h>

#define CHECK(condition)                                                                                                       \
    do {                                                                                                                       \
        if (!(condition)) {                                                                                                    \
            fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition, error ? ottla_error_text(error) : "no error");          \
            return 1;                                                                                                          \
        }                                                                                                                      \
    } while (0)

int main(void) {
    ottla_error *error = NULL;
    ottla_producer *producer = NULL;
    ottla_counts counts = OTTLA_COUNTS_INIT;
    ottla_record record = OTTLA_RECORD_INIT;
    ottla_bytes value = OTTLA_BYTES("to nobody");
    ottla_config *config = ottla_config_new();
    /* A port that no program of these days has, and no system gives away. */
    CHECK(ottla_config_set(config, "bootstrap.servers", "127.0.0.1:1", &error) == OTTLA_OK);
    CHECK(ottla_producer_new(config, &producer, &error) == OTTLA_OK);
    CHECK(ottla_config_free(config) == OTTLA_OK);

    CHECK(ottla_producer_connected(producer, 30000, &error) != OTTLA_OK);
    CHECK(strstr(ottla_error_text(error), "127.0.0.1:1") != NULL);
    ottla_error_free(error), error = NULL;

    /* The same again for every record: nothing is taken that cannot be delivered. */
    record.topic = "nowhere";
    record.value = value;
    CHECK(ottla_producer_send(producer, &record, &error) != OTTLA_OK);
    CHECK(strstr(ottla_error_text(error), "127.0.0.1:1") != NULL);
    ottla_error_free(error), error = NULL;
    CHECK(ottla_producer_close(producer, 1000, &counts, &error) == OTTLA_OK);
    CHECK(counts.delivered == 0 && counts.failed == 0 && counts.unknown == 0);
    return 0;
}
