/* librdkafka adapter of the peer benchmark. See ../../README.md for the argument list. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include "rdkafka.h"

static const char *arg(int argc, char **argv, const char *k, const char *d) {
  for (int i = 1; i + 1 < argc; i += 2)
    if (!strcmp(argv[i] + 2, k)) return argv[i + 1];
  return d;
}
static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}
static double cpu_s(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}
static void die(const char *what, const char *e) {
  fprintf(stderr, "%s: %s\n", what, e);
  exit(1);
}
static void set(rd_kafka_conf_t *c, const char *k, const char *v) {
  char e[512];
  if (rd_kafka_conf_set(c, k, v, e, sizeof e) != RD_KAFKA_CONF_OK) die(k, e);
}

static int64_t acked, failed, got;
static int64_t lat_n, *lat;
static int64_t first_ns;
static volatile int lat_run = 1;

static void dr(rd_kafka_t *rk, const rd_kafka_message_t *m, void *o) {
  (void)rk; (void)o;
  if (m->err) failed++; else acked++;
}

static const char *group;
static int assigned_partitions; /* 0: join the group; else assign partitions 0..n-1 from their beginning */
static int64_t assigned_ns;     /* when the group first assigned partitions */

static void rebalanced(rd_kafka_t *rk, rd_kafka_resp_err_t err, rd_kafka_topic_partition_list_t *l, void *o) {
  (void)o;
  if (err == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
    if (!assigned_ns) assigned_ns = now_ns();
    rd_kafka_assign(rk, l);
  } else {
    rd_kafka_assign(rk, NULL);
  }
}
static rd_kafka_t *mk_consumer(const char *bs, const char *topic) {
  char e[512];
  rd_kafka_conf_t *c = rd_kafka_conf_new();
  set(c, "bootstrap.servers", bs);
  set(c, "group.id", group);
  set(c, "auto.offset.reset", "earliest");
  if (assigned_partitions) set(c, "enable.auto.commit", "false");
  else rd_kafka_conf_set_rebalance_cb(c, rebalanced);
  rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, c, e, sizeof e);
  if (!rk) die("consumer", e);
  rd_kafka_poll_set_consumer(rk);
  rd_kafka_topic_partition_list_t *l = rd_kafka_topic_partition_list_new(1);
  for (int i = 0; i < assigned_partitions; i++)
    rd_kafka_topic_partition_list_add(l, topic, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
  if (assigned_partitions) {
    rd_kafka_assign(rk, l);
  } else {
    rd_kafka_topic_partition_list_add(l, topic, RD_KAFKA_PARTITION_UA);
    rd_kafka_subscribe(rk, l);
  }
  rd_kafka_topic_partition_list_destroy(l);
  return rk;
}

