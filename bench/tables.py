"""The markdown tables of the peer benchmark: raw result lines in, text out. Nothing here runs a client.

A ratio is always one of medians of the same run, on the same item. "Best" is the better of librdkafka and franz-go.
"""
import collections, json, statistics

YARDSTICKS = ["librdkafka", "franz-go"]
# the same client without and with idempotence: (what, item without, item with)
IDEMPOTENCE = [("1 partition", "W1a", "W6"), ("6 partitions", "W1b", "W6b")]
# a package of another language, and what it is compared with
LANGUAGES = [("python-ottla", "confluent-python"), ("asyncio-ottla", "aiokafka"), ("asyncio-ottla-lots", "aiokafka"), *(("node-ottla", peer) for peer in ("confluent-js", "platformatic-kafka", "kafkajs")),
             *(("ottla-c", peer) for peer in ("librdkafka", "ottla-equal", "ottla"))]
MISSING = float("nan")


def cpum(r):
    return r["cpu_s"] / r["messages"] * 1e6


def rate(r):
    """A consumer's time runs from its start, or from when its group assigned it partitions, for a rebalance takes a time that
    has nothing to do with messages. Not from its first message: some clients decode a whole fetch before they hand that out."""
    return r["messages"] / (r["seconds"] + r.get("join_s", 0) - r.get("assigned_s", 0))


def rss(r):
    return r["rss_mb"]


def spread(rs):
    """(max - min) / median of the CPU per message, the farthest of more than three left out."""
    v = [cpum(r) for r in rs]
    m = statistics.median(v)
    if len(v) > 3:
        v.remove(max(v, key=lambda x: abs(x - m)))
    return (max(v) - min(v)) / m if m else 0


def number(value, form):
    return "-" if value is None or value != value else format(value, form)


def load(path):
    """({item: {row: [result]}}, {item: {row: error}})"""
    res, errs = collections.defaultdict(lambda: collections.defaultdict(list)), collections.defaultdict(dict)
    for l in open(path):
        r = json.loads(l)
        if "error" in r:
            errs[r["item"]][r["row"]] = r["error"].strip().replace("\n", " ")[-120:]
        else:
            res[r["item"]][r["row"]].append(r)
    return res, errs


class Rows:
    """The results of one item."""

    def __init__(self, rows):
        self.rows = rows

    def med(self, k, f):
        v = [x for x in (f(r) for r in self.rows.get(k, [])) if x is not None and x == x]
        return statistics.median(v) if v else MISSING

    def against(self, k, base, f):
        """The ratio of two rows' medians, as text."""
        b = self.med(base, f)
        return number(self.med(k, f) / b if b else MISSING, ".2f")

    def best(self, f, pick):
        v = [x for x in (self.med(k, f) for k in YARDSTICKS) if x == x]
        return pick(v) if v else MISSING

    def per_best(self, k, f, pick):
        return number(self.med(k, f) / self.best(f, pick), ".2f")


def table(path, items):
    """Every item of the raw file at `path`; `items` is the table of the driver."""
    res, errs = load(path)
    s = [versions(res)] + ([summary(res, items)] if any(set(YARDSTICKS) & set(rows) for rows in res.values()) else [])
    for item, (what, mode, *_) in items.items():
        if item not in res and item not in errs:
            continue
        s.append(f"\n### {item}: {what}\n")
        rows = Rows(res.get(item, {}))
        s += latency(rows) if mode == "latency" else throughput(rows, int(items[item][6].get("txn-size", 1)), mode)
        for k, e in errs[item].items():
            s.append(f"\n- {k}: failed at least once: `{e}`")
    s += idempotence(res) + groups(res, items) + languages(res, items)
    return "\n".join(s)


def versions(res):
    found = {(r["client"], r["version"]) for rows in res.values() for rs in rows.values() for r in rs}
    return "Clients: " + ", ".join(f"{client} {version}" for client, version in sorted(found)) + "."


