"""The faults that `benchmarks/mutants.py` puts into a file: one small change of its syntax tree each.

The operators are those of Offutt et al., "An experimental determination of sufficient mutant
operators", ACM TOSEM 1996 (relational, arithmetic, logical, absolute values of constants), and
statement deletion (Deng et al., ICST Workshops 2013), with swaps of arguments and of functions that
come in pairs. Only the changed piece of the text is replaced, so that a mutant is a diff of a line.

Not changed is what no test should ask: annotations, decorators, docstrings, texts of messages, what
is logged, and keywords that change speed or names alone (`_IDLE`).
"""

from __future__ import annotations

import ast
import collections
import dataclasses
import hashlib
import itertools
from collections.abc import Iterator

# Keywords that change how fast a call is, or what a thread is called, and no answer.
_IDLE = {
    *("strict", "daemon", "exc_info", "name", "parallel_iterations", "maximum_iterations"),
    *("reduce_retracing", "autograph", "axis_name", "slots", "copy"),
}
_LOGGERS = {"_log", "_log_once", "warnings"}
_ORDER = {
    ast.Lt: ("<", "<=", ">="),
    ast.LtE: ("<=", "<", ">"),
    ast.Gt: (">", ">=", "<="),
    ast.GtE: (">=", ">", "<"),
}
_EQUAL = {
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
_ARITHMETIC = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.Mod: "*",
    ast.Pow: "*",
    ast.BitAnd: "|",
    ast.BitOr: "&",
    ast.LShift: ">>",
    ast.RShift: "<<",
}
_PAIRS = [
    *[("min", "max"), ("minimum", "maximum"), ("any", "all"), ("reduce_any", "reduce_all")],
    *[("zeros", "ones"), ("zeros_like", "ones_like"), ("argmin", "argmax"), ("floor", "ceil")],
    *[("lower", "upper"), ("startswith", "endswith"), ("removeprefix", "removesuffix")],
    *[("partition", "rpartition"), ("reduce_min", "reduce_max")],
]
_OTHER = dict(_PAIRS) | {second: first for first, second in _PAIRS}
# The order of their first two arguments does not matter, or is a type error in any test.
_SYMMETRIC = {"min", "max", "minimum", "maximum", "isinstance", "getattr", "zip", "logical_and", "logical_or"}


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
      function: qualified name of the function or class that holds it; "" in the module itself.
      lines: the first and the last line of the piece that is replaced, from 1.
      before, after: these lines, without it and with it, in one line each.
      number: which of several with the same function, `before` and `after`, from 1.
      source: the whole file with it.
    """

    function: str
    lines: tuple[int, int]
    before: str
    after: str
    number: int
    source: str = dataclasses.field(repr=False, compare=False)

    @property
    def key(self) -> str:
        """What names it in the list of equivalent mutants: no line numbers, which change every day."""
        number = f" #{self.number}" if self.number > 1 else ""
        return f"{self.function}: {self.before} -> {self.after}{number}"


def mutants(source: str) -> list[Mutant]:
    """All mutants of a file, in the order of their places. A few may be no Python; `chosen` skips them."""
    text = source.encode()
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found: list[Mutant] = []
    numbers: collections.Counter[tuple[str, str, str]] = collections.Counter()
    for function, node, new in _Faults(source).find():
        first, last = node.lineno, node.end_lineno or node.lineno
        begin, end = starts[first - 1] + node.col_offset, starts[last - 1] + (node.end_col_offset or 0)
        mutated = text[:begin] + new.encode() + text[end:]
        tail = starts[last] - end
        before = _one_line(text[starts[first - 1] : starts[last]])
        after = _one_line(mutated[starts[first - 1] : begin + len(new.encode()) + tail])
        if before == after:
            continue
        numbers[function, before, after] += 1
        number = numbers[function, before, after]
        found.append(Mutant(function, (first, last), before, after, number, mutated.decode()))
    return found


def chosen(all_of_them: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """`count` mutants at random. Those of untouched lines stay the same when other lines change."""

    def drawn(mutant: Mutant) -> bytes:
        return hashlib.sha256(f"{seed}\0{mutant.key}".encode()).digest()

    parsed = (mutant for mutant in sorted(all_of_them, key=drawn) if _is_python(mutant.source))
    return sorted(itertools.islice(parsed, count), key=lambda mutant: mutant.lines)


def _is_python(source: str) -> bool:
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def _one_line(text: bytes) -> str:
    return " ".join(text.decode().split())


class _Faults:
    """Finds (function, node to be replaced, new text) in a file."""

    def __init__(self, source: str) -> None:
        self._lines = [line.encode() for line in source.splitlines(keepends=True)]
        self._tree = ast.parse(source)

    def find(self) -> Iterator[tuple[str, ast.expr | ast.stmt, str]]:
        yield from self._inside(self._tree, ())

    def _inside(self, node: ast.AST, names: tuple[str, ...]) -> Iterator[tuple[str, ast.AST, str]]:
        if self._left_out(node):
            return
        for changed, new in self._of(node):
            yield ".".join(names), changed, new
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = (*names, node.name)
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list", "bases", "type_params", "ctx"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from self._inside(child, names)

    def _left_out(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Import | ast.ImportFrom | ast.JoinedStr):
            return True
        if isinstance(node, ast.keyword):
            return node.arg in _IDLE
        if isinstance(node, ast.Call):
            return bool(
                {part.id if isinstance(part, ast.Name) else part.attr for part in _chain(node.func)}
                & _LOGGERS
            )
        if isinstance(node, ast.If):
            return "TYPE_CHECKING" in ast.unparse(node.test)
        # `__all__` and type aliases
        return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("__all__", "_log")

    def _text(self, node: ast.AST) -> str:
        first, last = node.lineno - 1, node.end_lineno  # type: ignore[attr-defined]
        text = b"".join(self._lines[first:last])
        cut = len(self._lines[last - 1]) - node.end_col_offset  # type: ignore[attr-defined]
        return text[node.col_offset : len(text) - cut].decode()  # type: ignore[attr-defined]

    def _of(self, node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
        if isinstance(node, ast.Compare):
            yield from self._comparison(node)
        elif isinstance(node, ast.BinOp | ast.AugAssign):
            yield from self._arithmetic(node)
        elif isinstance(node, ast.BoolOp):
            word = "or" if isinstance(node.op, ast.And) else "and"
            yield node, "(" + f" {word} ".join(f"({self._text(value)})" for value in node.values) + ")"
        elif isinstance(node, ast.UnaryOp):
            yield node, f"({self._text(node.operand)})"
        elif isinstance(node, ast.Constant):
            yield from self._constant(node)
        elif isinstance(node, ast.Call):
            yield from self._call(node)
        if isinstance(node, ast.If | ast.While | ast.IfExp):
            yield from self._negated(node.test)
        if isinstance(node, ast.comprehension):
            for test in node.ifs:
                yield from self._negated(test)
        if isinstance(node, ast.stmt):
            yield from self._statement(node)

    def _comparison(self, node: ast.Compare) -> Iterator[tuple[ast.AST, str]]:
        if len(node.ops) > 1:  # a chain: one comparison of it is weakened
            for place in range(len(node.ops)):
                words = [_word(op) for op in node.ops]
                others = _ORDER.get(type(node.ops[place]))
                if others:
                    words[place] = others[1]
                    yield node, self._compared(node, words)
            return
        kind = type(node.ops[0])
        for word in (_ORDER.get(kind) or _EQUAL[kind])[1:]:
            yield node, self._compared(node, [word])

    def _compared(self, node: ast.Compare, words: list[str]) -> str:
        text = self._text(node.left)
        for word, value in zip(words, node.comparators, strict=True):
            text += f" {word} {self._text(value)}"
        return f"({text})"

    def _arithmetic(self, node: ast.BinOp | ast.AugAssign) -> Iterator[tuple[ast.AST, str]]:
        word = _ARITHMETIC.get(type(node.op))
        if isinstance(node, ast.AugAssign):
            if word:
                yield node, f"{self._text(node.target)} {word}= {self._text(node.value)}"
            return
        sides = (node.left, node.right)
        if word and not any(isinstance(side, ast.JoinedStr) or _is_text(side) for side in sides):
            left, right = (
                f"({self._text(side)})" if isinstance(side, ast.BinOp) else self._text(side) for side in sides
            )
            yield node, f"({left} {word} {right})"

    def _constant(self, node: ast.Constant) -> Iterator[tuple[ast.AST, str]]:
        value = node.value
        if isinstance(value, bool):
            yield node, str(not value)
        elif isinstance(value, int):
            yield node, str(value + 1)
        elif isinstance(value, float):
            # a number that stands for "infinitely much" is the same one greater
            yield node, repr(value + 1) if abs(value) < 1000 else "0.0"

    def _call(self, node: ast.Call) -> Iterator[tuple[ast.AST, str]]:
        name = _last(node.func)
        if name in _OTHER:
            prefix = self._text(node.func)[: -len(name)]
            yield node.func, prefix + _OTHER[name]
        args = node.args
        if (
            len(args) >= 2
            and name not in _SYMMETRIC
            and not any(isinstance(arg, ast.Starred) for arg in args[:2])
        ):
            first, second, *rest = [self._text(arg) for arg in args]
            if first != second:
                rest += [self._text(word) for word in node.keywords]
                yield node, f"{self._text(node.func)}({', '.join([second, first, *rest])})"

    def _negated(self, test: ast.expr) -> Iterator[tuple[ast.AST, str]]:
        turned = isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)
        # comparisons and `not` are turned round where they stand
        if not turned and not isinstance(test, ast.Compare):
            yield test, f"(not ({self._text(test)}))"

    def _statement(self, node: ast.stmt) -> Iterator[tuple[ast.AST, str]]:
        if isinstance(node, ast.Return) and node.value is not None and self._text(node.value) != "None":
            yield node, "return None"
            return
        called = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await)
        stored = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute | ast.Subscript)
        dropped = ast.AugAssign | ast.Raise | ast.Delete | ast.Break | ast.Continue
        if called or stored or isinstance(node, dropped):
            yield node, "pass"


def _word(op: ast.cmpop) -> str:
    return (_ORDER.get(type(op)) or _EQUAL[type(op)])[0]


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)


def _chain(node: ast.AST) -> Iterator[ast.Name | ast.Attribute]:
    while isinstance(node, ast.Attribute):
        yield node
        node = node.value
    if isinstance(node, ast.Name):
        yield node


def _last(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
