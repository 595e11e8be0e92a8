/* Ottla: a Kafka client. The C API.
 *
 * Generated from bindings/c/src: change it there.
 *
 * RULES
 *
 * Arguments. A pointer is NULL or points to what its type says until the call returns. A function that cannot work with NULL
 * says so with OTTLA_ERROR_ARGUMENT. Strings end with a NUL and are UTF-8. A const pointer is only read.
 *
 * Handles. Configurations, producers, consumers, admin clients and clusters are handles: they look like pointers, but are
 * numbers. NULL, one that was freed (also by another thread, also twice), one of another type and garbage are an error,
 * OTTLA_ERROR_ARGUMENT, never a crash. After a close, calls give OTTLA_ERROR_CLOSED; in the child of a fork, those on the
 * parent's clients give OTTLA_ERROR_FORKED, and new clients work. Errors, batches, lists and strings are plain pointers.
 *
 * Errors. Functions return OTTLA_OK (0) or another number, see ottla_error_number. The last argument, `error`, may be NULL; if it
 * is not and the call fails, an error is written there, which the caller frees with ottla_error_free(). On success nothing
 * is written there.
 *
 * Results are written only on success, unless a function says otherwise.
 *
 * Ownership. What a function gives is the caller's, to be freed with the function that is named for it; whatever is passed
 * in stays the caller's, whether the call succeeds or not. Every _free takes NULL.
 *
 * Structures that may grow begin with `struct_size`, set by their _INIT macro: a program goes on working with a newer library.
 *
 * Threads. Functions may be called from any thread, unless they say otherwise. No thread of the library ever runs code of the
 * program: callbacks run inside of the poll functions, in the thread that polls. Only functions that take a timeout, the
 * closing ones, and those that need a connection block; wake functions end that, from any thread or signal handler. Signals
 * alone do not end a wait. The library installs no signal handlers and writes nothing to standard output or error.
 */

#ifndef OTTLA_H
#define OTTLA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** The version of this header; ottla_version() says that of the library. */
#define OTTLA_VERSION "0.1.0"
#define OTTLA_VERSION_MAJOR 0
#define OTTLA_VERSION_MINOR 1
#define OTTLA_VERSION_PATCH 0

/**
 * A flag of a record: no delivery report, unless something goes wrong; see ottla_producer_failures().
 */
#define OTTLA_RECORD_NO_REPORT 1

/**
 * Whether a record whose sending failed may be in the log.
 */
typedef enum {
    /**
     * It was certainly not written: sending again cannot duplicate it.
     */
    OTTLA_PERSISTED_NO = 0,
    /**
     * Nobody knows: sending again may duplicate it.
     */
    OTTLA_PERSISTED_POSSIBLY = 1,
    /**
     * It was written, although something after that failed.
     */
    OTTLA_PERSISTED_YES = 2,
} ottla_persisted;

/**
 * Whose clock a record's timestamp is.
 */
typedef enum {
    /**
     * The producer's.
     */
    OTTLA_TIMESTAMP_CREATE_TIME = 0,
    /**
     * The broker's.
     */
    OTTLA_TIMESTAMP_LOG_APPEND_TIME = 1,
} ottla_timestamp_type;

/**
 * What happened to a consumer in its group.
 */
typedef enum {
    /**
     * These partitions are assigned now, and nothing of them was handed over yet; there may be none.
     */
    OTTLA_EVENT_ASSIGNED = 0,
    /**
     * These partitions are given up: nothing of them is handed over any more. They go to other members when the callback has
     * returned, or the consumer is closed meanwhile.
     */
    OTTLA_EVENT_REVOKED = 1,
    /**
     * These partitions belong to others already; `error` says why, and so does a poll that follows.
     */
    OTTLA_EVENT_LOST = 2,
    /**
     * A rebalance begins; `detail` says why.
     */
    OTTLA_EVENT_REBALANCING = 3,
    /**
     * Offsets could not be committed, and nobody waited for it: `error` says why.
     */
    OTTLA_EVENT_COMMIT_FAILED = 4,
    /**
     * A partition has records and does not move; `detail` is its progress in JSON, as in ottla_consumer_progress().
     */
    OTTLA_EVENT_STALLED = 5,
} ottla_event_kind;

/**
 * What functions return: OTTLA_OK, one of these numbers, or a broker's own error code (from -1 up, as in Kafka's list
 * of error codes; ours are all below -999). A number never changes its meaning. The kind of an error is always one of these,
 * also if a broker said it: see ottla_error_kind().
 */
typedef enum {
    /**
     * It went well.
     */
    OTTLA_OK = 0,
    /**
     * A key of the configuration is unknown, has a value that does not fit, or contradicts another.
     */
    OTTLA_ERROR_CONFIG = -1000,
    /**
     * An argument of a call does not fit.
     */
    OTTLA_ERROR_ARGUMENT = -1001,
    /**
     * No connection to a broker could be made.
     */
    OTTLA_ERROR_CONNECT = -1002,
    /**
     * A connection was lost before the answer came.
     */
    OTTLA_ERROR_DISCONNECTED = -1003,
    /**
     * The time for it ran out.
     */
    OTTLA_ERROR_TIMEOUT = -1004,
    /**
     * The other side does not speak Kafka's protocol, or broke it.
     */
    OTTLA_ERROR_PROTOCOL = -1005,
    /**
     * The broker supports no version of the request that this client speaks.
     */
    OTTLA_ERROR_UNSUPPORTED = -1006,
    /**
     * The topic or partition does not exist.
     */
    OTTLA_ERROR_UNKNOWN_TOPIC = -1007,
    /**
     * The principal may not do this.
     */
    OTTLA_ERROR_AUTHORIZATION = -1008,
    /**
     * The broker did not accept who we say we are, or we do not accept who it says it is.
     */
    OTTLA_ERROR_AUTHENTICATION = -1009,
    /**
     * Another instance took this one's place.
     */
    OTTLA_ERROR_FENCED = -1010,
    /**
     * A record or request is larger than it may be.
     */
    OTTLA_ERROR_TOO_LARGE = -1011,
    /**
     * The buffer is full and the call was not to wait.
     */
    OTTLA_ERROR_QUEUE_FULL = -1012,
    /**
     * A position lies outside the log, or there is neither a position nor a policy to find one.
     */
    OTTLA_ERROR_OFFSET = -1013,
    /**
     * Records failed their checksum or cannot be read.
     */
    OTTLA_ERROR_CORRUPT = -1014,
    /**
     * The client was closed, or is closing.
     */
    OTTLA_ERROR_CLOSED = -1015,
    /**
     * The client's threads cannot be started, or a blocking call was made where it must not wait.
     */
    OTTLA_ERROR_RUNTIME = -1016,
    /**
     * Any other error code of a broker.
     */
    OTTLA_ERROR_BROKER = -1017,
    /**
     * The client was made before a fork, in the parent process: make a new one in the child.
     */
    OTTLA_ERROR_FORKED = -1018,
    /**
     * A mistake inside the library, caught at the border. The client may be used on, but please report it.
     */
    OTTLA_ERROR_PANIC = -1019,
    /**
     * The wait was ended from elsewhere.
     */
    OTTLA_ERROR_INTERRUPTED = -1020,
    /**
     * An error of a kind that this version of the binding does not know.
     */
    OTTLA_ERROR_UNKNOWN = -1021,
} ottla_error_number;

