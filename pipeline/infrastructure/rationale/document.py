"""A Word document from a small part of Markdown: headings, paragraphs, lists, tables, a picture, page breaks.

Inline there are **bold** and `code`. A line `Table: ...` ahead of a table, or `Picture: ...` in the
picture's place, is its caption; `---` is a page break. A header cell that ends in ` >` makes its column one of
numbers, set to the right.
"""

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from docx import Document
from docx.enum.table import WD_TABLE_ALIGNMENT
from docx.enum.text import WD_ALIGN_PARAGRAPH
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Cm, Pt, RGBColor

from pipeline.infrastructure.rationale.picture import ALT

FONT, CODE_FONT = "Calibri", "Consolas"
INK, ACCENT, SHADE = RGBColor(0x1F, 0x2A, 0x37), RGBColor(0x2F, 0x5D, 0x8C), "E4ECF5"
BORDER, FOOTER = "A9B8C8", Pt(8.5)
TEXT_WIDTH = 16.6  # cm, of A4 with its margins
FIXED = datetime(2026, 1, 1, tzinfo=UTC)  # the document says when its prices are from; its file has no other date
NARROWEST, WIDEST = 2.0, 8.5  # cm, of a column
LONG = 20  # rows from which on a table may be broken over pages


def make(text: str, figures: Mapping[str, str], picture: bytes) -> bytes:
    """The document as the bytes of a .docx file; the same for the same input.

    Raises KeyError for a figure that `text` names and `figures` lacks, ValueError for one that it does not use.
    """
    unused = set(figures) - set(re.findall(r"\{(\w+)\}", text))
    if unused:
        raise ValueError(f"the text does not use {', '.join(sorted(unused))}")
    document = Document()
    _styles(document)
    _page(document)
    builder = _Builder(document, picture)
    for block in re.split(r"\n\s*\n", text.format_map(figures).strip()):
        builder.add(block.splitlines())
    _properties(document)
    file = io.BytesIO()
    document.save(file)
    return _without_times(file.getvalue())


