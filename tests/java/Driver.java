// Kafka's own programs, run again and again inside one JVM, because starting a JVM costs more than most of what they do.
//
//   java Driver tools      reads one JSON request a line from standard input, writes one JSON answer a line:
//                          {"main": "org.apache.kafka.tools.TopicCommand", "args": [...], "stdin": "<hex>"}
//                          {"exit": 0, "stdout": "<hex>", "stderr": "<hex>"}
//   java Driver broker F   formats the log directories that properties file F names, then runs kafka.Kafka with F; a
//                          quorum by itself, unless F names controller.quorum.voters; F's lines "# add-scram U" become
//                          options --add-scram U of the formatting: users of SCRAM
//
// Each request loads its tool's class afresh, so that nothing static lives on from the run before. What a tool would do
// in a shutdown hook (the console producer closes its producer there) is done when the tool exits.
// Either mode ends when standard input does: nothing outlives the test that started it.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import org.apache.kafka.common.utils.Exit;

public class Driver {
    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "tools" -> serveTools(Path.of(args[1]));
            case "broker" -> runBroker(args[1]);
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    /** Thrown in place of leaving the JVM. */
    private static class Left extends Error {
        final int code;

        Left(int code) {
            super(null, null, false, false);
            this.code = code;
        }
    }

    private static void serveTools(Path toolsJar) throws Exception {
        PrintStream answers = System.out;
        BufferedReader requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        String line;
        while ((line = requests.readLine()) != null) {
            answers.println(JSON.writeValueAsString(runTool(toolsJar, JSON.readTree(line))));
            answers.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    private static ObjectNode runTool(Path toolsJar, JsonNode request) throws Exception {
        List<String> args = new ArrayList<>();
        request.get("args").forEach(arg -> args.add(arg.asText()));
        Run run = new Run();
        InputStream realIn = System.in;
        PrintStream realOut = System.out;
        PrintStream realErr = System.err;
        System.setIn(new ByteArrayInputStream(HexFormat.of().parseHex(request.path("stdin").asText(""))));
        System.setOut(new PrintStream(run.stdout, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(run.stderr, true, StandardCharsets.UTF_8));
        try {
            run.main(toolsJar, request.get("main").asText(), args.toArray(new String[0]));
        } finally {
            System.out.flush();
            System.err.flush();
            System.setIn(realIn);
            System.setOut(realOut);
            System.setErr(realErr);
        }
        ObjectNode answer = JSON.createObjectNode();
        answer.put("exit", run.code == null ? 0 : run.code);
        answer.put("stdout", HexFormat.of().formatHex(run.stdout.toByteArray()));
        answer.put("stderr", HexFormat.of().formatHex(run.stderr.toByteArray()));
        return answer;
    }

    /** One run of a tool. */
    private static class Run {
        final ByteArrayOutputStream stdout = new ByteArrayOutputStream();
        final ByteArrayOutputStream stderr = new ByteArrayOutputStream();
        final List<Runnable> hooks = new ArrayList<>();
        Integer code;
        int stdoutAtExit;
        int stderrAtExit;

        void main(Path toolsJar, String name, String[] args) throws Exception {
            Exit.setExitProcedure((code, message) -> leave(code));
            Exit.setHaltProcedure((code, message) -> leave(code));
            Exit.setShutdownHookAdder((hookName, hook) -> hooks.add(hook));
            ClassLoader before = Thread.currentThread().getContextClassLoader();
            URL[] jar = {toolsJar.toUri().toURL()};
            try (URLClassLoader loader = new URLClassLoader(jar, Driver.class.getClassLoader())) {
                Thread.currentThread().setContextClassLoader(loader);
                try {
                    loader.loadClass(name).getMethod("main", String[].class).invoke(null, (Object) args);
                } catch (InvocationTargetException e) {
                    if (!(e.getCause() instanceof Left)) {
                        e.getCause().printStackTrace();
                        code = code == null ? Integer.valueOf(1) : code;
                        stdoutAtExit = stdout.size();
                        stderrAtExit = stderr.size();
                    }
                }
                if (code != null) {
                    truncate(stdout, stdoutAtExit);
                    truncate(stderr, stderrAtExit);
                }
                for (Runnable hook : hooks) {
                    hook.run();
                }
            } finally {
                Thread.currentThread().setContextClassLoader(before);
            }
        }

        /** Some tools catch what they do not know: only the first exit counts, and nothing they say after it. */
        private void leave(int exitCode) {
            if (code == null) {
                code = exitCode;
                System.out.flush();
                System.err.flush();
                stdoutAtExit = stdout.size();
                stderrAtExit = stderr.size();
            }
            throw new Left(exitCode);
        }

        private static void truncate(ByteArrayOutputStream stream, int size) {
            byte[] bytes = stream.toByteArray();
            stream.reset();
            stream.write(bytes, 0, size);
        }
    }

    private static void runBroker(String properties) throws Exception {
        Thread watch = new Thread(() -> {
            try {
                while (System.in.read() >= 0) { }
            } catch (IOException e) {
                // The same as its end.
            }
            Runtime.getRuntime().halt(0);
        });
        watch.setDaemon(true);
        watch.start();
        Exit.setExitProcedure((code, message) -> {
            if (code != 0) {
                Runtime.getRuntime().halt(code);
            }
            throw new Left(code);
        });
        List<String> format = new ArrayList<>(List.of(
            "format", "--ignore-formatted", "--cluster-id", "b3R0bGEtdGVzdHMtMDAwMQ", "--config", properties));
        if (!Files.readString(Path.of(properties)).contains("controller.quorum.voters")) {
            format.add("--standalone");
        }
        for (String line : Files.readAllLines(Path.of(properties))) {
            if (line.startsWith("# add-scram ")) {
                format.addAll(List.of("--add-scram", line.substring("# add-scram ".length())));
            }
        }
        try {
            kafka.tools.StorageTool.main(format.toArray(new String[0]));
        } catch (Left formatted) {
            // StorageTool always exits.
        }
        Exit.resetExitProcedure();
        kafka.Kafka.main(new String[] {properties});
    }
}
