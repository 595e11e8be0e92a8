// Answers where Kafka's own producer puts a key:
//
//   PARTITIONS KEY      ->      PARTITION HASH
//
// KEY is hexadecimal, or `empty`. PARTITION is that of the producer's built-in partitioner, which must be the same as
// its parts by themselves: murmur2, made positive, and the remainder.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.util.HexFormat;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.utils.Utils;

public class Partitions {
    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        StringBuilder out = new StringBuilder();
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.split(" ");
            int partitions = Integer.parseInt(words[0]);
            byte[] key = words[1].equals("empty") ? new byte[0] : HexFormat.of().parseHex(words[1]);
            int hash = Utils.murmur2(key);
            int partition = BuiltInPartitioner.partitionForKey(key, partitions);
            if (partition != Utils.toPositive(hash) % partitions) {
                throw new IllegalStateException("Kafka contradicts itself on " + line);
            }
            out.append(partition).append(' ').append(hash).append('\n');
        }
        new PrintStream(System.out, true).print(out);
    }
}
