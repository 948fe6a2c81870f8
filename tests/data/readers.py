"""A process that trains nothing: it reads with two workers, and something happens.

    python tests/data/readers.py raise|kill|wait

``raise`` lets a worker meet an error of its own, ``kill`` kills one with signal 9,
``wait`` prints the workers' process numbers and waits to be killed.
"""

import multiprocessing
import os
import signal
import sys
import time

import numpy as np

from jaxssl.data import pipeline
from jaxssl.data.source import image_spec


class Sixty:
    """Sixty records; one of them is a bug and not a damaged file."""

    name, class_names, spec, fingerprint = "sixty", (), image_spec((1, 1, 3)), "sixty"

    def __init__(self, bug):
        self._bug = bug

    def __len__(self):
        return 60

    def read(self, index, rng):
        if index == self._bug:
            raise RuntimeError("a bug on purpose")
        return {"image": np.zeros((1, 1, 3), np.uint8), "label": np.int32(0)}

    def record_name(self, index):
        return f"sixty[{index}]"


def main(what):
    source = Sixty(bug=40 if what == "raise" else -1)
    with pipeline.batches(source, batch_size=6, seed=0, num_workers=2) as rows:
        for number in range(2000):
            next(rows)
            if number == 0:
                workers = [child.pid for child in multiprocessing.active_children()]
                print(*workers, flush=True)
                if what == "kill":
                    # A worker killed with one of Grain's locks in hand leaves the
                    # reader waiting, which is the watchdog's matter. Once its buffer
                    # is full, it hardly ever has one.
                    time.sleep(1)
                    os.kill(workers[0], signal.SIGKILL)
                if what == "wait":
                    time.sleep(600)


if __name__ == "__main__":
    main(sys.argv[1])
