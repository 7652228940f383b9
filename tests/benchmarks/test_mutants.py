"""The faults that `make mutants` makes, and what it says about them; it is run as a command."""

import ast
import textwrap

import pytest

from benchmarks import mutant_imports, mutant_operators, mutants
from benchmarks.mutant_operators import Mutant


def after(source):
    """The changed lines of all mutants of a function's body."""
    whole = f"def f(a, b):\n{textwrap.indent(textwrap.dedent(source), '    ')}\n"
    found = mutant_operators.mutants(whole)
    assert all(mutant.function == "f" for mutant in found)
    for mutant in found:
        ast.parse(mutant.source)
    return {mutant.after for mutant in found}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("return a < b", {"return (a <= b)", "return (a >= b)", "return None"}),
        ("return a is not b", {"return (a is b)", "return None"}),
        ("c = 0 < a <= 9", {"c = (0 <= a <= 9)", "c = (0 < a < 9)", "c = 1 < a <= 9", "c = 0 < a <= 10"}),
        ("return a + b * a", {"return (a - (b * a))", "return a + (b / a)", "return None"}),
        ("return a and b", {"return ((a) or (b))", "return None"}),
        ("return not a", {"return (a)", "return None"}),
        ("return -1e9", {"return (1e9)", "return -0.0", "return None"}),
        ("a += 1", {"a -= 1", "a += 2", "pass"}),
        ("a[b] = b", {"pass"}),
        ("if a:\n    return", {"if (not (a)):"}),
        ("raise ValueError(f'{a + 1} is wrong')", {"pass"}),
        ("_log.info('%d', a + 1)", {"pass"}),
        ("a.join(timeout=1)", {"pass", "a.join(timeout=2)"}),
        ("a(b, name=1, strict=True)", {"pass"}),
        ("return min(a, b)", {"return max(a, b)", "return None"}),
        ("return a.f(b, 'x', k=b)", {"return a.f('x', b, k=b)", "return None"}),
        ("c: int = 3", {"c: int = 4"}),
    ],
)  # fmt: skip
def test_each_operator(source, expected):
    assert after(source) == expected


def test_only_the_piece_changes_and_equal_pieces_are_told_apart():
    source = 'x = "é"; y = [1, 1]  # kept\n\n\ndef f():\n    """1 < 2."""\n    return y[0]\n'
    found = mutant_operators.mutants(source)
    assert [mutant.source for mutant in found[:2]] == [
        source.replace("[1, 1]", new) for new in ("[2, 1]", "[1, 2]")
    ]
    assert found[0].key == ': x = "é"; y = [1, 1] # kept -> x = "é"; y = [2, 1] # kept'
    assert found[2].key == "f: return y[0] -> return None"
    twice = mutant_operators.mutants("def f():\n    yield\n    g()\n    g()\n")
    assert [mutant.key for mutant in twice] == ["f: g() -> pass", "f: g() -> pass #2"]


def test_the_choice_does_not_change_with_other_lines():
    lines = [f"x{number} = {number} + {number}" for number in range(30)]
    chosen = mutant_operators.chosen(mutant_operators.mutants("\n".join(lines)), 12, 1)
    more = mutant_operators.chosen(mutant_operators.mutants("\n".join(["import os", *lines])), 12, 1)
    assert [mutant.key for mutant in more] == [mutant.key for mutant in chosen]
    assert [mutant.lines[0] for mutant in more] == [mutant.lines[0] + 1 for mutant in chosen]
    other = mutant_operators.chosen(mutant_operators.mutants("\n".join(lines)), 12, 2)
    assert [mutant.key for mutant in other] != [mutant.key for mutant in chosen]


def test_modules_that_import_a_file_through_others_are_found(tmp_path):
    files = {
        "pack/__init__": "",
        "pack/low": "x = 1",
        "pack/middle": "from pack import low",
        "pack/high": "import pack.middle",
        "pack/later": "def f():\n    import pack.low",
        "pack/inner/__init__": "from pack.low import x",
        "pack/inner/leaf": "",
        "alone": "import json",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.py").write_text(text)
    names = [name.replace("/", ".").removesuffix(".__init__") for name in files]
    apart = mutant_imports.apart_from(names, tmp_path / "pack/low.py", tmp_path)
    assert apart == ["pack", "pack.later", "alone"]


def test_the_table_names_what_is_there():
    table = mutants.yaml.safe_load(mutants.TABLE.read_text())
    files = mutants.read(table, 10, 1)
    areas = {file.area for file in files}
    assert areas >= {
        *("config", "client", "metrics", "pusher", "version manager", "batching", "snapshot", "retrieval"),
        *("ranking losses", "reranking", "candidate sampler", mutants.DELIBERATE),
    }
    for file in files:
        assert 0 < len(file.chosen) + len(file.equivalent) <= 10
        for name in [*file.tests, *file.deselect]:
            path, _, test = name.partition("::")
            assert not test or f"def {test}" in (mutants.ROOT / path).read_text()
            assert (mutants.ROOT / path).is_file()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"areas": {"a": {"benchmarks/tables.py": {"tests": [], "equivalent": {"f: x -> y": "why"}}}}},
            r"benchmarks/tables\.py has no mutant 'f: x -> y'; remove the entry",
        ),
        (
            {"areas": {}, "deliberate": [{"file": "benchmarks/tables.py", "replace": "no such", "with": ""}]},
            r"'no such' is not once in benchmarks/tables\.py",
        ),
    ],
)
def test_an_entry_of_what_is_gone_is_named(table, message):
    with pytest.raises(ValueError, match=message):
        mutants.read(table, 3, 1)


def test_the_report_counts_by_file_and_prints_what_survived():
    one, two, three = (Mutant("f", (n, n), f"a{n}", f"b{n}", 1, "") for n in (1, 2, 3))
    outcomes = [
        mutants.Outcome(mutants.File("x", "x.py", [], [one, two], [(three, "the same")], []), ["t", ""], 2.0),
        mutants.Outcome(mutants.File("y", "y.py", [], [three], [], []), ["t"], 1.0),
    ]
    assert mutants.share(outcomes) == pytest.approx(200 / 3)
    assert mutants.report(outcomes).splitlines() == [
        "area  file  mutants  killed  equivalent   share  cpu s",
        "x     x.py        2       1           1    50 %      2",
        "y     y.py        1       1           0   100 %      1",
        "all               3       2           1  66.7 %      3",
        "",
        "Survived:",
        "  x.py:2: f: a2 -> b2",
        "",
        "Not counted, for they change nothing:",
        "  x.py:3: f: a3 -> b3",
        "    the same",
    ]