/**
 * How grave a line of the log is, and from which gravity on lines are wanted.
 */
typedef enum {
    /**
     * Nothing is logged: how it is until ottla_log_start().
     */
    OTTLA_LOG_OFF = 0,
    /**
     * Something failed.
     */
    OTTLA_LOG_ERROR = 1,
    /**
     * Something is odd, and goes on.
     */
    OTTLA_LOG_WARN = 2,
    /**
     * Rare events of normal life.
     */
    OTTLA_LOG_INFO = 3,
    /**
     * Requests and batches.
     */
    OTTLA_LOG_DEBUG = 4,
    /**
     * Everything.
     */
    OTTLA_LOG_TRACE = 5,
} ottla_log_level;

/**
 * An admin client. A handle: NULL, a freed or a wrong one is an error, never a crash.
 */
typedef struct ottla_admin ottla_admin;

/**
 * Records of one poll, in the order of their offsets within each partition. A plain pointer: whoever got it frees it once
 * with ottla_batch_free(), and it may be read from any number of threads until then, also after the consumer is gone.
 */
typedef struct ottla_batch ottla_batch;

/**
 * A broker in this process, for tests: starts in milliseconds on a free port. A handle: NULL, a freed or a wrong one is an
 * error, never a crash.
 */
typedef struct ottla_cluster ottla_cluster;

/**
 * A configuration. A handle: NULL, a freed or a wrong one is an error, never a crash.
 */
typedef struct ottla_config ottla_config;

/**
 * A consumer. A handle: NULL, a freed or a wrong one is an error, never a crash.
 */
typedef struct ottla_consumer ottla_consumer;

/**
 * An error, with everything that is known of it. A plain pointer: whoever got it frees it once with ottla_error_free(), and
 * it may be read from any thread until then.
 */
typedef struct ottla_error ottla_error;

/**
 * Committed offsets. A plain pointer: whoever got it frees it once with ottla_offsets_free().
 */
typedef struct ottla_offsets ottla_offsets;

/**
 * Partitions. A plain pointer: whoever got it frees it once with ottla_partitions_free().
 */
typedef struct ottla_partitions ottla_partitions;

/**
 * A producer. A handle: NULL, a freed or a wrong one is an error, never a crash.
 */
typedef struct ottla_producer ottla_producer;

/**
 * Names of topics. A plain pointer: whoever got it frees it once with ottla_topics_free().
 */
typedef struct ottla_topics ottla_topics;

/**
 * A view of bytes. `data` NULL means null (a record without key, a tombstone), which is not the same as empty: for an
 * empty value, `data` points anywhere and `len` is 0.
 */
typedef struct {
    /**
     * The first byte, or NULL for null.
     */
    const void *data;
    /**
     * How many bytes.
     */
    size_t len;
} ottla_bytes;

/**
 * A header of a record. The key is UTF-8; NULL is read as an empty key. The value may be null.
 */
typedef struct {
    /**
     * The key. Its bytes are not followed by a NUL.
     */
    ottla_bytes key;
    /**
     * The value.
     */
    ottla_bytes value;
} ottla_header;

/**
 * A record to be sent. Begin with OTTLA_RECORD_INIT, then set what you need.
 */
typedef struct {
    /**
     * sizeof(ottla_record).
     */
    size_t struct_size;
    /**
     * The topic.
     */
    const char *topic;
    /**
     * The key, or null.
     */
    ottla_bytes key;
    /**
     * The value, or null for a tombstone.
     */
    ottla_bytes value;
    /**
     * The headers in order; a key may occur more than once. NULL if there are none.
     */
    const ottla_header *headers;
    /**
     * How many headers.
     */
    size_t header_count;
    /**
     * Given back in the report, never looked at.
     */
    void *opaque;
    /**
     * Milliseconds since 1970, or -1 for now.
     */
    int64_t timestamp_ms;
    /**
     * The partition, or -1 for the partitioner's choice.
     */
    int32_t partition;
    /**
     * 0, or OTTLA_RECORD_NO_REPORT.
     */
    uint32_t flags;
} ottla_record;

/**
 * What became of one record. Begin with OTTLA_REPORT_INIT.
 */
typedef struct {
    /**
     * sizeof(ottla_report), set by the caller in the first element of an array.
     */
    size_t struct_size;
    /**
     * The record's own `opaque`.
     */
    void *opaque;
    /**
     * OTTLA_OK: it was written. Anything else: it failed; see `error`.
     */
    int32_t code;
    /**
     * The partition, or -1 if it never got one.
     */
    int32_t partition;
    /**
     * The offset, or -1 if it failed or the broker does not tell (acks=0).
     */
    int64_t offset;
    /**
     * The timestamp in milliseconds since 1970, or -1 if it failed.
     */
    int64_t timestamp_ms;
    /**
     * The topic. Valid until the producer is freed.
     */
    const char *topic;
    /**
     * Why it failed, or NULL. Not the caller's: valid until the next ottla_producer_poll() of this producer.
     */
    const ottla_error *error;
    /**
     * Whether a record that failed may be in the log all the same.
     */
    ottla_persisted persisted;
} ottla_report;

/**
 * A function of the program that is told of deliveries. The report is valid until it returns.
 */
typedef void (*ottla_delivery_callback)(const ottla_report *report, void *user_data);

/**
 * What became of records. Begin with OTTLA_COUNTS_INIT.
 */
typedef struct {
    /**
     * sizeof(ottla_counts).
     */
    size_t struct_size;
    /**
     * Written (with acks=0: given to the socket).
     */
    uint64_t delivered;
    /**
     * Failed, and certainly not in the log.
     */
    uint64_t failed;
    /**
     * Failed, and possibly in the log.
     */
    uint64_t unknown;
    /**
     * Not settled yet.
     */
    uint64_t pending;
} ottla_counts;

/**
 * A record that was received. Everything it points to lives as long as its batch. Begin with OTTLA_MESSAGE_INIT.
 */
typedef struct {
    /**
     * sizeof(ottla_message), set by the caller.
     */
    size_t struct_size;
    /**
     * The topic.
     */
    const char *topic;
    /**
     * The key, or null.
     */
    ottla_bytes key;
    /**
     * The value, or null: a tombstone on a compacted topic.
     */
    ottla_bytes value;
    /**
     * The offset in the partition.
     */
    int64_t offset;
    /**
     * Milliseconds since 1970, or -1 for none.
     */
    int64_t timestamp_ms;
    /**
     * How many headers; see ottla_batch_headers().
     */
    size_t header_count;
    /**
     * The partition.
     */
    int32_t partition;
    /**
     * Whose clock the timestamp is.
     */
    ottla_timestamp_type timestamp_type;
    /**
     * The leader epoch in which it was appended, or -1 if the broker did not say.
     */
    int32_t leader_epoch;
} ottla_message;

