import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.HashMap;
import java.util.Map;

import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.config.ConfigException;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** For each line of keys and values (k=v k=v) says whether Kafka's producer would be idempotent: true, false, or refused. */
public class ProducerConfigs {
    public static void main(String[] arguments) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            Map<String, Object> settings = new HashMap<>();
            settings.put("bootstrap.servers", "localhost:9092");
            settings.put("key.serializer", ByteArraySerializer.class);
            settings.put("value.serializer", ByteArraySerializer.class);
            for (String pair : line.split(" ")) {
                if (!pair.isEmpty()) {
                    String[] parts = pair.split("=", 2);
                    settings.put(parts[0], parts[1]);
                }
            }
            try {
                System.out.println(new ProducerConfig(settings).getBoolean("enable.idempotence"));
            } catch (ConfigException refused) {
                System.out.println("refused");
            }
        }
    }
}
