"""What is learned of the sizes of a signature's outputs, so that a batch's answers can be cut apart.

An answer must not show that others were in the batch. So an output that grew with the padding,
or with another request's larger `k`, is cut back, for which one has to know what its size
follows. That is learned from what the model does: every run without padding strikes out the
explanations (this input's size, that scalar's value, the largest of those whole numbers, always
the same) that it contradicts. Requests of different sizes share a batch only while all
explanations left agree about each of them, and the sizes that come out are checked. Nor may
padding make a wrong request right: inputs that have been equally long in every good request (a
history's items and their ages) must be so in each that joins, else the graph shall refuse it alone.
"""

from __future__ import annotations

import itertools
import math
import threading

import numpy as np

from serving.model_server.core.servable import Arrays

# What the size of an output may follow: ("input", name, axis), ("scalar", name), ("largest", name)
# or ("always", size).
_Explanation = tuple[object, ...]


class OutputSizes:
    """What is known of the output sizes of one signature of one version."""

    def __init__(self) -> None:
        self.batchable = True
        # output's dimension -> explanation -> the size beyond which it was never seen to go
        self._explanations: dict[tuple[str, int], dict[_Explanation, float]] | None = None
        # pairs of inputs' dimensions that were never of different sizes
        self._equal: set[tuple[_Explanation, _Explanation]] = set()
        # output's dimension and ("largest", name) -> (values, size) of a run that left it to the model
        self._chosen: dict[tuple[object, _Explanation], tuple[object, int]] = {}
        self._lock = threading.Lock()

    def learn(self, inputs: Arrays, outputs: Arrays) -> None:
        """Strikes out what one run without padding contradicts."""
        facts = _facts(inputs)
        with self._lock:
            if self._explanations is None:
                self._explanations = {
                    (name, axis): dict.fromkeys([*facts, ("always", value.shape[axis])], math.inf)
                    for name, value in outputs.items()
                    for axis in range(1, value.ndim)
                }
                self._equal = set(itertools.combinations([one for one in facts if one[0] == "input"], 2))
            self._equal = {(one, other) for one, other in self._equal if facts[one] == facts[other]}
            for (name, axis), left in self._explanations.items():
                size = outputs[name].shape[axis] if axis < outputs[name].ndim else None
                for one, most in list(left.items()):
                    if size is None:
                        continue
                    if one[0] == "largest" and not facts[one]:
                        # whatever the model chooses, it chooses the same for the same numbers
                        values = tuple(np.unique(inputs[one[1]]))
                        first = self._chosen.setdefault(((name, axis), one), (values, size))
                        if first[0] == values and first[1] != size:
                            del left[one]
                    elif one[0] == "largest" and size < facts[one] and most == math.inf:
                        left[one] = size  # as with a `k` beyond what the model gives
                    elif _size(one, facts, most) != size:
                        del left[one]

    def wanted(self, inputs: Arrays) -> object:
        """What `inputs` say about the outputs' sizes by their values; equal for requests that
        may share a batch without cutting.
        """
        facts = _facts(inputs)
        with self._lock:
            unknown = {("", 0): dict.fromkeys(facts, math.inf)}
            places = unknown if self._explanations is None else self._explanations
            return tuple(
                (place, one, _size(one, facts, most) or tuple(np.unique(inputs[one[1]])))
                for place, left in places.items()
                # a size that nothing explains may follow any of the numbers
                for one, most in (left or dict.fromkeys(facts, math.inf)).items()
                if one[0] == "largest"
            )

    def predict(self, inputs: Arrays) -> dict[tuple[str, int], int] | None:
        """Sizes of the outputs' dimensions for `inputs`, or None while they are not certain."""
        facts = _facts(inputs)
        with self._lock:
            if self._explanations is None or any(facts[one] != facts[other] for one, other in self._equal):
                return None
            sizes: dict[tuple[str, int], int] = {}
            for place, left in self._explanations.items():
                expected = {_size(one, facts, most) for one, most in left.items()}
                if len(expected) != 1 or None in expected:  # None: the model's choice, which nobody knows
                    return None
                sizes[place] = expected.pop()
        return sizes


def _facts(inputs: Arrays) -> dict[_Explanation, int]:
    facts: dict[_Explanation, int] = {}
    for name, value in inputs.items():
        for axis in range(1, value.ndim):
            facts["input", name, axis] = value.shape[axis]
        if value.ndim == 0 and value.dtype.kind in "iu":
            facts["scalar", name] = int(value)
        if value.ndim == 1 and value.dtype.kind in "iu":
            # a number below 1 leaves the choice to the model
            facts["largest", name] = int(value.max()) if len(value) and value.min() > 0 else 0
    return facts


def _size(explanation: _Explanation, facts: dict[_Explanation, int], most: float) -> int | None:
    """The size that an explanation gives, None where it says nothing."""
    if explanation[0] == "always":
        return explanation[1]
    if explanation[0] == "largest":
        return min(facts[explanation], most) or None
    return facts[explanation]
