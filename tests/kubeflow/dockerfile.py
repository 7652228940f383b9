"""Reads as much of a Dockerfile as the tests need."""


def instructions(path):
    """(NAME, arguments) of each instruction, continued lines joined, comments left out."""
    lines = (line.strip() for line in path.read_text().splitlines())
    text = "\n".join(line for line in lines if line and not line.startswith("#")).replace("\\\n", " ")
    found = (line.partition(" ") for line in text.splitlines())
    return [(name.upper(), rest.strip()) for name, _, rest in found]


def copies(path):
    """(sources, destination) of each COPY."""
    found = [rest.split() for name, rest in instructions(path) if name == "COPY"]
    return [(sources, destination) for *sources, destination in found]
