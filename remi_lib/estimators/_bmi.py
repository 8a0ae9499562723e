"""Neural estimators of the package ``benchmark-mi``, run by an interpreter that has it.

It needs older versions of NumPy and JAX, so it lives in an environment of its own, and this file,
which imports nothing of remi_lib, is the contact: a path to x and y a line in, JSON a line out.
"""

import json
import sys
import time

import numpy as np


def main() -> None:
    import bmi.estimators as e

    kinds = {"bmi MINE": e.MINEEstimator, "bmi InfoNCE": e.InfoNCEEstimator}
    for line in sys.stdin:
        request = json.loads(line)
        data = np.load(request["path"])
        started = time.process_time()
        try:
            value = kinds[request["method"]](verbose=False).estimate(data["x"], data["y"])
            answer: dict[str, float | str] = {
                "value": float(value),
                "seconds": time.process_time() - started,
            }
        except Exception as error:  # the next request finds the process alive
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
