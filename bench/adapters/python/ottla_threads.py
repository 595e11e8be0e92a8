"""Ottla's adapter for Python's threads. See ../../README.md for the argument list."""
import json, resource, struct, sys, threading, time
import ottla

A = dict(zip((k[2:] for k in sys.argv[1::2]), sys.argv[2::2]))
mode, topic, bs = A.get("mode", "produce"), A.get("topic", "t"), A.get("bootstrap", "127.0.0.1:9092")
n, size, parts = int(A.get("messages", 200000)), int(A.get("size", 100)), int(A.get("partitions", 1))


def cpu():
    u = resource.getrusage(resource.RUSAGE_SELF)
    return u.ru_utime + u.ru_stime


def out(**kw):
    print(json.dumps(dict(client="ottla-python", version=ottla.__version__, **kw)), flush=True)


told = {}  # when the group first assigned partitions, and what its commit took


def joined(_, partitions):
    if partitions:
        told.setdefault("assigned_s", time.monotonic())


def consumer():
    if A.get("assign") != "1":
        return ottla.Consumer(bs, group_id=A.get("group", topic), topics=[topic], auto_offset_reset="earliest", on_assigned=joined)
    return ottla.Consumer(bs, assign=[(topic, p) for p in range(parts)], auto_offset_reset="earliest")


def consume():
    c0, t0, first, got, nbytes = cpu(), time.monotonic(), None, 0, 0
    c = consumer()
    for batch in c.batches(10000):  # as many at a time as confluent's adapter asks for
        for m in batch:
            if first is None:
                first = time.monotonic()
            got += 1
            nbytes += len(m.value)
        if got >= n:
            break
    t1 = time.monotonic()
    if told:
        c.commit()
        told.update(assigned_s=told["assigned_s"] - t0, commit_s=time.monotonic() - t1)
    out(messages=got, bytes=nbytes, seconds=t1 - first, join_s=first - t0, cpu_s=cpu() - c0, **told)
    c.close()


if mode == "consume":
    consume()
    sys.exit()

raw = open(A["payload"], "rb").read()
pool = [raw[i : i + size] for i in range(0, len(raw), size)]
pn = len(pool)
keys = [b"key-%08d" % i for i in range(pn)] if A.get("keys") == "1" else [None] * pn
conf = {"bootstrap.servers": bs, "acks": A.get("acks", "all"), "linger.ms": A.get("linger", "5"), "compression.type": A.get("compression", "none"),
        "enable.idempotence": A.get("idempotence", "0") == "1"}
for name in ("batch-size", "buffer-memory"):
    if name in A:
        conf[name.replace("-", ".")] = A[name]
p = ottla.Producer(conf)
p.connected()

if mode == "latency":
    rate, warm, lat, done, probe = int(A.get("rate", 1000)), int(A.get("warmup", 2000)), [], threading.Event(), threading.Event()

    def run():
        for m in consumer():
            lat.append(time.monotonic_ns() - struct.unpack_from("<q", m.value)[0])
            probe.set()
            if len(lat) == n + 1:
                done.set()
                return

    threading.Thread(target=run, daemon=True).start()
    for i in range(-1, n):
        if i == 0:
            probe.wait()
            t0, c0 = time.monotonic(), cpu()
        if i >= 0:
            w = t0 + i / rate - time.monotonic()
            if w > 0:
                time.sleep(w)
        p.send(topic, struct.pack("<q", time.monotonic_ns()) + pool[0][8:], receipt=True)
    done.wait()
    c1, sec = cpu(), time.monotonic() - t0
    l = sorted(lat[1 + warm :])
    q = lambda f: l[int((len(l) - 1) * f)] / 1e6
    out(messages=n, seconds=sec, cpu_s=c1 - c0, p50_ms=q(0.5), p99_ms=q(0.99), p999_ms=q(0.999), max_ms=q(1))
    p.close()
    sys.exit()


def produce():
    acked = failed = 0
    c0, t0 = cpu(), time.monotonic()
    receipts = []
    for i in range(n):
        receipts.append(p.send(topic, pool[i % pn], key=keys[i % pn], receipt=True))
        if len(receipts) == 20000:  # each record's own report is looked at
            for r in receipts[:10000]:
                if r.exception() is None:
                    acked += 1
                else:
                    failed += 1
            del receipts[:10000]
    p.flush()
    for r in receipts:
        if r.exception() is None:
            acked += 1
        else:
            failed += 1
    out(messages=acked, failed=failed, bytes=acked * size, seconds=time.monotonic() - t0, cpu_s=cpu() - c0)
    p.close()


produce()