def latency(rows):
    s = ["| client | p50 ms | p99 ms | p99.9 ms | max ms | CPU s per 1M | CPU / librdkafka | CPU / franz-go | peak RSS MB | RSS / librdkafka | runs |", "|" + "---|" * 11]
    for k in sorted(rows.rows, key=lambda k: rows.med(k, lambda r: r["p50_ms"])):
        q = [f"{rows.med(k, lambda r, f=f: r[f]):.2f}" for f in ("p50_ms", "p99_ms", "p999_ms", "max_ms")]
        s.append(f"| {k} | {' | '.join(q)} | {rows.med(k, cpum):.1f} | {rows.against(k, 'librdkafka', cpum)} | {rows.against(k, 'franz-go', cpum)} | "
                 f"{rows.med(k, rss):.0f} | {rows.against(k, 'librdkafka', rss)} | {len(rows.rows[k])} |")
    return s


def throughput(rows, txn, mode):
    unit = "tx/s" if mode == "txn" else "msg/s"
    in_group = any("assigned_s" in r for rs in rows.rows.values() for r in rs)
    if in_group:
        own = [("ms to join", lambda r: r.get("assigned_s", MISSING) * 1000), ("ms to commit", lambda r: r.get("commit_s", MISSING) * 1000)]
    else:
        own = [("msgs per batch", lambda r: r.get("batch_messages"))] if mode != "consume" else []
    heads = ["client", unit, f"{unit} / best", "CPU s per 1M msg", "CPU / librdkafka", "CPU / franz-go", "broker CPU s per 1M", *(head for head, _ in own),
             "peak RSS MB", "RSS / librdkafka", "CPU spread", "msgs", "runs"]
    s = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for k in sorted(rows.rows, key=lambda k: rows.med(k, cpum)):
        cells = [
            k, f"{rows.med(k, rate) / txn:,.0f}", rows.per_best(k, rate, max), f"{rows.med(k, cpum):.3f}",
            rows.against(k, "librdkafka", cpum), rows.against(k, "franz-go", cpum),
            number(rows.med(k, lambda r: r["broker_cpu_s"] / r["messages"] * 1e6), ".2f"),
            *(number(rows.med(k, value), ",.0f") for _, value in own),
            f"{rows.med(k, rss):.0f}", rows.against(k, "librdkafka", rss), f"{spread(rows.rows[k]) * 100:.0f} %",
            f"{rows.rows[k][0]['messages']:,}", str(len(rows.rows[k])),
        ]
        s.append("| " + " | ".join(cells) + " |")
    return s


def summary(res, items):
    """Each item in one line: how Ottla's rows stand to the better of the yardsticks."""
    ours = [k for k in dict.fromkeys(k for rows in res.values() for k in rows) if k.startswith("ottla")]
    s = ["\n### Ottla beside the better of librdkafka and franz-go\n",
         "CPU and peak RSS: lower is better (RSS against librdkafka). Rate: higher is better; for latency, the median's ratio: lower is better.\n",
         "| item | row | CPU / best | rate / best | RSS / librdkafka |", "|---|---|---|---|---|"]
    for item in items:
        rows = Rows(res.get(item, {}))
        for k in (k for k in ours if k in rows.rows):
            speed = rows.per_best(k, lambda r: r["p50_ms"], min) + " (p50)" if items[item][1] == "latency" else rows.per_best(k, rate, max)
            s.append(f"| {item}: {items[item][0]} | {k} | {rows.per_best(k, cpum, min)} | {speed} | {rows.against(k, 'librdkafka', rss)} |")
    return "\n".join(s) if len(s) > 4 else ""


def idempotence(res):
    """What idempotence costs each client: the item with it over the item without."""
    s = []
    for what, without, with_it in IDEMPOTENCE:
        a, b = Rows(res.get(without, {})), Rows(res.get(with_it, {}))
        for k in (k for k in a.rows if k in b.rows):
            both = [number(b.med(k, f) / a.med(k, f), ".2f") for f in (rate, cpum)]
            s.append(f"| {k} | {what} | {' | '.join(both)} |")
    if s:
        s = ["\n### With idempotence over without, same client\n", "| client | | msg/s | CPU |", "|---|---|---|---|"] + s
    return s