/**
 * A partition of a topic.
 */
typedef struct {
    /**
     * The name of the topic.
     */
    const char *topic;
    /**
     * The number of the partition, from 0.
     */
    int32_t partition;
} ottla_topic_partition;

/**
 * What a callback is told. Everything it points to lives until the callback returns.
 */
typedef struct {
    /**
     * sizeof(ottla_event) of the library.
     */
    size_t struct_size;
    /**
     * What happened.
     */
    ottla_event_kind kind;
    /**
     * The partitions that it is about.
     */
    const ottla_topic_partition *partitions;
    /**
     * How many.
     */
    size_t partition_count;
    /**
     * What went wrong, or NULL. It stays the library's.
     */
    const ottla_error *error;
    /**
     * More about it, or NULL.
     */
    const char *detail;
} ottla_event;

/**
 * A function of the program that is told. It runs inside of ottla_consumer_poll(), ottla_consumer_unsubscribe() and
 * ottla_consumer_close_within(), in the thread that calls them, and may use the consumer, but not poll, close or free it.
 */
typedef void (*ottla_event_cb)(ottla_consumer *consumer, const ottla_event *event, void *opaque);

/**
 * An offset to commit or to store: that of the next record to read.
 */
typedef struct {
    /**
     * The name of the topic.
     */
    const char *topic;
    /**
     * Words of the program to be kept with it, or NULL.
     */
    const char *metadata;
    /**
     * The offset.
     */
    int64_t offset;
    /**
     * The partition.
     */
    int32_t partition;
    /**
     * The leader epoch of the last record before it, or -1.
     */
    int32_t leader_epoch;
} ottla_offset;

/**
 * What closing a consumer did. Begin with OTTLA_CLOSED_INIT.
 */
typedef struct {
    /**
     * sizeof(ottla_closed), set by the caller.
     */
    size_t struct_size;
    /**
     * For how many partitions offsets were committed.
     */
    size_t committed;
    /**
     * How many partitions have records that were handed over and are not known to be processed.
     */
    size_t unprocessed;
    /**
     * Whether all was done in time; otherwise the group waits for this member until its session ends.
     */
    bool finished;
} ottla_closed;

/**
 * A line of the log, valid until the function it is told to returns.
 */
typedef struct {
    /**
     * sizeof(ottla_log_line) in the library, which may be more than in the program.
     */
    size_t struct_size;
    /**
     * Milliseconds since 1970.
     */
    int64_t time_ms;
    /**
     * Which part of the library speaks, such as "ottla::producer".
     */
    const char *target;
    /**
     * What it says.
     */
    const char *text;
    /**
     * How grave it is: one of ottla_log_level.
     */
    int32_t level;
} ottla_log_line;

/**
 * A function of the program that is told lines of the log.
 */
typedef void (*ottla_log_callback)(const ottla_log_line *line, void *user_data);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the library that is loaded, such as "0.1.0". Static: do not free it. OTTLA_VERSION is the version that
 * the program was compiled against.
 */
const char *ottla_version(void);

/**
 * The partition that a built-in partitioner chooses for a key among `partitions`; the same in every language, and for
 * "default" the same as in the Java client.
 *
 * `partitioner`: a name as the producer's key "partitioner" takes it, or NULL for "default". `*partition` is -1 if the key
 * does not decide (a null key).
 *
 * Threads: any. Errors: OTTLA_ERROR_ARGUMENT.
 */
int32_t ottla_partition_for_key(const char *partitioner,
                                ottla_bytes key,
                                int32_t partitions,
                                int32_t *partition,
                                ottla_error **error);

/**
 * Frees a text that a function gave away (its documentation says so). NULL is allowed.
 */
void ottla_string_free(char *text);

/**
 * The number of an error, as the function returned it: the broker's code if a broker said it, one of OTTLA_ERROR_*
 * otherwise. OTTLA_OK for NULL.
 */
int32_t ottla_error_code(const ottla_error *error);

/**
 * The kind of an error, always one of OTTLA_ERROR_*: what to branch on. OTTLA_OK for NULL.
 */
int32_t ottla_error_kind(const ottla_error *error);

/**
 * Kafka's name of the broker's code ("NOT_LEADER_OR_FOLLOWER"), or the name of the kind ("queue_full"). Lives as long as the
 * error. "" for NULL.
 */
const char *ottla_error_name(const ottla_error *error);

/**
 * What went wrong, where, and what to do: one line of UTF-8 for a person. Lives as long as the error. "" for NULL.
 */
const char *ottla_error_text(const ottla_error *error);

/**
 * Whether the same call may succeed if it is made again.
 */
bool ottla_error_retriable(const ottla_error *error);

/**
 * Whether the record, or what a request asked for, may have been written all the same. OTTLA_PERSISTED_NO for NULL.
 */
ottla_persisted ottla_error_persisted(const ottla_error *error);

/**
 * The topic that it is about, or NULL. Lives as long as the error.
 */
const char *ottla_error_topic(const ottla_error *error);

/**
 * The partition that it is about, or -1.
 */
int32_t ottla_error_partition(const ottla_error *error);

/**
 * The offset that it is about, or -1.
 */
int64_t ottla_error_offset(const ottla_error *error);

/**
 * Frees an error. NULL is allowed.
 */
void ottla_error_free(ottla_error *error);

/**
 * The name of a kind (one of OTTLA_ERROR_*): "queue_full". Static: do not free it. NULL for other numbers.
 */
const char *ottla_kind_name(int32_t kind);

/**
 * An empty configuration. NULL only if there are millions of them.
 *
 * Ownership: the caller frees it with ottla_config_free(), also after a client was made of it: clients copy it.
 * Threads: any.
 */
ottla_config *ottla_config_new(void);

/**
 * Sets a key, such as "bootstrap.servers" or "linger.ms", to a value, always a string; the last value of a key counts.
 * Keys, values and defaults are those of the Java client. What is wrong with them is said by the function that makes a
 * client; an unknown key is answered there with the nearest known one.
 *
 * Ownership: key and value are copied. Threads: any. Errors: OTTLA_ERROR_ARGUMENT.
 */
int32_t ottla_config_set(ottla_config *config, const char *key, const char *value, ottla_error **error);

/**
 * Frees a configuration. NULL is allowed. OTTLA_ERROR_ARGUMENT if it was freed before.
 */
int32_t ottla_config_free(ottla_config *config);

/**
 * Makes a producer, which begins to connect; it takes records at once.
 *
 * Returns: OTTLA_ERROR_CONFIG for a mistake in the configuration. Whether it could connect is told by
 * ottla_producer_connected(), or by the first call after it failed.
 * Ownership: the configuration is copied. The caller frees `*producer` with ottla_producer_free().
 * Threads: any, and so are all other functions of a producer unless they say otherwise.
 */
int32_t ottla_producer_new(const ottla_config *config, ottla_producer **producer, ottla_error **error);

/**
 * Waits until the producer has connected, at most `timeout_ms` (-1: for ever; it gives up by itself, too).
 *
 * Errors: OTTLA_ERROR_CONNECT and its like; OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED by ottla_producer_wake().
 */
