/* What all tests need: checks that say where, and a broker with clients. */
#ifndef CHECK_H
#define CHECK_H

#include <ottla.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check_failed(const char *file, int line, const char *what) {
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    abort();
}

#define CHECK(condition) ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition))

/* A call with `error` as its last argument that must succeed. */
#define OK(call)                                                                                                               \
    do {                                                                                                                       \
        ottla_error *error = NULL;                                                                                             \
        if ((call) != OTTLA_OK) check_failed(__FILE__, __LINE__, ottla_error_text(error));                                     \
        CHECK(error == NULL);                                                                                                  \
    } while (0)

/* A call that must fail with this kind and say these words. */
#define FAILS(expected, words, call)                                                                                           \
    do {                                                                                                                       \
        ottla_error *error = NULL;                                                                                             \
        int32_t code = (call);                                                                                                 \
        if (code == OTTLA_OK) check_failed(__FILE__, __LINE__, "succeeded: " #call);                                           \
        CHECK(error != NULL && ottla_error_code(error) == code);                                                               \
        if (ottla_error_kind(error) != (expected) || !strstr(ottla_error_text(error), words))                                  \
            check_failed(__FILE__, __LINE__, ottla_error_text(error));                                                         \
        ottla_error_free(error);                                                                                               \
    } while (0)

/* Under valgrind everything takes thirty times as long; the first argument says so. */
static int slowly;
static inline int scaled(int count) { return slowly ? count / 20 : count; }

static inline void begin(int argc, char **argv) {
    slowly = argc > 1 && strcmp(argv[1], "slowly") == 0;
    (void)argv;
}

static inline ottla_config *config_of(ottla_cluster *cluster) {
    ottla_config *config = ottla_config_new();
    CHECK(config != NULL);
    OK(ottla_config_set(config, "bootstrap.servers", ottla_cluster_bootstrap_servers(cluster), &error));
    return config;
}

static inline void set(ottla_config *config, const char *key, const char *value) {
    OK(ottla_config_set(config, key, value, &error));
}

static inline ottla_cluster *cluster_with_topic(const char *topic, int partitions) {
    ottla_cluster *cluster = NULL;
    OK(ottla_cluster_start(NULL, &cluster, &error));
    ottla_config *config = config_of(cluster);
    ottla_admin *admin = NULL;
    OK(ottla_admin_new(config, &admin, &error));
    OK(ottla_admin_create_topic(admin, topic, partitions, 1, NULL, 30000, &error));
    CHECK(ottla_admin_free(admin) == OTTLA_OK);
    CHECK(ottla_config_free(config) == OTTLA_OK);
    return cluster;
}

static inline ottla_producer *producer_with(ottla_config *config) {
    ottla_producer *producer = NULL;
    OK(ottla_producer_new(config, &producer, &error));
    CHECK(ottla_config_free(config) == OTTLA_OK);
    return producer;
}

static inline ottla_bytes bytes(const char *text) {
    ottla_bytes view = {text, text ? strlen(text) : 0};
    return view;
}

static inline int is(ottla_bytes view, const char *text) {
    return view.data && view.len == strlen(text) && memcmp(view.data, text, view.len) == 0;
}

#endif
