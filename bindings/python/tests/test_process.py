"""Ctrl-C, forks, the end of the process, memory, the command: each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import ottla
from conftest import read

EXAMPLES = Path(__file__).parents[3] / "examples"


def python(code: str, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], capture_output=True, text=True, timeout=timeout
    )


def succeeds(code: str, *arguments: str) -> str:
    done = python(code, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


BLOCKING = {
    "flush": "p.send('t', b'x'); p.flush()",
    "close": "p.send('t', b'x'); p.close(100)",
    "receipt": "p.send('t', b'x', receipt=True).result()",
    "many receipts": "p.send_many('t', [b'x', b'y'], receipt=True).result()",
    "send_wait": "p.send_wait('t', b'x')",
    "full buffer": "[p.send('t', bytes(1000)) for _ in range(100_000)]",
    "connected": "ottla.Producer(dead).connected()",
    "next": "next(c)",
    "poll": "c.poll()",
    "batches": "next(c.batches())",
    "for": "[r for r in c]",
    "position": "ottla.Consumer(dead, assign=[('t', 0)]).position(('t', 0))",
    "topics": "ottla.Consumer(dead, topics=['t']).assignment()",
    "admin": "ottla.Admin(dead, default_api_timeout_ms=100_000, request_timeout_ms=90_000).list_topics()",
}


@pytest.mark.parametrize("call", BLOCKING)
def test_ctrl_c_ends_every_call_that_waits(servers: str, call: str) -> None:
    code = f"""
        import os, signal, socket, sys, threading, warnings
        import ottla
        from ottla.testing import Cluster
        warnings.simplefilter("ignore")
        ottla._process.exit_timeout = 0.01
        listener = socket.create_server(("127.0.0.1", 0))   # takes connections, and says nothing
        dead = "127.0.0.1:%d" % listener.getsockname()[1]
        with Cluster() as cluster:
            bs = cluster.bootstrap_servers
            ottla.Admin(bs).create_topics(["t"])
            p = ottla.Producer(bs, buffer_memory=100_000, linger_ms=0)
            p.send_wait("t", b"warm")
            c = ottla.Consumer(bs, assign=[("t", 0)], auto_offset_reset="latest")
            c.position(("t", 0))
            cluster.fault("api=Produce delay_response=30000ms")
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                {BLOCKING[call]}
            except KeyboardInterrupt:
                print("interrupted")
                sys.stdout.flush()
                os._exit(0)
            print("not interrupted")
    """
    assert succeeds(code).strip() == "interrupted"


def test_a_fork_makes_a_client_of_the_parent_unusable_and_a_new_one_works(servers: str, topic: str) -> None:
    out = succeeds(
        """
        import os, sys, warnings, ottla
        bs, topic = sys.argv[1:]
        warnings.simplefilter("ignore")
        p, a = ottla.Producer(bs), ottla.Admin(bs)
        c = ottla.Consumer(bs, assign=[(topic, 0)], auto_offset_reset="earliest")
        p.send_wait(topic, b"parent")
        receipt = p.send(topic, b"pending", receipt=True)
        assert next(c).value == b"parent"
        child = os.fork()
        if child == 0:
            calls = [lambda: p.send(topic, b"x"), lambda: p.flush(), lambda: p.close(), lambda: next(c), lambda: c.poll(),
                     lambda: c.seek((topic, 0), 0), lambda: a.list_topics(), lambda: p.metrics()]
            for number, call in enumerate(calls):
                try:
                    call()
                except ottla.ForkedError as error:
                    assert isinstance(error, ottla.ClosedError) and "fork" in str(error)
                else:
                    print("no error from", number)
            assert p.closed and c.closed
            with ottla.Producer(bs) as q:
                print("child", q.send_wait(topic, b"child").topic == topic)
            with ottla.Consumer(bs, assign=[(topic, 0)], auto_offset_reset="earliest") as d:
                print("child", next(d).value)
            grandchild = os.fork()
            if grandchild == 0:
                with ottla.Producer(bs) as q:
                    q.send_wait(topic, b"grandchild")
                sys.stdout.flush()
                os._exit(0)
            _, status = os.waitpid(grandchild, 0)
            assert status == 0, status
            sys.exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0, status
        assert receipt.result(10).offset is not None
        p.send_wait(topic, b"parent again")
        p.close(); c.close(); a.close()
        print("parent")
        """,
        servers,
        topic,
    )
    assert out.splitlines() == ["child True", "child b'parent'", "parent"]
    values = [record.value for record in read(servers, topic, 5)]
    assert sorted(map(bytes, filter(None, values))) == [b"child", b"grandchild", b"parent", b"parent again", b"pending"]


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_children_of_multiprocessing_deliver_what_they_sent(servers: str, topic: str, method: str, tmp_path: Path) -> None:
    script = tmp_path / "children.py"
    script.write_text(
        textwrap.dedent(
            """
            import multiprocessing, sys, warnings
            import ottla
            warnings.simplefilter("ignore")
            def work(servers, topic, number):
                producer = ottla.Producer(servers, linger_ms=60_000, delivery_timeout_ms=120_000)
                producer.send(topic, str(number))   # neither flushed nor closed
            if __name__ == "__main__":
                method, servers, topic = sys.argv[1:]
                before = ottla.Producer(servers)
                before.send(topic, b"parent")
                context = multiprocessing.get_context(method)
                children = [context.Process(target=work, args=(servers, topic, number)) for number in range(3)]
                for child in children: child.start()
                for child in children: child.join()
                print([child.exitcode for child in children])
            """
        )
    )
    done = subprocess.run([sys.executable, str(script), method, servers, topic], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[0, 0, 0]", "")
    values = sorted(record.value or b"" for record in read(servers, topic, 4))
    assert values == [b"0", b"1", b"2", b"parent"]


def test_records_under_way_at_the_end_of_the_process_are_delivered(servers: str, topic: str) -> None:
    done = python(
        """
        import sys, threading, ottla
        producer = ottla.Producer(sys.argv[1], linger_ms=60_000, delivery_timeout_ms=120_000)
        for i in range(100):
            producer.send(sys.argv[2], str(i))
        """,
        servers,
        topic,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(read(servers, topic, 100)) == 100


@pytest.mark.parametrize("flavour", ["ottla", "ottla.aio"])
def test_records_of_a_producer_that_is_forgotten_at_the_end_are_delivered(
    servers: str, topic: str, flavour: str
) -> None:
    done = python(
        """
        import asyncio, sys, warnings, ottla.aio
        warnings.simplefilter("ignore")
        async def send():
            module = ottla.aio if sys.argv[3] == "ottla.aio" else ottla
            producer = module.Producer(sys.argv[1], linger_ms=60_000, delivery_timeout_ms=120_000)
            for i in range(100):
                producer.send(sys.argv[2], str(i))
        asyncio.run(send())   # the producer goes with it
        """,
        servers,
        topic,
        flavour,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(read(servers, topic, 100)) == 100


def test_records_that_are_lost_at_the_end_are_counted_and_the_end_comes() -> None:
    done = python(
        """
        import socket, ottla, ottla._process
        from ottla.testing import Cluster
        ottla._process.exit_timeout = 0.3
        cluster = Cluster()
        producer = ottla.Producer(cluster.bootstrap_servers, linger_ms=0)
        producer.send_wait("t", b"warm")
        cluster.fault("api=Produce delay_response=60000ms")
        for i in range(7):
            producer.send("t", b"x")
        """
    )
    assert done.returncode == 0, done.stderr
    assert "ottla: 7 records were not delivered" in done.stderr


def test_the_process_ends_while_threads_wait_in_every_client(servers: str, topic: str) -> None:
    done = python(
        """
        import asyncio, sys, threading, time, warnings, ottla, ottla.aio
        servers, topic = sys.argv[1:]
        consumer = ottla.Consumer(servers, assign=[(topic, 0)])
        def read():
            for record in consumer: pass
        def batches():
            for batch in ottla.Consumer(servers, assign=[(topic, 0)]).batches(timeout=0.001): pass
        def send():
            producer = ottla.Producer(servers)
            while True: producer.send(topic, b"x", receipt=True).result()
        async def loop():
            async with ottla.aio.Consumer(servers, assign=[(topic, 0)]) as c:
                async for record in c: pass
        for work in (read, batches, send, lambda: asyncio.run(loop())):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.3)
        warnings.simplefilter("ignore")
        print("end")
        """,
        servers,
        topic,
    )
    assert done.returncode == 0 and done.stdout == "end\n", done.stderr


def test_an_unhandled_error_in_a_coroutine_ends_the_process_without_a_hang(servers: str, topic: str) -> None:
    done = python(
        """
        import asyncio, sys, ottla.aio
        async def main():
            producer = ottla.aio.Producer(sys.argv[1], linger_ms=60_000, delivery_timeout_ms=120_000)
            producer.send(sys.argv[2], b"kept")
            raise SystemExit(7)
        asyncio.run(main())
        """,
        servers,
        topic,
    )
    assert done.returncode == 7, done.stderr
    assert read(servers, topic, 1)[0].value == b"kept"


def test_memory_does_not_grow_with_a_million_records(servers: str) -> None:
    out = succeeds(
        """
        import asyncio, gc, os, resource, sys, ottla, ottla.aio
        servers = sys.argv[1]
        def rss():
            gc.collect()
            with open("/proc/self/statm") as statm:
                return int(statm.read().split()[1]) * resource.getpagesize() / 2**20
        def round(topic):
            with ottla.Producer(servers) as p, ottla.Consumer(servers, assign=[(topic, 0)], auto_offset_reset="earliest") as c:
                for _ in range(50):
                    receipts = [p.send(topic, bytes(100), key=b"k", headers={"h": b"v"}, receipt=True) for _ in range(1_000)]
                    p.send_many(topic, [(b"k", bytes(100))] * 1_000, receipt=True).result()
                    for receipt in receipts: receipt.result()
                n = 0
                for record in c:
                    record.value, record.key, record.headers, record.topic
                    n += 1
                    if n == 50_000: break
                while n < 100_000:
                    batch = c.poll()
                    batch.values(), batch.value_view(0), batch.__arrow_c_array__()
                    n += len(batch)
        async def aio(topic):
            async with ottla.aio.Producer(servers) as p, ottla.aio.Consumer(servers, assign=[(topic, 0)], auto_offset_reset="earliest") as c:
                for _ in range(50):
                    await asyncio.gather(*[p.send(topic, bytes(100)) for _ in range(1_000)])
                    await p.send_many(topic, [bytes(100)] * 1_000)
                n = 0
                async for record in c:
                    n += 1
                    if n == 100_000: break
        ottla.Admin(servers).create_topics(["rss-sync", "rss-aio"])
        round("rss-sync"); asyncio.run(aio("rss-aio"))
        before = rss()
        for i in range(4):
            round("rss-sync"); asyncio.run(aio("rss-aio"))
        print(rss() - before)
        """,
        servers,
    )
    assert float(out) < 30, f"{out} MiB more after 800,000 records there and back"


def test_the_command_is_in_the_package(servers: str) -> None:
    for command in ([sys.executable, "-m", "ottla"], [str(Path(sys.executable).parent / "ottla")]):
        if len(command) == 1 and not os.path.exists(command[0]):
            continue
        version = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=60)
        assert version.stdout.split() == ["ottla", ottla.__version__]
        wrong = subprocess.run([*command, "fly"], capture_output=True, text=True, timeout=60)
        assert wrong.returncode == 2 and "fly" in wrong.stderr
        listed = subprocess.run([*command, "topics", "--list", "--bootstrap-server", servers], capture_output=True, text=True, timeout=60)
        assert listed.returncode == 0, listed.stderr


def test_ctrl_c_ends_the_broker_of_the_command() -> None:
    broker = subprocess.Popen([sys.executable, "-m", "ottla", "broker"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert broker.stdout is not None
    line = broker.stdout.readline()
    assert line.startswith("bootstrap.servers=")
    with ottla.Producer(line.strip().partition("=")[2]) as producer:
        producer.send_wait("t", b"x")
    broker.send_signal(signal.SIGINT)
    assert broker.wait(30) == 0
    broker.communicate()


def test_prefork_servers_make_a_client_in_each_worker(servers: str, topic: str) -> None:
    """As gunicorn and uvicorn's workers do: the application is loaded, the workers fork, each starts its own loop."""
    out = succeeds(
        """
        import asyncio, os, sys, ottla, ottla.aio
        servers, topic = sys.argv[1:]
        with ottla.Producer(servers) as p: p.send_wait(topic, b"master")
        async def worker():
            async with ottla.aio.Producer(servers) as p:
                return [w.offset is not None for w in await asyncio.gather(*[p.send(topic, b"worker") for _ in range(10)])]
        children = []
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                ok = asyncio.run(worker())
                os._exit(0 if all(ok) else 1)
            children.append(pid)
        print([os.waitpid(pid, 0)[1] for pid in children])
        """,
        servers,
        topic,
    )
    assert out.strip() == "[0, 0, 0]"
    assert len(read(servers, topic, 31)) == 31
