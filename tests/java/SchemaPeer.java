// Kafka's own message classes (4.4.0) as a judge of ours.
//
//   java SchemaPeer.java judge                  reads samples from standard input, reads each with the Kafka class of its
//                                               name, writes it again, and prints a line for each that is not the same
//   java SchemaPeer.java make <seed> <count>    reads "name version" lines, and writes <count> random samples of each,
//                                               built from the schema in the class and then read and written by it
//   java SchemaPeer.java defaults               reads "name version" lines, and writes one sample of each: a new object
//                                               (no bytes where Kafka refuses to write one)
//   java SchemaPeer.java judge-stored           as judge, but for records in the frames that brokers store them in: the
//                                               name is "metadata", "groups" or "transactions"; for the last two the bytes
//                                               are the length of the key (four bytes), the key, and the value
//   java SchemaPeer.java apis | errors          prints Kafka's tables
//
// A sample is: length and bytes of the name, version (two bytes), length and bytes of the message. Lengths are four
// bytes. Everything is big-endian.

import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.BufferedReader;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.errors.InvalidMetadataException;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Field;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.Struct;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.coordinator.common.runtime.CoordinatorRecord;
import org.apache.kafka.coordinator.common.runtime.CoordinatorRecordSerde;
import org.apache.kafka.coordinator.group.GroupCoordinatorRecordSerde;
import org.apache.kafka.coordinator.transaction.TransactionCoordinatorRecordSerde;
import org.apache.kafka.metadata.MetadataRecordSerde;
import org.apache.kafka.server.common.ApiMessageAndVersion;

public class SchemaPeer {
    private static final String[] PACKAGES = {
        "org.apache.kafka.common.message.",
        "org.apache.kafka.common.metadata.",
        "org.apache.kafka.coordinator.group.generated.",
        "org.apache.kafka.coordinator.transaction.generated.",
        "org.apache.kafka.raft.generated.",
        "org.apache.kafka.server.log.remote.metadata.storage.generated.",
    };

    private record Name(String name, short version) {}

    private static final Map<String, Class<?>> CLASSES = new TreeMap<>();

    private static Class<?> find(String name) {
        for (String place : PACKAGES) {
            for (String suffix : new String[] {"Data", ""}) {
                try {
                    return Class.forName(place + name + suffix);
                } catch (ClassNotFoundException e) {
                    // The next place may have it.
                }
            }
        }
        throw new IllegalArgumentException("no class for " + name);
    }

    private static Message create(String name) throws ReflectiveOperationException {
        return (Message) CLASSES.computeIfAbsent(name, SchemaPeer::find).getDeclaredConstructor().newInstance();
    }

    private static byte[] write(Message message, short version) {
        ObjectSerializationCache cache = new ObjectSerializationCache();
        ByteBuffer out = ByteBuffer.allocate(message.size(cache, version));
        message.write(new ByteBufferAccessor(out), cache, version);
        if (out.hasRemaining()) {
            throw new IllegalStateException("wrote less than its size");
        }
        return out.array();
    }

    private static byte[] recode(String name, short version, byte[] bytes) throws ReflectiveOperationException {
        Message message = create(name);
        ByteBuffer in = ByteBuffer.wrap(bytes);
        message.read(new ByteBufferAccessor(in), version);
        if (in.hasRemaining()) {
            throw new IllegalStateException(in.remaining() + " bytes left over");
        }
        return write(message, version);
    }

