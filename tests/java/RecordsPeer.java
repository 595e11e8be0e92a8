// Kafka's own record classes (kafka-clients 4.4.0) as a judge of ours.
//
//   java RecordsPeer.java write    prints batches that Kafka built: "name <name>", "hex <batches>", what Kafka itself
//                                  reads in them, "end"
//   java RecordsPeer.java read     reads one run of batches a line (hex) and prints for each what Kafka reads in it, "end"
//
// What Kafka reads is one line a batch and one line a record; Ottla prints the same lines, so that a difference is a
// difference of text. An exception becomes a line "error <class>: <message>".

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import java.util.OptionalLong;
import java.util.Random;
import java.util.function.BiPredicate;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.message.LeaderChangeMessage;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.CompressionType;
import org.apache.kafka.common.record.internal.ControlRecordType;
import org.apache.kafka.common.record.internal.DefaultRecordBatch;
import org.apache.kafka.common.record.internal.EndTransactionMarker;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecords.RecordFilter;
import org.apache.kafka.common.record.internal.MemoryRecords.RecordFilter.BatchRetention;
import org.apache.kafka.common.record.internal.MemoryRecords.RecordFilter.BatchRetentionResult;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.MutableRecordBatch;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.RecordBatch;
import org.apache.kafka.common.utils.internals.BufferSupplier;

public class RecordsPeer {
    private static final HexFormat HEX = HexFormat.of();
    private static final long NOW = 1_700_000_000_000L;
    private static final Header[] NONE = {};

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "write" -> write();
            case "read" -> {
                BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
                StringBuilder out = new StringBuilder();
                for (String line = in.readLine(); line != null; line = in.readLine()) {
                    describe(ByteBuffer.wrap(HEX.parseHex(line)), out);
                    out.append("end\n");
                }
                System.out.print(out);
            }
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    // ---- reading

    private static void describe(ByteBuffer bytes, StringBuilder out) {
        try {
            for (MutableRecordBatch batch : MemoryRecords.readableRecords(bytes).batches()) {
                describe((DefaultRecordBatch) batch, out);
            }
        } catch (RuntimeException e) {
            out.append("error ").append(e.getClass().getSimpleName()).append(": ").append(e.getMessage()).append('\n');
        }
    }

    private static void describe(DefaultRecordBatch batch, StringBuilder out) {
        batch.ensureValid();
        OptionalLong horizon = batch.deleteHorizonMs();
        out.append("batch offsets=").append(batch.baseOffset()).append("..").append(batch.lastOffset())
            .append(" size=").append(batch.sizeInBytes())
            .append(" epoch=").append(batch.partitionLeaderEpoch())
            .append(" crc=").append(batch.checksum())
            .append(" codec=").append(batch.compressionType().name)
            .append(" time=").append(batch.timestampType() == TimestampType.CREATE_TIME ? "create" : "append")
            .append(" base=").append(batch.baseTimestamp())
            .append(" max=").append(batch.maxTimestamp())
            .append(" horizon=").append(horizon.isPresent() ? Long.toString(horizon.getAsLong()) : "none")
            .append(" transactional=").append(batch.isTransactional())
            .append(" control=").append(batch.isControlBatch())
            .append(" producer=").append(batch.producerId()).append('/').append(batch.producerEpoch())
            .append(" sequences=").append(batch.baseSequence()).append("..").append(batch.lastSequence())
            .append(" count=").append(batch.countOrNull()).append('\n');
        try (var records = batch.streamingIterator(BufferSupplier.NO_CACHING)) {
            while (records.hasNext()) {
                describe(batch, records.next(), out);
            }
        }
    }

