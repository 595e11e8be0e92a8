/* The header, all its macros, and nothing else: compiled as C99, C11 and C++17 with every warning an error. */
#include <ottla.h>

#include <string.h>

int main(void) {
    ottla_record record = OTTLA_RECORD_INIT;
    ottla_report report = OTTLA_REPORT_INIT;
    ottla_counts counts = OTTLA_COUNTS_INIT;
    ottla_message message = OTTLA_MESSAGE_INIT;
    ottla_bytes key = OTTLA_BYTES("truck-7");
    record.key = key;
    if (record.partition != -1 || record.timestamp_ms != -1 || record.key.len != 7) return 1;
    if (record.struct_size != sizeof record || report.struct_size != sizeof report) return 2;
    if (counts.struct_size != sizeof counts || message.struct_size != sizeof message) return 3;
    if (strcmp(ottla_version(), OTTLA_VERSION) != 0) return 4;
    return ottla_error_code(NULL) == OTTLA_OK ? 0 : 5;
}