int32_t ottla_producer_connected(ottla_producer *producer, int32_t timeout_ms, ottla_error **error);

/**
 * Sends a record. Never blocks.
 *
 * OTTLA_ERROR_QUEUE_FULL means that buffer.memory is full (or, with reports, that too many of them wait to be polled): the
 * record was not taken. Poll for reports, or wait with ottla_producer_ready(), and send it again. Before the producer has
 * connected and before the topic's metadata is here, records are taken and wait inside, up to a quarter of buffer.memory.
 *
 * Ownership: everything that the record points to is copied; after the call all of it is the caller's again.
 * Promises: records of one partition are written in the order of the calls, and each is reported exactly once (unless
 * its flags say otherwise), at the latest after delivery.timeout.ms.
 */
int32_t ottla_producer_send(ottla_producer *producer,
                            const ottla_record *record,
                            ottla_error **error);

/**
 * Sends many records with one call, in their order, until one is not taken.
 *
 * `*sent` is how many were taken, and is written also when the call fails: record number `*sent` is the one that the error is
 * about, and the rest was not looked at. `records[0].struct_size` is the size of each.
 * Otherwise as ottla_producer_send().
 */
int32_t ottla_producer_send_batch(ottla_producer *producer,
                                  const ottla_record *records,
                                  size_t count,
                                  size_t *sent,
                                  ottla_error **error);

/**
 * Waits until ottla_producer_send() has room again, at most `timeout_ms` (-1: for ever).
 *
 * Another thread may be faster: send, and wait again if it is still full.
 * Errors: OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED by ottla_producer_wake(); OTTLA_ERROR_CLOSED; why it did not connect.
 */
int32_t ottla_producer_ready(ottla_producer *producer,
                             int32_t timeout_ms,
                             ottla_error **error);

/**
 * A file descriptor for poll(2), epoll and event loops: readable while ottla_producer_poll() has reports, or was woken (and now
 * and then once for nothing). -1 for what is no producer.
 *
 * Ownership: it stays the producer's; do not read or close it, and do not use it after ottla_producer_free().
 */
int ottla_producer_fd(const ottla_producer *producer);

/**
 * Has reports told to `callback`, in place of the array of ottla_producer_poll(). NULL ends that.
 *
 * Threads: it is called only inside of ottla_producer_poll(), by the thread that called it, never by a thread of the library.
 * It may send records; it must not poll the same producer (which is an error) nor leave by longjmp or a C++ exception.
 */
int32_t ottla_producer_set_delivery_callback(ottla_producer *producer,
                                             ottla_delivery_callback callback,
                                             void *user_data,
                                             ottla_error **error);

/**
 * Takes delivery reports: at most `capacity` of them into `reports`, or all there are to the callback (with `reports` NULL
 * and `capacity` 0). Waits for the first one at most `timeout_ms` (0: not at all; -1: for ever).
 *
 * `reports[0].struct_size` is the size of each; OTTLA_REPORT_INIT sets it. `*count` is how many came, 0 after the time.
 *
 * Ownership: see ottla_report for how long what a report points to is valid.
 * Threads: one at a time; a second one gets OTTLA_ERROR_ARGUMENT.
 * Errors: OTTLA_ERROR_INTERRUPTED by ottla_producer_wake(), which the next call does not repeat; OTTLA_ERROR_CLOSED when the
 * producer was closed and everything was told.
 */
int32_t ottla_producer_poll(ottla_producer *producer,
                            ottla_report *reports,
                            size_t capacity,
                            int32_t timeout_ms,
                            size_t *count,
                            ottla_error **error);

/**
 * Ends the waiting of whoever waits for this producer (in poll, ready, flush, close), or of the next one who does:
 * it returns OTTLA_ERROR_INTERRUPTED.
 *
 * Threads: any; may also be called from a signal handler.
 */
int32_t ottla_producer_wake(ottla_producer *producer);

/**
 * How many records with OTTLA_RECORD_NO_REPORT failed since the last call, and why the first of them did.
 *
 * `*first` is NULL if none failed; otherwise the caller frees it with ottla_error_free(). Both may be NULL.
 */
int32_t ottla_producer_failures(ottla_producer *producer, uint64_t *count, ottla_error **first, ottla_error **error);

/**
 * Sends everything queued so far without lingering, and waits until each record of it is delivered or has failed, at most
 * `timeout_ms` (-1: until delivery.timeout.ms is over).
 *
 * `*counts` (may be NULL) counts these records, also when the time was over; then `pending` is not 0 and the call returns
 * OTTLA_ERROR_TIMEOUT. Records that failed make no error here: their reports do, and ottla_producer_failures().
 * Their reports are there when it returns, to be polled.
 * Errors: OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED by ottla_producer_wake(); why it did not connect.
 */
int32_t ottla_producer_flush(ottla_producer *producer,
                             int32_t timeout_ms,
                             ottla_counts *counts,
                             ottla_error **error);

/**
 * Takes no more records, sends what is queued, and ends the producer, at the latest after `timeout_ms` (-1: after
 * delivery.timeout.ms). What was not acknowledged by then fails, and its report says whether it may be in the log.
 *
 * `*counts` (may be NULL) counts all records since the producer was made. All reports are there when it returns: poll until
 * OTTLA_ERROR_CLOSED. A second call finds nothing left to do. It always returns in time.
 * Errors: OTTLA_ERROR_INTERRUPTED by ottla_producer_wake(): it takes no more records then, but call this again.
 */
int32_t ottla_producer_close(ottla_producer *producer,
                             int32_t timeout_ms,
                             ottla_counts *counts,
                             ottla_error **error);

/**
 * Totals, and what the producer does now, as text in Prometheus' format. "" before it has connected.
 *
 * Ownership: the caller frees `*text` with ottla_string_free().
 */
int32_t ottla_producer_metrics(ottla_producer *producer, char **text, ottla_error **error);

/**
 * Frees a producer. NULL is allowed. Does not wait: records that are queued are still sent in the background while the
 * process lives, so call ottla_producer_close() first. Reports that were not polled are gone.
 *
 * OTTLA_ERROR_ARGUMENT if it was freed before. In the child of a fork it frees the handle and leaves the parent's producer
 * alone.
 */
int32_t ottla_producer_free(ottla_producer *producer);

/**
 * How many records a batch has. 0 for NULL.
 */
size_t ottla_batch_len(const ottla_batch *batch);

/**
 * Reads record number `index`, from 0.
 *
 * Ownership: what `*message` points to lives as long as the batch; nothing is copied.
 * Errors: OTTLA_ERROR_ARGUMENT.
 */
int32_t ottla_batch_get(const ottla_batch *batch, size_t index, ottla_message *message, ottla_error **error);

/**
 * Reads records in a row, the first of them number `first`, from 0: at most `capacity` of them into `messages`. What a call
 * costs is paid once for all of them, which counts where calls are dear (from Go, PHP, Lua) or records are small.
 *
 * `messages[0].struct_size` is the size of each; OTTLA_MESSAGE_INIT sets it. `*count` is how many were read: fewer than
 * `capacity` only at the end of the batch, 0 when `first` is its length.
 *
 * Ownership: as ottla_batch_get(). Errors: OTTLA_ERROR_ARGUMENT.
 */