    private static void describe(RecordBatch batch, Record record, StringBuilder out) {
        out.append("record offset=").append(record.offset())
            .append(" time=").append(record.timestamp())
            .append(" key=").append(hex(record.key()))
            .append(" value=").append(hex(record.value()))
            .append(" headers=[");
        String comma = "";
        for (Header header : record.headers()) {
            out.append(comma).append(HEX.formatHex(header.key().getBytes(StandardCharsets.UTF_8))).append(':')
                .append(header.value() == null ? "null" : HEX.formatHex(header.value()));
            comma = ",";
        }
        out.append(']');
        if (batch.isControlBatch()) {
            ControlRecordType type = ControlRecordType.parse(record.key());
            out.append(" control=").append(type == ControlRecordType.COMMIT || type == ControlRecordType.ABORT
                ? type.name().toLowerCase() + "/" + EndTransactionMarker.deserialize(record).coordinatorEpoch()
                : "other/" + ControlRecordType.parseTypeId(record.key()));
        }
        out.append('\n');
    }

    private static String hex(ByteBuffer bytes) {
        if (bytes == null) {
            return "null";
        }
        byte[] copy = new byte[bytes.remaining()];
        bytes.duplicate().get(copy);
        return HEX.formatHex(copy);
    }

    // ---- writing

    private static void write() {
        for (CompressionType type : CompressionType.values()) {
            Compression codec = Compression.of(type).build();
            print("mixed-create-" + type.name, mixed(codec, TimestampType.CREATE_TIME, 1000, -1, false));
            print("mixed-append-" + type.name, mixed(codec, TimestampType.LOG_APPEND_TIME, 7, -1, false));
            print("transactional-" + type.name, mixed(codec, TimestampType.CREATE_TIME, 0, 4711, true));
            print("repetitive-" + type.name, repetitive(codec));
            print("random-" + type.name, random(codec));
            print("cleaned-" + type.name, filtered(codec, BatchRetention.RETAIN_EMPTY, (batch, record) ->
                record.offset() != 1000 && record.offset() != 1003 && record.offset() != 1006));
        }
        print("emptied", filtered(Compression.NONE, BatchRetention.RETAIN_EMPTY, (batch, record) -> false));
        print("commit", MemoryRecords.withEndTransactionMarker(42, NOW, 9, 4711, (short) 3,
            new EndTransactionMarker(ControlRecordType.COMMIT, 17)).buffer());
        print("abort", MemoryRecords.withEndTransactionMarker(43, NOW, 9, 4711, (short) 3,
            new EndTransactionMarker(ControlRecordType.ABORT, 18)).buffer());
        print("leader-change", MemoryRecords.withLeaderChangeMessage(5, NOW, 2, ByteBuffer.allocate(256),
            new LeaderChangeMessage().setLeaderId(1)).buffer());
        print("sequence-wraps", sequenceWraps());
        print("no-timestamp", noTimestamp());
        print("several", several());
    }

    private static MemoryRecordsBuilder builder(Compression codec, TimestampType type, long baseOffset, long producer,
            int sequence, boolean transactional) {
        short epoch = producer < 0 ? (short) -1 : 3;
        return MemoryRecords.builder(ByteBuffer.allocate(512), RecordBatch.MAGIC_VALUE_V2, codec, type, baseOffset,
            NOW + 5, producer, epoch, sequence, transactional, 12);
    }

    private static ByteBuffer mixed(Compression codec, TimestampType type, long base, long producer, boolean transactional) {
        MemoryRecordsBuilder batch = builder(codec, type, base, producer, producer < 0 ? -1 : 100, transactional);
        batch.append(NOW, bytes("key"), bytes("value"), NONE);
        batch.append(NOW + 1, (byte[]) null, bytes("without key"), NONE);
        batch.append(NOW - 100_000, bytes("older tombstone"), null, NONE);
        batch.append(NOW + 3_000_000_000L, (byte[]) null, (byte[]) null, NONE);
        batch.append(NOW, new byte[0], new byte[0], new Header[] {
            new RecordHeader("a", bytes("1")), new RecordHeader("b", (byte[]) null), new RecordHeader("a", bytes("2")),
            new RecordHeader("", new byte[0]), new RecordHeader("schlüssel", new byte[] {0, -1, 127, -128})});
        batch.append(NOW, bytes("x".repeat(63)), bytes("y".repeat(64)), NONE);
        batch.append(NOW, bytes("x".repeat(300)), new byte[200], NONE);
        return batch.build().buffer();
    }

