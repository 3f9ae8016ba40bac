"""The server: throughput, latency, fairness, and many connections that open and close.

    python -m tests.bench serving -- [--model M] [--sentences N] [--soak-s S]
    python -m tests.bench serving -- --shape 600M --sentences 32 --rounds 2
    python -m tests.bench serving -- --libretranslate http://127.0.0.1:5001

`nllb serve` runs as a separate process, with one thread for each of its workers and without its
cache. The bulk translator has the same number of threads. All contestants are interleaved, because
other programs may use the machine. Parts that are not measured in a run keep their figures in the
file of results.

`--shape 600M` measures a random model of that size (see `serving_shape`). `--libretranslate` names
the address of a LibreTranslate server that runs beside, which is measured in turn with ours.
"""

import argparse
import asyncio
import http.client
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.bench.measuring import RESULTS, environment
from tests.serving_stand_in import shifted

WORDS = (
    "the cat dog house river old red small my your friend mother water bread sees likes has wants "
    "buys gives under over with near today tomorrow morning school garden market and but never"
).split()
SOURCE, TARGET = "eng_Latn", "deu_Latn"
HANG_S = 240
"""A request without an answer for so long counts as hanging; a busy machine needs much time."""
STAND_IN = (
    "from tests.serving_stand_in import *\n"
    "with run_server(ShiftGenerator(seconds=0.002), workers=2, cached_segments=1000) as server:\n"
    "    print(server.url, flush=True)\n"
    "    sys.stdin.read()\n"
)


def sentences(count: int, seed: int) -> list[str]:
    """Return short sentences, which differ between seeds."""
    chance = random.Random(seed)
    lines = []
    for _ in range(count):
        words = [chance.choice(WORDS) for _ in range(chance.randint(5, 10))]
        lines.append(" ".join(words).capitalize() + ".")
    return lines