int32_t ottla_batch_messages(const ottla_batch *batch,
                             size_t first,
                             ottla_message *messages,
                             size_t capacity,
                             size_t *count,
                             ottla_error **error);

/**
 * Reads the headers of record number `index` in their order: at most `capacity` of them into `headers`.
 *
 * `*count` is how many were written: fewer than the message's `header_count` if the capacity is less, or if one has a key
 * that is not UTF-8, which ends the list.
 * Ownership: as ottla_batch_get(). Errors: OTTLA_ERROR_ARGUMENT.
 */
int32_t ottla_batch_headers(const ottla_batch *batch,
                            size_t index,
                            ottla_header *headers,
                            size_t capacity,
                            size_t *count,
                            ottla_error **error);

/**
 * For each partition in the batch the offset after its last record: where to go on, and what to store where a program keeps
 * its offsets itself. At most `capacity` of them into `partitions` and `offsets`.
 *
 * `*count` is how many partitions the batch has, which may be more than `capacity`.
 * Ownership: the names in `partitions` live as long as the batch. Errors: OTTLA_ERROR_ARGUMENT.
 */
int32_t ottla_batch_next_offsets(const ottla_batch *batch,
                                 ottla_topic_partition *partitions,
                                 int64_t *offsets,
                                 size_t capacity,
                                 size_t *count,
                                 ottla_error **error);

/**
 * Frees a batch. NULL is allowed.
 */
void ottla_batch_free(ottla_batch *batch);

/**
 * Makes a consumer, which begins to connect and reads nothing yet: see ottla_consumer_assign().
 *
 * Returns: OTTLA_ERROR_CONFIG for a mistake in the configuration. Whether it could connect is told by the next call.
 * Ownership: the configuration is copied. The caller frees `*consumer` with ottla_consumer_free().
 * Threads: any, and so are all other functions of a consumer; but only one thread at a time should poll, or the order of
 * records is lost between them. Calls that are not said to take a timeout wait for the connection, and for nothing else.
 */
int32_t ottla_consumer_new(const ottla_config *config,
                           ottla_consumer **consumer,
                           ottla_error **error);

/**
 * Waits until the consumer has connected, at most `timeout_ms` (-1: for ever; it gives up by itself, too).
 *
 * Errors: OTTLA_ERROR_CONNECT and its like; OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED by ottla_consumer_wake().
 */
int32_t ottla_consumer_connected(ottla_consumer *consumer, int32_t timeout_ms, ottla_error **error);

/**
 * Reads exactly these partitions from now on. Those that were assigned before keep their positions; others begin where
 * auto.offset.reset says, or where a seek does.
 *
 * Ownership: the array is copied.
 */
int32_t ottla_consumer_assign(ottla_consumer *consumer,
                              const ottla_topic_partition *partitions,
                              size_t count,
                              ottla_error **error);

/**
 * Reads all partitions that these topics have now, which it asks the broker for, at most `timeout_ms` (-1: for ever).
 *
 * Errors: OTTLA_ERROR_UNKNOWN_TOPIC; OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED by ottla_consumer_wake().
 */
int32_t ottla_consumer_assign_topics(ottla_consumer *consumer,
                                     const char *const *topics,
                                     size_t count,
                                     int32_t timeout_ms,
                                     ottla_error **error);

/**
 * Takes records: waits for the first one at most `timeout_ms` (0: not at all; -1: for ever). At most max.poll.records.
 *
 * `*batch` is NULL after the time.
 * Ownership: the caller frees `*batch` with ottla_batch_free().
 * In a group the records of earlier polls count as processed now, and the event callback runs in here.
 * Errors: what befell a partition, once: ottla_error_partition() says which, and the next call goes on;
 * OTTLA_ERROR_FENCED, once, when the membership in the group was lost: the next call joins again;
 * OTTLA_ERROR_INTERRUPTED by ottla_consumer_wake(), which the next call does not repeat; OTTLA_ERROR_CLOSED.
 */
int32_t ottla_consumer_poll(ottla_consumer *consumer, int32_t timeout_ms, ottla_batch **batch, ottla_error **error);

/**
 * A file descriptor for poll(2), epoll and event loops: readable while ottla_consumer_poll() may have something (sometimes
 * it has not), or was woken. -1 for what is no consumer.
 *
 * Ownership: it stays the consumer's; do not read or close it, and do not use it after ottla_consumer_free().
 */
int ottla_consumer_fd(const ottla_consumer *consumer);

/**
 * Goes on at `offset`.
 *
 * Errors: OTTLA_ERROR_ARGUMENT if the partition is not assigned or the offset negative. An offset that is not there is told
 * by a later poll, or mended by auto.offset.reset.
 */
int32_t ottla_consumer_seek(ottla_consumer *consumer,
                            const char *topic,
                            int32_t partition,
                            int64_t offset,
                            ottla_error **error);

/**
 * Goes on at the first record that is still there. Errors: OTTLA_ERROR_ARGUMENT if the partition is not assigned.
 */
int32_t ottla_consumer_seek_to_beginning(ottla_consumer *consumer,
                                         const char *topic,
                                         int32_t partition,
                                         ottla_error **error);

/**
 * Goes on after the last record. Errors: OTTLA_ERROR_ARGUMENT if the partition is not assigned.
 */
int32_t ottla_consumer_seek_to_end(ottla_consumer *consumer, const char *topic, int32_t partition, ottla_error **error);

/**
 * Goes on at the first record whose timestamp is at least `timestamp_ms` (milliseconds since 1970).
 *
 * Errors: OTTLA_ERROR_ARGUMENT if the partition is not assigned or the timestamp negative.
 */
int32_t ottla_consumer_seek_to_timestamp(ottla_consumer *consumer,
                                         const char *topic,
                                         int32_t partition,
                                         int64_t timestamp_ms,
                                         ottla_error **error);

/**
 * Asks for the offset of the next record that will be handed over; waits while it is looked up, at most `timeout_ms` (-1: for
 * ever).
 *
 * Errors: OTTLA_ERROR_ARGUMENT if the partition is not assigned; OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED.
 */
int32_t ottla_consumer_position(ottla_consumer *consumer,
                                const char *topic,
                                int32_t partition,
                                int32_t timeout_ms,
                                int64_t *offset,
                                ottla_error **error);

/**
 * How many records are ahead of the position, as of the last fetch; `*lag` is -1 while that is not known.
 */
int32_t ottla_consumer_lag(ottla_consumer *consumer,
                           const char *topic,
                           int32_t partition,
                           int64_t *lag,
                           ottla_error **error);

/**
 * Stops handing over records of these partitions. Errors: OTTLA_ERROR_ARGUMENT if one is not assigned.
 */
int32_t ottla_consumer_pause(ottla_consumer *consumer,
                             const ottla_topic_partition *partitions,
                             size_t count,
                             ottla_error **error);

/**
 * Goes on with paused partitions. Errors: OTTLA_ERROR_ARGUMENT if one is not assigned.
 */
