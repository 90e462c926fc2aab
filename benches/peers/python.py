"""The pools of Python, measured from within.

    python.py versions            prints what there is, as one line of JSON
    python.py POOL --workers N    reads requests and answers each, a line of JSON either way

The first line that a pool prints is "ready", or {"missing": WHY} where its package is not
installed. Requests name what to do, and its numbers:

    {"do": "round_trips", "warm_up": 20, "calls": 200, "pause": 0.001}
    {"do": "throughput", "tasks": 1000}
    {"do": "map", "items": 1000, "chunksize": 100}
    {"do": "echoes", "size": 1024, "calls": 10}
    {"do": "start_ups", "calls": 10}

Each answer is {"seconds": [...]}: how long each call took, or all tasks together.
"""

import argparse
import importlib.metadata
import json
import platform
import sys
import time


def identity(value):
    return value


class Futures:
    """A pool with the methods of concurrent.futures."""

    def __init__(self, executor):
        self.executor = executor

    def submit(self, value):
        """Returns what waits for the result."""
        return self.executor.submit(identity, value).result

    def map(self, items, chunksize):
        return self.executor.map(identity, items, chunksize=chunksize)

    def close(self):
        self.executor.shutdown()


class Multiprocessing:
    """multiprocessing.Pool"""

    def __init__(self, pool):
        self.pool = pool

    def submit(self, value):
        return self.pool.apply_async(identity, (value,)).get

    def map(self, items, chunksize):
        return self.pool.map(identity, items, chunksize)

    def close(self):
        self.pool.close()
        self.pool.join()


class Pebble:
    """pebble.ProcessPool"""

    def __init__(self, pool):
        self.pool = pool

    def submit(self, value):
        return self.pool.schedule(identity, args=[value]).result

    def map(self, items, chunksize):
        return self.pool.map(identity, items, chunksize=chunksize).result()

    def close(self):
        self.pool.close()
        self.pool.join()


def process_pool_executor(workers):
    from concurrent.futures import ProcessPoolExecutor

    return Futures(ProcessPoolExecutor(workers))


def thread_pool_executor(workers):
    from concurrent.futures import ThreadPoolExecutor

    return Futures(ThreadPoolExecutor(workers))


def multiprocessing_pool(workers):
    from multiprocessing import Pool

    return Multiprocessing(Pool(workers))


def loky_executor(workers):
    from loky import ProcessPoolExecutor

    return Futures(ProcessPoolExecutor(workers))


def pebble_pool(workers):
    from pebble import ProcessPool

    return Pebble(ProcessPool(max_workers=workers))


POOLS = {
    "ProcessPoolExecutor": process_pool_executor,
    "ThreadPoolExecutor": thread_pool_executor,
    "multiprocessing.Pool": multiprocessing_pool,
    "loky": loky_executor,
    "pebble": pebble_pool,
}


class Bench:
    """A pool that is kept warm, and what can be asked of it."""

    def __init__(self, start, workers):
        self.start = start
        self.workers = workers
        self.pool = start(workers)
        # Nothing is measured before there are workers.
        for result in [self.pool.submit(number) for number in range(10 * workers)]:
            result()

    def round_trips(self, warm_up, calls, pause):
        seconds = []
        for number in range(warm_up + calls):
            if pause:
                time.sleep(pause)
            begun = time.perf_counter()
            answer = self.pool.submit(number)()
            seconds.append(time.perf_counter() - begun)
            assert answer == number
        return seconds[warm_up:]

    def throughput(self, tasks):
        begun = time.perf_counter()
        results = [self.pool.submit(number) for number in range(tasks)]
        total = sum(result() for result in results)
        seconds = time.perf_counter() - begun
        assert total == sum(range(tasks))
        return [seconds]

    def map(self, items, chunksize):
        begun = time.perf_counter()
        total = sum(self.pool.map(range(items), chunksize))
        seconds = time.perf_counter() - begun
        assert total == sum(range(items))
        return [seconds]

    def echoes(self, size, calls):
        data = b"\7" * size
        seconds = []
        # The first one warms up.
        for _ in range(1 + calls):
            begun = time.perf_counter()
            answer = self.pool.submit(data)()
            seconds.append(time.perf_counter() - begun)
            assert answer == data
        return seconds[1:]

    def start_ups(self, calls):
        seconds = []
        for _ in range(calls):
            begun = time.perf_counter()
            pool = self.start(self.workers)
            answer = pool.submit(42)()
            seconds.append(time.perf_counter() - begun)
            assert answer == 42
            pool.close()
        return seconds


def say(answer):
    print(json.dumps(answer), flush=True)


def versions():
    found = {"Python": platform.python_version()}
    for package in ["loky", "pebble"]:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pass
    say(found)


def serve(name, workers):
    try:
        bench = Bench(POOLS[name], workers)
    except ImportError as error:
        say({"missing": str(error)})
        return
    say("ready")
    for line in sys.stdin:
        request = json.loads(line)
        say({"seconds": getattr(bench, request.pop("do"))(**request)})
    bench.pool.close()


def main():
    parser = argparse.ArgumentParser(description="The pools of Python, measured from within.")
    parser.add_argument("pool", choices=["versions", *POOLS])
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.pool == "versions":
        versions()
    else:
        serve(arguments.pool, arguments.workers)


if __name__ == "__main__":
    # Functions of a module travel by name; a script's own would travel by value with loky.
    sys.dont_write_bytecode = True
    import python

    python.main()