@contextmanager
def serving(*options: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Run `nllb serve`; yield its port and its process."""
    command = [sys.executable, "-m", "nllb", "serve", "--port", "0", "--cached-segments", "0"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    port = 0
    for line in process.stderr:
        record = json.loads(line) if line.startswith("{") else {}
        if found := re.search(r":(\d+)", record.get("url", "")):
            port = int(found[1])
            break
    drain = threading.Thread(target=process.stderr.read, daemon=True)
    drain.start()
    try:
        yield port, process
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def stand_in(*command: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Run a program that prints the address of its server and ends with its input."""
    process = subprocess.Popen(
        [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield int(process.stdout.readline().strip().rpartition(":")[2]), process
    finally:
        process.stdin.close()
        process.wait(30)


class Client:
    """A connection that is kept open."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", path, json.dumps(body), headers)
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"status {answer.status}: {data[:200]!r}")
        return json.loads(data)

    def translate(
        self, text: str | list[str], languages: tuple[str, str] = (SOURCE, TARGET)
    ) -> str | list[str]:
        source, target = languages
        answer = self.post("/translate", {"q": text, "source": source, "target": target})
        found: str | list[str] = answer["translatedText"]
        return found


def by_clients(
    port: int,
    lines: Sequence[str],
    count: int,
    languages: tuple[str, str] = (SOURCE, TARGET),
) -> list[str]:
    """Translate lines by several clients, each one line after the other."""
    local = threading.local()

    def one(line: str) -> str:
        if not hasattr(local, "client"):
            local.client = Client(port)
        return str(local.client.translate(line, languages))

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, lines))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share of the values lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def processor_seconds(process_id: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure_throughput(
    port: int, process_id: int, translator: Any, count: int, rounds: int
) -> dict[str, Any]:
    """Compare sentences per second of the bulk translator, 16 clients and one client.

    The processor time of each is also measured, because it depends less on other load.
    """
    processor: dict[str, list[float]] = {"bulk": [], "16 clients": [], "1 client": []}
    rates: dict[str, list[float]] = {"bulk": [], "16 clients": [], "1 client": []}
    wrong = 0
    for number in range(rounds + 1):
        lines = sentences(count, number)
        outputs: dict[str, list[str]] = {}
        for name, of in rates.items():
            share = lines if name != "1 client" else lines[: count // 4]
            used = time.process_time(), processor_seconds(process_id)
            started = time.perf_counter()
            if name == "bulk":
                outputs[name] = [t.text for t in translator.translate(share, SOURCE, TARGET)]
            else:
                outputs[name] = by_clients(port, share, 16 if name == "16 clients" else 1)
            elapsed = time.perf_counter() - started
            by_bulk = time.process_time() - used[0]
            by_server = processor_seconds(process_id) - used[1]
            if number:
                of.append(len(share) / elapsed)
                spent = by_bulk if name == "bulk" else by_server
                processor[name].append(1000 * spent / len(share))
        wrong += sum(a != b for a, b in zip(outputs["bulk"], outputs["16 clients"], strict=True))
    spent_ms = {name: statistics.median(of) for name, of in processor.items()}
    medians = {name: statistics.median(of) for name, of in rates.items()}
    return {
        "sentences_per_s": rates,
        "medians": medians,
        "of_bulk": medians["16 clients"] / medians["bulk"],
        "over_one_client": medians["16 clients"] / medians["1 client"],
        "processor_ms_per_sentence": spent_ms,
        "of_bulk_by_processor_time": spent_ms["bulk"] / spent_ms["16 clients"],
        "answers_that_differ": wrong,
    }


def measure_latency(port: int, translator: Any, count: int) -> dict[str, Any]:
    """Compare the time of one short request through the Python API and over HTTP."""
    client = Client(port)
    seconds: dict[str, list[float]] = {"api": [], "http": []}
    for line in sentences(count, 1000):
        started = time.perf_counter()
        translator.translate(line, SOURCE, TARGET)
        seconds["api"].append(time.perf_counter() - started)
        started = time.perf_counter()
        client.translate(line)
        seconds["http"].append(time.perf_counter() - started)
    return {
        "added_ms_median": 1000 * statistics.median(
            http - api for http, api in zip(seconds["http"], seconds["api"], strict=True)
        ),
        "added_ms_of_minima": 1000 * (min(seconds["http"]) - min(seconds["api"])),
        "median_ms": {name: 1000 * statistics.median(of) for name, of in seconds.items()},
    }  # fmt: skip


def measure_fairness(port: int, count: int) -> dict[str, Any]:
    """Compare short requests alone and while a document of 500 sentences is translated."""
    client = Client(port)

    def short(seed: int) -> list[float]:
        seconds = []
        for line in sentences(count, seed):
            started = time.perf_counter()
            client.translate(line)
            seconds.append(time.perf_counter() - started)
        return seconds

    alone = short(2000)
    stop = threading.Event()
    documents = 0

    def document() -> None:
        nonlocal documents
        other = Client(port)
        while not stop.is_set():
            other.translate(" ".join(sentences(500, 3000 + documents)))
            documents += 1

    thread = threading.Thread(target=document)
    thread.start()
    time.sleep(0.5)
    beside = short(2001)
    stop.set()
    thread.join()
    rows = {
        name: {f"p{round(100 * q)}_ms": 1000 * percentile(of, q) for q in (0.5, 0.9, 0.99)}
        for name, of in (("alone", alone), ("beside a document", beside))
    }
    ratio = rows["beside a document"]["p99_ms"] / rows["alone"]["p99_ms"]
    return {**rows, "p99_ratio": ratio, "documents": documents}


def resident_mib(process_id: int) -> float:
    """Return the resident memory of a process."""
    text = Path(f"/proc/{process_id}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


def scheduled_seconds(process_id: int) -> dict[str, float]:
    """Return how long the threads of a process ran, and how long they waited for a processor."""
    ran = waited = 0
    for file in Path(f"/proc/{process_id}/task").glob("*/schedstat"):
        with suppress(OSError):  # The thread may have ended.
            fields = file.read_text().split()
            ran, waited = ran + int(fields[0]), waited + int(fields[1])
    return {"ran_s": ran / 1e9, "waited_for_processor_s": waited / 1e9}


async def _soak_client(port: int, number: int, until: float, counts: Counter[str]) -> None:
    chance = random.Random(number)
    while time.monotonic() < until:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            counts["refused"] += 1
            await asyncio.sleep(0.1)
            continue
        try:
            for _ in range(chance.randint(1, 20)):
                text = f"{chance.choice(WORDS)} {chance.choice(WORDS)} {number} {chance.random()}."
                body = json.dumps({"q": text, "source": SOURCE, "target": TARGET}).encode()
                writer.write(
                    b"POST /translate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                    b"Content-Length: %d\r\n\r\n" % len(body) + body
                )
                if chance.random() < 0.05:
                    counts["killed"] += 1
                    await asyncio.sleep(chance.random() / 50)
                    break
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HANG_S)
                length = int(re.search(rb"content-length: (\d+)", head.lower())[1])  # type: ignore[index]
                answer = json.loads(await asyncio.wait_for(reader.readexactly(length), HANG_S))
                status = int(head.split()[1])
                if status == 200:
                    right = answer["translatedText"] == shifted(text, TARGET)
                    counts["right" if right else "wrong"] += 1
                else:
                    counts[f"status {status}"] += 1
                await asyncio.sleep(chance.random())
        except TimeoutError:
            counts["hangs"] += 1
        except (OSError, asyncio.IncompleteReadError):
            counts["lost connections"] += 1
        finally:
            writer.transport.abort()


def measure_soak(connections: int, seconds: float) -> dict[str, Any]:
    """Keep many connections busy, kill some, and compare the server's memory."""
    counts: Counter[str] = Counter()
    memory = []

    async def run(port: int, process_id: int, until: float) -> None:
        clients = [
            asyncio.create_task(_soak_client(port, number, until, counts))
            for number in range(connections)
        ]
        while time.monotonic() < until:
            await asyncio.sleep(seconds / 12)
            memory.append(resident_mib(process_id))
        await asyncio.gather(*clients)

    with stand_in("-c", "import sys\n" + STAND_IN) as (port, process):
        asyncio.run(run(port, process.pid, time.monotonic() + seconds))
        scheduled = scheduled_seconds(process.pid)
    half = memory[len(memory) // 2]
    return {
        "connections": connections,
        "seconds": seconds,
        "counts": dict(counts),
        "server": scheduled,
        "resident_mib": memory,
        "growth_of_second_half": memory[-1] / half - 1,
    }


def measure_shape(folder: Path, count: int, rounds: int) -> dict[str, Any]:
    """Measure the throughput with a random model in the shape of NLLB 600M."""
    from tests.bench.serving_shape import shape_translator

    processors = len(os.sched_getaffinity(0))
    bulk = shape_translator(folder, num_threads=processors)
    command = ("-m", "tests.bench.serving_shape", str(folder), str(processors))
    with stand_in(*command) as (port, process):
        return measure_throughput(port, process.pid, bulk, count, rounds)


def measure_libretranslate(port: int, address: str, count: int, rounds: int) -> dict[str, Any]:
    """Compare 16 clients of our server with 16 clients of LibreTranslate, in turn."""
    other = int(address.rstrip("/").rpartition(":")[2])
    rates: dict[str, list[float]] = {"nllb": [], "LibreTranslate": []}
    for number in range(rounds + 1):
        lines = sentences(count, number)
        for name, at in (("nllb", port), ("LibreTranslate", other)):
            started = time.perf_counter()
            by_clients(at, lines, 16, ("en", "de"))
            if number:
                rates[name].append(count / (time.perf_counter() - started))
    medians = {name: statistics.median(of) for name, of in rates.items()}
    return {"sentences_per_s": rates, "ratio": medians["nllb"] / medians["LibreTranslate"]}


def main(argv: list[str]) -> int:
    """Measure and write tests/bench/results/serving.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--sentences", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--soak-s", type=float, default=60)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--shape", choices=["600M"], help="measure a random model instead")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "nllb-bench")
    parser.add_argument("--libretranslate", metavar="URL", help="a server to compare with")
    options = parser.parse_args(argv)
    settings = vars(options) | {"folder": str(options.folder)}
    result: dict[str, Any] = {"environment": environment(**settings)}
    if options.shape:
        result["throughput"] = measure_shape(options.folder, options.sentences, options.rounds)
        print(json.dumps(result["throughput"]), flush=True)
        return write(f"serving_{options.shape}", result)
    if options.sentences:
        from nllb.translation.translator import Translator

        processors = len(os.sched_getaffinity(0))
        bulk = Translator.load(options.model, num_threads=processors, detector="auto")
        threads = str(max(1, len(os.sched_getaffinity(0)) // options.workers))
        workers = ("--workers", str(options.workers), "--threads", threads)
        with serving(*workers, "--model", options.model) as (port, process):
            result["throughput"] = measure_throughput(
                port, process.pid, bulk, options.sentences, options.rounds
            )
            print(json.dumps(result["throughput"]), flush=True)
            result["fairness"] = measure_fairness(port, max(100, options.sentences))
            print(json.dumps(result["fairness"]), flush=True)
            if options.libretranslate:
                result["libretranslate"] = measure_libretranslate(
                    port, options.libretranslate, options.sentences, options.rounds
                )
                print(json.dumps(result["libretranslate"]), flush=True)
        single = Translator.load(options.model, num_threads=1, detector="auto")
        with serving("--model", options.model, "--workers", "1", "--threads", "1") as (port, _):
            result["latency"] = measure_latency(port, single, options.sentences)
            print(json.dumps(result["latency"]), flush=True)
    if options.soak_s:
        result["soak"] = measure_soak(options.connections, options.soak_s)
        print(json.dumps(result["soak"]), flush=True)
    name = "serving" if options.model == "mini" else f"serving_{Path(options.model).name}"
    return write(name, result)


def write(name: str, result: dict[str, Any]) -> int:
    """Write figures into a file of results, and keep those that were not measured again."""
    path = RESULTS / f"{name}.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(before | result, indent=1) + "\n")
    return 0