int32_t ottla_consumer_resume(ottla_consumer *consumer,
                              const ottla_topic_partition *partitions,
                              size_t count,
                              ottla_error **error);

/**
 * Asks the broker for the first offset of each partition that is still there; they need not be assigned. Waits at most
 * `timeout_ms` (-1: for ever).
 *
 * `offsets`: room for `count` numbers, in the order of the partitions.
 * Errors: OTTLA_ERROR_UNKNOWN_TOPIC; OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED; all or nothing.
 */
int32_t ottla_consumer_beginning_offsets(ottla_consumer *consumer,
                                         const ottla_topic_partition *partitions,
                                         size_t count,
                                         int32_t timeout_ms,
                                         int64_t *offsets,
                                         ottla_error **error);

/**
 * Asks the broker for the offset after the last record of each partition. Otherwise as ottla_consumer_beginning_offsets().
 */
int32_t ottla_consumer_end_offsets(ottla_consumer *consumer,
                                   const ottla_topic_partition *partitions,
                                   size_t count,
                                   int32_t timeout_ms,
                                   int64_t *offsets,
                                   ottla_error **error);

/**
 * Asks the broker, for each partition, for the offset of the first record whose timestamp is at least the one in
 * `timestamps_ms` (as many as partitions); -1 if there is none. Otherwise as ottla_consumer_beginning_offsets().
 */
int32_t ottla_consumer_offsets_for_times(ottla_consumer *consumer,
                                         const ottla_topic_partition *partitions,
                                         const int64_t *timestamps_ms,
                                         size_t count,
                                         int32_t timeout_ms,
                                         int64_t *offsets,
                                         ottla_error **error);

/**
 * Asks how many partitions a topic has. Waits at most `timeout_ms` (-1: for ever).
 *
 * Errors: OTTLA_ERROR_UNKNOWN_TOPIC; OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED.
 */
int32_t ottla_consumer_partition_count(ottla_consumer *consumer,
                                       const char *topic,
                                       int32_t timeout_ms,
                                       int32_t *count,
                                       ottla_error **error);

/**
 * Ends the waiting of whoever waits for this consumer, or of the next one who does: it returns OTTLA_ERROR_INTERRUPTED.
 *
 * Threads: any; may also be called from a signal handler.
 */
int32_t ottla_consumer_wake(ottla_consumer *consumer);

/**
 * Ends the consumer: every poll returns OTTLA_ERROR_CLOSED from now on, also one that waits. Returns at once; may be called
 * again. Batches stay valid. A member of a group leaves it in the background; see ottla_consumer_close_within().
 */
int32_t ottla_consumer_close(ottla_consumer *consumer,
                             ottla_error **error);

/**
 * Closes and frees a consumer. NULL is allowed. Batches stay valid.
 *
 * OTTLA_ERROR_ARGUMENT if it was freed before. In the child of a fork it frees the handle and leaves the parent's consumer
 * alone.
 */
int32_t ottla_consumer_free(ottla_consumer *consumer);

/**
 * Has a function told of the group: partitions that come and go, rebalances, failed commits, partitions that stand still.
 * `callback` NULL: nobody. Set it before the first poll. Without it, polls alone keep a member in order.
 *
 * `opaque` is handed to the function as it is, in whatever thread polls.
 */
int32_t ottla_consumer_set_event_cb(ottla_consumer *consumer,
                                    ottla_event_cb callback,
                                    void *opaque,
                                    ottla_error **error);

/**
 * Reads these topics as a member of the group (the key group.id), instead of those before. Partitions come with a later poll.
 *
 * What is processed is committed by itself (enable.auto.commit, the default), before partitions go to another member, and
 * by ottla_consumer_close_within(). The records of a poll are processed when the next poll begins.
 * Errors: OTTLA_ERROR_CONFIG without group.id; OTTLA_ERROR_ARGUMENT after ottla_consumer_assign().
 */
int32_t ottla_consumer_subscribe(ottla_consumer *consumer,
                                 const char *const *topics,
                                 size_t count,
                                 ottla_error **error);

/**
 * Reads all topics whose whole name matches a regular expression. Otherwise as ottla_consumer_subscribe().
 */
int32_t ottla_consumer_subscribe_pattern(ottla_consumer *consumer, const char *pattern, ottla_error **error);

/**
 * Commits what is processed, lets go of all partitions and leaves the group. Waits at most `timeout_ms` (-1: for ever; it gives
 * up by itself, too).
 *
 * Errors: OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED; it goes on in the background.
 */
int32_t ottla_consumer_unsubscribe(ottla_consumer *consumer,
                                   int32_t timeout_ms,
                                   ottla_error **error);

/**
 * The topics subscribed to. Ownership: the caller frees `*topics` with ottla_topics_free().
 */
int32_t ottla_consumer_subscription(ottla_consumer *consumer, ottla_topics **topics, ottla_error **error);

/**
 * The partitions that are assigned, by the group or by the program. Ownership: the caller frees `*partitions` with
 * ottla_partitions_free().
 */
int32_t ottla_consumer_assignment(ottla_consumer *consumer, ottla_partitions **partitions, ottla_error **error);

/**
 * How many partitions there are. 0 for NULL.
 */
size_t ottla_partitions_len(const ottla_partitions *partitions);

/**
 * Partition number `index`, from 0, in order; its topic is NULL if there is none. The topic lives as long as the list.
 */
ottla_topic_partition ottla_partitions_get(const ottla_partitions *partitions, size_t index);

/**
 * Frees a list of partitions. NULL is allowed.
 */
void ottla_partitions_free(ottla_partitions *partitions);

/**
 * Commits all records that were handed over; with enable.auto.offset.store=false what was stored. Waits at most `timeout_ms` (-1:
 * for ever; it gives up by itself, too).
 *
 * Errors: OTTLA_ERROR_FENCED when the group went on without this consumer, and nothing was overwritten;
 * OTTLA_ERROR_CONFIG without group.id; OTTLA_ERROR_TIMEOUT and OTTLA_ERROR_INTERRUPTED: it may be committed all the same.
 */
int32_t ottla_consumer_commit(ottla_consumer *consumer,
                              int32_t timeout_ms,
                              ottla_error **error);

/**
 * Begins to commit as ottla_consumer_commit(), and does not wait. A failure is an event, OTTLA_EVENT_COMMIT_FAILED.
 */
int32_t ottla_consumer_commit_async(ottla_consumer *consumer, ottla_error **error);

/**
 * Commits these offsets. Otherwise as ottla_consumer_commit().
 */
int32_t ottla_consumer_commit_offsets(ottla_consumer *consumer,
                                      const ottla_offset *offsets,
                                      size_t count,
                                      int32_t timeout_ms,
                                      ottla_error **error);

/**
 * Commits the offsets after the first `count` records of a batch. Otherwise as ottla_consumer_commit(); OTTLA_ERROR_FENCED
 * also for records of a partition that was given up since, even if it has come back.
 */