def parts(data: bytes) -> dict[str, bytes]:
    """The parts of a .docx file by name."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


class _Builder:
    def __init__(self, document: Any, picture: bytes) -> None:
        self.document, self.picture = document, picture
        self.numbers = {"Table": 0, "Picture": 0}
        self.place = [0, 0]  # section, part of it

    def add(self, lines: Sequence[str]) -> None:
        first = lines[0]
        if heading := re.match(r"(#+) (.*)", first):
            self.heading(heading[2], len(heading[1]) - 1)
        elif first == "---":
            self.document.add_page_break()
        elif first.startswith("Table: "):
            before = self.document.paragraphs[-1]
            if before.style.name == "Normal":
                before.paragraph_format.keep_with_next = True
            self.caption("Table", first)
            self.table(lines[1:])
        elif first.startswith("Picture: "):
            self.show()
            self.caption("Picture", " ".join(lines))
        elif first.startswith("|"):
            self.table(lines)
        elif first.startswith("- "):
            for item in re.split(r"\n- ", "\n".join(lines)[2:]):
                _inline(self.document.add_paragraph(style="List Bullet"), " ".join(item.split()))
        else:
            _inline(self.document.add_paragraph(), " ".join(lines))

    def heading(self, text: str, level: int) -> None:
        if level == 1:
            self.place = [self.place[0] + 1, 0]
        elif level == 2:
            self.place[1] += 1
        number = ".".join(map(str, self.place[:level]))
        self.document.add_heading(f"{number}  {text}" if level else text, level)

    def caption(self, kind: str, line: str) -> None:
        self.numbers[kind] += 1
        paragraph = self.document.add_paragraph(style="Caption")
        _inline(paragraph, f"{kind} {self.numbers[kind]}. {line.removeprefix(f'{kind}: ')}")
        paragraph.paragraph_format.keep_with_next = kind == "Table"

    def show(self) -> None:
        paragraph = self.document.add_paragraph()
        paragraph.paragraph_format.keep_with_next = True
        paragraph.alignment = WD_ALIGN_PARAGRAPH.CENTER
        shape = paragraph.add_run().add_picture(io.BytesIO(self.picture), width=Cm(TEXT_WIDTH - 0.2))
        properties = shape._inline.docPr
        properties.set("name", "Architecture")
        properties.set("descr", ALT)

    def table(self, lines: Sequence[str]) -> None:
        header, _, *body = ([cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines)
        right = [cell.endswith(" >") for cell in header]
        rows = [[cell.removesuffix(" >") for cell in header], *body]
        table = self.document.add_table(rows=len(rows), cols=len(header), style="Table Grid")
        table.alignment, table.autofit = WD_TABLE_ALIGNMENT.CENTER, False
        _borders(table)
        widths = _widths(rows)
        for column, width in zip(table.columns, widths, strict=True):
            column.width = Cm(width)
        for i, row in enumerate(rows):
            _keep_whole(table.rows[i], header=i == 0)
            for cell, text, width, to_right in zip(table.rows[i].cells, row, widths, right, strict=True):
                cell.width = Cm(width)
                paragraph = cell.paragraphs[0]
                paragraph.style = "Table Text"
                paragraph.paragraph_format.keep_with_next = i < len(rows) - 1 and (i == 0 or len(rows) < LONG)
                if to_right:
                    paragraph.alignment = WD_ALIGN_PARAGRAPH.RIGHT
                _inline(paragraph, f"**{text}**" if i == 0 and text else text)
                if i == 0:
                    _shade(cell)
        self.document.add_paragraph(style="After Table")


def _inline(paragraph: Any, text: str) -> None:
    for piece in re.split(r"(\*\*.+?\*\*|`[^`]+`)", text):
        if piece.startswith("**"):
            paragraph.add_run(piece.strip("*")).bold = True
        elif piece.startswith("`"):
            run = paragraph.add_run(piece.strip("`"))
            run.font.name, run.font.size = CODE_FONT, Pt(9)
        elif piece:
            paragraph.add_run(piece)


def _widths(rows: Sequence[Sequence[str]]) -> list[float]:
    """Columns share the width by what is in them: the longest word, and the length of the text, damped."""
    wanted = []
    for column in zip(*rows, strict=True):
        longest = max(len(word) for cell in column for word in cell.split() or [""])
        typical = sum(len(cell) for cell in column) / len(column)
        wanted.append(max(NARROWEST, 0.2 * longest + 0.4, min(WIDEST, 0.9 * typical**0.5)))
    return [width * TEXT_WIDTH / sum(wanted) for width in wanted]


def _keep_whole(row: Any, *, header: bool) -> None:
    """A row is not broken over pages; the header is repeated on each."""
    properties = row._tr.get_or_add_trPr()
    for name in ("w:cantSplit", *(["w:tblHeader"] if header else [])):
        properties.append(OxmlElement(name))


def _borders(table: Any) -> None:
    borders = OxmlElement("w:tblBorders")
    for side in ("top", "left", "bottom", "right", "insideH", "insideV"):
        line = OxmlElement(f"w:{side}")
        for name, value in (("w:val", "single"), ("w:sz", "4"), ("w:color", BORDER)):
            line.set(qn(name), value)
        borders.append(line)
    table._tbl.tblPr.find(qn("w:tblLayout")).addprevious(borders)  # Word wants its own order of elements


def _shade(cell: Any) -> None:
    shade = OxmlElement("w:shd")
    for name, value in (("w:val", "clear"), ("w:color", "auto"), ("w:fill", SHADE)):
        shade.set(qn(name), value)
    cell._tc.get_or_add_tcPr().append(shade)


def _styles(document: Any) -> None:
    styles = document.styles
    normal = styles["Normal"]
    normal.font.name, normal.font.size, normal.font.color.rgb = FONT, Pt(10.5), INK
    normal.paragraph_format.space_after, normal.paragraph_format.line_spacing = Pt(6), 1.1
    for name, size, before in (("Title", 26, 0), ("Heading 1", 17, 16), ("Heading 2", 13, 12), ("Heading 3", 11, 8)):
        style = styles[name]
        fonts = style.element.get_or_add_rPr().get_or_add_rFonts()
        for attribute in list(fonts.attrib):  # the theme's fonts, which would win
            del fonts.attrib[attribute]
        style.font.name, style.font.size, style.font.bold, style.font.color.rgb = FONT, Pt(size), True, ACCENT
        style.paragraph_format.space_before, style.paragraph_format.space_after = Pt(before), Pt(4)
        style.paragraph_format.keep_with_next = True
    caption = styles["Caption"]
    caption.font.size, caption.font.bold, caption.font.italic, caption.font.color.rgb = Pt(9), False, True, INK
    caption.paragraph_format.space_before, caption.paragraph_format.space_after = Pt(6), Pt(3)
    styles["List Bullet"].paragraph_format.space_after = Pt(3)
    for name, points, after in (("Table Text", 9.5, 1.0), ("After Table", 4.0, 4.0)):
        style = styles.add_style(name, 1)  # of a paragraph
        style.base_style, style.font.size = normal, Pt(points)
        style.paragraph_format.space_after, style.paragraph_format.line_spacing = Pt(after), 1.0
        style.paragraph_format.space_before = Pt(1)


def _page(document: Any) -> None:
    section = document.sections[0]
    section.page_width, section.page_height = Cm(21), Cm(29.7)
    section.left_margin = section.right_margin = Cm((21 - TEXT_WIDTH) / 2)
    section.top_margin, section.bottom_margin = Cm(2), Cm(2)
    footer = section.footer.paragraphs[0]
    footer.alignment = WD_ALIGN_PARAGRAPH.CENTER
    for piece in ("Fraudline: service rationale, page ", "PAGE", " of ", "NUMPAGES"):
        if piece.isupper():
            _field(footer, piece)
        else:
            footer.add_run(piece).font.size = FOOTER


def _field(paragraph: Any, code: str) -> None:
    """A field that Word fills in, with a figure in its place until then."""
    for kind in ("begin", "code", "separate", "result", "end"):
        run = paragraph.add_run("1" if kind == "result" else "")
        run.font.size = FOOTER
        if kind == "code":
            element = OxmlElement("w:instrText")
            element.text = code
            run._r.append(element)
        elif kind != "result":
            element = OxmlElement("w:fldChar")
            element.set(qn("w:fldCharType"), kind)
            run._r.append(element)


def _properties(document: Any) -> None:
    properties = document.core_properties
    properties.title, properties.author = "Fraudline: service rationale", "Fraudline"
    properties.subject, properties.comments, properties.language = "AWS services: which and why", "", "en"
    properties.created = properties.modified = FIXED
    properties.last_modified_by, properties.revision = "Fraudline", 1


def _without_times(data: bytes) -> bytes:
    """The same file without the times at which its parts were written."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts(data).items():
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return file.getvalue()