    // Larger than a block of snappy (32 KiB) and of LZ4 (64 KiB).
    private static ByteBuffer repetitive(Compression codec) {
        MemoryRecordsBuilder batch = builder(codec, TimestampType.CREATE_TIME, 0, -1, -1, false);
        for (int i = 0; i < 3000; i++) {
            batch.append(NOW + i % 7, bytes("key-" + i % 100), bytes("the value of record number " + i + " is that number"), NONE);
        }
        return batch.build().buffer();
    }

    private static ByteBuffer random(Compression codec) {
        MemoryRecordsBuilder batch = builder(codec, TimestampType.CREATE_TIME, 0, -1, -1, false);
        Random random = new Random(1);
        for (int size : new int[] {1, 127, 128, 16383, 16384, 100_000, 3}) {
            byte[] value = new byte[size];
            random.nextBytes(value);
            batch.append(NOW, (byte[]) null, value, NONE);
        }
        return batch.build().buffer();
    }

    // What the log cleaner leaves: gaps in offsets, and a delete horizon in place of the base timestamp.
    private static ByteBuffer filtered(Compression codec, BatchRetention retention, BiPredicate<RecordBatch, Record> keep) {
        MemoryRecords whole = MemoryRecords.readableRecords(mixed(codec, TimestampType.CREATE_TIME, 1000, 4711, false));
        RecordFilter filter = new RecordFilter(NOW, 86_400_000) {
            @Override protected BatchRetentionResult checkBatchRetention(RecordBatch batch) {
                return new BatchRetentionResult(retention, false);
            }

            @Override protected boolean shouldRetainRecord(RecordBatch batch, Record record) {
                return keep.test(batch, record);
            }
        };
        ByteBuffer room = ByteBuffer.allocate(4096);
        ByteBuffer left = whole.filterTo(filter, room, BufferSupplier.NO_CACHING, Integer.MAX_VALUE).outputBuffer();
        left.flip();
        return left;
    }

    private static ByteBuffer sequenceWraps() {
        MemoryRecordsBuilder batch =
            builder(Compression.NONE, TimestampType.CREATE_TIME, 0, 4711, Integer.MAX_VALUE - 1, false);
        for (int i = 0; i < 4; i++) {
            batch.append(NOW, (byte[]) null, bytes("v" + i), NONE);
        }
        return batch.build().buffer();
    }

    private static ByteBuffer noTimestamp() {
        MemoryRecordsBuilder batch = builder(Compression.NONE, TimestampType.CREATE_TIME, 0, -1, -1, false);
        batch.append(RecordBatch.NO_TIMESTAMP, (byte[]) null, bytes("a"), NONE);
        batch.append(RecordBatch.NO_TIMESTAMP, (byte[]) null, bytes("b"), NONE);
        return batch.build().buffer();
    }

    private static ByteBuffer several() {
        ByteBuffer all = ByteBuffer.allocate(8192);
        all.put(mixed(Compression.gzip().build(), TimestampType.CREATE_TIME, 0, -1, false));
        all.put(sequenceWraps());
        all.put(mixed(Compression.lz4().build(), TimestampType.LOG_APPEND_TIME, 11, -1, false));
        all.flip();
        return all;
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static void print(String name, ByteBuffer bytes) {
        StringBuilder out = new StringBuilder();
        out.append("name ").append(name).append("\nhex ").append(hex(bytes)).append('\n');
        describe(bytes.duplicate(), out);
        System.out.print(out.append("end\n"));
    }
}