int32_t ottla_consumer_commit_records(ottla_consumer *consumer,
                                      const ottla_batch *batch,
                                      size_t count,
                                      int32_t timeout_ms,
                                      ottla_error **error);

/**
 * Says that everything before these offsets is processed: the next commit takes them. For enable.auto.offset.store=false.
 *
 * Errors: OTTLA_ERROR_FENCED for a partition that is not assigned any more; the others are stored.
 */
int32_t ottla_consumer_store_offsets(ottla_consumer *consumer,
                                     const ottla_offset *offsets,
                                     size_t count,
                                     ottla_error **error);

/**
 * Says that the first `count` records of a batch are processed. Otherwise as ottla_consumer_store_offsets().
 */
int32_t ottla_consumer_store_records(ottla_consumer *consumer,
                                     const ottla_batch *batch,
                                     size_t count,
                                     ottla_error **error);

/**
 * Asks the group's coordinator for the committed offset of each partition, with what was kept with it. Waits at most `timeout_ms`
 * (-1: for ever; it gives up by itself, too).
 *
 * `*offsets`: as many as partitions, in their order. Ownership: the caller frees it with ottla_offsets_free().
 * Errors: OTTLA_ERROR_CONFIG without group.id; OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED.
 */
int32_t ottla_consumer_committed(ottla_consumer *consumer,
                                 const ottla_topic_partition *partitions,
                                 size_t count,
                                 int32_t timeout_ms,
                                 ottla_offsets **offsets,
                                 ottla_error **error);

/**
 * How many offsets there are. 0 for NULL.
 */
size_t ottla_offsets_len(const ottla_offsets *offsets);

/**
 * Offset number `index`, from 0; its offset is -1 and its metadata NULL where nothing was committed, its topic NULL if there is no
 * such number. What it points to lives as long as the list.
 */
ottla_offset ottla_offsets_get(const ottla_offsets *offsets,
                               size_t index);

/**
 * Frees a list of offsets. NULL is allowed.
 */
void ottla_offsets_free(ottla_offsets *offsets);

/**
 * Has the group divide its partitions anew, for a reason that only the program knows; NULL for none. Does not wait.
 */
int32_t ottla_consumer_enforce_rebalance(ottla_consumer *consumer, const char *reason, ottla_error **error);

/**
 * Says that processing goes on and the next poll comes within so many milliseconds, whatever max.poll.interval.ms is.
 */
int32_t ottla_consumer_extend_poll(ottla_consumer *consumer, uint32_t within_ms, ottla_error **error);

/**
 * Who this consumer is in its group, as a JSON object: group_id, generation_id (-1 while it is no member), member_id,
 * group_instance_id. Ownership: the caller frees `*json` with ottla_string_free().
 */
int32_t ottla_consumer_group_metadata(ottla_consumer *consumer, char **json, ottla_error **error);

/**
 * How far each partition is and why it does not move, as a JSON array of objects: topic, partition, position, committed, lag,
 * state, error, since_ms. Ownership: the caller frees `*json` with ottla_string_free().
 */
int32_t ottla_consumer_progress(ottla_consumer *consumer,
                                char **json,
                                ottla_error **error);

/**
 * How a consumer is, as a JSON object: group (group_id, phase, generation, coordinator, trouble, time_to_poll_ms, ...),
 * partitions as in ottla_consumer_progress(), buffered_bytes, metadata_error. Ownership: the caller frees `*json` with
 * ottla_string_free().
 */
int32_t ottla_consumer_health(ottla_consumer *consumer, char **json, ottla_error **error);

/**
 * Closes a consumer and waits, at most `timeout_ms` (0 or more), until what is processed is committed and the group is left. The
 * callback hears that all partitions are given up. The records of the last poll are processed only if
 * ottla_consumer_commit() said so.
 *
 * `closed`: what it did, or NULL. Not all done in time is no error: `closed->finished` says so.
 * Errors: why offsets could not be committed; `closed` is written all the same. OTTLA_ERROR_INTERRUPTED by
 * ottla_consumer_wake(); it goes on in the background then.
 */
int32_t ottla_consumer_close_within(ottla_consumer *consumer,
                                    uint32_t timeout_ms,
                                    ottla_closed *closed,
                                    ottla_error **error);

/**
 * Makes an admin client. It connects with the first call that needs a broker.
 *
 * Returns: OTTLA_ERROR_CONFIG for a mistake in the configuration.
 * Ownership: the configuration is copied. The caller frees `*admin` with ottla_admin_free().
 * Threads: any, and so are all other functions of an admin client. They wait at most `timeout_ms` (-1: as long as the
 * client's own timeouts say) and may be ended by ottla_admin_wake(); what was asked of the broker may still be done.
 */
int32_t ottla_admin_new(const ottla_config *config, ottla_admin **admin, ottla_error **error);

/**
 * Waits until the admin client has connected, as the first call that needs a broker would do.
 *
 * Errors: OTTLA_ERROR_CONNECT and its like; OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED.
 */
int32_t ottla_admin_connected(ottla_admin *admin, int32_t timeout_ms, ottla_error **error);

/**
 * Creates a topic.
 *
 * `partitions`, `replication_factor`: -1 for the broker's default. `config`: the topic's own keys, such as "retention.ms", or
 * NULL.
 * Errors: 36 (TOPIC_ALREADY_EXISTS) and what else a broker may say; OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED.
 */
int32_t ottla_admin_create_topic(ottla_admin *admin,
                                 const char *topic,
                                 int32_t partitions,
                                 int32_t replication_factor,
                                 const ottla_config *config,
                                 int32_t timeout_ms,
                                 ottla_error **error);

/**
 * Deletes a topic.
 *
 * Errors: OTTLA_ERROR_UNKNOWN_TOPIC as the kind, 3 as the code; OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED.
 */
int32_t ottla_admin_delete_topic(ottla_admin *admin, const char *topic, int32_t timeout_ms, ottla_error **error);

/**
 * Gives a topic more partitions: `partitions` in total. Keys may go to other partitions from then on.
 */
int32_t ottla_admin_create_partitions(ottla_admin *admin,
                                      const char *topic,
                                      int32_t partitions,
                                      int32_t timeout_ms,
                                      ottla_error **error);

/**
 * Asks how many partitions a topic has.
 *
 * Errors: OTTLA_ERROR_UNKNOWN_TOPIC as the kind, 3 as the code; OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED.
 */
int32_t ottla_admin_partition_count(ottla_admin *admin,
                                    const char *topic,
                                    int32_t timeout_ms,
                                    int32_t *count,
                                    ottla_error **error);

/**
 * Lists all topics but Kafka's own.
 *
 * Ownership: the caller frees `*topics` with ottla_topics_free().
 */
int32_t ottla_admin_list_topics(ottla_admin *admin, int32_t timeout_ms, ottla_topics **topics, ottla_error **error);

/**
 * How many names there are. 0 for NULL.
 */
size_t ottla_topics_len(const ottla_topics *topics);

/**
 * Name number `index`, from 0, in alphabetical order; NULL if there is none. Lives as long as the list.
 */
const char *ottla_topics_get(const ottla_topics *topics, size_t index);

