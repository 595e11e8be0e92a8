// Kafka's own consumer as a member of a group that writes down what happens to it.
//
//   java -cp '.peers/kafka-4.3.1/*' tests/java/GroupMember.java NAME TOPIC KEY=VALUE...    until standard input ends
//
// What it writes is described in tests/src/groups/history.rs.

import java.io.IOException;
import java.time.Duration;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public class GroupMember {
    private static String name;
    private static KafkaConsumer<byte[], byte[]> consumer;
    /** What is processed and perhaps not committed. */
    private static final Map<TopicPartition, OffsetAndMetadata> processed = new HashMap<>();
    private static volatile boolean ended;

    public static void main(String[] args) {
        name = args[0] + ".0.0";
        Properties config = new Properties();
        for (String pair : Arrays.copyOfRange(args, 2, args.length)) {
            String[] parts = pair.split("=", 2);
            config.put(parts[0], parts[1]);
        }
        config.put("fetch.max.wait.ms", "100");
        Thread watch = new Thread(() -> {
            try {
                while (System.in.read() >= 0) { }
            } catch (IOException e) {
                // The same as its end.
            }
            ended = true;
        });
        watch.setDaemon(true);
        watch.start();
        consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        consumer.subscribe(List.of(args[1]), new Told());
        while (!ended) {
            ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(100));
            for (TopicPartition partition : records.partitions()) {
                List<ConsumerRecord<byte[], byte[]>> run = records.records(partition);
                long next = run.get(run.size() - 1).offset() + 1;
                say("read " + partition.partition() + " " + run.get(0).offset() + " " + next);
                processed.put(partition, new OffsetAndMetadata(next));
            }
        }
        commit();
        consumer.close();
        say("leaving");
        say("left true");
        System.exit(0);
    }

    private static class Told implements ConsumerRebalanceListener {
        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            say("assigned " + listed(partitions));
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            commit();
            say("revoked " + listed(partitions));
            processed.keySet().removeAll(partitions);
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            say("lost " + listed(partitions));
            processed.keySet().removeAll(partitions);
        }
    }

    private static void commit() {
        if (processed.isEmpty()) {
            return;
        }
        long begun = now();
        try {
            consumer.commitSync(processed);
            processed.forEach((partition, offset) ->
                say("committed " + begun + " " + partition.partition() + " " + offset.offset()));
            processed.clear();
        } catch (CommitFailedException e) {
            say("refused " + e.getMessage().replace('\n', ' '));
        }
    }

    private static String listed(Collection<TopicPartition> partitions) {
        return partitions.isEmpty() ? "-"
            : partitions.stream().map(known -> "" + known.partition()).collect(Collectors.joining(","));
    }

    private static long now() {
        return ChronoUnit.MICROS.between(Instant.EPOCH, Instant.now());
    }

    private static void say(String words) {
        System.out.println(now() + " " + name + " " + words);
    }
}