    private static byte[] recodeStored(String name, short version, byte[] bytes) {
        ByteBuffer in = ByteBuffer.wrap(bytes);
        if (name.equals("metadata")) {
            ApiMessageAndVersion record = MetadataRecordSerde.INSTANCE.read(new ByteBufferAccessor(in), bytes.length);
            ObjectSerializationCache cache = new ObjectSerializationCache();
            ByteBuffer out = ByteBuffer.allocate(MetadataRecordSerde.INSTANCE.recordSize(record, cache));
            MetadataRecordSerde.INSTANCE.write(record, cache, new ByteBufferAccessor(out));
            return out.array();
        }
        CoordinatorRecordSerde serde =
            name.equals("groups") ? new GroupCoordinatorRecordSerde() : new TransactionCoordinatorRecordSerde();
        int length = in.getInt();
        ByteBuffer key = in.slice(in.position(), length);
        ByteBuffer value = in.slice(in.position() + length, in.remaining() - length);
        CoordinatorRecord record = serde.deserialize(key, value);
        byte[] keyAgain = serde.serializeKey(record);
        byte[] valueAgain = serde.serializeValue(record);
        ByteBuffer out = ByteBuffer.allocate(4 + keyAgain.length + valueAgain.length);
        return out.putInt(keyAgain.length).put(keyAgain).put(valueAgain).array();
    }

    private interface Recode {
        byte[] apply(String name, short version, byte[] bytes) throws Exception;
    }

    private static void judge(Recode recode) throws IOException {
        DataInputStream in = new DataInputStream(new BufferedInputStream(System.in, 1 << 16));
        StringBuilder report = new StringBuilder();
        int judged = 0;
        for (int length = next(in); length >= 0; length = next(in)) {
            String name = new String(in.readNBytes(length), StandardCharsets.UTF_8);
            short version = in.readShort();
            byte[] bytes = in.readNBytes(in.readInt());
            judged++;
            String problem = null;
            try {
                byte[] again = recode.apply(name, version, bytes);
                if (!Arrays.equals(again, bytes)) {
                    problem = "written as " + HexFormat.of().formatHex(again);
                }
            } catch (Exception | Error e) {
                problem = e.toString().replace('\n', ' ');
            }
            if (problem != null) {
                String hex = HexFormat.of().formatHex(bytes);
                report.append(name).append(" v").append(version).append(' ').append(hex).append(": ");
                report.append(problem).append('\n');
            }
        }
        System.out.print(report);
        System.out.println("judged " + judged);
    }

    /** The next length, or -1 at the end of the input. */
    private static int next(DataInputStream in) throws IOException {
        int first = in.read();
        return first < 0 ? -1 : first << 24 | in.readUnsignedByte() << 16 | in.readUnsignedShort();
    }

    private static void make(long seed, int count) throws Exception {
        try (DataOutputStream out = output()) {
            for (Name wanted : wanted()) {
                Message message = create(wanted.name);
                Schema[] schemas = (Schema[]) message.getClass().getField("SCHEMAS").get(null);
                Random random = new Random(seed ^ wanted.name.hashCode() * 31L + wanted.version);
                for (int i = 0; i < count; i++) {
                    Object struct = value(schemas[wanted.version], random, 0);
                    ByteBuffer bytes = ByteBuffer.allocate(schemas[wanted.version].sizeOf(struct));
                    schemas[wanted.version].write(bytes, struct);
                    send(out, wanted, recode(wanted.name, wanted.version, bytes.array()));
                }
            }
        }
    }

    private static void defaults() throws Exception {
        try (DataOutputStream out = output()) {
            for (Name wanted : wanted()) {
                byte[] bytes;
                try {
                    bytes = write(create(wanted.name), wanted.version);
                } catch (RuntimeException e) {
                    continue;
                }
                send(out, wanted, bytes);
            }
        }
    }

    private static DataOutputStream output() {
        return new DataOutputStream(new BufferedOutputStream(System.out, 1 << 16));
    }

    private static Iterable<Name> wanted() {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        return in.lines().map(line -> line.split(" ")).map(words -> new Name(words[0], Short.parseShort(words[1])))
            .toList();
    }

    private static void send(DataOutputStream out, Name name, byte[] bytes) throws IOException {
        byte[] text = name.name.getBytes(StandardCharsets.UTF_8);
        out.writeInt(text.length);
        out.write(text);
        out.writeShort(name.version);
        out.writeInt(bytes.length);
        out.write(bytes);
    }