def groups(res, items):
    """What being a member costs each client: the item in a group over the item with assigned partitions."""
    s = []
    for item in (item for item in items if item + "g" in items):
        a, b = Rows(res.get(item, {})), Rows(res.get(item + "g", {}))
        for k in (k for k in a.rows if k in b.rows):
            s.append(f"| {k} | {items[item][0]} | {number(b.med(k, cpum) / a.med(k, cpum), '.2f')} | {number(b.med(k, rss) / a.med(k, rss), '.2f')} |")
    if s:
        s = ["\n### In a group over with assigned partitions, same client\n", "| client | item | CPU | peak RSS |", "|---|---|---|---|"] + s
    return s


def languages(res, items):
    """The packages of other languages beside the one that is used most there."""
    s = []
    for item in items:
        rows = Rows(res.get(item, {}))
        for k, peer in (pair for pair in LANGUAGES if set(pair) <= set(rows.rows)):
            late = rows.med(k, lambda r: r.get("loop_max_ms"))
            late = "-" if late != late else f"{rows.med(k, lambda r: r['loop_p99_ms']):.2f} / {late:.2f}"
            s.append(f"| {item}: {items[item][0]} | {k} | {peer} | {rows.med(k, cpum):.2f} | {rows.against(k, peer, cpum)} | {rows.against(k, peer, rate)} | {late} |")
    if s:
        s = ["\n### Packages of other languages\n", "| item | client | peer | CPU s per 1M msg | CPU / peer | msg/s / peer | event loop late, p99 / max ms |", "|" + "---|" * 7] + s
    return s


def session_table(res):
    rows = Rows(res)
    s = ["| | p50 ms | p99 ms | client CPU s per 1M msg | broker CPU s per 1M | runs |", "|" + "---|" * 6]
    for k in res:
        cells = [f"{rows.med(k, f):.2f}" for f in (lambda r: r["p50_ms"], lambda r: r["p99_ms"])]
        cells += [f"{rows.med(k, f):.1f}" for f in (cpum, lambda r: r["broker_cpu_s"] / r["messages"] * 1e6)]
        s.append(f"| {k} | {' | '.join(cells)} | {len(res[k])} |")
    return "\n".join(s)


# (key, heading, factor)
BROKER_COLUMNS = [
    ("first_ack_s", "start to first acknowledged record, ms", 1000), ("listen_s", "start to listening, ms", 1000),
    ("idle_rss_mb", "idle memory, MiB", 1), ("start_cpu_s", "CPU s of the start", 1),
    ("p1_cpu", "CPU s per 1M produced, cold", 1), ("p1b_cpu", "the same, warm", 1), ("p6_cpu", "6 partitions", 1),
    ("c1_cpu", "CPU s per 1M consumed, cold", 1), ("c1b_cpu", "the same, warm", 1), ("hwm_mb", "peak memory, MiB", 1),
]


def broker_table(res):
    def cell(rs, key, factor):
        v = [r[key] for r in rs if key in r]
        m = statistics.median(v) * factor if v else MISSING
        return "-" if m != m else f"{m:,.2f}" if m < 10 else f"{m:,.0f}"

    s = ["| broker | " + " | ".join(h for _, h, _ in BROKER_COLUMNS) + " | rounds |", "|" + "---|" * (len(BROKER_COLUMNS) + 2)]
    for k, rs in res.items():
        s.append(f"| {k} | " + " | ".join(cell(rs, key, f) for key, _, f in BROKER_COLUMNS) + f" | {len(rs)} |")
        s += [f"\n- {k}: `{r['error']}`" for r in rs if "error" in r]
    return "\n".join(s)
