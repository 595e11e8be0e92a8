"""Ottla's adapter for asyncio. See ../../README.md for the argument list."""
import asyncio, json, resource, struct, sys, time
import ottla, ottla.aio

A = dict(zip((k[2:] for k in sys.argv[1::2]), sys.argv[2::2]))
mode, topic, bs = A.get("mode", "produce"), A.get("topic", "t"), A.get("bootstrap", "127.0.0.1:9092")
n, size, parts = int(A.get("messages", 200000)), int(A.get("size", 100)), int(A.get("partitions", 1))
group, way = int(A.get("group-size", 500)), A.get("way", "turn")


def cpu():
    u = resource.getrusage(resource.RUSAGE_SELF)
    return u.ru_utime + u.ru_stime


def out(**kw):
    print(json.dumps(dict(client="ottla-asyncio", version=ottla.__version__, **kw)), flush=True)


told = {}  # when the group first assigned partitions, and what its commit took


def joined(_, partitions):
    if partitions:
        told.setdefault("assigned_s", time.monotonic())


def consumer():
    if A.get("assign") != "1":
        return ottla.aio.Consumer(bs, group_id=A.get("group", topic), topics=[topic], auto_offset_reset="earliest", on_assigned=joined)
    return ottla.aio.Consumer(bs, assign=[(topic, p) for p in range(parts)], auto_offset_reset="earliest")


class Delays:
    """How late the loop is: a timer of 1 ms, again and again."""

    def __init__(self):
        self.late, self.loop = [], asyncio.get_running_loop()
        self.again()

    def again(self):
        self.due = self.loop.time() + 0.001
        self.timer = self.loop.call_at(self.due, self.tick)

    def tick(self):
        self.late.append(self.loop.time() - self.due)
        self.again()

    def told(self):
        self.timer.cancel()
        l = sorted(self.late) or [0]
        return dict(loop_p50_ms=l[len(l) // 2] * 1e3, loop_p99_ms=l[int((len(l) - 1) * 0.99)] * 1e3, loop_max_ms=l[-1] * 1e3)


async def main():
    if mode == "consume":
        c0, t0, first, got, nbytes = cpu(), time.monotonic(), None, 0, 0
        delays = Delays()
        async with consumer() as c:
            async for m in c:
                if first is None:
                    first = time.monotonic()
                got += 1
                nbytes += len(m.value)
                if got % 1000 == 0:
                    await asyncio.sleep(0)
                if got == n:
                    break
            t1 = time.monotonic()
            if told:
                await c.commit()
                told.update(assigned_s=told["assigned_s"] - t0, commit_s=time.monotonic() - t1)
            out(messages=got, bytes=nbytes, seconds=t1 - first, join_s=first - t0, cpu_s=cpu() - c0, **told, **delays.told())
        return
    raw = open(A["payload"], "rb").read()
    pool = [raw[i : i + size] for i in range(0, len(raw), size)]
    pn = len(pool)
    keys = [b"key-%08d" % i for i in range(pn)] if A.get("keys") == "1" else [None] * pn
    conf = {"bootstrap.servers": bs, "acks": A.get("acks", "all"), "linger.ms": A.get("linger", "5"), "compression.type": A.get("compression", "none"),
            "enable.idempotence": A.get("idempotence", "0") == "1"}
    for name in ("batch-size", "buffer-memory"):
        if name in A:
            conf[name.replace("-", ".")] = A[name]
    p = ottla.aio.Producer(conf)
    await p.connected()
    if mode == "latency":
        rate, warm, lat, probe, done = int(A.get("rate", 1000)), int(A.get("warmup", 2000)), [], asyncio.Event(), asyncio.Event()

        async def run():
            async with consumer() as c:
                async for m in c:
                    lat.append(time.monotonic_ns() - struct.unpack_from("<q", m.value)[0])
                    probe.set()
                    if len(lat) == n + 1:
                        done.set()
                        return

        task = asyncio.create_task(run())
        for i in range(-1, n):
            if i == 0:
                await probe.wait()
                t0, c0 = time.monotonic(), cpu()
            if i >= 0:
                w = t0 + i / rate - time.monotonic()
                if w > 0:
                    await asyncio.sleep(w)
            p.send(topic, struct.pack("<q", time.monotonic_ns()) + pool[0][8:])
        await done.wait()
        c1, sec = cpu(), time.monotonic() - t0
        l = sorted(lat[1 + warm :])
        q = lambda f: l[int((len(l) - 1) * f)] / 1e6
        out(messages=n, seconds=sec, cpu_s=c1 - c0, p50_ms=q(0.5), p99_ms=q(0.99), p999_ms=q(0.999), max_ms=q(1))
        await task
        await p.close()
        return
    acked = failed = 0
    delays = Delays()
    c0, t0 = cpu(), time.monotonic()
    i = 0
    before = []
    while i < n or before:
        many = range(i, min(n, i + group))
        if way == "many":
            now = [asyncio.ensure_future(p.send_many(topic, [(keys[j % pn], pool[j % pn]) for j in many]))] if many else []
        else:
            now = [p.send(topic, pool[j % pn], key=keys[j % pn]) for j in many]
        i += len(many)
        # The group before this one is awaited while this one is under way.
        if way == "gather":
            acked += len(await asyncio.gather(*before))
        else:
            for f in before:
                written = await f
                acked += len(written) if way == "many" else 1
        before = now
    out(messages=acked, failed=failed, bytes=acked * size, seconds=time.monotonic() - t0, cpu_s=cpu() - c0, **delays.told())
    await p.close()


asyncio.run(main())
