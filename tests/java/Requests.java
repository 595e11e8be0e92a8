// Prints one valid request of each (API key, version) that Kafka 4.4.0 knows, made by Kafka's own classes:
//
//   KEY VERSION NAME HEX      the frame with its length prefix
//
// Every field of the version is set, and every array has two elements: each is a place for a test to put a bomb.

import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.AbstractCollection;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.SimpleRecord;

public class Requests {
    public static void main(String[] args) throws Exception {
        for (ApiMessageType api : ApiMessageType.values()) {
            for (short version = api.lowestSupportedVersion(); version <= api.highestSupportedVersion(true); version++) {
                ApiMessage request = api.newRequest();
                fill(request, version);
                RequestHeaderData header = new RequestHeaderData()
                    .setRequestApiKey(api.apiKey()).setRequestApiVersion(version).setCorrelationId(7).setClientId("hostile");
                byte[] frame = frame(header, api.requestHeaderVersion(version), request, version);
                System.out.println(api.apiKey() + " " + version + " " + api.name + " " + HexFormat.of().formatHex(frame));
            }
        }
    }

    private static byte[] frame(Message header, short headerVersion, Message body, short version) {
        ObjectSerializationCache cache = new ObjectSerializationCache();
        int size = header.size(cache, headerVersion) + body.size(cache, version);
        ByteBuffer buffer = ByteBuffer.allocate(4 + size);
        buffer.putInt(size);
        ByteBufferAccessor out = new ByteBufferAccessor(buffer);
        header.write(out, cache, headerVersion);
        body.write(out, cache, version);
        return buffer.array();
    }

    private static void fill(Object struct, short version) throws Exception {
        Set<String> present = fieldsOf(struct.getClass(), version);
        for (Method setter : struct.getClass().getMethods()) {
            String name = setter.getName();
            if (!name.startsWith("set") || setter.getParameterCount() != 1
                || !present.contains(name.substring(3).toLowerCase(Locale.ROOT))) {
                continue;
            }
            Object value = value(setter.getGenericParameterTypes()[0], name, version);
            if (value != null) {
                setter.invoke(struct, value);
            }
        }
    }

    /** The names of the fields that a version has, without underscores. */
    private static Set<String> fieldsOf(Class<?> struct, short version) throws Exception {
        Field schemas = struct.getField("SCHEMAS");
        Schema schema = ((Schema[]) schemas.get(null))[version];
        Set<String> names = new HashSet<>();
        for (BoundField field : schema.fields()) {
            names.add(field.def.name.replace("_", ""));
        }
        return names;
    }

    private static Object value(Type type, String name, short version) throws Exception {
        if (type instanceof ParameterizedType list) {
            Collection<Object> elements = new ArrayList<>();
            addTwo(elements, list.getActualTypeArguments()[0], name, version);
            return elements;
        }
        Class<?> raw = (Class<?>) type;
        return switch (raw.getSimpleName()) {
            case "byte", "Byte" -> (byte) 1;
            case "short", "Short" -> (short) 1;
            case "int", "Integer" -> 1;
            case "long", "Long" -> 1L;
            case "double" -> 1.0;
            case "boolean" -> true;
            case "String" -> "hostile";
            case "byte[]" -> "bytes".getBytes(StandardCharsets.UTF_8);
            case "ByteBuffer" -> ByteBuffer.wrap("bytes".getBytes(StandardCharsets.UTF_8));
            case "Uuid" -> new Uuid(1, 2);
            case "BaseRecords" -> MemoryRecords.withRecords(
                Compression.NONE, new SimpleRecord("key".getBytes(StandardCharsets.UTF_8), "value".getBytes(StandardCharsets.UTF_8)));
            default -> structOrCollection(raw, name, version);
        };
    }

    @SuppressWarnings("unchecked")
    private static Object structOrCollection(Class<?> raw, String name, short version) throws Exception {
        if (raw.isPrimitive() || raw.isInterface()) {
            return null;
        }
        Object made = raw.getDeclaredConstructor().newInstance();
        if (made instanceof AbstractCollection<?> collection) {
            // A set with keys: TopicCollection extends ImplicitLinkedHashMultiCollection<Topic>.
            Type element = ((ParameterizedType) raw.getGenericSuperclass()).getActualTypeArguments()[0];
            addTwo((Collection<Object>) collection, element, name, version);
        } else {
            fill(made, version);
        }
        return made;
    }

    private static void addTwo(Collection<Object> elements, Type type, String name, short version) throws Exception {
        for (int i = 0; i < 2; i++) {
            elements.add(value(type, name, version));
        }
    }
}
