"""librdkafka's own partitioners, called as the functions that its shared library exports.

  PARTITIONER PARTITIONS KEY      ->      PARTITION

KEY is hexadecimal, `empty`, or `null`. PARTITION is `any` if the answers to the same question differ. confluent-kafka
brings the library but does not call these functions itself.
"""

import ctypes
import glob
import os
import sys

import confluent_kafka

PRODUCER = 0
# Enough for two different answers of a random partitioner, at two partitions, but for one time in 2**63.
ASKED = 64


def library():
    folder = os.path.dirname(confluent_kafka.__file__) + ".libs"
    [path] = glob.glob(os.path.join(folder, "librdkafka*.so*"))
    return ctypes.CDLL(path)


def topic(lib):
    """A topic handle: random partitioners look up whether a partition has a leader (here none has)."""
    lib.rd_kafka_new.restype = ctypes.c_void_p
    lib.rd_kafka_new.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    lib.rd_kafka_topic_new.restype = ctypes.c_void_p
    lib.rd_kafka_topic_new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    lib.rd_kafka_conf_new.restype = ctypes.c_void_p
    lib.rd_kafka_conf_set.argtypes = [ctypes.c_void_p] + [ctypes.c_char_p] * 3 + [ctypes.c_size_t]
    why = ctypes.create_string_buffer(512)
    quiet = lib.rd_kafka_conf_new()
    lib.rd_kafka_conf_set(quiet, b"log_level", b"3", why, len(why))
    producer = lib.rd_kafka_new(PRODUCER, quiet, why, len(why))
    if not producer:
        sys.exit(why.value.decode())
    return lib.rd_kafka_topic_new(producer, b"partitioners", None)


def main():
    lib = library()
    handle = topic(lib)
    answers = []
    for line in sys.stdin:
        name, partitions, key = line.split()
        choose = getattr(lib, "rd_kafka_msg_partitioner_" + name)
        choose.restype = ctypes.c_int32
        choose.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p]
        data = {"null": None, "empty": b""}[key] if key in ("null", "empty") else bytes.fromhex(key)
        ask = lambda: choose(handle, data, len(data or b""), int(partitions), None, None)
        first = ask()
        again = 1 if data else ASKED
        answers.append(str(first) if all(ask() == first for _ in range(again)) else "any")
    print("\n".join(answers), flush=True)
    os._exit(0)  # the producer has no broker to say goodbye to


main()
