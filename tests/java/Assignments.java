// Writes how Kafka's own assignors divide some hundred groups, for `tests/vectors/assignors.txt`:
//
//   java -cp '.peers/kafka-4.4.0/*' tests/java/Assignments.java > tests/vectors/assignors.txt
//
// The groups are random, but the same every time. A group is divided, changes, and is divided again, so that the sticky
// assignors have something to stick to.

import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Assignment;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.GroupSubscription;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Subscription;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.RoundRobinAssignor;
import org.apache.kafka.clients.consumer.StickyAssignor;
import org.apache.kafka.clients.consumer.internals.ConsumerProtocol;
import org.apache.kafka.common.Cluster;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;

public class Assignments {
    static final int GROUPS = 30;
    static final int ROUNDS = 3;
    static final String[] RACKS = {"a", "b", "c"};

    static class Member {
        String instance;
        String rack;
        List<String> topics;
        List<TopicPartition> had = List.of();
        int generation = -1;
    }

    static final Random random = new Random(20);
    static final PrintStream out = new PrintStream(System.out, false);

    public static void main(String[] args) {
        out.println("# How Kafka's Java assignors (4.4.0) divide groups; written by tests/java/Assignments.java.");
        out.println("#");
        out.println("#   group ASSIGNOR");
        out.println("#   topic NAME RACKS,OF,PARTITION;RACKS,OF,NEXT;...      `-` where there is no rack");
        out.println("#   member ID INSTANCE RACK SUBSCRIPTION                 the subscription as the member sends it, in hexadecimal");
        out.println("#   gets ID ASSIGNMENT                                   the answer: the assignment as the leader sends it");
        for (String name : List.of("range", "roundrobin", "sticky", "cooperative-sticky")) {
            for (int group = 0; group < GROUPS; group++) {
                play(name, group);
            }
        }
        out.flush();
    }

    static ConsumerPartitionAssignor assignor(String name) {
        return switch (name) {
            case "range" -> new RangeAssignor();
            case "roundrobin" -> new RoundRobinAssignor();
            case "sticky" -> new StickyAssignor();
            default -> new CooperativeStickyAssignor();
        };
    }

    static void play(String name, int group) {
        boolean alike = group % 2 == 0;
        boolean racks = group % 3 == 0;
        Map<String, Integer> topics = new TreeMap<>();
        for (int topic = 0; topic <= random.nextInt(5); topic++) {
            topics.put("t" + topic, 1 + random.nextInt(12));
        }
        Map<String, Member> members = new TreeMap<>();
        int arrivals = 0;
        for (int count = 1 + random.nextInt(7); count > 0; count--) {
            members.put("m" + arrivals++, member(topics, alike, racks));
        }
        for (int generation = 1; generation <= ROUNDS; generation++) {
            Cluster cluster = cluster(topics, racks);
            Map<String, Subscription> said = new TreeMap<>();
            members.forEach((id, member) -> said.put(id, subscription(name, member)));
            tell(name, cluster, topics, members, said);
            Map<String, Assignment> divided = assignor(name).assign(cluster, new GroupSubscription(said)).groupAssignment();
            for (Map.Entry<String, Member> entry : members.entrySet()) {
                Assignment assignment = divided.get(entry.getKey());
                entry.getValue().had = assignment.partitions();
                entry.getValue().generation = generation;
                out.println("gets " + entry.getKey() + " " + hex(ConsumerProtocol.serializeAssignment(assignment)));
            }
            switch (random.nextInt(3)) {
                case 0 -> members.put("m" + arrivals++, member(topics, alike, racks));
                case 1 -> {
                    if (members.size() > 1) {
                        members.remove(new ArrayList<>(members.keySet()).get(random.nextInt(members.size())));
                    }
                }
                default -> topics.merge("t" + random.nextInt(topics.size()), random.nextInt(4), Integer::sum);
            }
        }
    }

    static Member member(Map<String, Integer> topics, boolean alike, boolean racks) {
        Member member = new Member();
        member.instance = random.nextInt(4) == 0 ? "i" + random.nextInt(1000) : null;
        member.rack = racks && random.nextInt(5) > 0 ? RACKS[random.nextInt(RACKS.length)] : null;
        TreeSet<String> chosen = new TreeSet<>();
        for (String topic : topics.keySet()) {
            if (alike || random.nextInt(3) > 0) {
                chosen.add(topic);
            }
        }
        member.topics = new ArrayList<>(chosen);
        return member;
    }

    static Subscription subscription(String name, Member member) {
        ConsumerPartitionAssignor assignor = assignor(name);
        if (member.generation >= 0) {
            assignor.onAssignment(new Assignment(member.had), new ConsumerGroupMetadata("g", member.generation, "m", Optional.empty()));
        }
        ByteBuffer data = assignor.subscriptionUserData(new TreeSet<>(member.topics));
        List<TopicPartition> owned = name.equals("cooperative-sticky") ? member.had : List.of();
        Subscription subscription = new Subscription(member.topics, data, owned, member.generation, Optional.ofNullable(member.rack));
        subscription.setGroupInstanceId(Optional.ofNullable(member.instance));
        return subscription;
    }

    static Cluster cluster(Map<String, Integer> topics, boolean racks) {
        List<Node> nodes = new ArrayList<>();
        for (int id = 0; id < RACKS.length; id++) {
            nodes.add(new Node(id, "localhost", 9092 + id, racks ? RACKS[id] : null));
        }
        List<PartitionInfo> partitions = new ArrayList<>();
        topics.forEach((topic, count) -> {
            for (int number = 0; number < count; number++) {
                Node[] replicas = new Node[1 + (number + topic.hashCode()) % 2];
                for (int at = 0; at < replicas.length; at++) {
                    replicas[at] = nodes.get((number * 2 + at + topic.length()) % nodes.size());
                }
                partitions.add(new PartitionInfo(topic, number, replicas[0], replicas, replicas));
            }
        });
        return new Cluster("cluster", nodes, partitions, Collections.emptySet(), Collections.emptySet());
    }

    static void tell(String name, Cluster cluster, Map<String, Integer> topics, Map<String, Member> members, Map<String, Subscription> said) {
        out.println("group " + name);
        for (String topic : topics.keySet()) {
            List<PartitionInfo> partitions = new ArrayList<>(cluster.partitionsForTopic(topic));
            partitions.sort((a, b) -> Integer.compare(a.partition(), b.partition()));
            String racks = partitions.stream().map(Assignments::racks).collect(Collectors.joining(";"));
            out.println("topic " + topic + " " + racks);
        }
        members.forEach((id, member) -> {
            ByteBuffer bytes = ConsumerProtocol.serializeSubscription(said.get(id));
            out.println("member " + id + " " + word(member.instance) + " " + word(member.rack) + " " + hex(bytes));
        });
    }

    static String racks(PartitionInfo partition) {
        TreeSet<String> racks = new TreeSet<>();
        for (Node node : partition.replicas()) {
            if (node.rack() != null) {
                racks.add(node.rack());
            }
        }
        return racks.isEmpty() ? "-" : String.join(",", racks);
    }

    static String word(String text) {
        return text == null ? "-" : text;
    }

    static String hex(ByteBuffer bytes) {
        byte[] copy = new byte[bytes.remaining()];
        bytes.duplicate().get(copy);
        return HexFormat.of().formatHex(copy);
    }
}