static void *lat_consumer(void *p) {
  rd_kafka_t *rk = p;
  while (lat_run) {
    rd_kafka_message_t *m = rd_kafka_consumer_poll(rk, 100);
    if (!m) continue;
    if (!m->err) {
      int64_t ts;
      memcpy(&ts, m->payload, 8);
      lat[__atomic_load_n(&got, __ATOMIC_RELAXED)] = now_ns() - ts;
      __atomic_add_fetch(&got, 1, __ATOMIC_RELEASE);
    }
    rd_kafka_message_destroy(m);
  }
  return NULL;
}
static int cmp(const void *a, const void *b) {
  int64_t x = *(int64_t *)a, y = *(int64_t *)b;
  return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
  const char *mode = arg(argc, argv, "mode", "produce"), *bs = arg(argc, argv, "bootstrap", "127.0.0.1:9092");
  const char *topic = arg(argc, argv, "topic", "t"), *pf = arg(argc, argv, "payload", NULL);
  int64_t n = atoll(arg(argc, argv, "messages", "1000000"));
  size_t size = atoll(arg(argc, argv, "size", "100"));
  int rate = atoi(arg(argc, argv, "rate", "1000")), warm = atoi(arg(argc, argv, "warmup", "2000"));
  int txn = atoi(arg(argc, argv, "txn-size", "100"));
  group = arg(argc, argv, "group", topic);
  if (atoi(arg(argc, argv, "assign", "0"))) assigned_partitions = atoi(arg(argc, argv, "partitions", "1"));
  char e[512], *pool = NULL;
  size_t pooln = 0;
  if (pf) {
    FILE *f = fopen(pf, "rb");
    if (!f) die(pf, strerror(errno));
    fseek(f, 0, SEEK_END);
    size_t len = ftell(f);
    rewind(f);
    pool = malloc(len);
    if (fread(pool, 1, len, f) != len) die(pf, "read");
    pooln = len / size;
  }
  if (!strcmp(mode, "mock")) { /* serve librdkafka's own mock cluster until killed */
    rd_kafka_conf_t *c = rd_kafka_conf_new();
    set(c, "test.mock.num.brokers", "1");
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, c, e, sizeof e);
    if (!rk) die("mock", e);
    const rd_kafka_metadata_t *md;
    rd_kafka_metadata(rk, 0, NULL, &md, 5000);
    printf("127.0.0.1:%d\n", md->brokers[0].port);
    fflush(stdout);
    pause();
  }
  int cons = !strcmp(mode, "consume"), latm = !strcmp(mode, "latency"), txm = !strcmp(mode, "txn");
  double c0 = 0, c1;
  int64_t t0 = 0, t1, bytes = 0;
  if (cons) {
    c0 = cpu_s(); t0 = now_ns();
    rd_kafka_t *rk = mk_consumer(bs, topic);
    rd_kafka_queue_t *q = rd_kafka_queue_get_consumer(rk);
    static rd_kafka_message_t *ms[10000];
    while (got < n) {
      ssize_t k = rd_kafka_consume_batch_queue(q, 200, ms, 10000);
      for (ssize_t i = 0; i < k; i++) {
        if (!ms[i]->err) {
          if (!first_ns) first_ns = now_ns();
          bytes += ms[i]->len;
          got++;
        }
        rd_kafka_message_destroy(ms[i]);
      }
    }
    t1 = now_ns();
    if (!assigned_partitions) {
      rd_kafka_resp_err_t err = rd_kafka_commit(rk, NULL, 0);
      if (err && err != RD_KAFKA_RESP_ERR__NO_OFFSET) die("commit", rd_kafka_err2str(err)); /* none: committed on its own already */
    }
    c1 = cpu_s();
    printf("{\"client\":\"librdkafka\",\"version\":\"%s\",\"messages\":%lld,\"bytes\":%lld,\"seconds\":%.6f,\"join_s\":%.6f,\"cpu_s\":%.6f",
           rd_kafka_version_str(), (long long)got, (long long)bytes, (t1 - first_ns) / 1e9, (first_ns - t0) / 1e9, c1 - c0);
    if (assigned_ns) printf(",\"assigned_s\":%.6f,\"commit_s\":%.6f", (assigned_ns - t0) / 1e9, (now_ns() - t1) / 1e9);
    puts("}");
    fflush(stdout);
    rd_kafka_queue_destroy(q);
    rd_kafka_consumer_close(rk);
    rd_kafka_destroy(rk);
    return 0;
  }
  rd_kafka_conf_t *c = rd_kafka_conf_new();
  set(c, "bootstrap.servers", bs);
  set(c, "acks", arg(argc, argv, "acks", "all"));
  set(c, "compression.type", arg(argc, argv, "compression", "none"));
  set(c, "linger.ms", arg(argc, argv, "linger", "5"));
  set(c, "enable.idempotence", atoi(arg(argc, argv, "idempotence", "0")) || txm ? "true" : "false");
  if (txm) set(c, "transactional.id", topic);
  if (arg(argc, argv, "fast-reconnect", NULL)) { set(c, "reconnect.backoff.ms", "10"); set(c, "reconnect.backoff.max.ms", "50"); set(c, "retry.backoff.ms", "20"); set(c, "log_level", "0"); }
  rd_kafka_conf_set_dr_msg_cb(c, dr);
  rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, c, e, sizeof e);
  if (!rk) die("producer", e);
  rd_kafka_topic_t *rt = rd_kafka_topic_new(rk, topic, NULL);
  if (latm) {
    lat = calloc(n + 16, 8);
    rd_kafka_t *ck = mk_consumer(bs, topic);
    pthread_t th;
    pthread_create(&th, NULL, lat_consumer, ck);
    char *buf = malloc(size);
    memcpy(buf, pool, size);
    for (int64_t i = -1; i < n; i++) {
      if (i == 0) { /* the probe message must be back before pacing starts */
        while (!__atomic_load_n(&got, __ATOMIC_ACQUIRE)) rd_kafka_poll(rk, 10);
        got = 0; t0 = now_ns(); c0 = cpu_s();
      }
      if (i >= 0) {
        int64_t due = t0 + i * 1000000000LL / rate;
        struct timespec ts = {due / 1000000000LL, due % 1000000000LL};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
      }
      int64_t ts = now_ns();
      memcpy(buf, &ts, 8);
      rd_kafka_produce(rt, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, buf, size, NULL, 0, NULL);
      rd_kafka_poll(rk, 0);
    }
    while (__atomic_load_n(&got, __ATOMIC_ACQUIRE) < n) rd_kafka_poll(rk, 10);
    c1 = cpu_s(); t1 = now_ns();
    lat_run = 0;
    pthread_join(th, NULL);
    lat_n = n - warm;
    qsort(lat + warm, lat_n, 8, cmp);
#define P(q) (lat[warm + (int64_t)((lat_n - 1) * q)] / 1e6)
    printf("{\"client\":\"librdkafka\",\"version\":\"%s\",\"messages\":%lld,\"seconds\":%.6f,\"cpu_s\":%.6f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"p999_ms\":%.3f,\"max_ms\":%.3f}\n",
           rd_kafka_version_str(), (long long)n, (t1 - t0) / 1e9, c1 - c0, P(.5), P(.99), P(.999), P(1.0));
    fflush(stdout);
    _exit(0);
  }
  rd_kafka_error_t *er;
  if (txm && (er = rd_kafka_init_transactions(rk, 30000))) die("init", rd_kafka_error_string(er));
  static char keys[1000][8];
  for (int i = 0; i < 1000; i++) snprintf(keys[i], 8, "key-%03d", i);
  int keyed = atoi(arg(argc, argv, "keys", "0"));
  c0 = cpu_s(); t0 = now_ns();
  for (int64_t i = 0; i < n; i++) {
    const char *key = keyed ? keys[i * 7919 % 1000] : NULL;
    if (txm && i % txn == 0 && (er = rd_kafka_begin_transaction(rk))) die("begin", rd_kafka_error_string(er));
    while (rd_kafka_produce(rt, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, pool + (i % pooln) * size, size, key, keyed ? 7 : 0, NULL)) {
      if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL) die("produce", rd_kafka_err2str(rd_kafka_last_error()));
      rd_kafka_poll(rk, 10);
    }
    if ((i & 63) == 0) rd_kafka_poll(rk, 0);
    if (txm && i % txn == txn - 1 && (er = rd_kafka_commit_transaction(rk, 30000))) die("commit", rd_kafka_error_string(er));
  }
  while (acked + failed < n) rd_kafka_poll(rk, 100);
  t1 = now_ns(); c1 = cpu_s();
  printf("{\"client\":\"librdkafka\",\"version\":\"%s\",\"messages\":%lld,\"failed\":%lld,\"bytes\":%lld,\"seconds\":%.6f,\"cpu_s\":%.6f}\n",
         rd_kafka_version_str(), (long long)acked, (long long)failed, (long long)(acked * size), (t1 - t0) / 1e9, c1 - c0);
  fflush(stdout);
  rd_kafka_topic_destroy(rt);
  rd_kafka_destroy(rk);
  return 0;
}
