// Java client adapter of the peer benchmark. See ../../README.md for the argument list.
import java.nio.*;
import java.nio.file.*;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.serialization.*;
import org.apache.kafka.common.utils.AppInfoParser;

public class Bench {
  static Map<String, String> a = new HashMap<>();
  static String arg(String k, String d) { return a.getOrDefault(k, d); }
  static int num(String k, String d) { return Integer.parseInt(arg(k, d)); }
  static double cpu() {
    return ((com.sun.management.OperatingSystemMXBean) java.lang.management.ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime() / 1e9;
  }
  static boolean assigns() { return arg("assign", "0").equals("1"); }
  static long assigned; // when the group first assigned partitions
  static KafkaConsumer<byte[], byte[]> consumer(String topic) {
    Properties p = new Properties();
    p.put("bootstrap.servers", arg("bootstrap", "127.0.0.1:9092"));
    if (!assigns()) p.put("group.id", arg("group", topic));
    p.put("auto.offset.reset", "earliest");
    KafkaConsumer<byte[], byte[]> c = new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    if (assigns()) {
      List<org.apache.kafka.common.TopicPartition> all = new ArrayList<>();
      for (int i = 0; i < num("partitions", "1"); i++) all.add(new org.apache.kafka.common.TopicPartition(topic, i));
      c.assign(all);
      c.seekToBeginning(all);
    } else {
      c.subscribe(List.of(topic), new ConsumerRebalanceListener() {
        public void onPartitionsAssigned(Collection<org.apache.kafka.common.TopicPartition> now) { if (assigned == 0 && !now.isEmpty()) assigned = System.nanoTime(); }
        public void onPartitionsRevoked(Collection<org.apache.kafka.common.TopicPartition> gone) { }
      });
    }
    return c;
  }
  static void out(String fmt, Object... o) {
    System.out.println(String.format(Locale.ROOT, "{\"client\":\"java\",\"version\":\"%s\",", AppInfoParser.getVersion()) + String.format(Locale.ROOT, fmt, o) + "}");
  }
  public static void main(String[] av) throws Exception {
    for (int i = 0; i + 1 < av.length; i += 2) a.put(av[i].substring(2), av[i + 1]);
    String mode = arg("mode", "produce"), topic = arg("topic", "t");
    int n = num("messages", "1000000"), size = num("size", "100");
    if (mode.equals("consume")) {
      double c0 = cpu();
      long t0 = System.nanoTime(), first = 0, bytes = 0;
      int got = 0;
      try (KafkaConsumer<byte[], byte[]> c = consumer(topic)) {
        while (got < n) {
          ConsumerRecords<byte[], byte[]> rs = c.poll(Duration.ofMillis(200));
          if (first == 0 && !rs.isEmpty()) first = System.nanoTime();
          for (ConsumerRecord<byte[], byte[]> r : rs) { got++; bytes += r.value().length; }
        }
        long last = System.nanoTime();
        String group = "";
        if (!assigns()) {
          c.commitSync();
          group = String.format(Locale.ROOT, ",\"assigned_s\":%.6f,\"commit_s\":%.6f", (assigned - t0) / 1e9, (System.nanoTime() - last) / 1e9);
        }
        out("\"messages\":%d,\"bytes\":%d,\"seconds\":%.6f,\"join_s\":%.6f,\"cpu_s\":%.6f%s", got, bytes, (last - first) / 1e9, (first - t0) / 1e9, cpu() - c0, group);
      }
      return;
    }
    byte[] raw = Files.readAllBytes(Path.of(arg("payload", "")));
    byte[][] pool = new byte[raw.length / size][];
    for (int i = 0; i < pool.length; i++) pool[i] = Arrays.copyOfRange(raw, i * size, (i + 1) * size);
    boolean tx = mode.equals("txn");
    Properties p = new Properties();
    p.put("bootstrap.servers", arg("bootstrap", "127.0.0.1:9092"));
    p.put("acks", arg("acks", "all"));
    p.put("linger.ms", arg("linger", "5"));
    p.put("compression.type", arg("compression", "none"));
    p.put("enable.idempotence", tx || arg("idempotence", "0").equals("1") ? "true" : "false");
    if (a.containsKey("batch-size")) p.put("batch.size", arg("batch-size", ""));
    if (a.containsKey("in-flight")) p.put("max.in.flight.requests.per.connection", arg("in-flight", ""));
    if (a.containsKey("buffer-memory")) p.put("buffer.memory", arg("buffer-memory", ""));
    if (tx) p.put("transactional.id", topic);
    KafkaProducer<byte[], byte[]> k = new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer());
    AtomicLong acked = new AtomicLong(), failed = new AtomicLong();
    Callback cb = (m, e) -> (e == null ? acked : failed).incrementAndGet();
    if (mode.equals("latency")) {
      int rate = num("rate", "1000"), warm = num("warmup", "2000");
      long[] lat = new long[n + 1];
      CountDownLatch probe = new CountDownLatch(1), done = new CountDownLatch(1);
      Thread th = new Thread(() -> {
        int got = 0;
        KafkaConsumer<byte[], byte[]> c = consumer(topic);
        while (got <= n)
          for (ConsumerRecord<byte[], byte[]> r : c.poll(Duration.ofMillis(100))) {
            lat[got] = System.nanoTime() - ByteBuffer.wrap(r.value()).getLong();
            if (got++ == 0) probe.countDown();
          }
        done.countDown();
      });
      th.setDaemon(true);
      th.start();
      long t0 = 0;
      double c0 = 0;
      for (int i = -1; i < n; i++) {
        if (i == 0) { probe.await(); t0 = System.nanoTime(); c0 = cpu(); }
        if (i >= 0) { long w = t0 + i * 1000000000L / rate - System.nanoTime(); if (w > 0) java.util.concurrent.locks.LockSupport.parkNanos(w); }
        byte[] b = pool[0].clone();
        ByteBuffer.wrap(b).putLong(System.nanoTime());
        k.send(new ProducerRecord<>(topic, b), cb);
      }
      done.await();
      double c1 = cpu();
      long[] l = Arrays.copyOfRange(lat, 1 + warm, n + 1);
      Arrays.sort(l);
      out("\"messages\":%d,\"seconds\":%.6f,\"cpu_s\":%.6f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"p999_ms\":%.3f,\"max_ms\":%.3f", n, (System.nanoTime() - t0) / 1e9, c1 - c0,
          l[(int) ((l.length - 1) * .5)] / 1e6, l[(int) ((l.length - 1) * .99)] / 1e6, l[(int) ((l.length - 1) * .999)] / 1e6, l[l.length - 1] / 1e6);
      System.exit(0);
    }
    byte[][] keys = new byte[arg("keys", "0").equals("1") ? 1000 : 0][];
    for (int i = 0; i < keys.length; i++) keys[i] = String.format("key-%03d", i).getBytes();
    int txn = num("txn-size", "100");
    if (tx) k.initTransactions();
    double c0 = cpu();
    long t0 = System.nanoTime();
    for (int i = 0; i < n; i++) {
      if (tx && i % txn == 0) k.beginTransaction();
      k.send(new ProducerRecord<>(topic, keys.length == 0 ? null : keys[(int) (i * 7919L % keys.length)], pool[i % pool.length]), cb);
      if (tx && i % txn == txn - 1) k.commitTransaction();
    }
    k.flush();
    out("\"messages\":%d,\"failed\":%d,\"bytes\":%d,\"seconds\":%.6f,\"cpu_s\":%.6f", acked.get(), failed.get(), acked.get() * size, (System.nanoTime() - t0) / 1e9, cpu() - c0);
    k.close();
  }
}