/**
 * Frees a list of names. NULL is allowed.
 */
void ottla_topics_free(ottla_topics *topics);

/**
 * Ends the waiting of whoever waits for this client, or of the next one who does, within 50 ms: it returns
 * OTTLA_ERROR_INTERRUPTED.
 *
 * Threads: any; may also be called from a signal handler.
 */
int32_t ottla_admin_wake(ottla_admin *admin);

/**
 * Closes the connections as soon as open calls have ended; calls give OTTLA_ERROR_CLOSED from now on. Returns at once; may be
 * called again.
 */
int32_t ottla_admin_close(ottla_admin *admin,
                          ottla_error **error);

/**
 * Closes and frees an admin client. NULL is allowed. OTTLA_ERROR_ARGUMENT if it was freed before.
 */
int32_t ottla_admin_free(ottla_admin *admin);

/**
 * Lists all groups, as a JSON array of objects: group_id, group_type, protocol_type, state.
 *
 * Ownership: the caller frees `*json` with ottla_string_free().
 * Errors: what a broker may say; OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED. So for the next ones.
 */
int32_t ottla_admin_list_groups(ottla_admin *admin, int32_t timeout_ms, char **json, ottla_error **error);

/**
 * Describes a group with its members, as a JSON object: group_id, group_type, state, protocol_type, assignor, coordinator,
 * group_epoch, assignment_epoch, members (member_id, instance_id, client_id, host, subscription, assignment, ...).
 *
 * Ownership: the caller frees `*json` with ottla_string_free(). Errors: 69 (GROUP_ID_NOT_FOUND).
 */
int32_t ottla_admin_describe_group(ottla_admin *admin,
                                   const char *group,
                                   int32_t timeout_ms,
                                   char **json,
                                   ottla_error **error);

/**
 * All committed offsets of a group, as a JSON array of objects: topic, partition, offset, leader_epoch, metadata.
 *
 * Ownership: the caller frees `*json` with ottla_string_free().
 */
int32_t ottla_admin_list_group_offsets(ottla_admin *admin,
                                       const char *group,
                                       int32_t timeout_ms,
                                       char **json,
                                       ottla_error **error);

/**
 * Commits offsets on behalf of a group that has no members. Errors: that of the first partition that could not be; OTTLA_ERROR_FENCED
 * for a group with members.
 */
int32_t ottla_admin_alter_group_offsets(ottla_admin *admin,
                                        const char *group,
                                        const ottla_offset *offsets,
                                        size_t count,
                                        int32_t timeout_ms,
                                        ottla_error **error);

/**
 * Forgets committed offsets of a group, of topics that none of its members is subscribed to. Errors: that of the first partition
 * that could not be.
 */
int32_t ottla_admin_delete_group_offsets(ottla_admin *admin,
                                         const char *group,
                                         const ottla_topic_partition *partitions,
                                         size_t count,
                                         int32_t timeout_ms,
                                         ottla_error **error);

/**
 * Deletes a group with all its committed offsets. Errors: 68 (NON_EMPTY_GROUP), 69 (GROUP_ID_NOT_FOUND).
 */
int32_t ottla_admin_delete_group(ottla_admin *admin, const char *group, int32_t timeout_ms, ottla_error **error);

/**
 * Begins to gather lines of `level` (one of ottla_log_level) and graver, of all clients of the process; later calls change the
 * level. At most 1,000 lines wait for ottla_log_poll(); what does not fit is dropped.
 *
 * Threads: any. Errors: OTTLA_ERROR_ARGUMENT; OTTLA_ERROR_RUNTIME without a file descriptor.
 */
int32_t ottla_log_start(int32_t level,
                        ottla_error **error);

/**
 * A file descriptor that is readable while there are lines to poll; -1 before ottla_log_start(). Do not read or close it.
 */
int ottla_log_fd(void);

/**
 * Tells the lines that have gathered to `callback`, in this thread, and returns how many. Never waits. A NULL callback drops
 * them.
 *
 * Threads: any; the callback is never called by a thread of the library. It must not leave by longjmp or a C++ exception.
 */
size_t ottla_log_poll(ottla_log_callback callback,
                      void *user_data);

/**
 * Starts a broker in this process. Its data are in a temporary folder, which is removed at the end.
 *
 * `properties`: keys of server.properties, or NULL.
 * Ownership: the properties are copied. The caller ends `*cluster` with ottla_cluster_stop(), or with ottla_cluster_free().
 * Threads: any, and so are all other functions of a cluster.
 * Errors: OTTLA_ERROR_CONFIG.
 */
int32_t ottla_cluster_start(const ottla_config *properties,
                            ottla_cluster **cluster,
                            ottla_error **error);

/**
 * What clients take as "bootstrap.servers". Lives until the cluster is stopped or freed. NULL for what is no cluster.
 */
const char *ottla_cluster_bootstrap_servers(const ottla_cluster *cluster);

/**
 * Has the broker do wrong what `rule` says, such as "api=Produce topic=gps error_after=6 times=2".
 *
 * Errors: OTTLA_ERROR_ARGUMENT for a rule that is not understood.
 */
int32_t ottla_cluster_fault(ottla_cluster *cluster, const char *rule, ottla_error **error);

/**
 * Takes all faults away.
 */
int32_t ottla_cluster_clear_faults(ottla_cluster *cluster, ottla_error **error);

/**
 * Ends all connections to the broker, as a network does that fails.
 */
int32_t ottla_cluster_disconnect_all(ottla_cluster *cluster, ottla_error **error);

/**
 * Ends the broker with everything on its disk, waits for that, and frees the handle. NULL is allowed.
 */
int32_t ottla_cluster_stop(ottla_cluster *cluster, ottla_error **error);

/**
 * Ends the broker at once, as a kill would, and frees the handle. NULL is allowed.
 */
int32_t ottla_cluster_free(ottla_cluster *cluster);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* OTTLA_H */

/** A literal as bytes, without its NUL: OTTLA_BYTES("truck-7"). */
#define OTTLA_BYTES(literal) { (literal), sizeof(literal) - 1 }

/** The initial value of an ottla_record: no partition, no timestamp, nothing in it. */
#define OTTLA_RECORD_INIT { sizeof(ottla_record), NULL, { NULL, 0 }, { NULL, 0 }, NULL, 0, NULL, -1, -1, 0 }
/** The initial value of an ottla_report. Of an array, only the first needs it. */
#define OTTLA_REPORT_INIT { sizeof(ottla_report), NULL, 0, -1, -1, -1, NULL, NULL, OTTLA_PERSISTED_NO }
/** The initial value of an ottla_closed. */
#define OTTLA_CLOSED_INIT { sizeof(ottla_closed), 0, 0, false }
/** The initial value of an ottla_counts. */
#define OTTLA_COUNTS_INIT { sizeof(ottla_counts), 0, 0, 0, 0 }
/** The initial value of an ottla_message. */
#define OTTLA_MESSAGE_INIT { sizeof(ottla_message), NULL, { NULL, 0 }, { NULL, 0 }, 0, 0, 0, 0, OTTLA_TIMESTAMP_CREATE_TIME, 0 }