    /** A random value of a type, as Kafka's generic classes take it. */
    private static Object value(Type type, Random random, int depth) {
        if (type.isNullable() && random.nextInt(4) == 0) {
            return null;
        }
        if (type instanceof Schema schema) {
            Struct struct = new Struct(schema);
            for (BoundField field : schema.fields()) {
                struct.set(field, value(field.def.type, random, depth + 1));
            }
            return struct;
        }
        if (type instanceof TaggedFields tagged) {
            Map<Integer, Object> values = new TreeMap<>();
            for (Map.Entry<Integer, Field> field : tagged.fields().entrySet()) {
                if (random.nextBoolean()) {
                    values.put(field.getKey(), value(field.getValue().type, random, depth + 1));
                }
            }
            return values;
        }
        if (type.isArray()) {
            Object[] elements = new Object[random.nextInt(depth > 4 ? 2 : 4)];
            for (int i = 0; i < elements.length; i++) {
                elements[i] = value(type.arrayElementType().get(), random, depth + 1);
            }
            return elements;
        }
        String name = ((Type.DocumentedType) type).typeName().replace("COMPACT_", "").replace("NULLABLE_", "");
        return switch (name) {
            case "BOOLEAN" -> random.nextBoolean();
            case "INT8" -> (byte) random.nextInt();
            case "INT16" -> (short) random.nextInt();
            case "UINT16" -> random.nextInt(1 << 16);
            case "INT32" -> random.nextInt();
            case "UINT32" -> random.nextInt() & 0xffffffffL;
            case "INT64" -> random.nextLong();
            case "UUID" -> new Uuid(random.nextLong(), random.nextLong());
            case "FLOAT64" -> random.nextGaussian();
            case "STRING" -> text(random);
            case "BYTES" -> ByteBuffer.wrap(bytes(random));
            case "RECORDS" -> MemoryRecords.readableRecords(ByteBuffer.wrap(bytes(random)));
            default -> throw new IllegalArgumentException("type " + name);
        };
    }

    private static String text(Random random) {
        int length = random.nextInt(20) == 0 ? random.nextInt(300) : random.nextInt(12);
        return random.ints(length, 0, 4).mapToObj(kind -> switch (kind) {
            case 0 -> "\u00e9";
            case 1 -> "\u65e5";
            case 2 -> "\ud83e\udda6";
            default -> Character.toString('a' + random.nextInt(26));
        }).reduce("", String::concat);
    }

    private static byte[] bytes(Random random) {
        byte[] bytes = new byte[random.nextInt(20) == 0 ? random.nextInt(300) : random.nextInt(12)];
        random.nextBytes(bytes);
        return bytes;
    }

    private static void apis() {
        for (ApiMessageType api : ApiMessageType.values()) {
            if (api.lowestSupportedVersion() > api.highestSupportedVersion(true)) {
                continue;
            }
            System.out.printf("%d %s %d %d %d", api.apiKey(), api.name, api.lowestSupportedVersion(),
                api.highestSupportedVersion(false), api.highestSupportedVersion(true));
            System.out.printf(" %b %b", api.listeners().contains(ApiMessageType.ListenerType.BROKER),
                api.listeners().contains(ApiMessageType.ListenerType.CONTROLLER));
            for (int version = api.lowestSupportedVersion(); version <= api.highestSupportedVersion(true); version++) {
                System.out.printf(" %d/%d", api.requestHeaderVersion((short) version),
                    api.responseHeaderVersion((short) version));
            }
            System.out.println();
        }
    }

    private static void errors() {
        for (Errors error : Errors.values()) {
            Exception exception = error.exception();
            System.out.printf("%d %s %b %b%n", error.code(), error.name(), exception instanceof RetriableException,
                exception instanceof InvalidMetadataException);
        }
    }

    public static void main(String[] arguments) throws Exception {
        switch (arguments[0]) {
            case "judge" -> judge(SchemaPeer::recode);
            case "judge-stored" -> judge(SchemaPeer::recodeStored);
            case "make" -> make(Long.parseLong(arguments[1]), Integer.parseInt(arguments[2]));
            case "defaults" -> defaults();
            case "apis" -> apis();
            case "errors" -> errors();
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }
}
