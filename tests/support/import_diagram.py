"""The sub-packages and their imports, drawn from the code: `make diagram` writes the drawing into CONTRIBUTING.md."""

import re
from pathlib import Path

import grimp
from places import ROOT

LAYERS = ("triggers", "serving", "pipeline", "processing")  # from the top down
PAGE = ROOT / "CONTRIBUTING.md"
BLOCK = re.compile(r"(?<=<!-- make diagram -->\n).*?(?=<!-- end of diagram -->)", re.DOTALL)

Imports = set[tuple[str, str]]


def part_of(module: str) -> str:
    """The sub-package of a module, or the module itself where it lies in a top-level folder."""
    return ".".join(module.split(".")[:2])


def imports_of_parts() -> Imports:
    """Each import from one sub-package to another, as (importer, imported); type-checking imports included."""
    graph = grimp.build_graph(*LAYERS, cache_dir=None)
    pairs = {
        (part_of(module), part_of(imported))
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
    }
    return {(importer, imported) for importer, imported in pairs if importer != imported and imported not in LAYERS}


def without_implied(imports: Imports) -> Imports:
    """The imports that no path of other imports implies: the transitive reduction of an acyclic graph."""
    return {pair for pair in imports if not _reaches(pair[0], pair[1], imports - {pair})}


def _reaches(start: str, end: str, imports: Imports) -> bool:
    seen, ahead = set[str](), [start]
    while ahead:
        part = ahead.pop()
        if part == end:
            return True
        if part not in seen:
            seen.add(part)
            ahead += [imported for importer, imported in imports if importer == part]
    return False


def faults(imports: Imports) -> list[str]:
    """What must not be there: imports of a layer above, and sub-packages that import each other, also by others."""
    up = [
        f"{importer} imports {imported}, which is above it"
        for importer, imported in sorted(imports)
        if LAYERS.index(imported.split(".")[0]) < LAYERS.index(importer.split(".")[0])
    ]
    cycles = [
        f"{imported} imports {importer}, which imports it"
        for importer, imported in sorted(imports)
        if _reaches(imported, importer, imports)
    ]
    return [*up, *cycles]


def mermaid(imports: Imports) -> str:
    """The drawing: a box for each top-level folder with its sub-packages, and an arrow for each import that no other
    implies, between the sub-packages of one folder and between folders."""
    layers: Imports = {(importer.split(".")[0], imported.split(".")[0]) for importer, imported in imports}
    within = {pair for pair in imports if len({part.split(".")[0] for part in pair}) == 1}
    parts = sorted({part for pair in imports for part in pair})
    lines = ["```mermaid", "flowchart TD"]
    for layer in LAYERS:
        lines.append(f"    subgraph {layer}")
        lines += [f"        {part}[{part.split('.')[1]}]" for part in parts if part.startswith(f"{layer}.")]
        lines.append("    end")
    drawn = [*without_implied({pair for pair in layers if pair[0] != pair[1]}), *without_implied(within)]
    lines += [f"    {importer} --> {imported}" for importer, imported in sorted(drawn)]
    return "\n".join([*lines, "```", ""])


def drawn_in(page: Path) -> list[str]:
    """The drawings that a page has between its marks."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


if __name__ == "__main__":
    drawing = mermaid(imports_of_parts())
    PAGE.write_text(BLOCK.sub(lambda _: drawing, PAGE.read_text(encoding="utf-8")), encoding="utf-8")
